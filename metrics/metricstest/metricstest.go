// Package metricstest is the conformance suite of ledgers: whatever records calls and answers questions about them passes it.
package metricstest

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
)

// Ledger is what the suite needs. After Flush the readers see what was recorded before.
type Ledger interface {
	metrics.Recorder
	metrics.Reader
	metrics.Runs
	Flush(ctx context.Context) error
}

// Start is the time of Sample's calls: the beginning of a minute.
var Start = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// Sample is a complete call; n makes its id and its time, n seconds after Start.
func Sample(project string, n int) *metrics.Call {
	cost, attempt := int64(1000+n), int64(7)
	start := Start.Add(time.Duration(n) * time.Second)
	tokens := metrics.Tokens{Reported: true, Input: 100, CachedInput: 40, CacheWrite: 3, AudioInput: 2, Output: 20, Reasoning: 5, AudioOutput: 1}
	return &metrics.Call{
		ID: fmt.Sprintf("call_%s_%06d", project, n), Project: project, Principal: "key_1", PromptID: "pmpt_1", PromptName: "support/triage",
		Version: 3, Label: "production", Digest: "sha256:abc", Provider: "openai", Model: "gpt-4o", Endpoint: "chat/completions",
		Stream: true, CompletionID: fmt.Sprintf("chatcmpl-%d", n), EndUser: "hash", Variant: "control", Purpose: metrics.PurposeProduction, Start: start, FirstToken: 100 * time.Millisecond,
		Total: 900 * time.Millisecond, Overhead: 250 * time.Microsecond, Status: 200, ErrorCode: "", Outcome: metrics.OutcomeOK,
		Tokens: tokens, CostMicros: &cost,
		Attempts: []metrics.Attempt{
			{Provider: "azure", Model: "gpt-4o-eu", Start: start, Total: 50 * time.Millisecond, Status: 500, Outcome: metrics.OutcomeProvider},
			{Provider: "openai", Model: "gpt-4o", Start: start.Add(50 * time.Millisecond), FirstToken: 50 * time.Millisecond,
				Total: 850 * time.Millisecond, Status: 200, Outcome: metrics.OutcomeOK, Tokens: tokens, CostMicros: &attempt},
		},
	}
}

// Run runs the suite; open makes an empty ledger each time.
func Run(t *testing.T, open func(t *testing.T) Ledger) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Ledger){
		"call round trip":      testRoundTrip,
		"unknown stays absent": testAbsent,
		"listing":              testListing,
		"listing by prompts":   testListByPrompts,
		"listing anything":     testListAnything,
		"projects are apart":   testIsolation,
		"same id once":         testOnce,
		"stats":                testStats,
		"figures by anything":  testGroups,
		"last calls":           testLastCalls,
		"feedback":             testFeedback,
		"one score a scorer":   testOneScoreAScorer,
		"one id, two calls":    testOneIDTwoCalls,
		"hostile text":         testHostile,
		"runs":                 testRuns,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func record(t *testing.T, l Ledger, calls ...*metrics.Call) {
	t.Helper()
	for _, c := range calls {
		require.NoError(t, l.RecordCall(t.Context(), c))
	}
	require.NoError(t, l.Flush(t.Context()))
}

func testRoundTrip(t *testing.T, l Ledger) {
	want := Sample("a", 1)
	record(t, l, want)
	got, err := l.Call(t.Context(), "a", want.ID)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	id, err := l.FindByCompletionID(t.Context(), "a", want.CompletionID)
	require.NoError(t, err)
	assert.Equal(t, want.ID, id)
	_, err = l.Call(t.Context(), "a", "call_none")
	assert.True(t, fault.Is(err, fault.CallNotFound), "%v", err)
}

func testAbsent(t *testing.T, l Ledger) {
	want := &metrics.Call{ID: "call_x", Project: "a", Start: Start, Outcome: metrics.OutcomeRefused, ErrorCode: "permission_denied", Status: 403}
	record(t, l, want)
	got, err := l.Call(t.Context(), "a", "call_x")
	require.NoError(t, err)
	want.Purpose = metrics.PurposeProduction
	assert.Equal(t, want, got)
	assert.Nil(t, got.CostMicros)
	_, err = l.FindByCompletionID(t.Context(), "a", "")
	assert.True(t, fault.Is(err, fault.CallNotFound), "an empty completion id finds nothing")
}

func testListing(t *testing.T, l Ledger) {
	var calls []*metrics.Call
	for n := range 25 {
		c := Sample("a", n/2) // pairs at the same moment
		c.ID = fmt.Sprintf("call_%02d", n)
		c.Version = 1 + n%2
		if n%5 == 0 {
			c.Outcome, c.Label = metrics.OutcomeTimeout, ""
		}
		calls = append(calls, c)
	}
	record(t, l, calls...)

	seen := listed(t, l, metrics.CallFilter{}, metrics.Page{Limit: 4})
	require.Len(t, seen, 25)
	for i, id := range seen {
		assert.Equal(t, fmt.Sprintf("call_%02d", 24-i), id)
	}
	count := func(f metrics.CallFilter) int {
		got, _, err := l.ListCalls(t.Context(), "a", f, metrics.Page{Limit: 100})
		require.NoError(t, err)
		return len(got)
	}
	assert.Equal(t, 5, count(metrics.CallFilter{Outcome: metrics.OutcomeTimeout}))
	assert.Equal(t, 20, count(metrics.CallFilter{Label: "production"}))
	assert.Equal(t, 12, count(metrics.CallFilter{Version: 2, PromptID: "pmpt_1"}))
	assert.Equal(t, 0, count(metrics.CallFilter{PromptID: "pmpt_2"}))
	assert.Equal(t, 0, count(metrics.CallFilter{Prompts: []string{"pmpt_2", ""}}))
	assert.Equal(t, 12, count(metrics.CallFilter{Version: 2, Prompts: []string{"pmpt_1"}}))
	assert.Equal(t, 4, count(metrics.CallFilter{Since: Start.Add(2 * time.Second), Until: Start.Add(4 * time.Second)}))
	for _, bad := range []metrics.Page{{Limit: 501}, {Limit: -1}, {After: "%%%"}, {After: "bm9uZQ"}} {
		_, _, err := l.ListCalls(t.Context(), "a", metrics.CallFilter{}, bad)
		assert.True(t, fault.Is(err, fault.InvalidRequest), "%+v: %v", bad, err)
	}
}

// Asking for several prompts is asking for each and putting the answers in order.
func testListByPrompts(t *testing.T, l Ledger) {
	prompts := []string{"", "pmpt_1", "pmpt_2", "pmpt_3"}
	var calls []*metrics.Call
	for n := range 60 {
		c := Sample("a", n)
		if c.PromptID = prompts[n*n%7%4]; c.PromptID == "" {
			c.PromptName, c.Version, c.Label = "", 0, ""
		}
		c.Start = Start.Add(time.Duration(n/3) * time.Second) // several in one moment
		calls = append(calls, c)
	}
	record(t, l, calls...)
	for _, asked := range [][]string{{""}, {"pmpt_2"}, {"pmpt_1", ""}, {"pmpt_3", "pmpt_1", "pmpt_2"}, {"pmpt_9"}} {
		var want []string
		for i := len(calls) - 1; i >= 0; i-- {
			if slices.Contains(asked, calls[i].PromptID) {
				want = append(want, calls[i].ID)
			}
		}
		got := listed(t, l, metrics.CallFilter{Prompts: asked}, metrics.Page{Limit: 4})
		assert.Equal(t, want, got, "%q", asked)
	}
}

// Whatever is asked of calls that came in any order, in many flushes, is what a look at each of them says.
func testListAnything(t *testing.T, l Ledger) {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same calls each time
	outcomes := []metrics.Outcome{metrics.OutcomeOK, metrics.OutcomeOK, metrics.OutcomeTimeout}
	at := func() time.Time { return Start.Add(time.Duration(r.IntN(300)) * 600 * time.Millisecond) } // over three minutes, some at once
	var calls []metrics.Call
	for n := range 600 {
		c := Sample("a", n)
		c.PromptID, c.Version, c.Outcome, c.Start = fmt.Sprintf("pmpt_%d", r.IntN(3)), 1+r.IntN(2), outcomes[r.IntN(3)], at()
		calls = append(calls, *c)
		require.NoError(t, l.RecordCall(t.Context(), c))
		if r.IntN(100) == 0 {
			require.NoError(t, l.Flush(t.Context()))
		}
	}
	require.NoError(t, l.Flush(t.Context()))
	slices.SortFunc(calls, func(a, b metrics.Call) int { return cmp.Or(b.Start.Compare(a.Start), cmp.Compare(b.ID, a.ID)) })
	for range 100 {
		f := metrics.CallFilter{Version: r.IntN(3)}
		for _, set := range []func(){
			func() { f.PromptID = "pmpt_1" }, func() { f.Prompts = []string{"pmpt_2", "pmpt_0"} }, func() { f.Outcome = metrics.OutcomeTimeout },
			func() { f.Since = at() }, func() { f.Until = at() }, func() { f.Behind = metrics.Position{Start: at(), ID: calls[r.IntN(len(calls))].ID} },
		} {
			if r.IntN(3) == 0 {
				set()
			}
		}
		var want []string
		for i := range calls {
			if wanted(&calls[i], f) {
				want = append(want, calls[i].ID)
			}
		}
		page := metrics.Page{Limit: 1 + r.IntN(70)}
		assert.Equal(t, want, listed(t, l, f, page), "%+v %+v", f, page)
	}
}

func wanted(c *metrics.Call, f metrics.CallFilter) bool {
	behind := c.Start.Before(f.Behind.Start) || c.Start.Equal(f.Behind.Start) && c.ID < f.Behind.ID
	return (f.Version == 0 || c.Version == f.Version) && (f.PromptID == "" || c.PromptID == f.PromptID) &&
		(f.Prompts == nil || slices.Contains(f.Prompts, c.PromptID)) && (f.Outcome == "" || c.Outcome == f.Outcome) &&
		(f.Since.IsZero() || !c.Start.Before(f.Since)) && (f.Until.IsZero() || c.Start.Before(f.Until)) &&
		(f.Behind.ID == "" || behind)
}

// listed is the ids of a whole list.
func listed(t *testing.T, l Ledger, f metrics.CallFilter, page metrics.Page) (ids []string) {
	for {
		found, next, err := l.ListCalls(t.Context(), "a", f, page)
		require.NoError(t, err)
		for i := range found {
			ids = append(ids, found[i].ID)
		}
		if page.After = next; next == "" || len(ids) > 10_000 { // a list that never ends is none
			return ids
		}
	}
}

func testIsolation(t *testing.T, l Ledger) {
	a, b := Sample("a", 1), Sample("b", 1) // the same prompt id, name and completion id in both
	record(t, l, a, b)
	yes := true
	for _, p := range []string{"a", "b"} {
		require.NoError(t, l.RecordFeedback(t.Context(), &metrics.Feedback{ID: "same", Project: p, CallID: "call_" + p + "_000001",
			Name: "helpful", Bool: &yes, Comment: "secret of " + p, At: Start}))
	}
	// A score that names another project's call joins nothing.
	require.NoError(t, l.RecordFeedback(t.Context(), &metrics.Feedback{ID: "foreign", Project: "b", CallID: a.ID, Name: "helpful", Bool: &yes, At: Start}))
	require.NoError(t, l.Flush(t.Context()))

	_, err := l.Call(t.Context(), "a", b.ID)
	assert.True(t, fault.Is(err, fault.CallNotFound))
	id, err := l.FindByCompletionID(t.Context(), "b", a.CompletionID)
	require.NoError(t, err)
	assert.Equal(t, b.ID, id)
	calls, _, err := l.ListCalls(t.Context(), "a", metrics.CallFilter{}, metrics.Page{})
	require.NoError(t, err)
	assert.Len(t, calls, 1)
	scores, _, err := l.ListFeedback(t.Context(), "a", metrics.FeedbackFilter{}, metrics.Page{})
	require.NoError(t, err)
	require.Len(t, scores, 1)
	assert.Equal(t, "secret of a", scores[0].Comment)
	for _, p := range []string{"a", "b"} {
		stats, err := l.Stats(t.Context(), p, metrics.StatsQuery{Group: []metrics.Dimension{metrics.ByPrompt}})
		require.NoError(t, err)
		require.Len(t, stats, 1)
		assert.EqualValues(t, 1, stats[0].Calls)
		require.Len(t, stats[0].Feedback, 1)
		assert.EqualValues(t, 1, stats[0].Feedback[0].Count)
	}
}

func testLastCalls(t *testing.T, l Ledger) {
	of := func(project, key string, n int) *metrics.Call {
		c := Sample(project, n)
		c.Principal = key
		return c
	}
	refused := of("a", "key_2", 130)
	refused.Outcome, refused.Status, refused.PromptID, refused.Provider = metrics.OutcomeRefused, 403, "", ""
	record(t, l, of("a", "key_1", 200), of("a", "key_1", 10), of("a", "key_2", 5), refused, of("b", "key_1", 900), of("b", "key_3", 900))
	got, err := l.LastCalls(t.Context(), "a", []string{"key_1", "key_2", "key_3", "key'4", "key_\x00\xff"})
	require.NoError(t, err)
	assert.Equal(t, map[string]time.Time{"key_1": Start.Add(3 * time.Minute), "key_2": Start.Add(2 * time.Minute)}, got)
	record(t, l, of("a", "key_1", 301)) // a later one is seen
	got, err = l.LastCalls(t.Context(), "a", []string{"key_1"})
	require.NoError(t, err)
	assert.Equal(t, map[string]time.Time{"key_1": Start.Add(5 * time.Minute)}, got)
	got, err = l.LastCalls(t.Context(), "a", nil)
	require.NoError(t, err)
	assert.Empty(t, got)
}

func testOnce(t *testing.T, l Ledger) {
	c := Sample("a", 1)
	record(t, l, c, c)
	record(t, l, c)
	calls, _, err := l.ListCalls(t.Context(), "a", metrics.CallFilter{}, metrics.Page{})
	require.NoError(t, err)
	assert.Len(t, calls, 1)
	stats, err := l.Stats(t.Context(), "a", metrics.StatsQuery{Group: []metrics.Dimension{metrics.ByPrompt}})
	require.NoError(t, err)
	require.Len(t, stats, 1)
	assert.EqualValues(t, 1, stats[0].Calls, "the figures count rows, not records")
}

func testHostile(t *testing.T, l Ledger) {
	c := Sample("a", 1)
	c.Model = "'; DROP TABLE metrics_calls; --\x00\xff?$1"
	c.EndUser = strings.Repeat("x", 5000)
	c.ErrorCode = "\\' \" ` \u202e"
	c.Tokens.Input, c.Tokens.Output = -5, 1<<62
	sound := Sample("a", 2)
	record(t, l, c, sound)
	got, err := l.Call(t.Context(), "a", c.ID)
	require.NoError(t, err)
	assert.Equal(t, "'; DROP TABLE metrics_calls; --\uFFFD?$1", got.Model)
	assert.Equal(t, c.ErrorCode, got.ErrorCode)
	assert.Less(t, len(got.EndUser), 2000)
	assert.Zero(t, got.Tokens.Input)
	_, err = l.Call(t.Context(), "a", sound.ID)
	require.NoError(t, err, "one call's nonsense does not hold up another")
	_, err = l.FindByCompletionID(t.Context(), "a", "x' OR '1'='1\x00")
	assert.True(t, fault.Is(err, fault.CallNotFound))
}
