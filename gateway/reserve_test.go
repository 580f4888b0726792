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
