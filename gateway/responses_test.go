package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/registry/template"
)

const (
	responseUsage = `"usage":{"input_tokens":11,"input_tokens_details":{"cached_tokens":4},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":16}`
	aResponse     = `{"id":"resp_1","object":"response","status":"completed","error":null,"instructions":"CANARY","model":"gpt-test","tools":[{"type":"function","name":"CANARY"}],` +
		`"output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Hi"}]}],"text":{"format":{"type":"text"}},"service_tier":"default",` + responseUsage + `}`
)

// event is one event of a response's stream.
func event(kind, more string) string {
	return "event: " + kind + "\ndata: {\"type\":\"" + kind + "\",\"sequence_number\":1" + more + "}\n\n"
}

func responseStream() []string {
	begun := strings.Replace(aResponse, `"completed"`, `"in_progress"`, 1)
	begun = strings.Replace(begun, ","+responseUsage, `,"usage":null`, 1)
	return []string{
		event("response.created", `,"response":`+begun), event("response.in_progress", `,"response":`+begun),
		event("response.output_item.added", `,"item":{"type":"message"}`), event("response.output_text.delta", `,"delta":"Hi"`),
		event("response.some_new_event", `,"unknown":{"response":1}`), event("response.completed", `,"response":`+aResponse),
	}
}

// respond posts to the Responses API.
func (e *env) respond(body string, header ...string) answer {
	e.t.Helper()
	return e.post("/v1/responses", body, header...)
}

// withResponses is a gateway with a prompt that has everything that the two shapes name differently.
func withResponses(t *testing.T, change ...func(*setup)) *env {
	e := newEnv(t, change...)
	e.registry.add("support/full", map[string]int{"production": 1}, template.Content{
		Messages: []template.Message{
			{Role: "system", Text: "Sort {{what}}."}, {Role: "developer", Text: "Be \"brief\"."},
			{Role: "user", Text: "An example"}, {Role: "assistant", ToolCalls: json.RawMessage(`[{"id":"c1","type":"function","function":{"name":"look","arguments":"{\"x\":1}"}}]`)},
			{Role: "tool", ToolCallID: "c1", Text: "seen"},
			{Role: "assistant", Parts: []template.Part{{Type: "text", Text: "Fine {{what}}"}}},
			{Role: "user", Parts: []template.Part{{Type: "text", Text: "Look:"}, {Type: "image_url", Value: json.RawMessage(`{"url":"https://x.test/a.png","detail":"low"}`)}}},
		},
		Tools:          json.RawMessage(`[{"type":"function","function":{"name":"look","description":"CANARY","parameters":{"type":"object"},"strict":true}}]`),
		ResponseFormat: json.RawMessage(`{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}`),
		Parameters: map[string]json.RawMessage{
			"max_tokens": json.RawMessage(`99`), "temperature": json.RawMessage(`0.5`), "reasoning_effort": json.RawMessage(`"low"`), "verbosity": json.RawMessage(`"high"`),
			"tool_choice": json.RawMessage(`{"type":"function","function":{"name":"look"}}`),
		},
		Model: "gpt-test",
	})
	e.upstream.set(respondJSON(200, aResponse))
	return e
}

// TestResponses: a version saved for chats, called as the Responses API calls prompts, comes to what that API takes.
func TestResponses(t *testing.T) {
	e := withResponses(t)
	a := e.respond(`{"prompt":{"id":"support/full","version":"1","variables":{"what":{"type":"input_text","text":"a \"card\""}}},"input":"now","instructions":"In Greek.","metadata":{"k":"v"}}`)
	require.Equal(t, 200, a.status, "%s", a.body)
	require.Equal(t, aResponse, string(a.body), "who may read gets the provider's bytes")
	sent, _ := e.upstream.last()
	assert.JSONEq(t, `{
		"instructions": "Sort a \"card\".\n\nBe \"brief\".",
		"input": [
			{"role":"developer","content":"In Greek."},
			{"role":"user","content":"An example"},
			{"type":"function_call","call_id":"c1","name":"look","arguments":"{\"x\":1}"},
			{"type":"function_call_output","call_id":"c1","output":"seen"},
			{"role":"assistant","content":[{"type":"output_text","text":"Fine a \"card\""}]},
			{"role":"user","content":[{"type":"input_text","text":"Look:"},{"type":"input_image","image_url":"https://x.test/a.png","detail":"low"}]},
			{"role":"user","content":"now"}],
		"tools": [{"type":"function","name":"look","description":"CANARY","parameters":{"type":"object"},"strict":true}],
		"text": {"format":{"type":"json_schema","name":"n","schema":{"type":"object"}},"verbosity":"high"},
		"tool_choice": {"type":"function","name":"look"}, "reasoning": {"effort":"low"},
		"max_output_tokens": 99, "temperature": 0.5, "model": "gpt-test", "metadata": {"k":"v"}}`, string(sent))
	rec := e.only()
	assert.Equal(t, "responses", rec.Endpoint)
	assert.Equal(t, "resp_1", rec.CompletionID)
	assert.Equal(t, metrics.Tokens{Input: 11, CachedInput: 4, Output: 5, Reasoning: 2, Reported: true}, rec.Tokens)
	assert.Equal(t, metrics.OutcomeOK, rec.Outcome)

	for name, c := range map[string]struct{ more, path, want string }{
		"the caller's fields win":  {`,"max_output_tokens":7,"text":{"verbosity":"low"}`, "[max_output_tokens,text]", `[7,{"verbosity":"low"}]`},
		"items stay as they are":   {`,"input":[{"type":"reasoning","id":"m_1","summary":[]},{"role":"user","content":[{"type":"input_file","file_url":"https://x.test"}]}]`, "input.5", `{"type":"reasoning","id":"m_1","summary":[]}`},
		"an empty text is dropped": {`,"input":""`, "input.#", `5`},
		"unknown fields pass":      {`,"include":["reasoning.encrypted_content"],"x_new":{"a":1}`, "[include,x_new]", `[["reasoning.encrypted_content"],{"a":1}]`},
	} {
		a := e.respond(`{"prompt":{"id":"support/full","variables":{"what":"x"}}` + c.more + `}`)
		require.Equal(t, 200, a.status, "%s: %s", name, a.body)
		sent, _ := e.upstream.last()
		assert.JSONEq(t, c.want, gjson.GetBytes(sent, c.path).Raw, "%s: %s", name, sent)
		assert.NotContains(t, string(sent), "max_tokens\"", name)
	}
	photo := e.respond(`{"prompt":{"id":"support/full","variables":{"what":{"type":"input_image","file_id":"file-1"}}},"input":"now"}`)
	require.Equal(t, 200, photo.status, "%s", photo.body)
	sent, _ = e.upstream.last()
	assert.Contains(t, string(sent), `{"type":"input_image","file_id":"file-1"}`)
	bare := `{"model":"gpt-test","input":"as \u0069t is","instructions":"mine", "store" : false}`
	require.Equal(t, 200, e.respond(bare).status)
	sent, _ = e.upstream.last()
	assert.Equal(t, bare, string(sent), "without a prompt byte for byte")
	azure := e.post("/openai/v1/responses", bare)
	assert.Equal(t, 200, azure.status)
}

// TestResponseInstructions: what goes to "instructions", and when the input is left as it was sent.
func TestResponseInstructions(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondJSON(200, aResponse))
	add := func(name string, messages ...template.Message) {
		e.registry.add(name, map[string]int{"production": 1}, template.Content{Model: "gpt-test", Messages: messages,
			Variables: map[string]template.Variable{}})
	}
	add("support/guide", template.Message{Role: "system", Text: "Sort."})
	add("support/history", template.Message{Role: "system", Text: "Sort."}, template.Message{Type: template.TypePlaceholder, Name: "history"}, template.Message{Role: "user", Text: "Last."})
	add("support/users", template.Message{Role: "user", Text: "Go."})
	for _, c := range []struct{ prompt, more, want string }{
		{"guide", ``, `{"model":"gpt-test","input":[{"role":"system","content":"Sort."}]}`},
		{"guide", `,"input":"now"`, `{"model":"gpt-test","instructions":"Sort.","input":"now"}`},
		{"guide", `,"input":[{"role":"user","content":"now"}]`, `{"model":"gpt-test","instructions":"Sort.","input":[{"role":"user","content":"now"}]}`},
		{"guide", `,"input":"now","instructions":"Mine."`, `{"model":"gpt-test","instructions":"Sort.","input":[{"role":"developer","content":"Mine."},{"role":"user","content":"now"}]}`},
		{"history", `,"input":"now"`, `{"model":"gpt-test","instructions":"Sort.","input":[{"role":"user","content":"now"},{"role":"user","content":"Last."}]}`},
		{"users", `,"instructions":"Mine.","input":"now"`, `{"model":"gpt-test","instructions":"Mine.","input":[{"role":"user","content":"Go."},{"role":"user","content":"now"}]}`},
		{"history\",\"variables\":{\"history\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]},{\"role\":\"assistant\",\"content\":\"b\"}]},\"x\":\"", `,"input":"now"`,
			`{"model":"gpt-test","instructions":"Sort.","input":[{"role":"user","content":[{"type":"input_text","text":"a"}]},{"role":"assistant","content":"b"},{"role":"user","content":"Last."},{"role":"user","content":"now"}]}`},
	} {
		body := `{"prompt":{"id":"support/` + c.prompt + `"}` + c.more + `}`
		body = strings.Replace(body, `,"x":""`, ``, 1)
		a := e.respond(body)
		require.Equal(t, 200, a.status, "%s %s", body, a.body)
		sent, _ := e.upstream.last()
		assert.JSONEq(t, c.want, string(sent), body)
	}
	require.Equal(t, 400, e.respond(`{"prompt":{"id":"support/guide"},"input":5}`).status)
}

// TestResponseStream: events pass byte for byte and are read on the way, in pieces of any size and with lines of either end.
func TestResponseStream(t *testing.T) {
	whole := strings.Join(responseStream(), "")
	big := strings.Replace(whole, `"text":"Hi"`, `"text":"`+strings.Repeat("long ", 2000)+`"`, 3)
	for name, text := range map[string]string{"lf": whole, "crlf": strings.ReplaceAll(whole, "\n", "\r\n"), "large events": big} {
		for _, size := range []int{1, 7, 1 << 20} {
			e := withResponses(t)
			var pieces []string
			for rest := text; rest != ""; {
				n := min(size, len(rest))
				if size == 1 && len(rest) > 3000 {
					n = len(rest) - 3000 // the end byte for byte
				}
				pieces, rest = append(pieces, rest[:n]), rest[n:]
			}
			e.upstream.set(respondEvents(pieces...))
			a := e.respond(`{"prompt":{"id":"support/full","variables":{"what":"x"}},"input":"now","stream":true}`)
			require.Equal(t, 200, a.status, "%s", a.body)
			require.Equal(t, text, string(a.body), name)
			rec := e.only()
			require.Equal(t, metrics.OutcomeOK, rec.Outcome, "%s %d %+v", name, size, rec)
			assert.Equal(t, metrics.Tokens{Input: 11, CachedInput: 4, Output: 5, Reasoning: 2, Reported: true}, rec.Tokens, name)
			assert.Equal(t, "resp_1", rec.CompletionID)
			assert.Positive(t, rec.FirstToken)
		}
	}
}

// TestResponseStreamFaults: a stream cut in any event ends in this shape's own error event; one that fails before it says anything is no answer.
func TestResponseStreamFaults(t *testing.T) {
	const call = `{"prompt":{"id":"support/full","variables":{"what":"x"}},"input":"now","stream":true}`
	all := responseStream()
	for n := range all {
		e := withResponses(t)
		e.upstream.set(respondEvents(all[:n]...))
		a := e.respond(call, "X-Stainless-Retry-Count", "1")
		if n < 3 {
			assert.Equal(t, 502, a.status, "nothing was said yet: %d", n)
			continue
		}
		require.Equal(t, 200, a.status)
		rest, ok := strings.CutPrefix(string(a.body), strings.Join(all[:n], ""))
		require.True(t, ok, "%s", a.body)
		last, ok := strings.CutPrefix(rest, "event: error\ndata: ")
		require.True(t, ok, rest)
		assert.Equal(t, "error", gjson.Get(last, "type").String())
		assert.Equal(t, "provider_truncated", gjson.Get(last, "code").String())
		assert.Equal(t, "provider_truncated", gjson.Get(last, "error.code").String(), "on which SDKs raise")
		assert.Equal(t, metrics.OutcomeTruncated, e.only().Outcome)
	}
	failed := event("response.failed", `,"response":{"id":"resp_1","status":"failed","error":{"code":"server_error","message":"no"}}`)
	for name, c := range map[string]struct {
		events []string
		status int
	}{
		"at once":              {[]string{event("error", `,"code":"rate_limit","message":"no"`)}, 502},
		"after it was created": {append(all[:2:2], failed), 502},
		"in the middle":        {append(all[:4:4], failed), 200},
	} {
		e := withResponses(t)
		e.upstream.set(respondEvents(c.events...))
		a := e.respond(call, "X-Stainless-Retry-Count", "1")
		assert.Equal(t, c.status, a.status, name)
		assert.Equal(t, metrics.OutcomeProvider, e.only().Outcome, name)
		if c.status == 200 {
			assert.Equal(t, strings.Join(c.events, ""), string(a.body), "the provider's own words, and nothing behind them")
		}
	}
	for _, body := range []string{`{"id":"r","status":"failed","error":{"message":"no"},"output":[]}`, `{"id":"r","status":"completed","output":[]}`, `{"error":{"message":"x"}}`} {
		e := withResponses(t)
		e.upstream.set(respondJSON(200, body))
		assert.Equal(t, 502, e.respond(strings.Replace(call, `,"stream":true`, "", 1), "X-Stainless-Retry-Count", "1").status, body)
	}
}

// TestResponsesHideThePrompt: what a provider repeats of the version is replaced for who may only run it, in answers of every size and in each event, whatever the pieces
// are in which it comes; and nothing else is.
func TestResponsesHideThePrompt(t *testing.T) {
	const call = `{"prompt":{"id":"support/full","variables":{"what":"x"}},"input":"now"`
	spelled := strings.ReplaceAll(aResponse, `"instructions":"CANARY"`, `"instr\u0075ctions" : [{"role":"system","content":"CANARY \" } ]"}] `)
	large := strings.Replace(aResponse, `"text":"Hi"`, `"text":"`+strings.Repeat("long ", 600_000)+`"`, 1)
	for name, answer := range map[string]string{"plain": aResponse, "spelled": spelled, "large": large} {
		e := withResponses(t)
		e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(answer))) // which is not that of what the caller gets
			respondJSON(200, answer)(w, r)
		})
		a := e.respond(call+"}", "Authorization", "Bearer prompts")
		require.Equal(t, 200, a.status, "%s", a.body)
		require.NoError(t, a.err)
		require.True(t, json.Valid(a.body), name)
		assert.NotContains(t, string(a.body), "CANARY", name)
		assert.Equal(t, "[managed prompt]", gjson.GetBytes(a.body, "instructions").String())
		assert.Equal(t, "[]", gjson.GetBytes(a.body, "tools").Raw)
		assert.Equal(t, gjson.Get(answer, "output").Raw, gjson.GetBytes(a.body, "output").Raw)
		assert.EqualValues(t, 11, e.only().Tokens.Input)
	}
	long := strings.ReplaceAll(strings.Join(responseStream(), ""), "CANARY", strings.Repeat("CANARY ", 3000))
	failed := event("response.failed", `,"response":{"id":"r","status":"failed","error":{"code":"c","message":"CANARY"},"instructions":"CANARY"}`)
	for name, text := range map[string]string{
		"lf": strings.Join(responseStream(), ""), "cr": strings.ReplaceAll(strings.Join(responseStream(), ""), "\n", "\r"), "long": long,
		"crlf": strings.ReplaceAll(long, "\n", "\r\n"), "mark": "\ufeff" + long, "fails": strings.Join(responseStream()[:4], "") + failed,
		"lines":      strings.ReplaceAll(strings.Join(responseStream(), ""), `"instructions":`, "\"instructions\":\ndata: "),
		"crlf lines": strings.ReplaceAll(strings.ReplaceAll(strings.Join(responseStream(), ""), `"instructions":`, "\"instructions\":\ndata: "), "\n", "\r\n"),
		"mark first": "\ufeff" + strings.TrimPrefix(strings.Join(responseStream(), ""), "event: response.created\n"),
		"no JSON":    "data: {\"broken\":[{\"a\n\n" + strings.Join(responseStream(), ""),
	} {
		for _, size := range []int{5, 4096} {
			e := withResponses(t)
			var pieces []string
			for rest := text; rest != ""; rest = rest[min(size, len(rest)):] {
				pieces = append(pieces, rest[:min(size, len(rest))])
			}
			if size == 5 && len(pieces) > 2000 {
				continue
			}
			e.upstream.set(respondEvents(pieces...))
			a := e.respond(call+`,"stream":true}`, "Authorization", "Bearer prompts")
			require.Equal(t, 200, a.status, "%s", a.body)
			assert.NotContains(t, string(a.body), "CANARY", name)
			assert.Contains(t, string(a.body), "[managed prompt]", name)
			assert.Contains(t, string(a.body), `"delta":"Hi"`, name)
			if name != "fails" {
				assert.Equal(t, metrics.OutcomeOK, e.only().Outcome, name)
			}
		}
	}
	e := withResponses(t)
	own := e.respond(call+`,"tools":[{"type":"web_search"}]}`, "Authorization", "Bearer prompts")
	assert.Contains(t, string(own.body), `"tools":[{"type":"function"`, "the caller's own tools are no secret")
}

// TestResponsesGoOnFromTheirOwn: an id that lives at the provider is taken from the caller that got it, for the prompt that it got it by, and goes to the provider that gave it.
func TestResponsesGoOnFromTheirOwn(t *testing.T) {
	e := withResponses(t)
	second := e.second(t)
	n := 0
	give := func(w http.ResponseWriter, r *http.Request) {
		n++
		respondJSON(200, strings.Replace(aResponse, "resp_1", fmt.Sprintf("resp_%d", n), 1))(w, r)
	}
	e.upstream.set(give)
	second.set(give)
	const first = `{"prompt":{"id":"support/full","variables":{"what":"x"}},"input":"now"`
	require.Equal(t, 200, e.respond(first+"}").status)
	a := e.respond(first + `,"previous_response_id":"resp_1"}`)
	require.Equal(t, 200, a.status, "%s", a.body)
	sent, _ := e.upstream.last()
	assert.Equal(t, "resp_1", gjson.GetBytes(sent, "previous_response_id").String())
	assert.Equal(t, "Sort x.\n\nBe \"brief\".", gjson.GetBytes(sent, "instructions").String(), "each turn anew")
	assert.JSONEq(t, `"now"`, gjson.GetBytes(sent, "input").Raw, "the provider has the rest")

	asked := e.upstream.count()
	for name, send := range map[string]func() answer{
		"unknown": func() answer { return e.respond(first + `,"previous_response_id":"resp_77"}`) },
		"another key": func() answer {
			return e.respond(first+`,"previous_response_id":"resp_1"}`, "Authorization", "Bearer prompts")
		},
		"another prompt": func() answer {
			return e.respond(`{"prompt":{"id":"support/triage","variables":{"ticket":"T"}},"input":"x","previous_response_id":"resp_1"}`)
		},
		"no prompt":         func() answer { return e.respond(`{"model":"gpt-test","input":"x","previous_response_id":"resp_1"}`) },
		"not a text":        func() answer { return e.respond(first + `,"previous_response_id":{"id":"resp_1"}}`) },
		"a conversation":    func() answer { return e.respond(first + `,"conversation":"conv_1"}`) },
		"another's by case": func() answer { return e.respond(first + `,"previous_response_id":"RESP_1"}`) },
	} {
		a := send()
		assert.Equal(t, 400, a.status, name)
		assert.Equal(t, "stateful_reference_refused", a.code(), name)
	}
	assert.Equal(t, 501, e.respond(first+`,"background":true}`).status, "where nobody would ask what became of it")
	assert.Equal(t, asked, e.upstream.count(), "nothing was sent")

	e.router.targets["gpt-test"] = e.router.targets["gpt-test"][1:]
	assert.Equal(t, 400, e.respond(first+`,"previous_response_id":"resp_1"}`).status, "its provider no longer serves the model")
	assert.Zero(t, second.count())
}

// TestEveryEventOfResponses: each kind of event that the API's reference names, and one of tomorrow, passes byte for byte and is read for what it says; to who may
// not read the prompt all but the members that repeat it. cmd's TestFixtureHasEveryEvent compares the file with the official SDK.
func TestEveryEventOfResponses(t *testing.T) {
	all, err := os.ReadFile("testdata/responses.sse")
	require.NoError(t, err)
	hidden := strings.NewReplacer(`"instructions":"Sort a \"card\"."`, `"instructions":"[managed prompt]"`, `"reasoning":{"effort":"low","summary":"auto"}`, `"reasoning":null`,
		`"temperature":1.0`, `"temperature":null`, `"text":{"format":{"type":"text"}}`, `"text":null`, `"max_output_tokens":null`, `"max_output_tokens":null`,
		`"tools":[{"type":"web_search"},{"type":"code_interpreter","container":{"type":"auto"}}]`, `"tools":[]`).Replace(string(all))
	for _, size := range []int{1, 17, 4096, len(all)} {
		var pieces []string
		for rest := all; len(rest) > 0; {
			n := min(size, len(rest))
			pieces, rest = append(pieces, string(rest[:n])), rest[n:]
		}
		for key, want := range map[string]string{"Bearer caller": string(all), "Bearer prompts": hidden} {
			e := withResponses(t)
			e.upstream.set(respondEvents(pieces...))
			a := e.respond(`{"prompt":{"id":"support/full","variables":{"what":"a \"card\""}},"input":"now","stream":true}`, "Authorization", key)
			require.Equal(t, want, string(a.body), "%d %s", size, key)
			rec := e.only()
			assert.Equal(t, metrics.OutcomeOK, rec.Outcome)
			assert.Equal(t, metrics.Tokens{Input: 120, CachedInput: 64, Output: 30, Reasoning: 12, Reported: true}, rec.Tokens)
			assert.Equal(t, "resp_all", rec.CompletionID)
			assert.Positive(t, rec.FirstToken)
		}
	}
}

// TestInputTokensAndCompaction: a count goes by the same permission and rendering as the response, and costs nothing; what a prompt began is not compacted.
func TestInputTokensAndCompaction(t *testing.T) {
	e := newEnv(t)
	e.upstream.set(respondJSON(200, `{"object":"response.input_tokens","input_tokens":31}`))
	const call = `{"prompt":{"id":"support/triage","variables":{"ticket":"T"}},"input":"now"}`
	a := e.post("/v1/responses/input_tokens", call, "Authorization", "Bearer prompts")
	require.Equal(t, 200, a.status, "%s", a.body)
	assert.Equal(t, `{"object":"response.input_tokens","input_tokens":31}`, string(a.body))
	sent, _ := e.upstream.last()
	assert.Equal(t, "Sort tickets.", gjson.GetBytes(sent, "instructions").String())
	rec := e.only()
	assert.Equal(t, []any{"responses/input_tokens", metrics.Tokens{}, metrics.OutcomeOK}, []any{rec.Endpoint, rec.Tokens, rec.Outcome})
	assert.Zero(t, *rec.CostMicros)
	assert.Equal(t, 403, e.post("/v1/responses/input_tokens", strings.Replace(call, `"variables"`, `"label":"staging","variables"`, 1), "Authorization", "Bearer prompts").status)
	for _, none := range []string{`{}`, `null`, `{"error":{"message":"x"}}`, ``, `{"input_tokens":null}`, `{"input_tokens":"many"}`} {
		e.upstream.set(respondJSON(200, none))
		assert.Equal(t, 502, e.post("/v1/responses/input_tokens", call, once, "1").status, none)
	}

	const shorter = `{"id":"resp_c","object":"response.compaction","output":[{"type":"message","role":"user","content":"CANARY"},{"type":"compaction","encrypted_content":"x"}],"usage":{"input_tokens":9,"output_tokens":3,"total_tokens":12}}`
	e.upstream.set(respondJSON(200, shorter))
	n := e.upstream.count()
	a = e.post("/v1/responses/compact", call)
	assert.Equal(t, "invalid_prompt_reference", a.code())
	assert.Equal(t, n, e.upstream.count())
	a = e.post("/v1/responses/compact", `{"model":"gpt-test","input":"long"}`)
	require.Equal(t, 200, a.status)
	assert.Equal(t, shorter, string(a.body))
	assert.Equal(t, int64(9), e.recorder.last().Tokens.Input)
	e.upstream.set(respondJSON(200, aResponse))
	require.Equal(t, 200, e.respond(call).status)
	assert.Equal(t, "stateful_reference_refused", e.post("/v1/responses/compact", `{"model":"gpt-test","previous_response_id":"resp_1"}`).code(), "nor by going on from it")
}
