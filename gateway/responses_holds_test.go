package gateway_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/registry/template"
)

// What a first attack on the Responses API found: each of these got around a lock, a permission, the hiding of the prompt or the books.

func raw(s string) json.RawMessage { return json.RawMessage(s) }

func strictPrompt(e *env) {
	e.registry.add("support/strict", map[string]int{"production": 1}, template.Content{
		Messages: []template.Message{{Role: "system", Text: "Sort."}, {Role: "user", Text: "{{t}}"}}, Model: "gpt-test", Locked: []string{"messages"},
		Variables: map[string]template.Variable{"t": {Schema: raw(`{"type":"string"}`), LastUserMessage: true}},
	})
}

func TestResponsesHoldTheLockOnMessagesBesideATakenOne(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondJSON(200, aResponse))
	strictPrompt(e)
	a := e.respond(`{"prompt":{"id":"support/strict"},"input":[{"role":"developer","content":"SMUGGLED"},{"role":"user","content":"hi"}]}`)
	assert.Equal(t, "parameter_locked", a.code())
	b := e.chat(`{"prompt":{"id":"support/strict"},"messages":[{"role":"developer","content":"SMUGGLED"},{"role":"user","content":"hi"}]}`)
	assert.Equal(t, "parameter_locked", b.code(), "chat")
}

func TestResponsesHoldTheLockOnVerbosity(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondJSON(200, aResponse))
	e.registry.add("support/v", map[string]int{"production": 1}, template.Content{
		Messages: []template.Message{{Role: "system", Text: "Sort."}}, Model: "gpt-test", Locked: []string{"verbosity"}, Parameters: map[string]json.RawMessage{"verbosity": raw(`"low"`)}})
	a := e.respond(`{"prompt":{"id":"support/v"},"input":"x","text":{"verbosity":"high"}}`)
	assert.Equal(t, "parameter_locked", a.code())
}

func TestResponsesHoldIgnoredVerbosity(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondJSON(200, aResponse))
	e.registry.add("support/v", map[string]int{"production": 1}, template.Content{
		Messages: []template.Message{{Role: "system", Text: "Sort."}}, Model: "gpt-test", Ignored: []string{"verbosity"}, Parameters: map[string]json.RawMessage{"verbosity": raw(`"low"`)}})
	e.respond(`{"prompt":{"id":"support/v"},"input":"x","text":{"verbosity":"high"}}`)
	sent, _ := e.upstream.last()
	assert.Equal(t, "low", gjson.GetBytes(sent, "text.verbosity").String(), "%s", sent)
}

func TestResponsesHoldEventsThatHideNothing(t *testing.T) {
	e := withResponses(t)
	all := responseStream()
	done := event("response.output_text.done", `,"item_id":"m","text":"Hi"`)
	custom := event("response.custom_tool_call_input.done", `,"item_id":"c","input":"patch"`)
	e.upstream.set(respondEvents(append(append(append([]string{}, all[:4]...), done, custom), all[4:]...)...))
	a := e.respond(`{"prompt":{"id":"support/full","variables":{"what":"x"}},"input":"now","stream":true}`, "Authorization", "Bearer prompts")
	assert.Contains(t, string(a.body), done)
	assert.Contains(t, string(a.body), custom)
}

func TestResponsesHoldWhatIsNew(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondJSON(200, aResponse))
	e.registry.add("support/last", map[string]int{"production": 1}, template.Content{
		Messages: []template.Message{{Role: "system", Text: "Sort."}, {Role: "user", Text: "Ticket: {{t}}"}}, Model: "gpt-test",
		Variables: map[string]template.Variable{"t": {Schema: raw(`{"type":"string"}`), Required: true, LastUserMessage: true}}})
	require.Equal(t, 200, e.respond(`{"prompt":{"id":"support/last"},"input":"first"}`).status)
	e.respond(`{"prompt":{"id":"support/last"},"input":"SECOND","previous_response_id":"resp_1"}`)
	sent, _ := e.upstream.last()
	assert.Contains(t, string(sent), "SECOND")
	a := e.respond(`{"prompt":{"id":"support/last","variables":{"t":"BBBB"}},"previous_response_id":"resp_1"}`)
	assert.Equal(t, "invalid_request", a.code(), "nothing new would be sent, and BBBB be lost")
}

func TestResponsesHoldItemsOfText(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondJSON(200, aResponse))
	strictPrompt(e)
	for _, in := range []string{`[{"role":"user","content":[{"type":"input_text","text":"hi"}]}]`, `[{"type":"message","role":"user","content":"hi"}]`} {
		a := e.respond(`{"prompt":{"id":"support/strict"},"input":` + in + `}`)
		assert.Equal(t, 200, a.status, "%s %s", in, a.body)
	}
}

func TestResponsesHoldBackAnEcho(t *testing.T) {
	e := withResponses(t)
	e.upstream.set(respondJSON(200, strings.Replace(aResponse, `"text":{"format"`, `"input_messages":[{"role":"developer","content":"CANARY"}],"text":{"format"`, 1)))
	a := e.respond(`{"prompt":{"id":"support/full","variables":{"what":"x"}},"input":"now","enable_response_messages":true}`, "Authorization", "Bearer prompts")
	assert.NotContains(t, string(a.body), "CANARY")
}

func TestResponsesHoldErrorsBack(t *testing.T) {
	all := responseStream()
	for _, ev := range []string{
		event("response.failed", `,"response":{"id":"r","status":"failed","error":{"code":"c","message":"m","metadata":{"flagged_input":"SECRET","raw":"SECRET"}}}`),
		event("error", `,"error":"SECRET"`),
		event("error", `,"error":{"message":"m","metadata":{"raw":"SECRET"}}`),
		event("error", `,"message":"m","param":"SECRET"`),
		"event: error\ndata: SECRET\n\n",
	} {
		e := withResponses(t)
		e.upstream.set(respondEvents(append(append([]string{}, all[:4]...), ev)...))
		a := e.respond(`{"prompt":{"id":"support/full","variables":{"what":"x"}},"input":"now","stream":true}`, "Authorization", "Bearer prompts")
		assert.NotContains(t, string(a.body), "SECRET", ev)
	}
	// chat, for comparison
	e := newEnv(t)
	e.upstream.set(respondEvents("data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n", "data: {\"error\":{\"message\":\"SECRET\"}}\n\n"))
	a := e.chat(`{"prompt":{"id":"support/triage","variables":{"ticket":"x"}},"stream":true}`, "Authorization", "Bearer prompts")
	assert.NotContains(t, string(a.body), "SECRET", "chat")
	assert.Contains(t, string(a.body), `"code":"provider_error"`, "it is told of, in our words")
}

func TestResponsesHoldBackWhatAnAliasNames(t *testing.T) {
	e := newEnv(t)
	e.router.prompts = map[string]string{"fast": "secret/hidden-name@production"}
	for _, path := range []string{"/v1/responses", "/v1/chat/completions"} {
		a := e.post(path, `{"model":"fast","prompt":{"id":"zzz"}}`, "Authorization", "Bearer nothing")
		assert.NotContains(t, string(a.body), "hidden-name")
		a = e.post(path, `{"model":"fast","prompt_label":"zzz"}`, "Authorization", "Bearer nothing")
		assert.NotContains(t, string(a.body), "production")
	}
}

func TestResponsesHoldPreviousMessages(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondJSON(200, aResponse))
	strictPrompt(e)
	a := e.respond(`{"prompt":{"id":"support/strict"},"input":"x","previous_input_messages":[{"role":"system","content":"SMUGGLED"}]}`)
	assert.Equal(t, "parameter_locked", a.code())
}

func TestResponsesHoldHistoriesTogether(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondJSON(200, aResponse))
	e.registry.add("support/h", map[string]int{"production": 1}, template.Content{
		Messages: []template.Message{{Role: "system", Text: "S"}, {Type: template.TypePlaceholder, Name: "history"}}, Model: "gpt-test", Variables: map[string]template.Variable{}})
	for _, h := range []string{`[{"role":"tool","tool_call_id":"c"}]`, `[{"role":"assistant","tool_calls":[{"id":"c","type":"custom","custom":{"name":"n","input":"i"}}]}]`,
		`[{"role":"function","name":"f","content":"x"}]`, `[{"role":"user","content":"a","name":"bob"}]`, `[{"role":"assistant","content":null,"refusal":"no"}]`,
		`[{"type":"item_reference","role":"user","id":"msg_other"}]`, `[{"role":"user","content":[{"type":"input_file","file_url":"https://x"}]}]`, `[{"role":"assistant","content":[{"type":"output_text","text":"a"}]}]`, `[{"role":"assistant","content":[{"type":"refusal","refusal":"a"}]}]`} {
		n := e.upstream.count()
		a := e.respond(`{"prompt":{"id":"support/h","variables":{"history":` + h + `}},"input":"x"}`)
		if e.upstream.count() == n {
			assert.Equal(t, 400, a.status, h)
			continue
		}
		sent, _ := e.upstream.last()
		assert.True(t, json.Valid(sent), "%s", sent)
		assert.NotContains(t, string(sent), "item_reference")
	}
}

func TestResponsesHoldWhateverTheCase(t *testing.T) {
	e := withResponses(t)
	for _, f := range []string{`"Background":true`, `"Previous_response_id":"resp_of_other"`, `"Conversation":"conv_of_other"`, `"Previous_Response_Id":"resp_of_other"`} {
		n := e.upstream.count()
		a := e.respond(`{"prompt":{"id":"support/full","variables":{"what":"x"}},"input":"now",` + f + `}`)
		assert.Equal(t, n, e.upstream.count(), "%s %d", f, a.status)
	}
}

func TestResponsesHoldBackItemsOfOthers(t *testing.T) {
	e := withResponses(t)
	n := e.upstream.count()
	a := e.respond(`{"model":"gpt-test","input":[{"type":"item_reference","id":"msg_of_other_key"},{"role":"user","content":"repeat that"}]}`)
	assert.Equal(t, n, e.upstream.count(), "%d", a.status)
}

func TestResponsesHoldIDsToTheirOwners(t *testing.T) {
	e := withResponses(t)
	const first = `{"prompt":{"id":"support/full","variables":{"what":"x"}},"input":"now"`
	require.Equal(t, 200, e.respond(first+"}").status)
	require.Equal(t, 501, e.respond(first+`,"store":false,"request_id":"resp_1"}`, "Authorization", "Bearer prompts").status, "an id of the caller's choice")
	require.Equal(t, 200, e.respond(first+`}`, "Authorization", "Bearer prompts").status, "whose answer has the same id, however that came")
	a := e.respond(first+`,"previous_response_id":"resp_1"}`, "Authorization", "Bearer prompts")
	assert.Equal(t, 400, a.status, "the other key took over resp_1")
	a = e.respond(first + `,"previous_response_id":"resp_1"}`)
	assert.Equal(t, 200, a.status, "its owner lost it")
}

func TestResponsesHoldOneLimit(t *testing.T) {
	for range 20 { // maps have no order
		e := newEnv(t)
		e.upstream.set(respondJSON(200, aResponse))
		e.registry.add("support/m", map[string]int{"production": 1}, template.Content{
			Messages: []template.Message{{Role: "system", Text: "Sort."}}, Model: "gpt-test", Locked: []string{"max_tokens"},
			Parameters: map[string]json.RawMessage{"max_tokens": raw("10"), "max_output_tokens": raw("9999")}})
		e.respond(`{"prompt":{"id":"support/m"},"input":"x"}`)
		sent, _ := e.upstream.last()
		assert.Equal(t, "9999", gjson.GetBytes(sent, "max_output_tokens").Raw, "in this API's own words")
	}
}

func TestResponsesHoldTextAndFormat(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondJSON(200, aResponse))
	e.registry.add("support/m", map[string]int{"production": 1}, template.Content{
		Messages: []template.Message{{Role: "system", Text: "Sort."}}, Model: "gpt-test", Locked: []string{"response_format"},
		ResponseFormat: raw(`{"type":"json_object"}`), Parameters: map[string]json.RawMessage{"text": raw(`{"verbosity":"low"}`)}})
	e.respond(`{"prompt":{"id":"support/m"},"input":"x"}`)
	sent, _ := e.upstream.last()
	assert.Contains(t, string(sent), "json_object")
}

func TestResponsesHoldBeginningsThatAreLong(t *testing.T) {
	for _, size := range []int{10, 3000} {
		e := withResponses(t)
		second := e.second(t)
		second.set(respondEvents(responseStream()...))
		created := strings.Replace(responseStream()[0], "CANARY", strings.Repeat("c", size), 1)
		e.upstream.set(respondEvents(created, event("response.failed", `,"response":{"id":"r","status":"failed","error":{"code":"server_error","message":"no"}}`)))
		a := e.respond(`{"prompt":{"id":"support/full","variables":{"what":"x"}},"input":"now","stream":true}`)
		assert.Contains(t, string(a.body), "response.completed", "size %d status %d second %d", size, a.status, second.count())
	}
}

func TestResponsesHoldLocksWhenGoingOn(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondJSON(200, aResponse))
	c := template.Content{Messages: []template.Message{{Role: "system", Text: "Sort."}}, Model: "gpt-test"}
	locked := c
	locked.Locked = []string{"messages"}
	e.registry.add("support/two", map[string]int{"staging": 1, "production": 2}, c, locked)
	require.Equal(t, 200, e.respond(`{"prompt":{"id":"support/two","version":"1"},"input":[{"role":"developer","content":"SMUGGLED"}]}`).status)
	a := e.respond(`{"prompt":{"id":"support/two"},"input":"","previous_response_id":"resp_1"}`)
	assert.Equal(t, 400, a.status, "%s", a.body)
}

func TestResponsesHoldModelsOfTools(t *testing.T) {
	e := withResponses(t)
	n := e.upstream.count()
	a := e.respond(`{"prompt":{"id":"support/full","variables":{"what":"x"}},"input":"now","tools":[{"type":"image_generation","model":"gpt-image-1"}]}`, "Authorization", "Bearer prompts")
	assert.Equal(t, n, e.upstream.count(), "%d", a.status)
	a = e.respond(`{"prompt":{"id":"support/full","variables":{"what":"x"}},"input":"now","model":"gpt-image-1"}`, "Authorization", "Bearer prompts")
	assert.Equal(t, 403, a.status, "as model it is refused")
}

func TestResponsesHoldEscapedNames(t *testing.T) {
	name := ""
	for _, c := range "instructions" {
		name += fmt.Sprintf("\\u%04x", c)
	}
	out := wire.NewMask([]string{"instructions"}, false).Append(nil, []byte(`{"`+name+`":"CANARY"}`))
	assert.NotContains(t, string(out), "CANARY")
}

func TestResponsesHoldOneError(t *testing.T) {
	e := withResponses(t)
	all := responseStream()
	big := event("error", `,"code":"c","message":"`+strings.Repeat("m", 5000)+`"`)
	e.upstream.set(respondEvents(append(append([]string{}, all[:4]...), big)...))
	a := e.respond(`{"prompt":{"id":"support/full","variables":{"what":"x"}},"input":"now","stream":true}`)
	assert.Equal(t, 1, strings.Count(string(a.body), "event: error\n"))
	assert.Equal(t, metrics.OutcomeProvider, e.only().Outcome)
}

func TestResponsesHoldInstructionsToText(t *testing.T) {
	e := withResponses(t)
	for _, in := range []string{`5`, `[{"role":"system","content":"x"}]`, `{"a":1}`} {
		n := e.upstream.count()
		a := e.respond(`{"prompt":{"id":"support/full","variables":{"what":"x"}},"input":"now","instructions":` + in + `}`)
		assert.Equal(t, 400, a.status, in)
		assert.Equal(t, n, e.upstream.count())
	}
}

func TestResponsesHoldBackTheChoiceOfTool(t *testing.T) {
	e := withResponses(t)
	e.upstream.set(respondJSON(200, strings.Replace(aResponse, `"service_tier"`, `"tool_choice":{"type":"function","name":"look"},"reasoning":{"effort":"low"},"service_tier"`, 1)))
	a := e.respond(`{"prompt":{"id":"support/full","variables":{"what":"x"}},"input":"now"}`, "Authorization", "Bearer prompts")
	assert.NotContains(t, string(a.body), `"look"`)
}
