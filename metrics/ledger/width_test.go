package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/metrics/metricstest"
)

func (f *fixture) stats(t *testing.T, project string, group ...metrics.Dimension) map[metrics.Group]metrics.Stats {
	t.Helper()
	stats, err := f.Stats(t.Context(), project, metrics.StatsQuery{Group: group})
	require.NoError(t, err)
	out := map[metrics.Group]metrics.Stats{}
	for _, s := range stats {
		out[s.Group] = s
	}
	return out
}

func (f *fixture) figureRows(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, f.db.NewRaw("SELECT COUNT(*) FROM metrics_rollups WHERE project = 'p'").Scan(t.Context(), &n))
	return n
}

// TestRowsOfAMinuteAreBounded: callers and models that nobody has counted make no more rows than there is room for. What is summed up loses no call and
// no score, prompts stay apart, lists go by what the calls were, and another project or minute is not touched.
func TestRowsOfAMinuteAreBounded(t *testing.T) {
	f := newFixture(t, Options{MaxBytes: 1 << 30}, nil)
	const calls = 3 * detailedRows
	yes := true
	sample := func(project string, n int) *metrics.Call {
		c := metricstest.Sample(project, n)
		c.Start = metricstest.Start.Add(time.Duration(n) * time.Millisecond)
		return c
	}
	record := func(c *metrics.Call) {
		require.NoError(t, f.RecordCall(t.Context(), c))
		require.NoError(t, f.RecordFeedback(t.Context(), &metrics.Feedback{ID: "1", Project: c.Project, CallID: c.ID, Name: "helpful", Bool: &yes}))
	}
	for n := range calls {
		c := sample("p", n)
		c.PromptID, c.Model, c.Principal = fmt.Sprintf("pmpt_%d", n%3), fmt.Sprintf("invented-%d", n), fmt.Sprintf("key_%d", n%1500)
		record(c)
		if n%700 == 699 {
			require.NoError(t, f.Flush(t.Context()))
			if n%1400 == 1399 {
				f.flusher.forget() // as after a failure: how wide the minute is, is read again
			}
		}
	}
	record(sample("q", calls))
	late := sample("p", 61_000)
	late.PromptID, late.Principal = "pmpt_late", "key_late"
	record(late)
	require.NoError(t, f.Flush(t.Context()))

	require.LessOrEqual(t, f.figureRows(t), detailedRows+3+1, "and one of the other minute")
	byPrompt := f.stats(t, "p", metrics.ByPrompt)
	require.Len(t, byPrompt, 4, "and the other minute's")
	for n := range 3 {
		s := byPrompt[metrics.Group{PromptID: fmt.Sprintf("pmpt_%d", n)}]
		assert.EqualValues(t, calls/3, s.Calls)
		require.Len(t, s.Feedback, 1)
		assert.EqualValues(t, calls/3, s.Feedback[0].Count)
	}
	rest := f.stats(t, "p", metrics.ByKey)[metrics.Group{Key: metrics.Other}]
	require.EqualValues(t, calls-detailedRows, rest.Calls)
	require.Len(t, rest.Feedback, 1)
	assert.EqualValues(t, rest.Calls, rest.Feedback[0].Count, "scores are summed up as their calls are")
	assert.EqualValues(t, rest.Calls, f.SpoolStats().Folded)
	assert.Contains(t, f.stats(t, "p", metrics.ByKey), metrics.Group{Key: "key_late"}, "the next minute has room again")
	assert.NotContains(t, f.stats(t, "q", metrics.ByKey), metrics.Group{Key: metrics.Other})
	list, _, err := f.ListCalls(t.Context(), "p", metrics.CallFilter{PromptID: "pmpt_2"}, metrics.Page{Limit: 1})
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintf("invented-%d", calls-1), list[0].Model, "the call itself says all")
}

// TestRowsOfManyPromptsAreBounded: beyond a further limit only outcomes and purposes are kept apart; lists of a prompt's calls are whole.
func TestRowsOfManyPromptsAreBounded(t *testing.T) {
	f := newFixture(t, Options{MaxBytes: 1 << 30}, nil)
	const calls = promptRows + 600
	for n := range calls {
		c := metricstest.Sample("p", n)
		c.Start = metricstest.Start.Add(time.Duration(n) * time.Millisecond)
		c.PromptID = fmt.Sprintf("pmpt_%d", n)
		if n%2 == 0 {
			c.Purpose = metrics.PurposeSandbox
		}
		require.NoError(t, f.RecordCall(t.Context(), c))
		if n%1000 == 999 {
			require.NoError(t, f.Flush(t.Context()))
		}
	}
	require.NoError(t, f.Flush(t.Context()))
	require.LessOrEqual(t, f.figureRows(t), promptRows+2)
	assert.EqualValues(t, calls-promptRows, f.stats(t, "p", metrics.ByPrompt)[metrics.Group{PromptID: metrics.Other}].Calls)
	assert.EqualValues(t, calls/2, f.stats(t, "p", metrics.ByPurpose)[metrics.Group{Purpose: metrics.PurposeSandbox}].Calls)
	list, _, err := f.ListCalls(t.Context(), "p", metrics.CallFilter{PromptID: fmt.Sprintf("pmpt_%d", calls-1), Label: "production"}, metrics.Page{})
	require.NoError(t, err)
	assert.Len(t, list, 1)
}
