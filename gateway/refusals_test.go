package gateway_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/gateway"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

func TestRefusals(t *testing.T) {
	const key = "Authorization"
	for _, c := range []struct {
		name   string
		body   string
		header []string
		status int
		code   string
		says   string
		param  string
	}{
		{"no key", triage, []string{key, ""}, 401, "invalid_api_key", "Authorization: Bearer", ""},
		{"other scheme", triage, []string{key, "Basic Y2FsbGVy"}, 401, "invalid_api_key", "", ""},
		{"wrong key", triage, []string{key, "Bearer nobody"}, 401, "invalid_api_key", "", ""},
		{"wrong key and broken body", "{", []string{key, "Bearer nobody"}, 401, "invalid_api_key", "", ""},
		{"address", triage, []string{key, "Bearer fenced"}, 403, "permission_denied", "network address", ""},
		{"encoded body", triage, []string{"Content-Encoding", "gzip"}, 400, "invalid_request", "Content-Encoding", "Content-Encoding"},
		{"body of another encoding", triage, []string{"Content-Encoding", "br"}, 400, "invalid_request", "gzip or zstd", "Content-Encoding"},
		{"no JSON", "{", nil, 400, "invalid_json", "", ""},
		{"empty", "", nil, 400, "invalid_json", "", ""},
		{"duplicate", `{"model":"gpt-test","model":"gpt-4"}`, nil, 400, "invalid_json", "", ""},
		{"other case", `{"Model":"gpt-test","model":"gpt-4"}`, nil, 400, "invalid_json", "", ""},
		{"too large", `{"model":"` + strings.Repeat("x", 5000) + `"}`, nil, 413, "request_too_large", "4096", ""},
		{"stream is a string", `{"model":"gpt-test","stream":"yes"}`, nil, 400, "invalid_request", "", "stream"},
		{"two forms disagree", `{"prompt":{"id":"support/triage"},"prompt_id":"support/reply"}`, nil, 400, "invalid_prompt_reference", "", ""},
		{"version and label", `{"prompt":{"id":"support/triage","version":1,"label":"production"}}`, nil, 400, "invalid_prompt_reference", "", ""},
		{"prompt is a string", `{"prompt":"support/triage"}`, nil, 400, "", "", ""},
		{"draft", `{"prompt":{"draft":"drf_1"}}`, nil, 501, "not_implemented", "", "prompt.draft"},
		{"no model at all", `{"messages":[]}`, nil, 400, "invalid_request", "", "model"},
		{"default model without a prompt", `{"model":"default","messages":[]}`, nil, 400, "invalid_request", "", "model"},
		{"missing", `{"prompt":{"id":"support/triage"}}`, nil, 400, "missing_variable", "ticket", "prompt.variables.ticket"},
		{"unknown", `{"prompt":{"id":"support/triage","variables":{"ticket":"a","tikcet":"b"}}}`, nil, 400, "unknown_variable", "tikcet", ""},
		{"invalid", `{"prompt":{"id":"support/triage","variables":{"ticket":7}}}`, nil, 400, "invalid_variable", "ticket", ""},
		{"locked", `{"prompt":{"id":"support/triage","variables":{"ticket":"a"}},"temperature":1}`, nil, 400, "parameter_locked", "temperature", "temperature"},
		{"no version", `{"prompt":{"id":"support/triage","version":99,"variables":{"ticket":"a"}}}`, nil, 404, "version_not_found", "", ""},
		{"no label", `{"prompt":{"id":"support/triage","label":"missing","variables":{"ticket":"a"}}}`, nil, 404, "label_not_found", "", ""},
		{"label not granted", `{"prompt":{"id":"support/triage","label":"secret"}}`, nil, 403, "permission_denied", "call on support/triage@secret", ""},
		{"version not granted", `{"prompt":{"id":"support/triage","version":1}}`, []string{key, "Bearer prompts"}, 403, "permission_denied", "call on support/triage@@version", ""},
		{"model not granted", `{"model":"gpt-test"}`, []string{key, "Bearer prompts"}, 403, "permission_denied", "call on gpt-test", "model"},
		{"model granted beside a prompt only", `{"model":"gpt-test"}`, []string{key, "Bearer override"}, 403, "permission_denied", "@model", "model"},
		{"fallback model granted beside a prompt only", `{"model":"gpt-test","models":["gpt-test"]}`, []string{key, "Bearer override"}, 403, "permission_denied", "@model", "model"},
		{"overriding model not granted", `{"model":"alias","prompt":{"id":"support/triage","variables":{"ticket":"a"}}}`, []string{key, "Bearer prompts"}, 403, "permission_denied", "call on alias", "model"},
		{"fallback model not granted", `{"model":"default","models":["alias"],"prompt":{"id":"support/triage","variables":{"ticket":"a"}}}`, []string{key, "Bearer prompts"}, 403, "permission_denied", "call on alias", "models"},
		{"fallback models are no list", `{"model":"gpt-test","models":"alias"}`, nil, 400, "invalid_request", "", "models"},
		{"no such model", `{"model":"gpt-none"}`, nil, 404, "model_not_found", "", "model"},
		{"version without model", `{"prompt":{"id":"support/reply"}}`, nil, 400, "invalid_request", "", "model"},
		{"messages no array", `{"prompt":{"id":"support/triage","variables":{"ticket":"a"}},"messages":{}}`, nil, 400, "invalid_request", "", "messages"},
		{"min-revision no number", triage, []string{"x-promptgate-min-revision", "x"}, 400, "invalid_request", "", "x-promptgate-min-revision"},
		{"min-revision not seen", triage, []string{"x-promptgate-min-revision", "9"}, 503, "registry_unavailable", "revision 9", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t, func(s *setup) { s.opts.MaxBodyBytes, s.opts.RevisionTimeout = 4096, 20*time.Millisecond })
			a := e.chat(c.body, c.header...)
			assert.Equal(t, c.status, a.status, string(a.body))
			if c.code != "" {
				assert.Equal(t, c.code, a.code())
			}
			assert.Contains(t, a.message(), c.says)
			if c.param != "" {
				assert.Equal(t, c.param, gjson.GetBytes(a.body, "error.param").String())
			}
			assert.NotEmpty(t, a.header.Get("X-Promptgate-Call-Id"))
			assert.Equal(t, "gateway", a.header.Get("X-Promptgate-Error-Origin"))
			assert.Equal(t, "nosniff", a.header.Get("X-Content-Type-Options"))
			assert.Equal(t, "application/json", a.header.Get("Content-Type"))
			assert.Zero(t, e.upstream.count(), "nothing was sent")
			if a.status == 401 || c.name == "min-revision not seen" || c.name == "min-revision no number" {
				assert.Empty(t, e.recorder.all())
				return
			}
			rec := e.only()
			assert.Equal(t, a.code(), rec.ErrorCode)
			assert.Equal(t, a.status, rec.Status)
			assert.Equal(t, metrics.OutcomeRefused, rec.Outcome)
			assert.Equal(t, a.header.Get("X-Promptgate-Call-Id"), rec.ID)
		})
	}
}

// The caller with nothing, and the caller with rights to a folder, see the same for what is there and what is not.
func TestNotFoundTellsNothing(t *testing.T) {
	e := newEnv(t)
	seen := map[string]string{}
	for _, c := range []struct{ key, id string }{
		{"nothing", "support/triage"}, {"nothing", "support/none"}, {"nothing", "pmpt_supporttriage"}, {"nothing", "gone/away"},
		{"caller", "support/none"}, {"caller", "gone/away"}, {"foreign", "support/triage"},
	} {
		for _, variables := range []string{`{}`, `{"ticket":"a","x":1}`} {
			a := e.chat(`{"prompt":{"id":"`+c.id+`","variables":`+variables+`}}`, "Authorization", "Bearer "+c.key)
			require.Equal(t, 404, a.status, c)
			require.Equal(t, "prompt_not_found", a.code())
			a.header.Del("X-Promptgate-Call-Id")
			a.header.Del("X-Request-Id")
			a.header.Del("Date")
			var all strings.Builder
			_ = a.header.Write(&all)
			seen[all.String()+string(a.body)] = c.key + c.id
		}
	}
	assert.Len(t, seen, 1, "every one of them is the same answer")
	// Holding a grant on the folder is a 403 for both.
	for _, id := range []string{"support/triage", "support/none"} {
		a := e.chat(`{"prompt":{"id":"`+id+`","label":"staging"}}`, "Authorization", "Bearer prompts")
		assert.Equal(t, 403, a.status, id)
		assert.Contains(t, a.message(), "call on "+id+"@staging")
	}
	// A prompt that was moved out of that folder is not to be told, by its old name, from one that never was.
	moved := registry.Identified{Prompt: e.registry.prompts["support/triage"].Prompt}
	moved.Name = "secret/triage"
	e.registry.prompts["support/moved"] = &moved
	for _, label := range []string{"staging", "production"} {
		a, b := e.chat(`{"prompt":{"id":"support/moved","label":"`+label+`"}}`, "Authorization", "Bearer prompts"),
			e.chat(`{"prompt":{"id":"support/never","label":"`+label+`"}}`, "Authorization", "Bearer prompts")
		assert.Equal(t, b.status, a.status)
		assert.Equal(t, strings.ReplaceAll(string(b.body), "never", "moved"), string(a.body))
	}
	assert.Zero(t, e.registry.resolves.Load(), "authorization comes before resolution")
}

// TestNamesThatNoHeaderCarries: a model and a prompt's name and label become headers. One with control characters is refused in every form, by the field
// that holds it.
func TestNamesThatNoHeaderCarries(t *testing.T) {
	const chat, beside, ours = "/v1/chat/completions", `{"model":"gpt-test"}`, "x-promptgate-prompt"
	for _, c := range []struct {
		path, body string
		header     []string
		param      string
	}{
		{chat, `{"model":"a\r\nSet-Cookie: x"}`, nil, "model"},
		{chat, `{"model":"a\u0085"}`, nil, "model"},
		{chat, `{"model":"prompt/a\u0000"}`, nil, "model"},
		{chat, `{"model":"gpt\u001b[2J","prompt":{"id":"support/triage"}}`, nil, "model"},
		{"/openai/deployments/a%0Ab/chat/completions", `{}`, nil, "model"},
		{"/openai/deployments/a%1B/chat/completions", beside, nil, "model"},
		{"/openai/deployments/a%C2%85/chat/completions", beside, nil, "model"},
		{"/openai/deployments/a%FF/chat/completions", beside, nil, "model"},
		{chat, `{"prompt":{"id":"a\nb"}}`, nil, "prompt.id"},
		{chat, `{"prompt_id":"a\u0085"}`, nil, "prompt_id"},
		{chat, `{"prompt":{"id":"support/triage","label":"a\nb"}}`, nil, "prompt.label"},
		{chat, `{"model":"prompt/support/triage@a\nb"}`, nil, "model"},
		{chat, beside, []string{ours, "a\u0085"}, ours},
		{chat, beside, []string{ours, "a\xff"}, ours},
		{chat, beside, []string{ours, "support/triage", "x-promptgate-label", "a\u0085"}, "x-promptgate-label"},
		{"/v1/prompts/a%0Ab/completions", `{}`, nil, "name"},
		{"/v1/prompts/a%FF/render", `{}`, nil, "name"},
		{"/v1/prompts/support%2Ftriage@a%0Ab/render", `{}`, nil, "name"},
	} {
		e := newEnv(t)
		a := e.post(c.path, c.body, c.header...)
		assert.Equal(t, 400, a.status, "%s %s %q", c.path, c.body, c.header)
		assert.Equal(t, c.param, gjson.GetBytes(a.body, "error.param").String(), "%s %s %q", c.path, c.body, c.header)
		assert.Zero(t, e.upstream.count())
	}
}

func TestFaultsOfOursAreNeverARefusal(t *testing.T) {
	down := fault.Wrap(errBroken, fault.RegistryUnavailable, "The registry cannot be reached. Try again shortly.")
	for name, breakIt := range map[string]func(e *env){
		"authenticator": func(e *env) { e.keys.err = down },
		"checker":       func(e *env) { e.checker.err = down },
		"registry":      func(e *env) { e.registry.err = down },
		"router":        func(e *env) { e.router.err = down },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			breakIt(e)
			a := e.chat(triage)
			assert.Equal(t, 503, a.status)
			assert.Equal(t, "registry_unavailable", a.code())
			assert.NotContains(t, string(a.body), "broken on purpose")
			assert.Contains(t, e.logs.String(), "broken on purpose", "the log has the cause")
			assert.Zero(t, e.upstream.count())
		})
	}
	t.Run("unknown error", func(t *testing.T) {
		e := newEnv(t)
		e.checker.err = errBroken
		a := e.chat(triage)
		assert.Equal(t, 500, a.status)
		assert.Equal(t, "internal_error", a.code())
		assert.NotContains(t, string(a.body), "broken")
	})
}

func TestMinRevision(t *testing.T) {
	e := newEnv(t)
	e.feed.revision.Store(8)
	assert.Equal(t, 200, e.chat(triage, "x-promptgate-min-revision", "8").status)
	assert.Zero(t, e.feed.waited.Load())
	// The key may have changed by then: it is asked about again.
	e.keys.mu.Lock()
	seen := 0
	e.keys.mu.Unlock()
	gone := authFunc(func(ctx context.Context, key string) (*policy.Principal, error) {
		if seen++; seen > 1 {
			return nil, fault.New(fault.InvalidAPIKey, "revoked")
		}
		return e.keys.Authenticate(ctx, key)
	})
	e2 := newEnv(t, func(s *setup) { s.deps.Authenticator = gone })
	assert.Equal(t, 401, e2.chat(triage, "x-promptgate-min-revision", "0").status)
}

type authFunc func(ctx context.Context, key string) (*policy.Principal, error)

func (f authFunc) Authenticate(ctx context.Context, key string) (*policy.Principal, error) {
	return f(ctx, key)
}

func TestOverload(t *testing.T) {
	e := newEnv(t, func(s *setup) { s.opts.MaxInFlight = 1 })
	entered, release := make(chan struct{}), make(chan struct{})
	e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-release
		respondJSON(200, okJSON)(w, r)
	})
	first := make(chan answer)
	go func() { first <- e.chat(triage) }()
	<-entered
	a := e.chat(triage)
	assert.Equal(t, 503, a.status)
	assert.Equal(t, "overloaded", a.code())
	assert.Equal(t, "1", a.header.Get("Retry-After"))
	close(release)
	assert.Equal(t, 200, (<-first).status)
	go func() { <-entered }()
	assert.Equal(t, 200, e.chat(triage).status, "the place is given back")
	assert.Equal(t, e.meter.started.Load(), e.meter.ended.Load())
}

func TestBufferedBytesAreBounded(t *testing.T) {
	for _, length := range []int64{0, -1} { // told, and not
		e := newEnv(t, func(s *setup) { s.opts.MaxBuffered = 4 << 20 })
		for range 10 { // the bytes are given back
			for size, status := range map[int]int{1_900_000: 200, 3_000_000: 503} {
				body := `{"model":"gpt-test","x":"` + strings.Repeat("y", size) + `"}`
				req := e.request(http.MethodPost, "/v1/chat/completions", body)
				req.Body = io.NopCloser(strings.NewReader(body))
				if length < 0 {
					req.ContentLength = -1
				}
				assert.Equal(t, status, e.do(req).status, size)
			}
		}
	}
}

// half sends the head of a call and the beginning of its body over a connection of its own, and leaves it there.
func (e *env) half(key string, promised int, sent string) net.Conn {
	e.t.Helper()
	conn, err := net.Dial("tcp", e.server.Listener.Addr().String())
	require.NoError(e.t, err)
	e.t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+key+"\r\nContent-Length: "+itoa(promised)+"\r\n\r\n"+sent)
	require.NoError(e.t, err)
	return conn
}

// What is promised takes no room, whoever promises it; what has come takes that of the key that sent it, and never all of it.
func TestHalfSentBodiesKeepNobodyOut(t *testing.T) {
	e := newEnv(t, func(s *setup) { s.opts.MaxBuffered, s.opts.MinBodyRate = 8<<20, 1 })
	for range 40 { // 1.25 GiB of promises
		e.half("caller", 32<<20, "{")
	}
	require.Equal(t, 200, e.chat(triage).status, "promises take no room")
	// One key sends as much as it is let, and holds on to it.
	for range 40 {
		conn := e.half("caller", 32<<20, "{")
		go func() { _, _ = io.WriteString(conn, strings.Repeat(" ", 1<<20-10)) }()
	}
	require.Eventually(t, func() bool { return e.chat(`{"model":"gpt-test","x":"`+strings.Repeat("y", 1<<20)+`"}`).status == 503 }, 20*time.Second, 10*time.Millisecond,
		"its share is taken")
	for range 10 {
		require.Equal(t, 200, e.chat(`{"model":"gpt-test","x":"`+strings.Repeat("y", 1<<20)+`"}`, "Authorization", "Bearer foreign").status, "another's is not")
	}
	// Nobody without a key takes any.
	for range 10 {
		e.half("nobody", 32<<20, "{"+strings.Repeat(" ", 1<<20))
	}
	require.Equal(t, 200, e.chat(`{"model":"gpt-test"}`, "Authorization", "Bearer foreign").status)
}

// A body that comes by drops is cut, while one that takes as long and keeps the pace is not.
func TestSlowBodiesAreCut(t *testing.T) {
	e := newEnv(t, func(s *setup) { s.opts.MinBodyRate, s.opts.BodyGrace = 1<<20, 50*time.Millisecond })
	conn := e.half("caller", 1<<20, "{"+strings.Repeat(" ", 100))
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second))) // the test's patience, no measure
	text, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Contains(t, string(text), "did not arrive in time")
	assert.Equal(t, 200, e.chat(`{"model":"gpt-test","x":"`+strings.Repeat("y", 8<<20)+`"}`).status)
}

// Who says that a body follows and sends none must not hold the connection, whatever the answer was.
func TestBodiesThatNeverComeEndTheConnection(t *testing.T) {
	e := newEnv(t, func(s *setup) { s.read = 20 * time.Millisecond })
	for _, head := range []string{
		"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000",
		"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer caller\r\nContent-Length: 1000",
		"POST /v1/prompts/support/triage/render HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer caller\r\nTransfer-Encoding: chunked",
		"POST /v1/feedback HTTP/1.1\r\nHost: x\r\nContent-Length: 1000",
		"POST /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Length: 1000",
		"POST /none HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked",
		"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000",
	} {
		conn, err := net.Dial("tcp", e.server.Listener.Addr().String())
		require.NoError(t, err)
		_, err = io.WriteString(conn, head+"\r\n\r\n")
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second))) // the test's patience, no measure
		text, err := io.ReadAll(conn)
		assert.NoError(t, err, head)
		assert.Contains(t, string(text), "HTTP/1.1", head)
		require.NoError(t, conn.Close())
	}
	// One whose body came in time is not cut by that deadline, however long the answer takes.
	e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(5 * 20 * time.Millisecond) // longer than ReadTimeout: what is tested
		respondJSON(200, okJSON)(w, r)
	})
	assert.Equal(t, 200, e.chat(`{"model":"gpt-test"}`).status)
}

func TestChunkedBody(t *testing.T) {
	e := newEnv(t, func(s *setup) { s.opts.MaxBodyBytes = 300_000 })
	for size, status := range map[int]int{10: 200, 290_000: 200, 300_001: 413} {
		body := `{"model":"gpt-test","x":"` + strings.Repeat("y", size) + `"}`
		req := e.request(http.MethodPost, "/v1/chat/completions", "")
		req.Body, req.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader(body[:7]), strings.NewReader(body[7:]))), -1
		assert.Equal(t, status, e.do(req).status, size)
	}
	sent, _ := e.upstream.last()
	assert.NotEmpty(t, sent)
}

func TestRecorderFailureIsSeenNotTold(t *testing.T) {
	e := newEnv(t)
	e.recorder.err = errBroken
	a := e.chat(triage)
	assert.Equal(t, 200, a.status)
	assert.Contains(t, e.logs.String(), "could not be recorded")
}

// Nothing that a caller wrote, and no key, is in the log, at its most talkative.
func TestLogsHoldNoSecrets(t *testing.T) {
	e := newEnv(t)
	e.chat(`{"prompt":{"id":"support/triage","variables":{"ticket":"CANARYVALUE"}},"messages":[{"role":"user","content":"CANARYTEXT"}]}`)
	e.chat(`{"prompt":{"id":"support/triage","variables":{"ticket":7,"CANARYNAME":1}}}`)
	e.chat(triage, "Authorization", "Bearer CANARYKEY")
	e.upstream.set(respondJSON(401, `{"error":{"message":"Incorrect API key provided: sk-CANARY0123456789. You can find your key at https://x"}}`))
	a := e.chat(triage)
	assert.Equal(t, 502, a.status)
	assert.Equal(t, "provider_auth", a.code())
	assert.NotContains(t, string(a.body), "CANARY")
	assert.NotContains(t, e.logs.String(), "CANARY")
	assert.Contains(t, e.logs.String(), "Incorrect API key provided: [redacted]")
}

func TestNewRefusesWithoutItsParts(t *testing.T) {
	_, err := gateway.New(gateway.Deps{}, gateway.Options{})
	require.Error(t, err)
	for _, need := range []string{"Authenticator", "Checker", "Registry", "Catalog", "Router", "Forwarder", "Recorder", "Pricer", "Feed", "CallIDs", "HashUser", "Clock", "Log"} {
		assert.ErrorContains(t, err, need+" is required")
	}
}

// movingDefault is a registry whose project changes its default label between any two questions for it.
type movingDefault struct {
	*fakeRegistry
	asked atomic.Int64
}

func (m *movingDefault) DefaultLabel(context.Context, string) (string, error) {
	if m.asked.Add(1)%2 == 1 {
		return "production", nil
	}
	return "staging", nil
}

func (m *movingDefault) Resolve(ctx context.Context, p *registry.Identified, sel registry.Selector) (*registry.Resolved, error) {
	if sel.Kind == registry.SelectDefault {
		label, err := m.DefaultLabel(ctx, p.Project)
		if err != nil {
			return nil, err
		}
		sel = registry.Selector{Kind: registry.SelectLabel, Label: label}
	}
	return m.fakeRegistry.Resolve(ctx, p, sel)
}

// TestWhatWasAuthorizedIsServed: a key for production alone is never served another label, whatever the default becomes while its call is judged.
func TestWhatWasAuthorizedIsServed(t *testing.T) {
	e := newEnv(t, func(s *setup) {
		s.deps.Registry = &movingDefault{fakeRegistry: s.deps.Registry.(*fakeRegistry)}
	})
	for range 4 {
		a := e.chat(`{"prompt":{"id":"support/triage","variables":{"ticket":"x"}}}`, "Authorization", "Bearer prompts")
		if a.status == http.StatusOK {
			require.Equal(t, "production", a.header.Get("X-Promptgate-Label"))
			require.Equal(t, "1", a.header.Get("X-Promptgate-Version"))
		} else {
			require.Equal(t, http.StatusForbidden, a.status, "%s", a.body)
		}
	}
}
