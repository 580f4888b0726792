package ledger_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/metrics/metricstest"
)

// TestARunBeginsOnce: a run that is recorded twice, by a spool that was read again, say, is no damage.
func TestARunBeginsOnce(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		l := open(t, url, nil)
		begun := metricstest.Sample("a", 1)
		begun.Outcome = metrics.OutcomeRunning
		for range 2 {
			require.NoError(t, l.RecordCall(t.Context(), begun))
			require.NoError(t, l.Flush(t.Context()))
		}
		require.Zero(t, l.SpoolStats().Damaged)
		require.Zero(t, l.SpoolStats().FlushErrors)
	})
}
