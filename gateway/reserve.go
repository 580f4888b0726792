package gateway

import "context"

// reserve takes a place for one more call, or sheds it at once: a caller that is told so in a millisecond can go elsewhere, one that
// queues cannot. serve gives the place back when the answer has ended.
func (g *Gateway) reserve(_ context.Context, c *call) error {
	if g.running.Add(1) > int64(g.opts.MaxInFlight) {
		g.running.Add(-1)
		return g.shed()
	}
	c.out.reserved = true
	g.meter.CallStarted()
	return nil
}
