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
	Stream   bool
	Usage    bool // stream_options.include_usage
	limit    int  // tokens of the answer; -1: none
	messages []message
	format   gjson.Result
}

type message struct{ role, text string }

// parse reads a body as strictly as a provider would.
func parse(body []byte) (*request, *refusal) {
	if !jsontext.Value(body).IsValid() {
		return nil, &refusal{"invalid_json", "", "The body is not valid JSON, or names a field twice."}
	}
	doc := gjson.ParseBytes(body)
	if !doc.IsObject() {
		return nil, &refusal{"invalid_json", "", "The body must be a JSON object."}
	}
	r := &request{body: body, limit: -1, format: doc.Get("response_format")}
	if doc.Get("model").Type != gjson.String {
		return nil, &refusal{"missing_required_parameter", "model", "You must provide a model."}
	}
	if n := doc.Get("n"); present(n) && (n.Type != gjson.Number || n.Num != 1) {
		return nil, &refusal{"unsupported_value", "n", "The echo provider gives one choice: n must be 1."}
	}
	switch s := doc.Get("stream"); {
	case s.Type == gjson.True:
		r.Stream = true
	case present(s) && s.Type != gjson.False:
		return nil, &refusal{"invalid_type", "stream", "stream must be true or false."}
	}
	r.Usage = doc.Get("stream_options.include_usage").Bool()
	for _, field := range [...]string{"max_tokens", "max_completion_tokens"} {
		n := doc.Get(field)
		if !present(n) {
			continue
		}
		if n.Type != gjson.Number || n.Num < 1 || n.Num != float64(int64(n.Num)) {
			return nil, &refusal{"invalid_value", field, field + " must be a whole number of at least 1."}
		}
		r.limit = int(min(n.Num, 1<<30))
	}
	return r, r.readMessages(doc.Get("messages"))
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
