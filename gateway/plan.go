package gateway

import (
	"context"
	"errors"

	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
)

// plan finds the targets that serve the model. A model that the caller chose over the version's is authorized; the version's own was
// when the prompt was.
func (g *Gateway) plan(ctx context.Context, c *call) error {
	if c.out.model == "" {
		return noModel()
	}
	if c.out.byCaller {
		if err := g.authorizeModel(ctx, c, c.out.model); err != nil {
			return err
		}
	}
	if err := g.authorizeFallbacks(ctx, c); err != nil {
		return err
	}
	targets, err := g.deps.Router.Route(ctx, c.who.Project, c.out.model)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return fault.Wrap(errors.New("gateway: router returned no target"), fault.Internal, internalMessage)
	}
	c.out.targets = targets
	if c.in.stream && g.opts.InjectUsage {
		c.out.usageSet, c.out.usage = wire.UsageEdit(&c.in.body)
	}
	return nil
}
