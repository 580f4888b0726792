package gateway

import (
	"context"
	"slices"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/names"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// maxSuggested bounds the labels of near names that are asked for.
const maxSuggested = 20

// promptNotFound is the answer for a prompt that is not there or is not this caller's to know of. What it adds goes by the name as it was sent
// and by the prompts that this caller may use, and so does not depend on whether the name exists.
func (g *Gateway) promptNotFound(ctx context.Context, c *call) error {
	plain := registry.ErrPromptNotFound()
	all, err := g.catalog.list(ctx, c.who.Project)
	if err != nil {
		return plain // a refusal that is less helpful, and no less true
	}
	asked := 0
	for _, e := range all {
		if e.name == c.in.ref.Handle || names.Nearest(c.in.ref.Handle, []string{e.name}) == "" {
			continue
		}
		may, err := g.mayCall(ctx, c.who, policy.Permission{Action: c.action, Kind: policy.ObjectPrompt, Name: e.name, Label: e.label})
		switch asked++; {
		case err == nil && may:
			return fault.New(fault.PromptNotFound, "There is no such prompt, or this key may not use it: did you mean %q?", e.name).WithParam("prompt")
		case err != nil || asked == maxSuggested:
			return plain
		}
	}
	return plain
}

// labelNotFound adds to a refusal the labels that the prompt has and that this caller may use.
func (g *Gateway) labelNotFound(ctx context.Context, c *call, refusal error) error {
	all, err := g.catalog.list(ctx, c.who.Project)
	if err != nil {
		return refusal
	}
	var has []string
	for _, e := range all {
		if e.name != c.ref.prompt.Name {
			continue
		}
		may, err := g.mayCall(ctx, c.who, policy.Permission{Action: c.action, Kind: policy.ObjectPrompt, Name: e.name, Label: e.label})
		if err != nil {
			return refusal
		}
		if may {
			has = append(has, e.label)
		}
	}
	label := c.ref.label
	switch near := names.Nearest(label, has); {
	case near != "":
		return fault.New(fault.LabelNotFound, "This prompt has no label %.100q: did you mean %q?", label, near).WithParam("label")
	case len(has) > 0:
		slices.Sort(has)
		return fault.New(fault.LabelNotFound, "This prompt has no label %.100q; this key may use %s.", label, strings.Join(has, ", ")).WithParam("label")
	}
	return refusal
}
