package gateway_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy/limits"
)

// TestNoCallThatCannotBeRecorded: without room for its record a call is refused before a provider is asked, unless the operator chose otherwise; and
// every promise of room is given back, whatever came of the call.
func TestNoCallThatCannotBeRecorded(t *testing.T) {
	e := newEnv(t)
	promises := func(e *env) int {
		e.recorder.mu.Lock()
		defer e.recorder.mu.Unlock()
		return e.recorder.promises
	}
	fill := func(e *env, err error) {
		e.recorder.mu.Lock()
		defer e.recorder.mu.Unlock()
		e.recorder.full = err
	}
	require.Equal(t, http.StatusOK, e.chat(plainCall).status)
	require.Equal(t, http.StatusForbidden, e.chat(plainCall, "Authorization", "Bearer prompts").status)
	e.upstream.set(respondJSON(500, `{}`))
	require.Equal(t, http.StatusBadGateway, e.chat(plainCall, "X-Stainless-Retry-Count", "1").status)
	require.Eventually(t, func() bool { return promises(e) == 0 }, 5*time.Second, time.Millisecond)

	fill(e, fault.New(fault.StorageFull, "The disk is full."))
	asked := e.upstream.count()
	a := e.chat(plainCall)
	require.Equal(t, http.StatusServiceUnavailable, a.status)
	require.Equal(t, "overloaded", a.code())
	require.NotContains(t, a.message(), "disk", "what our disk does is no caller's business")
	require.Equal(t, asked, e.upstream.count())

	careless := newEnv(t, func(s *setup) { s.opts.ServeUnrecorded = true })
	fill(careless, fault.New(fault.StorageFull, "The disk is full."))
	require.Equal(t, http.StatusOK, careless.chat(plainCall).status)
	require.Zero(t, promises(careless))
}

// budget is a limiter of money, as one could be: it reserves for the dearest target.
type budget struct {
	mu       sync.Mutex
	left     int64
	asked    []limits.Ask
	reserved []int64
	settled  []limits.Spent
	released int
}

func (b *budget) Reserve(_ context.Context, ask limits.Ask) (limits.Reservation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	micros, known := ask.Cost.Dearest(1000)
	b.asked, b.reserved = append(b.asked, ask), append(b.reserved, micros)
	if !known || micros > b.left {
		return limits.Reservation{}, fault.New(fault.BudgetExceeded, "The budget is spent.")
	}
	b.left -= micros
	return limits.Grant(b, ask.Principal, micros), nil
}

func (b *budget) Settle(_ string, amount int64, spent limits.Spent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += amount - spent.Micros
	b.settled = append(b.settled, spent)
}

func (b *budget) Release(_ string, amount int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += amount
	b.released++
}

// TestBudgetOfPassing: embeddings are reserved by their input, completions by each answer of each text; nothing is reserved for what is free, and what
// bytes do not tell is unknown.
func TestBudgetOfPassing(t *testing.T) {
	b := &budget{left: 1_000_000}
	e := newEnv(t, func(s *setup) { s.deps.Limiters, s.deps.Pricer = []limits.Limiter{b}, perToken{} })
	for _, p := range allPassing() {
		e.upstream.set(p.serve)
		b.reserved, b.settled = nil, nil
		body, kind := p.request("gpt-test")
		a := e.post("/v1/"+p.path, body, "Content-Type", kind)
		switch p.path {
		case "embeddings":
			assert.EqualValues(t, len(body)/4, b.reserved[0])
		case "completions":
			assert.EqualValues(t, len(body)/4+1000, b.reserved[0])
			require.Equal(t, 200, e.post("/v1/completions", `{"model":"gpt-test","prompt":["a","b"],"n":2,"best_of":3,"max_tokens":100}`).status)
			assert.EqualValues(t, 75/4+2*3*100, b.reserved[1])
			require.Equal(t, 200, e.post("/v1/completions", `{"model":"gpt-test","prompt":[1,2,3],"max_tokens":100}`).status)
			assert.EqualValues(t, 52/4+100, b.reserved[2], "tokens are one text")
		case "moderations":
			assert.Zero(t, b.reserved[0])
			assert.Equal(t, limits.Spent{Priced: true}, b.settled[0])
		default:
			assert.Equal(t, "budget_exceeded", a.code(), "a budget refuses what it cannot count: %s", p.path)
			continue
		}
		assert.Equal(t, 200, a.status, "%s", a.body)
	}
}

// TestBudgetOfACall: what a limiter reserves is for the dearest target, and comes back once: with what was spent when somebody answered, whole when
// nobody did, and as well when a stage or a closer panics.
func TestBudgetOfACall(t *testing.T) {
	b := &budget{left: 1_000_000}
	e := newEnv(t, func(s *setup) { s.deps.Limiters, s.deps.Pricer = []limits.Limiter{b}, perToken{} })
	first := e.router.targets["gpt-test"][0]
	e.router.targets["gpt-test"] = []provider.Target{first, {Provider: first.Provider, Model: "dear"}}

	require.Equal(t, http.StatusOK, e.chat(triage).status)
	require.Len(t, b.settled, 1)
	assert.Equal(t, limits.Spent{Tokens: 13, Micros: 13, Priced: true}, b.settled[0])
	assert.EqualValues(t, 1_000_000-13, b.left)
	assert.Equal(t, "pmpt_supporttriage", b.asked[0].Prompt)
	input := b.reserved[0] - 1000*10
	assert.Positive(t, input, "the dear target's price")

	require.Equal(t, http.StatusOK, e.chat(strings.Replace(triage, "{", `{"max_tokens":50,"n":2,`, 1)).status)
	assert.Less(t, b.reserved[1]-100*10, input+100*10, "what the request bounds")
	assert.GreaterOrEqual(t, b.reserved[1], input+100*10)

	for _, bound := range []string{`"max_tokens":1e2`, `"max_tokens":"100"`, `"max_completion_tokens":100.0`, `"n":"2","max_tokens":50`} {
		require.Equal(t, http.StatusOK, e.chat(strings.Replace(triage, "{", "{"+bound+",", 1)).status, bound)
		got := b.reserved[len(b.reserved)-1]
		assert.Less(t, got-100*10, input+100*10, bound)
		assert.GreaterOrEqual(t, got, input+100*10, bound)
	}
	require.Equal(t, http.StatusOK, e.chat(strings.Replace(triage, "{", `{"n":3,`, 1)).status)
	assert.GreaterOrEqual(t, b.reserved[len(b.reserved)-1], input+3*1000*10, "several answers without a bound")
	tools := `"tools":[{"type":"function","function":{"name":"f","description":"` + strings.Repeat("long ", 1000) + `"}}],`
	require.Equal(t, http.StatusOK, e.chat(strings.Replace(triage, "{", "{"+tools, 1)).status)
	assert.Greater(t, b.reserved[len(b.reserved)-1], b.reserved[0]+1000*10, "tools are input, too")

	b.left = 1_000_000
	e.upstream.set(respondJSON(500, `{}`))
	require.Equal(t, http.StatusBadGateway, e.chat(triage, "X-Stainless-Retry-Count", "1").status)
	b.left = 10
	a := e.chat(triage)
	require.Equal(t, http.StatusTooManyRequests, a.status)
	require.Equal(t, "budget_exceeded", a.code())
	assert.EqualValues(t, 10, b.left)

	for name, change := range map[string]func(s *setup){
		"stage":  func(s *setup) { s.deps.Forwarder = panicking{} },
		"closer": func(s *setup) { s.deps.Recorder = panickingRecorder{s.deps.Recorder} },
	} {
		b := &budget{left: 1_000_000}
		e := newEnv(t, change, func(s *setup) { s.deps.Limiters, s.deps.Pricer = []limits.Limiter{b}, perToken{} })
		assert.Equal(t, http.StatusInternalServerError, e.chat(triage).status, name)
		assert.Equal(t, 1, b.released+len(b.settled), name)
		assert.Equal(t, e.meter.started.Load(), e.meter.ended.Load(), name)
	}
}

type panickingRecorder struct{ metrics.Recorder }

func (panickingRecorder) RecordCall(context.Context, *metrics.Call) error { panic("record") }

// perToken prices a token at one micro-dollar, and at ten for the model called dear.
type perToken struct{}

func (perToken) Cost(_ *metrics.PriceList, model string, _ time.Time, t metrics.Tokens) (int64, bool) {
	if model == "dear" {
		return 10 * (t.Input + t.Output), true
	}
	return t.Input + t.Output, true
}

// TestWhatAProviderGotIsOwed: a call that came to no answer after its request had gone out is its provider's, with an estimate of what that may
// charge: unknown is not nothing. One that no provider got costs nothing.
func TestWhatAProviderGotIsOwed(t *testing.T) {
	half := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "9999")
		_, _ = w.Write([]byte(`{"id":"1","choices":[{"message":{"content":"` + strings.Repeat("text ", 400)))
	}
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, one := range map[string]struct {
		answer http.HandlerFunc
		output int64
		owed   bool
	}{
		"in time":             {hang, 0, true},
		"cut":                 {half, 500, true},
		"nobody there":        {nil, 0, false},
		"an error as success": {respondJSON(200, `{"error":{"message":"no"}}`), 0, false},
		"refused":             {respondJSON(400, `{"error":{"message":"no"}}`), 0, false},
		"failed":              {respondJSON(500, `{}`), 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := &budget{left: 1_000_000}
			e := newEnv(t, func(s *setup) { s.deps.Limiters, s.deps.Pricer = []limits.Limiter{b}, perToken{} }, func(s *setup) { s.up.HeadTimeout = 200 * time.Millisecond })
			if one.answer == nil {
				e.upstream.Close()
			} else {
				e.upstream.set(one.answer)
			}
			require.GreaterOrEqual(t, e.chat(triage, "X-Stainless-Retry-Count", "1").status, 400)
			c := e.only()
			assert.Equal(t, one.owed, c.CostMicros != nil, "%+v", c)
			assert.Equal(t, one.owed, c.Tokens.Estimated)
			if one.owed {
				assert.Positive(t, c.Tokens.Input)
				assert.GreaterOrEqual(t, c.Tokens.Output, one.output)
				assert.Equal(t, "up", c.Provider)
				require.Len(t, b.settled, 1)
				assert.Equal(t, *c.CostMicros, b.settled[0].Micros)
			}
			assert.EqualValues(t, 1_000_000, b.left+cost(&c), "the rest came back")
		})
	}
}

func cost(c *metrics.Call) int64 {
	if c.CostMicros == nil {
		return 0
	}
	return *c.CostMicros
}
