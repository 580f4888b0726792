package echo

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

const maxToken = 16 // bytes

// answer is what an echo says.
type answer struct {
	id      string
	created int64
	tokens  []string // the content, cut into tokens
	finish  string
	prompt  int // tokens
	// instructions are those of a response, a JSON string or null.
	instructions      string
	background, store bool
}

// answer makes the answer to r. Only "created" depends on anything but the body.
func (r *request) answer(created int64) *answer {
	sum := sha256.Sum256(r.body)
	a := &answer{id: r.prefix + hex.EncodeToString(sum[:12]), created: created, finish: "stop", instructions: r.instructions, background: r.background, store: r.store}
	if r.id != "" {
		a.id = r.id
	}
	for _, m := range r.messages {
		a.prompt += len(tokens(m.text))
	}
	a.tokens = tokens(r.content())
	if r.limit >= 0 && len(a.tokens) > r.limit {
		a.tokens, a.finish = a.tokens[:r.limit], "length"
	}
	return a
}

// content says what arrived: how many messages of which roles and sizes, and the last one that a user sent, word for word. The
// text of the others stays out of it: a caller who may run a prompt may not always read it.
func (r *request) content() string {
	last := -1
	var sizes []string
	for i, m := range r.messages {
		if m.role == "user" {
			last = i
		}
		if i < 20 {
			sizes = append(sizes, fmt.Sprintf("%s %d bytes", m.role, len(m.text)))
		}
	}
	if n := len(r.messages) - len(sizes); n > 0 {
		sizes = append(sizes, fmt.Sprintf("and %d more", n))
	}
	shown := "no user message"
	if last >= 0 {
		shown = r.messages[last].text
	}
	if instance, ok := instanceFor(r.format, shown); ok {
		return instance
	}
	plural := "s"
	if len(r.messages) == 1 {
		plural = ""
	}
	head := fmt.Sprintf("[echo] %d message%s (%s)", len(r.messages), plural, strings.Join(sizes, ", "))
	if last < 0 {
		return head + "; no user message"
	}
	return head + "; last user message: " + shown
}

// tokens cuts s into runs of at most maxToken bytes, each ending behind white space or at the end, and never within a rune.
func tokens(s string) []string {
	var out []string
	start := 0
	for i := 0; i < len(s); {
		_, size := utf8.DecodeRuneInString(s[i:])
		if i > start && i+size-start > maxToken {
			out, start = append(out, s[start:i]), i
		}
		end := i + size
		if space(s[i]) && (end == len(s) || !space(s[end])) {
			out, start = append(out, s[start:end]), end
		}
		i = end
	}
	if start < len(s) {
		out = append(out, s[start:])
	}
	return out
}

func space(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func (a *answer) open(b []byte, object string) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, a.id...)
	b = append(b, `","object":"`...)
	b = append(b, object...)
	b = append(b, `","created":`...)
	b = strconv.AppendInt(b, a.created, 10)
	return append(b, `,"model":"`+Model+`","system_fingerprint":"fp_echo","choices":[`...)
}

func (a *answer) appendUsage(b []byte) []byte {
	return fmt.Appendf(b, `"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`,
		a.prompt, len(a.tokens), a.prompt+len(a.tokens))
}

func (a *answer) json() []byte {
	b := a.open(nil, "chat.completion")
	b = append(b, `{"index":0,"message":{"role":"assistant","content":`...)
	b = append(b, quote(strings.Join(a.tokens, ""))...)
	b = append(b, `,"refusal":null},"logprobs":null,"finish_reason":"`+a.finish+`"}],`...)
	return append(a.appendUsage(b), '}')
}

// events returns a function that makes the events of a stream one by one: a role, a token each, the end, usage if it was asked
// for, and the mark of the end; then nil.
func (a *answer) events(usage bool) func() []byte {
	next := -1
	return func() []byte {
		i := next
		next++
		b := []byte("data: ")
		switch n := len(a.tokens); {
		case i < 0:
			b = a.delta(b, `{"role":"assistant","content":"","refusal":null}`, "null", usage)
		case i < n:
			b = a.delta(b, `{"content":`+string(quote(a.tokens[i]))+`}`, "null", usage)
		case i == n:
			b = a.delta(b, `{}`, `"`+a.finish+`"`, usage)
		case i == n+1 && usage:
			b = append(a.appendUsage(append(a.open(b, "chat.completion.chunk"), "],"...)), '}')
		case i == n+1, i == n+2 && usage:
			b = append(b, "[DONE]"...)
		default:
			return nil
		}
		return append(b, "\n\n"...)
	}
}

func (a *answer) delta(b []byte, delta, finish string, usage bool) []byte {
	b = append(a.open(b, "chat.completion.chunk"), `{"index":0,"delta":`+delta+`,"logprobs":null,"finish_reason":`+finish+`}]`...)
	if usage {
		b = append(b, `,"usage":null`...)
	}
	return append(b, '}')
}
