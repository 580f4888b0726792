package gateway

import (
	"cmp"
	"context"

	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/metrics"
)

// bytesPerToken is the usual guess for text, for answers whose provider counted nothing.
const bytesPerToken = 4

// settle says what the call used and what that costs. It runs however the call ended: a stream that was cut has been paid for, too.
func (g *Gateway) settle(_ context.Context, c *call, _ error) {
	free := c.api.Free()
	switch {
	case c.kept.route != nil: // its id names the call that made it
	case free:
		c.rec.CompletionID = c.ans.said.ID
	default:
		c.readUsage()
		c.rec.Tokens = c.guessed(c.rec.Tokens)
	}
	tokens := c.rec.Tokens
	if free && c.rec.Provider != "" {
		c.rec.CostMicros = &c.ans.micros // nothing
	} else if !c.unpriceable() && (tokens.Reported || tokens.Estimated) && c.rec.Provider != "" {
		var ok bool
		if c.ans.micros, ok = g.cost(c, tokens); ok {
			c.rec.CostMicros = &c.ans.micros
		}
	}
	n := len(c.rec.Attempts)
	if c.isOwed() {
		n = min(n, c.ans.owed.attempt+1)
	}
	if n > 0 && c.rec.Provider != "" {
		last := &c.rec.Attempts[n-1]
		last.Tokens, last.CostMicros = tokens, c.rec.CostMicros
		last.Total = g.deps.Clock().Sub(last.Start)
		if c.rec.FirstToken > 0 {
			last.FirstToken = max(0, c.rec.FirstToken-last.Start.Sub(c.rec.Start))
		}
	}
}

// cost is what the provider says that the answer cost, or what its tokens cost at the standard price. An answer of another service tier has no
// price that we know, and neither has one to a request for such a tier that does not say which it got: unknown is not standard.
func (g *Gateway) cost(c *call, tokens metrics.Tokens) (micros int64, ok bool) {
	said := c.ans.said
	if said.Tier == "" {
		said.Tier = c.out.tier
	}
	return g.costOf(&c.rec, c.ans.prices, &said, tokens)
}

// costOf is cost for an answer of this service tier.
func (g *Gateway) costOf(rec *metrics.Call, prices *metrics.PriceList, said *wire.Completion, tokens metrics.Tokens) (micros int64, ok bool) {
	switch {
	case said.Cost > 0:
		return said.Cost, true
	case standardTier(said.Tier):
		return g.deps.Pricer.Cost(prices, rec.Model, rec.Start, tokens)
	}
	return 0, false
}

// standardTier reports whether a service tier costs what a provider's list says.
func standardTier(tier string) bool {
	switch tier {
	case "", "auto", "default", "standard", "standard_only":
		return true
	}
	return false
}

// readUsage takes the tokens that the provider reported; where it reported none, they are estimated from what went by: unknown is not nothing.
func (c *call) readUsage() {
	switch {
	case c.ans.streamed:
		if c.ans.scan == nil {
			return
		}
		result := c.ans.scan.Result()
		c.rec.CompletionID, c.rec.Tokens = result.ID, result.Usage
		c.ans.said.Cost, c.ans.said.Tier, c.ans.said.Mixed = result.Cost, result.Tier, result.Mixed
		if !result.Usage.Reported && result.Events > 0 {
			// Of some streams that were cut the input is known: it is told at their beginning.
			c.rec.Tokens.Input = cmp.Or(result.Usage.Input, c.estimatedInput())
			c.rec.Tokens.Output, c.rec.Tokens.Estimated = max(result.Usage.Output, int64(result.Events)), true
		}
	case c.isOwed():
		c.rec.Tokens = metrics.Tokens{Input: c.estimatedInput(), Output: int64(c.ans.owed.got / bytesPerToken), Estimated: true}
	case c.ans.buf != nil && c.ans.status < 300 && !c.ans.ours:
		said := &c.ans.said
		c.rec.CompletionID, c.rec.Tokens = said.ID, said.Usage
		if !said.Usage.Reported && said.Answers > 0 {
			c.rec.Tokens = metrics.Tokens{Input: c.estimatedInput(), Output: int64(said.Bytes / bytesPerToken), Estimated: true}
		}
	}
}

// isOwed reports whether the call is that of a provider which was left with it.
func (c *call) isOwed() bool { return c.ans.status == 0 && c.ans.owed.target.Provider != nil }

func (c *call) estimatedInput() int64 {
	if c.out.estimated > 0 {
		return c.out.estimated
	}
	n := len(c.in.body.Raw())
	if c.out.messages != nil {
		n = len(c.out.messages)
	}
	return int64(n / bytesPerToken)
}
