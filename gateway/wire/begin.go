package wire

import "bytes"

// Beginning is what the first bytes of a stream say about it.
type Beginning uint8

// The beginnings.
const (
	Undecided Beginning = iota // no event yet that says anything
	Answers                    // an answer has begun
	Fails                      // an error, or an end without an answer
)

// Begins judges the beginning of a stream by its first event that says something: comments and empty events say nothing. It forgets what it
// read, so that Feed can read it again.
func (s *StreamScanner) Begins(p []byte) Beginning {
	defer func() { s.res = StreamResult{} }()
	p = bytes.TrimPrefix(p, []byte("\xef\xbb\xbf"))
	for len(p) > 0 {
		end := eventEnd(p)
		if end < 0 {
			return Undecided
		}
		ev := eventOf(p[:end])
		p = p[end:]
		ev.Data = bytes.TrimSpace(ev.Data)
		if len(ev.Data) == 0 {
			continue
		}
		s.api.ReadEvent(&s.res, ev)
		switch {
		case s.res.Failed(), s.res.Done && !s.res.Started, !s.res.Done && ev.Data[0] != '{':
			return Fails
		case s.res.Events > 0:
			return Answers
		}
	}
	return Undecided
}

// BeginsError reports whether the beginning of an answer's JSON holds an error, or the beginning of one.
func BeginsError(api API, body []byte) bool {
	var s ResponseScanner
	s.Reset(api)
	s.feed(body)
	return s.capture == FieldError || s.result.Error != nil
}

// finishError is the finish reason of a choice that broke off, as some providers spell it.
const finishError = "error"

// eventEnd is the offset after the first event's blank line, -1 when p does not hold it.
func eventEnd(p []byte) int {
	lineStart := true
	for i := 0; i < len(p); i++ {
		switch {
		case p[i] == '\r' && i+1 < len(p) && p[i+1] == '\n':
			i++
			fallthrough
		case p[i] == '\n' || p[i] == '\r':
			if lineStart {
				return i + 1
			}
			lineStart = true
		default:
			lineStart = false
		}
	}
	return -1
}
