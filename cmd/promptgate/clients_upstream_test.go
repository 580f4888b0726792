package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

// scripted is a provider that speaks three shapes: it first asks for a tool and answers then with what that said, or does what the model's name says.
type scripted struct {
	*httptest.Server
	tool func(body string) (name, args string) // which tool it asks for; nil for the first

	mu    sync.Mutex
	asked []sentTo
	gone  chan string // the model of each stream that was left
}

// sentTo is a request that the provider got.
type sentTo struct {
	path, model, body string
	header            http.Header
}

func newScripted(t *testing.T) *scripted {
	s := &scripted{gone: make(chan string, 50)}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// take returns what the provider was asked since it was taken last.
func (s *scripted) take() []sentTo {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.asked
	s.asked = nil
	return all
}

const toolArgs = `{"city":"Oslo"}`

// turn is what the model says next: text, or a call of a tool.
type turn struct{ text, tool, args string }

// toolResult is what the last tool said, as the client sent it back; "" before.
func toolResult(body gjson.Result) string {
	last := ""
	visit := func(r gjson.Result) {
		if r.IsArray() { // of parts
			r = r.Get("0.text")
		}
		last = r.String()
	}
	for _, m := range body.Get("messages").Array() {
		if m.Get("role").String() == "tool" {
			visit(m.Get("content"))
		}
		for _, b := range m.Get("content").Array() {
			if b.Get("type").String() == "tool_result" {
				visit(b.Get("content"))
			}
		}
	}
	for _, item := range body.Get("input").Array() {
		if strings.HasSuffix(item.Get("type").String(), "call_output") {
			visit(item.Get("output"))
		}
	}
	return last
}

func (s *scripted) next(body gjson.Result) turn {
	_, model, _ := strings.Cut(body.Get("model").String(), "-") // up-text, an-text
	first := body.Get("tools.0.function.name").String() + body.Get("tools.0.name").String()
	result := toolResult(body)
	switch {
	case model == "json":
		const made = `{"city":"Oslo","degrees":7}`
		if first != "" && body.Get("tool_choice").IsObject() {
			return turn{tool: first, args: made}
		}
		return turn{text: made}
	case first == "" || model == "text":
		return turn{text: "Hello from upstream."}
	case result != "":
		return turn{text: "The tool said: " + result}
	case s.tool != nil:
		name, args := s.tool(body.Raw)
		return turn{tool: name, args: args}
	}
	return turn{tool: first, args: toolArgs}
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	body := gjson.ParseBytes(raw)
	model := body.Get("model").String()
	s.mu.Lock()
	s.asked = append(s.asked, sentTo{path: r.URL.Path, model: model, body: string(raw), header: r.Header.Clone()})
	s.mu.Unlock()
	shape := map[string]shapeScript{"/v1/chat/completions": chatScript{}, "/v1/responses": responsesScript{}, "/v1/messages": messagesScript{}}[r.URL.Path]
	if shape == nil {
		w.WriteHeader(404)
		return
	}
	_, does, _ := strings.Cut(model, "-")
	if status, err := strconv.Atoi(does); err == nil {
		w.Header().Set("Content-Type", "application/json")
		if status == 429 {
			w.Header().Set("Retry-After", "3600") // for which SDKs would wait
			w.Header().Set("X-Should-Retry", "false")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, shape.failure(status))
		return
	}
	if !body.Get("stream").Bool() {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, shape.whole(model, s.next(body)))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	out := func(event string) bool {
		_, err := io.WriteString(w, event)
		return err == nil && http.NewResponseController(w).Flush() == nil && r.Context().Err() == nil
	}
	if does == "forever" {
		begin, again := shape.endless(model)
		for ok := out(begin); ok; ok = out(again) {
			time.Sleep(2 * time.Millisecond)
		}
		s.gone <- model
		return
	}
	for _, event := range shape.events(model, s.next(body), body.Get("stream_options.include_usage").Bool()) {
		if !out(event) {
			return
		}
	}
}

// shapeScript spells a turn in one shape.
type shapeScript interface {
	whole(model string, t turn) string
	events(model string, t turn, usage bool) []string
	endless(model string) (begin, again string)
	failure(status int) string
}

func inJSON(s string) string {
	b, _ := json.Marshal(s) // a string always can be
	return string(b)
}

// pieces cuts a text as a model streams it.
func pieces(s string) []string {
	var out []string
	for len(s) > 7 {
		out, s = append(out, s[:7]), s[7:]
	}
	return append(out, s)
}

type openAIFailure struct{}

func (openAIFailure) failure(status int) string {
	return fmt.Sprintf(`{"error":{"message":"upstream says %d","type":"invalid_request_error","param":null,"code":"up_%d"}}`, status, status)
}

type chatScript struct{ openAIFailure }

const chatUsage = `{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14}`

func (chatScript) call(t turn) string {
	return fmt.Sprintf(`[{"index":0,"id":"call_1","type":"function","function":{"name":%s,"arguments":%s}}]`, inJSON(t.tool), inJSON(t.args))
}

func (c chatScript) whole(model string, t turn) string {
	message, reason := `{"role":"assistant","content":`+inJSON(t.text)+`,"refusal":null}`, "stop"
	if t.tool != "" {
		message, reason = `{"role":"assistant","content":null,"refusal":null,"tool_calls":`+c.call(t)+`}`, "tool_calls"
	}
	return fmt.Sprintf(`{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":%q,"choices":[{"index":0,"message":%s,"logprobs":null,"finish_reason":%q}],"usage":%s}`,
		model, message, reason, chatUsage)
}

func (chatScript) chunk(model, delta, reason string) string {
	return fmt.Sprintf(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":%q,"choices":[{"index":0,"delta":%s,"finish_reason":%s}]}`+"\n\n", model, delta, reason)
}

func (c chatScript) events(model string, t turn, usage bool) []string {
	out := []string{c.chunk(model, `{"role":"assistant","content":""}`, "null")}
	if t.tool != "" {
		out = append(out, c.chunk(model, `{"tool_calls":`+c.call(turn{tool: t.tool})+`}`, "null"))
		for _, p := range pieces(t.args) {
			out = append(out, c.chunk(model, `{"tool_calls":[{"index":0,"function":{"arguments":`+inJSON(p)+`}}]}`, "null"))
		}
		out = append(out, c.chunk(model, `{}`, `"tool_calls"`))
	} else {
		for _, p := range pieces(t.text) {
			out = append(out, c.chunk(model, `{"content":`+inJSON(p)+`}`, "null"))
		}
		out = append(out, c.chunk(model, `{}`, `"stop"`))
	}
	if usage {
		out = append(out, fmt.Sprintf(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":%q,"choices":[],"usage":%s}`+"\n\n", model, chatUsage))
	}
	return append(out, "data: [DONE]\n\n")
}

func (c chatScript) endless(model string) (begin, again string) {
	return c.chunk(model, `{"role":"assistant","content":"on"}`, "null"), c.chunk(model, `{"content":" and on"}`, "null")
}

type responsesScript struct{ openAIFailure }

func (responsesScript) response(model, status, output string) string {
	usage := "null"
	if status == "completed" {
		usage = `{"input_tokens":9,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":14}`
	}
	return fmt.Sprintf(`{"id":"resp_1","object":"response","created_at":1,"status":%q,"error":null,"incomplete_details":null,"instructions":null,"metadata":{},"model":%q,"output":[%s],`+
		`"parallel_tool_calls":true,"temperature":1,"tool_choice":"auto","tools":[],"top_p":1,"usage":%s}`, status, model, output, usage)
}

func (responsesScript) item(t turn, status string) string {
	if t.tool != "" {
		return fmt.Sprintf(`{"id":"fc_1","type":"function_call","status":%q,"call_id":"call_1","name":%s,"arguments":%s}`, status, inJSON(t.tool), inJSON(t.args))
	}
	content := ""
	if t.text != "" {
		content = `{"type":"output_text","annotations":[],"logprobs":[],"text":` + inJSON(t.text) + `}`
	}
	return fmt.Sprintf(`{"id":"msg_1","type":"message","status":%q,"role":"assistant","content":[%s]}`, status, content)
}

func (s responsesScript) whole(model string, t turn) string {
	return s.response(model, "completed", s.item(t, "completed"))
}

func sseEvent(kind, more string) string {
	return fmt.Sprintf("event: %s\ndata: {\"type\":%q%s}\n\n", kind, kind, more)
}

func (s responsesScript) begin(model string, t turn) []string {
	empty := turn{tool: t.tool}
	out := []string{
		sseEvent("response.created", `,"sequence_number":0,"response":`+s.response(model, "in_progress", "")),
		sseEvent("response.in_progress", `,"sequence_number":1,"response":`+s.response(model, "in_progress", "")),
		sseEvent("response.output_item.added", `,"sequence_number":2,"output_index":0,"item":`+s.item(empty, "in_progress")),
	}
	if t.tool == "" {
		out = append(out, sseEvent("response.content_part.added", `,"sequence_number":3,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""}`))
	}
	return out
}

func (responsesScript) delta(n int, text string) string {
	return sseEvent("response.output_text.delta", fmt.Sprintf(`,"sequence_number":%d,"item_id":"msg_1","output_index":0,"content_index":0,"logprobs":[],"delta":%s`, n, inJSON(text)))
}

func (s responsesScript) events(model string, t turn, _ bool) []string {
	out := s.begin(model, t)
	n := func() int { return len(out) }
	if t.tool != "" {
		for _, p := range pieces(t.args) {
			out = append(out, sseEvent("response.function_call_arguments.delta", fmt.Sprintf(`,"sequence_number":%d,"item_id":"fc_1","output_index":0,"delta":%s`, n(), inJSON(p))))
		}
		out = append(out, sseEvent("response.function_call_arguments.done", fmt.Sprintf(`,"sequence_number":%d,"item_id":"fc_1","name":%s,"output_index":0,"arguments":%s`, n(), inJSON(t.tool), inJSON(t.args))))
	} else {
		for _, p := range pieces(t.text) {
			out = append(out, s.delta(n(), p))
		}
		const at = `,"sequence_number":%d,"item_id":"msg_1","output_index":0,"content_index":0`
		out = append(out, sseEvent("response.output_text.done", fmt.Sprintf(at+`,"logprobs":[],"text":%s`, n(), inJSON(t.text))))
		out = append(out, sseEvent("response.content_part.done", fmt.Sprintf(at+`,"part":{"type":"output_text","annotations":[],"logprobs":[],"text":%s}`, n(), inJSON(t.text))))
	}
	out = append(out, sseEvent("response.output_item.done", fmt.Sprintf(`,"sequence_number":%d,"output_index":0,"item":%s`, n(), s.item(t, "completed"))))
	return append(out, sseEvent("response.completed", fmt.Sprintf(`,"sequence_number":%d,"response":%s`, n(), s.whole(model, t))))
}

func (s responsesScript) endless(model string) (begin, again string) {
	return strings.Join(s.begin(model, turn{text: "on"}), ""), s.delta(4, "on and ")
}

type messagesScript struct{}

func (messagesScript) failure(status int) string {
	kind := map[int]string{400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}[status]
	return fmt.Sprintf(`{"type":"error","error":{"type":%q,"message":"upstream says %d"},"request_id":"req_1"}`, kind, status)
}

func (messagesScript) block(t turn) (block, reason string) {
	if t.tool != "" {
		return fmt.Sprintf(`{"type":"tool_use","id":"toolu_1","name":%s,"input":%s}`, inJSON(t.tool), t.args), "tool_use"
	}
	return `{"type":"text","text":` + inJSON(t.text) + `}`, "end_turn"
}

func (m messagesScript) whole(model string, t turn) string {
	block, reason := m.block(t)
	return fmt.Sprintf(`{"id":"msg_1","type":"message","role":"assistant","model":%q,"content":[%s],"stop_reason":%q,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":5}}`, model, block, reason)
}

func (m messagesScript) begin(model string, t turn) []string {
	block, _ := m.block(turn{tool: t.tool, args: "{}"})
	return []string{
		sseEvent("message_start", fmt.Sprintf(`,"message":{"id":"msg_1","type":"message","role":"assistant","model":%q,"content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}`, model)),
		sseEvent("content_block_start", `,"index":0,"content_block":`+block),
	}
}

func (m messagesScript) events(model string, t turn, _ bool) []string {
	out := m.begin(model, t)
	_, reason := m.block(turn{tool: t.tool, args: "{}"})
	kind, field, said := "text_delta", "text", t.text
	if t.tool != "" {
		kind, field, said = "input_json_delta", "partial_json", t.args
	}
	for _, p := range pieces(said) {
		out = append(out, sseEvent("content_block_delta", fmt.Sprintf(`,"index":0,"delta":{"type":%q,%q:%s}`, kind, field, inJSON(p))))
	}
	return append(out, sseEvent("content_block_stop", `,"index":0`),
		sseEvent("message_delta", fmt.Sprintf(`,"delta":{"stop_reason":%q,"stop_sequence":null},"usage":{"output_tokens":5}`, reason)), sseEvent("message_stop", ""))
}

func (m messagesScript) endless(model string) (begin, again string) {
	return strings.Join(m.begin(model, turn{text: "on"}), ""), sseEvent("content_block_delta", `,"index":0,"delta":{"type":"text_delta","text":"on and "}`)
}
