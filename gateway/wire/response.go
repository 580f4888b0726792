package wire

import (
	"bytes"

	"github.com/promptgate/promptgate/metrics"
)

// Completion is what an answer's JSON body said.
type Completion struct {
	ID     string
	Model  string
	Finish string // finish_reason of the first choice that has one
	Usage  metrics.Tokens
	Cost   int64    // micro-dollars that the provider says it cost; 0: it does not say
	Tier   string   // service_tier: which of its prices the provider applied; "" when it does not say
	Items  []string // ids of the parts that a later request can refer to
	Mixed  bool     // its usage holds tokens of pictures, which price lists do not tell from those of text
	Error  []byte   // the value of a top-level "error", at most maxCapture of it; nil when none

	Running bool // the provider works on it, and has more to say later
	Answers int  // choices that are an answer: some, or none
	Bytes   int  // of them, about
}

// ParseAnswer reads an answer's body, or the beginning of one: what stands before a cut is found. whole is false when the body is no JSON object
// that is closed.
func ParseAnswer(body []byte) (c Completion, whole bool) {
	w, ok := walkInto(body, '{')
	if !ok {
		return c, false
	}
	for {
		key, value, more := w.member()
		if !more {
			break
		}
		name := string(key[1 : len(key)-1]) // does not escape
		switch what := topField(name); {
		case name == "choices":
			c.readAnswers(value)
		case what == FieldError:
			c.take(what, value[:min(len(value), maxCapture)])
		case what == FieldModel: // the plan's is recorded
		case what != FieldNone && len(value) <= maxCapture: // more is not what it should be
			c.take(what, value)
		}
	}
	return c, w.closed('}')
}

const finishErrorJSON = `"` + finishError + `"`

// readAnswers counts the choices that are an answer: one whose end is an error is none.
func (c *Completion) readAnswers(v []byte) {
	w, ok := walkInto(v, '[')
	if !ok {
		return
	}
	if !bytes.Contains(v, []byte(finishErrorJSON)) && bytes.IndexByte(v, '{') >= 0 { // the usual answer is not walked again
		c.Answers, c.Bytes = 1, len(v)
		return
	}
	for {
		choice, ok := w.element()
		if !ok {
			return
		}
		inner, ok := walkInto(choice, '{')
		failed := !ok
		for ok {
			var key, value []byte
			if key, value, ok = inner.member(); ok && string(key) == `"finish_reason"` {
				failed = string(value) == finishErrorJSON
			}
		}
		if !failed {
			c.Answers++
			c.Bytes += len(choice)
		}
	}
}

// take notes the value of one field.
func (c *Completion) take(what Field, v []byte) {
	switch what {
	case FieldID:
		setString(&c.ID, v)
	case FieldModel:
		setString(&c.Model, v)
	case FieldFinish:
		if c.Finish == "" {
			setString(&c.Finish, v)
		}
	case FieldUsage:
		if u := readUsage(v); u.t.Reported {
			c.Usage, c.Cost, c.Mixed = u.t, u.cost, u.pictures
		}
	case FieldPartialUsage:
		c.take(FieldUsage, v)
		c.Tier = messageTier(v)
	case FieldTier:
		setString(&c.Tier, v)
	case FieldError:
		if v = bytes.TrimSpace(v); !isNull(v) {
			c.Error = bytes.Clone(v)
		}
	}
}

// maxCapture bounds what is kept of one value, in bytes: a usage object has a few hundred.
const maxCapture = 2 << 10

// ResponseScanner reads an answer's JSON on its way to the caller, in pieces of any size; it keeps at most maxCapture bytes however
// large the answer is. Call Reset before use. Not safe for concurrent use.
type ResponseScanner struct {
	depth    int
	inString bool
	escaped  bool
	inKey    bool // the string is a member's name
	wantKey  bool // the next string at this depth is a name
	objects  uint64
	api      API
	content  bool // there was a member that holds what the model says

	key     [24]byte
	keyLen  int
	parent  [24]byte // the top-level member that the names stand in
	inside  int      // its length
	next    Field    // what the value that comes is
	capture Field    // what is being kept
	at      int      // depth at which the capture began
	buf     []byte
	partial []byte // the value of a FieldPartialUsage
	result  Completion
}

// Write never fails: an answer that is no JSON yields nothing.
func (s *ResponseScanner) Write(p []byte) (int, error) {
	s.feed(p)
	return len(p), nil
}

// Result is what was read so far.
func (s *ResponseScanner) Result() Completion { return s.result }

// Reset readies the scanner for another answer, keeping its buffer.
func (s *ResponseScanner) Reset(api API) { *s = ResponseScanner{api: api, buf: s.buf[:0]} }

func (s *ResponseScanner) feed(p []byte) {
	for i := 0; i < len(p); {
		if s.inString {
			i = s.stringBytes(p, i)
			continue
		}
		s.structural(p[i])
		i++
	}
}

// stringBytes goes on inside a string, from i; it returns where it stopped.
func (s *ResponseScanner) stringBytes(p []byte, i int) int {
	if s.escaped {
		s.escaped = false
		s.text(p[i : i+1])
		return i + 1
	}
	n := bytes.IndexByte(p[i:], '"')
	end := i + n
	if n < 0 {
		end = len(p)
	}
	if slash := bytes.IndexByte(p[i:end], '\\'); slash >= 0 {
		s.escaped = true
		s.text(p[i : i+slash+1])
		return i + slash + 1
	}
	s.text(p[i:end])
	if n < 0 {
		return end
	}
	s.inString = false
	if s.capture != FieldNone {
		s.keepByte('"')
	}
	if s.inKey {
		s.named()
	} else if s.capture != FieldNone && s.depth == s.at {
		s.captured()
	}
	return end + 1
}

// text takes bytes of a string.
func (s *ResponseScanner) text(p []byte) {
	if s.inKey && s.keyLen >= 0 {
		if s.keyLen+len(p) > len(s.key) {
			s.keyLen = -1
		} else {
			s.keyLen += copy(s.key[s.keyLen:], p)
		}
	}
	if s.capture != FieldNone {
		s.keep(p)
	}
}

// named ends a member's name: is its value looked for?
func (s *ResponseScanner) named() {
	s.inKey, s.wantKey = false, false
	if s.capture != FieldNone {
		return
	}
	s.next = FieldNone
	name := s.key[:max(s.keyLen, 0)]
	if s.depth == 1 {
		s.inside = copy(s.parent[:], name)
	}
	if s.keyLen >= 0 {
		s.next = s.api.Field(s.depth, s.parent[:s.inside], name)
	}
	if s.next == FieldContent {
		s.content, s.next = true, FieldNone
	}
}

func topField(name string) Field {
	switch name {
	case "id":
		return FieldID
	case "model":
		return FieldModel
	case "usage":
		return FieldUsage
	case "error":
		return FieldError
	case "service_tier":
		return FieldTier
	}
	return FieldNone
}

// structural takes a byte outside of strings.
func (s *ResponseScanner) structural(c byte) {
	switch c {
	case ' ', '\n', '\r', '\t', ':':
		if s.capture != FieldNone {
			s.keepByte(c)
		}
		return
	case ',', '}', ']':
		if s.capture != FieldNone && s.depth == s.at {
			s.captured() // a number or a literal ends where the next thing begins
		}
		s.next = FieldNone
	default:
		if s.next != FieldNone {
			s.capture, s.at, s.next, s.buf = s.next, s.depth, FieldNone, s.buf[:0]
		}
	}
	if s.capture != FieldNone {
		s.keepByte(c)
	}
	switch c {
	case '"':
		s.inString = true
		if s.inKey = s.wantKey; s.inKey {
			s.keyLen = 0
		}
	case '{', '[':
		s.open(c == '{')
	case '}', ']':
		s.close()
	case ',':
		s.wantKey = s.inObject()
	}
}

func (s *ResponseScanner) open(object bool) {
	s.depth++
	if s.depth < 64 {
		bit := uint64(1) << s.depth
		s.objects &^= bit
		if object {
			s.objects |= bit
		}
	}
	s.wantKey = object && s.depth < 64
}

func (s *ResponseScanner) close() {
	if s.depth > 0 {
		s.depth--
	}
	s.wantKey = false
	if s.capture != FieldNone && s.depth == s.at {
		s.captured()
	}
}

// inObject is exact down to 63 levels; nothing that is looked for stands deeper.
func (s *ResponseScanner) inObject() bool { return s.depth < 64 && s.objects>>s.depth&1 == 1 }

// keep adds to the captured value, up to its bound.
func (s *ResponseScanner) keep(p []byte) {
	if room := maxCapture - len(s.buf); len(p) > room {
		p = p[:max(room, 0)]
		if s.capture != FieldError {
			s.buf = s.buf[:0]
			s.capture = FieldNone // too long to be what it should be
			return
		}
	}
	if cap(s.buf) == 0 {
		s.buf = make([]byte, 0, 512)
	}
	s.buf = append(s.buf, p...)
}

func (s *ResponseScanner) keepByte(c byte) {
	if len(s.buf) < cap(s.buf) && len(s.buf) < maxCapture {
		s.buf = append(s.buf, c)
		return
	}
	s.keep([]byte{c})
}

// captured ends a captured value.
func (s *ResponseScanner) captured() {
	what := s.capture
	s.capture = FieldNone
	if what == FieldPartialUsage {
		s.partial = bytes.Clone(s.buf)
	}
	s.result.take(what, s.buf)
}

// maxIdentifier bounds a provider's id, model or finish reason, in bytes.
const maxIdentifier = 256

func setString(into *string, v []byte) {
	if len(v) > maxIdentifier {
		return
	}
	if s, ok := stringOf(bytes.TrimSpace(v)); ok {
		*into = s
	}
}

// whole reports whether what was read is closed: no object, array or string is open.
func (s *ResponseScanner) whole() bool { return s.depth == 0 && !s.inString }
