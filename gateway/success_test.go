package gateway_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/openai"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/registry/template"
)

// second adds a further target behind the scripted upstream: one that answers.
func (e *env) second(t *testing.T) *upstream {
	t.Helper()
	u := newUpstream(t)
	t.Cleanup(u.Close)
	p, err := openai.New(upAt(u.URL, "second", "sk-2"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	e.router.targets["gpt-test"] = append(e.router.targets["gpt-test"], provider.Target{Provider: p, Model: "gpt-test"})
	return u
}

const plainCall = `{"model":"gpt-test","messages":[{"role":"user","content":"x"}]}`
const plainStream = `{"model":"gpt-test","stream":true,"messages":[{"role":"user","content":"x"}]}`

// TestSuccessHoldsAnAnswer: a status of success without an answer is the provider's failure: 502, an error in the record, and the next target answers instead.
func TestSuccessHoldsAnAnswer(t *testing.T) {
	event := func(data string) string { return "data: " + data + "\n\n" }
	role := event(`{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}`)
	for name, c := range map[string]struct {
		body   string
		stream bool
	}{
		"an error":                {`{"error":{"message":"quota","code":429}}`, false},
		"an error beside choices": {`{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}],"error":{"message":"m"}}`, false},
		"null":                    {`null`, false},
		"nothing":                 {``, false},
		"an empty object":         {`{}`, false},
		"no choices":              {`{"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":0}}`, false},
		"choices null":            {`{"id":"c","choices":null}`, false},
		"every choice failed":     {`{"id":"c","choices":[{"finish_reason":"error","message":{"content":""}}]}`, false},
		"a list":                  {`[{"error":{"message":"m"}}]`, false},
		"a text":                  {`"overloaded"`, false},
		"cut":                     {`{"id":"c","choices":[{"message":{"content":"half`, false},
		"only the end":            {doneEvent, true},
		"no event":                {": ping\n\n", true},
		"an error first":          {event(`{"error":{"message":"m"}}`) + doneEvent, true},
		"an error event":          {"event: error\ndata: {\"message\":\"m\"}\n\n", true},
		"finish error first":      {event(`{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"error"}]}`) + doneEvent, true},
		"CRLF, then the end":      {": ping\r\n\r\ndata: [DONE]\r\n\r\n", true},
		"an empty stream":         {"", true},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			serve := respondJSON(http.StatusOK, c.body)
			request := plainCall
			if c.stream {
				serve, request = respondEvents(c.body), plainStream
			}
			e.upstream.set(serve)
			a := e.chat(request)
			require.Equal(t, http.StatusBadGateway, a.status, "%s", a.body)
			require.Equal(t, "provider", a.header.Get("X-Promptgate-Error-Origin"))
			require.Contains(t, []string{"provider_error", "provider_truncated"}, a.code())
			rec := e.recorder.last()
			require.Contains(t, []metrics.Outcome{metrics.OutcomeProvider, metrics.OutcomeTruncated}, rec.Outcome)
			require.Len(t, rec.Attempts, 1)
			require.NotEqual(t, metrics.OutcomeOK, rec.Attempts[0].Outcome)

			second := e.second(t)
			if c.stream {
				second.set(respondEvents(role, delta("Hi"), finishEvent, doneEvent))
			}
			a = e.chat(request)
			require.Equal(t, http.StatusOK, a.status, "%s", a.body)
			require.Equal(t, "second", a.header.Get("X-Promptgate-Provider"))
			require.Contains(t, string(a.body), "Hi")
			rec = e.recorder.last()
			require.Equal(t, metrics.OutcomeOK, rec.Outcome)
			require.Equal(t, "second", rec.Provider)
			require.Len(t, rec.Attempts, 2)
		})
	}
	t.Run("what begins is relayed to its end", func(t *testing.T) {
		for body, complete := range map[string]bool{
			": ping\n\n" + role + delta("Hi") + finishEvent + doneEvent:                                       true,
			role + finishEvent + doneEvent:                                                                    true, // a model may say nothing
			role + event(`{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"error"}]}`) + doneEvent: false,
		} {
			e := newEnv(t)
			e.upstream.set(respondEvents(body))
			a := e.chat(plainStream)
			require.Equal(t, http.StatusOK, a.status)
			require.True(t, strings.HasPrefix(string(a.body), body), "%s", a.body)
			require.Equal(t, complete, e.recorder.last().Outcome == metrics.OutcomeOK)
		}
	})
}

// TestSilenceIsPinged: a stream whose first event is long in coming keeps its caller, though nothing is known of its answer yet.
func TestSilenceIsPinged(t *testing.T) {
	e := newEnv(t, func(s *setup) { s.opts.PingInterval = 5 * time.Millisecond })
	ready := make(chan struct{})
	e.upstream.set(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-ready
		_, _ = io.WriteString(w, delta("Hi")+finishEvent+doneEvent)
	})
	res, err := e.server.Client().Do(e.request(http.MethodPost, "/v1/chat/completions", plainStream))
	require.NoError(t, err)
	defer res.Body.Close()
	first := make([]byte, len(": ping\n\n"))
	_, err = io.ReadFull(res.Body, first)
	require.NoError(t, err)
	require.Equal(t, ": ping\n\n", string(first))
	close(ready)
	rest, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(rest), delta("Hi")+finishEvent+doneEvent), "%s", rest)
}

// tierPricer prices every call at one micro-dollar a token.
type tierPricer struct{}

func (tierPricer) Cost(_ *metrics.PriceList, _ string, _ time.Time, t metrics.Tokens) (int64, bool) {
	return t.Input + t.Output, true
}

// TestCostGoesByWhatTheAnswerSays: another service tier has another price, a provider's own figure wins, and unknown is never standard or nothing.
func TestCostGoesByWhatTheAnswerSays(t *testing.T) {
	micros := func(n int64) *int64 { return &n }
	answer := func(more, usage string) string {
		return `{"id":"c","choices":[{"message":{"content":"hello there"},"finish_reason":"stop"}]` + more + `,"usage":` + usage + `}`
	}
	const usage = `{"prompt_tokens":100,"completion_tokens":20}`
	for name, c := range map[string]struct {
		asks, answer string
		cost         *int64
		estimated    bool
	}{
		"standard":                  {``, answer(``, usage), micros(120), false},
		"said to be standard":       {`"service_tier":"flex",`, answer(`,"service_tier":"default"`, usage), micros(120), false},
		"flex":                      {`"service_tier":"flex",`, answer(`,"service_tier":"flex"`, usage), nil, false},
		"priority by the project":   {``, answer(`,"service_tier":"priority"`, usage), nil, false},
		"asked for and not said":    {`"service_tier":"flex",`, answer(``, usage), nil, false},
		"auto and not said":         {`"service_tier":"auto",`, answer(``, usage), micros(120), false},
		"the provider's own figure": {`"service_tier":"flex",`, answer(`,"service_tier":"flex"`, `{"prompt_tokens":100,"completion_tokens":20,"cost":0.0005}`), micros(500), false},
		"a figure that cannot be":   {``, answer(``, `{"prompt_tokens":100,"completion_tokens":20,"cost":-1}`), micros(120), false},
		"zeros are unknown":         {``, answer(``, `{"prompt_tokens":0,"completion_tokens":0}`), nil, true},
		"no usage is unknown":       {``, `{"id":"c","choices":[{"message":{"content":"hello there"},"finish_reason":"stop"}]}`, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, func(s *setup) { s.deps.Pricer = tierPricer{} })
			e.upstream.set(respondJSON(http.StatusOK, c.answer))
			a := e.chat(`{"model":"gpt-test",` + c.asks + `"messages":[]}`)
			require.Equal(t, http.StatusOK, a.status, "%s", a.body)
			rec := e.recorder.last()
			require.Equal(t, c.estimated, rec.Tokens.Estimated)
			if c.estimated {
				require.Positive(t, rec.Tokens.Output)
				require.NotNil(t, rec.CostMicros, "an estimate has a price, and says that it is one")
				return
			}
			require.Equal(t, c.cost, rec.CostMicros)
		})
	}
	for name, c := range map[string]struct {
		parameter, ignored, asks string
		known                    bool
	}{
		"the version's":                     {"service_tier", "", ``, false},
		"the caller's null is sent":         {"service_tier", "", `"service_tier":null,`, true},
		"the caller's wins":                 {"service_tier", "", `"service_tier":"default",`, true},
		"the caller's, in another case":     {"", "", `"Service_Tier":"flex",`, false},
		"the version's, in another case":    {"Service_Tier", "", ``, false},
		"the caller's is ignored":           {"", "service_tier", `"service_tier":"flex",`, true},
		"the caller's is ignored, any case": {"", "Service_Tier", `"service_tier":"flex",`, true},
		"no word":                           {"", "", `"service_tier":["flex"],`, false},
	} {
		t.Run("whose tier: "+name, func(t *testing.T) {
			e := newEnv(t, func(s *setup) { s.deps.Pricer = tierPricer{} })
			content := template.Content{Messages: []template.Message{{Role: "system", Text: "Sort."}}, Model: "gpt-test"}
			if c.parameter != "" {
				content.Parameters = map[string]json.RawMessage{c.parameter: json.RawMessage(`"flex"`)}
			}
			if c.ignored != "" {
				content.Ignored = []string{c.ignored}
			}
			e.registry.add("support/tier", map[string]int{"production": 1}, content)
			e.upstream.set(respondJSON(http.StatusOK, answer(``, usage)))
			a := e.chat(`{` + c.asks + `"prompt":{"id":"support/tier"}}`)
			require.Equal(t, http.StatusOK, a.status, "%s", a.body)
			require.Equal(t, c.known, e.recorder.last().CostMicros != nil)
		})
	}
	t.Run("a last chunk of zeros wipes nothing", func(t *testing.T) {
		e := newEnv(t, func(s *setup) { s.deps.Pricer = tierPricer{} })
		chunk := func(usage string) string { return `data: {"id":"c","choices":[],"usage":` + usage + "}\n\n" }
		e.upstream.set(respondEvents(delta("Hi"), finishEvent, chunk(usage), chunk(`{"prompt_tokens":0,"completion_tokens":0}`), doneEvent))
		require.Equal(t, http.StatusOK, e.chat(plainStream).status)
		rec := e.recorder.last()
		require.Equal(t, micros(120), rec.CostMicros)
		require.EqualValues(t, 100, rec.Tokens.Input)
	})
}

// listPricer prices by the list that it is handed.
type listPricer struct{}

func (listPricer) Cost(l *metrics.PriceList, _ string, _ time.Time, t metrics.Tokens) (int64, bool) {
	if l == nil {
		return 0, false
	}
	return t.Input + t.Output, l.Catalogue == "theirs"
}

// TestCostIsThatOfWhoAnswered: after a failover the second target's price list holds, and a provider without one leaves the cost unknown.
func TestCostIsThatOfWhoAnswered(t *testing.T) {
	for catalogue, priced := range map[string]bool{"theirs": true, "": false} {
		e := newEnv(t, func(s *setup) { s.deps.Pricer = listPricer{} })
		failing, answering := e.router.targets["gpt-test"][0], e.router.targets["gpt-test"][0]
		answering.Prices = &metrics.PriceList{Catalogue: catalogue}
		e.router.targets["gpt-test"] = []provider.Target{failing, answering}
		var calls atomic.Int64
		ok := respondJSON(http.StatusOK, `{"id":"c","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":100,"completion_tokens":20}}`)
		e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
			if calls.Add(1) <= 3 {
				respondJSON(http.StatusInternalServerError, `{"error":{"message":"no"}}`)(w, r)
				return
			}
			ok(w, r)
		})
		require.Equal(t, http.StatusOK, e.chat(`{"model":"gpt-test","messages":[]}`).status)
		rec := e.recorder.last()
		require.Equal(t, priced, rec.CostMicros != nil, "%q", catalogue)
	}
}

// TestWhatWeAddIsOurs: a provider that refuses the field that we add to streams is asked once more without it, and not asked with it again.
func TestWhatWeAddIsOurs(t *testing.T) {
	picky := func(said string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			// The body was read by the upstream's own handler, so it goes by what that kept.
			respondJSON(http.StatusBadRequest, said)(w, r)
		}
	}
	e := newEnv(t)
	refuse := func(said string) {
		e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
			if body, _ := e.upstream.last(); strings.Contains(string(body), "stream_options") {
				picky(said)(w, r)
				return
			}
			respondEvents(delta("Hi"), finishEvent, doneEvent)(w, r)
		})
	}
	refuse(`{"error":{"message":"Unrecognized request argument supplied: stream_options"}}`)
	a := e.chat(plainStream)
	require.Equal(t, http.StatusOK, a.status, "%s", a.body)
	require.Equal(t, delta("Hi")+finishEvent+doneEvent, string(a.body))
	require.Equal(t, 2, e.upstream.count())
	rec := e.recorder.last()
	require.True(t, rec.Tokens.Estimated, "nobody told the usage")
	require.Equal(t, http.StatusOK, e.chat(plainStream).status)
	require.Equal(t, 3, e.upstream.count(), "the provider is remembered")

	// What the caller sent itself is the caller's to hear of, and a refusal of something else is passed on whole.
	a = e.chat(`{"model":"gpt-test","stream":true,"stream_options":{"include_usage":true},"messages":[]}`)
	require.Equal(t, http.StatusBadRequest, a.status)
	other := newEnv(t)
	const long = `{"error":{"message":"temperature is too high"}}`
	other.upstream.set(respondJSON(http.StatusBadRequest, long))
	a = other.chat(plainStream)
	require.Equal(t, http.StatusBadRequest, a.status)
	require.Equal(t, long, string(a.body))
	require.Equal(t, 1, other.upstream.count())
}

// TestRetriesAreNotMultiplied: a client that says that it tries again gets one attempt, and what would fail again says so.
func TestRetriesAreNotMultiplied(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondJSON(http.StatusServiceUnavailable, `{}`))
	require.Equal(t, http.StatusBadGateway, e.chat(plainCall).status)
	require.Equal(t, 3, e.upstream.count())
	require.Equal(t, http.StatusBadGateway, e.chat(plainCall, "X-Stainless-Retry-Count", "1").status)
	require.Equal(t, 4, e.upstream.count())
	require.Equal(t, http.StatusBadGateway, e.chat(plainCall, "X-Stainless-Retry-Count", "0").status)
	require.Equal(t, 7, e.upstream.count())

	e.upstream.set(respondJSON(http.StatusUnauthorized, `{}`))
	require.Equal(t, "false", e.chat(plainCall).header.Get("X-Should-Retry"))
	require.Equal(t, "false", e.post("/v1/uploads", `{}`).header.Get("X-Should-Retry"))
}
