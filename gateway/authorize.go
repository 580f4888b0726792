package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"

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
	named := policy.Named{Spelled: c.in.ref.Handle}
	if c.ref.prompt != nil {
		named.Current = c.ref.prompt.Name
	}
	verdict, decision, err := policy.Decide(ctx, g.deps.Checker, c.who, policy.Permission{Action: c.action, Kind: policy.ObjectPrompt, Label: label}, named)
	switch {
	case err != nil:
		return err
	case verdict == policy.Refused:
		return policy.Lacks(decision.Missing)
	case verdict == policy.Unseen || c.ref.prompt.Archived:
		c.ref.prompt = nil // for the record as well
		return g.promptNotFound(ctx, c)
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
	if c.api.Stores() && wire.NamesNoModel(c.in.model) {
		return g.authorizeModel(ctx, c, policy.EveryModel, "model")
	}
	if c.action != policy.ActionCall || wire.NamesNoModel(c.in.model) {
		return c.noModel()
	}
	return g.authorizeModel(ctx, c, c.in.model, "model")
}

// authorizeModel decides whether the caller may choose a model: beside a prompt, or under the label of calls without one. The answer does
// not depend on whether the model exists, so it can name what is missing.
func (g *Gateway) authorizeModel(ctx context.Context, c *call, model, param string) error {
	label := policy.LabelAny
	if !c.in.ref.Present {
		label = policy.LabelModel
	}
	return g.authorizeModelAt(ctx, c, model, param, label)
}

func (g *Gateway) authorizeModelAt(ctx context.Context, c *call, model, param, label string) error {
	want := policy.Permission{Action: policy.ActionCall, Kind: policy.ObjectModel, Name: model, Label: label}
	decision, err := g.deps.Checker.Check(ctx, c.who, want)
	if err != nil {
		return err
	}
	if !decision.Allowed {
		return policy.Lacks(decision.Missing).WithParam(param)
	}
	return nil
}

// authorizeRouting does the same for what some upstreams, which route themselves, take of a request beside its model. A list of further models
// ("models") names each of them, and each would be billed like one. The other fields can lead anywhere: they are for those who may call every model.
func (g *Gateway) authorizeRouting(ctx context.Context, c *call) error {
	if err := g.authorizeModels(ctx, c); err != nil {
		return err
	}
	if err := g.authorizeTools(ctx, c); err != nil {
		return err
	}
	if err := g.refuseEcho(ctx, c); err != nil {
		return err
	}
	field := c.in.body.FirstOf(wire.RoutingFields(), c.out.edits)
	if field == "" {
		return nil
	}
	return g.authorizeModel(ctx, c, policy.EveryModel, field)
}

// refuseEcho keeps a prompt's text from those who may only call it: some providers answer with what they were sent, when they are asked to.
func (g *Gateway) refuseEcho(ctx context.Context, c *call) error {
	if c.ref.resolved == nil {
		return nil
	}
	field := c.in.body.FirstOf(wire.EchoFields(), c.out.edits)
	if field == "" {
		return nil
	}
	if ok, err := g.reads(ctx, c); err != nil || ok {
		return err
	}
	return fault.New(fault.PermissionDenied, "%q can make a provider answer with the prompt itself, which this key may call and not read: leave it out.", field).WithParam(field)
}

// authorizeTools does the same for the models that the caller's tools name, such as one that makes images.
func (g *Gateway) authorizeTools(ctx context.Context, c *call) error {
	raw, ok := c.in.body.Kept("tools", c.out.edits)
	if !ok {
		return nil
	}
	models, err := toolModels(raw)
	if err != nil {
		return err
	}
	for _, model := range models {
		if err := g.authorizeModel(ctx, c, model, "tools"); err != nil {
			return err
		}
	}
	return nil
}

// toolModels are the models that tools name.
func toolModels(raw []byte) (models []string, err error) {
	if !bytes.Contains(raw, []byte("odel")) && bytes.IndexByte(raw, '\\') < 0 { // "model", "Model"
		return nil, nil
	}
	var tools []struct{ Model any }
	if err := json.Unmarshal(raw, &tools); err != nil {
		return nil, fault.New(fault.InvalidRequest, "\"tools\" must be a list of objects.").WithParam("tools")
	}
	for _, tool := range tools {
		if model, named := tool.Model.(string); named {
			models = append(models, model)
		}
	}
	return models, nil
}

func (g *Gateway) authorizeModels(ctx context.Context, c *call) error {
	raw, ok := c.in.body.Kept("models", c.out.edits)
	if !ok || string(raw) == "null" {
		return nil
	}
	var models []string
	if err := json.Unmarshal(raw, &models); err != nil {
		return fault.New(fault.InvalidRequest, "\"models\" must be a list of model names.").WithParam("models")
	}
	for _, model := range models {
		if strings.TrimSpace(model) != model {
			return fault.New(fault.InvalidRequest, "\"models\" has a name with white space around it.").WithParam("models")
		}
		if err := g.authorizeModel(ctx, c, model, "models"); err != nil {
			return err
		}
	}
	return nil
}

// mayRead is reads as a function, made once for a pooled call.
func (c *call) mayRead() func() (bool, error) {
	if c.readsNow == nil {
		c.readsNow = func() (bool, error) { return c.g.reads(c.ctx, c) }
	}
	return c.readsNow
}

// reads reports whether the caller may read the version that it calls: the text that its answers, and the provider's refusals, could show.
func (g *Gateway) reads(ctx context.Context, c *call) (bool, error) {
	if c.ref.reads == unasked {
		if c.ref.resolved == nil {
			return true, nil // nothing of ours is in it
		}
		d, err := g.deps.Checker.Check(ctx, c.who, policy.Permission{
			Action: policy.ActionRead, Kind: policy.ObjectPrompt, Name: c.ref.prompt.Name, Label: c.ref.label,
		})
		if err != nil {
			return false, err
		}
		c.ref.reads = mayNot
		if d.Allowed {
			c.ref.reads = may
		}
	}
	return c.ref.reads == may, nil
}

func (c *call) noModel() error {
	if _, passes := c.api.(wire.Passed); passes {
		return fault.New(fault.InvalidRequest, "The request names no model: send one as \"model\", also where the provider has a default, since keys are for models.").
			WithParam("model")
	}
	return fault.New(fault.InvalidRequest, "The request names neither a prompt nor a model. Send \"prompt\": {\"id\": …}, or a model that this key may call.").
		WithParam("model")
}
