package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/gateway"
	"github.com/promptgate/promptgate/registry"
)

func TestRender(t *testing.T) {
	e := newEnv(t)
	for path, body := range map[string]string{
		"/v1/prompts/support/triage/render":             `{"label":"staging","variables":{"ticket":"T"}}`,
		"/v1/prompts/support%2Ftriage/render":           `{"version":2,"variables":{"ticket":"T"}}`,
		"/v1/prompts/support/triage@staging/render":     `{"variables":{"ticket":"T"}}`,
		"/v1/prompts/pmpt_supporttriage%402/render":     `{"variables":{"ticket":"T"}}`,
		"/v1/prompts/support%2Ftriage%40staging/render": `{"variables":{"ticket":"T"},"stream":true}`,
	} {
		a := e.post(path, body)
		require.Equal(t, 200, a.status, path+string(a.body))
		assert.Equal(t, "support/triage", gjson.GetBytes(a.body, "prompt").String())
		assert.EqualValues(t, 2, gjson.GetBytes(a.body, "version").Int())
		assert.Equal(t, "gpt-test", gjson.GetBytes(a.body, "model").String())
		assert.Equal(t, "sha256:d", gjson.GetBytes(a.body, "digest").String())
		assert.JSONEq(t, `[{"role":"system","content":"Version two: Tcalm"}]`, gjson.GetBytes(a.body, "messages").Raw)
		assert.False(t, gjson.GetBytes(a.body, "request.variables").Exists())
		assert.Equal(t, "gpt-test", gjson.GetBytes(a.body, "request.model").String())
		assert.Equal(t, "2", a.header.Get("X-Promptgate-Version"))
	}
	assert.Zero(t, e.upstream.count(), "it calls nobody")
	assert.Empty(t, e.recorder.all(), "and is no call")
	a := e.post("/v1/prompts/support/triage/render", `{"variables":{"ticket":"T"}}`, "Authorization", "Bearer prompts")
	assert.Equal(t, 403, a.status, "a key that may only call may not read")
	assert.Contains(t, a.message(), "read on support/triage")
	a = e.post("/v1/prompts/support/none/render", `{}`)
	assert.Equal(t, "prompt_not_found", a.code())
	a = e.post("/v1/prompts/support/triage/render", `{}`)
	assert.Equal(t, "missing_variable", a.code())
}

func TestModels(t *testing.T) {
	e := newEnv(t)
	ids := func(key string) []string {
		a := e.do(e.request(http.MethodGet, "/v1/models", "", "Authorization", "Bearer "+key))
		require.Equal(t, 200, a.status, string(a.body))
		out := []string{}
		for _, r := range gjson.GetBytes(a.body, "data.#.id").Array() {
			out = append(out, r.String())
		}
		assert.NotEmpty(t, a.header.Get("X-Promptgate-Call-Id"))
		return out
	}
	assert.Equal(t, []string{"alias", "gpt-test", "prompt/support/reply@production", "prompt/support/triage@production", "prompt/support/triage@staging"}, ids("caller"))
	assert.Equal(t, []string{"prompt/support/reply@production", "prompt/support/triage@production"}, ids("prompts"))
	assert.Empty(t, ids("nothing"))
	assert.Equal(t, []string{"alias", "gpt-test"}, ids("foreign"), "another project's prompts are not there")
	lists := e.registry.lists.Load()
	ids("caller")
	assert.Equal(t, lists, e.registry.lists.Load(), "read once a revision")
	e.feed.revision.Add(1)
	ids("caller")
	assert.Greater(t, e.registry.lists.Load(), lists)
	assert.Equal(t, 401, e.do(e.request(http.MethodGet, "/v1/models", "", "Authorization", "Bearer nobody")).status)
}

// TestScorersAreTold: the ledger is told whose score each is, so that nobody has two on one name of one call.
func TestScorersAreTold(t *testing.T) {
	e := newEnv(t)
	a := e.chat(plainCall)
	token, call := a.header.Get("X-Promptgate-Feedback-Token"), a.header.Get("X-Promptgate-Call-Id")
	for _, c := range []struct{ body, scorer string }{
		{`{"token":"` + token + `","name":"n","value":true}`, "token"},
		{`{"token":"` + token + `","name":"n","value":true,"user":"ada","id":"1"}`, "token"},
		{`{"call_id":"` + call + `","name":"n","value":true}`, "key:key_caller"},
		{`{"call_id":"` + call + `","name":"n","value":true,"id":"1"}`, ""}, // the id is: the ledger says so
		{`{"call_id":"` + call + `","name":"n","value":true,"user":"ada","id":"1"}`, "user:hash:prj_one:ada"},
	} {
		key := "Bearer caller"
		if strings.Contains(c.body, "token") {
			key = ""
		}
		require.Equal(t, 202, e.post("/v1/feedback", c.body, "Authorization", key).status, c.body)
		e.recorder.mu.Lock()
		require.Equal(t, c.scorer, e.recorder.fb[len(e.recorder.fb)-1].Scorer, c.body)
		e.recorder.mu.Unlock()
	}
}

func TestFeedback(t *testing.T) {
	e := newEnv(t, func(s *setup) { s.deps.Calls, _ = s.deps.Recorder.(gateway.Calls) })
	a := e.chat(triage)
	id, token := a.header.Get("X-Promptgate-Call-Id"), a.header.Get("X-Promptgate-Feedback-Token")
	foreign := e.chat(`{"model":"gpt-test"}`, "Authorization", "Bearer foreign").header.Get("X-Promptgate-Call-Id")
	made, err := e.ids.Mint(project, "key_somebody")
	require.NoError(t, err)
	forged := id[:len(id)-1] + "0"
	if forged == id {
		forged = id[:len(id)-1] + "1"
	}
	as := func(key string) []string { return []string{"Authorization", key} }

	for _, c := range []struct {
		name, body string
		header     []string
		status     int
		code       string
	}{
		{"own", `{"call_id":"` + id + `","name":"helpful","value":true,"id":"fb1","comment":"x"}`, nil, 202, ""},
		{"number", `{"call_id":"` + id + `","name":"helpful","value":0.8}`, nil, 202, ""},
		{"category", `{"call_id":"` + id + `","name":"tone","value":"wrong tone"}`, nil, 202, ""},
		{"completion id", `{"completion_id":"chatcmpl-1","name":"helpful","value":true}`, nil, 202, ""},
		{"token without a key", `{"token":"` + token + `","name":"helpful","value":false}`, as(""), 202, ""},
		{"reviewer", `{"call_id":"` + id + `","name":"helpful","value":true}`, as("Bearer reviewer"), 202, ""},
		{"somebody else's", `{"call_id":"` + id + `","name":"helpful","value":true}`, as("Bearer nothing"), 404, "call_not_found"},
		{"holds a grant but not this", `{"call_id":"` + id + `","name":"helpful","value":true}`, as("Bearer prompts"), 403, "permission_denied"},
		{"foreign", `{"call_id":"` + foreign + `","name":"helpful","value":true}`, nil, 404, "call_not_found"},
		{"genuine but unknown", `{"call_id":"` + made + `","name":"helpful","value":true}`, nil, 404, "call_not_found"},
		{"forged", `{"call_id":"` + forged + `","name":"helpful","value":true}`, nil, 404, "call_not_found"},
		{"no id", `{"call_id":"call_1","name":"helpful","value":true}`, nil, 404, "call_not_found"},
		{"forged token", `{"token":"` + token[:len(token)-4] + `AAAA","name":"helpful","value":true}`, as(""), 401, "invalid_api_key"},
		{"nobody", `{"call_id":"` + id + `","name":"helpful","value":true}`, as(""), 401, "invalid_api_key"},
		{"no value", `{"call_id":"` + id + `","name":"helpful"}`, nil, 400, "invalid_request"},
		{"null", `{"call_id":"` + id + `","name":"helpful","value":null}`, nil, 400, "invalid_request"},
		{"object", `{"call_id":"` + id + `","name":"helpful","value":{}}`, nil, 400, "invalid_request"},
		{"no name", `{"call_id":"` + id + `","value":1}`, nil, 400, "invalid_request"},
		{"two ids", `{"call_id":"` + id + `","completion_id":"x","name":"a","value":1}`, nil, 400, "invalid_request"},
		{"unknown field", `{"call_id":"` + id + `","name":"a","value":1,"project":"prj_two"}`, nil, 400, "invalid_json"},
		{"duplicate", `{"call_id":"` + id + `","name":"a","value":1,"value":2}`, nil, 400, "invalid_json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(e.recorder.fb)
			a := e.post("/v1/feedback", c.body, c.header...)
			assert.Equal(t, c.status, a.status, string(a.body))
			assert.Equal(t, c.code, a.code())
			assert.NotEmpty(t, a.header.Get("X-Promptgate-Call-Id"))
			if c.status != 202 {
				assert.Len(t, e.recorder.fb, before)
				return
			}
			require.Len(t, e.recorder.fb, before+1)
			f := e.recorder.fb[before]
			assert.Equal(t, id, f.CallID)
			assert.Equal(t, project, f.Project)
			assert.Equal(t, f.ID, gjson.GetBytes(a.body, "id").String())
		})
	}
	assert.Equal(t, "fb1", e.recorder.fb[0].ID)
	one := e.post("/v1/feedback", `{"call_id":"`+foreign+`","name":"helpful","value":true}`)
	two := e.post("/v1/feedback", `{"call_id":"`+made+`","name":"helpful","value":true}`)
	assert.Equal(t, string(one.body), string(two.body), "foreign and absent look the same")
	moved := registry.Identified{Prompt: e.registry.prompts["support/triage"].Prompt}
	moved.Name = "secret/triage"
	e.registry.prompts[moved.ID] = &moved
	assert.Equal(t, 404, e.post("/v1/feedback", `{"call_id":"`+id+`","name":"helpful","value":true}`, as("Bearer reviewer")...).status, "the prompt's current name counts")
	e.recorder.err = errBroken
	assert.Equal(t, 503, e.post("/v1/feedback", `{"call_id":"`+id+`","name":"a","value":1}`).status)
}

// Pages of the configured origins score by token; no page sends a key, and nothing else takes requests from pages.
func TestFeedbackFromPages(t *testing.T) {
	const app, other = "https://app.example.com", "https://evil.example"
	score := func(e *env, origin string) answer {
		token := e.chat(triage).header.Get("X-Promptgate-Feedback-Token")
		require.NotEmpty(t, token)
		return e.post("/v1/feedback", `{"token":"`+token+`","name":"helpful","value":true}`, "Authorization", "", "Origin", origin)
	}
	ask := func(e *env, path, origin string) answer {
		return e.do(e.request(http.MethodOptions, path, "", "Authorization", "", "Origin", origin,
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type"))
	}
	for _, c := range []struct {
		name    string
		origins []string
		origin  string
		allowed string
	}{
		{"none configured", nil, app, ""},
		{"the one configured", []string{"http://localhost:3000", app}, app, app},
		{"another one", []string{app}, other, ""},
		{"every one", []string{"*"}, other, "*"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t, func(s *setup) { s.opts.FeedbackOrigins = c.origins })
			a := score(e, c.origin)
			assert.Equal(t, 202, a.status, "%s", a.body)
			assert.Equal(t, c.allowed, a.header.Get("Access-Control-Allow-Origin"))
			assert.Empty(t, a.header.Get("Access-Control-Allow-Credentials"))
			refused := e.post("/v1/feedback", `{"token":"x"}`, "Authorization", "", "Origin", c.origin)
			assert.Equal(t, 401, refused.status)
			assert.Equal(t, c.allowed, refused.header.Get("Access-Control-Allow-Origin"), "a page reads refusals as well")

			pre := ask(e, "/v1/feedback", c.origin)
			assert.Equal(t, c.allowed, pre.header.Get("Access-Control-Allow-Origin"))
			switch {
			case c.origins == nil:
				assert.Equal(t, 405, pre.status, "pages are not spoken of at all")
			case c.origins[0] != "*":
				assert.Equal(t, 204, pre.status)
				assert.Equal(t, "Origin", pre.header.Get("Vary"), "caches keep one page's answer from another")
				assert.Equal(t, "Origin", a.header.Get("Vary"))
			}
			if c.allowed != "" {
				assert.Equal(t, 204, pre.status)
				assert.NotEmpty(t, pre.header.Get("Access-Control-Max-Age"), "browsers need not ask each time")
				assert.Equal(t, "POST", pre.header.Get("Access-Control-Allow-Methods"))
				assert.Equal(t, "Content-Type", pre.header.Get("Access-Control-Allow-Headers"), "no page sends a key")
			}
			for _, path := range []string{"/v1/chat/completions", "/v1/models"} {
				closed := ask(e, path, c.origin)
				assert.Equal(t, 405, closed.status, path)
				assert.Empty(t, closed.header.Get("Access-Control-Allow-Origin"), path)
			}
			call := e.chat(triage, "Origin", c.origin)
			assert.Empty(t, call.header.Get("Access-Control-Allow-Origin"))
		})
	}
}

func TestAddressesWithoutAHandler(t *testing.T) {
	e := newEnv(t)
	for _, path := range []string{
		"/responses/resp_1/x", "/messages/batches", "/messages/batches/b_1/cancel", "/audio/voices", "/videos", "/uploads", "/vector_stores/vs_1/files",
	} {
		for _, base := range []string{"/v1", "/openai/v1"} {
			for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
				a := e.do(e.request(method, base+path, `{}`))
				assert.Equal(t, 501, a.status, method+base+path)
				assert.Equal(t, "not_implemented", a.code())
				assert.Contains(t, a.message(), "POST /v1/chat/completions", "what is served")
			}
		}
	}
	for _, path := range []string{"/", "/v1/nope", "/v1/prompts/x", "/v1/prompts/", "/v1/prompts/x/nope", "/v1/chat/completions/", "/v1/embeddings/x", "/openai/v1/images/x", "/openai/deployments/x/nope"} {
		a := e.post(path, `{}`)
		assert.Equal(t, 404, a.status, path)
		assert.Equal(t, "not_found", a.code())
		assert.NotEmpty(t, a.header.Get("X-Promptgate-Call-Id"))
	}
	a := e.do(e.request(http.MethodGet, "/v1/chat/completions", ""))
	assert.Equal(t, 405, a.status)
	assert.Equal(t, "POST", a.header.Get("Allow"))
	assert.Equal(t, "gateway", a.header.Get("X-Promptgate-Error-Origin"))
}

func TestHealth(t *testing.T) {
	var broken bool
	e := newEnv(t, func(s *setup) {
		s.deps.Checks = []gateway.Check{
			{Name: "redis", Probe: func(context.Context) error {
				if broken {
					return errors.New("secret-host:6379 refused")
				}
				return nil
			}},
			{Name: "spool", Critical: true, Probe: func(context.Context) error { return nil }},
		}
		s.deps.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("metrics")) })
	})
	get := func(path string) answer { return e.do(e.request(http.MethodGet, path, "", "Authorization", "")) }
	assert.Equal(t, "ok\n", string(get("/livez").body))
	assert.Equal(t, "ready\n", string(get("/readyz").body))
	assert.Equal(t, "metrics", string(get("/metrics").body))
	for _, path := range []string{"/livez", "/readyz"} {
		head := e.do(e.request(http.MethodHead, path, "", "Authorization", ""))
		assert.Equal(t, 200, head.status, path)
		assert.Empty(t, head.body)
	}
	broken = true
	a := get("/readyz?verbose")
	assert.Equal(t, 200, a.status)
	assert.NotContains(t, string(a.body), "secret-host")
	var report struct {
		Status string
		Checks []struct {
			Name string
			OK   bool
		}
	}
	require.NoError(t, json.Unmarshal(a.body, &report))
	assert.Equal(t, "degraded", report.Status)
	assert.False(t, report.Checks[0].OK)
	assert.True(t, report.Checks[1].OK)
}
