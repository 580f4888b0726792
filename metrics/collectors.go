package metrics

import (
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultMaxSeries is how many combinations of project, prompt, version, label and model are kept apart by default.
const DefaultMaxSeries = 2000

const (
	otherLabel  = "other"
	idleSeconds = 3600 // a combination unseen for so long may make room for a new one
	sweepEvery  = 60   // seconds between two searches for idle combinations
)

var outcomes = [...]Outcome{ //nolint:gochecknoglobals // a constant
	OutcomeInternal, OutcomeOK, OutcomeRefused, OutcomeProvider, OutcomeTimeout, OutcomeTruncated, OutcomeCancelled,
}

var tokenKinds = [...]string{"input", "cached_input", "cache_write", "audio_input", "output", "reasoning", "audio_output"} //nolint:gochecknoglobals // a constant

// Collectors are the Prometheus metrics of calls and feedback. Their labels are names of the registry and of the routing, never the
// caller's text, and their number is bounded: combinations beyond the bound are counted together as "other" until an
// idle one makes room. All methods are safe for concurrent use.
type Collectors struct {
	calls, tokens, cost, unpriced, feedback       *prometheus.CounterVec
	duration, firstToken, overhead, feedbackScore *prometheus.HistogramVec
	overflow                                      prometheus.Counter
	inFlight                                      prometheus.Gauge

	max        int
	catalogued func(model string) bool
	bound      atomic.Pointer[map[seriesKey]*series] // replaced, never changed: readers take no lock
	mu         sync.Mutex                            // held to replace bound
	other      *series
	swept      int64 // second of the last search for idle series; under mu

	scores     map[scoreKey]*scoreSeries  // under mu: feedback is rare
	scoreNames map[string]map[string]bool // by project; under mu
	otherScore *scoreSeries
}

// CollectorOptions bound the number of series.
type CollectorOptions struct {
	MaxSeries int // combinations kept apart, for calls and for feedback each; 0 means DefaultMaxSeries
	// Catalogued reports whether a model's name is one that is generally known: where a provider takes any name, answered calls of such models are kept
	// apart as well. The set must be fixed. nil: none is.
	Catalogued func(model string) bool
}

// maxScoreNames is how many names of scores are kept apart in one project: callers choose them.
const maxScoreNames = 50

type seriesKey struct {
	project, prompt, label, model string
	version                       int
}

// series are the children of one combination, bound once: the hot path hashes one key and looks nothing else up.
type series struct {
	calls                          [len(outcomes)]prometheus.Counter
	tokens                         [len(tokenKinds)]prometheus.Counter
	cost, unpriced                 prometheus.Counter
	duration, firstToken, overhead prometheus.Observer
	seen                           atomic.Int64 // unix second of the newest call
}

type scoreKey struct {
	seriesKey
	name string
}

type scoreSeries struct {
	count prometheus.Counter
	score prometheus.Observer
}

// NewCollectors registers the metrics with reg. It fails when they are registered there already.
func NewCollectors(reg prometheus.Registerer, o CollectorOptions) (*Collectors, error) {
	if o.MaxSeries <= 0 {
		o.MaxSeries = DefaultMaxSeries
	}
	if o.Catalogued == nil {
		o.Catalogued = func(string) bool { return false }
	}
	combo := []string{"project", "prompt", "version", "label", "model"}
	with := func(more ...string) []string { return append(combo[:len(combo):len(combo)], more...) }
	score := []string{"project", "prompt", "version", "label", "name"}
	counter := func(name, help string, labels []string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "promptgate_" + name, Help: help}, labels)
	}
	histogram := func(name, help string, labels []string, buckets ...float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "promptgate_" + name, Help: help, Buckets: buckets}, labels)
	}
	c := &Collectors{
		calls:    counter("calls_total", "Finished calls by outcome.", with("outcome")),
		tokens:   counter("tokens_total", "Tokens as reported or estimated. cached_input, cache_write and audio_input are parts of input; reasoning and audio_output of output.", with("kind")),
		cost:     counter("cost_usd_total", "Cost of priced calls in US dollars.", combo),
		unpriced: counter("unpriced_calls_total", "Calls that used tokens and have no known cost.", combo),
		duration: histogram("call_duration_seconds", "From the request's arrival to the end of the answer.", combo,
			.025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300),
		firstToken: histogram("time_to_first_token_seconds", "From the request's arrival to the first token of the answer.", combo,
			.025, .05, .1, .25, .5, 1, 2, 3, 5, 10, 30, 60),
		overhead: histogram("gateway_overhead_seconds", "Duration less the time spent waiting for the provider.", combo,
			.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1),
		feedback: counter("feedback_total", "Scores given to calls.", score),
		feedbackScore: histogram("feedback_score", "Boolean (0, 1) and numeric scores given to calls.", score,
			-1, 0, .1, .25, .5, .75, .9, 1, 2, 3, 4, 5, 10),
		overflow: prometheus.NewCounter(prometheus.CounterOpts{Name: "promptgate_metric_overflow_total",
			Help: "Observations counted as \"other\" because there were too many combinations of labels."}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "promptgate_calls_in_flight", Help: "Calls being served now."}),
		max:      o.MaxSeries, catalogued: o.Catalogued, scoreNames: map[string]map[string]bool{},
		scores: map[scoreKey]*scoreSeries{},
	}
	for _, m := range []prometheus.Collector{c.calls, c.tokens, c.cost, c.unpriced, c.duration, c.firstToken, c.overhead,
		c.feedback, c.feedbackScore, c.overflow, c.inFlight} {
		if err := reg.Register(m); err != nil {
			return nil, err
		}
	}
	c.bound.Store(&map[seriesKey]*series{})
	return c, nil
}

// CallStarted counts a call that is being served; CallEnded takes it away again.
func (c *Collectors) CallStarted() { c.inFlight.Inc() }

// CallEnded is CallStarted's other half.
func (c *Collectors) CallEnded() { c.inFlight.Dec() }

// ObserveCall counts a finished call. A call whose prompt was not resolved counts without prompt, version and label, one that reached no
// provider without model: what the caller wrote in their place never becomes a label.
func (c *Collectors) ObserveCall(call *Call) {
	key := seriesKey{project: call.Project}
	if call.PromptID != "" {
		key.prompt, key.version, key.label = call.PromptName, call.Version, call.Label
	}
	if call.Provider != "" {
		if key.model = call.Model; !call.ModelListed && (call.Outcome != OutcomeOK || !c.catalogued(call.Model)) {
			key.model = otherLabel
		}
	}
	s := (*c.bound.Load())[key]
	if s == nil {
		s = c.bind(key, call.Start.Unix())
	}
	s.observe(call)
}

func (s *series) observe(call *Call) {
	if now := call.Start.Unix(); now > s.seen.Load() {
		s.seen.Store(now)
	}
	s.calls[outcomeIndex(call.Outcome)].Inc()
	s.duration.Observe(call.Total.Seconds())
	s.overhead.Observe(call.Overhead.Seconds())
	if call.FirstToken > 0 {
		s.firstToken.Observe(call.FirstToken.Seconds())
	}
	t := &call.Tokens
	if t.Reported || t.Estimated {
		for i, n := range [...]int64{t.Input, t.CachedInput, t.CacheWrite, t.AudioInput, t.Output, t.Reasoning, t.AudioOutput} {
			if n > 0 {
				s.tokens[i].Add(float64(n))
			}
		}
	}
	switch {
	case call.CostMicros != nil:
		if *call.CostMicros > 0 {
			s.cost.Add(float64(*call.CostMicros) / 1e6)
		}
	case Billable(call):
		s.unpriced.Inc()
	}
}

// Billable reports whether a call reached a provider that answered it, or may have: its unknown cost is a gap in the accounts. A call that we
// refused, or that no provider took, costs nothing.
func Billable(call *Call) bool {
	return call.Provider != "" && call.Outcome != OutcomeRefused && (call.Outcome != OutcomeProvider || call.Tokens.Reported)
}

func outcomeIndex(o Outcome) int {
	for i := range outcomes {
		if outcomes[i] == o {
			return i
		}
	}
	return 0
}

// bind makes the children of a new combination, or gives those of "other" when there are too many.
func (c *Collectors) bind(key seriesKey, now int64) *series {
	c.mu.Lock()
	defer c.mu.Unlock()
	bound := *c.bound.Load()
	if s := bound[key]; s != nil {
		return s
	}
	full := len(bound) >= c.max
	if full && now < c.swept+sweepEvery {
		return c.overflowed()
	}
	next := maps.Clone(bound) // the published map is never written
	if full {
		c.swept = now
		c.dropIdle(next, now)
	}
	if len(next) >= c.max {
		return c.overflowed()
	}
	// Cloned: a name may be a slice of a request's pooled buffer.
	key.project, key.prompt = strings.Clone(key.project), strings.Clone(key.prompt)
	key.label, key.model = strings.Clone(key.label), strings.Clone(key.model)
	s := c.newSeries(key.labels()...)
	s.seen.Store(now)
	next[key] = s
	c.bound.Store(&next)
	return s
}

func (c *Collectors) overflowed() *series {
	c.overflow.Inc()
	if c.other == nil {
		c.other = c.newSeries(otherLabel, otherLabel, otherLabel, otherLabel, otherLabel)
	}
	return c.other
}

// dropIdle forgets combinations that nobody called for a while. A call that is observed at this very moment may be lost to the
// metrics (not to the ledger).
func (c *Collectors) dropIdle(bound map[seriesKey]*series, now int64) {
	for key, s := range bound {
		if now-s.seen.Load() < idleSeconds {
			continue
		}
		delete(bound, key)
		lv := key.labels()
		for _, o := range outcomes {
			c.calls.DeleteLabelValues(append(lv, string(o))...)
		}
		for _, k := range tokenKinds {
			c.tokens.DeleteLabelValues(append(lv, k)...)
		}
		c.cost.DeleteLabelValues(lv...)
		c.unpriced.DeleteLabelValues(lv...)
		c.duration.DeleteLabelValues(lv...)
		c.firstToken.DeleteLabelValues(lv...)
		c.overhead.DeleteLabelValues(lv...)
	}
}

func (k seriesKey) labels() []string {
	version := ""
	if k.prompt != "" {
		version = strconv.Itoa(k.version)
	}
	lv := make([]string, 0, 6) // room for one more
	return append(lv, k.project, k.prompt, version, k.label, k.model)
}

func (c *Collectors) newSeries(lv ...string) *series {
	lv = append(make([]string, 0, len(lv)+1), lv...)
	s := &series{
		cost:       c.cost.WithLabelValues(lv...),
		unpriced:   c.unpriced.WithLabelValues(lv...),
		duration:   c.duration.WithLabelValues(lv...),
		firstToken: c.firstToken.WithLabelValues(lv...),
		overhead:   c.overhead.WithLabelValues(lv...),
	}
	for i, o := range outcomes {
		s.calls[i] = c.calls.WithLabelValues(append(lv, string(o))...)
	}
	for i, k := range tokenKinds {
		s.tokens[i] = c.tokens.WithLabelValues(append(lv, k)...)
	}
	return s
}

// ObserveFeedback counts a score. call is what it is about, nil when that is not known; only its project, prompt, version and
// label are read. Names of scores come from callers, so they count against the bound.
func (c *Collectors) ObserveFeedback(f *Feedback, call *Call) {
	key := scoreKey{name: f.Name}
	key.project = f.Project
	if call != nil && call.PromptID != "" {
		key.prompt, key.version, key.label = call.PromptName, call.Version, call.Label
	}
	s := c.score(key)
	s.count.Inc()
	switch {
	case f.Bool != nil && *f.Bool:
		s.score.Observe(1)
	case f.Bool != nil:
		s.score.Observe(0)
	case f.Number != nil:
		s.score.Observe(*f.Number)
	}
}

func (c *Collectors) score(key scoreKey) *scoreSeries {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := c.scoreNames[key.project]
	switch {
	case names[key.name]:
	case len(names) >= maxScoreNames:
		key.name = otherLabel
	default:
		if names == nil {
			names = map[string]bool{}
			c.scoreNames[key.project] = names
		}
		names[key.name] = true
	}
	if s := c.scores[key]; s != nil {
		return s
	}
	lv := key.labels()
	lv[4] = key.name
	if len(c.scores) >= c.max {
		c.overflow.Inc()
		if c.otherScore != nil {
			return c.otherScore
		}
		for i := range lv {
			lv[i] = otherLabel
		}
	}
	s := &scoreSeries{count: c.feedback.WithLabelValues(lv...), score: c.feedbackScore.WithLabelValues(lv...)}
	if len(c.scores) >= c.max {
		c.otherScore = s
	} else {
		c.scores[key] = s
	}
	return s
}
