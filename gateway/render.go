package gateway

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
)

// renderedBytes is about how much a prompt adds to a request's body.
const renderedBytes = 4 << 10

// render makes the edits that turn the caller's body into the provider's: the reference goes, the version's messages and
// parameters come. A call without a prompt needs none.
func (g *Gateway) render(ctx context.Context, c *call) error {
	if c.ref.resolved == nil {
		c.out.model, c.out.byCaller = c.in.model, false // authorized already
		return nil
	}
	version := c.ref.resolved.Template
	vars := c.in.ref.Variables
	values, err := version.Bind(ctx, vars, c.declared)
	if err != nil {
		return placed(err, c.in.ref.Place)
	}
	c.out.edits = c.in.ref.Strip(c.out.edits[:0])
	c.out.rendered = g.buffers.get(len(c.in.body.Raw()) + renderedBytes)
	composed, err := c.api.Compose(&c.in.body, wire.Prompt{
		Version: version, Values: values, Locks: wire.Locks{Reads: c.mayRead()},
	}, c.out.rendered.B, c.out.edits)
	c.out.rendered.B = composed.Rendered
	if err != nil {
		return err
	}
	c.out.model, c.out.byCaller = composed.Model, composed.ModelByCaller
	c.out.edits, c.out.messages = composed.Edits, composed.Messages
	return nil
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
