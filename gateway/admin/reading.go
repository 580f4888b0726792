package admin

import (
	"context"

	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// reading is what a caller may read of one prompt. `read` that is limited to labels covers what these labels point at now, and means the same here as
// where a call is rendered: their versions, texts and figures, and nothing of the others.
type reading struct {
	all      bool            // every version
	versions map[int]bool    // else these
	labels   map[string]bool // and what stands under these labels
}

// readingOf judges once what a caller may read of a prompt that it knows of.
func readingOf(ctx context.Context, from *registry.Service, c *caller, p registry.Prompt) (*reading, error) {
	may := func(label string) (bool, error) {
		return c.may(ctx, policy.Permission{Action: policy.ActionRead, Kind: policy.ObjectPrompt, Name: p.Name, Label: label})
	}
	all, err := may(policy.LabelVersion)
	if err != nil || all {
		return &reading{all: all}, err
	}
	r := &reading{versions: map[int]bool{}, labels: map[string]bool{}}
	labels, err := from.Labels(ctx, p.Project, p.ID)
	if err != nil {
		return nil, err
	}
	if p.LatestVersion > 0 {
		labels = append(labels, registry.Label{Name: registry.LabelLatest, Version: p.LatestVersion})
	}
	for _, l := range labels {
		ok, err := may(l.Name)
		if err != nil {
			return nil, err
		}
		if ok {
			r.versions[l.Version], r.labels[l.Name] = true, true
		}
	}
	return r, nil
}

func (r *reading) version(number int) bool { return r.all || r.versions[number] }

func (r *reading) label(name string) bool { return r.all || r.labels[name] }

// call reports whether a call shows nothing but what may be read.
func (r *reading) call(c metrics.Call) bool { return r.version(c.Version) }

// prompt is the prompt as the caller may see it: how far its versions go, and what they take, belongs to what it may read.
func (r *reading) prompt(p registry.Prompt) Prompt {
	out := promptOf(p)
	if r.all {
		return out
	}
	out.LatestVersion, out.Variables = 0, []string{}
	for number := range r.versions {
		out.LatestVersion = max(out.LatestVersion, number)
	}
	return out
}

// show is reading.prompt for one answer.
func (n prompts) show(ctx context.Context, c *caller, p registry.Prompt) (Prompt, error) {
	r, err := readingOf(ctx, n.registry, c, p)
	if err != nil {
		return Prompt{}, err
	}
	return r.prompt(p), nil
}
