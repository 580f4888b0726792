package wire

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"strconv"

	"github.com/promptgate/promptgate/metrics"
)

// Chat is OpenAI's chat completions.
type Chat struct{}

var _ API = Chat{}

// Name implements API.
func (Chat) Name() string { return "chat" }

// Endpoint implements API.
func (Chat) Endpoint() string { return "chat/completions" }

// Compose implements API: the version's messages and the caller's become "messages".
func (Chat) Compose(b *Body, p Prompt, dst []byte, edits []Edit) (Composed, error) {
	own, err := b.Messages()
	if err != nil {
		return Composed{Rendered: dst}, err
	}
	own = WithContent(own)
	if p.LastTaken {
		own, _ = cutLast(own)
	}
	p.Locks.name, p.Locks.messages = "messages", own
	merged, err := Merge(b, p.Version.Content(), p.Locks, edits)
	if err != nil {
		return Composed{Rendered: dst}, err
	}
	if isIgnored(merged.Ignored, "messages") {
		own = nil
	}
	before := len(dst)
	dst, err = p.Values.AppendMessages(dst, own)
	c := Composed{Merged: merged, Rendered: dst, Messages: dst[before:]}
	if err != nil {
		return c, err
	}
	c.Edits = append(c.Edits, Edit{Name: "messages", Value: c.Messages})
	return c, nil
}

// LastUserText implements API.
func (Chat) LastUserText(b *Body) (text json.RawMessage, ok bool) {
	messages, err := b.Messages()
	if err != nil {
		return nil, false
	}
	_, last := cutLast(WithContent(messages))
	return userText(last)
}

// UsageEdit implements API.
func (Chat) UsageEdit(b *Body) (e Edit, needed bool) { return UsageEdit(b) }

// OutputLimit implements API.
func (Chat) OutputLimit(b *Body, edits []Edit) (tokens, answers int64) {
	for _, name := range [...]string{"max_tokens", "max_completion_tokens"} {
		tokens = max(tokens, count(b.Sent(name, edits)))
	}
	return tokens, max(1, count(b.Sent("n", edits)))
}

// count is a number of things as a provider may read it: 100, 1e2, "100"; 0 for what is none.
func count(value []byte) int64 {
	n, err := strconv.ParseFloat(string(bytes.Trim(value, `"`)), 64)
	if err != nil || !(n > 0) {
		return 0
	}
	return int64(min(n, math.MaxInt32))
}

// Continues implements API: chat keeps nothing at the provider.
func (Chat) Continues(*Body, []Edit) (param, id string) { return "", "" }

// References implements API.
func (Chat) References(*Body) []string { return nil }

// Stores implements API.
func (Chat) Stores() bool { return false }

// Keeps implements API.
func (Chat) Keeps() bool { return false }

// RunsOn implements API.
func (Chat) RunsOn(*Body, []Edit) bool { return false }

// Unserved implements API.
func (Chat) Unserved(*Body) string { return "" }

// Finishes implements API.
func (Chat) Finishes(string) bool { return true }

// Free implements API.
func (Chat) Free() bool { return false }

// Onward implements API.
func (Chat) Onward(h http.Header, _ []Edit) http.Header {
	if v := h["Openai-Beta"]; len(v) > 0 {
		return http.Header{"Openai-Beta": v}
	}
	return nil
}

// RequestID implements API.
func (Chat) RequestID() string { return "X-Request-Id" }

// EndUser implements API.
func (Chat) EndUser(b *Body) string { return b.Text("user") }

// ReadAnswer implements API.
func (Chat) ReadAnswer(body []byte) (Completion, bool) { return ParseAnswer(body) }

// AppendError implements API: OpenAI's envelope {"error":{"message","type","param","code"}}.
func (Chat) AppendError(dst []byte, err error, _ string) []byte { return appendErrorBody(dst, err) }

// AppendErrorEvent implements API: the envelope as the data of an event without a name.
func (Chat) AppendErrorEvent(dst []byte, err error, _ string) []byte {
	return append(appendErrorBody(append(dst, "data: "...), err), '\n', '\n')
}

// AppendRefusal implements API.
func (Chat) AppendRefusal(dst, body []byte, status int) []byte {
	return BlankRefusal(dst, body, status)
}

// Field implements API.
func (Chat) Field(depth int, parent, name []byte) Field {
	switch {
	case depth == 1 && string(name) == "choices":
		return FieldContent
	case depth == 1:
		return topField(string(name)) // does not escape
	case depth == 3 && string(parent) == "choices" && string(name) == "finish_reason":
		return FieldFinish
	}
	return FieldNone
}

// doneMark ends a stream of OpenAI's form.
const doneMark = "[DONE]"

// ReadEvent implements API.
func (Chat) ReadEvent(r *StreamResult, ev Event) (usageOnly bool) {
	data, isError := ev.Data, string(ev.Name) == "error"
	switch {
	case len(data) == 0:
		return false
	case string(bytes.TrimRight(data, " \t")) == doneMark:
		r.Done = true
		return false
	}
	r.Events++
	if isError {
		r.SetError(data)
	}
	if r.Started && r.ID != "" && !worthReading(data) {
		return false
	}
	return r.readChunk(data) && !isError
}

// worthReading looks for what can matter in a chunk after the first content came, without parsing it: a usage, a finish reason or an error
// that is not null. Most chunks hold none of it. A quoted name can only be a string of its own, since quotes inside of strings are
// escaped.
func worthReading(data []byte) bool {
	for i := 0; i < len(data); i++ {
		if data[i] != '"' {
			continue
		}
		rest := data[i+1:]
		if len(rest) == 0 {
			return false
		}
		switch rest[0] {
		case 'u':
			if hasValue(rest, `usage"`) {
				return true
			}
		case 'f':
			if hasValue(rest, `finish_reason"`) {
				return true
			}
		case 'e':
			if hasValue(rest, `error"`) {
				return true
			}
		}
	}
	return false
}

// hasValue reports whether data is a name, up to its closing quote, before something that is not null.
func hasValue(data []byte, name string) bool {
	if len(data) < len(name) || string(data[:len(name)]) != name {
		return false
	}
	i := skipSpace(data, len(name))
	if i >= len(data) || data[i] != ':' {
		return false
	}
	i = skipSpace(data, i+1)
	return !bytes.HasPrefix(data[i:], []byte("null"))
}

// readChunk reads one chunk's JSON. It reports whether this is the usage chunk: usage, and choices that are empty.
func (r *StreamResult) readChunk(data []byte) (usageChunk bool) {
	w, ok := walkInto(data, '{')
	if !ok {
		return false
	}
	var noChoices, hasUsage, hasError bool
	for {
		key, value, ok := w.member()
		if !ok {
			break
		}
		switch string(key) {
		case `"id"`:
			if r.ID == "" {
				setString(&r.ID, value)
			}
		case `"model"`:
			if r.Model == "" {
				setString(&r.Model, value)
			}
		case `"choices"`:
			noChoices = r.readChoices(value)
		case `"usage"`:
			var t metrics.Tokens
			var cost int64
			if t, cost, hasUsage = parseUsage(value); t.Reported {
				r.Usage, r.Cost = t, cost
			}
		case `"service_tier"`:
			setString(&r.Tier, value)
		case `"error"`:
			if !isNull(value) {
				hasError = true
				r.SetError(value)
			}
		}
	}
	return noChoices && hasUsage && !hasError && w.closed('}')
}

// readChoices reads the choices of a chunk; empty is true when it is an array of none.
func (r *StreamResult) readChoices(v []byte) (empty bool) {
	w, ok := walkInto(v, '[')
	if !ok {
		return false
	}
	empty = true
	for {
		choice, ok := w.element()
		if !ok {
			return empty && w.closed(']')
		}
		empty = false
		r.readChoice(choice)
	}
}

func (r *StreamResult) readChoice(v []byte) {
	w, ok := walkInto(v, '{')
	if !ok {
		return
	}
	for {
		key, value, ok := w.member()
		if !ok {
			return
		}
		switch string(key) {
		case `"finish_reason"`:
			if r.Finish == "" {
				setString(&r.Finish, value)
			}
		case `"text"`: // legacy completions
			r.Started = r.Started || hasText(value)
		case `"delta"`:
			if !r.Started {
				r.readDelta(value)
			}
		}
	}
}

// readDelta looks for the first thing that the model said.
func (r *StreamResult) readDelta(v []byte) {
	w, ok := walkInto(v, '{')
	if !ok {
		return
	}
	for {
		key, value, ok := w.member()
		if !ok {
			return
		}
		switch string(key) {
		case `"content"`, `"refusal"`, `"reasoning"`, `"reasoning_content"`, `"tool_calls"`, `"function_call"`, `"audio"`:
			r.Started = r.Started || hasText(value)
		}
	}
}

// hasText reports whether a value says anything: not null, and neither an empty string nor an empty list.
func hasText(v []byte) bool {
	switch string(v) {
	case "null", `""`, "[]", "{}":
		return false
	}
	return true
}
