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

// Begins judges the beginning of a stream by its first event: comments and empty events say nothing.
func Begins(p []byte) Beginning {
	p = bytes.TrimPrefix(p, []byte("\xef\xbb\xbf"))
	for len(p) > 0 {
		end := eventEnd(p)
		if end < 0 {
			return Undecided
		}
		data, isError := payload(p[:end])
		p = p[end:]
		data = bytes.TrimSpace(data)
		switch {
		case isError:
			return Fails
		case len(data) == 0:
			continue
		case string(data) == doneMark:
			return Fails
		}
		return beginsWith(data)
	}
	return Undecided
}

// beginsWith judges one chunk.
func beginsWith(data []byte) Beginning {
	var s StreamScanner
	s.Reset(false)
	s.readChunk(data)
	if s.res.Error != nil || s.res.Finish == finishError || data[0] != '{' {
		return Fails
	}
	return Answers
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
