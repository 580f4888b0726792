package gateway

import "context"

// resolve picks the prompt's version: from memory when it has been served before.
func (g *Gateway) resolve(ctx context.Context, c *call) error {
	if c.ref.prompt == nil {
		return nil
	}
	resolved, err := g.deps.Registry.Resolve(ctx, c.ref.prompt, c.in.ref.Selector)
	if err != nil {
		return err
	}
	c.ref.resolved = resolved
	c.rec.Version, c.rec.Label, c.rec.Digest = resolved.Version, resolved.Label, resolved.Digest
	return nil
}
