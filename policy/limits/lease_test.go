package limits

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestLeaseArithmetic: whatever calls and renewals do, in any order, nothing is made or lost: what was granted is what is left, held and used, and
// never is more reserved than was granted, but by what calls cost beyond their reservations.
func TestLeaseArithmetic(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLease(nil, Window{}, nil)
		var open []int64
		var over int64 // calls that came to more
		for range rapid.IntRange(0, 60).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0:
				l.grow(rapid.Int64Range(0, 1000).Draw(rt, "grow"))
			case 1:
				before := l.left.Load()
				if n := rapid.Int64Range(0, 300).Draw(rt, "take"); l.take(n) {
					open = append(open, n)
				} else {
					require.Less(rt, before, n, "refused though there was enough")
				}
			case 2:
				if len(open) > 0 {
					n := rapid.Int64Range(-50, 400).Draw(rt, "spent")
					l.settle(open[0], n)
					over += max(0, n-open[0])
					open = open[1:]
				}
			case 3:
				before := l.granted
				gave := l.shrink(rapid.Int64Range(0, 50).Draw(rt, "keep"))
				require.Equal(rt, before-gave, l.granted)
				require.GreaterOrEqual(rt, gave, int64(0))
			}
			var held int64
			for _, n := range open {
				held += n
			}
			require.Equal(rt, held, l.held.Load())
			require.Equal(rt, l.granted, l.left.Load()+l.held.Load()+l.used.Load())
			require.LessOrEqual(rt, l.owed(), l.granted+over)
		}
	})
}

// TestShare: nobody gets more than there is, less than it needs, or what it did not want.
func TestShare(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		room, need := rapid.Int64Range(-100, 1000).Draw(rt, "room"), rapid.Int64Range(0, 500).Draw(rt, "need")
		want := need + rapid.Int64Range(0, 500).Draw(rt, "more")
		got := Share(room, want, need, rapid.IntRange(0, 5).Draw(rt, "others"))
		if got == 0 {
			return
		}
		require.True(rt, got >= need && got <= want && got <= room, "%d of %d, %d to %d", got, room, need, want)
	})
	require.Zero(t, Share(5, 10, 6, 0))
	require.EqualValues(t, 6, Share(6, 10, 6, 3), "what is needed is there")
}

// TestBucket: in any minute no more is taken than a bucket holds and a minute brings, and what was given back can be taken again.
func TestBucket(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c, now := NewCounters(), time.Unix(1_000_000, 0)
		rate := rapid.Int64Range(1, 600).Draw(rt, "rate")
		began, taken := now, int64(0)
		for range rapid.IntRange(1, 50).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(-200, 3000).Draw(rt, "ms")) * time.Millisecond)
			want := rapid.Int64Range(1, 40).Draw(rt, "want")
			got, room, err := c.Take(rt.Context(), "k", Bucket{PerMinute: rate, Want: want, Need: rapid.Int64Range(1, want).Draw(rt, "need"), Now: now})
			require.NoError(rt, err)
			require.GreaterOrEqual(rt, room, int64(0))
			taken += got
			if back := rapid.Int64Range(0, got).Draw(rt, "back"); back > 0 {
				_, _, err = c.Take(rt.Context(), "k", Bucket{PerMinute: rate, Want: -back, Now: now})
				require.NoError(rt, err)
				taken -= back
			}
		}
		latest := max(0, now.Sub(began)) + 10*time.Second // clocks that went back have been further
		require.LessOrEqual(rt, taken, rate+int64(float64(rate)*latest.Minutes())+1)
	})
}

// TestLocalPlaces: a holder that is silent is forgotten; others never have more than the limit.
func TestLocalPlaces(t *testing.T) {
	c, now := NewCounters(), time.Unix(1_000_000, 0)
	hold := func(holder string, base, need int64) int64 {
		got, err := c.Hold(context.Background(), "k", Stretch{Holder: holder, Limit: 3, Base: base, Need: need, Want: need, Now: now, For: time.Second})
		require.NoError(t, err)
		return got
	}
	require.EqualValues(t, 2, hold("a", 0, 2))
	require.EqualValues(t, 1, hold("b", 0, 1))
	require.Zero(t, hold("b", 1, 1))
	hold("a", 1, 0) // gives one back
	require.EqualValues(t, 1, hold("b", 1, 1))
	now = now.Add(2 * time.Second)
	require.EqualValues(t, 1, hold("b", 2, 1), "a is gone")
}

// TestTakeRacesWithShrink: what is given back was nobody's.
func TestTakeRacesWithShrink(t *testing.T) {
	l := newLease(nil, Window{}, nil)
	l.grow(10_000)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 5_000 {
				if l.take(3) {
					l.settle(3, 1)
				}
			}
		})
	}
	for range 1_000 {
		l.grow(l.shrink(0))
	}
	all.Wait()
	require.Equal(t, l.granted, l.left.Load()+l.used.Load())
	require.LessOrEqual(t, l.used.Load(), l.granted)
}
