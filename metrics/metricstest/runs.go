package metricstest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
)

// A call that runs is found and listed as running, and counts once: when it has ended, whoever records it how often.
func testRuns(t *testing.T, l Ledger) {
	ctx := t.Context()
	begun, other := Sample("a", 1), Sample("b", 2)
	for _, c := range []*metrics.Call{begun, other} {
		c.Outcome, c.Tokens, c.CostMicros, c.Attempts = metrics.OutcomeRunning, metrics.Tokens{}, nil, nil
	}
	record(t, l, Sample("a", 0), begun, other)
	record(t, l, begun) // a second record of the beginning changes nothing

	running := func(before time.Time, limit int) (ids []string) {
		list, err := l.Runs(ctx, before, limit)
		require.NoError(t, err)
		for i := range list {
			assert.Equal(t, metrics.OutcomeRunning, list[i].Outcome)
			ids = append(ids, list[i].ID)
		}
		return ids
	}
	assert.Equal(t, []string{begun.ID, other.ID}, running(Start.Add(time.Hour), 10))
	assert.Equal(t, []string{begun.ID}, running(Start.Add(time.Hour), 1))
	assert.Equal(t, []string{begun.ID}, running(other.Start, 10))

	got, err := l.Call(ctx, "a", begun.ID)
	require.NoError(t, err)
	assert.Equal(t, begun, got)
	id, err := l.FindByCompletionID(ctx, "a", begun.CompletionID)
	require.NoError(t, err)
	assert.Equal(t, begun.ID, id)
	for _, project := range []string{"b", ""} {
		_, err = l.Call(ctx, project, begun.ID)
		assert.True(t, fault.Is(err, fault.CallNotFound), "another project's: %v", err)
		_, err = l.FindByCompletionID(ctx, project, begun.CompletionID)
		assert.True(t, fault.Is(err, fault.CallNotFound), "another project's: %v", err)
	}
	calls := func() int64 {
		stats, err := l.Stats(ctx, "a", metrics.StatsQuery{Group: []metrics.Dimension{metrics.ByPrompt}})
		require.NoError(t, err)
		require.Len(t, stats, 1)
		list, _, err := l.ListCalls(ctx, "a", metrics.CallFilter{}, metrics.Page{})
		require.NoError(t, err)
		assert.Len(t, list, int(stats[0].Calls))
		return stats[0].Calls
	}
	assert.Equal(t, int64(1), calls(), "a call that runs counts in no figures")

	ended := Sample("a", 1)
	record(t, l, ended)
	assert.Equal(t, int64(2), calls())
	assert.Equal(t, []string{other.ID}, running(Start.Add(time.Hour), 10))
	got, err = l.Call(ctx, "a", ended.ID)
	require.NoError(t, err)
	assert.Equal(t, ended, got)
	record(t, l, ended) // by another replica, which polled as well
	record(t, l, begun)
	assert.Equal(t, int64(2), calls())
	assert.Equal(t, []string{other.ID}, running(Start.Add(time.Hour), 10))
}
