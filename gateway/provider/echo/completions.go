package echo

import (
	"fmt"
	"strings"

	"github.com/tidwall/gjson"
)

// parseCompletions reads a body of legacy completions. Its one prompt is a text.
func parseCompletions(body []byte) (*request, *refusal) {
	doc, bad := object(body)
	if bad != nil {
		return nil, bad
	}
	r := &request{body: body, prefix: "cmpl-echo-", limit: -1}
	for _, field := range [...]string{"n", "best_of"} {
		if n := doc.Get(field); present(n) && (n.Type != gjson.Number || n.Num != 1) {
			return nil, &refusal{"unsupported_value", field, "The echo provider gives one choice: " + field + " must be 1."}
		}
	}
	r.Usage = doc.Get("stream_options.include_usage").Bool()
	if bad = r.readCommon(doc, "max_tokens"); bad != nil {
		return nil, bad
	}
	prompt := doc.Get("prompt")
	if all := prompt.Array(); prompt.IsArray() && len(all) == 1 {
		prompt = all[0]
	}
	if prompt.Type != gjson.String {
		return nil, &refusal{"unsupported_value", "prompt", "The echo provider takes one prompt, a text."}
	}
	r.messages = []message{{"user", prompt.Str}}
	return r, nil
}

// completion is the answer as legacy completions have it: choices is what it says, more follows it.
func (a *answer) completion(choices, more string) []byte {
	return fmt.Appendf(nil, `{"id":"%s","object":"text_completion","created":%d,"model":"%s","choices":[%s]%s}`, a.id, a.created, Model, choices, more)
}

func textChoice(text, finish string) string {
	return `{"index":0,"text":` + string(quote(text)) + `,"logprobs":null,"finish_reason":` + finish + `}`
}

func (a *answer) wholeCompletion() []byte {
	return a.completion(textChoice(strings.Join(a.tokens, ""), `"`+a.finish+`"`), ","+string(a.appendUsage(nil)))
}

// completionEvents returns a function that makes the events of a stream one by one; then nil.
func (a *answer) completionEvents(usage bool) func() []byte {
	next, more := 0, ""
	if usage {
		more = `,"usage":null`
	}
	return func() []byte {
		i := next
		next++
		data := []byte("[DONE]")
		switch n := len(a.tokens); {
		case i < n:
			data = a.completion(textChoice(a.tokens[i], "null"), more)
		case i == n:
			data = a.completion(textChoice("", `"`+a.finish+`"`), more)
		case i == n+1 && usage:
			data = a.completion("", ","+string(a.appendUsage(nil)))
		case i == n+1, i == n+2 && usage:
		default:
			return nil
		}
		return append(append([]byte("data: "), data...), "\n\n"...)
	}
}
