package gateway

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
)

// What a provider keeps, such as a response that the next one goes on from, belongs to the credential, which a project's callers share. So an id is taken only from
// the caller that got it, for the prompt that it got it by, and goes to the provider that gave it.

// maxStored bounds the answers that a replica remembers; the ledger knows the others, as soon as it has them.
const maxStored = 100_000

// ledgerPatience is how long a call waits for the ledger to have an answer that another replica gave.
const ledgerPatience = 1500 * time.Millisecond

// storedKey names an answer by the provider's id for it.
type storedKey struct{ project, id string }

// storedBy is whose an answer is.
type storedBy struct {
	principal, prompt, provider, model string
	version                            int
	label                              string // that the version was called by; "" by its number
	endpoint                           string // what made it
}

// storedByOf is what a call's record says of its answer.
func storedByOf(c *metrics.Call) storedBy {
	return storedBy{c.Principal, c.PromptID, c.Provider, c.Model, c.Version, c.Label, c.Endpoint}
}

func newStored() (*otter.Cache[storedKey, storedBy], error) {
	return otter.New(&otter.Options[storedKey, storedBy]{MaximumSize: maxStored})
}

// remember notes whose answer this was. An id stays its first owner's: some providers let callers choose them.
func (g *Gateway) remember(c *call) {
	if c.rec.CompletionID == "" || !c.api.Keeps() {
		return
	}
	by := storedByOf(&c.rec)
	g.stored.SetIfAbsent(storedKey{c.rec.Project, c.rec.CompletionID}, by)
	items := c.ans.said.Items
	if c.ans.streamed && c.ans.scan != nil {
		items = c.ans.scan.Result().Items
	}
	for _, id := range items {
		g.stored.SetIfAbsent(storedKey{c.rec.Project, id}, by)
	}
}

// goOn leaves, of the targets, the one that has what a call goes on from. It does nothing for a call that begins anew.
func (g *Gateway) goOn(ctx context.Context, c *call) error {
	if err := g.checkFiles(ctx, c); err != nil {
		return err
	}
	if err := g.checkLines(ctx, c); err != nil {
		return err
	}
	for _, id := range c.api.References(&c.in.body) {
		by, ok := g.stored.GetIfPresent(storedKey{c.who.Project, id})
		if !ok || by.principal != c.who.ID || by.prompt != c.rec.PromptID {
			return fault.New(fault.StatefulReferenceRefused,
				"\"input\" refers to the item %.64q, which this replica has not given to this key for this prompt: send the item itself, or \"previous_response_id\".", id).WithParam("input")
		}
		if err := c.pin(by.provider, "input"); err != nil {
			return err
		}
	}
	param, id := c.api.Continues(&c.in.body, c.out.edits)
	if param == "" {
		return nil
	}
	refused := fault.New(fault.StatefulReferenceRefused,
		"%q names nothing that this key got for this prompt: it may be another's, or older than the records. Send the conversation itself instead.", param).WithParam(param)
	if id == "" {
		return refused
	}
	by, ok, err := g.storedBy(ctx, c.who.Project, id)
	if err != nil {
		return err
	}
	conversation := param == "conversation"
	if !ok || by.principal != c.who.ID || by.prompt != c.rec.PromptID && (!conversation || by.prompt != "") {
		return refused
	}
	if ok, err := g.stillHidden(ctx, c, by); err != nil || !ok {
		return cmp.Or(err, error(refused))
	}
	if conversation {
		if err := g.converse(ctx, c); err != nil {
			return err
		}
	} else if r := c.ref.resolved; r != nil && by.version != r.Version && wire.LocksMessages(r.Template.Content()) {
		return fault.New(fault.ParameterLocked, "The prompt locks messages, and %q goes on from another of its versions: begin anew.", param).WithParam(param)
	}
	return c.pin(by.provider, param)
}

// stillHidden reports whether what a call goes on from stays what it is for the caller: one that it may run, under the label that made it, and, unless it
// may read it there, not read under the call's own.
func (g *Gateway) stillHidden(ctx context.Context, c *call, by storedBy) (ok bool, err error) {
	if by.prompt == "" || by.label == c.rec.Label {
		return true, nil
	}
	prompt, before, err := g.stillRuns(ctx, c, by)
	if err != nil || prompt == nil || before {
		return prompt != nil, err
	}
	now, err := g.reads(ctx, c)
	return !now, err
}

// pin leaves only the targets of the provider that keeps what a field names.
func (c *call) pin(keeper, param string) error {
	left := slices.DeleteFunc(slices.Clone(c.out.targets), func(t provider.Target) bool { return t.Provider.Name() != keeper })
	if len(left) == 0 {
		return fault.New(fault.StatefulReferenceRefused, "%q is kept by the provider %q, which does not serve the model %.100q: use a model that it serves.",
			param, keeper, c.out.model).WithParam(param)
	}
	c.out.targets = left
	return nil
}

// converse judges whether a version may go on in a conversation: callers put into one, and read of it, what they like.
func (g *Gateway) converse(ctx context.Context, c *call) error {
	r := c.ref.resolved
	switch {
	case r == nil:
		return nil
	case wire.LocksMessages(r.Template.Content()):
		return fault.New(fault.ParameterLocked, "The prompt locks messages, and a conversation brings its own: leave \"conversation\" out.").WithParam("conversation")
	case !c.out.taken:
		return nil // the version's messages stay out of it
	}
	if ok, err := g.reads(ctx, c); err != nil || ok {
		return err
	}
	return fault.New(fault.StatefulReferenceRefused,
		"The prompt puts its own words around the last message, which the conversation would show to a key that may not read it: send \"previous_response_id\" instead.").WithParam("conversation")
}

// storedBy finds whose an answer is: in memory when this replica gave it, else in the ledger, where it arrives within about a second.
func (g *Gateway) storedBy(ctx context.Context, project, id string) (by storedBy, ok bool, err error) {
	if by, ok = g.stored.GetIfPresent(storedKey{project, id}); ok || g.deps.Calls == nil {
		return by, ok, nil
	}
	patience, last := time.After(ledgerPatience), false
	for {
		call, err := g.deps.Calls.FindCall(ctx, project, "", id)
		switch {
		case err == nil:
			return storedByOf(&call), call.Project == project, nil
		case fault.Is(err, fault.Conflict): // it names two calls
			return by, false, nil
		case !fault.Is(err, fault.CallNotFound):
			return by, false, err
		case last:
			return by, false, nil
		}
		select {
		case <-ctx.Done():
			return by, false, ended(ctx, ctx.Err())
		case <-patience:
			last = true
		case <-time.After(ledgerPatience / 6):
		}
	}
}
