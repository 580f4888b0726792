package wire

import "bytes"

// A Mask takes an answer byte by byte, for it may be cut anywhere. What has come whole is looked at as such here: that costs far less, and comes to the same.

// wholeValue is the length of the value of a member that p begins with, if all of it is replaced or none, whatever it holds; 0 for any other, for one that is cut,
// and where no value begins. It takes the value.
func (m *Mask) wholeValue(p []byte) (n int) {
	if m.wantName || m.skipping || m.isError || m.isWords || m.depth < 1 || m.depth > maskDepth || m.hide == "" && !m.plainMember() {
		return 0
	}
	if p[0] != '"' && p[0] != '{' && p[0] != '[' || m.events && (!m.isData || m.trim) {
		return 0
	}
	if n = skipValue(m.restOfLine(p), 0); n < 0 {
		return 0
	}
	m.isValue = false
	return n
}

// plainMember reports whether the value that comes passes whatever it holds.
func (m *Mask) plainMember() bool {
	switch name := m.path[m.depth]; {
	case name == unknownName:
		return !m.items || m.depth == 1
	case m.events || m.items:
		return false
	default: // only these are looked into
		return name != "" && name != "response" && name != "error"
	}
}

// maskLine bounds what of an event's line is looked through for the end of a value: a line of many values would be looked through anew for each.
const maskLine = 16 << 10

// restOfLine is what p holds of an event's line, which ends whatever is open in it, up to maskLine bytes of it; of an answer it is p.
func (m *Mask) restOfLine(p []byte) []byte {
	if !m.events {
		return p
	}
	p = p[:min(len(p), maskLine)]
	for _, end := range [...]byte{'\n', '\r'} {
		if at := bytes.IndexByte(p, end); at >= 0 {
			p = p[:at]
		}
	}
	return p
}

// wholeName is the length of the name of a member that p begins with; 0 for one that is cut, or longer than any that matters, and where none begins. It takes
// the name.
func (m *Mask) wholeName(p []byte) int {
	if p[0] != '"' || m.inString || m.skipping || m.hide != "" || m.isError || m.isWords || m.events && (!m.isData || m.trim) {
		return 0
	}
	n := skipString(m.restOfLine(p[:min(len(p), maskNameBytes)]), 0)
	if n < 0 {
		return 0
	}
	m.wantName, m.isName, m.isValue = false, true, false
	m.name = append(m.name[:0], p[1:n-1]...)
	if m.depth <= maskDepth {
		m.named()
	}
	return n
}

// plainEvent is the length of the event that p begins with, if that is whole, has one line of data, and names nothing that is replaced or says what is; 0 for
// any other. Most events are such.
func (m *Mask) plainEvent(p []byte) int {
	if m.inLine || m.fieldLen > 0 || m.failing || m.kindLen > 0 || p[0] != 'e' && p[0] != 'd' {
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
