package registry_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry"
)

// hungSource notes until when each read may last, and never answers those of one kind.
type hungSource struct {
	*fakeSource
	hangs string
	until map[string][]time.Time
	after func(what string)
}

func (h *hungSource) read(ctx context.Context, what string) error {
	until, _ := ctx.Deadline()
	h.until[what] = append(h.until[what], until)
	if what == h.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	if h.after != nil {
		h.after(what)
	}
	return nil
}

func (h *hungSource) ProjectByID(ctx context.Context, id string) (registry.Project, error) {
	if err := h.read(ctx, "project"); err != nil {
		return registry.Project{}, err
	}
	return h.fakeSource.ProjectByID(ctx, id)
}

func (h *hungSource) PromptByHandle(ctx context.Context, project, handle string) (registry.Prompt, error) {
	if err := h.read(ctx, "handle"); err != nil {
		return registry.Prompt{}, err
	}
	return h.fakeSource.PromptByHandle(ctx, project, handle)
}

func (h *hungSource) LabelOf(ctx context.Context, project, prompt, label string) (registry.Label, error) {
	if err := h.read(ctx, "label"); err != nil {
		return registry.Label{}, err
	}
	return h.fakeSource.LabelOf(ctx, project, prompt, label)
}

func (h *hungSource) VersionOf(ctx context.Context, project, prompt string, n int) (registry.Version, error) {
	if err := h.read(ctx, "version"); err != nil {
		return registry.Version{}, err
	}
	return h.fakeSource.VersionOf(ctx, project, prompt, n)
}

func newHung(t *testing.T, hangs string, o registry.ResolverOptions) (*hungSource, *rig, registry.Prompt) {
	t.Helper()
	h := &hungSource{fakeSource: newFake(), hangs: hangs, until: map[string][]time.Time{}}
	g := &rig{src: h.fakeSource, feed: &fakeFeed{}}
	g.feed.confirm(epoch)
	o.Clock = func() time.Time { return epoch }
	var err error
	g.r, err = registry.NewResolver(h, g.feed, o)
	require.NoError(t, err)
	p := h.putPrompt("a", "x", 1)
	h.putLabel(p, "production", 1)
	return h, g, p
}

// Wherever the database begins to hang, a cold prompt is unavailable in less than a second: what is read for what is being read shares its time.
func TestHungDatabase(t *testing.T) {
	for _, hangs := range []string{"handle", "project", "label", "version"} {
		t.Run(hangs, func(t *testing.T) {
			t.Parallel()
			h, g, _ := newHung(t, hangs, registry.ResolverOptions{})
			start := time.Now()
			_, err := g.resolve(t, "a", "x", registry.Selector{})
			requireCode(t, fault.RegistryUnavailable, err)
			last := h.until[hangs][len(h.until[hangs])-1]
			require.Less(t, last.Sub(start), time.Second, "the time that it was given, not the time that it took")
			if hangs == "version" {
				require.False(t, last.After(h.until["label"][0]), "the version got a time of its own inside the label's")
			}
		})
	}
}

// A label that changes while it is being read is read again in what is left of the time.
func TestReadAgainInTheSameTime(t *testing.T) {
	h, g, p := newHung(t, "", registry.ResolverOptions{})
	h.after = func(what string) {
		if what == "label" {
			g.feed.touch(registry.LabelTouch("a", p.ID, "production"))
		}
	}
	_, err := g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err)
	require.Len(t, h.until["label"], 3)
	for _, until := range h.until["label"] {
		require.Equal(t, h.until["label"][0], until, "each reading got the whole time again")
	}
}
