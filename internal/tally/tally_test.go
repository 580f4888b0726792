package tally_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/tally"
)

func TestNothingIsLost(t *testing.T) {
	var c tally.Counter
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10_000 {
				c.Inc()
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 80_000, c.Value())
	require.Zero(t, testing.AllocsPerRun(100, c.Inc))
}

func BenchmarkInc(b *testing.B) {
	var c tally.Counter
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Inc()
		}
	})
}
