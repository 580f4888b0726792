package upstream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// isCut reports whether err says that the connection ended under us, rather than that what came over it was nonsense.
func isCut(err error) bool {
	var netErr *net.OpError
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.As(err, &netErr)
}

// ending judges bodies that end when the connection does, without a length and without chunks. There an upstream that dies looks
// like one that is done, so the content itself must show that it is complete.
type ending struct {
	json   bool
	events bool
	last   string // data with which a stream may end; "" for none
	counts bool   // it is an answer, and a part of it must not pass for the whole

	depth   int  // of JSON's brackets
	inside  bool // a JSON string
	escaped bool
	seen    bool // anything but white space

	tail []byte // the last bytes of a stream of events
}

func newEnding(h http.Header, last string) *ending {
	kind := mediaType(h)
	return &ending{json: kind == "application/json" || strings.HasSuffix(kind, "+json"), events: kind == "text/event-stream", last: last}
}

func (e *ending) saw(p []byte) {
	switch {
	case e.events:
		const keep = 64
		e.tail = append(e.tail, p[max(0, len(p)-keep):]...)
		e.tail = e.tail[max(0, len(e.tail)-keep):]
	case e.json:
		for _, c := range p {
			e.step(c)
		}
	}
}

func (e *ending) step(c byte) {
	switch {
	case e.escaped:
		e.escaped = false
	case e.inside:
		e.escaped = c == '\\'
		e.inside = c != '"'
	case c == '"':
		e.inside, e.seen = true, true
	case c == '{', c == '[':
		e.depth++
		e.seen = true
	case c == '}', c == ']':
		e.depth--
	case c > ' ':
		e.seen = true
	}
}

// complete reports whether the body may end here. What is neither JSON nor events cannot be judged: sound, say, whose end nothing marks.
func (e *ending) complete() bool {
	switch {
	case e.json:
		return e.seen && e.depth == 0 && !e.inside
	case e.events:
		end := bytes.TrimRight(e.tail, "\r\n")
		return e.last != "" && bytes.HasSuffix(end, []byte(e.last)) || len(e.tail)-len(end) >= 2
	}
	return !e.counts
}
