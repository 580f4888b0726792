package main

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// limited is a test whose context ends in time.
type limited struct {
	testing.TB
	ctx context.Context
}

func (l limited) Context() context.Context { return l.ctx }

// TestEveryFaultInShort breaks everything for a moment each. Counts are judged; speed is not, since tests share their machine.
func TestEveryFaultInShort(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute and a half")
	}
	ctx, stop := context.WithTimeout(t.Context(), 8*time.Minute) // most of it to build the binary on a cold cache
	defer stop()
	o := shortOptions()
	o.only = os.Getenv("PROMPTGATE_TEST_CHAOS_ONLY")
	broken, err := run(limited{t, ctx}, o, t.Output())
	require.NoError(t, err)
	require.Empty(t, broken)
}

func TestHostCleansUp(t *testing.T) {
	broken, err := guarded(t.Context(), options{only: "no-such-fault"}, t.Output())
	require.ErrorContains(t, err, "no-such-fault is no fault; there are none, redis-killed")
	require.Empty(t, broken)

	h := newHost(t.Context())
	dir, order := h.TempDir(), []int{}
	h.Cleanup(func() { order = append(order, 1) })
	h.Cleanup(func() { order = append(order, 2) })
	require.PanicsWithValue(t, fatal("no redis"), func() { h.Skip("no redis") })
	require.PanicsWithValue(t, fatal("no 3"), func() { h.Fatalf("no %d", 3) })
	h.end()
	require.Equal(t, []int{2, 1}, order)
	require.NoDirExists(t, dir)
}
