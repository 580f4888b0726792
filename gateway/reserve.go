package gateway

import (
	"context"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy/limits"
)

// reserve takes a place for one more call, room for its record, and what the limiters hold for it, or sheds it at once. serve gives the place back when
// the answer has ended, spend the rest once the call is recorded.
func (g *Gateway) reserve(ctx context.Context, c *call) (err error) {
	ask := limits.Ask{Project: c.who.Project, Principal: c.who.ID, Prompt: c.rec.PromptID, Model: c.out.model, Cost: c}
	if c.out.place, err = g.places.Reserve(ctx, ask); err != nil {
		return g.shed()
	}
	g.meter.CallStarted()
	return c.out.held.Reserve(ctx, g.limiters, ask)
}

// spend settles what was reserved for a call that was made, and releases it for one that nobody answered.
func (g *Gateway) spend(_ context.Context, c *call, _ error) {
	if c.rec.Provider == "" {
		c.out.held.Release()
		return
	}
	spent := limits.Spent{Tokens: c.rec.Tokens.Input + c.rec.Tokens.Output}
	if c.rec.CostMicros != nil {
		spent.Micros, spent.Priced = *c.rec.CostMicros, true
	}
	c.out.held.Settle(spent)
}

var _ limits.Coster = (*call)(nil)

// Dearest implements limits.Coster.
func (c *call) Dearest(output int64) (micros int64, known bool) {
	if c.api.Free() {
		return 0, true
	}
	input := len(c.in.body.Raw())
	for i := range c.out.edits {
		input += len(c.out.edits[i].Value)
	}
	most, answers := c.api.OutputLimit(&c.in.body, c.out.edits)
	if most == 0 {
		most = output
	}
	tokens := c.guessed(metrics.Tokens{Input: int64(input / bytesPerToken), Output: most * answers, Estimated: true})
	if !tokens.Estimated { // the request does not tell them
		return 0, false
	}
	for _, t := range c.out.targets {
		cost, ok := c.g.deps.Pricer.Cost(t.Prices, t.Model, c.rec.Start, tokens)
		if !ok || !standardTier(c.out.tier) {
			return 0, false
		}
		micros = max(micros, cost)
	}
	return micros, len(c.out.targets) > 0
}

// recordRoom is room in the spool for a call's record: a call that could not be recorded is not made, unless the operator says otherwise.
type recordRoom struct{ g *Gateway }

// Reserve implements limits.Limiter.
func (r recordRoom) Reserve(context.Context, limits.Ask) (limits.Reservation, error) {
	switch err := r.g.deps.Recorder.Reserve(); {
	case err == nil:
		return limits.Grant(r, "", 1), nil
	case r.g.opts.ServeUnrecorded:
		return limits.Reservation{}, nil
	default:
		r.g.deps.Events.count(eventUnrecordable)
		return limits.Reservation{}, fault.Wrap(err, fault.Overloaded, "Calls cannot be recorded now, so none is made: try again shortly. An admin finds the reason in the log.")
	}
}

// Settle implements limits.Limiter.
func (r recordRoom) Settle(string, int64, limits.Spent) { r.g.deps.Recorder.Release() }

// Release implements limits.Limiter.
func (r recordRoom) Release(string, int64) { r.g.deps.Recorder.Release() }
