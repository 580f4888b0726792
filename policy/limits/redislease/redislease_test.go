package redislease_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/internal/sharedcache"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/policy/limits"
	"github.com/promptgate/promptgate/policy/limits/redislease"
)

// guard lets everything through, and counts.
type guard struct{ n atomic.Int64 }

func (g *guard) Within(ctx context.Context, do func(context.Context) error) error {
	g.n.Add(1)
	return do(ctx)
}

func newCounters(t *testing.T) (*redislease.Counters, *guard, *testenv.RedisServer) {
	t.Helper()
	server := testenv.Redis(t)
	client, err := sharedcache.NewClient(sharedcache.Config{Addrs: []string{server.Addr}, Budget: time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	g := &guard{}
	return redislease.New(client, g, "promptgate"), g, server
}

// TestAsInOneProcess: Redis counts as a process alone does, step by step, whatever is asked.
func TestAsInOneProcess(t *testing.T) {
	shared, asked, _ := newCounters(t)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		key, alone := string(rune('a'+run%26))+time.Now().String(), limits.NewCounters()
		now := time.UnixMilli(1_700_000_000_000)
		rate, most := rapid.Int64Range(0, 600).Draw(rt, "rate"), rapid.Int64Range(0, 20).Draw(rt, "limit")
		base := map[string]int64{}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(-100, 4000).Draw(rt, "ms")) * time.Millisecond)
			b := limits.Bucket{PerMinute: rate, Want: rapid.Int64Range(-20, 50).Draw(rt, "want"), Now: now}
			b.Need = rapid.Int64Range(0, max(0, b.Want)).Draw(rt, "need")
			got, room, err := shared.Take(rt.Context(), key, b)
			require.NoError(rt, err)
			want, left, _ := alone.Take(rt.Context(), key, b)
			require.Equal(rt, []int64{want, left}, []int64{got, room}, "%+v", b)

			holder := rapid.SampledFrom([]string{"hold_a", "hold_b", "hold_c"}).Draw(rt, "holder")
			s := limits.Stretch{Holder: holder, Limit: most, Base: rapid.Int64Range(0, base[holder]).Draw(rt, "base"), Now: now, For: 3 * time.Second}
			s.Want = rapid.Int64Range(0, 8).Draw(rt, "more")
			s.Need = rapid.Int64Range(0, s.Want).Draw(rt, "least")
			places, err := shared.Hold(rt.Context(), key, s)
			require.NoError(rt, err)
			expected, _ := alone.Hold(rt.Context(), key, s)
			require.Equal(rt, expected, places, "%+v", s)
			base[holder] = s.Base + places
		}
	})
	require.Positive(t, asked.n.Load())
}

// TestLostRedis: an error is no grant, and what stands there that is not ours begins anew.
func TestLostRedis(t *testing.T) {
	c, _, server := newCounters(t)
	now := time.Now()
	got, room, err := c.Take(t.Context(), "k", limits.Bucket{PerMinute: 10, Want: 4, Need: 4, Now: now})
	require.NoError(t, err)
	require.Equal(t, []int64{4, 6}, []int64{got, room})
	server.Do(t, "FLUSHALL")
	_, room, err = c.Take(t.Context(), "k", limits.Bucket{PerMinute: 10, Want: 1, Need: 1, Now: now})
	require.NoError(t, err)
	require.EqualValues(t, 9, room, "a minute's worth, no more")
	server.Kill(t)
	_, _, err = c.Take(t.Context(), "k", limits.Bucket{PerMinute: 10, Want: 1, Need: 1, Now: now})
	require.Error(t, err)
	_, err = c.Hold(t.Context(), "k", limits.Stretch{Holder: "hold_a", Limit: 1, Want: 1, Need: 1, Now: now, For: time.Second})
	require.Error(t, err)
}
