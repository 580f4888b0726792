package gateway

import (
	"context"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry"
)

// resolve picks the prompt's version: from memory when it has been served before.
func (g *Gateway) resolve(ctx context.Context, c *call) error {
	if c.ref.prompt == nil {
		return nil
	}
	// The label is the one that was authorized: the project's default, asked again, could be another by now.
	selector := c.in.ref.Selector
	if selector.Kind == registry.SelectDefault {
		selector = registry.Selector{Kind: registry.SelectLabel, Label: c.ref.label}
	}
	resolved, err := g.deps.Registry.Resolve(ctx, c.ref.prompt, selector)
	switch {
	case fault.Is(err, fault.LabelNotFound):
		return g.labelNotFound(ctx, c, err)
	case err != nil:
		return err
	}
	c.ref.resolved, c.ctx = resolved, ctx
	c.rec.Version, c.rec.Label, c.rec.Digest = resolved.Version, resolved.Label, resolved.Digest
	return nil
}
