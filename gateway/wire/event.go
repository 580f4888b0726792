package wire

import (
	"bytes"

	"github.com/promptgate/promptgate/metrics"
)

// payload is the data of one event, its lines joined, and whether the event is named "error". It points into ev when there is one line.
func payload(ev []byte) (data []byte, isError bool) {
	if bytes.HasPrefix(ev, []byte("data:")) {
		line := bytes.TrimRight(ev[5:], "\r\n")
		if bytes.IndexByte(line, '\n') < 0 && bytes.IndexByte(line, '\r') < 0 {
			return trimSpace(line), false
		}
	}
	ev = bytes.TrimPrefix(ev, []byte("\xef\xbb\xbf"))
	lines := 0
	for len(ev) > 0 {
		n := bytes.IndexAny(ev, "\r\n")
		line := ev
		if n >= 0 {
			line, ev = ev[:n], ev[n+1:]
		} else {
			ev = nil
		}
		name, value, _ := bytes.Cut(line, []byte{':'})
		switch string(name) {
		case "data":
			value = trimSpace(value)
			switch lines++; lines {
			case 1:
				data = value
			case 2:
				data = append(append(bytes.Clone(data), '\n'), value...)
			default:
				data = append(append(data, '\n'), value...)
			}
		case "event":
			isError = string(trimSpace(value)) == "error"
		}
	}
	return data, isError
}

// trimSpace takes off the one space that may follow a field's colon.
func trimSpace(v []byte) []byte {
	if len(v) > 0 && v[0] == ' ' {
		return v[1:]
	}
	return v
}

// doneMark ends a stream of OpenAI's form.
const doneMark = "[DONE]"

// cutShort reports whether data is the beginning of something that a client would fail to read.
func cutShort(data []byte) bool {
	i := skipSpace(data, 0)
	data = data[i:]
	switch {
	case len(data) == 0:
		return false
	case data[0] == '{':
		return skipNested(data, 0) < 0
	}
	return len(data) < len(doneMark) && doneMark[:len(data)] == string(data)
}

// inspect reads a complete event. It reports whether the event is to be withheld.
func (s *StreamScanner) inspect(ev []byte) bool {
	data, isError := payload(ev)
	switch {
	case len(data) == 0:
		return false
	case string(bytes.TrimRight(data, " \t")) == doneMark:
		s.res.Done = true
		return false
	}
	s.res.Events++
	if isError {
		s.setError(data)
	}
	if s.res.Started && s.res.ID != "" && !worthReading(data) {
		return false
	}
	if s.readChunk(data) && s.withhold && !isError {
		s.res.Events--
		s.res.Withheld = true
		return true
	}
	return false
}

// worthReading looks for what can matter in a chunk after the first content came, without parsing it: a usage, a finish reason or an error
// that is not null. Most chunks hold none of it. A quoted name can only be a string of its own, since quotes inside of strings are
// escaped.
func worthReading(data []byte) bool {
	for i := 0; i < len(data); i++ {
		if data[i] != '"' {
			continue
		}
		rest := data[i+1:]
		if len(rest) == 0 {
			return false
		}
		switch rest[0] {
		case 'u':
			if hasValue(rest, `usage"`) {
				return true
			}
		case 'f':
			if hasValue(rest, `finish_reason"`) {
				return true
			}
		case 'e':
			if hasValue(rest, `error"`) {
				return true
			}
		}
	}
	return false
}

// hasValue reports whether data is a name, up to its closing quote, before something that is not null.
func hasValue(data []byte, name string) bool {
	if len(data) < len(name) || string(data[:len(name)]) != name {
		return false
	}
	i := skipSpace(data, len(name))
	if i >= len(data) || data[i] != ':' {
		return false
	}
	i = skipSpace(data, i+1)
	return !bytes.HasPrefix(data[i:], []byte("null"))
}

// readChunk reads one chunk's JSON. It reports whether this is the usage chunk: usage, and choices that are empty.
func (s *StreamScanner) readChunk(data []byte) (usageChunk bool) {
	w, ok := walkInto(data, '{')
	if !ok {
		return false
	}
	var noChoices, hasUsage, hasError bool
	for {
		key, value, ok := w.member()
		if !ok {
			break
		}
		switch string(key) {
		case `"id"`:
			if s.res.ID == "" {
				setString(&s.res.ID, value)
			}
		case `"model"`:
			if s.res.Model == "" {
				setString(&s.res.Model, value)
			}
		case `"choices"`:
			noChoices = s.readChoices(value)
		case `"usage"`:
			var t metrics.Tokens
			var cost int64
			if t, cost, hasUsage = parseUsage(value); t.Reported {
				s.res.Usage, s.res.Cost = t, cost
			}
		case `"service_tier"`:
			setString(&s.res.Tier, value)
		case `"error"`:
			if !isNull(value) {
				hasError = true
				s.setError(value)
			}
		}
	}
	return noChoices && hasUsage && !hasError && w.closed('}')
}

// readChoices reads the choices of a chunk; empty is true when it is an array of none.
func (s *StreamScanner) readChoices(v []byte) (empty bool) {
	w, ok := walkInto(v, '[')
	if !ok {
		return false
	}
	empty = true
	for {
		choice, ok := w.element()
		if !ok {
			return empty && w.closed(']')
		}
		empty = false
		s.readChoice(choice)
	}
}

func (s *StreamScanner) readChoice(v []byte) {
	w, ok := walkInto(v, '{')
	if !ok {
		return
	}
	for {
		key, value, ok := w.member()
		if !ok {
			return
		}
		switch string(key) {
		case `"finish_reason"`:
			if s.res.Finish == "" {
				setString(&s.res.Finish, value)
			}
		case `"text"`: // legacy completions
			s.res.Started = s.res.Started || hasText(value)
		case `"delta"`:
			if !s.res.Started {
				s.readDelta(value)
			}
		}
	}
}

// readDelta looks for the first thing that the model said.
func (s *StreamScanner) readDelta(v []byte) {
	w, ok := walkInto(v, '{')
	if !ok {
		return
	}
	for {
		key, value, ok := w.member()
		if !ok {
			return
		}
		switch string(key) {
		case `"content"`, `"refusal"`, `"reasoning"`, `"reasoning_content"`, `"tool_calls"`, `"function_call"`, `"audio"`:
			s.res.Started = s.res.Started || hasText(value)
		}
	}
}

// hasText reports whether a value says anything: not null, and neither an empty string nor an empty list.
func hasText(v []byte) bool {
	switch string(v) {
	case "null", `""`, "[]", "{}":
		return false
	}
	return true
}

func (s *StreamScanner) setError(v []byte) {
	s.res.Error = bytes.Clone(v[:min(len(v), maxCapture)])
}

// endBig takes over what was read of an event that was relayed as it came.
func (s *StreamScanner) endBig() {
	if s.big.data {
		s.res.Events++
	}
	s.res.Started = s.res.Started || s.big.json.chunk // nobody says nothing at such length
	c := s.big.json.Result()
	if s.res.ID == "" {
		s.res.ID = c.ID
	}
	if s.res.Model == "" {
		s.res.Model = c.Model
	}
	if s.res.Finish == "" {
		s.res.Finish = c.Finish
	}
	if c.Usage.Reported {
		s.res.Usage, s.res.Cost = c.Usage, c.Cost
	}
	if c.Tier != "" {
		s.res.Tier = c.Tier
	}
	if c.Error != nil {
		s.setError(c.Error)
	}
}

// bigEvent reads the data lines of an event in pieces, for one that is too long to keep.
type bigEvent struct {
	json    ResponseScanner
	name    [5]byte // of the line's field; "data" and one more byte to tell a longer name
	nameLen int
	value   bool // past the colon
	first   bool // right after it
	data    bool // there was some
}

func (e *bigEvent) reset() {
	e.json.Reset()
	*e = bigEvent{json: e.json}
}

func (e *bigEvent) feed(p []byte) {
	for len(p) > 0 {
		if !e.value {
			e.nameByte(p[0])
			p = p[1:]
			continue
		}
		if e.first {
			e.first = false
			if p[0] == ' ' {
				p = p[1:]
				continue
			}
		}
		n := bytes.IndexByte(p, '\n')
		if n < 0 {
			n = len(p)
		}
		if cr := bytes.IndexByte(p[:n], '\r'); cr >= 0 {
			n = cr
		}
		if e.nameLen == 4 && string(e.name[:4]) == "data" {
			e.json.feed(p[:n])
			e.data = e.data || n > 0
		}
		if n == len(p) {
			return
		}
		e.value, e.nameLen = false, 0
		p = p[n+1:]
	}
}

func (e *bigEvent) nameByte(c byte) {
	switch {
	case c == ':':
		e.value, e.first = true, true
	case c == '\n' || c == '\r':
		e.nameLen = 0
	case e.nameLen < len(e.name):
		e.name[e.nameLen] = c
		e.nameLen++
	}
}
