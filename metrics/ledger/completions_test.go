package ledger

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/metrics/metricstest"
)

// TestCompletionsOfAnOlderSchema: calls that were committed while the hash stood in a column of metrics_calls are found by it.
func TestCompletionsOfAnOlderSchema(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		f := newFixture(t, Options{DB: testenv.Open(t, url, sqldb.Ledger)}, nil)
		f.record(t, 0, 3)
		unnamed := metricstest.Sample("p", 3)
		unnamed.CompletionID = ""
		require.NoError(t, f.RecordCall(t.Context(), unnamed))
		for range 2 { // the second flush forgets what was recorded recently
			require.NoError(t, f.Flush(t.Context()))
		}
		require.NoError(t, sqldb.Down(t.Context(), f.o.DB, sqldb.Ledger))
		for id, completion := range map[string]string{"call_p_000000": "chatcmpl-0", "call_p_000001": "chatcmpl-1", "call_p_000002": "chatcmpl-0"} {
			_, err := f.o.DB.NewRaw("UPDATE metrics_calls SET completion = ? WHERE id = ?", completionHash(completion), id).Exec(t.Context())
			require.NoError(t, err)
		}
		require.NoError(t, sqldb.Migrate(t.Context(), f.o.DB, slog.New(slog.DiscardHandler), sqldb.Ledger))
		id, err := f.FindByCompletionID(t.Context(), "p", "chatcmpl-1")
		require.NoError(t, err)
		assert.Equal(t, "call_p_000001", id)
		_, err = f.FindByCompletionID(t.Context(), "p", "chatcmpl-2")
		assert.True(t, fault.Is(err, fault.CallNotFound), "it was not in the column")
		var rows int
		require.NoError(t, f.o.DB.NewRaw("SELECT COUNT(*) FROM metrics_completions").Scan(t.Context(), &rows))
		assert.Equal(t, 2, rows, "calls of a block share a row, calls without an id have none")
		f.record(t, 4, 5)
		require.NoError(t, f.Flush(t.Context()))
		assert.Equal(t, 5, f.committed(t))
	})
}

// TestCallsOfABlockShareACompletion: a provider that gives all its answers one id costs a row a block, and says of none that it is the one.
func TestCallsOfABlockShareACompletion(t *testing.T) {
	f := newFixture(t, Options{}, nil)
	for n := range 2 * blockCalls {
		c := metricstest.Sample("p", 0)
		c.ID, c.CompletionID = metricstest.Sample("p", n).ID, "chatcmpl-same"
		require.NoError(t, f.RecordCall(t.Context(), c))
	}
	for range 2 {
		require.NoError(t, f.Flush(t.Context()))
	}
	var rows int
	require.NoError(t, f.o.DB.NewRaw("SELECT COUNT(*) FROM metrics_completions").Scan(t.Context(), &rows))
	assert.Equal(t, 2, rows)
	_, err := f.FindByCompletionID(t.Context(), "p", "chatcmpl-same")
	assert.True(t, fault.Is(err, fault.Conflict), "%v", err)
}
