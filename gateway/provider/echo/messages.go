package echo

import (
	"fmt"
	"strings"

	"github.com/tidwall/gjson"
)

// parseMessages reads a body of the Messages API, parseCount one that asks for a count of its tokens.
func parseMessages(body []byte) (*request, *refusal) {
	r, doc, bad := parseTurns(body)
	if bad == nil && !present(doc.Get("max_tokens")) {
		bad = &refusal{"missing_required_parameter", "max_tokens", "You must provide max_tokens."}
	}
	return r, bad
}

func parseCount(body []byte) (*request, *refusal) {
	r, _, bad := parseTurns(body)
	if bad == nil {
		r.Stream = false
	}
	return r, bad
}

func parseTurns(body []byte) (r *request, doc gjson.Result, bad *refusal) {
	if doc, bad = object(body); bad != nil {
		return nil, doc, bad
	}
	r = &request{body: body, prefix: "msg_echo_", limit: -1, format: doc.Get("output_config.format")}
	if bad = r.readCommon(doc, "max_tokens"); bad != nil {
		return nil, doc, bad
	}
	if system := doc.Get("system"); present(system) {
		r.messages = append(r.messages, message{"system", text(system)})
	}
	before := len(r.messages)
	if bad = r.readMessages(doc.Get("messages")); bad == nil && len(r.messages) == before {
		bad = &refusal{"invalid_value", "messages", "messages must not be empty."}
	}
	for _, m := range r.messages[before:] {
		if bad == nil && m.role != "user" && m.role != "assistant" {
			bad = &refusal{"invalid_value", "messages", "The role of a message must be user or assistant."}
		}
	}
	return r, doc, bad
}

// stopReason is the end of an answer as the Messages API names it.
func (a *answer) stopReason() string {
	if a.finish == "length" {
		return "max_tokens"
	}
	return "end_turn"
}

// message is the answer as the Messages API has it; stop is a JSON value.
func (a *answer) message(content, stop string, output int) string {
	return fmt.Sprintf(`{"id":"%s","type":"message","role":"assistant","model":"`+Model+`","content":[%s],"stop_reason":%s,"stop_sequence":null,`+
		`"usage":{"input_tokens":%d,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":%d,"service_tier":"standard"}}`,
		a.id, content, stop, a.prompt, output)
}

func (a *answer) wholeMessage() []byte {
	text := `{"type":"text","text":` + string(quote(strings.Join(a.tokens, ""))) + `}`
	return []byte(a.message(text, `"`+a.stopReason()+`"`, len(a.tokens)))
}

func (a *answer) count() []byte { return fmt.Appendf(nil, `{"input_tokens":%d}`, a.prompt) }

// messageEvents returns a function that makes the events of a message's stream one by one; then nil.
func (a *answer) messageEvents() func() []byte {
	type event struct{ kind, more string }
	before := []event{
		{"message_start", `,"message":` + a.message("", "null", 1)},
		{"content_block_start", `,"index":0,"content_block":{"type":"text","text":""}`},
		{"ping", ""},
	}
	after := []event{
		{"content_block_stop", `,"index":0`},
		{"message_delta", fmt.Sprintf(`,"delta":{"stop_reason":"%s","stop_sequence":null},"usage":{"output_tokens":%d}`, a.stopReason(), len(a.tokens))},
		{"message_stop", ""},
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
			e = event{"content_block_delta", `,"index":0,"delta":{"type":"text_delta","text":` + string(quote(a.tokens[i-len(before)])) + `}`}
		case i < n+len(after):
			e = after[i-n]
		default:
			return nil
		}
		return fmt.Appendf(nil, "event: %s\ndata: {\"type\":\"%s\"%s}\n\n", e.kind, e.kind, e.more)
	}
}
