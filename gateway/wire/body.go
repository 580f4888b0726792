package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/promptgate/promptgate/internal/fault"
)

// MaxDepth is how deep a body may nest; the body itself is at depth 1. Deeper ones cost a provider's parser more than a caller gains.
const MaxDepth = 200

// MaxNames is how many names the objects that are open at one place of a body may have, together. To tell duplicates all of them are
// remembered, at several times their own size: without a bound one body of short names would cost gigabytes.
const MaxNames = 50_000

// Member is one top-level member of a body, by offsets into the scanned bytes.
type Member struct {
	Name       string // decoded: escapes resolved
	KeyStart   int    // of the opening quote
	ValueStart int
	ValueEnd   int

	known bool // Name is one of the names that knownName returns
	form  form // what it says about a prompt
}

// Body is a scanned request body. The zero value is ready; Scan may be called again and again, so a Body can be pooled. It keeps a
// reference to the scanned bytes, and what its methods return points into them.
type Body struct {
	raw     []byte
	members []Member
	end     int // offset of the closing brace
	buf     bytes.Buffer
	dec     jsontext.Decoder

	variables map[string]json.RawMessage // memory of a Reference
}

// Scan reads raw once and records its top-level members. It refuses, with fault.InvalidJSON saying where and why: what is not one
// JSON object, duplicate names at any depth, invalid UTF-8, nesting deeper than MaxDepth, more than MaxNames names, anything after the object, and names that
// differ only by case from a field that the gateway reads.
func (b *Body) Scan(raw []byte) error {
	return b.scanAs(raw, true)
}

// scanAs is Scan; fields says that the names are a request's fields, whose case matters.
func (b *Body) scanAs(raw []byte, fields bool) error {
	b.raw, b.members, b.end = raw, b.members[:0], 0
	if err := b.scan(fields); err != nil {
		b.members = b.members[:0]
		return err
	}
	return nil
}

func (b *Body) scan(fields bool) error {
	if off, why := beyond(b.raw); off >= 0 {
		return invalidAt(b.raw, off, why)
	}
	// The decoder reads a bytes.Buffer in place, so nothing is copied.
	b.buf = *bytes.NewBuffer(b.raw)
	b.dec.Reset(&b.buf)
	if kind := b.dec.PeekKind(); kind != '{' {
		if _, err := b.dec.ReadToken(); err != nil {
			return syntaxFault(b.raw, err)
		}
		return invalidAt(b.raw, 0, "the body must be one JSON object")
	}
	if _, err := b.dec.ReadToken(); err != nil {
		return syntaxFault(b.raw, err)
	}
	for b.dec.PeekKind() != '}' {
		if err := b.scanMember(fields); err != nil {
			return err
		}
	}
	if _, err := b.dec.ReadToken(); err != nil {
		return syntaxFault(b.raw, err)
	}
	b.end = int(b.dec.InputOffset()) - 1
	if _, err := b.dec.ReadToken(); err == nil {
		return invalidAt(b.raw, b.end+1, "there is more after the JSON object")
	} else if !errors.Is(err, io.EOF) {
		return syntaxFault(b.raw, err)
	}
	return nil
}

// scanMember reads one name and its value.
func (b *Body) scanMember(fields bool) error {
	key, err := b.dec.ReadValue()
	if err != nil {
		return syntaxFault(b.raw, err)
	}
	m := Member{}
	m.KeyStart = int(b.dec.InputOffset()) - len(key)
	if m.Name, m.known = decodeName(key); m.known {
		m.form = formOf(m.Name)
	} else if fields {
		if field := foldedField(m.Name); field != "" {
			return invalidAt(b.raw, m.KeyStart, "the field "+quoteForMessage(m.Name)+" differs only by case from "+
				quoteForMessage(field)+"; spell it that way").WithParam(field)
		}
	}
	value, err := b.dec.ReadValue()
	if err != nil {
		return syntaxFault(b.raw, err)
	}
	m.ValueEnd = int(b.dec.InputOffset())
	m.ValueStart = m.ValueEnd - len(value)
	b.members = append(b.members, m)
	return nil
}

// maxKept bounds how many members a pooled Body keeps room for: one hostile body must not cost memory for ever.
const maxKept = 256

// Reset forgets the scanned bytes, so that a pooled Body does not keep them alive.
func (b *Body) Reset() {
	if cap(b.members) > maxKept || len(b.variables) > maxKept {
		*b = Body{}
		return
	}
	clear(b.variables)
	clear(b.members)
	b.raw, b.members, b.end = nil, b.members[:0], 0
	b.buf = bytes.Buffer{}
	b.dec.Reset(&b.buf)
}

// Raw is what was scanned.
func (b *Body) Raw() []byte { return b.raw }

// Members are the top-level members in the body's order; read only.
func (b *Body) Members() []Member { return b.members }

// Get is the value of a top-level member, as its bytes stand in the body. null is present.
func (b *Body) Get(name string) (value []byte, ok bool) {
	for i := range b.members {
		if m := &b.members[i]; m.Name == name {
			return b.raw[m.ValueStart:m.ValueEnd:m.ValueEnd], true
		}
	}
	return nil, false
}

// maxModelBytes bounds a model: it becomes a header, a column and a label. The longest are those that name a prompt and its label.
const maxModelBytes = 512

// Model is the decoded model, "" when it is absent or null. A model that is no string, is longer than 512 bytes or holds control
// characters is fault.InvalidRequest with Param "model".
func (b *Body) Model() (string, error) {
	v, ok := b.Get("model")
	if !ok || isNull(v) {
		return "", nil
	}
	s, ok := stringOf(v)
	if !ok {
		return "", fault.New(fault.InvalidRequest, "model must be a string").WithParam("model")
	}
	if len(s) > maxModelBytes || !printable(s) {
		return "", fault.New(fault.InvalidRequest, "model must be a name of at most %d bytes without control characters", maxModelBytes).WithParam("model")
	}
	if strings.TrimSpace(s) != s { // a provider would read it without, and what was permitted is not what would run
		return "", fault.New(fault.InvalidRequest, "model has white space around it; send %s", quoteForMessage(strings.TrimSpace(s))).WithParam("model")
	}
	return s, nil
}

// Stream says whether the caller asked for a stream. fault.InvalidRequest with Param "stream" when it is neither a boolean nor null.
func (b *Body) Stream() (bool, error) {
	v, ok := b.Get("stream")
	switch {
	case !ok || isNull(v) || string(v) == "false":
		return false, nil
	case string(v) == "true":
		return true, nil
	}
	return false, fault.New(fault.InvalidRequest, "stream must be true or false").WithParam("stream")
}

// Text is the decoded value of a top-level member, "" when it is absent or no string.
func (b *Body) Text(name string) string {
	v, _ := b.Get(name)
	s, _ := stringOf(v)
	return s
}

// Messages is the value of "messages", nil when it is absent or null. fault.InvalidRequest with Param "messages" when it is no array.
func (b *Body) Messages() ([]byte, error) {
	v, ok := b.Get("messages")
	if !ok || isNull(v) {
		return nil, nil
	}
	if string(v) == `""` {
		return nil, nil // of SDKs that must send something
	}
	if v[0] != '[' {
		return nil, fault.New(fault.InvalidRequest, "messages must be an array").WithParam("messages")
	}
	return v, nil
}

// beyond is the place where a body exceeds MaxDepth or MaxNames, and which; -1 when it does not. What stands in strings does not count. A body
// with few brackets and colons altogether, which is nearly every one, is settled by counting them.
func beyond(raw []byte) (off int, why string) {
	if bytes.Count(raw, []byte{'{'})+bytes.Count(raw, []byte{'['}) <= MaxDepth && bytes.Count(raw, []byte{':'}) <= MaxNames {
		return -1, ""
	}
	var names [MaxDepth + 1]int // by level
	depth, open := 0, 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			end := skipString(raw, i)
			if end < 0 {
				return -1, "" // not JSON: the decoder says so
			}
			i = end - 1
		case '{', '[':
			if depth++; depth > MaxDepth {
				return i, "nested deeper than 200 levels"
			}
		case '}', ']':
			if depth == 0 {
				return -1, "" // not JSON either
			}
			open -= names[depth]
			names[depth] = 0
			depth--
		case ':':
			names[depth]++
			if open++; open > MaxNames {
				return i, "more than 50000 names in one object and those around it"
			}
		}
	}
	return -1, ""
}

// invalidAt is the fault for a body that breaks at off.
func invalidAt(raw []byte, off int, why string) *fault.Error {
	off = min(max(off, 0), len(raw))
	line := 1 + bytes.Count(raw[:off], []byte{'\n'})
	column := off - bytes.LastIndexByte(raw[:off], '\n')
	return fault.New(fault.InvalidJSON, "The request body is not valid JSON at line %d, column %d (byte %d): %s.", line, column, off, why)
}

// syntaxFault turns the decoder's error into one for the caller. Its text comes from the caller's own body.
func syntaxFault(raw []byte, err error) *fault.Error {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.As(err, &syntax):
		why := "syntax error"
		if syntax.Err != nil {
			why = strings.TrimPrefix(syntax.Err.Error(), "jsontext: ")
		}
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			why = "the body ends before its JSON does"
		case errors.Is(err, jsontext.ErrDuplicateName):
			name := syntax.JSONPointer.LastToken()
			why = "the name " + quoteForMessage(name) + " stands twice in one object; send it once"
		}
		f := invalidAt(raw, int(syntax.ByteOffset), why)
		f.Err = err
		return f
	case len(bytes.TrimSpace(raw)) == 0:
		return invalidAt(raw, len(raw), "the body is empty; send one JSON object")
	}
	f := invalidAt(raw, 0, "it cannot be read")
	f.Err = err
	return f
}
