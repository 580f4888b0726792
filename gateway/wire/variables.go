package wire

import (
	"bytes"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/promptgate/promptgate/internal/fault"
)

// MaxHeaderVariables is how long x-promptgate-variables may be, in bytes.
const MaxHeaderVariables = 16 << 10

// metadataVariables is the member of "metadata" that holds variables, for clients that can add no field of their own to a body.
const metadataVariables = "promptgate_variables"

// headerJSON is the JSON in a header's text: as such, in RFC 8187's form UTF-8”%7B…, or in base64url. What is no UTF-8 is read as Latin-1, which is what
// browsers and Node send.
func headerJSON(text string) []byte {
	text = strings.TrimSpace(text)
	if len(text) > 7 && strings.EqualFold(text[:6], "utf-8'") {
		if _, encoded, ok := strings.Cut(text[6:], "'"); ok {
			if plain, err := url.PathUnescape(encoded); err == nil {
				return []byte(plain)
			}
		}
	}
	if !strings.HasPrefix(text, "{") {
		if plain, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "=")); err == nil && bytes.HasPrefix(bytes.TrimSpace(plain), []byte("{")) {
			return plain
		}
	}
	if utf8.ValidString(text) {
		return []byte(text)
	}
	out := make([]byte, 0, 2*len(text))
	for i := range len(text) {
		out = utf8.AppendRune(out, rune(text[i]))
	}
	return out
}

// takeHeaderVariables reads the variables of one header.
func (p *referenceParser) takeHeaderVariables(text, from string) error {
	if len(text) > MaxHeaderVariables {
		return fault.New(fault.HeadersTooLarge, "%s is longer than %d bytes. Send the variables in the body.", from, MaxHeaderVariables).WithParam(from)
	}
	var b Body // the body's own scan does not cover headers
	raw := headerJSON(text)
	if err := b.scanAs(raw, false); err != nil {
		why := strings.TrimPrefix(messageOf(err), "The request body is not valid JSON ")
		return refuse(from, "%s must hold one JSON object with the variables by name, as such, as UTF-8'' with percent-encoding (RFC 8187), or in base64url; it is none %s", from, why)
	}
	return p.takeVariables(raw, from)
}

// takeMetadata reads the variables in "metadata", an object or, since its values are strings to most, a string that holds one.
func (p *referenceParser) takeMetadata(v []byte) error {
	if v[0] != '{' || !bytes.Contains(v, []byte(metadataVariables)) && bytes.IndexByte(v, '\\') < 0 {
		return nil
	}
	const from = "metadata." + metadataVariables
	var b Body
	if err := b.scanAs(v, false); err != nil {
		return err
	}
	value, ok := b.Get(metadataVariables)
	if !ok {
		return nil
	}
	p.metadata = Remove("metadata")
	if len(b.members) > 1 {
		p.metadata.Value = b.Splice(nil, []Edit{Remove(metadataVariables)})
	}
	if text, ok := stringOf(value); ok {
		var inner Body
		value = []byte(text)
		if err := inner.scanAs(value, false); err != nil {
			return refuse(from, "%s must be an object with the variables by name, or a string that holds one.", from)
		}
	}
	return p.takeVariables(value, from)
}

// place is where this caller's variables stand, or would have to.
func (p *referenceParser) place() string {
	switch {
	case p.variablesFrom != "":
		return p.variablesFrom
	case strings.HasPrefix(p.handleFrom, "x-promptgate-"):
		return "x-promptgate-variables"
	case p.path:
		return "variables"
	case p.handleFrom == "prompt_id":
		return "prompt_variables"
	}
	return "prompt.variables"
}

// WithContent is the caller's messages without the empty ones, which SDKs put beside a managed prompt because they must send some: those of a role
// and nothing else. It is messages itself when none is empty.
func WithContent(messages []byte) []byte {
	w, ok := walkInto(messages, '[')
	if !ok {
		return messages
	}
	for {
		m, ok := w.element()
		if !ok {
			return messages
		}
		if saysNothing(m) {
			break
		}
	}
	kept := []byte{'['}
	for m := range elementsOf(messages) {
		if saysNothing(m) {
			continue
		}
		if len(kept) > 1 {
			kept = append(kept, ',')
		}
		kept = append(kept, m...)
	}
	return append(kept, ']')
}

// saysNothing reports whether a message has a role, and empty content or none, and nothing else.
func saysNothing(message []byte) bool {
	w, ok := walkInto(message, '{')
	empty := false
	for ok {
		var key, value []byte
		if key, value, ok = w.member(); !ok {
			break
		}
		switch string(key) {
		case `"role"`, `"name"`:
		case `"type"`:
			if string(value) != `"message"` {
				return false
			}
		case `"content"`:
			if !emptyContent(value) {
				return false
			}
			empty = true
		default:
			return false
		}
	}
	return empty && w.closed('}')
}

// emptyContent reports whether a message's content is null, "", [] or a list of empty texts.
func emptyContent(v []byte) bool {
	if isNull(v) || string(v) == `""` {
		return true
	}
	parts, ok := walkInto(v, '[')
	if !ok {
		return false
	}
	for {
		part, ok := parts.element()
		if !ok {
			return parts.closed(']')
		}
		if part[0] != '{' || !emptyText(part) {
			return false
		}
	}
}

func emptyText(part []byte) bool {
	w, _ := walkInto(part, '{')
	for {
		key, value, ok := w.member()
		if !ok {
			return w.closed('}')
		}
		if string(key) != `"type"` && (string(key) != `"text"` || string(value) != `""`) || string(key) == `"type"` && !isTextType(value) {
			return false
		}
	}
}

// cutLast takes the last message off a list of them: last is nil when there is none.
func cutLast(messages []byte) (rest, last []byte) {
	w, ok := walkInto(messages, '[')
	from, until := 0, 0 // of the last one, with what separates it from the one before
	for ok {
		var m []byte
		at := w.pos
		if m, ok = w.element(); ok {
			last, from, until = m, at, w.pos
		}
	}
	if last == nil {
		return messages, nil
	}
	return slices.Concat(messages[:from], messages[until:]), last
}

// userText is a message's text as a JSON string. ok is false unless its role is user, its content one text, and there is nothing else to it but a name.
func userText(message []byte) (text []byte, ok bool) {
	w, is := walkInto(message, '{')
	user := false
	for is {
		var key, value []byte
		if key, value, is = w.member(); !is {
			break
		}
		switch string(key) {
		case `"type"`:
			if string(value) != `"message"` {
				return nil, false
			}
		case `"role"`:
			user = string(value) == `"user"`
		case `"content"`:
			text = oneText(value)
		case `"name"`:
		default:
			return nil, false
		}
	}
	return text, user && text != nil
}

// isTextType reports whether a part's type is that of a text, in a chat or in the input of a response.
func isTextType(v []byte) bool { return string(v) == `"text"` || string(v) == `"input_text"` }

// oneText is content that is one text, a string or a list of one part, as a JSON string; nil when it is not.
func oneText(content []byte) []byte {
	if content[0] == '"' {
		return content
	}
	list, ok := walkInto(content, '[')
	if !ok {
		return nil
	}
	part, _ := list.element()
	w, ok := walkInto(part, '{')
	if !ok || !list.closed(']') {
		return nil
	}
	var text []byte
	for {
		key, value, ok := w.member()
		switch {
		case !ok:
			return text
		case string(key) == `"type"` && isTextType(value):
		case string(key) == `"text"` && value[0] == '"':
			text = value
		default:
			return nil
		}
	}
}
