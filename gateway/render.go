package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry/template"
)

// renderedBytes is about how much a prompt adds to a request's body.
const renderedBytes = 4 << 10

// render makes the edits that turn the caller's body into the provider's: the reference goes, the version's messages and
// parameters come. A call without a prompt needs none.
func (g *Gateway) render(ctx context.Context, c *call) error {
	if c.api.Stores() {
		c.store()
		return nil
	}
	if c.ref.resolved == nil {
		c.out.model, c.out.byCaller = c.in.model, false // authorized already
		return nil
	}
	version := c.ref.resolved.Template
	vars, taken := c.variables(version)
	if c.out.values == nil {
		c.out.values = new(template.Values)
	}
	if err := version.BindTo(ctx, c.out.values, vars, c.declared); err != nil {
		return placed(err, c.in.ref.Place)
	}
	c.out.edits = c.in.ref.Strip(c.out.edits[:0])
	c.out.rendered = g.buffers.get(len(c.in.body.Raw()) + renderedBytes)
	composed, err := c.api.Compose(&c.in.body, wire.Prompt{
		Version: version, Values: c.out.values, Locks: wire.Locks{Reads: c.mayRead()}, LastTaken: taken, Echoed: c.out.echoed[:0],
	}, c.out.rendered.B, c.out.edits)
	c.out.rendered.B = composed.Rendered
	if err != nil {
		return err
	}
	c.out.model, c.out.byCaller = composed.Model, composed.ModelByCaller
	c.out.edits, c.out.messages, c.out.ignored = composed.Edits, composed.Messages, composed.Ignored
	c.out.echoed, c.out.taken = composed.Echoed, taken
	return nil
}

// store is render for a request that makes something kept: what says who serves it goes.
func (c *call) store() {
	c.out.edits = append(c.in.ref.Strip(c.out.edits[:0]), wire.Remove("model"))
	if c.out.model = c.in.model; wire.NamesNoModel(c.in.model) {
		c.out.model = ""
	}
	if c.ref.resolved == nil {
		return
	}
	if c.out.byCaller = c.out.model != ""; !c.out.byCaller {
		c.out.model = c.ref.resolved.Template.Content().Model
	}
}

// variables are the call's. A variable that takes the last user message gets it, unless the call names that variable; taken says that it did.
func (c *call) variables(version *template.Compiled) (vars map[string]json.RawMessage, taken bool) {
	vars = c.in.ref.Variables
	name := version.LastUserVariable()
	if name == "" {
		return vars, false
	}
	if _, named := vars[name]; named {
		return vars, false
	}
	text, ok := c.api.LastUserText(&c.in.body)
	if !ok {
		return vars, false
	}
	all := make(map[string]json.RawMessage, len(vars)+1)
	maps.Copy(all, vars)
	all[name] = text
	return all, true
}

// placed names, in what is wrong with a variable, the place where this caller's variables stand.
func placed(err error, place string) error {
	const usual = "prompt.variables"
	var f *fault.Error
	if place == usual || !errors.As(err, &f) {
		return err
	}
	moved := *f
	moved.Message = strings.ReplaceAll(f.Message, usual, place)
	if name, ok := strings.CutPrefix(f.Param, usual); ok {
		moved.Param = place + name
	}
	return &moved
}

// declared reports whether any version of the prompt declares a variable: callers may serve two versions during a promotion.
func (c *call) declared(name string) bool {
	_, found := slices.BinarySearch(c.ref.prompt.Variables, name)
	return found
}
