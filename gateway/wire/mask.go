package wire

// Managed stands in answers in the place of a prompt's text, for callers who may run the prompt and not read it.
const Managed = "[managed prompt]"

// Mask replaces members of a provider's answer, or of the response that an event of a stream holds, on their way to a caller: those of these names, and
// of an error all but its type and code. Everything else passes byte for byte. It keeps a few bytes of state, however long a value or an event is, and
// takes pieces of any size. The zero value replaces nothing.
type Mask struct {
	names  []string
	events bool // the bytes are server-sent events, whose data is the JSON
	errors bool // nothing but what errors say is replaced
	items  bool // the JSON is a list of items, each of which gives away only what it is

	// Of the line of an event.
	inLine, isData, trim bool
	cr                   bool // a line feed would belong to the carriage return before it
	isEvent              bool // its value names the event
	field                [5]byte
	fieldLen             int
	kind                 [6]byte // of the event: its beginning
	kindLen              int
	failing              bool // the event is an error: by its name or its type

	// Of the JSON.
	depth             int
	objects           uint64 // one bit a depth: it is an object
	inString, escaped bool
	isName, wantName  bool
	name              []byte
	path              [maskDepth + 1]string
	hide              string // what replaces the value that comes
	isError           bool   // the value that comes is an error
	isWords           bool   // the value that comes is what an error says, if it is a text
	isValue           bool   // the value of a member comes
	started           bool   // the JSON of this event has begun
	marked            int    // bytes of the mark of the end that have passed
	drop              bool   // what comes is no JSON: until its line ends nothing passes
	skipping          bool
	skipFrom          int
}

// maskDepth is how deep members are looked for: response.error.message.
const maskDepth = 3

// maskNameBytes bounds a name that is compared.
const maskNameBytes = 256

// NewMask makes a Mask for an answer, or for a stream of events.
func NewMask(names []string, events bool) *Mask { return &Mask{names: names, events: events} }

// Reset readies the Mask for another answer, or stream of events, keeping its memory.
func (m *Mask) Reset(names []string, events bool) {
	*m = Mask{names: names, events: events, name: m.name[:0]}
}

// NewItemsMask makes a Mask for a list of items: nothing of an item passes but what it is, and whose.
func NewItemsMask() *Mask { return &Mask{items: true} }

// newErrorMask makes a Mask for one event, which may be an error.
func newErrorMask() *Mask { return &Mask{events: true, errors: true} }

// Append appends what p becomes to dst.
func (m *Mask) Append(dst, p []byte) []byte {
	if len(m.names) == 0 && !m.items && !m.errors {
		return append(dst, p...)
	}
	for i := 0; i < len(p); {
		n := 0
		switch {
		case m.isValue:
			if n = m.wholeValue(p[i:]); n > 0 && m.hide != "" {
				dst, m.hide = append(dst, m.hide...), ""
				i += n
				continue
			}
		case m.wantName:
			n = m.wholeName(p[i:])
		case m.events && !m.started:
			n = m.plainEvent(p[i:])
		}
		if n > 0 {
			dst = append(dst, p[i:i+n]...)
			i += n
			continue
		}
		if !m.events {
			dst = m.json(dst, p[i])
		} else {
			dst = m.line(dst, p[i])
		}
		i++
	}
	return dst
}

// line takes one byte of a line of an event.
func (m *Mask) line(dst []byte, c byte) []byte {
	after := m.cr
	m.cr = c == '\r'
	switch {
	case c == '\n' && after:
		return append(dst, c)
	case c == '\n' || c == '\r':
		if !m.inLine {
			m.restart() // an empty line ends the event
		}
		m.failing = m.failing || m.isEvent && string(m.kind[:m.kindLen]) == "error"
		m.inLine, m.isData, m.isEvent, m.fieldLen = false, false, false, 0
		return append(dst, c)
	case m.isEvent:
		if m.trim = m.trim && c == ' '; !m.trim && m.kindLen < len(m.kind) {
			m.kind[m.kindLen] = c
			m.kindLen++
		}
		return append(dst, c)
	case m.isData && m.trim:
		m.trim = false
		if c == ' ' {
			return append(dst, c)
		}
		return m.json(dst, c)
	case m.isData:
		return m.json(dst, c)
	case c == ':' && m.fieldLen == 4 && string(m.field[:4]) == "data":
		m.inLine, m.isData, m.trim = true, true, true
	case c == ':' && m.fieldLen == 5 && string(m.field[:]) == "event":
		m.inLine, m.isEvent, m.trim, m.kindLen = true, true, true, 0
	case m.fieldLen == 0 && (c == 0xef || c == 0xbb || c == 0xbf): // a byte order mark, which clients pass over
	case m.fieldLen < len(m.field):
		m.inLine = true
		m.field[m.fieldLen] = c
		m.fieldLen++
	}
	return append(dst, c)
}

func (m *Mask) restart() {
	*m = Mask{names: m.names, events: m.events, items: m.items, errors: m.errors, name: m.name[:0], cr: m.cr}
}

// json takes one byte of the JSON.
func (m *Mask) json(dst []byte, c byte) []byte {
	if m.inString {
		m.text(c)
		if m.skipping {
			if !m.inString && m.depth == m.skipFrom {
				m.skipping = false
			}
			return dst
		}
		return append(dst, c)
	}
	space := c == ' ' || c == '\t' || c == '\n' || c == '\r'
	if !m.started && !space {
		m.started = true
		m.drop = c != '{' && m.events
	}
	if m.drop {
		return m.mark(dst, c)
	}
	if m.isError && !space && c != ':' {
		m.isError = false
		if c != '{' { // an error that is a text, say
			m.hide = managedText
		}
	}
	if m.isWords && !space && c != ':' {
		m.isWords = false
		if c == '"' {
			m.hide = managedText
		}
	}
	if m.hide != "" && c == 'n' { // null says nothing
		m.hide = ""
	}
	if m.hide != "" && !space && c != ':' { // the value begins
		dst = append(dst, m.hide...)
		m.hide, m.skipping, m.skipFrom = "", true, m.depth
		m.structure(c)
		return dst
	}
	if m.skipping {
		if m.depth == m.skipFrom && (c == ',' || c == '}' || c == ']' || space) { // a number or a literal has ended
			m.skipping = false
			m.structure(c)
			return append(dst, c)
		}
		m.structure(c)
		if m.depth == m.skipFrom && (c == '}' || c == ']') {
			m.skipping = false
		}
		return dst
	}
	m.structure(c)
	return append(dst, c)
}

// mark takes one byte of data that is no object: only the mark of a stream's end passes.
func (m *Mask) mark(dst []byte, c byte) []byte {
	if m.marked < len(doneMark) && doneMark[m.marked] == c {
		m.marked++
		return append(dst, c)
	}
	m.marked = len(doneMark)
	return dst
}

// structure takes one byte outside of strings.
func (m *Mask) structure(c byte) {
	m.isValue = c == ':' || m.isValue && (c == ' ' || c == '\t' || c == '\n' || c == '\r')
	switch c {
	case '"':
		m.inString, m.isName = true, m.wantName
		m.wantName = false
		m.name = m.name[:0]
	case '{', '[':
		if m.depth++; m.depth < 64 {
			m.objects &^= 1 << m.depth
			if c == '{' {
				m.objects |= 1 << m.depth
			}
		}
		m.wantName = c == '{'
		if m.depth <= maskDepth {
			m.path[m.depth] = ""
		}
	case '}', ']':
		m.depth = max(0, m.depth-1)
		m.wantName = false
	case ',':
		m.wantName = m.depth < 64 && m.objects>>m.depth&1 == 1
	}
}

// text takes one byte inside a string.
func (m *Mask) text(c byte) {
	isType := !m.isName && m.events && m.depth == 1 && m.path[1] == "type"
	if (m.isName || isType) && (m.escaped || c != '"') && len(m.name) <= maskNameBytes {
		m.name = append(m.name, c)
	}
	switch {
	case m.escaped:
		m.escaped = false
	case c == '\\':
		m.escaped = true
	case c == '"':
		m.inString = false
		m.failing = m.failing || isType && string(m.name) == "error"
		if m.isName && !m.skipping && m.depth <= maskDepth {
			m.named()
		}
	}
}

// named ends a member's name: is its value to be replaced?
func (m *Mask) named() {
	name := m.known(m.name)
	for _, c := range m.name {
		if c == '\\' { // nobody writes it so, and it would be no way around
			plain, _ := stringOf(append(append([]byte{'"'}, m.name...), '"'))
			name = m.known([]byte(plain))
			break
		}
	}
	m.path[m.depth] = name
	m.isError = name == "error" && (m.depth == 1 || m.depth == 2 && m.path[1] == "response")
	top := 1 // where the answer's own members stand
	if m.events {
		top = 2
	}
	if m.depth == top && (top == 1 || m.path[1] == "response") {
		m.hide = m.replacement(name)
	}
	if m.items && m.depth == 3 && m.path[1] == "data" {
		m.hide = itemReplacement(name)
	}
	if m.depth == 1 && (name == "message" || name == "param") { // of an event that is an error
		if m.isWords = m.errors; !m.errors {
			m.hide = managedText
		}
	}
	if m.failing && m.depth == 1 && name != "type" && name != "code" && name != "sequence_number" && name != "error" {
		m.hide = managedText
	}
	if at := m.errorDepth(); at > 0 {
		if m.depth == at+1 && name != "type" && name != "code" {
			m.hide = managedText
		}
	}
}

// unknownName stands for any name on which nothing depends.
const unknownName = "?"

// known is a member's name if anything depends on it, unknownName for any other: without memory for each.
func (m *Mask) known(name []byte) string {
	for _, n := range m.names {
		if n == string(name) {
			return n
		}
	}
	switch string(name) {
	case "type":
		return "type"
	case "response":
		return "response"
	case "error":
		return "error"
	case "data":
		return "data"
	case "message":
		return "message"
	case "param":
		return "param"
	case "code":
		return "code"
	case "sequence_number":
		return "sequence_number"
	case "id":
		return "id"
	case "role":
		return "role"
	case "status":
		return "status"
	case "object":
		return "object"
	case "content":
		return "content"
	case "summary":
		return "summary"
	}
	return unknownName
}

// errorDepth is how deep the error stands that a name belongs to, 0 when it belongs to none.
func (m *Mask) errorDepth() int {
	switch {
	case m.depth >= 2 && m.path[1] == "error":
		return 1
	case m.depth >= 3 && m.path[1] == "response" && m.path[2] == "error":
		return 2
	}
	return 0
}

// itemReplacement is what stands for a member of an item, "" for one that says nothing of a prompt.
func itemReplacement(name string) string {
	switch name {
	case "id", "type", "role", "status", "object":
		return ""
	case "content", "summary":
		return `[{"type":"input_text","text":` + managedText + `}]`
	}
	return managedText
}

const managedText = `"` + Managed + `"`

// replacement is what stands for a member, of the same type as far as clients rely on it.
func (m *Mask) replacement(name string) string {
	for _, n := range m.names {
		if n != name {
			continue
		}
		switch name {
		case "input", "instructions":
			return managedText
		case "tools":
			return "[]"
		case "tool_choice":
			return `"auto"`
		}
		return "null"
	}
	return ""
}
