package metricstest

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
)

func testFeedback(t *testing.T, l Ledger) {
	yes, no, high := true, false, 0.8
	call := Sample("a", 1)
	scores := []*metrics.Feedback{
		{ID: "1", Name: "helpful", Bool: &yes}, {ID: "2", Name: "helpful", Bool: &no}, {ID: "3", Name: "helpful", Bool: &yes},
		{ID: "1", Name: "helpful", Bool: &yes}, // the same id and value again: nothing changes
		{ID: "4", Name: "rating", Number: &high, Comment: "größer\nals", User: "u1", Source: "reviewer"},
		{ID: "5", Name: "tone", Category: "wrong tone"}, {ID: "6", Name: "tone", Category: "fine"}, {ID: "7", Name: "tone", Category: "fine"},
	}
	for i, f := range scores { // before their call: they join it later
		f.Project, f.CallID, f.At = "a", call.ID, Start.Add(time.Duration(i)*time.Second)
		require.NoError(t, l.RecordFeedback(t.Context(), f))
	}
	require.NoError(t, l.Flush(t.Context()))
	record(t, l, call)

	stats, err := l.Stats(t.Context(), "a", metrics.StatsQuery{PromptID: "pmpt_1", Group: []metrics.Dimension{metrics.ByPrompt, metrics.ByVersion}})
	require.NoError(t, err)
	require.Len(t, stats, 1)
	two := 2.0 / 3
	assert.Equal(t, []metrics.FeedbackSummary{
		{Name: "helpful", Kind: metrics.KindBool, Count: 3, Mean: &two},
		{Name: "rating", Kind: metrics.KindNumber, Count: 1, Mean: &high},
		{Name: "tone", Kind: metrics.KindCategory, Count: 3, Categories: map[string]int64{"wrong tone": 1, "fine": 2}},
	}, stats[0].Feedback)

	list, next, err := l.ListFeedback(t.Context(), "a", metrics.FeedbackFilter{PromptID: "pmpt_1", Version: 3}, metrics.Page{Limit: 4})
	require.NoError(t, err)
	require.Len(t, list, 4)
	assert.Equal(t, *scores[4], list[3])
	list, next, err = l.ListFeedback(t.Context(), "a", metrics.FeedbackFilter{CallID: call.ID}, metrics.Page{Limit: 4, After: next})
	require.NoError(t, err)
	assert.Len(t, list, 3)
	assert.Empty(t, next)
	list, _, err = l.ListFeedback(t.Context(), "a", metrics.FeedbackFilter{Name: "tone", Since: Start.Add(6 * time.Second)}, metrics.Page{})
	require.NoError(t, err)
	assert.Len(t, list, 2)
}

// testOneScoreAScorer: whoever scores again corrects itself; figures go by the newest score, whatever order they were committed in, and the same
// score again changes nothing.
func testOneScoreAScorer(t *testing.T, l Ledger) {
	call, other := Sample("a", 1), Sample("a", 2)
	record(t, l, call, other)
	n := 0
	post := func(c *metrics.Call, scorer, id string, value float64, at int) {
		t.Helper()
		n++
		if id == "" {
			id = fmt.Sprint("ours-", n)
		}
		require.NoError(t, l.RecordFeedback(t.Context(), &metrics.Feedback{ID: id, Scorer: scorer, Project: "a", CallID: c.ID, Name: "rating",
			Number: &value, At: Start.Add(time.Duration(at) * time.Second)}))
	}
	summary := func() (int64, float64) {
		t.Helper()
		require.NoError(t, l.Flush(t.Context()))
		stats, err := l.Stats(t.Context(), "a", metrics.StatsQuery{PromptID: "pmpt_1", Group: []metrics.Dimension{metrics.ByPrompt, metrics.ByVersion}})
		require.NoError(t, err)
		require.Len(t, stats, 1)
		require.Len(t, stats[0].Feedback, 1)
		return stats[0].Feedback[0].Count, *stats[0].Feedback[0].Mean
	}
	expect := func(count int64, mean float64) {
		t.Helper()
		gotCount, gotMean := summary()
		require.Equal(t, count, gotCount)
		require.InDelta(t, mean, gotMean, 1e-9)
	}
	for i := range 20 { // a ballot that is stuffed, in one batch and in several
		post(call, "token", "", 1000, i)
		if i%7 == 0 {
			expect(1, 1000)
		}
	}
	post(call, "token", "", 1, 30)
	expect(1, 1)
	post(call, "token", "", 7, 29) // older, and committed later: history
	expect(1, 1)
	post(call, "user:u1", "", 3, 31)
	expect(2, 2)
	post(call, "", "mine", 5, 32)
	post(other, "", "mine", 5, 33) // the same id on another call is another score
	expect(4, 3.5)
	post(call, "", "mine", 5, 34) // the same id and value: nothing
	post(call, "", "mine", 9, 35)
	expect(4, 4.5)
	list, _, err := l.ListFeedback(t.Context(), "a", metrics.FeedbackFilter{CallID: call.ID}, metrics.Page{})
	require.NoError(t, err)
	require.Len(t, list, 3)
	var paged []metrics.Feedback
	for after := ""; ; { // scores of one moment and one id are told apart
		page, next, err := l.ListFeedback(t.Context(), "a", metrics.FeedbackFilter{}, metrics.Page{Limit: 1, After: after})
		require.NoError(t, err)
		paged = append(paged, page...)
		if after = next; after == "" {
			break
		}
	}
	require.Len(t, paged, 4)
}

// testOneIDTwoCalls: an id that a provider gave to two answers names neither, before they are committed and after.
func testOneIDTwoCalls(t *testing.T, l Ledger) {
	one, two := Sample("a", 1), Sample("a", 2)
	two.CompletionID = one.CompletionID
	require.NoError(t, l.RecordCall(t.Context(), one))
	id, err := l.FindByCompletionID(t.Context(), "a", one.CompletionID)
	require.NoError(t, err)
	require.Equal(t, one.ID, id)
	for range 3 {
		require.NoError(t, l.RecordCall(t.Context(), two))
		_, err = l.FindByCompletionID(t.Context(), "a", one.CompletionID)
		require.True(t, fault.Is(err, fault.Conflict), "%v", err)
		require.NoError(t, l.Flush(t.Context()))
	}
	_, err = l.FindByCompletionID(t.Context(), "a", one.CompletionID)
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
}
