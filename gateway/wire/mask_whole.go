package wire

import "bytes"

// A Mask takes an answer byte by byte, for it may be cut anywhere. What has come whole is looked at as such here: that costs far less, and comes to the same.

// wholeValue is the length of the value of a member that p begins with, if all of it is replaced or none, whatever it holds; 0 for any other, for one that is cut,
// and where no value begins. It takes the value.
func (m *Mask) wholeValue(p []byte) (n int) {
	if !m.isValue || m.wantName || m.skipping || m.isError || m.isWords || m.depth < 1 || m.depth > maskDepth {
		return 0
	}
	if m.hide == "" && (m.path[m.depth] != unknownName || m.items && m.depth > 1) {
		return 0
	}
	if m.events {
		if !m.isData || m.trim {
			return 0
		}
		for _, end := range [...]byte{'\n', '\r'} { // an event's line ends whatever is open in it
			if at := bytes.IndexByte(p, end); at >= 0 {
				p = p[:at]
			}
		}
	}
	if len(p) == 0 || p[0] != '"' && p[0] != '{' && p[0] != '[' {
		return 0
	}
	if n = skipValue(p, 0); n < 0 {
		return 0
	}
	m.isValue = false
	return n
}

// plainEvent is the length of the event that p begins with, if that is whole, has one line of data, and names nothing that is replaced or says what is; 0 for
// any other. Most events are such.
func (m *Mask) plainEvent(p []byte) int {
	if !m.events || m.inLine || m.fieldLen > 0 || m.started || m.failing || m.kindLen > 0 || p[0] != 'e' && p[0] != 'd' {
		return 0
	}
	rest := p[:min(len(p), holdMax)]
	line, rest, ended := bytes.Cut(rest, []byte{'\n'})
	if name, named := bytes.CutPrefix(line, []byte("event: ")); named {
		if bytes.HasPrefix(bytes.TrimLeft(name, " "), []byte("error")) || bytes.IndexByte(name, '\r') >= 0 {
			return 0
		}
		line, rest, ended = bytes.Cut(rest, []byte{'\n'})
	}
	data, named := bytes.CutPrefix(line, []byte("data: {"))
	if !ended || !named || len(rest) == 0 || rest[0] != '\n' || bytes.IndexByte(data, '\r') >= 0 || namesAny(data) {
		return 0
	}
	m.cr = false
	return min(len(p), holdMax) - len(rest) + 1
}

// namesAny reports whether JSON holds a string on which it depends what of an event is replaced, or one that could be such in escapes.
func namesAny(data []byte) bool {
	if bytes.IndexByte(data, '\\') >= 0 && bytes.Contains(data, []byte(`\u`)) {
		return true
	}
	for {
		at := bytes.IndexByte(data, '"')
		if at < 0 || at+1 == len(data) {
			return false
		}
		switch data = data[at+1:]; data[0] {
		case 'r':
			if bytes.HasPrefix(data, []byte(`response"`)) {
				return true
			}
		case 'e':
			if bytes.HasPrefix(data, []byte(`error"`)) {
				return true
			}
		case 'm':
			if bytes.HasPrefix(data, []byte(`message"`)) {
				return true
			}
		case 'p':
			if bytes.HasPrefix(data, []byte(`param"`)) {
				return true
			}
		}
	}
}
