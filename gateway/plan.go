package gateway

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/promptgate/promptgate/internal/fault"
)

// plan finds the targets that serve the model. A model that the caller chose over the version's is authorized; the version's own was
// when the prompt was.
func (g *Gateway) plan(ctx context.Context, c *call) error {
	if c.out.model == "" {
		return noModel()
	}
	if c.out.byCaller {
		if err := g.authorizeModel(ctx, c, c.out.model, "model"); err != nil {
			return err
		}
	}
	if err := g.authorizeRouting(ctx, c); err != nil {
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
	c.out.tier = c.asksTier()
	if c.in.stream && g.opts.InjectUsage {
		c.out.usageSet, c.out.usage = c.api.UsageEdit(&c.in.body)
	}
	return nil
}

// asksTier is the service tier that the request asks for: the caller's, or the version's.
func (c *call) asksTier() string {
	if tier := c.in.body.Text("service_tier"); tier != "" || c.ref.resolved == nil {
		return tier
	}
	var tier string
	if raw, ok := c.ref.resolved.Template.Content().Parameters["service_tier"]; ok && json.Unmarshal(raw, &tier) != nil {
		return "unreadable"
	}
	return tier
}
