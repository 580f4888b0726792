package metrics_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/metrics"
)

func newCollectors(t testing.TB, o metrics.CollectorOptions) (*metrics.Collectors, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	c, err := metrics.NewCollectors(reg, o)
	require.NoError(t, err)
	return c, reg
}

func sample(version int) *metrics.Call {
	cost := int64(1500)
	return &metrics.Call{
		Project: "demo", PromptID: "pmpt_1", PromptName: "support/triage", Version: version, Label: "production",
		Provider: "openai", Model: "gpt-4o", Start: time.Unix(1_800_000_000, 0), FirstToken: 200 * time.Millisecond,
		Total: 900 * time.Millisecond, Overhead: 300 * time.Microsecond, Outcome: metrics.OutcomeOK,
		Tokens:     metrics.Tokens{Reported: true, Input: 100, CachedInput: 40, Output: 20},
		CostMicros: &cost, ModelListed: true,
	}
}

func TestObserveCall(t *testing.T) {
	c, reg := newCollectors(t, metrics.CollectorOptions{})
	c.CallStarted()
	c.ObserveCall(sample(3))
	unpriced := sample(3)
	unpriced.CostMicros, unpriced.Outcome = nil, metrics.OutcomeCancelled
	c.ObserveCall(unpriced)
	combo := `label="production",model="gpt-4o"`
	rest := `project="demo",prompt="support/triage",version="3"`
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(fmt.Sprintf(`
# HELP promptgate_cost_usd_total Cost of priced calls in US dollars.
# TYPE promptgate_cost_usd_total counter
promptgate_cost_usd_total{%[1]s,%[2]s} 0.0015
# HELP promptgate_unpriced_calls_total Calls that used tokens and have no known cost.
# TYPE promptgate_unpriced_calls_total counter
promptgate_unpriced_calls_total{%[1]s,%[2]s} 1
# HELP promptgate_calls_in_flight Calls being served now.
# TYPE promptgate_calls_in_flight gauge
promptgate_calls_in_flight 1
`, combo, rest)), "promptgate_cost_usd_total", "promptgate_unpriced_calls_total", "promptgate_calls_in_flight"))
	assert.Equal(t, map[string]float64{"ok": 1, "cancelled": 1}, values(t, reg, "promptgate_calls_total", "outcome"))
	assert.Equal(t, map[string]float64{"input": 200, "cached_input": 80, "output": 40}, values(t, reg, "promptgate_tokens_total", "kind"))
}

// values are a metric's non-zero values by one label.
func values(t *testing.T, reg *prometheus.Registry, name, label string) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	out := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				v := m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
				if l.GetName() == label && v != 0 {
					out[l.GetValue()] += v
				}
			}
		}
	}
	return out
}

func TestCallersTextIsNoLabel(t *testing.T) {
	c, reg := newCollectors(t, metrics.CollectorOptions{})
	refused := sample(1)
	refused.PromptID, refused.PromptName, refused.Label = "", "../../etc/passwd", "x"
	refused.Provider, refused.Model = "", "whatever the caller wrote"
	refused.Outcome, refused.CostMicros = metrics.OutcomeRefused, nil
	c.ObserveCall(refused)
	assert.Equal(t, map[string]float64{"": 1}, values(t, reg, "promptgate_calls_total", "prompt"))
	assert.Equal(t, map[string]float64{"": 1}, values(t, reg, "promptgate_calls_total", "model"))
	assert.Equal(t, map[string]float64{"": 1}, values(t, reg, "promptgate_calls_total", "version"))
	assert.Empty(t, values(t, reg, "promptgate_unpriced_calls_total", "project"), "a refused call costs nothing")
}

func TestSeriesAreBounded(t *testing.T) {
	c, reg := newCollectors(t, metrics.CollectorOptions{MaxSeries: 10})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for v := range 50 {
				c.ObserveCall(sample(v))
				_ = g
			}
		})
	}
	wg.Wait()
	got := values(t, reg, "promptgate_calls_total", "version")
	assert.Len(t, got, 11)
	sum := 0.0
	for _, v := range got {
		sum += v
	}
	assert.EqualValues(t, 200, sum)
	assert.Equal(t, got["other"], testutil.ToFloat64(only(t, reg, "promptgate_metric_overflow_total")))

	late := sample(99) // two hours on, the others are idle and make room
	late.Start = late.Start.Add(2 * time.Hour)
	c.ObserveCall(late)
	got = values(t, reg, "promptgate_calls_total", "version")
	assert.EqualValues(t, 1, got["99"])
	assert.Len(t, got, 2, "%v", got)
}

// only reads one counter by its name.
func only(t *testing.T, reg *prometheus.Registry, name string) prometheus.Collector {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name})
	for _, f := range families {
		if f.GetName() == name {
			c.Add(f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	return c
}

func TestObserveFeedback(t *testing.T) {
	c, reg := newCollectors(t, metrics.CollectorOptions{MaxSeries: 2})
	yes, half := true, 0.5
	call := sample(3)
	c.ObserveFeedback(&metrics.Feedback{Project: "demo", Name: "helpful", Bool: &yes}, call)
	c.ObserveFeedback(&metrics.Feedback{Project: "demo", Name: "helpful", Number: &half}, call)
	c.ObserveFeedback(&metrics.Feedback{Project: "demo", Name: "tone", Category: "wrong tone"}, nil)
	c.ObserveFeedback(&metrics.Feedback{Project: "demo", Name: "made up by a caller", Bool: &yes}, nil)
	c.ObserveFeedback(&metrics.Feedback{Project: "demo", Name: "and another", Bool: &yes}, nil)
	assert.Equal(t, map[string]float64{"helpful": 2, "tone": 1, "other": 2}, values(t, reg, "promptgate_feedback_total", "name"))
	assert.Equal(t, map[string]float64{"helpful": 2, "other": 2}, values(t, reg, "promptgate_feedback_score", "name"))
	assert.Equal(t, map[string]float64{"3": 2, "": 1, "other": 2}, values(t, reg, "promptgate_feedback_total", "version"))
}

func TestRegisterSpool(t *testing.T) {
	_, reg := newCollectors(t, metrics.CollectorOptions{})
	require.NoError(t, metrics.RegisterSpool(reg, func() metrics.SpoolStats { return metrics.SpoolStats{Bytes: 7, Refused: 2} }))
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP promptgate_spool_bytes Recorded calls and feedback waiting to be committed, in bytes.
# TYPE promptgate_spool_bytes gauge
promptgate_spool_bytes 7
# HELP promptgate_spool_refused_total Records turned away because the spool or the disk was full.
# TYPE promptgate_spool_refused_total counter
promptgate_spool_refused_total 2
`), "promptgate_spool_bytes", "promptgate_spool_refused_total"))
	assert.Error(t, metrics.RegisterSpool(reg, nil))
	_, err := metrics.NewCollectors(reg, metrics.CollectorOptions{})
	assert.Error(t, err, "registered twice")
}

func BenchmarkObserveCall(b *testing.B) {
	c, _ := newCollectors(b, metrics.CollectorOptions{})
	for v := range 500 {
		c.ObserveCall(sample(v))
	}
	call := sample(250)
	b.ReportAllocs()
	for b.Loop() {
		c.ObserveCall(call)
	}
}

func TestObserveCallAllocatesNothing(t *testing.T) {
	c, _ := newCollectors(t, metrics.CollectorOptions{})
	call := sample(1)
	c.ObserveCall(call)
	assert.Zero(t, testing.AllocsPerRun(100, func() { c.ObserveCall(call) }))
}

// TestSeriesAreBoundedByTheRegistry: what callers and providers invent, models, names of scores, refused prompts, makes a constant number of series.
func TestSeriesAreBoundedByTheRegistry(t *testing.T) {
	c, reg := newCollectors(t, metrics.CollectorOptions{Catalogued: func(model string) bool { return model == "gpt-4o" }})
	lines := func() (n int) {
		families, err := reg.Gather()
		require.NoError(t, err)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				n += 1 + len(m.GetHistogram().GetBucket())
			}
		}
		return n
	}
	invent := func(from, to int) {
		yes := true
		for i := from; i < to; i++ {
			name := fmt.Sprintf("invented-%d", i)
			for _, outcome := range []metrics.Outcome{metrics.OutcomeOK, metrics.OutcomeProvider, metrics.OutcomeRefused} {
				c.ObserveCall(&metrics.Call{Project: "p", Provider: "openai", Model: name, Outcome: outcome, Start: time.Now()})
				c.ObserveCall(&metrics.Call{Project: "p", PromptName: name, Label: name, Outcome: outcome, Start: time.Now()})
			}
			c.ObserveFeedback(&metrics.Feedback{Project: "p", Name: name, Bool: &yes}, nil)
		}
	}
	invent(0, 200)
	before := lines()
	invent(200, 2000)
	require.Equal(t, before, lines())
	require.Less(t, before, 2000)

	c.ObserveCall(&metrics.Call{Project: "p", Provider: "openai", Model: "gpt-4o", Outcome: metrics.OutcomeProvider, Start: time.Now()})
	require.Equal(t, before, lines(), "a name that is known and did not answer is no model of ours yet")
	c.ObserveCall(&metrics.Call{Project: "p", Provider: "openai", Model: "gpt-4o", Outcome: metrics.OutcomeOK, Start: time.Now()})
	known := lines()
	require.Greater(t, known, before)
	c.ObserveCall(&metrics.Call{Project: "p", Provider: "openai", Model: "our-own", ModelListed: true, Outcome: metrics.OutcomeProvider, Start: time.Now()})
	require.Greater(t, lines(), known)
}
