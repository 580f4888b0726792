package metricstest

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
)

func testStats(t *testing.T, l Ledger) {
	var want int64
	for n := range 200 { // over four minutes, in several flushes
		c := Sample("a", n)
		c.Version = 1 + n%2
		c.Total = time.Duration(n+1) * 10 * time.Millisecond
		switch n % 10 {
		case 0:
			c.Outcome, c.CostMicros, c.FirstToken = metrics.OutcomeTimeout, nil, 0
			c.Tokens = metrics.Tokens{}
		case 2:
			c.Outcome, c.Provider, c.Model, c.CostMicros = metrics.OutcomeRefused, "", "the caller's text", nil
			c.Tokens = metrics.Tokens{}
		}
		if c.Version == 1 && c.CostMicros != nil {
			want += *c.CostMicros
		}
		require.NoError(t, l.RecordCall(t.Context(), c))
		if n%30 == 29 {
			require.NoError(t, l.Flush(t.Context()))
		}
	}
	require.NoError(t, l.Flush(t.Context()))

	stats, err := l.Stats(t.Context(), "a", metrics.StatsQuery{PromptID: "pmpt_1", Group: []metrics.Dimension{metrics.ByPrompt, metrics.ByVersion}})
	require.NoError(t, err)
	require.Len(t, stats, 2)
	assert.Equal(t, []int{2, 1}, []int{stats[0].Version, stats[1].Version}, "newest first")
	one := stats[1]
	assert.Equal(t, "support/triage", one.PromptName)
	assert.EqualValues(t, 100, one.Calls)
	assert.EqualValues(t, 20, one.Errors)
	assert.Equal(t, map[metrics.Outcome]int64{metrics.OutcomeOK: 60, metrics.OutcomeTimeout: 20, metrics.OutcomeRefused: 20}, one.Outcomes)
	assert.EqualValues(t, 20, one.Unpriced)
	require.NotNil(t, one.CostMicros)
	assert.Equal(t, want, *one.CostMicros)
	assert.Equal(t, metrics.Tokens{Reported: true, Input: 6000, CachedInput: 2400, CacheWrite: 180, AudioInput: 120, Output: 1200,
		Reasoning: 300, AudioOutput: 60}, one.Tokens)
	assert.InEpsilon(t, float64(990*time.Millisecond), float64(one.Latency.P50), 0.03)
	assert.InEpsilon(t, float64(1890*time.Millisecond), float64(one.Latency.P95), 0.03)
	assert.EqualValues(t, 80, one.FirstToken.Count)

	models, err := l.Stats(t.Context(), "a", metrics.StatsQuery{Group: []metrics.Dimension{metrics.ByProvider, metrics.ByModel}})
	require.NoError(t, err)
	require.Len(t, models, 2)
	assert.Equal(t, "", models[0].Model, "a refused call's model is the caller's text")
	assert.Nil(t, models[0].CostMicros, "nothing priced is no zero")

	window, err := l.Stats(t.Context(), "a", metrics.StatsQuery{Group: []metrics.Dimension{metrics.ByPrompt, metrics.ByLabel}, Since: Start.Add(61 * time.Second), Until: Start.Add(119 * time.Second)})
	require.NoError(t, err)
	require.Len(t, window, 1)
	assert.EqualValues(t, 60, window[0].Calls, "whole minutes")
	_, err = l.Stats(t.Context(), "a", metrics.StatsQuery{Group: []metrics.Dimension{"id; DROP TABLE"}})
	assert.True(t, fault.Is(err, fault.InvalidRequest))
}

// testGroups: whatever figures are grouped by, each group has the calls and the scores that a look at each call says, and sums up to all.
func testGroups(t *testing.T, l Ledger) {
	r := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // the same calls each time
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	yes := true
	var calls []*metrics.Call
	for n := range 300 {
		c := Sample("a", n)
		c.PromptID, c.Version = pick("pmpt_1", "pmpt_2"), 1+r.IntN(2)
		c.PromptName = "name of " + c.PromptID
		c.Label, c.Variant, c.Provider = pick("production", ""), pick("control", "bold"), pick("openai", "azure")
		c.Model, c.Principal, c.Endpoint = pick("gpt-4o", "gpt-5"), pick("key_1", "key_2"), pick("chat/completions", "responses")
		c.Purpose = metrics.Purpose(pick("production", "sandbox"))
		calls = append(calls, c)
		require.NoError(t, l.RecordCall(t.Context(), c))
		require.NoError(t, l.RecordFeedback(t.Context(), &metrics.Feedback{ID: "1", Project: "a", CallID: c.ID, Name: "helpful", Bool: &yes, At: c.Start}))
		if n%70 == 0 {
			require.NoError(t, l.Flush(t.Context()))
		}
	}
	require.NoError(t, l.Flush(t.Context()))
	set := map[metrics.Dimension]func(*metrics.Group, *metrics.Call){
		metrics.ByPrompt:   func(g *metrics.Group, c *metrics.Call) { g.PromptID = c.PromptID },
		metrics.ByVersion:  func(g *metrics.Group, c *metrics.Call) { g.Version = c.Version },
		metrics.ByLabel:    func(g *metrics.Group, c *metrics.Call) { g.Label = c.Label },
		metrics.ByVariant:  func(g *metrics.Group, c *metrics.Call) { g.Variant = c.Variant },
		metrics.ByProvider: func(g *metrics.Group, c *metrics.Call) { g.Provider = c.Provider },
		metrics.ByModel:    func(g *metrics.Group, c *metrics.Call) { g.Model = c.Model },
		metrics.ByKey:      func(g *metrics.Group, c *metrics.Call) { g.Key = c.Principal },
		metrics.ByEndpoint: func(g *metrics.Group, c *metrics.Call) { g.Endpoint = c.Endpoint },
		metrics.ByPurpose:  func(g *metrics.Group, c *metrics.Call) { g.Purpose = c.Purpose },
	}
	all := slices.Sorted(maps.Keys(set))
	for range 60 {
		q := metrics.StatsQuery{Purpose: metrics.Purpose(pick("", "", "sandbox"))}
		for _, d := range all {
			if r.IntN(2) == 0 && (d != metrics.ByVersion || slices.Contains(q.Group, metrics.ByPrompt)) {
				q.Group = append(q.Group, d)
			}
		}
		if len(q.Group) == 0 {
			q.Group = []metrics.Dimension{metrics.Dimension(pick("key", "purpose", "variant"))}
		}
		r.Shuffle(len(q.Group), func(i, j int) { q.Group[i], q.Group[j] = q.Group[j], q.Group[i] })
		want := map[metrics.Group]int64{}
		for _, c := range calls {
			var g metrics.Group
			for _, d := range q.Group {
				set[d](&g, c)
			}
			if q.Purpose == "" || q.Purpose == c.Purpose {
				want[g]++
			}
		}
		stats, err := l.Stats(t.Context(), "a", q)
		require.NoError(t, err)
		got := map[metrics.Group]int64{}
		for _, s := range stats {
			got[s.Group] += s.Calls
			require.Len(t, s.Feedback, 1, "%v of %v", s.Group, q.Group)
			require.Equal(t, s.Calls, s.Feedback[0].Count, "%v of %v", s.Group, q.Group)
			if s.PromptID != "" {
				require.Equal(t, "name of "+s.PromptID, s.PromptName)
			}
		}
		require.Equal(t, want, got, "%v", q.Group)
	}
	for _, bad := range [][]metrics.Dimension{nil, {metrics.ByKey, metrics.ByKey}, {metrics.ByVersion}, {"principal"}} {
		_, err := l.Stats(t.Context(), "a", metrics.StatsQuery{Group: bad})
		require.True(t, fault.Is(err, fault.InvalidRequest), "%v: %v", bad, err)
	}
}
