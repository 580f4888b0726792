package gateway_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/registry/template"
)

// turnOf is a request of a conversation as the API's reference writes such, and the body that its provider has to get.
type turnOf struct{ name, path, body, sent string }

// conversations are turns with a managed prompt in front, in each shape: tools that were called and answered, pictures, documents, thinking, structured output.
func conversations() []turnOf {
	const ref = `"prompt":{"id":"support/desk","variables":{"tone":"kind"}}`
	return []turnOf{
		{
			"chat: a tool's answer", "/v1/chat/completions",
			`{` + ref + `,"messages":[{"role":"user","content":"Weather in Paris?"},{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Paris\"}"}}]},{"role":"tool","tool_call_id":"call_1","content":"18 °C"}],"temperature":0}`,
			`{"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"Weather in Paris?"},{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Paris\"}"}}]},{"role":"tool","tool_call_id":"call_1","content":"18 °C"}],
				"temperature":0,"model":"gpt-test","max_tokens":50,"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}]}`,
		},
		{
			"chat: a picture", "/v1/chat/completions",
			`{` + ref + `,"messages":[{"role":"user","content":[{"type":"text","text":"What is it?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}}]}],"tool_choice":"none","n":1}`,
			`{"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":[{"type":"text","text":"What is it?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}}]}],
				"tool_choice":"none","n":1,"model":"gpt-test","max_tokens":50,"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}]}`,
		},
		{
			"responses: a tool's answer", "/v1/responses",
			`{` + ref + `,"input":[{"role":"user","content":"Weather in Paris?"},{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gAAA="},{"type":"function_call","call_id":"call_1","name":"weather","arguments":"{}"},{"type":"function_call_output","call_id":"call_1","output":"18 °C"}],"store":false,"include":["reasoning.encrypted_content"]}`,
			`{"instructions":"Be kind.","input":[{"role":"user","content":"Weather in Paris?"},{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gAAA="},{"type":"function_call","call_id":"call_1","name":"weather","arguments":"{}"},{"type":"function_call_output","call_id":"call_1","output":"18 °C"}],
				"store":false,"include":["reasoning.encrypted_content"],"model":"gpt-test","max_output_tokens":50,"tools":[{"type":"function","name":"weather","parameters":{"type":"object"}}]}`,
		},
		{
			"responses: a document, and a schema of the caller's", "/v1/responses",
			`{` + ref + `,"input":[{"role":"user","content":[{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,AAAA"},{"type":"input_text","text":"Sum up."}]}],"text":{"format":{"type":"json_schema","name":"s","schema":{"type":"object"}}},"tools":[]}`,
			`{"instructions":"Be kind.","input":[{"role":"user","content":[{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,AAAA"},{"type":"input_text","text":"Sum up."}]}],
				"text":{"format":{"type":"json_schema","name":"s","schema":{"type":"object"}}},"tools":[],"model":"gpt-test","max_output_tokens":50}`,
		},
		{
			"messages: a tool's answer after thinking", "/v1/messages",
			`{` + ref + `,"max_tokens":2000,"thinking":{"type":"enabled","budget_tokens":1024},"messages":[{"role":"user","content":"Weather in Paris?"},{"role":"assistant","content":[{"type":"thinking","thinking":"…","signature":"EqQB+/="},{"type":"tool_use","id":"toolu_1","name":"weather","input":{"city":"Paris"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"18 °C"}]}]}`,
			`{"system":"Be kind.","max_tokens":2000,"thinking":{"type":"enabled","budget_tokens":1024},"messages":[{"role":"user","content":"Weather in Paris?"},{"role":"assistant","content":[{"type":"thinking","thinking":"…","signature":"EqQB+/="},{"type":"tool_use","id":"toolu_1","name":"weather","input":{"city":"Paris"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"18 °C"}]}],
				"model":"gpt-test","tools":[{"name":"weather","input_schema":{"type":"object"}}]}`,
		},
		{
			"messages: a document that is cached", "/v1/messages",
			`{` + ref + `,"system":[{"type":"text","text":"Cite.","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":[{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"AAAA"},"citations":{"enabled":true},"cache_control":{"type":"ephemeral"}},{"type":"text","text":"Sum up."}]}]}`,
			`{"system":[{"type":"text","text":"Be kind."},{"type":"text","text":"Cite.","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":[{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"AAAA"},"citations":{"enabled":true},"cache_control":{"type":"ephemeral"}},{"type":"text","text":"Sum up."}]}],
				"max_tokens":50,"model":"gpt-test","tools":[{"name":"weather","input_schema":{"type":"object"}}]}`,
		},
	}
}

// TestConversationsOfTheReferences: what a provider gets of each turn is as written down, and the same whether the turn is streamed or not.
func TestConversationsOfTheReferences(t *testing.T) {
	answers := shapes()
	for _, turn := range conversations() {
		t.Run(turn.name, func(t *testing.T) {
			e := withMessages(t)
			e.registry.add("support/desk", map[string]int{"production": 1}, template.Content{
				Messages: []template.Message{{Role: "system", Text: "Be {{tone}}."}}, Model: "gpt-test", Parameters: map[string]json.RawMessage{"max_tokens": raw(`50`)},
				Tools: raw(`[{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}]`), Variables: map[string]template.Variable{"tone": {Schema: raw(`{"type":"string"}`)}},
			})
			shape := answers[strings.Split(turn.name, ":")[0]]
			e.upstream.set(respondJSON(200, shape.answer))
			whole := e.post(turn.path, turn.body)
			require.Equal(t, 200, whole.status, "%s", whole.body)
			sent, _ := e.upstream.last()
			assert.JSONEq(t, turn.sent, string(sent))

			e.upstream.set(respondEvents(shape.events...))
			streamed := e.post(turn.path, strings.TrimSuffix(turn.body, "}")+`,"stream":true}`)
			require.Equal(t, 200, streamed.status, "%s", streamed.body)
			again, _ := e.upstream.last()
			var a, b map[string]json.RawMessage
			require.NoError(t, json.Unmarshal(sent, &a))
			require.NoError(t, json.Unmarshal(again, &b))
			assert.Equal(t, "true", string(b["stream"]))
			delete(b, "stream")
			delete(b, "stream_options")
			assert.Equal(t, a, b)
			for _, name := range []string{"Prompt", "Version", "Label", "Digest", "Provider", "Model"} {
				assert.Equal(t, whole.header.Get("X-Promptgate-"+name), streamed.header.Get("X-Promptgate-"+name), name)
				assert.NotEmpty(t, whole.header.Get("X-Promptgate-"+name), name)
			}
			calls := e.recorder.all()
			require.Len(t, calls, 2)
			assert.Equal(t, calls[0].Outcome, calls[1].Outcome)
			assert.Equal(t, calls[0].Endpoint, calls[1].Endpoint)
		})
	}
}
