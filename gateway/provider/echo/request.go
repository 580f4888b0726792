package echo

import (
	"encoding/json"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/tidwall/gjson"
)

// request is what an echo reads of a body.
type request struct {
	body     []byte
	prefix   string // of the answer's id
	Stream   bool
	Usage    bool // stream_options.include_usage
	limit    int  // tokens of the answer; -1: none
	messages []message
	format   gjson.Result
	// instructions are those of a response, a JSON string or null.
	instructions string
	// What follows is a response's, too.
	id, previous, conversation string
	items                      []string // of the input, with ids
	background, store          bool
}

type message struct{ role, text string }

// object reads a body as strictly as a provider would.
func object(body []byte) (doc gjson.Result, bad *refusal) {
	if !jsontext.Value(body).IsValid() {
		return doc, &refusal{"invalid_json", "", "The body is not valid JSON, or names a field twice."}
	}
	if doc = gjson.ParseBytes(body); !doc.IsObject() {
		return doc, &refusal{"invalid_json", "", "The body must be a JSON object."}
	}
	return doc, nil
}

// parse reads a body of chat completions.
func parse(body []byte) (*request, *refusal) {
	doc, bad := object(body)
	if bad != nil {
		return nil, bad
	}
	r := &request{body: body, prefix: "chatcmpl-echo-", limit: -1, format: doc.Get("response_format")}
	if n := doc.Get("n"); present(n) && (n.Type != gjson.Number || n.Num != 1) {
		return nil, &refusal{"unsupported_value", "n", "The echo provider gives one choice: n must be 1."}
	}
	r.Usage = doc.Get("stream_options.include_usage").Bool()
	if bad = r.readCommon(doc, "max_tokens", "max_completion_tokens"); bad != nil {
		return nil, bad
	}
	return r, r.readMessages(doc.Get("messages"))
}

// readCommon reads what the shapes have in common; limits are the fields that bound the answer.
func (r *request) readCommon(doc gjson.Result, limits ...string) *refusal {
	if doc.Get("model").Type != gjson.String {
		return &refusal{"missing_required_parameter", "model", "You must provide a model."}
	}
	switch s := doc.Get("stream"); {
	case s.Type == gjson.True:
		r.Stream = true
	case present(s) && s.Type != gjson.False:
		return &refusal{"invalid_type", "stream", "stream must be true or false."}
	}
	for _, field := range limits {
		n := doc.Get(field)
		if !present(n) {
			continue
		}
		if n.Type != gjson.Number || n.Num < 1 || n.Num != float64(int64(n.Num)) {
			return &refusal{"invalid_value", field, field + " must be a whole number of at least 1."}
		}
		r.limit = int(min(n.Num, 1<<30))
	}
	return nil
}

func present(v gjson.Result) bool { return v.Exists() && v.Type != gjson.Null }

func (r *request) readMessages(list gjson.Result) *refusal {
	if !list.IsArray() {
		return &refusal{"missing_required_parameter", "messages", "You must provide messages, a list."}
	}
	var bad *refusal
	list.ForEach(func(_, m gjson.Result) bool {
		role := m.Get("role")
		if !m.IsObject() || role.Type != gjson.String {
			bad = &refusal{"invalid_type", "messages", "Each message must be an object with a role."}
			return false
		}
		r.messages = append(r.messages, message{role.Str, text(m.Get("content"))})
		return true
	})
	if bad == nil && len(r.messages) == 0 {
		bad = &refusal{"invalid_value", "messages", "messages must not be empty."}
	}
	return bad
}

// text joins the text parts of a content; other parts are named by their type.
func text(content gjson.Result) string {
	if !content.IsArray() {
		return content.String()
	}
	var b strings.Builder
	content.ForEach(func(_, part gjson.Result) bool {
		if t := part.Get("text"); t.Type == gjson.String {
			b.WriteString(t.Str)
		} else {
			b.WriteString("[" + part.Get("type").String() + "]")
		}
		return true
	})
	return b.String()
}

// quote writes s as a JSON string; encoding/json cannot fail on one, and turns invalid UTF-8 into U+FFFD.
func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return []byte(`""`)
	}
	return b
}
