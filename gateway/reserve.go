package gateway

import (
	"context"

	"github.com/promptgate/promptgate/internal/fault"
)

// reserve takes a place for one more call and room for its record, or sheds it at once: a caller that is told so in a millisecond can go elsewhere,
// one that queues cannot; and a call that could not be recorded is not made, unless the operator says otherwise. serve gives both back when the answer
// has ended.
func (g *Gateway) reserve(_ context.Context, c *call) error {
	if g.running.Add(1) > int64(g.opts.MaxInFlight) {
		g.running.Add(-1)
		return g.shed()
	}
	switch err := g.deps.Recorder.Reserve(); {
	case err == nil:
		c.out.recordable = true
	case !g.opts.ServeUnrecorded:
		g.running.Add(-1)
		g.deps.Events.count(eventUnrecordable)
		return fault.Wrap(err, fault.Overloaded, "Calls cannot be recorded now, so none is made: try again shortly. An admin finds the reason in the log.")
	}
	c.out.reserved = true
	g.meter.CallStarted()
	return nil
}

// unreserve gives back what reserve took.
func (g *Gateway) unreserve(c *call) {
	if c.out.recordable {
		g.deps.Recorder.Release()
		c.out.recordable = false
	}
	if c.out.reserved {
		g.running.Add(-1)
		c.out.reserved = false
		g.meter.CallEnded()
	}
}
