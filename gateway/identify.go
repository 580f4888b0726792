package gateway

import (
	"context"
	"unicode/utf8"

	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry"
)

// identify reads the body once and finds the prompt that it names. A name that nobody has is not an error yet: whether this
// caller may know that is authorize's to say.
func (g *Gateway) identify(ctx context.Context, c *call) (err error) {
	if api, passes := c.api.(wire.Passed); passes {
		if api.Stores() {
			return g.identifyForm(ctx, c, api)
		}
		return g.identifyPassed(ctx, c, api)
	}
	if err = c.in.body.Scan(c.in.buf.B); err != nil {
		return err
	}
	if c.in.model, err = c.in.body.Model(); err != nil {
		return err
	}
	return g.identifyPrompt(ctx, c)
}

// identifyPrompt finds what a body that was scanned names.
func (g *Gateway) identifyPrompt(ctx context.Context, c *call) (err error) {
	if c.pathModel != "" && c.pathModel != c.in.model {
		if err = g.takePathModel(c); err != nil {
			return err
		}
	}
	aliased, err := g.takeAlias(ctx, c)
	if err != nil {
		return err
	}
	if c.in.stream, err = c.in.body.Stream(); err != nil {
		return err
	}
	c.rec.Stream = c.in.stream
	if c.byPath {
		c.in.ref, err = wire.ParsePathReference(c.pathName, &c.in.body, c.req.Header)
	} else {
		c.in.ref, err = wire.ParseReference(&c.in.body, c.req.Header)
	}
	if aliased && fault.Is(err, fault.InvalidPromptReference) { // what the alias stands for is not this caller's to know yet
		return fault.New(fault.InvalidPromptReference, "\"model\" names a prompt, with its label or version: leave out what else names one.").WithParam("model")
	}
	if err != nil || !c.in.ref.Present {
		return err
	}
	if c.in.ref.Draft != "" {
		return fault.New(fault.NotImplemented, "Drafts cannot be called yet. Save a version and call it by number or label.").WithParam("prompt.draft")
	}
	c.ref.prompt, err = g.deps.Registry.Identify(ctx, c.who.Project, c.in.ref.Handle)
	if fault.Is(err, fault.PromptNotFound) {
		c.ref.prompt = nil
		return nil
	}
	if err == nil && c.ref.prompt == nil {
		return fault.New(fault.Internal, internalMessage)
	}
	return err
}

// takePathModel writes the model of an Azure address into the body, where every later stage looks for it. As with Azure the address beats the
// body; but a body that names a prompt is not overruled in silence.
func (g *Gateway) takePathModel(c *call) (err error) {
	if !utf8.ValidString(c.pathModel) { // JSON would have another name in its place
		return fault.New(fault.InvalidRequest, "The address names a deployment that is no UTF-8; percent-encode its name in UTF-8.").WithParam("model")
	}
	if wire.NamesPrompt(c.in.model) {
		return fault.New(fault.InvalidPromptReference, "The address names the deployment %q and \"model\" a prompt; send the same in both, or leave \"model\" out.", c.pathModel).
			WithParam("model")
	}
	return g.setModel(c, c.pathModel)
}

// takeAlias writes the prompt that an alias means into the body, as its own name would stand there.
func (g *Gateway) takeAlias(ctx context.Context, c *call) (taken bool, err error) {
	if c.in.model == "" {
		return false, nil
	}
	named, err := g.deps.Router.Prompt(ctx, c.who.Project, c.in.model)
	if err != nil || named == "" {
		return false, err
	}
	return true, g.setModel(c, "prompt/"+named)
}

// setModel gives the body another model.
func (g *Gateway) setModel(c *call, model string) (err error) {
	if api, passes := c.api.(wire.Passed); passes && c.in.parts.Present() {
		return g.setFormModel(c, api, model)
	}
	set := wire.Set("model", model)
	more := len(set.Value) + len(set.Name) + 4
	body := g.buffers.get(len(c.in.buf.B) + more)
	body.B = c.in.body.Splice(body.B, []wire.Edit{set})
	g.buffers.put(c.in.buf)
	c.in.buf = body
	if err = c.in.body.Scan(body.B); err != nil {
		return err
	}
	c.in.model, err = c.in.body.Model()
	return err
}

// selects reports how the call picks its version.
func (c *call) selects(kind registry.SelectorKind) bool { return c.in.ref.Selector.Kind == kind }
