package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/egress"
)

// exchange is one request and its answer; it is the answer's body as well. The provider's watch looks after it: until the head has come
// for HeadTimeout, then every single Read for IdleTimeout, and whether the caller is still there. A body that nobody reads is no silence
// of the upstream's.
type exchange struct {
	p     *Client
	outer context.Context //nolint:containedctx // the caller's; asked why something was cancelled
	sent  sent

	before, after *exchange // in the watch's list, under its lock
	watched       bool

	mu    sync.Mutex
	why   error                   // it was ended before its time because of this
	abort context.CancelCauseFunc // ends the Transport's request, or a dial; nil: neither runs
	line  *line                   // the connection of a direct request; nil: it has none, or has it no longer

	began     time.Time
	asked     atomic.Bool  // the request, or a part of it, went out
	answering atomic.Bool  // the first byte of the answer has come
	headed    atomic.Bool  // the head has come
	reading   atomic.Int64 // when the Read that runs began, as nanoseconds since began plus one; 0: none runs
	ended     atomic.Bool

	opaque   bool // the answer is bytes of any number, whatever they are called
	straight bool // over a line of ours, not by the Transport
	keep     bool // the line may be used again

	body   io.ReadCloser
	left   int64   // bytes that the body may still have; -1: no bound
	framed *ending // nil unless the body ends with the connection
	err    error   // of Read, once it has failed or ended
}

var (
	errHeadTimeout = errors.New("no answer in time")
	errIdleTimeout = errors.New("no further byte in time")
	errTooLarge    = errors.New("the answer is larger than is allowed")
)

func newExchange(ctx context.Context, p *Client, r *provider.Request) *exchange {
	e := &exchange{p: p, outer: ctx, began: time.Now(), opaque: r.Opaque}
	e.sent.data, e.sent.size = r.Body, len(r.Body)
	p.watch.add(e)
	return e
}

// context is the Transport's for this exchange.
func (e *exchange) context() context.Context {
	ctx, cancel := context.WithCancelCause(e.outer)
	if !e.abortBy(cancel) {
		cancel(e.stopped())
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotFirstResponseByte: e.gotFirstByte, WroteHeaders: func() { e.asked.Store(true) }})
}

// stop ends the exchange before its time. The first reason stays.
func (e *exchange) stop(why error) {
	e.mu.Lock()
	if e.why == nil {
		e.why = why
	}
	abort, l := e.abort, e.line
	e.mu.Unlock()
	if abort != nil {
		abort(why)
	}
	if l != nil {
		_ = l.socket.Close()
	}
}

// stopped is why the exchange was ended before its time, nil when it was not.
func (e *exchange) stopped() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.why
}

// abortBy sets what stop calls, and returns false when stop was called already.
func (e *exchange) abortBy(cancel context.CancelCauseFunc) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if cancel != nil && e.why != nil {
		return false
	}
	e.abort = cancel
	return true
}

// hold makes l the exchange's connection, which stop, the caller's leaving included, closes. It returns false, and closes it, when stop was
// called already.
func (e *exchange) hold(l *line) bool {
	e.mu.Lock()
	late := e.why != nil
	if !late {
		e.line = l
	}
	e.mu.Unlock()
	if late {
		_ = l.socket.Close()
	}
	return !late
}

// take takes the connection away again; ours is false when stop may have closed it.
func (e *exchange) take() (l *line, ours bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l, e.line = e.line, nil
	return l, e.why == nil
}

// drop closes the connection, if there is one.
func (e *exchange) drop() {
	if l, _ := e.take(); l != nil {
		_ = l.socket.Close()
	}
}

// release gives the connection back whose answer was read to its end.
func (e *exchange) release() {
	l, ours := e.take()
	switch {
	case l == nil:
	case ours && e.keep && l.spent():
		e.p.direct.lines.keep(l)
	default:
		_ = l.socket.Close()
	}
}

func (e *exchange) gotFirstByte() { e.answering.Store(true) }

// overdue is why the exchange has to be ended now: its caller has left, or it took too long; nil while it may go on.
func (e *exchange) overdue(now time.Time) error {
	if e.outer.Err() != nil {
		return context.Cause(e.outer)
	}
	age := now.Sub(e.began)
	if !e.headed.Load() {
		if age >= e.p.o.HeadTimeout {
			return errHeadTimeout
		}
		return nil
	}
	if at := e.reading.Load(); at != 0 && age-time.Duration(at-1) >= e.p.o.IdleTimeout {
		return errIdleTimeout
	}
	return nil
}

// end releases everything but the answer's body. It may be called more than once.
func (e *exchange) end() {
	e.ended.Store(true)
	e.p.watch.remove(e)
	e.mu.Lock()
	abort := e.abort
	e.abort = nil
	e.mu.Unlock()
	if abort != nil {
		abort(context.Canceled)
	}
	e.drop()
	e.sent.detach()
}

// refuse ends an exchange whose answer is not wanted.
func (e *exchange) refuse(resp *http.Response) {
	if !e.straight {
		_ = resp.Body.Close() // a direct one's would be read to its end first
	}
	e.end()
}

// head begins the body.
func (e *exchange) head(resp *http.Response) {
	e.body, e.left, e.keep = resp.Body, -1, !resp.Close
	whole := e.opaque && resp.StatusCode < 300
	if !isEvents(resp.Header) && !whole {
		e.left = e.p.o.MaxBody
	}
	if resp.ContentLength < 0 && resp.ProtoMajor == 1 && len(resp.TransferEncoding) == 0 {
		e.framed = newEnding(resp.Header, e.p.o.LastEvent)
		if whole {
			e.framed = &ending{}
		}
		e.framed.counts = resp.StatusCode < 300
	}
	e.headed.Store(true)
}

// check refuses answers that are none, whatever their body may say.
func (e *exchange) check(resp *http.Response, stream bool) error {
	switch {
	case resp.StatusCode < 200:
		return e.p.fail(provider.KindProtocol, fmt.Errorf("status %d is no answer", resp.StatusCode))
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		// The location is the upstream's word, so it stays out of the log.
		return e.p.fail(provider.KindProtocol, fmt.Errorf("redirect %d; redirects are never followed", resp.StatusCode))
	}
	if coding := value(resp.Header, "Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return e.p.fail(provider.KindProtocol, fmt.Errorf("the body is encoded as %.20q, which nobody asked for", coding))
	}
	if resp.StatusCode < 300 {
		switch kind := mediaType(resp.Header); {
		case kind == "text/html", kind == "application/xhtml+xml":
			return e.p.fail(provider.KindProtocol, fmt.Errorf("status %d with a web page", resp.StatusCode))
		case !stream && kind == "text/event-stream":
			return e.p.fail(provider.KindProtocol, errors.New("a stream that nobody asked for"))
		}
	}
	if !isEvents(resp.Header) && resp.ContentLength > e.p.o.MaxBody && (!e.opaque || resp.StatusCode >= 300) {
		return e.p.fail(provider.KindRefused, errTooLarge)
	}
	return nil
}

// value is Get for a key that is canonical already.
func value(h http.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func mediaType(h http.Header) string {
	kind, _, _ := strings.Cut(value(h, "Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

func isEvents(h http.Header) bool {
	v := value(h, "Content-Type")
	const events = "text/event-stream"
	return len(v) >= len(events) && strings.EqualFold(v[:len(events)], events)
}

// headError says what a failed RoundTrip means.
func (e *exchange) headError(err error) error {
	f := e.headFault(err)
	f.Asked = e.asked.Load()
	return f
}

func (e *exchange) headFault(err error) *provider.Error {
	if e.outer.Err() != nil {
		return e.p.fail(contextKind(e.outer), context.Cause(e.outer))
	}
	switch {
	case errors.Is(e.stopped(), errHeadTimeout):
		return e.p.fail(provider.KindTimeout, errHeadTimeout)
	case errors.Is(err, egress.ErrBlocked):
		return e.p.fail(provider.KindRefused, err)
	case !e.answering.Load():
		return e.p.fail(provider.KindConnect, err)
	case isCut(err):
		return e.p.fail(provider.KindTruncated, err)
	}
	return e.p.fail(provider.KindProtocol, err)
}

// Read implements io.Reader. Every error but io.EOF is a *provider.Error, and io.EOF means that the whole body was read.
func (e *exchange) Read(p []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	if e.straight && e.ended.Load() {
		return 0, e.p.fail(provider.KindCancelled, net.ErrClosed) // what has come already is in the line's buffer still
	}
	if e.left >= 0 && int64(len(p)) > e.left+1 {
		p = p[:e.left+1] // one more than is allowed, to see whether there is one
	}
	e.reading.Store(int64(time.Since(e.began)) + 1)
	n, err := e.body.Read(p)
	e.reading.Store(0)
	if e.left >= 0 {
		if int64(n) > e.left {
			n = int(e.left)
			err = e.p.fail(provider.KindRefused, errTooLarge)
		}
		e.left -= int64(n)
	}
	if e.framed != nil {
		e.framed.saw(p[:n])
	}
	if err != nil {
		e.err = e.bodyError(err)
		if e.err == io.EOF { //nolint:errorlint // bodyError's own word for the end
			e.release()
		}
	}
	return n, e.err
}

// bodyError says what a failed Read means.
func (e *exchange) bodyError(err error) error {
	if err != io.EOF { //nolint:errorlint // the reader's own word for the end; a wrapped one is a failure
		return e.cutError(err)
	}
	if e.framed != nil && !e.framed.complete() {
		return e.p.fail(provider.KindTruncated, errors.New("the connection ended before the answer did"))
	}
	return io.EOF
}

func (e *exchange) cutError(err error) error {
	var ours *provider.Error
	switch {
	case errors.As(err, &ours):
		return err
	case e.outer.Err() != nil:
		return e.p.fail(contextKind(e.outer), context.Cause(e.outer))
	case errors.Is(e.stopped(), errIdleTimeout), errors.Is(e.stopped(), errHeadTimeout):
		return e.p.fail(provider.KindTimeout, e.stopped())
	case e.ended.Load():
		return e.p.fail(provider.KindCancelled, err) // read after or during Close
	case isCut(err):
		return e.p.fail(provider.KindTruncated, err)
	}
	return e.p.fail(provider.KindProtocol, err)
}

// Close implements io.Closer: it ends the exchange, read to its end or not.
func (e *exchange) Close() error {
	var err error
	if !e.straight {
		err = e.body.Close()
	}
	e.end()
	return err
}
