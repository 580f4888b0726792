package gateway_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/openai"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
)

// fakeRuns are the calls of a recorder that were recorded as running and not as ended.
type fakeRuns struct {
	*fakeRecorder
	mu  sync.Mutex
	err error
}

func (f *fakeRuns) Runs(_ context.Context, before time.Time, limit int) (out []metrics.Call, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ended := map[string]bool{}
	for _, c := range f.all() {
		ended[c.ID] = ended[c.ID] || c.Outcome != metrics.OutcomeRunning
	}
	for _, c := range f.all() {
		if !ended[c.ID] && c.Start.Before(before) && len(out) < limit {
			out = append(out, c)
		}
	}
	return out, f.err
}

// withRuns is a gateway whose background responses are followed.
func withRuns(t *testing.T, change ...func(*setup)) (*env, *keeper) {
	var runs *fakeRuns
	e := newEnv(t, append(change, func(s *setup) {
		runs = &fakeRuns{fakeRecorder: s.deps.Recorder.(*fakeRecorder)}
		s.deps.Runs, s.opts.RunPoll = runs, 5*time.Millisecond
	})...)
	k := e.keeper()
	k.made = queued
	k.set("GET /v1/responses/resp_1", queued)
	e.follow()
	return e, k
}

// follow asks about runs until the test ends, or the function is called.
func (e *env) follow() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		assert.NoError(e.t, e.gw.Follow(ctx))
	}()
	stop = func() { cancel(); <-done }
	e.t.Cleanup(stop)
	return stop
}

func (k *keeper) set(address, answer string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answer[address] = answer
}

const queued = `{"id":"resp_1","object":"response","status":"queued","background":true,"error":null,"output":[],"usage":null,"model":"gpt-test"}`

const makeRun = `{"prompt":{"id":"support/triage","variables":{"ticket":"T"}},"background":true,"store":true}`

// ended waits for the record of what a run came to.
func (e *env) ended() metrics.Call {
	e.t.Helper()
	require.Eventually(e.t, func() bool {
		c := e.recorder.all()
		return len(c) > 1 && c[len(c)-1].Outcome != metrics.OutcomeRunning
	}, 10*time.Second, time.Millisecond)
	return e.recorder.last()
}

// TestBackground: a response that runs on is recorded as running, asked about though nobody fetches it, and billed when it has ended.
func TestBackground(t *testing.T) {
	for name, c := range map[string]struct {
		state   string
		outcome metrics.Outcome
		code    fault.Code
		tokens  metrics.Tokens
		micros  int64
	}{
		"completed": {aResponse, metrics.OutcomeOK, "", metrics.Tokens{Input: 11, CachedInput: 4, Output: 5, Reasoning: 2, Reported: true}, 13500},
		"incomplete": {strings.Replace(aResponse, `"completed"`, `"incomplete"`, 1), metrics.OutcomeOK, "",
			metrics.Tokens{Input: 11, CachedInput: 4, Output: 5, Reasoning: 2, Reported: true}, 13500},
		"without a usage": {strings.Replace(aResponse, ","+responseUsage, "", 1), metrics.OutcomeOK, "", metrics.Tokens{Output: 21, Estimated: true}, 0},
		"failed": {strings.Replace(aResponse, `"completed","error":null`, `"failed","error":{"code":"server_error"}`, 1), metrics.OutcomeProvider, fault.ProviderError,
			metrics.Tokens{Input: 11, CachedInput: 4, Output: 5, Reasoning: 2, Reported: true}, 13500},
		"cancelled": {strings.Replace(queued, `"queued"`, `"cancelled"`, 1), metrics.OutcomeCancelled, "", metrics.Tokens{Estimated: true}, 0},
		"lost":      {"", metrics.OutcomeTruncated, fault.ProviderTruncated, metrics.Tokens{Estimated: true}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			e, k := withRuns(t)
			a := e.respond(makeRun)
			require.Equal(t, 200, a.status, "%s", a.body)
			assert.Equal(t, queued, string(a.body))
			assert.Empty(t, a.header.Get("x-promptgate-cost-usd"), "nobody knows yet")
			begun := e.recorder.all()[0]
			assert.Equal(t, metrics.OutcomeRunning, begun.Outcome)
			assert.Equal(t, "resp_1", begun.CompletionID)
			assert.Nil(t, begun.CostMicros)
			assert.True(t, begun.Tokens.Estimated)
			require.Len(t, begun.Attempts, 1)
			assert.Equal(t, metrics.OutcomeRunning, begun.Attempts[0].Outcome)
			assert.Equal(t, metrics.Tokens{}, begun.Attempts[0].Tokens)
			require.Eventually(t, func() bool { return k.count() >= 4 }, 10*time.Second, time.Millisecond, "it is asked about again and again")
			require.Len(t, e.recorder.all(), 1)
			assert.Zero(t, e.meter.observed.Load())
			k.set("GET /v1/responses/resp_1", c.state)

			rec := e.ended()
			assert.Equal(t, begun.ID, rec.ID)
			assert.Equal(t, begun.Start, rec.Start)
			assert.Equal(t, []any{begun.PromptID, begun.Version, begun.Label, begun.Principal, begun.Endpoint}, []any{rec.PromptID, rec.Version, rec.Label, rec.Principal, rec.Endpoint})
			assert.Equal(t, c.outcome, rec.Outcome)
			assert.Equal(t, string(c.code), rec.ErrorCode)
			if c.tokens.Estimated {
				c.tokens.Input = begun.Tokens.Input
				require.Positive(t, c.tokens.Input)
				c.micros = c.tokens.Input*1000 + c.tokens.Output*500
			}
			assert.Equal(t, c.tokens, rec.Tokens)
			require.NotNil(t, rec.CostMicros)
			assert.Equal(t, c.micros, *rec.CostMicros)
			require.Len(t, rec.Attempts, 1)
			assert.Equal(t, c.tokens, rec.Attempts[0].Tokens)
			assert.Equal(t, c.outcome, rec.Attempts[0].Outcome)
			assert.Positive(t, rec.Total)
			assert.Equal(t, int64(1), e.meter.observed.Load())
			sent := k.count()
			time.Sleep(50 * time.Millisecond)
			assert.Equal(t, sent, k.count(), "it is asked about no more")
			e.recorder.mu.Lock()
			defer e.recorder.mu.Unlock()
			assert.Zero(t, e.recorder.promises)
		})
	}
}

// TestBackgroundEndsAtOnce: one that is done by the time of its answer is a call like any other, and so is one that asked for no such thing.
func TestBackgroundEndsAtOnce(t *testing.T) {
	e, k := withRuns(t)
	k.made = aResponse
	require.Equal(t, 200, e.respond(makeRun).status)
	rec := e.only()
	assert.Equal(t, metrics.OutcomeOK, rec.Outcome)
	assert.True(t, rec.Tokens.Reported)

	k.made = queued
	a := e.respond(strings.Replace(makeRun, "true", "false", 1))
	assert.Equal(t, 502, a.status, "an answer that says nothing, to who asked for one")
	assert.Equal(t, metrics.OutcomeProvider, e.recorder.last().Outcome)
}

// TestBackgroundStreams: a background response goes on when its stream is cut, by either side.
func TestBackgroundStreams(t *testing.T) {
	streaming := strings.Replace(makeRun, `"store"`, `"stream":true,"store"`, 1)
	e, k := withRuns(t)
	serve := e.upstream.serve
	script := func(h http.HandlerFunc) {
		e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				h(w, r)
				return
			}
			serve(w, r)
		})
	}
	script(respondEvents(responseStream()...))
	require.Equal(t, 200, e.respond(streaming).status)
	assert.Equal(t, metrics.OutcomeOK, e.only().Outcome, "one that came to its end is settled by it")

	script(respondEvents(responseStream()[:4]...))
	a := e.respond(streaming)
	assert.Contains(t, string(a.body), "provider_truncated", "the caller learns that the stream broke off")
	assert.Equal(t, metrics.OutcomeRunning, e.recorder.all()[1].Outcome)
	k.set("GET /v1/responses/resp_1", aResponse)
	rec := e.ended()
	assert.Equal(t, e.recorder.all()[1].ID, rec.ID)
	assert.Equal(t, metrics.OutcomeOK, rec.Outcome)
	assert.Equal(t, int64(11), rec.Tokens.Input)

	script(respondEvents(responseStream()[:4]...))
	e.respond(strings.Replace(streaming, `"background":true`, `"background":false`, 1))
	assert.Equal(t, metrics.OutcomeTruncated, e.recorder.last().Outcome, "one that was to end with its stream has")
}

// TestBackgroundOfAnother: runs that another replica, or an earlier life of this one, left behind are taken over; a provider or a database that
// fails for a while loses none, and one that is gone ends them.
func TestBackgroundOfAnother(t *testing.T) {
	var runs *fakeRuns
	e := newEnv(t, func(s *setup) {
		runs = &fakeRuns{fakeRecorder: s.deps.Recorder.(*fakeRecorder)}
		s.deps.Runs, s.opts.RunPoll = runs, time.Millisecond
	})
	k := e.keeper()
	k.set("GET /v1/responses/resp_1", aResponse)
	left := metrics.Call{ID: "call_left", Project: project, Principal: "key_caller", PromptID: "pmpt_x", Version: 3, Provider: "up", Model: "gpt-test",
		Endpoint: "responses", CompletionID: "resp_1", Start: time.Now().Add(-time.Hour), Outcome: metrics.OutcomeRunning, Tokens: metrics.Tokens{Input: 9, Estimated: true}}
	gone := left
	gone.ID, gone.Provider, gone.Start = "call_gone", "nobody", time.Now().Add(-25*time.Hour)
	disabled := left
	disabled.ID, disabled.Provider = "call_disabled", "nobody"
	bad := left
	bad.ID, bad.CompletionID = "call_bad", "resp_1/../../files"
	for _, c := range []*metrics.Call{&left, &gone, &bad, &disabled} {
		require.NoError(t, e.recorder.RecordCall(t.Context(), c))
	}
	e.follow()
	require.Eventually(t, func() bool { return len(e.recorder.all()) == 7 }, 10*time.Second, time.Millisecond)
	came := map[string]metrics.Call{}
	for _, c := range e.recorder.all()[4:] {
		came[c.ID] = c
	}
	assert.NotContains(t, came, "call_disabled", "a provider may be enabled again")
	assert.Equal(t, metrics.OutcomeOK, came["call_left"].Outcome)
	assert.Equal(t, int64(5), came["call_left"].Tokens.Output)
	assert.GreaterOrEqual(t, came["call_left"].Total, time.Hour)
	for _, id := range []string{"call_gone", "call_bad"} {
		assert.Equal(t, metrics.OutcomeTruncated, came[id].Outcome, id)
		assert.Equal(t, int64(9), came[id].Tokens.Input, id)
	}
	assert.Equal(t, "GET /v1/responses/resp_1", k.last())
}

// TestBackgroundFaults: what fails for a while is asked again.
func TestBackgroundFaults(t *testing.T) {
	for name, trouble := range map[string]func(e *env, k *keeper) (mend func()){
		"another answer": func(_ *env, k *keeper) func() {
			k.set("GET /v1/responses/resp_1", `{"id":"resp_2","status":"completed","output":[{}]}`)
			return func() {}
		},
		"half an answer": func(_ *env, k *keeper) func() {
			k.set("GET /v1/responses/resp_1", aResponse[:len(aResponse)-9])
			return func() {}
		},
		"cannot be kept": func(e *env, k *keeper) func() { return e.recorder.breaks(k) },
		"its key is wrong": func(e *env, _ *keeper) func() {
			old := e.upstream.serve
			e.upstream.set(respondJSON(401, "{}"))
			return func() { e.upstream.set(old) }
		},
		"it fails": func(e *env, _ *keeper) func() {
			old := e.upstream.serve
			e.upstream.set(respondJSON(503, "{}"))
			return func() { e.upstream.set(old) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			e, k := withRuns(t)
			require.Equal(t, 200, e.respond(makeRun).status)
			mend := trouble(e, k)
			sent := e.upstream.count()
			require.Eventually(t, func() bool { return e.upstream.count() > sent+2 }, 10*time.Second, time.Millisecond)
			for _, c := range e.recorder.all() {
				require.Equal(t, metrics.OutcomeRunning, c.Outcome, "it is not over yet")
			}
			mend()
			k.set("GET /v1/responses/resp_1", aResponse)
			assert.Equal(t, metrics.OutcomeOK, e.ended().Outcome)
		})
	}
}

// breaks makes a recorder that has no room while a run has ended.
func (f *fakeRecorder) breaks(k *keeper) (mend func()) {
	f.mu.Lock()
	f.full = errBroken
	f.mu.Unlock()
	k.set("GET /v1/responses/resp_1", aResponse)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.full = nil
	}
}

// TestBackgroundOfAProviderThatHangs: it keeps the runs of no other waiting.
func TestBackgroundOfAProviderThatHangs(t *testing.T) {
	var asked atomic.Int64
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked.Add(1); <-r.Context().Done() }))
	t.Cleanup(hangs.Close)
	e, k := withRuns(t)
	up, err := openai.New(upAt(hangs.URL, "hangs", "sk-provider"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = up.Close() })
	e.router.targets["hangs"] = []provider.Target{{Provider: up, Model: "hangs"}}
	for i := range 20 {
		require.NoError(t, e.recorder.RecordCall(t.Context(), &metrics.Call{ID: "call_" + itoa(i), Project: project, Principal: "key_caller", Provider: "hangs", Model: "hangs",
			Endpoint: "responses", CompletionID: "resp_" + itoa(i), Start: time.Now().Add(-time.Hour), Outcome: metrics.OutcomeRunning}))
	}
	require.Eventually(t, func() bool { return asked.Load() >= 8 }, 10*time.Second, time.Millisecond)
	require.Equal(t, 200, e.respond(makeRun).status)
	k.set("GET /v1/responses/resp_1", aResponse)
	assert.Equal(t, metrics.OutcomeOK, e.ended().Outcome)
}
