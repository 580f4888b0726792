package ledger

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/metrics/feedback"
	"github.com/promptgate/promptgate/metrics/metricstest"
)

// TestListsReadNoOthers: what a list costs does not depend on how many calls other prompts and other projects have. PostgreSQL decides by
// the figures of its tables, SQLite as here.
func TestListsReadNoOthers(t *testing.T) {
	f := newFixture(t, Options{}, nil)
	prompt, none := "pmpt_1", ""
	after := &feedback.Position{Micros: metricstest.Start.UnixMicro(), ID: "call"}
	filter := metrics.CallFilter{Outcome: metrics.OutcomeOK, Since: metricstest.Start.Add(-time.Hour), Until: metricstest.Start}
	for _, of := range []*string{nil, &prompt, &none} {
		want := "(project=? AND last_at"
		if of != nil {
			want = "(project=? AND prompt_id=? AND last_at"
		}
		for _, where := range []*feedback.Position{nil, after} {
			q := newestFirst(f.selectBlocks("p", of, filter, where), 4, &storedBlock{number: 1, last: after.Micros})
			var steps []struct {
				ID, Parent, Notused int
				Detail              string
			}
			require.NoError(t, f.db.NewRaw("EXPLAIN QUERY PLAN "+q.String()).Scan(t.Context(), &steps))
			require.Len(t, steps, 1, "nothing is sorted")
			assert.Contains(t, steps[0].Detail, want)
		}
	}
}

// TestLastCallsReadNoOthers: what it costs to tell a key's last call does not depend on how many calls were made.
func TestLastCallsReadNoOthers(t *testing.T) {
	f := newFixture(t, Options{}, nil)
	var steps []struct {
		ID, Parent, Notused int
		Detail              string
	}
	require.NoError(t, f.db.NewRaw("EXPLAIN QUERY PLAN "+f.selectLast("p", []string{"key_1", "key_2"}).String()).Scan(t.Context(), &steps))
	var plan []string
	for _, s := range steps {
		plan = append(plan, s.Detail)
	}
	require.Contains(t, plan, "SEARCH r USING COVERING INDEX metrics_rollups_principal (project=? AND principal=?)")
}

// TestOneCompletionIDForAll: a provider that gives all its answers the same id makes nobody read all its calls; none of them is meant by it.
func TestOneCompletionIDForAll(t *testing.T) {
	f := newFixture(t, Options{}, nil)
	for n := range 3 * lookedThrough {
		c := metricstest.Sample("p", n^1) // of two neighbours the newer one comes first
		c.CompletionID = "chatcmpl-123"
		require.NoError(t, f.RecordCall(t.Context(), c))
		require.NoError(t, f.Flush(t.Context()))
	}
	require.NoError(t, f.Flush(t.Context())) // forgets what was recorded recently
	_, err := f.FindByCompletionID(t.Context(), "p", "chatcmpl-123")
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
	_, err = f.db.NewRaw("UPDATE metrics_call_blocks SET records = x'ff' WHERE block IN (SELECT block FROM metrics_calls ORDER BY block LIMIT ?)",
		2*lookedThrough).Exec(t.Context())
	require.NoError(t, err)
	_, err = f.FindByCompletionID(t.Context(), "p", "chatcmpl-123")
	require.True(t, fault.Is(err, fault.Conflict), "the old ones are not read: %v", err)
}
