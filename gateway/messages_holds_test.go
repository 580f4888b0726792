package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/anthropic"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/registry/template"
)

// addMessages adds a prompt with a limit, so that it can be called as a message.
func (e *env) addMessages(name string, c template.Content) {
	if c.Messages == nil {
		c.Messages = []template.Message{{Role: "system", Text: "Sort."}}
	}
	if c.Parameters == nil {
		c.Parameters = map[string]json.RawMessage{}
	}
	if c.Parameters["max_tokens"] == nil {
		c.Parameters["max_tokens"] = raw("64")
	}
	c.Model = "gpt-test"
	e.registry.add(name, map[string]int{"production": 1}, c)
}

// TestMessagesHoldLocks: a lock holds under each name that the Messages API has for what it locks, and so does what a version ignores.
func TestMessagesHoldLocks(t *testing.T) {
	for name, c := range map[string]struct {
		locked, set, sends string
		passes             bool
	}{
		"system beside locked messages":             {"messages", ``, `"system":"SMUGGLED"`, false},
		"system blocks beside locked messages":      {"messages", ``, `"system":[{"type":"text","text":"SMUGGLED"}]`, false},
		"an empty system text says nothing":         {"messages", ``, `"system":""`, true},
		"messages":                                  {"messages", ``, `"messages":[{"role":"user","content":"SMUGGLED"}]`, false},
		"the limit":                                 {"max_tokens", ``, `"max_tokens":65`, false},
		"the limit under its chat name":             {"max_completion_tokens", ``, `"max_tokens":65`, false},
		"the same limit":                            {"max_tokens", ``, `"max_tokens":64`, true},
		"tools":                                     {"tools", ``, `"tools":[]`, false},
		"the choice":                                {"tool_choice", `"tool_choice":"auto"`, `"tool_choice":{"type":"any"}`, false},
		"the same choice":                           {"tool_choice", `"tool_choice":"required"`, `"tool_choice":{"type":"any"}`, true},
		"parallel calls, which stand in the choice": {"parallel_tool_calls", `"parallel_tool_calls":false`, `"tool_choice":{"type":"auto"}`, false},
		"stop":                      {"stop", `"stop":"END"`, `"stop_sequences":["x"]`, false},
		"the same stop":             {"stop", `"stop":"END"`, `"stop_sequences":["END"]`, true},
		"effort":                    {"reasoning_effort", `"reasoning_effort":"low"`, `"output_config":{"effort":"max"}`, false},
		"thinking beside effort":    {"reasoning_effort", `"reasoning_effort":"low"`, `"thinking":{"type":"enabled","budget_tokens":9000}`, false},
		"format":                    {"response_format", ``, `"output_config":{"format":{"type":"json_schema","schema":{}}}`, false},
		"format by its beta's name": {"response_format", ``, `"output_format":{"type":"json_schema","schema":{}}`, false},
		"whatever the case":         {"stop", `"stop":"END"`, `"Stop_Sequences":["x"]`, false},
		"user":                      {"user", `"user":"a"`, `"metadata":{"user_id":"b"}`, false},
		"a name of its own":         {"top_k", `"top_k":4`, `"top_k":5`, false},
	} {
		t.Run(name, func(t *testing.T) {
			var set map[string]json.RawMessage
			require.NoError(t, json.Unmarshal([]byte("{"+c.set+"}"), &set))
			content := template.Content{Messages: []template.Message{{Role: "system", Text: "Sort."}, {Role: "user", Text: "Go."}}, Parameters: set}
			locked, ignored := content, content
			locked.Locked, ignored.Ignored = []string{c.locked}, []string{c.locked}
			e := newEnv(t)
			e.upstream.set(respondJSON(200, aMessage))
			e.addMessages("support/locked", locked)
			e.addMessages("support/ignored", ignored)
			a := e.message(`{"prompt":{"id":"support/locked"},` + c.sends + `}`)
			if c.passes {
				require.Equal(t, 200, a.status, "%s", a.body)
			} else {
				require.Equal(t, "parameter_locked", a.code(), "%s", a.body)
				assert.Equal(t, "invalid_request_error", a.kind())
				assert.Zero(t, e.upstream.count())
			}
			with := e.message(`{"prompt":{"id":"support/ignored"},` + c.sends + `}`)
			require.Equal(t, 200, with.status, "%s", with.body)
			sent, _ := e.upstream.last()
			require.Equal(t, 200, e.message(`{"prompt":{"id":"support/ignored"}}`).status)
			without, _ := e.upstream.last()
			assert.JSONEq(t, string(without), string(sent), "what is ignored changes nothing")
		})
	}
	e := newEnv(t)
	e.upstream.set(respondJSON(200, aMessage))
	e.addMessages("support/strict", template.Content{Messages: []template.Message{{Role: "system", Text: "Sort."}, {Role: "user", Text: "{{t}}"}}, Locked: []string{"messages"},
		Variables: map[string]template.Variable{"t": {Schema: raw(`{"type":"string"}`), LastUserMessage: true}}})
	for _, content := range []string{`"hi"`, `[{"type":"text","text":"hi"}]`} {
		a := e.message(`{"prompt":{"id":"support/strict"},"messages":[{"role":"user","content":` + content + `}]}`)
		require.Equal(t, 200, a.status, "%s", a.body)
		sent, _ := e.upstream.last()
		assert.JSONEq(t, `[{"role":"user","content":"hi"}]`, gjson.GetBytes(sent, "messages").Raw, "the last message became the variable")
	}
	a := e.message(`{"prompt":{"id":"support/strict"},"messages":[{"role":"assistant","content":"SMUGGLED"},{"role":"user","content":"hi"}]}`)
	assert.Equal(t, "parameter_locked", a.code())
}

// TestMessagesRefuseByName: what the Messages API has no word or no place for is refused by name, and nothing is sent.
func TestMessagesRefuseByName(t *testing.T) {
	user := []template.Message{{Role: "user", Text: "Go."}}
	set := func(name, value string) template.Content {
		return template.Content{Messages: user, Parameters: map[string]json.RawMessage{name: raw(value)}}
	}
	part := func(kind, value string) template.Content {
		return template.Content{Messages: []template.Message{{Role: "user", Parts: []template.Part{{Type: "text", Text: "x"}, {Type: kind, Value: raw(value)}}}}}
	}
	for name, c := range map[string]struct {
		content template.Content
		says    string
	}{
		"frequency_penalty":         {set("frequency_penalty", "0.5"), `"frequency_penalty"`},
		"logit_bias":                {set("logit_bias", `{"5":1}`), `"logit_bias"`},
		"seed":                      {set("seed", "0"), `"seed"`},
		"n":                         {set("n", "2"), `"n"`},
		"verbosity":                 {set("verbosity", `"low"`), `"verbosity"`},
		"a tier":                    {set("service_tier", `"flex"`), `"service_tier"`},
		"an effort":                 {set("reasoning_effort", `"minimal"`), `"reasoning_effort"`},
		"metadata":                  {set("metadata", `{"team":"a"}`), `"metadata"`},
		"a choice":                  {set("tool_choice", `{"type":"allowed_tools","allowed_tools":{}}`), `"tool_choice"`},
		"json_object":               {template.Content{Messages: user, ResponseFormat: raw(`{"type":"json_object"}`)}, `"response_format"`},
		"a custom tool":             {template.Content{Messages: user, Tools: raw(`[{"type":"custom","custom":{"name":"a"}}]`)}, `"tools"`},
		"audio":                     {part("input_audio", `{"data":"AA","format":"wav"}`), "audio"},
		"an image's type":           {part("image_url", `{"url":"data:image/tiff;base64,AA"}`), "image/tiff"},
		"an image not in base64":    {part("image_url", `{"url":"data:image/png,AA"}`), "base64"},
		"a file's type":             {part("file", `{"file_data":"data:application/zip;base64,AA","filename":"a.zip"}`), "application/pdf"},
		"system text in the middle": {template.Content{Messages: []template.Message{{Role: "user", Text: "a"}, {Role: "system", Text: "b"}}}, "system message"},
		"arguments that are no object": {template.Content{Messages: []template.Message{{Role: "user", Text: "a"},
			{Role: "assistant", ToolCalls: raw(`[{"id":"c","type":"function","function":{"name":"look","arguments":"[1]"}}]`)}, {Role: "tool", ToolCallID: "c", Text: "x"}}}, `"look"`},
		"nothing but system text": {template.Content{Messages: []template.Message{{Role: "system", Text: "a"}}}, `"messages"`},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.upstream.set(respondJSON(200, aMessage))
			e.addMessages("support/chat", c.content)
			for _, path := range []string{"/v1/messages", "/v1/messages/count_tokens"} {
				a := e.post(path, `{"prompt":{"id":"support/chat"}}`)
				require.Equal(t, 400, a.status, "%s", a.body)
				assert.Equal(t, "invalid_request_error", a.kind())
				assert.Contains(t, a.message(), c.says)
			}
			assert.Zero(t, e.upstream.count(), "nothing was sent")
			e.upstream.set(respondJSON(200, okJSON))
			assert.Equal(t, 200, e.chat(`{"prompt":{"id":"support/chat"}}`).status, "as a chat it can be called")
		})
	}
	e := withMessages(t)
	e.registry.add("support/unlimited", map[string]int{"production": 1}, template.Content{Messages: user, Model: "gpt-test"})
	for body, field := range map[string]string{
		`{"prompt":{"id":"support/unlimited"}}`:                                           "max_tokens",
		`{"prompt":{"id":"support/unlimited"},"max_tokens":null}`:                         "max_tokens",
		fullMessages + `,"system":5}`:                                                     "system",
		`{"prompt":{"id":"support/full","variables":{"what":"x"}},"messages":{"role":1}}`: "messages",
		fullMessages + `,"container":"container_of_other"}`:                               "container",
		fullMessages + `,"container":{"id":"container_of_other"}}`:                        "container",
		fullMessages + `,"Container":"container_of_other"}`:                               "container",
		fullMessages + `,"thread":{"id":"thread_of_other"}}`:                              "thread",
		fullMessages + `,"diagnostics":{"previous_message_id":"msg_of_other"}}`:           "diagnostics",
	} {
		a := e.message(body)
		assert.Contains(t, []int{400, 501}, a.status, body)
		assert.Equal(t, field, gjson.GetBytes(a.body, "error.param").String(), "%s", a.body)
	}
	assert.Zero(t, e.upstream.count())
	assert.Equal(t, 200, e.message(fullMessages+`,"container":{"skills":[{"type":"anthropic","skill_id":"pdf"}]},"diagnostics":{"previous_message_id":null}}`).status)
	assert.Equal(t, 200, e.message(`{"prompt":{"id":"support/unlimited"},"max_tokens":5}`).status)
}

// TestMessagesHoldHistories: what a variable brings to a placeholder is taken in the form of a chat, of items, or of this API, and comes to blocks that it takes.
func TestMessagesHoldHistories(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondJSON(200, aMessage))
	e.addMessages("support/h", template.Content{Messages: []template.Message{{Role: "system", Text: "S"}, {Type: template.TypePlaceholder, Name: "history"}, {Role: "user", Text: "Last."}},
		Variables: map[string]template.Variable{}})
	for history, want := range map[string]string{
		``: `{"role":"user","content":"own"},{"role":"user","content":"Last."}`,
		`[{"role":"user","content":"a","name":"bob"},{"role":"assistant","content":null,"refusal":"no"}]`:                                                                                                                                               `{"role":"user","content":"a"},{"role":"assistant","content":"no"}`,
		`[{"role":"user","content":[{"type":"input_text","text":"a"},{"type":"text","text":"b","cache_control":{"type":"ephemeral"}}]}]`:                                                                                                                `{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b","cache_control":{"type":"ephemeral"}}]}`,
		`[{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"tool_use","id":"a","name":"n","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"c"}]}]`:                   `{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"tool_use","id":"a","name":"n","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"c"}]}`,
		`[{"role":"assistant","content":"x","tool_calls":[{"id":"a","type":"function","function":{"name":"n","arguments":"{\"q\":1}"}}]},{"role":"tool","tool_call_id":"a","content":"c"}]`:                                                             `{"role":"assistant","content":[{"type":"text","text":"x"},{"type":"tool_use","id":"a","name":"n","input":{"q":1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"c"}]}`,
		`[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x.test/a.png"}},{"type":"input_file","file_url":"https://x.test/a.pdf"}]},{"role":"user","content":""},{"role":"assistant","content":[{"type":"text","text":""}]}]`: `{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://x.test/a.png"}},{"type":"document","source":{"type":"url","url":"https://x.test/a.pdf"}}]}`,
		`[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"a"},{"type":"refusal","refusal":"b"}]}]`:                                                                                                                        `{"role":"assistant","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}`,
		`[{"role":"system","content":"SMUGGLED"}]`:                                                           "",
		`[{"role":"function","name":"f","content":"x"}]`:                                                     "",
		`[{"type":"item_reference","id":"msg_other"}]`:                                                       "",
		`[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"A","format":"wav"}}]}]`:     "",
		`[{"role":"assistant","tool_calls":[{"id":"c","type":"custom","custom":{"name":"n","input":"i"}}]}]`: "",
	} {
		variables, before := "", e.upstream.count()
		if history != "" {
			variables = `,"variables":{"history":` + history + `}`
		}
		a := e.message(`{"prompt":{"id":"support/h"` + variables + `},"messages":[{"role":"user","content":"own"}]}`)
		if want == "" {
			assert.Equal(t, 400, a.status, "%s %s", history, a.body)
			assert.Equal(t, before, e.upstream.count(), history)
			continue
		}
		require.Equal(t, 200, a.status, "%s %s", history, a.body)
		sent, _ := e.upstream.last()
		if history != "" {
			want += `,{"role":"user","content":"Last."},{"role":"user","content":"own"}`
		}
		assert.JSONEq(t, "["+want+"]", gjson.GetBytes(sent, "messages").Raw, history)
	}
}

// TestMessagesLeaveWhatIsNotTheirs: without messages of the prompt the caller's stand as they were sent.
func TestMessagesLeaveWhatIsNotTheirs(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondJSON(200, aMessage))
	e.addMessages("support/guide", template.Content{})
	a := e.message(`{"prompt":{"id":"support/guide"},"max_tokens" : 5, "messages":[ {"content":"\u006eow","role":"user"} ],"model":""}`)
	require.Equal(t, 200, a.status, "%s", a.body)
	sent, _ := e.upstream.last()
	assert.Equal(t, `{"max_tokens" : 5, "messages":[ {"content":"\u006eow","role":"user"} ],"model":"gpt-test","system":"Sort."}`, string(sent))
}

// TestCountTokens: a count asks for what a message asks for, goes by the same rendering, and costs nothing.
func TestCountTokens(t *testing.T) {
	e := withMessages(t)
	e.upstream.set(respondJSON(200, `{"input_tokens":2095}`))
	count := func(body string, header ...string) answer {
		return e.post("/v1/messages/count_tokens", body, header...)
	}
	a := count(fullMessages + "}")
	require.Equal(t, 200, a.status, "%s", a.body)
	assert.Equal(t, `{"input_tokens":2095}`, string(a.body))
	counted, _ := e.upstream.last()
	rec := e.recorder.last()
	assert.Equal(t, "messages/count_tokens", rec.Endpoint)
	assert.Equal(t, metrics.Tokens{}, rec.Tokens)
	require.NotNil(t, rec.CostMicros)
	assert.Zero(t, *rec.CostMicros)
	assert.Equal(t, metrics.OutcomeOK, rec.Outcome)
	assert.Equal(t, "support/full", rec.PromptName)

	e.upstream.set(respondJSON(200, aMessage))
	require.Equal(t, 200, e.message(fullMessages+"}").status)
	asked, _ := e.upstream.last()
	for _, same := range []string{"system", "messages", "tools", "tool_choice", "output_config", "thinking", "model"} {
		assert.Equal(t, gjson.GetBytes(asked, same).Raw, gjson.GetBytes(counted, same).Raw, same)
	}
	for _, only := range []string{"max_tokens", "temperature", "stop_sequences", "top_k", "metadata"} {
		assert.True(t, gjson.GetBytes(asked, only).Exists(), only)
		assert.False(t, gjson.GetBytes(counted, only).Exists(), "%s: the API takes it for a message only", only)
	}
	bare := `{"model":"gpt-test", "messages":[{"role":"user","content":"x"}]}`
	e.upstream.set(respondJSON(200, `{"input_tokens":5,"context_management":{"original_input_tokens":7}}`))
	require.Equal(t, 200, count(bare).status)
	sent, _ := e.upstream.last()
	assert.Equal(t, bare, string(sent))

	for _, body := range []string{`{}`, `{"input_tokens":"5"}`, `{"input_tokens":null}`, `{"error":{"message":"x"}}`, aMessage, `null`} {
		e.upstream.set(respondJSON(200, body))
		assert.Equal(t, 502, count(bare, once, "1").status, body)
		assert.Equal(t, metrics.Tokens{}, e.recorder.last().Tokens, "what came to nothing cost nothing either")
	}
	assert.Equal(t, 403, count(strings.Replace(bare, "gpt-test", "o3", 1), "Authorization", "Bearer prompts").status)
	assert.Equal(t, "permission_error", count(bare, "Authorization", "Bearer prompts").kind())
}

// TestRefusalsOfMessages: every refusal below /v1/messages, and of clients that send Anthropic's version, has Anthropic's shape.
func TestRefusalsOfMessages(t *testing.T) {
	e := withMessages(t)
	bare := `{"model":"gpt-test","max_tokens":5,"messages":[]}`
	check := func(a answer, status int, kind, code string) {
		t.Helper()
		assert.Equal(t, status, a.status, "%s", a.body)
		assert.Equal(t, kind, a.kind(), "%s", a.body)
		assert.Equal(t, code, a.code())
		assert.NotEmpty(t, a.message())
		assert.Equal(t, code, gjson.GetBytes(a.body, "error.details.error_code").String())
		id := a.header.Get("X-Promptgate-Call-Id")
		assert.Equal(t, id, gjson.GetBytes(a.body, "request_id").String())
		assert.Equal(t, id, a.header.Get("Request-Id"), "where Anthropic's SDKs look for it")
	}
	check(e.message(bare, "Authorization", ""), 401, "authentication_error", "invalid_api_key")
	check(e.message(bare, "Authorization", "", "X-Api-Key", "wrong"), 401, "authentication_error", "invalid_api_key")
	check(e.message(bare, "Authorization", "Bearer prompts"), 403, "permission_error", "permission_denied")
	check(e.message(`{"prompt":{"id":"support/none"}}`), 404, "not_found_error", "prompt_not_found")
	check(e.message(strings.Replace(bare, "gpt-test", "o3", 1)), 404, "not_found_error", "model_not_found")
	check(e.message(`{"model"`), 400, "invalid_request_error", "invalid_json")
	check(e.message(`{"prompt":{"id":"support/full"}}`), 400, "invalid_request_error", "missing_variable")
	check(e.post("/v1/messages/batches", `{}`), 501, "api_error", "not_implemented")
	check(e.do(e.request(http.MethodGet, "/v1/messages", "")), 405, "invalid_request_error", "invalid_request")
	check(e.message(bare, "X-Long", strings.Repeat("x", 70<<10)), 431, "invalid_request_error", "headers_too_large")
	check(e.do(e.request(http.MethodGet, "/v1/models", "", "Anthropic-Version", "2023-06-01", "Authorization", "Bearer wrong")), 401, "authentication_error", "invalid_api_key")
	check(e.post("/v1/nowhere", "", "Anthropic-Version", "2023-06-01"), 404, "not_found_error", "not_found")
	assert.Empty(t, e.post("/v1/nowhere", "").kind())
	e.upstream.set(respondJSON(401, `{"type":"error","error":{"type":"authentication_error","message":"sk-ant-SECRET"}}`))
	check(e.message(bare), 502, "api_error", "provider_auth")
	assert.Equal(t, "false", e.message(bare).header.Get("X-Should-Retry"))
	small := withMessages(t, func(s *setup) { s.opts.MaxBodyBytes = 10 })
	e = small
	check(e.message(bare), 413, "request_too_large", "request_too_large")

	// A provider's own refusal passes; who may not read the prompt gets its names.
	e = withMessages(t)
	said := `{"type":"error","error":{"type":"invalid_request_error","message":"CANARY Sort"},"request_id":"req_1"}`
	e.upstream.set(respondJSON(400, said))
	assert.Equal(t, said, string(e.message(fullMessages+"}").body))
	a := e.message(fullMessages+"}", "Authorization", "Bearer prompts")
	assert.Equal(t, 400, a.status)
	assert.NotContains(t, string(a.body), "CANARY")
	assert.Equal(t, "invalid_request_error", a.kind())
	assert.True(t, json.Valid(a.body))
}

// TestHeadersOfMessages: version and betas go to the provider, in this shape only; the usual version leaves the request a usual one.
func TestHeadersOfMessages(t *testing.T) {
	e := withMessages(t)
	o := anthropic.Options{Credential: provider.NewSecret("sk-ant")}
	o.Name, o.BaseURL, o.AllowPrivate = "claude", e.upstream.URL+"/v1", true
	p, err := anthropic.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	e.router.targets["gpt-test"] = []provider.Target{{Provider: p, Model: "claude-test"}}
	bare := `{"model":"gpt-test","max_tokens":5,"messages":[]}`
	for _, c := range []struct{ version, beta, wantVersion, wantBeta string }{
		{"", "", "2023-06-01", ""}, {"2023-06-01", "", "2023-06-01", ""}, {"2030-01-01", "", "2030-01-01", ""}, {"2023-06-01", "files-1,code-2", "2023-06-01", "files-1,code-2"},
	} {
		require.Equal(t, 200, e.message(bare, "Anthropic-Version", c.version, "Anthropic-Beta", c.beta, "Openai-Beta", "x").status)
		sent, head := e.upstream.last()
		assert.Equal(t, "claude-test", gjson.GetBytes(sent, "model").String())
		assert.Equal(t, []string{c.wantVersion}, head.Values("Anthropic-Version"))
		assert.Equal(t, c.wantBeta, head.Get("Anthropic-Beta"))
		assert.Equal(t, "sk-ant", head.Get("X-Api-Key"))
		assert.Empty(t, head.Get("Authorization"))
		assert.Empty(t, head.Get("Openai-Beta"))
	}
	e.addMessages("support/samples", template.Content{Messages: []template.Message{{Role: "user", Text: "Go."}}, Parameters: map[string]json.RawMessage{"temperature": raw("0.5")}})
	e.addMessages("support/plain", template.Content{Messages: []template.Message{{Role: "user", Text: "Go."}}})
	for body, want := range map[string]string{
		`{"prompt":{"id":"support/samples"}}`: "2023-06-01", `{"prompt":{"id":"support/plain"}}`: "2026-10-21",
		`{"prompt":{"id":"support/plain"},"temperature":1}`: "2026-10-21", `{"prompt":{"id":"support/samples"},"temperature":1}`: "2026-10-21",
	} {
		require.Equal(t, 200, e.message(body, "Anthropic-Version", "2026-10-21", "Anthropic-Beta", "b-1").status)
		_, head := e.upstream.last()
		assert.Equal(t, []string{want}, head.Values("Anthropic-Version"), "what samples is sent in the version that takes it: %s", body)
		assert.Equal(t, "b-1", head.Get("Anthropic-Beta"))
	}
	asked := e.upstream.count()
	a := e.chat(`{"model":"gpt-test","messages":[]}`)
	assert.Equal(t, 501, a.status)
	assert.Contains(t, a.message(), `"claude"`)
	assert.Equal(t, asked, e.upstream.count(), "its models do not take chats")
	e = newEnv(t)
	e.chat(plainCall, "Anthropic-Beta", "x", "Anthropic-Version", "2030-01-01")
	_, head := e.upstream.last()
	assert.Empty(t, head.Get("Anthropic-Beta"))
	assert.Empty(t, head.Get("Anthropic-Version"))
}

// TestModelsForAnthropicsClients: the list, and one of it, as their SDKs read it.
func TestModelsForAnthropicsClients(t *testing.T) {
	e := newEnv(t)
	get := func(path string) gjson.Result {
		a := e.do(e.request(http.MethodGet, path, "", "Anthropic-Version", "2023-06-01"))
		require.Equal(t, 200, a.status, "%s", a.body)
		return gjson.ParseBytes(a.body)
	}
	list := get("/v1/models")
	ids := list.Get("data.#.id").Array()
	require.Greater(t, len(ids), 3)
	assert.Equal(t, ids[0].String(), list.Get("first_id").String())
	assert.Equal(t, ids[len(ids)-1].String(), list.Get("last_id").String())
	assert.False(t, list.Get("has_more").Bool())
	assert.JSONEq(t, `{"type":"model","id":"prompt/support/triage@production","display_name":"prompt/support/triage@production","created_at":"2023-11-14T22:13:20Z"}`,
		list.Get(`data.#(id=="prompt/support/triage@production")`).Raw)
	assert.JSONEq(t, `{"type":"model","id":"gpt-test","display_name":"gpt-test","created_at":"1970-01-01T00:00:00Z"}`, get("/v1/models/gpt-test").Raw)
	none := e.do(e.request(http.MethodGet, "/v1/models", "", "Authorization", "Bearer nothing", "Anthropic-Version", "2023-06-01"))
	assert.JSONEq(t, `{"data":[],"has_more":false,"first_id":null,"last_id":null}`, string(none.body))
	assert.Equal(t, "list", gjson.GetBytes(e.do(e.request(http.MethodGet, "/v1/models", "")).body, "object").String(), "all others get OpenAI's")
}

// TestMessageCosts: what the usage says of the price is believed, and what has another price than the list has none.
func TestMessageCosts(t *testing.T) {
	answer := func(more string) string {
		return `{"id":"m","type":"message","content":[{"type":"text","text":"x"}],"stop_reason":"end_turn","usage":{"input_tokens":100,"output_tokens":20` + more + `}}`
	}
	for more, known := range map[string]bool{
		``: true, `,"service_tier":"standard","speed":"standard","inference_geo":"not_available","server_tool_use":{"web_search_requests":0},"cache_creation":{"ephemeral_1h_input_tokens":0}`: true,
		`,"service_tier":"priority"`: false, `,"service_tier":"standard","speed":"fast"`: false, `,"inference_geo":"us"`: false,
		`,"server_tool_use":{"web_search_requests":2}`: false, `,"cache_creation":{"ephemeral_1h_input_tokens":5},"service_tier":"standard"`: false,
	} {
		e := withMessages(t, func(s *setup) { s.deps.Pricer = tierPricer{} })
		e.upstream.set(respondJSON(200, answer(more)))
		require.Equal(t, 200, e.message(fullMessages+"}").status)
		assert.Equal(t, known, e.recorder.last().CostMicros != nil, more)
		all := messageStream()
		all[0] = strings.Replace(all[0], `,"service_tier":"standard"`, more, 1)
		e.upstream.set(respondEvents(all...))
		require.Equal(t, 200, e.message(fullMessages+`,"stream":true}`).status)
		assert.Equal(t, known, e.recorder.last().CostMicros != nil, "streamed: %s", more)
	}
	// A stream that was cut tells its input, and of its output nothing that can be believed.
	e := withMessages(t)
	e.upstream.set(respondEvents(messageStream()[:6]...))
	require.Equal(t, 200, e.message(fullMessages+`,"stream":true}`).status)
	assert.Equal(t, metrics.Tokens{Input: 331, CachedInput: 300, CacheWrite: 20, Output: 4, Estimated: true}, e.recorder.last().Tokens)
}
