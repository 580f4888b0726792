package gateway

import (
	"context"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/limits"
)

// reserve takes a place for one more call, room for its record, and what the limiters hold for it, or sheds it at once. serve gives the place back when
// the answer has ended, spend the rest once the call is recorded.
func (g *Gateway) reserve(ctx context.Context, c *call) (err error) {
	ask := c.ask()
	if c.out.place, err = g.places.Reserve(ctx, ask); err != nil {
		return g.shed()
	}
	g.meter.CallStarted()
	return c.out.held.Reserve(ctx, g.limiters, ask)
}

// ask is what limiters are told of the call.
func (c *call) ask() limits.Ask {
	ask := limits.Ask{
		Project: c.who.Project, Principal: c.who.ID, Prompt: c.rec.PromptID, Model: c.out.model, Cost: c, Label: policy.LabelModel,
		Stream: c.in.stream, Sandbox: c.rec.Purpose == metrics.PurposeSandbox, Told: &c.out.told,
	}
	if c.ref.prompt != nil {
		ask.PromptName, ask.Label = c.ref.prompt.Name, c.ref.label
	}
	ask.Owner, ask.Groups = personOf(c.who)
	return ask
}

// personOf is the person behind a principal, with the groups that count as theirs: for limits of people and groups.
func personOf(p *policy.Principal) (owner string, groups []policy.Group) {
	if p.Kind != policy.KindUser && p.Owner != nil {
		p = p.Owner
	}
	if p.Kind == policy.KindUser {
		owner = p.ID
	}
	return owner, p.Groups
}

// spend settles what was reserved for a call that was made, and releases it for one that nobody answered. What a provider works on in the background
// keeps its reservation until it has ended.
func (g *Gateway) spend(_ context.Context, c *call, _ error) {
	if c.rec.Provider == "" {
		c.out.held.Release()
		return
	}
	if c.rec.Outcome == metrics.OutcomeRunning {
		g.runs.hold(c.rec.ID, c.out.held.Keep())
	}
	spent := spentBy(&c.rec)
	if c.ans.status >= 400 && !spent.Priced { // it was refused there
		spent.Priced = true
	}
	c.out.held.Settle(spent)
}

// spentBy is what a call came to.
func spentBy(rec *metrics.Call) limits.Spent {
	spent := limits.Spent{Tokens: rec.Tokens.Input + rec.Tokens.Output}
	if rec.CostMicros != nil {
		spent.Micros, spent.Priced = *rec.CostMicros, true
	}
	return spent
}

var _ limits.Coster = (*call)(nil)

// Dearest implements limits.Coster.
func (c *call) Dearest(output int64) (micros int64, known bool) {
	if c.api.Free() {
		return 0, true
	}
	tokens, ok := c.most(output)
	if !ok {
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

// Largest implements limits.Coster.
func (c *call) Largest(output int64) (tokens int64, known bool) {
	if c.api.Free() {
		return 0, true
	}
	t, ok := c.most(output)
	return t.Input + t.Output, ok
}

// most is what a call takes at the most; ok is false when the request does not tell.
func (c *call) most(output int64) (tokens metrics.Tokens, ok bool) {
	input := len(c.in.body.Raw())
	for i := range c.out.edits {
		input += len(c.out.edits[i].Value)
	}
	most, answers := c.api.OutputLimit(&c.in.body, c.out.edits)
	if most == 0 {
		most = output
	}
	tokens = c.guessed(metrics.Tokens{Input: int64(input / bytesPerToken), Output: times(most, answers), Estimated: true})
	return tokens, tokens.Estimated
}

// times is a product of two numbers of a request, which may be of any size.
func times(a, b int64) int64 {
	if a > 0 && b > limits.MaxAmount/a {
		return limits.MaxAmount
	}
	return a * b
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
