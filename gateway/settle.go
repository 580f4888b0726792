package gateway

import (
	"context"

	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/metrics"
)

// bytesPerToken is the usual guess for text, for answers whose provider counted nothing.
const bytesPerToken = 4

// settle says what the call used and what that costs. It runs however the call ended: a stream that was cut has been paid for, too.
func (g *Gateway) settle(_ context.Context, c *call, _ error) {
	c.readUsage()
	tokens := c.rec.Tokens
	if (tokens.Reported || tokens.Estimated) && c.rec.Provider != "" {
		if micros, ok := g.deps.Pricer.Cost(c.rec.Provider, c.rec.Model, c.rec.Start, tokens); ok {
			c.rec.CostMicros = &micros
		}
	}
	if n := len(c.rec.Attempts); n > 0 && c.rec.Provider != "" {
		last := &c.rec.Attempts[n-1]
		last.Tokens, last.CostMicros = tokens, c.rec.CostMicros
		last.Total = g.deps.Clock().Sub(last.Start)
		if c.rec.FirstToken > 0 {
			last.FirstToken = max(0, c.rec.FirstToken-last.Start.Sub(c.rec.Start))
		}
	}
}

// readUsage takes the tokens that the provider reported; for a stream that reported none, they are estimated from what went by.
func (c *call) readUsage() {
	switch {
	case c.ans.streamed:
		result := c.ans.scan.Result()
		c.rec.CompletionID, c.rec.Tokens = result.ID, result.Usage
		if !result.Usage.Reported && result.Events > 0 {
			c.rec.Tokens = metrics.Tokens{Input: c.estimatedInput(), Output: int64(result.Events), Estimated: true}
		}
	case c.ans.buf != nil && c.ans.status < 300:
		c.rec.CompletionID, c.rec.Tokens = wire.ParseUsage(c.ans.buf.B)
	}
}

func (c *call) estimatedInput() int64 {
	if c.out.estimated > 0 {
		return c.out.estimated
	}
	n := len(c.in.body.Raw())
	if c.out.messages != nil {
		n = len(c.out.messages.B)
	}
	return int64(n / bytesPerToken)
}
