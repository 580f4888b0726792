package gateway_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/registry/template"
)

// Every header that SDKs carry a key in is read, on every kind of address; two that differ are refused, whichever they are.
func TestKeysInEveryHeader(t *testing.T) {
	e := newEnv(t)
	headers := []string{"Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key", "X-Portkey-Api-Key"}
	spell := func(name, key string) string {
		if name == "Authorization" {
			return "bEaReR  " + key
		}
		return key
	}
	send := func(pairs ...string) answer {
		return e.do(e.request(http.MethodGet, "/v1/models", "", append([]string{"Authorization", ""}, pairs...)...))
	}
	for _, one := range headers {
		assert.Equal(t, 200, send(one, spell(one, "caller")).status, one)
		assert.Equal(t, 401, send(one, spell(one, "nobody")).status, one)
		for _, two := range headers {
			if one == two {
				continue
			}
			assert.Equal(t, 200, send(one, spell(one, "caller"), two, spell(two, "caller")).status, one+two)
			a := send(one, spell(one, "caller"), two, spell(two, "prompts"))
			assert.Equal(t, 401, a.status, one+two)
			assert.Contains(t, a.message(), "two different")
		}
		if one != "Authorization" {
			assert.Equal(t, 401, send("Authorization", "Basic Y2FsbGVy", one, "caller").status, "another scheme beside it")
			assert.Equal(t, 200, send("Authorization", "Bearer ", one, "caller").status, "an SDK that was given no key sends an empty one")
		}
	}
}

func TestAzureAddresses(t *testing.T) {
	e := newEnv(t)
	for _, c := range []struct {
		path, body string
		status     int
		model      string // as the provider got it
	}{
		{"/openai/deployments/gpt-test/chat/completions?api-version=2024-10-21", `{"messages":[]}`, 200, "gpt-test"},
		{"/openai/deployments/gpt-test/chat/completions", `{"model":"gpt-test","messages":[]}`, 200, "gpt-test"},
		{"/openai/deployments/gpt-test/chat/completions", `{"model":"something else","messages":[]}`, 200, "gpt-test"},
		{"/openai/deployments/gpt-test/chat/completions", `{}`, 200, "gpt-test"},
		{"/openai/deployments/prompt%2Fsupport%2Ftriage%40production/chat/completions", `{"metadata":{},"prompt":{"id":"support/triage","variables":{"ticket":"T"}}}`, 200, "gpt-test"},
		{"/openai/deployments/prompt/support/triage@production/chat/completions", `{"prompt_variables":{"ticket":"T"}}`, 200, "gpt-test"},
		{"/openai/deployments/gpt-test/chat/completions", `{"model":"prompt/support/triage"}`, 400, ""},
		{"/openai/deployments/gpt-none/chat/completions", `{}`, 404, ""},
		{"/openai/deployments/gpt-test/audio/voices", `{}`, 501, ""},
		{"/openai/deployments/gpt-test/nothing", `{}`, 404, ""},
		{"/openai/v1/uploads", `{}`, 501, ""},
		{"/openai/v1/chat/completions", `{"model":"gpt-test"}`, 200, "gpt-test"},
	} {
		before := e.upstream.count()
		a := e.post(c.path, c.body, "Authorization", "", "Api-Key", "caller")
		require.Equal(t, c.status, a.status, c.path+c.body+string(a.body))
		if c.status != 200 {
			require.Equal(t, before, e.upstream.count())
			continue
		}
		sent, _ := e.upstream.last()
		assert.Equal(t, c.model, gjson.GetBytes(sent, "model").String(), c.path+c.body)
		assert.Equal(t, 1, strings.Count(string(sent), `"model"`))
	}
}

// Clients that would rather have a WebSocket are told in the way that sends them to HTTP, and everybody else as before.
func TestWebSocketsAreDeclined(t *testing.T) {
	e := newEnv(t)
	for _, path := range []string{"/v1/responses", "/openai/v1/responses", "/v1/chat/completions", "/v1/messages"} {
		a := e.do(e.request(http.MethodGet, path, "", "Connection", "Upgrade", "Upgrade", "WebSocket", "Sec-Websocket-Version", "13", "Sec-Websocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="))
		require.Equal(t, 426, a.status, path+string(a.body))
		assert.Equal(t, "HTTP/1.1", a.header.Get("Upgrade"), path)
		assert.Equal(t, "not_implemented", a.code(), path)
		assert.Contains(t, a.message(), "POST", path)
		assert.Equal(t, 405, e.do(e.request(http.MethodGet, path, "")).status, path)
		assert.Equal(t, 405, e.do(e.request(http.MethodPut, path, "", "Connection", "Upgrade", "Upgrade", "websocket")).status, path)
	}
	assert.Equal(t, 501, e.do(e.request(http.MethodGet, "/v1/realtime", "", "Connection", "Upgrade", "Upgrade", "websocket")).status)
	assert.Equal(t, 0, e.upstream.count())
}

func TestModelByID(t *testing.T) {
	e := newEnv(t)
	get := func(path, key string) answer {
		return e.do(e.request(http.MethodGet, path, "", "Authorization", "Bearer "+key))
	}
	list := get("/v1/models", "caller")
	for _, m := range gjson.GetBytes(list.body, "data").Array() {
		for _, base := range []string{"/v1/models/", "/openai/v1/models/"} {
			id := m.Get("id").String()
			a := get(base+id, "caller")
			require.Equal(t, 200, a.status, id)
			assert.JSONEq(t, m.Raw, string(a.body))
			assert.Equal(t, 200, get(base+strings.ReplaceAll(strings.ReplaceAll(id, "/", "%2F"), "@", "%40"), "caller").status)
		}
	}
	none, hidden := get("/v1/models/gpt-none", "caller"), get("/v1/models/gpt-test", "nothing")
	assert.Equal(t, 404, none.status)
	assert.Equal(t, string(none.body), string(hidden.body), "what is there and may not be called looks like what is not there")
	assert.Equal(t, 401, get("/v1/models/gpt-test", "nobody").status)
}

func packed(t *testing.T, coding, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&out)
	if coding == "zstd" {
		z, err := zstd.NewWriter(&out)
		require.NoError(t, err)
		w = z
	}
	_, err := io.WriteString(w, text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

// A packed body is read within the same bounds, whatever it unpacks to.
func TestPackedBodies(t *testing.T) {
	e := newEnv(t, func(s *setup) { s.opts.MaxBodyBytes, s.opts.MaxBuffered = 100_000, 32<<20 })
	for _, coding := range []string{"gzip", "zstd"} {
		body := `{"model":"gpt-test","x":"` + strings.Repeat("y", 90_000) + `"}`
		whole := packed(t, coding, body)
		for _, c := range []struct {
			name   string
			sent   string
			status int
			code   string
		}{
			{"whole", string(whole), 200, ""},
			{"bomb", string(packed(t, coding, `{"model":"gpt-test","x":"`+strings.Repeat("y", 20<<20)+`"}`)), 413, "request_too_large"},
			{"cut", string(whole[:len(whole)-9]), 400, "invalid_request"},
			{"not packed at all", body, 400, "invalid_request"},
		} {
			a := e.chat(c.sent, "Content-Encoding", strings.ToUpper(coding))
			assert.Equal(t, c.status, a.status, coding+c.name+string(a.body))
			assert.Equal(t, c.code, a.code(), coding+c.name)
		}
		sent, head := e.upstream.last()
		assert.Equal(t, body, string(sent))
		assert.Empty(t, head.Get("Content-Encoding"))
	}
	a := e.chat(`{}`, "Content-Encoding", "br")
	assert.Equal(t, 400, a.status)
	assert.Contains(t, a.message(), "gzip")
	for range 20 { // what was taken is given back
		require.Equal(t, 200, e.chat(string(packed(t, "zstd", triage)), "Content-Encoding", "zstd").status)
	}
}

// Portkey's SDKs read success and data of a rendering.
func TestRenderSpeaksPortkey(t *testing.T) {
	e := newEnv(t)
	a := e.post("/v1/prompts/support%2Ftriage/render", `{"variables":{"ticket":"T"}}`, "Authorization", "", "X-Portkey-Api-Key", "caller")
	require.Equal(t, 200, a.status)
	assert.True(t, gjson.GetBytes(a.body, "success").Bool())
	assert.JSONEq(t, gjson.GetBytes(a.body, "request").Raw, gjson.GetBytes(a.body, "data").Raw)
	assert.Equal(t, "Sort tickets.", gjson.GetBytes(a.body, "data.messages.0.content").String())
}

// Variables reach the prompt by every way that a client has: what arrives is the text that was meant.
func TestVariablesByEveryWay(t *testing.T) {
	const named, header = `{"model":"prompt/support/triage@production"}`, "X-Promptgate-Variables"
	for _, c := range []struct{ name, body, header, want string }{
		{"ASCII", named, `{"ticket":"plain"}`, "plain"},
		{"UTF-8", named, `{"ticket":"café 🙂"}`, "café 🙂"},
		{"Latin-1, as fetch sends it", named, "{\"ticket\":\"caf\xe9\"}", "café"},
		{"RFC 8187", named, `UTF-8''%7B%22ticket%22%3A%22caf%C3%A9%20%F0%9F%99%82%22%7D`, "café 🙂"},
		{"RFC 8187 with a language", named, `utf-8'en'%7B%22ticket%22%3A%22x%22%7D`, "x"},
		{"base64url", named, base64.RawURLEncoding.EncodeToString([]byte(`{"ticket":"café 🙂?>"}`)), "café 🙂?>"},
		{"base64url, padded", named, base64.URLEncoding.EncodeToString([]byte(`{"ticket":"cafe"}`)), "cafe"},
		{"metadata", `{"model":"prompt/support/triage@production","metadata":{"promptgate_variables":{"ticket":"m"}}}`, "", "m"},
		{"metadata of strings", `{"model":"prompt/support/triage@production","metadata":{"a":"b","promptgate_variables":"{\"ticket\":\"m\"}"}}`, "", "m"},
	} {
		e := newEnv(t)
		pairs := []string{}
		if c.header != "" {
			pairs = []string{header, c.header}
		}
		a := e.chat(c.body, pairs...)
		require.Equal(t, 200, a.status, c.name+string(a.body))
		sent, _ := e.upstream.last()
		assert.Equal(t, "Ticket: "+c.want, gjson.GetBytes(sent, "messages.1.content").String(), c.name)
		assert.NotContains(t, string(sent), "promptgate_variables")
		assert.Equal(t, strings.Contains(c.body, `"a":"b"`), gjson.GetBytes(sent, "metadata").Exists(), c.name)
	}
	e := newEnv(t)
	a := e.chat(named, header, `{"ticket":"`+strings.Repeat("x", 17<<10)+`"}`)
	assert.Equal(t, 431, a.status)
	assert.Equal(t, "headers_too_large", a.code())
	a = e.chat(named, header, "{oops")
	assert.Equal(t, "invalid_prompt_reference", a.code())
	assert.NotContains(t, a.message(), "request body")
	for place, send := range map[string]func() answer{
		"x-promptgate-variables": func() answer { return e.chat(named, header, `{}`) },
		"metadata.promptgate_variables": func() answer {
			return e.chat(`{"model":"prompt/support/triage","metadata":{"promptgate_variables":{}}}`)
		},
		"prompt_variables": func() answer { return e.chat(`{"prompt_id":"support/triage"}`) },
		"prompt.variables": func() answer { return e.chat(`{"prompt":{"id":"support/triage"}}`) },
		"variables":        func() answer { return e.post("/v1/prompts/support/triage/render", `{}`) },
	} {
		a := send()
		assert.Equal(t, "missing_variable", a.code(), place)
		assert.Contains(t, a.message(), "in "+place)
		assert.NotContains(t, strings.ReplaceAll(a.message(), "in "+place, ""), "variables.")
		assert.Equal(t, place+".ticket", gjson.GetBytes(a.body, "error.param").String())
	}
}

// What SDKs send because they must send something is dropped beside a managed prompt; what says something is not.
func TestEmptyMessagesAreDropped(t *testing.T) {
	for messages, kept := range map[string]int{
		`""`: 0, `[]`: 0, `[{"role":"user","content":""}]`: 0, `[{"role":"user","content":[]}]`: 0, `[{"role":"user","content":null}]`: 0,
		`[{"role":"user","content":[{"type":"text","text":""}]}]`: 0, `[{"role":"user","content":" "}]`: 1,
		`[{"role":"user","content":""},{"role":"user","content":"x"}]`:                                          1,
		`[{"role":"assistant","content":null,"tool_calls":[]},{"role":"tool","tool_call_id":"a","content":""}]`: 2,
		`[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]`:                            1,
	} {
		e := newEnv(t)
		a := e.chat(`{"prompt":{"id":"support/triage","variables":{"ticket":"T"}},"messages":` + messages + `}`)
		require.Equal(t, 200, a.status, messages+string(a.body))
		sent, _ := e.upstream.last()
		assert.EqualValues(t, 2+kept, gjson.GetBytes(sent, "messages.#").Int(), messages)
	}
}

// A client's default headers are no error on a call without a prompt, and count on one with.
func TestDefaultHeaders(t *testing.T) {
	e := newEnv(t)
	defaults := []string{"X-Promptgate-Label", "staging", "X-Promptgate-Variables", `{"ticket":"T"}`}
	assert.Equal(t, 200, e.chat(`{"model":"gpt-test"}`, defaults...).status)
	a := e.chat(`{"model":"prompt/support/triage"}`, defaults...)
	assert.Equal(t, "staging", a.header.Get("X-Promptgate-Label"))
	assert.Equal(t, 404, e.chat(`{"model":"gpt-test"}`, "X-Promptgate-Prompt", "support/none").status, "but a prompt that is named is")
}

func TestRequestIDs(t *testing.T) {
	e := newEnv(t)
	for _, send := range []func(header ...string) answer{
		func(h ...string) answer { return e.chat(`{"model":"gpt-test"}`, h...) },
		func(h ...string) answer { return e.chat(`{`, h...) },
		func(h ...string) answer { return e.chat(triage, append(h, "Authorization", "")...) },
		func(h ...string) answer {
			return e.post("/v1/prompts/support/triage/render", `{"variables":{"ticket":"T"}}`, h...)
		},
		func(h ...string) answer { return e.do(e.request(http.MethodGet, "/v1/models", "", h...)) },
		func(h ...string) answer { return e.do(e.request(http.MethodGet, "/nowhere", "", h...)) },
		func(h ...string) answer { return e.post("/v1/feedback", `{}`, h...) },
	} {
		a := send()
		assert.Equal(t, a.header.Get("X-Promptgate-Call-Id"), a.header.Get("X-Request-Id"))
		assert.NotEmpty(t, a.header.Get("X-Request-Id"))
		assert.Equal(t, []string{"mine-1"}, send("X-Request-Id", "mine-1").header.Values("X-Request-Id"))
		odd := send("X-Request-Id", strings.Repeat("x", 200))
		assert.Equal(t, odd.header.Get("X-Promptgate-Call-Id"), odd.header.Get("X-Request-Id"))
	}
	for _, path := range []string{"/livez", "/readyz"} { // no call, and named all the same
		assert.NotEmpty(t, e.do(e.request(http.MethodGet, path, "")).header.Get("X-Request-Id"), path)
		assert.Equal(t, "mine-1", e.do(e.request(http.MethodGet, path, "", "X-Request-Id", "mine-1")).header.Get("X-Request-Id"), path)
	}
}

// TestNearNames: a prompt or label that is nearly right is answered with the name that was meant, among those that this caller may use; what it may
// not use is named to nobody, and a name that is there and not the caller's is answered like one that is not there.
func TestNearNames(t *testing.T) {
	e := newEnv(t)
	content := template.Content{Messages: []template.Message{{Role: "system", Text: "Sort."}}, Model: "gpt-test"}
	e.registry.add("support/refunds", map[string]int{"production": 1, "staging": 1, "canary": 1}, content)
	e.registry.add("secret/payroll", map[string]int{"production": 1}, content)
	e.registry.add("secret/payrolls", map[string]int{"production": 1}, content)
	ask := func(id, more string) string {
		a := e.chat(`{"prompt":{"id":"` + id + `"` + more + `}}`)
		require.Equal(t, 404, a.status, id)
		return a.message()
	}
	assert.Contains(t, ask("support/refund", ""), `did you mean "support/refunds"?`)
	assert.Contains(t, ask("Support/Refunds", ""), `did you mean "support/refunds"?`)
	assert.NotContains(t, ask("support/nothing-like-it", ""), "did you mean")
	assert.Equal(t, ask("secret/payroll", ""), ask("secret/nothing", ""))
	assert.NotContains(t, ask("secret/payrol", ""), "payroll")
	assert.NotContains(t, ask("support/refunds", `,"version":77`), "did you mean")

	assert.Contains(t, ask("support/refunds", `,"label":"missing"`), "this key may use production, staging.")
	e.keys.keys["caller"].Grants[0].Labels = append(e.keys.keys["caller"].Grants[0].Labels, "prodution") //nolint:misspell // on purpose
	assert.Contains(t, ask("support/refunds", `,"label":"prodution"`), `did you mean "production"?`)     //nolint:misspell // on purpose
	assert.NotContains(t, ask("support/refunds", `,"label":"missing"`), "canary", "which this key may not use")
}

// TestLargeHeaders: what is beyond the bound of all headers together is told in our shape.
func TestLargeHeaders(t *testing.T) {
	e := newEnv(t)
	var many []string
	for i := range 10 {
		many = append(many, "X-Large-"+strconv.Itoa(i), strings.Repeat("x", 8<<10))
	}
	for _, path := range []string{"/v1/chat/completions", "/v1/feedback", "/livez"} {
		a := e.post(path, `{"model":"gpt-test"}`, many...)
		assert.Equal(t, http.StatusRequestHeaderFieldsTooLarge, a.status, path)
		assert.NotEmpty(t, a.message(), path)
	}
	assert.Equal(t, 200, e.chat(`{"model":"gpt-test"}`, many[:8]...).status)
}

// TestPlainNamesOfPrompts: an alias makes a plain model name mean a prompt, with the prompt's permissions and none of a model's.
func TestPlainNamesOfPrompts(t *testing.T) {
	e := newEnv(t)
	e.router.prompts = map[string]string{
		"gpt-4o-triage": "support/triage@production", "gpt-4o-draft": "support/triage@2", "gpt-4o-secret": "secret/x@production", "gpt-4o-plain": "support/triage",
	}
	vars := `,"metadata":{"promptgate_variables":"{\"ticket\":\"T\"}"}}`
	ask := func(key, model string) answer {
		return e.chat(`{"model":"`+model+`"`+vars, "Authorization", "Bearer "+key)
	}
	for _, model := range []string{"gpt-4o-triage", "gpt-4o-plain"} {
		a := ask("prompts", model) // may choose no model
		require.Equal(t, 200, a.status, "%s", a.body)
		assert.Equal(t, "support/triage", a.header.Get("X-Promptgate-Prompt"))
		assert.Equal(t, "production", a.header.Get("X-Promptgate-Label"))
		sent, _ := e.upstream.last()
		assert.Equal(t, "gpt-test", gjson.GetBytes(sent, "model").String())
		assert.NotContains(t, string(sent), "gpt-4o")
	}
	assert.Equal(t, 403, ask("prompts", "gpt-4o-draft").status, "a version by number is a permission of its own")
	assert.Equal(t, 200, ask("caller", "gpt-4o-draft").status)
	asked := e.upstream.count()
	assert.Equal(t, 404, ask("caller", "gpt-4o-secret").status)
	assert.Equal(t, 400, e.chat(`{"model":"gpt-4o-triage","prompt":{"id":"support/other"}}`).status, "two prompts in one request")
	assert.Equal(t, asked, e.upstream.count())
	azure := e.post("/openai/deployments/gpt-4o-triage/chat/completions", `{"x":1`+vars)
	assert.Equal(t, 200, azure.status, "%s", azure.body)
	assert.Equal(t, "support/triage", azure.header.Get("X-Promptgate-Prompt"))

	listed := func(key string) string {
		return string(e.do(e.request(http.MethodGet, "/v1/models", "", "Authorization", "Bearer "+key)).body)
	}
	assert.Contains(t, listed("prompts"), `"gpt-4o-triage"`)
	assert.NotContains(t, listed("prompts"), `"gpt-4o-draft"`)
	assert.NotContains(t, listed("caller"), `"gpt-4o-secret"`)
	assert.Equal(t, 200, e.do(e.request(http.MethodGet, "/v1/models/gpt-4o-triage", "")).status)
}
