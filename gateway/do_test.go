package gateway_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway"
	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
)

// inside makes a call without HTTP, as the key called caller.
func (e *env) inside(ctx context.Context, key, body string) (*httptest.ResponseRecorder, error) {
	sink := httptest.NewRecorder()
	return sink, e.gw.Do(ctx, e.keys.keys[key], wire.Chat{}, gateway.NewRequest([]byte(body)), sink)
}

// comparable is a record without what no two calls share.
func comparable(c metrics.Call) metrics.Call {
	c.ID, c.Start, c.Total, c.Overhead, c.FirstToken = "", time.Time{}, 0, 0, 0
	for i := range c.Attempts {
		a := &c.Attempts[i]
		a.Start, a.Total, a.FirstToken = time.Time{}, 0, 0
	}
	return c
}

// TestCallsFromInside: a call without HTTP gets the answer, the refusal and the record of the same call by HTTP.
func TestCallsFromInside(t *testing.T) {
	stream := strings.Replace(triage, "{", `{"stream":true,`, 1)
	for name, c := range map[string]struct {
		key, body string
		up        func(e *env)
		code      fault.Code
	}{
		"answer":               {body: triage},
		"stream":               {body: stream, up: func(e *env) { e.upstream.set(respondEvents(delta("a"), finishEvent, usageEvent, doneEvent)) }},
		"cut stream":           {body: stream, up: func(e *env) { e.upstream.set(respondEvents(delta("a"))) }, code: fault.ProviderTruncated},
		"not permitted":        {key: "nothing", body: triage, code: fault.PromptNotFound},
		"another network":      {key: "fenced", body: triage, code: fault.PermissionDenied},
		"no JSON":              {body: "x", code: fault.InvalidJSON},
		"provider's trouble":   {body: plainCall, up: func(e *env) { e.upstream.set(respondJSON(500, `{}`)) }, code: fault.ProviderError},
		"provider's refusal":   {body: plainCall, up: func(e *env) { e.upstream.set(respondJSON(400, `{"error":{"message":"no"}}`)) }},
		"no room":              {body: triage, up: func(e *env) { e.recorder.full = fault.New(fault.StorageFull, "full") }, code: fault.Overloaded},
		"larger than is taken": {body: strings.Repeat(" ", 2<<20), code: fault.RequestTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, func(s *setup) { s.opts.MaxBodyBytes = 1 << 20 })
			if c.up != nil {
				c.up(e)
			}
			if c.key == "" {
				c.key = "caller"
			}
			byHTTP := e.chat(c.body, "Authorization", "Bearer "+c.key)
			sink, err := e.inside(t.Context(), c.key, c.body)
			assert.Equal(t, c.code, fault.CodeOf(err))
			assert.Equal(t, byHTTP.status, sink.Code)
			// An id stands in some messages.
			records := e.recorder.all()
			require.Len(t, records, 2)
			assert.Equal(t, strings.ReplaceAll(string(byHTTP.body), records[0].ID, ""), strings.ReplaceAll(sink.Body.String(), records[1].ID, ""))
			assert.Equal(t, comparable(records[0]), comparable(records[1]))
			for _, h := range []string{"Content-Type", "X-Promptgate-Prompt", "X-Promptgate-Version", "X-Promptgate-Provider", "X-Promptgate-Error-Origin", "Retry-After"} {
				assert.Equal(t, byHTTP.header.Get(h), sink.Header().Get(h), h)
			}
			assert.Eventually(t, func() bool { return e.meter.started.Load() == e.meter.ended.Load() && e.gw.InFlight() == 0 }, 5*time.Second, time.Millisecond)
		})
	}
	e := newEnv(t)
	require.Error(t, e.gw.Do(t.Context(), nil, wire.Chat{}, gateway.NewRequest(nil), httptest.NewRecorder()), "nobody")
	assert.Zero(t, e.upstream.count())
}

// TestCallsFromInsideEnd: with their context, with the process, and by a panic.
func TestCallsFromInsideEnd(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(e *env, cancel func())
		code fault.Code
	}{
		"context": {func(_ *env, cancel func()) { cancel() }, fault.ClientClosed},
		"process": {func(e *env, _ func()) { go func() { _ = e.gw.Abort(context.Background()) }() }, fault.Overloaded},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			release := make(chan struct{})
			t.Cleanup(func() { close(release) })
			e.upstream.set(stuck(release))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := e.inside(ctx, "caller", triage)
				done <- err
			}()
			require.Eventually(t, func() bool { return e.upstream.count() == 1 }, 5*time.Second, time.Millisecond)
			require.Equal(t, 1, e.gw.InFlight())
			c.end(e, cancel)
			assert.Equal(t, c.code, fault.CodeOf(<-done))
			assert.Equal(t, string(c.code), e.only().ErrorCode)
		})
	}
	e := newEnv(t, func(s *setup) { s.deps.Forwarder = panicking{} })
	sink, err := e.inside(t.Context(), "caller", triage)
	assert.Equal(t, fault.Internal, fault.CodeOf(err))
	assert.Equal(t, 500, sink.Code)
	assert.Equal(t, metrics.OutcomeInternal, e.only().Outcome)
	assert.EqualValues(t, 1, e.meter.ended.Load())
	assert.Zero(t, e.gw.InFlight())
}

// stuck is an upstream that says nothing until it is released.
func stuck(release <-chan struct{}) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
}
