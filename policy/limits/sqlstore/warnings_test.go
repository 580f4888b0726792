package sqlstore_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/policy/limits"
)

// TestWarnings: each threshold of a period is told once, over all replicas; what fails is told again under the same id; and the journal knows each once.
func TestWarnings(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newRig(t, url)
		r.limit(limits.Limit{Measure: limits.USD, Amount: 1_000, Period: limits.Day})
		replicas := []*replica{r.replica(), r.replica(), r.replica()}
		var all sync.WaitGroup
		for i := range 9 {
			all.Go(func() {
				res, err := replicas[i%3].Reserve(t.Context(), r.ask(price{micros: 100}))
				if err != nil {
					t.Error(err)
				}
				res.Settle(paid(100))
			})
		}
		all.Wait()
		for _, e := range replicas {
			e.stop()
		}
		var mu sync.Mutex
		got, refuse := map[string]int{}, true
		ids := map[string]int{}
		deliver := func(_ context.Context, w limits.Warning) error {
			mu.Lock()
			defer mu.Unlock()
			if refuse {
				return errors.New("not now")
			}
			got[w.Limit.Name+" "+time.Duration(w.Threshold).String()]++
			ids[w.ID]++
			return nil
		}
		run := func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
			defer cancel()
			var all sync.WaitGroup
			for range 2 {
				w := &limits.Warner{Warnings: r.store, Deliver: deliver, Log: slog.New(slog.DiscardHandler), Clock: r.clock}
				all.Go(func() { _ = w.Run(ctx) })
			}
			all.Wait()
		}
		run()
		refuse = false
		r.ahead.Add(int64(30 * time.Second))
		run()
		require.Equal(t, map[string]int{"the limit 50ns": 1, "the limit 85ns": 1}, got)
		require.Len(t, ids, 2)
		entries, _, err := r.journal.List(t.Context(), journal.Query{Everywhere: true, Action: "limit.warn"})
		require.NoError(t, err)
		require.Len(t, entries, 2)
		r.ahead.Add(int64(time.Hour))
		run()
		require.Len(t, ids, 2, "a warning that was delivered came again")
	})
}
