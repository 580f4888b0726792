package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cbroglie/mustache"
	"github.com/go-json-experiment/json/jsontext"
)

func cutName(name string) (first, members string) {
	first, members, _ = strings.Cut(name, ".")
	return first, members
}

// addTree prepares a text with sections for the mustache library.
func (c *Compiled) addTree(t *text, tokens []token) error {
	source, err := normalize(tokens)
	if err != nil {
		return invalid(t.path, "%s", err)
	}
	// Raw, with a provider that knows nothing: the library's other entry points escape HTML and read files.
	if t.tree, err = mustache.ParseStringPartialsRaw(source, &mustache.StaticProvider{}, true); err != nil {
		return invalid(t.path, "the sections cannot be read: %s", err)
	}
	seen := map[int]bool{}
	for _, tok := range tokens {
		if i, ok := c.index[tok.text]; ok && tok.kind == tokValue && !seen[i] {
			seen[i] = true
			t.leaves = append(t.leaves, i)
		}
	}
	return nil
}

// normalize writes tokens as a source that the library reads to just these tokens: with delimiters that occur in no literal, so
// that nothing of an included text or of a literal {{ becomes a tag; with a comment before each section tag, so that it never
// counts as alone on its line (white space was dealt with by scan); and without includes.
func normalize(tokens []token) (string, error) {
	marks := make([]byte, 0, 2)
	for b := byte(1); b < 0x20 && len(marks) < 2; b++ {
		if b >= '\t' && b <= '\r' {
			continue
		}
		if !anyLiteralHas(tokens, b) {
			marks = append(marks, b)
		}
	}
	if len(marks) < 2 {
		return "", errors.New("the text holds nearly all control characters and sections too; remove some of the control characters")
	}
	open, closing := string(marks[:1]), string(marks[1:])
	var b strings.Builder
	b.WriteString("{{=" + open + " " + closing + "=}}" + open + "!" + closing)
	for _, t := range tokens {
		switch t.kind {
		case tokText:
			b.WriteString(t.text)
		case tokValue:
			b.WriteString(open + "&" + t.text + closing)
		case tokOpen:
			b.WriteString(open + "!" + closing + open + "#" + t.text + closing)
		case tokInverted:
			b.WriteString(open + "!" + closing + open + "^" + t.text + closing)
		case tokClose:
			b.WriteString(open + "!" + closing + open + "/" + t.text + closing)
		case tokInclude: // expanded before
		}
	}
	return b.String(), nil
}

func anyLiteralHas(tokens []token, b byte) bool {
	for _, t := range tokens {
		if t.kind == tokText && strings.IndexByte(t.text, b) >= 0 {
			return true
		}
	}
	return false
}

// The types that the library sees as data. It finds members by reflection and calls methods that take nothing, so that these have
// none but Format, which takes two arguments; fmt uses it, the library cannot call it. Strings are Go's, and so are booleans.
type (
	// number is a JSON number in its own spelling.
	number string
	// object is a JSON object; below the key printKey, which no tag can name, stands what it prints as.
	object map[string]any
	// list is a JSON array. What it prints as stands behind its last item, where its capacity reaches and sections do not. An empty
	// list is what counts as nothing, so null and zero are empty lists too, that print as "" and as the number.
	list []any
)

const printKey = "\x00print"

// Format prints the object as it was written, compact.
func (o object) Format(f fmt.State, _ rune) { writeAny(f, o[printKey]) }

// Format prints the list as it was written, compact.
func (l list) Format(f fmt.State, _ rune) { writeAny(f, l[:len(l)+1][len(l)]) }

func writeAny(w io.Writer, printed any) {
	if s, ok := printed.(string); ok {
		_, _ = io.WriteString(w, s) // the writer of a render keeps its own error
	}
}

func newList(items []any, printed string) list {
	return append(items, printed)[: len(items) : len(items)+1]
}

// decoder makes the library's data, and bounds what all of it costs: each value is one step, and so is every stepBytes that are copied, for
// what stands inside of lists is copied once for each of them.
type decoder struct{ left int }

const stepBytes = 256

var errTooMuchData = errors.New("it holds too many values for the sections of the prompt; send fewer")

// decode makes the library's data of valid JSON, compact.
func (d *decoder) decode(raw []byte) (any, error) {
	if d.left -= 1 + len(raw)/stepBytes; d.left < 0 {
		return nil, errTooMuchData
	}
	switch kindOf(raw) {
	case '"':
		return unquote(raw), nil
	case 't':
		return true, nil
	case 'f':
		return false, nil
	case 'n', 0:
		return newList(nil, ""), nil
	case '0':
		if digits, _ := decimal(string(raw)); digits == "" {
			return newList(nil, string(raw)), nil
		}
		return number(raw), nil
	case '[':
		return d.list(raw)
	default:
		members, err := objectMembers(raw)
		if err != nil {
			return nil, err
		}
		o := make(object, len(members)+1)
		for name, member := range members {
			if o[name], err = d.decode(member); err != nil {
				return nil, err
			}
		}
		o[printKey] = string(raw)
		return o, nil
	}
}

func (d *decoder) list(raw []byte) (any, error) {
	var items []any
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.ReadToken(); err != nil {
		return nil, errMalformed
	}
	for dec.PeekKind() != ']' {
		v, err := dec.ReadValue()
		if err != nil {
			return nil, errMalformed
		}
		if len(items) == MaxListItems {
			return nil, fmt.Errorf("a list in it has more than %d items; send fewer", MaxListItems)
		}
		item, err := d.decode(json.RawMessage(v.Clone()))
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return newList(items, string(raw)), nil
}

// data is the value as the library sees it.
func (v value) data(d *decoder) (any, error) {
	if v.kind == valueMedia {
		return true, nil // counts as something; a text that would print it is refused before
	}
	return d.decode(v.raw)
}

var (
	errTooLong = errors.New("rendered text is too long")
	errTooMany = errors.New("sections repeat too often")
)

// sectionWriter takes what the library writes into a JSON string. The library writes at least once, be it nothing, for every
// pass through a section, so that counting writes bounds its work.
type sectionWriter struct {
	dst   []byte
	limit int // of len(dst)
	steps int // left
	err   error
}

func (w *sectionWriter) Write(p []byte) (int, error) {
	if w.steps--; w.err == nil && w.steps < 0 {
		w.err = errTooMany
	}
	if w.err == nil && len(w.dst)+len(p) > w.limit {
		w.err = errTooLong
	}
	if w.err != nil {
		return 0, w.err // for good: the library heeds the errors of some writes only
	}
	w.dst = appendEscaped(w.dst, p)
	return len(p), nil
}
