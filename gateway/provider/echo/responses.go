package echo

import (
	"fmt"
	"strings"

	"github.com/tidwall/gjson"
)

// parseResponses reads a body of the Responses API.
func parseResponses(body []byte) (*request, *refusal) {
	doc, bad := object(body)
	if bad != nil {
		return nil, bad
	}
	r := &request{body: body, limit: -1, format: doc.Get("text.format"), instructions: "null", id: newID("resp_echo_"),
		background: doc.Get("background").Bool(), store: doc.Get("store").Type != gjson.False}
	if bad = r.readCommon(doc, "max_output_tokens"); bad != nil {
		return nil, bad
	}
	r.previous, r.conversation = doc.Get("previous_response_id").Str, doc.Get("conversation").Str
	if in := doc.Get("conversation"); in.IsObject() {
		r.conversation = in.Get("id").Str
	}
	if said := doc.Get("instructions"); said.Type == gjson.String {
		r.instructions = said.Raw
		r.messages = append(r.messages, message{"system", said.Str})
	}
	switch input := doc.Get("input"); {
	case input.Type == gjson.String:
		r.messages = append(r.messages, message{"user", input.Str})
		r.items = []string{`{"id":"` + newID("msg_") + `","type":"message","status":"completed","role":"user","content":[{"type":"input_text","text":` + input.Raw + `}]}`}
	case input.IsArray():
		if bad = r.readItems(input); bad != nil {
			return nil, bad
		}
	case present(input):
		return nil, &refusal{"invalid_type", "input", "input must be a text or a list of items."}
	}
	if len(r.messages) == 0 {
		return nil, &refusal{"missing_required_parameter", "input", "You must provide input."}
	}
	return r, nil
}

func (r *request) readItems(list gjson.Result) (bad *refusal) {
	list.ForEach(func(_, item gjson.Result) bool {
		role, kind := item.Get("role"), item.Get("type").String()
		if item.IsObject() {
			r.items = append(r.items, identified(item))
		}
		switch {
		case !item.IsObject() || role.Type != gjson.String && kind == "":
			bad = &refusal{"invalid_type", "input", "Each item must be an object with a role or a type."}
			return false
		case role.Type == gjson.String:
			r.messages = append(r.messages, message{role.Str, text(item.Get("content"))})
		default:
			r.messages = append(r.messages, message{kind, text(item.Get("output"))})
		}
		return true
	})
	return bad
}

// identified is an item as it is kept: with an id, and a type.
func identified(item gjson.Result) string {
	more := ""
	if !item.Get("id").Exists() {
		more += `"id":"` + newID("msg_") + `",`
	}
	if !item.Get("type").Exists() {
		more += `"type":"message","status":"completed",`
	}
	rest := strings.TrimPrefix(strings.TrimSpace(item.Raw), "{")
	if more != "" && strings.TrimSpace(rest) == "}" {
		more = strings.TrimSuffix(more, ",")
	}
	return "{" + more + rest
}

// response is the answer as the Responses API has it. Like the real one it repeats the instructions.
func (a *answer) response(status, output, usage string) string {
	details := "null"
	if status == "incomplete" {
		details = `{"reason":"max_output_tokens"}`
	}
	return fmt.Sprintf(`{"id":"%s","object":"response","created_at":%d,"status":"%s","background":%v,"error":null,"incomplete_details":%s,"instructions":%s,`+
		`"max_output_tokens":null,"model":"`+Model+`","output":[%s],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},`+
		`"store":%v,"temperature":1.0,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":%s,"user":null,"metadata":{}}`,
		a.id, a.created, status, a.background, details, a.instructions, output, a.store, usage)
}

// queued is a response that goes on in the background, though an echo's has ended by then.
func (a *answer) queued() string { return a.response("queued", "", "null") }

func (a *answer) status() string {
	if a.finish == "length" {
		return "incomplete"
	}
	return "completed"
}

func (a *answer) item(status, content string) string {
	return fmt.Sprintf(`{"id":"msg_%s","type":"message","status":"%s","role":"assistant","content":[%s]}`, a.id, status, content)
}

func part(text string) string {
	return `{"type":"output_text","annotations":[],"logprobs":[],"text":` + string(quote(text)) + `}`
}

func (a *answer) whole() string {
	usage := fmt.Sprintf(`{"input_tokens":%d,"input_tokens_details":{"cached_tokens":0},"output_tokens":%d,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":%d}`,
		a.prompt, len(a.tokens), a.prompt+len(a.tokens))
	return a.response(a.status(), a.item(a.status(), part(strings.Join(a.tokens, ""))), usage)
}

// responseEvents returns a function that makes the events of a response's stream one by one; then nil.
func (a *answer) responseEvents() func() []byte {
	text := strings.Join(a.tokens, "")
	place := fmt.Sprintf(`,"item_id":"msg_%s","output_index":0,"content_index":0`, a.id)
	type event struct{ kind, more string }
	before := []event{
		{"response.created", `,"response":` + a.response("in_progress", "", "null")},
		{"response.in_progress", `,"response":` + a.response("in_progress", "", "null")},
		{"response.output_item.added", `,"output_index":0,"item":` + a.item("in_progress", "")},
		{"response.content_part.added", place + `,"part":` + part("")},
	}
	after := []event{
		{"response.output_text.done", place + `,"logprobs":[],"text":` + string(quote(text))},
		{"response.content_part.done", place + `,"part":` + part(text)},
		{"response.output_item.done", `,"output_index":0,"item":` + a.item(a.status(), part(text))},
		{"response." + a.status(), `,"response":` + a.whole()},
	}
	next := 0
	return func() []byte {
		i := next
		next++
		var e event
		switch n := len(before) + len(a.tokens); {
		case i < len(before):
			e = before[i]
		case i < n:
			e = event{"response.output_text.delta", place + `,"logprobs":[],"delta":` + string(quote(a.tokens[i-len(before)]))}
		case i < n+len(after):
			e = after[i-n]
		default:
			return nil
		}
		return fmt.Appendf(nil, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%d%s}\n\n", e.kind, e.kind, i, e.more)
	}
}

// parseUnkept reads a body of the Responses API for an answer that is neither streamed nor kept.
func parseUnkept(body []byte) (*request, *refusal) {
	r, bad := parseResponses(body)
	if bad == nil {
		r.Stream, r.background, r.store, r.conversation = false, false, false, ""
	}
	return r, bad
}

func (a *answer) inputTokens() []byte {
	return fmt.Appendf(nil, `{"object":"response.input_tokens","input_tokens":%d}`, a.prompt)
}

// compaction is what an echo makes of a long input: it says what arrived, and holds nothing.
func (a *answer) compaction() []byte {
	return fmt.Appendf(nil, `{"id":"%s","object":"response.compaction","created_at":%d,"output":[%s,{"id":"cmp_%s","type":"compaction","encrypted_content":"an echo compacts nothing"}],`+
		`"usage":{"input_tokens":%d,"output_tokens":%d,"total_tokens":%d}}`, a.id, a.created, a.item("completed", part(strings.Join(a.tokens, ""))), a.id, a.prompt, len(a.tokens), a.prompt+len(a.tokens))
}
