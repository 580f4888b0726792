package registry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/registry"
)

// What was in use when it changed is read again at once: a source that is lost before the next call takes nothing with it.
func TestWhatIsInUseIsReadAgain(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{})
	p := g.src.putPrompt("a", "x", 2)
	g.src.putLabel(p, "production", 1)
	g.src.putLabel(p, "unused", 1)
	_, err := g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err)

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.r.Run(ctx) }()
	g.src.putLabel(p, "production", 2)
	reads := g.src.reads.Load()
	g.feed.touch(registry.LabelTouch("a", p.ID, "unused"), registry.LabelTouch("a", p.ID, "production"), registry.HandleTouch("a", "x"))
	require.Eventually(t, func() bool { return len(g.r.Served().Labels) == 1 && len(g.r.Served().Handles) == 1 }, 10*time.Second, time.Millisecond)
	require.Equal(t, reads+3, g.src.reads.Load(), "the label, its version and the handle, but no label that nobody called")
	stop()
	require.NoError(t, <-done)

	g.src.edit(func() { g.src.fail = errors.New("gone") })
	got, err := g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err)
	require.Equal(t, 2, got.Version)
	require.Zero(t, g.r.RefreshesDropped())
}

func TestRefreshesAreBounded(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{})
	p := g.src.putPrompt("a", "x", 1)
	g.src.putLabel(p, "production", 1)
	for range 5000 { // nobody runs
		_, err := g.resolve(t, "a", "x", label("production"))
		require.NoError(t, err)
		g.feed.touch(registry.LabelTouch("a", p.ID, "production"))
	}
	require.EqualValues(t, 5000-4096, g.r.RefreshesDropped())
}
