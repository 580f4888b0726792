package wire

import (
	"bytes"
	"iter"
)

// walker reads the members of one JSON object, or the elements of one array, in place. It checks no more than it needs to find their
// borders: request bodies were checked by Scan, and a provider's answer that is no JSON just yields nothing. It never reads past the end.
type walker struct {
	b   []byte
	pos int
}

// walkInto starts at the first member or element; ok is false unless b opens with open.
func walkInto(b []byte, open byte) (w walker, ok bool) {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != open {
		return walker{}, false
	}
	return walker{b: b, pos: i + 1}, true
}

// member is the next member of an object: its name still quoted. ok is false at the end, and where the bytes are no JSON or are cut.
func (w *walker) member() (key, value []byte, ok bool) {
	i := skipSeparator(w.b, w.pos)
	if i >= len(w.b) || w.b[i] != '"' {
		return nil, nil, false
	}
	end := skipString(w.b, i)
	if end < 0 {
		return nil, nil, false
	}
	key = w.b[i:end]
	i = skipSpace(w.b, end)
	if i >= len(w.b) || w.b[i] != ':' {
		return nil, nil, false
	}
	w.pos = i + 1
	value, ok = w.value()
	return key, value, ok
}

// element is the next element of an array.
func (w *walker) element() (value []byte, ok bool) {
	w.pos = skipSeparator(w.b, w.pos)
	return w.value()
}

func (w *walker) value() ([]byte, bool) {
	start := skipSpace(w.b, w.pos)
	end := skipValue(w.b, start)
	if end < 0 {
		return nil, false
	}
	w.pos = end
	return w.b[start:end:end], true
}

// membersOf are the members of an object, their names still quoted; none of any other value.
func membersOf(v []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		w, ok := walkInto(v, '{')
		for ok {
			var key, value []byte
			if key, value, ok = w.member(); ok && !yield(key, value) {
				return
			}
		}
	}
}

// elementsOf are the elements of an array; none of any other value.
func elementsOf(v []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		w, ok := walkInto(v, '[')
		for ok {
			var value []byte
			if value, ok = w.element(); ok && !yield(value) {
				return
			}
		}
	}
}

// closed reports whether the walk ended at the close of what it walked.
func (w *walker) closed(closer byte) bool {
	i := skipSpace(w.b, w.pos)
	return i < len(w.b) && w.b[i] == closer
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

func skipSeparator(b []byte, i int) int {
	i = skipSpace(b, i)
	if i < len(b) && b[i] == ',' {
		i = skipSpace(b, i+1)
	}
	return i
}

// skipString is the offset after the string that opens at i, or -1 when it does not close.
func skipString(b []byte, i int) int {
	i++
	for {
		n := bytes.IndexByte(b[min(i, len(b)):], '"')
		if n < 0 {
			return -1
		}
		i += n + 1
		slashes := 0
		for b[i-2-slashes] == '\\' { // ends at the opening quote at the latest
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
	}
}

// skipValue is the offset after the value that starts at i, or -1 when there is none or it is cut.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		return skipNested(b, i)
	case ',', ':', '}', ']':
		return -1
	}
	for i < len(b) {
		switch b[i] {
		case ',', '}', ']', ' ', '\n', '\r', '\t', ':', '"', '{', '[':
			return i
		}
		i++
	}
	return -1 // a number or literal at the cut may lack its end
}

func skipNested(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			if i = skipString(b, i); i < 0 {
				return -1
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return -1
}
