package gateway_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway"
	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/metrics"
)

func TestProvidersFaults(t *testing.T) {
	for _, c := range []struct {
		name    string
		serve   http.HandlerFunc
		status  int
		code    string
		outcome metrics.Outcome
		asked   int
	}{
		{"500", respondJSON(500, `{"error":{"message":"SECRETDETAIL"}}`), 502, "provider_error", metrics.OutcomeProvider, 3},
		{"503", respondJSON(503, `{}`), 502, "provider_error", metrics.OutcomeProvider, 3},
		{"401", respondJSON(401, `{"error":{"message":"SECRETDETAIL"}}`), 502, "provider_auth", metrics.OutcomeProvider, 1},
		{"403", respondJSON(403, `SECRETDETAIL`), 502, "provider_auth", metrics.OutcomeProvider, 1},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, 502, "provider_error", metrics.OutcomeProvider, 1},
		{"web page", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>SECRETDETAIL</html>")
		}, 502, "provider_error", metrics.OutcomeProvider, 1},
		{"plain text", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, "SECRETDETAIL")
		}, 502, "provider_error", metrics.OutcomeProvider, 1},
		{"no HTTP", hijacked("SSH-2.0-OpenSSH\r\n"), 502, "provider_error", metrics.OutcomeProvider, 1},
		{"length too long", hijacked(jsonHead + "Content-Length: 500\r\n\r\n" + okJSON), 502, "provider_truncated", metrics.OutcomeTruncated, 1},
		{"cut in a chunk", hijacked(jsonHead + "Transfer-Encoding: chunked\r\n\r\n" + chunk(`{"id":`)), 502, "provider_truncated", metrics.OutcomeTruncated, 1},
		{"half a body in whole chunks", hijacked(jsonHead + "Transfer-Encoding: chunked\r\n\r\n" + chunk(`{"id":`) + "0\r\n\r\n"), 502, "provider_truncated", metrics.OutcomeTruncated, 1},
		{"half a body until close", hijacked(jsonHead + "Connection: close\r\n\r\n" + okJSON[:40]), 502, "provider_truncated", metrics.OutcomeTruncated, 1},
		{"no head in time", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 504, "provider_timeout", metrics.OutcomeTimeout, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t, func(s *setup) { s.up.HeadTimeout = 200 * time.Millisecond })
			e.upstream.set(c.serve)
			a := e.chat(triage)
			assert.Equal(t, c.status, a.status, string(a.body))
			assert.Equal(t, c.code, a.code())
			assert.Equal(t, "provider", a.header.Get("X-Promptgate-Error-Origin"))
			assert.NotContains(t, string(a.body), "SECRETDETAIL")
			assert.Equal(t, "1", a.header.Get("X-Promptgate-Version"))
			rec := e.only()
			assert.Equal(t, c.outcome, rec.Outcome)
			assert.Equal(t, c.code, rec.ErrorCode)
			assert.Len(t, rec.Attempts, c.asked)
			assert.Equal(t, c.asked, e.upstream.count())
		})
	}
}

func TestProvidersRefusalPasses(t *testing.T) {
	for _, status := range []int{400, 404, 422, 429} {
		e := newEnv(t)
		body := `{"error": {"message":"too long" ,"code":"context_length_exceeded"}}`
		e.upstream.set(func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Set("Content-Type", "application/json; charset=utf-8")
			h.Set("X-Request-Id", "req_1")
			h.Set("Openai-Processing-Ms", "12")
			h.Set("Openai-Organization", "org-secret")
			h.Set("X-Ratelimit-Remaining-Tokens", "7")
			h.Set("Retry-After", "0")
			h.Set("Set-Cookie", "session=secret")
			h.Set("Server", "cloud")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
		a := e.chat(triage)
		assert.Equal(t, status, a.status)
		assert.Equal(t, body, string(a.body))
		assert.Equal(t, "provider", a.header.Get("X-Promptgate-Error-Origin"))
		assert.Equal(t, "application/json; charset=utf-8", a.header.Get("Content-Type"))
		for key, want := range map[string]string{"X-Request-Id": "req_1", "Openai-Processing-Ms": "12", "Retry-After": "0", "X-Ratelimit-Remaining-Tokens": "7",
			"Set-Cookie": "", "Server": "", "Openai-Organization": "", "X-Promptgate-Feedback-Token": ""} {
			assert.Equal(t, want, a.header.Get(key), key)
		}
		rec := e.only()
		assert.Equal(t, metrics.OutcomeProvider, rec.Outcome)
		assert.Equal(t, status, rec.Status)
	}
}

func TestUnreachableProvider(t *testing.T) {
	e := newEnv(t, func(s *setup) { s.up.BaseURL = "http://127.0.0.1:1/v1" })
	a := e.chat(triage)
	assert.Equal(t, 502, a.status)
	assert.Equal(t, "provider_error", a.code())
	assert.NotContains(t, string(a.body), "127.0.0.1")
	assert.Equal(t, metrics.OutcomeProvider, e.only().Outcome)
}

func TestFallbackGetsItsOwnModel(t *testing.T) {
	e := newEnv(t)
	first, second := e.router.targets["gpt-test"][0], e.router.targets["gpt-test"][0]
	first.Model, second.Model = "first", "second"
	e.router.targets["gpt-test"] = []provider.Target{first, second}
	var n atomic.Int64
	e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) <= 3 {
			respondJSON(500, `{}`)(w, r)
			return
		}
		respondJSON(200, okJSON)(w, r)
	})
	a := e.chat(triage)
	require.Equal(t, 200, a.status)
	assert.Equal(t, "second", a.header.Get("X-Promptgate-Model"))
	sent, _ := e.upstream.last()
	assert.Contains(t, string(sent), `"model":"second"`)
	rec := e.only()
	require.Len(t, rec.Attempts, 4)
	assert.Equal(t, metrics.OutcomeProvider, rec.Attempts[0].Outcome)
	assert.False(t, rec.Attempts[0].Tokens.Reported)
	assert.True(t, rec.Attempts[3].Tokens.Reported)
	assert.Nil(t, rec.CostMicros, "no price for that model: unknown, not zero")
}

func TestLargeAnswer(t *testing.T) {
	large := `{"x":"` + strings.Repeat("0123456789", 60_000) + `"}`
	t.Run("whole", func(t *testing.T) {
		e := newEnv(t, func(s *setup) { s.opts.BufferAnswer = 100_000 })
		e.upstream.set(respondJSON(200, large))
		recorded := false
		e.recorder.hook = func(*metrics.Call) { recorded = true }
		a := e.chat(triage)
		require.NoError(t, a.err)
		assert.True(t, large == string(a.body))
		assert.True(t, recorded, "before the answer ended")
		assert.Equal(t, metrics.OutcomeOK, e.only().Outcome)
	})
	t.Run("its usage", func(t *testing.T) {
		e := newEnv(t, func(s *setup) { s.opts.BufferAnswer = 100_000 })
		answer := `{"id":"c-9","choices":[{"message":{"content":"` + strings.Repeat("0123456789", 60_000) + `"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":9}}`
		e.upstream.set(respondJSON(200, answer))
		require.Equal(t, 200, e.chat(triage).status)
		rec := e.only()
		assert.Equal(t, metrics.Tokens{Input: 7, Output: 9, Reported: true}, rec.Tokens)
		assert.Equal(t, "c-9", rec.CompletionID)
		assert.NotNil(t, rec.CostMicros)
	})
	t.Run("without usage", func(t *testing.T) {
		e := newEnv(t, func(s *setup) { s.opts.BufferAnswer = 100_000 })
		e.upstream.set(respondJSON(200, large))
		require.Equal(t, 200, e.chat(triage).status)
		rec := e.only()
		assert.True(t, rec.Tokens.Estimated)
		assert.EqualValues(t, len(large)/4, rec.Tokens.Output)
	})
	for name, raw := range map[string]string{
		"cut": jsonHead + "Content-Length: 700000\r\n\r\n" + large,
		// Without a declared length nothing but an abort tells the caller: the server would end the chunks properly.
		"cut in chunks": jsonHead + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat(chunk(large[:60_000]), 5),
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, func(s *setup) { s.opts.BufferAnswer = 100_000 })
			e.upstream.set(hijacked(raw))
			a := e.chat(triage)
			require.Error(t, a.err, "the caller must see that it is not whole")
			assert.Equal(t, metrics.OutcomeTruncated, e.only().Outcome)
			e.upstream.set(respondJSON(200, okJSON))
			assert.Equal(t, 200, e.chat(triage).status)
		})
	}
}

func TestRecordedBeforeTheAnswerEnds(t *testing.T) {
	for _, body := range []string{triage, streamed} {
		e := newEnv(t)
		e.upstream.set(respondEvents(delta("Hi"), finishEvent, doneEvent))
		if body == triage {
			e.upstream.set(respondJSON(200, okJSON))
		}
		hold := make(chan struct{})
		e.recorder.hook = func(*metrics.Call) { <-hold }
		ended := make(chan answer, 1)
		go func() { ended <- e.chat(body) }()
		select {
		case <-ended:
			t.Fatal("the answer ended before its record was kept")
		case <-time.After(30 * time.Millisecond): // long enough for an answer that does not wait
		}
		close(hold)
		assert.Equal(t, 200, (<-ended).status)
	}
}

type panicking struct{ gateway.Forwarder }

func TestPanicIsRecordedAndSaysNothing(t *testing.T) {
	e := newEnv(t, func(s *setup) { s.deps.Forwarder = panicking{} }) // a nil pointer inside
	a := e.chat(triage)
	assert.Equal(t, 500, a.status)
	assert.Equal(t, "internal_error", a.code())
	assert.NotContains(t, string(a.body), "nil pointer")
	assert.Contains(t, e.logs.String(), "panic while serving")
	assert.NotContains(t, e.logs.String(), "Card charged")
	rec := e.only()
	assert.Equal(t, metrics.OutcomeInternal, rec.Outcome)
	assert.EqualValues(t, 1, e.meter.ended.Load(), "its place is given back")
}
