package gateway

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
)

// plan finds the targets that serve the model. A model that the caller chose over the version's is authorized; the version's own was
// when the prompt was.
func (g *Gateway) plan(ctx context.Context, c *call) error {
	if field := c.api.Unserved(&c.in.body); field != "" {
		return unserved(field)
	}
	if c.out.model == "" && c.api.Stores() {
		return g.planSole(ctx, c)
	}
	if c.out.model == "" {
		return c.noModel()
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
	if c.out.targets, err = speaking(targets, c.api.Name(), c.out.model); err != nil {
		return err
	}
	c.out.tier = c.asksTier()
	c.out.runsOn = c.api.RunsOn(&c.in.body, c.out.edits)
	if c.out.runsOn && g.deps.Runs == nil {
		return fault.New(fault.NotImplemented, "\"background\" is not served here: leave it out.").WithParam("background")
	}
	if c.in.stream && g.opts.InjectUsage {
		c.out.usageSet, c.out.usage = c.api.UsageEdit(&c.in.body)
	}
	return nil
}

func unserved(field string) error {
	return fault.New(fault.NotImplemented, "What %q asks for is not served: leave it out.", field).WithParam(field)
}

// planSole finds who serves a request that names neither a model nor a prompt with one: the only provider that can.
func (g *Gateway) planSole(ctx context.Context, c *call) error {
	all, err := g.deps.Router.Providers(ctx, c.who.Project)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(t provider.Target) bool { return !t.Provider.Capabilities().Speaks(c.api.Name()) })
	if len(all) != 1 {
		return fault.New(fault.InvalidRequest, "The project has %d providers that can serve this: send \"model\", or the prompt that it is for, to say which one.", len(all)).WithParam("model")
	}
	c.out.targets = all
	return nil
}

// speaking are the targets that take requests of a shape as they are. A fault that names the others when there is none: nothing was sent yet.
func speaking(targets []provider.Target, api, model string) ([]provider.Target, error) {
	mute := func(t provider.Target) bool { return !t.Provider.Capabilities().Speaks(api) }
	if !slices.ContainsFunc(targets, mute) {
		return targets, nil // shared by all calls, and as a rule all of them
	}
	left := slices.DeleteFunc(slices.Clone(targets), mute)
	if len(left) > 0 {
		return left, nil
	}
	var names []string
	for _, t := range targets {
		names = append(names, strconv.Quote(t.Provider.Name()))
	}
	slices.Sort(names)
	return nil, fault.New(fault.NotImplemented, "The model %.100q is served by %s, which does not speak the API %q: use another model, or ask through an API that it speaks.",
		model, strings.Join(slices.Compact(names), ", "), api).WithParam("model")
}

// asksTier is the service tier that the request asks for, as the provider gets it.
func (c *call) asksTier() string {
	value := c.in.body.Sent("service_tier", c.out.edits)
	if value == nil {
		return ""
	}
	return wire.Word(value)
}
