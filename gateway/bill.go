package gateway

import (
	"context"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
)

// bill records what a background response came to before it is deleted: its provider alone knows, for as long as it keeps it. One that still runs stays.
func (g *Gateway) bill(ctx context.Context, c *call) error {
	if !c.kept.route.ends || g.deps.Runs == nil {
		return nil
	}
	one, err := g.takeRun(ctx, c.who.Project, c.kept.id)
	if err != nil || one == nil {
		return err
	}
	over := false
	defer func() { g.runs.asked(one, over, g.deps.Clock()) }()
	t := c.out.targets[0]
	said, known, err := g.stateOf(ctx, t, &one.call)
	switch {
	case err != nil:
		return providerFault(ctx, err)
	case !known:
		return nil // there is nothing to delete
	case said.Running:
		return stillRunning()
	}
	if over = g.concludeRun(ctx, one, t, &said, true); !over {
		return fault.New(fault.Overloaded, "What the response cost cannot be recorded now, so it is not deleted: try again shortly.")
	}
	return nil
}

func stillRunning() error {
	return fault.New(fault.Conflict, "The response still runs in the background: cancel it, or wait for its end, and delete it then.").WithParam("id")
}

// takeRun is the run that an answer's id names, for its taker to ask about; nil for what does not run. A run is asked about by the replica that began it:
// of the others' the ledger knows.
func (g *Gateway) takeRun(ctx context.Context, project, id string) (*run, error) {
	if one, busy := g.runs.take(project, id); one != nil || busy {
		if busy {
			return nil, stillRunning() // it may have ended, which is about to be known
		}
		return one, nil
	}
	if _, here := g.stored.GetIfPresent(storedKey{project, id}); here || g.deps.Calls == nil {
		return nil, nil
	}
	call, err := g.deps.Calls.FindCall(ctx, project, "", id)
	switch {
	case fault.Is(err, fault.CallNotFound) || fault.Is(err, fault.Conflict):
		return nil, nil
	case err != nil:
		return nil, err
	case call.Outcome != metrics.OutcomeRunning:
		return nil, nil
	}
	return &run{call: call, wait: g.opts.RunPoll, busy: true}, nil
}

// take takes the run of an answer's id, unless somebody asks about it now.
func (r *runs) take(project, id string) (one *run, busy bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.all {
		if one.call.CompletionID == id && one.call.Project == project {
			if one.busy {
				return nil, true
			}
			one.busy = true
			return one, false
		}
	}
	return nil, false
}
