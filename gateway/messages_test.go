package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/registry/template"
)

const (
	messageUsage = `"usage":{"input_tokens":11,"cache_creation_input_tokens":20,"cache_read_input_tokens":300,"output_tokens":5,"service_tier":"standard"}`
	aMessage     = `{"id":"msg_1","type":"message","role":"assistant","model":"claude-test","content":[{"type":"thinking","thinking":"hm","signature":"EqQB=="},` +
		`{"type":"text","text":"Hi"}],"stop_reason":"end_turn","stop_sequence":null,` + messageUsage + `}`
	fullMessages = `{"prompt":{"id":"support/full","variables":{"what":"x"}},"messages":[{"role":"user","content":"now"}]`
)

// said is one event of a message's stream.
func said(kind, more string) string {
	return "event: " + kind + "\ndata: {\"type\":\"" + kind + "\"" + more + "}\n\n"
}

func messageStream() []string {
	return []string{
		said("message_start", `,"message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-test","content":[],"stop_reason":null,"stop_sequence":null,`+
			`"usage":{"input_tokens":11,"cache_creation_input_tokens":20,"cache_read_input_tokens":300,"output_tokens":1,"service_tier":"standard"}}`),
		said("ping", ""),
		said("content_block_start", `,"index":0,"content_block":{"type":"text","text":""}`),
		said("content_block_delta", `,"index":0,"delta":{"type":"text_delta","text":"Hi"}`),
		said("some_new_event", `,"unknown":{"message":1}`),
		said("content_block_delta", `,"index":0,"delta":{"type":"text_delta","text":" you"}`),
		said("content_block_stop", `,"index":0`),
		said("message_delta", `,"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":5}`),
		said("message_stop", ""),
	}
}

var messageTokens = metrics.Tokens{Input: 331, CachedInput: 300, CacheWrite: 20, Output: 5, Reported: true}

// message posts to the Messages API.
func (e *env) message(body string, header ...string) answer {
	e.t.Helper()
	return e.post("/v1/messages", body, header...)
}

// kind is the type of an error in Anthropic's envelope.
func (a answer) kind() string {
	if gjson.GetBytes(a.body, "type").String() != "error" {
		return ""
	}
	return gjson.GetBytes(a.body, "error.type").String()
}

// withMessages is a gateway whose upstream answers as Messages does, with a prompt that has all that the shapes name differently.
func withMessages(t *testing.T, change ...func(*setup)) *env {
	e := newEnv(t, change...)
	e.upstream.set(respondJSON(200, aMessage))
	e.registry.add("support/full", map[string]int{"production": 1}, template.Content{
		Messages: []template.Message{
			{Role: "system", Text: "Sort {{what}}."}, {Role: "developer", Text: "Be \"brief\"."},
			{Role: "user", Text: "An example"},
			{Role: "assistant", Text: "I look.", ToolCalls: raw(`[{"id":"c1","type":"function","function":{"name":"look","arguments":"{\"x\":1}"}},{"id":"c2","type":"function","function":{"name":"look","arguments":""}}]`)},
			{Role: "tool", ToolCallID: "c1", Text: "seen"}, {Role: "tool", ToolCallID: "c2", Text: "gone"},
			{Role: "assistant", Parts: []template.Part{{Type: "text", Text: "Fine {{what}}"}}},
			{Role: "user", Parts: []template.Part{{Type: "text", Text: "Look:"}, {Type: "image_url", Value: raw(`{"url":"https://x.test/a.png","detail":"low"}`)},
				{Type: "image_url", Value: raw(`{"url":"data:image/PNG;base64,iVBO"}`)}, {Type: "file", Value: raw(`{"file_data":"data:application/pdf;base64,JVBE","filename":"a.pdf"}`)},
				{Type: "file", Value: raw(`{"file_data":"data:text/plain;base64,aGkg4pi6"}`)}}},
		},
		Tools:          raw(`[{"type":"function","function":{"name":"look","description":"Looks","parameters":{"type":"object"},"strict":true}},{"type":"function","function":{"name":"go"}},{"type":"web_search_20250305","name":"web_search","max_uses":5}]`),
		ResponseFormat: raw(`{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"type":"object"}}}`),
		Parameters: map[string]json.RawMessage{
			"max_completion_tokens": raw(`99`), "temperature": raw(`0.5`), "reasoning_effort": raw(`"low"`), "stop": raw(`"END"`), "top_k": raw(`4`),
			"thinking": raw(`{"type":"adaptive"}`), "parallel_tool_calls": raw(`false`), "tool_choice": raw(`{"type":"function","function":{"name":"look"}}`),
			"frequency_penalty": raw(`0`), "user": raw(`"team"`), "logprobs": raw("false"),
		},
		Model: "gpt-test",
	})
	return e
}

// TestMessages: a version saved for chats comes to what the Messages API takes.
func TestMessages(t *testing.T) {
	e := withMessages(t)
	a := e.message(`{"prompt":{"id":"support/full","version":"1","variables":{"what":"a \"card\""}},"system":[{"type":"text","text":"In Greek.","cache_control":{"type":"ephemeral"}}],` +
		`"messages":[{"role":"user","content":"now"}],"x_new":{"a":1}}`)
	require.Equal(t, 200, a.status, "%s", a.body)
	require.Equal(t, aMessage, string(a.body))
	sent, _ := e.upstream.last()
	assert.JSONEq(t, `{
		"system": [{"type":"text","text":"Sort a \"card\".\n\nBe \"brief\"."},{"type":"text","text":"In Greek.","cache_control":{"type":"ephemeral"}}],
		"messages": [
			{"role":"user","content":"An example"},
			{"role":"assistant","content":[{"type":"text","text":"I look."},{"type":"tool_use","id":"c1","name":"look","input":{"x":1}},{"type":"tool_use","id":"c2","name":"look","input":{}}]},
			{"role":"user","content":[{"type":"tool_result","tool_use_id":"c1","content":"seen"},{"type":"tool_result","tool_use_id":"c2","content":"gone"}]},
			{"role":"assistant","content":[{"type":"text","text":"Fine a \"card\""}]},
			{"role":"user","content":[{"type":"text","text":"Look:"},{"type":"image","source":{"type":"url","url":"https://x.test/a.png"}},
				{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBO"}},
				{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBE"},"title":"a.pdf"},
				{"type":"document","source":{"type":"text","media_type":"text/plain","data":"hi ☺"}}]},
			{"role":"user","content":"now"}],
		"tools": [{"name":"look","description":"Looks","input_schema":{"type":"object"},"strict":true},{"name":"go","input_schema":{"type":"object"}},{"type":"web_search_20250305","name":"web_search","max_uses":5}],
		"output_config": {"format":{"type":"json_schema","schema":{"type":"object"}},"effort":"low"},
		"tool_choice": {"type":"tool","name":"look","disable_parallel_tool_use":true}, "stop_sequences": ["END"], "top_k": 4, "thinking": {"type":"adaptive"},
		"max_tokens": 99, "temperature": 0.5, "model": "gpt-test", "metadata": {"user_id":"team"}, "x_new": {"a":1}}`, string(sent))
	rec := e.only()
	assert.Equal(t, "messages", rec.Endpoint)
	assert.Equal(t, "msg_1", rec.CompletionID)
	assert.Equal(t, messageTokens, rec.Tokens)
	assert.Equal(t, metrics.OutcomeOK, rec.Outcome)

	for name, c := range map[string]struct{ more, path, want string }{
		"the caller's fields win": {`,"max_tokens":7,"output_config":{"effort":"high"},"stop_sequences":[]`, "[max_tokens,output_config,stop_sequences]", `[7,{"effort":"high"},[]]`},
		"blocks stay as they are": {`,"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"s"}]},{"role":"user","content":[{"type":"document","source":{"type":"file","file_id":"f"}}]}]`,
			"messages.5", `{"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"s"}]}`},
		"what says nothing is dropped": {`,"messages":[{"role":"user","content":""}]`, "messages.#", `5`},
		"a system text as a block":     {`,"system":"Mine."`, "system.1", `{"type":"text","text":"Mine."}`},
		"no system text":               {`,"system":""`, "system", `"Sort x.\n\nBe \"brief\"."`},
		"a model name":                 {`,"model":"default"`, "model", `"gpt-test"`},
	} {
		a := e.message(`{"prompt":{"id":"support/full","variables":{"what":"x"}}` + c.more + `}`)
		require.Equal(t, 200, a.status, "%s: %s", name, a.body)
		sent, _ := e.upstream.last()
		assert.JSONEq(t, c.want, gjson.GetBytes(sent, c.path).Raw, "%s: %s", name, sent)
	}
	byName := e.message(`{"model":"prompt/support/full@production","max_tokens":5,"messages":[],"metadata":{"user_id":"ann","promptgate_variables":"{\"what\":\"x\"}"}}`)
	require.Equal(t, 200, byName.status, "%s", byName.body)
	sent, _ = e.upstream.last()
	assert.JSONEq(t, `{"user_id":"ann"}`, gjson.GetBytes(sent, "metadata").Raw)
	assert.Equal(t, "hash:"+project+":ann", e.recorder.last().EndUser)
}

// TestMessagesWithoutAPrompt: the caller's bytes are the provider's, and the headers that belong to this shape go along.
func TestMessagesWithoutAPrompt(t *testing.T) {
	e := withMessages(t)
	bare := `{"model":"gpt-test", "max_tokens":5,"system":[{"type":"text","text":"x","cache_control":{"type":"ephemeral","ttl":"1h"}}],"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"\u0068m","signature":"EqQB=="},` +
		`{"type":"redacted_thinking","data":"x"}]},{"role":"user","content":[{"type":"x_new"}]}],"tools":[{"type":"computer_20250124","name":"computer","display_width_px":1}],"container":{"skills":[]},"x_new":[1.50]}`
	a := e.message(bare, "Anthropic-Version", "2023-06-01", "X-Api-Key", "caller", "Authorization", "")
	require.Equal(t, 200, a.status, "%s", a.body)
	sent, head := e.upstream.last()
	assert.Equal(t, bare, string(sent), "byte for byte")
	assert.Empty(t, head.Get("Anthropic-Version"), "the usual one is the provider's to add")
	assert.NotContains(t, head.Get("X-Api-Key"), "caller")
	assert.Equal(t, a.header.Get("X-Promptgate-Call-Id"), a.header.Get("Request-Id"), "where Anthropic's SDKs look for it")
	e.upstream.set(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Request-Id", "req_of_the_provider")
		respondJSON(200, aMessage)(w, r)
	})
	assert.Equal(t, "req_of_the_provider", e.message(bare).header.Get("Request-Id"))
}

// TestMessageStream: events pass byte for byte and are read on the way, in pieces of any size and with lines of either end.
func TestMessageStream(t *testing.T) {
	whole := strings.Join(messageStream(), "")
	big := strings.Replace(whole, `"text":"Hi"`, `"text":"`+strings.Repeat("long ", 900_000)+`"`, 1)
	bigUsage := strings.Replace(whole, `,"usage":{"output_tokens":5}`, `,"x":"`+strings.Repeat("long ", 2000)+`","usage":{"output_tokens":5}`, 1)
	for name, text := range map[string]string{"lf": whole, "crlf": strings.ReplaceAll(whole, "\n", "\r\n"), "cr": strings.ReplaceAll(whole, "\n", "\r"), "4 MiB": big, "a big usage": bigUsage} {
		for _, size := range []int{1, 7, 1 << 20} {
			e := withMessages(t)
			var pieces []string
			for rest := text; rest != ""; {
				n := min(size, len(rest))
				if size < 10 && len(rest) > 3000 {
					n = len(rest) - 3000 // the end byte for byte
				}
				pieces, rest = append(pieces, rest[:n]), rest[n:]
			}
			e.upstream.set(respondEvents(pieces...))
			a := e.message(`{"prompt":{"id":"support/full","variables":{"what":"x"}},"messages":[{"role":"user","content":"now"}],"stream":true,"tool_choice":null,"max_tokens":9,"output_config":null}`)
			require.Equal(t, 200, a.status, "%s", a.body)
			require.True(t, text == string(a.body), name)
			rec := e.only()
			require.Equal(t, metrics.OutcomeOK, rec.Outcome, "%s %d %+v", name, size, rec)
			assert.Equal(t, messageTokens, rec.Tokens, name)
			assert.Equal(t, "msg_1", rec.CompletionID)
			assert.Positive(t, rec.FirstToken)
		}
	}
}
