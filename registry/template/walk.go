package template

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/promptgate/promptgate/internal/names"
)

// The functions of this file walk JSON that was found valid before (checkJSON): they judge nothing, copy nothing and read each byte
// once. A value's limits hold the depth.

// skipSpace is the index of the first byte from i on that is no white space.
func skipSpace(raw []byte, i int) int {
	for i < len(raw) && isSpace(raw[i]) {
		i++
	}
	return i
}

// skipString is the index behind the string that begins at i.
func skipString(raw []byte, i int) int {
	for i++; i < len(raw); i++ {
		n := bytes.IndexByte(raw[i:], '"')
		if n < 0 {
			return len(raw)
		}
		i += n
		back := i
		for raw[back-1] == '\\' {
			back--
		}
		if (i-back)%2 == 0 {
			return i + 1
		}
	}
	return len(raw)
}

// skipValue is the index behind the value that begins at i.
func skipValue(raw []byte, i int) int {
	depth := 0
	for i < len(raw) {
		switch c := raw[i]; c {
		case '"':
			i = skipString(raw, i)
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth <= 0 {
				return i + max(0, depth+1) // a scalar ends before the bracket of what holds it
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
		i++
	}
	return len(raw)
}

// eachMember calls f with every member of the object that begins at raw[0], the key as its JSON string, and its value's place in raw.
// f returns where it found the value to end, or 0 when it did not look.
func eachMember(raw []byte, f func(key []byte, value int) (end int, err error)) (end int, err error) {
	i := skipSpace(raw, 1)
	for i < len(raw) && raw[i] != '}' {
		keyEnd := skipString(raw, i)
		value := skipSpace(raw, skipSpace(raw, keyEnd)+len(":"))
		end, err := f(raw[i:keyEnd], value)
		if err != nil {
			return 0, err
		}
		if end == 0 {
			end = skipValue(raw, value)
		}
		i = nextItem(raw, end)
	}
	return i + 1, nil
}

// eachItem is eachMember for the items of an array.
func eachItem(raw []byte, f func(value int) (end int, err error)) (end int, err error) {
	i := skipSpace(raw, 1)
	for i < len(raw) && raw[i] != ']' {
		end, err := f(i)
		if err != nil {
			return 0, err
		}
		if end == 0 {
			end = skipValue(raw, i)
		}
		i = nextItem(raw, end)
	}
	return i + 1, nil
}

// nextItem is where the next item begins, or the closing bracket stands, after a value that ends at i.
func nextItem(raw []byte, i int) int {
	i = skipSpace(raw, i)
	if i < len(raw) && raw[i] == ',' {
		i = skipSpace(raw, i+1)
	}
	return i
}

// nameOf is a key as the names in texts are compared: what it says, in normal form.
func nameOf(key []byte) []byte { return names.NormalBytes(keyText(key)) }

// keyText is what a key says: the bytes between its quotes, without a copy unless it has escapes.
func keyText(key []byte) []byte {
	inner := key[1 : len(key)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	text, err := jsontext.AppendUnquote(nil, key)
	if err != nil {
		return inner // not reached: the key is valid
	}
	return text
}

// canonicalJSON is valid JSON in the one spelling in which a value is printed: no white space between tokens, in strings no escape
// that JSON does not ask for, members in their order. Numbers keep their digits: 0.10 is not 0.1 to who writes a price. So whatever
// a client's serializer escapes or indents, the same value prints the same text.
func canonicalJSON(raw []byte) []byte {
	out := make([]byte, 0, len(raw))
	from := 0 // of what is copied as it is
	for i := 0; i < len(raw); {
		switch c := raw[i]; {
		case c == '"':
			end := skipString(raw, i)
			if bytes.IndexByte(raw[i:end], '\\') >= 0 {
				out = append(out, raw[from:i]...)
				out = appendRespelled(out, raw[i:end])
				from = end
			}
			i = end
		case isSpace(c):
			out = append(out, raw[from:i]...)
			i = skipSpace(raw, i)
			from = i
		default:
			i++
		}
	}
	return append(out, raw[from:]...)
}

// appendRespelled appends a JSON string with the fewest escapes.
func appendRespelled(dst, quoted []byte) []byte {
	text, err := jsontext.AppendUnquote(nil, quoted)
	if err == nil {
		if out, err := jsontext.AppendQuote(dst, text); err == nil {
			return out
		}
	}
	return append(dst, quoted...) // not reached: the string is valid
}

// members is which members of a variable the texts print: {{a.b.c}} is a path through it.
type members struct {
	slot int // of the value at this place in Values.members; -1: only what is below is printed
	next map[string]*members
}

// add enters a path and returns its slot; slots is how many there are already.
func (m *members) add(path []string, slots int) int {
	for _, name := range path {
		if m.next == nil {
			m.next = map[string]*members{}
		}
		below := m.next[name]
		if below == nil {
			below = &members{slot: -1}
			m.next[name] = below
		}
		m = below
	}
	if m.slot < 0 {
		m.slot = slots
	}
	return m.slot
}

// extract finds all members that are printed in one pass over the value, canonical JSON, that begins at raw[at], and returns where it ends.
func (m *members) extract(raw []byte, at int, into []value) int {
	if m.next == nil || raw[at] != '{' {
		end := skipValue(raw, at)
		if m.slot >= 0 {
			into[m.slot] = plainValue(raw[at:end])
		}
		return end
	}
	n, _ := eachMember(raw[at:], func(key []byte, value int) (int, error) {
		if below := m.next[string(nameOf(key))]; below != nil {
			return below.extract(raw, at+value, into) - at, nil
		}
		return 0, nil
	})
	end := at + n
	if m.slot >= 0 {
		into[m.slot] = plainValue(raw[at:end])
	}
	return end
}

// countValues counts the values in valid JSON.
func countValues(raw []byte) int {
	n := 1
	for i := 0; i < len(raw); {
		switch raw[i] {
		case '"':
			i = skipString(raw, i)
			continue
		case ',', '[', '{':
			n++
		}
		i++
	}
	return n
}
