package upstream

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/promptgate/promptgate/gateway/provider"
)

// direct sends the usual request, one without headers of the caller's and with a body that fits into one write, over a line: HTTP/1.1 on the
// caller's own goroutine. With http.Transport, which takes all other requests, the gateway needs a third more processor time for a call that is no stream, and 5 %
// more for one of a hundred events: BenchmarkDo compares the two, FuzzExchange holds them to the same answers. Bodies are limited because
// an upstream may answer early and read no further: only the Transport reads while it still writes.
type direct struct {
	lines lines
	path  string    // of the base URL, and
	query string    // its query with the question mark
	fixed [2]string // the head from the request line's end to the call's id: for JSON, for streams
	out   sync.Pool // of *[]byte: requests while they are written
}

// newDirect returns nil where the Transport has to do all of it: HTTP/2, a host whose name is not plain ASCII, or a system that
// does not tell whether an idle connection is quiet.
func newDirect(p *Client) *direct {
	host := p.base.Hostname()
	if !peeks || p.o.HTTP2 || !graphic(p.base.Host) {
		return nil
	}
	secure := p.base.Scheme == "https"
	port := p.base.Port()
	if port == "" {
		port = "80"
		if secure {
			port = "443"
		}
	}
	d := &direct{path: p.base.EscapedPath()}
	if p.base.RawQuery != "" {
		d.query = "?" + p.base.RawQuery
	}
	d.lines = lines{o: &p.o, addr: net.JoinHostPort(host, port), secure: secure}
	if secure {
		d.lines.tls = p.o.TLS.Clone()
		if d.lines.tls.ServerName == "" {
			d.lines.tls.ServerName = host
		}
		d.lines.tls.NextProtos = []string{"http/1.1"}
	}
	for i, stream := range []bool{false, true} {
		var head strings.Builder
		head.WriteString(" HTTP/1.1\r\nHost: " + p.base.Host + "\r\n")
		_ = p.headers(&provider.Request{Stream: stream}).Write(&head) // a builder does not fail
		d.fixed[i] = head.String()
	}
	d.out.New = func() any { b := make([]byte, 0, writeBuffer); return &b }
	return d
}

// takes reports whether a request is a usual one.
func (d *direct) takes(r *provider.Request) bool {
	return d != nil && r.Method == "" && r.Query == "" && r.Accept == "" && len(r.Header) == 0 && len(r.Body) > 0 && len(r.Body) <= oneWrite && len(r.Endpoint)+len(r.CallID) < 512 &&
		len(d.fixed[1])+len(d.path)+len(d.query) < 1<<10 && graphic(r.CallID)
}

// graphic reports whether s is ASCII that shows: without spaces and control characters. It runs with every call, byte by byte for that.
func graphic(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// send sends a request by one write, and nothing when the line is kept and not as it was left.
func (d *direct) send(l *line, kept bool, r *provider.Request) (int, error) {
	buf, _ := d.out.Get().(*[]byte)
	b := append(append(append((*buf)[:0], "POST "...), d.path...), '/')
	b = append(append(b, r.Endpoint...), d.query...)
	if r.Stream {
		b = append(b, d.fixed[1]...)
	} else {
		b = append(b, d.fixed[0]...)
	}
	if r.CallID != "" {
		b = append(append(append(b, "X-Client-Request-Id: "...), r.CallID...), "\r\n"...)
	}
	b = strconv.AppendInt(append(b, "Content-Length: "...), int64(len(r.Body)), 10)
	b = append(append(b, "\r\n\r\n"...), r.Body...)
	*buf = b
	return l.send(buf, &d.out, kept)
}

// roundTrip asks and returns the answer's head. The line is the exchange's from then on.
func (d *direct) roundTrip(e *exchange, r *provider.Request) (*http.Response, error) {
	for {
		l, kept := d.lines.kept(e.began), true
		if l == nil {
			var err error
			if l, err = d.dial(e); err != nil {
				return nil, err
			}
			kept = false
		}
		if !e.hold(l) {
			return nil, net.ErrClosed // ended meanwhile; the exchange knows why
		}
		l.left, l.heard = e.p.o.MaxHead, false
		if n, err := d.send(l, kept, r); err != nil {
			e.drop()
			if n == 0 && kept && e.stopped() == nil {
				continue // nothing was sent
			}
			e.asked.Store(n > 0)
			return nil, err
		}
		e.asked.Store(true)
		resp, err := readHead(l)
		e.answering.Store(l.heard)
		if err != nil {
			e.drop()
			return nil, err
		}
		l.left = -1
		return resp, nil
	}
}

// dial makes a line, for as long as the exchange is not ended.
func (d *direct) dial(e *exchange) (*line, error) {
	ctx, cancel := context.WithCancelCause(e.outer)
	defer cancel(nil)
	if !e.abortBy(cancel) {
		return nil, net.ErrClosed
	}
	defer e.abortBy(nil)
	l, err := d.lines.dial(ctx)
	if end, ok := e.outer.Deadline(); err != nil && ok && !time.Now().Before(end) {
		<-e.outer.Done() // the dialler goes by the deadline itself, and may be a moment ahead of the context that is asked for the reason
	}
	return l, err
}
