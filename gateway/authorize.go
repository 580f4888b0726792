package gateway

import (
	"context"
	"encoding/json"

	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// authorize decides whether this key may do this to that prompt under that label, or call that model without a prompt.
func (g *Gateway) authorize(ctx context.Context, c *call) error {
	if !c.in.ref.Present {
		return g.authorizeBare(ctx, c)
	}
	label, err := g.labelFor(ctx, c)
	if err != nil {
		return err
	}
	c.ref.label = label
	decision, err := g.deps.Checker.Check(ctx, c.who, policy.Permission{
		Action: c.action, Kind: policy.ObjectPrompt, Name: c.named(), Label: label,
	})
	if err == nil && !decision.Allowed && !decision.Holds && c.named() != c.in.ref.Handle {
		// A prompt that has moved out of what the key may know of, by the name that it had: the answer is the one to a name that nobody has.
		c.ref.prompt = nil
		decision, err = g.deps.Checker.Check(ctx, c.who, policy.Permission{Action: c.action, Kind: policy.ObjectPrompt, Name: c.in.ref.Handle, Label: label})
	}
	switch {
	case err != nil:
		return err
	case !decision.Allowed && decision.Holds:
		return denied(decision)
	case !decision.Allowed || c.ref.prompt == nil || c.ref.prompt.Archived:
		// One answer for all three: nothing about it tells a prompt that exists from one that does not.
		return registry.ErrPromptNotFound()
	}
	c.rec.PromptID, c.rec.PromptName = c.ref.prompt.ID, c.ref.prompt.Name
	return nil
}

// labelFor is the label that a permission has to cover. A version by number needs its own, which no label implies.
func (g *Gateway) labelFor(ctx context.Context, c *call) (string, error) {
	switch {
	case c.selects(registry.SelectVersion):
		return policy.LabelVersion, nil
	case c.selects(registry.SelectLabel):
		return c.in.ref.Selector.Label, nil
	default:
		return g.deps.Registry.DefaultLabel(ctx, c.who.Project)
	}
}

// authorizeBare is authorize for a call without a prompt.
func (g *Gateway) authorizeBare(ctx context.Context, c *call) error {
	if c.action != policy.ActionCall || wire.NamesNoModel(c.in.model) {
		return noModel()
	}
	return g.authorizeModel(ctx, c, c.in.model)
}

// authorizeModel decides whether the caller may choose a model: beside a prompt, or under the label of calls without one. The answer does
// not depend on whether the model exists, so it can name what is missing.
func (g *Gateway) authorizeModel(ctx context.Context, c *call, model string) error {
	want := policy.Permission{Action: policy.ActionCall, Kind: policy.ObjectModel, Name: model, Label: policy.LabelAny}
	if !c.in.ref.Present {
		want.Label = policy.LabelModel
	}
	decision, err := g.deps.Checker.Check(ctx, c.who, want)
	if err != nil {
		return err
	}
	if !decision.Allowed {
		return denied(decision).WithParam("model")
	}
	return nil
}

// authorizeFallbacks does the same for the list of further models that some upstreams take ("models"): each is a choice of the
// caller's, and would be billed like one.
func (g *Gateway) authorizeFallbacks(ctx context.Context, c *call) error {
	raw, ok := c.in.body.Get("models")
	if !ok || string(raw) == "null" {
		return nil
	}
	var models []string
	if err := json.Unmarshal(raw, &models); err != nil {
		return fault.New(fault.InvalidRequest, "\"models\" must be a list of model names.").WithParam("models")
	}
	for _, model := range models {
		if err := g.authorizeModel(ctx, c, model); err != nil {
			return err
		}
	}
	return nil
}

func denied(d policy.Decision) *fault.Error {
	return fault.New(fault.PermissionDenied, "This key lacks a permission: %s. Ask an admin to grant it.", d.Missing)
}

func noModel() error {
	return fault.New(fault.InvalidRequest, "The request names neither a prompt nor a model. Send \"prompt\": {\"id\": …}, or a model that this key may call.").
		WithParam("model")
}
