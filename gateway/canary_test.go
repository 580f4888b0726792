package gateway_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/registry/template"
)

const (
	canaryText   = "CANARY"
	canaryNumber = "0.73165"
)

// aText is a text that holds the canary, among what JSON, SSE and templates have to escape.
func aText(r *rand.Rand) string {
	odd := []string{"\"", "\\", "\n", "\r\n", "data: ", "é", "🙂", "\u2028", "}", "]", "event: error", "{{v}}", " ", "null", "\x7f", "</s>", "[DONE]"}
	var b strings.Builder
	for range r.IntN(6) {
		b.WriteString(odd[r.IntN(len(odd))])
	}
	b.WriteString(canaryText)
	for range r.IntN(6) {
		b.WriteString(odd[r.IntN(len(odd))])
	}
	return b.String()
}

// aPrompt is a version whose every part holds a canary.
func aPrompt(r *rand.Rand, shape string) template.Content {
	c := template.Content{Model: "gpt-test", Variables: map[string]template.Variable{"v": {Schema: raw(`{"type":"string"}`)}}, Parameters: map[string]json.RawMessage{"max_tokens": raw(`73165`)}}
	for range 1 + r.IntN(2) {
		c.Messages = append(c.Messages, template.Message{Role: "system", Text: aText(r)})
	}
	for range r.IntN(4) {
		switch r.IntN(3) {
		case 0:
			c.Messages = append(c.Messages, template.Message{Role: "user", Text: aText(r)}, template.Message{Role: "assistant", Text: aText(r)})
		case 1:
			c.Messages = append(c.Messages, template.Message{Role: "user", Parts: []template.Part{{Type: "text", Text: aText(r)}}})
		default:
			c.Messages = append(c.Messages,
				template.Message{Role: "assistant", ToolCalls: raw(`[{"id":"c1","type":"function","function":{"name":"look","arguments":` + quote(`{"x":"`+canaryText+`"}`) + `}}]`)},
				template.Message{Role: "tool", ToolCallID: "c1", Text: aText(r)})
		}
	}
	if r.IntN(2) == 0 {
		c.Tools = raw(`[{"type":"function","function":{"name":"look","description":` + quote(aText(r)) + `,"parameters":{"type":"object","properties":{"` + canaryText + `":{"type":"string"}}}}}]`)
		if r.IntN(2) == 0 {
			c.Parameters["tool_choice"] = raw(`{"type":"function","function":{"name":"look"}}`)
		}
	}
	if r.IntN(2) == 0 {
		c.ResponseFormat = raw(`{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","description":` + quote(aText(r)) + `}}}`)
	}
	if r.IntN(2) == 0 {
		c.Parameters["temperature"] = raw(canaryNumber)
	}
	if r.IntN(2) == 0 {
		c.Parameters["stop"] = raw(`["` + canaryText + `"]`)
	}
	if r.IntN(2) == 0 && shape == "responses" {
		c.Parameters["metadata"] = raw(`{"` + canaryText + `":"` + canaryText + `"}`)
		c.Parameters["reasoning_effort"] = raw(`"CANARY"`)
	}
	return c
}

// repeater is an upstream that repeats all that it is sent, wherever a provider could.
func (e *env) repeater(way string) http.HandlerFunc {
	var first string // what it was sent when something was made
	return func(w http.ResponseWriter, r *http.Request) {
		way := way
		if r.Method == http.MethodPost {
			body, _ := e.upstream.last()
			first = string(body)
		}
		var sent map[string]json.RawMessage
		_ = json.Unmarshal([]byte(first), &sent)
		response := map[string]any{}
		for name, value := range sent {
			response[name] = value
		}
		response["id"] = "resp_" + strings.ReplaceAll(r.Header.Get("X-Client-Request-Id"), "call_", "")
		if r.Method == http.MethodGet {
			response["id"] = "resp_1"
		}
		response["object"], response["status"], response["error"] = "response", "completed", nil
		response["output"] = []any{map[string]any{"id": "msg_1", "type": "message", "content": []any{map[string]any{"type": "output_text", "text": "Hi"}}}}
		response["usage"] = raw(`{"input_tokens":1,"output_tokens":1,"total_tokens":2}`)
		whole, _ := json.Marshal(response)
		failed := strings.Replace(string(whole), `"error":null`, `"error":{"code":"c","message":`+quote(first)+`,"more":`+first+`}`, 1)
		trouble := `{"type":"error","code":"c","message":` + quote(first) + `,"param":` + quote(first) + `,"error":{"type":"t","code":"c","message":` + quote(first) + `,"param":"p","more":` + first + `}}`
		begun := event("response.created", `,"response":`+string(whole)) + event("response.output_text.delta", `,"delta":"Hi"`)
		items := []byte(`[]`)
		if in := sent["input"]; len(in) > 0 && in[0] == '[' {
			items = in
		}
		if way == "failed" && r.URL.Path != "/v1/responses" { // which only responses can
			way = "late error"
		}
		chat, message := strings.HasSuffix(r.URL.Path, "completions"), strings.Contains(r.URL.Path, "messages")
		switch {
		case way == "refusal":
			respondJSON(400, trouble)(w, r)
		case way == "text":
			respondJSON(422, first)(w, r)
		case way == "error in success":
			respondJSON(200, trouble)(w, r)
		case strings.HasSuffix(r.URL.Path, "/input_items"):
			respondJSON(200, `{"object":"list","data":`+string(items)+`,"first_id":"a","has_more":false}`)(w, r)
		case r.Method == http.MethodGet && r.URL.Query().Get("stream") == "true":
			respondEvents(begun+event("response.failed", `,"response":`+failed))(w, r)
		case r.Method == http.MethodGet:
			respondJSON(200, failed)(w, r)
		case way == "cut" && chat:
			respondEvents(delta("Hi"))(w, r)
		case way == "cut" && message:
			respondEvents(strings.Join(messageStream()[:4], ""))(w, r)
		case way == "cut":
			respondEvents(begun)(w, r)
		case way == "late error" && chat:
			respondEvents(delta("Hi"), "data: "+trouble+"\n\n")(w, r)
		case way == "late error" && message:
			respondEvents(strings.Join(messageStream()[:4], ""), "event: error\ndata: "+trouble+"\n\n")(w, r)
		case way == "late error":
			respondEvents(begun, "event: error\ndata: "+trouble+"\n\n")(w, r)
		case way == "failed":
			respondEvents(begun, event("response.failed", `,"response":`+failed))(w, r)
		case way == "stream" && chat:
			respondEvents(delta("Hi"), finishEvent, doneEvent)(w, r)
		case way == "stream" && message:
			respondEvents(messageStream()...)(w, r)
		case way == "stream":
			respondEvents(strings.Split(begun+event("response.completed", `,"response":`+string(whole)), "")...)(w, r)
		case chat:
			respondJSON(200, okJSON)(w, r)
		case message:
			respondJSON(200, aMessage)(w, r)
		default:
			respondJSON(200, string(whole))(w, r)
		}
	}
}

// TestNoCanary: of 200 generated prompts, in each shape and whatever a provider repeats, a key that may run them and not read them gets no byte: not in an answer,
// an event, an error, a header, or what a provider keeps.
func TestNoCanary(t *testing.T) {
	bodies := map[string]string{
		"/v1/chat/completions": `{"prompt":{"id":"support/generated","variables":{"v":"x"}},"messages":[{"role":"user","content":"now"}]`,
		"/v1/responses":        `{"prompt":{"id":"support/generated","variables":{"v":"x"}},"input":"now"`,
		"/v1/messages":         `{"prompt":{"id":"support/generated","variables":{"v":"x"}},"max_tokens":9,"messages":[{"role":"user","content":"now"}]`,
	}
	ways := []string{"whole", "refusal", "text", "error in success", "stream", "cut", "late error", "failed"}
	for path, body := range bodies {
		t.Run(strings.TrimPrefix(path, "/v1/"), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test's
			shown, answered := 0, 0
			for n := range 200 {
				e := newEnv(t)
				e.registry.add("support/generated", map[string]int{"production": 1}, aPrompt(r, strings.TrimPrefix(path, "/v1/")))
				way := ways[n%len(ways)]
				e.upstream.set(e.repeater(way))
				more := "}"
				if n%len(ways) >= 4 {
					more = `,"stream":true}`
				}
				for _, key := range []string{"caller", "prompts"} {
					header := []string{"Authorization", "Bearer " + key, once, "1"}
					got := []answer{e.post(path, body+more, header...)}
					if path == "/v1/responses" && got[0].status == 200 && len(e.recorder.last().CompletionID) > 0 {
						id := e.recorder.last().CompletionID
						for _, kept := range []string{"", "?stream=true", "/input_items"} {
							got = append(got, e.do(e.request(http.MethodGet, "/v1/responses/"+id+kept, "", header...)))
						}
					}
					for i, a := range got {
						all := fmt.Sprint(a.header) + string(a.body)
						leaks := strings.Contains(all, canaryText) || strings.Contains(all, canaryNumber) || strings.Contains(all, "73165")
						if key == "prompts" {
							require.False(t, leaks, "%s, prompt %d, answer %d: %s", way, n, i, all)
							if a.status == 200 {
								answered++
							}
						} else if leaks {
							shown++
						}
					}
				}
				e.server.Close()
				e.upstream.Close()
			}
			require.Greater(t, shown, 40, "the provider repeats what it is sent, so that there is something to hide")
			require.Greater(t, answered, 60)
		})
	}
}
