package openai

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/egress"
)

// exchange is one request and its answer; it is the answer's body as well. One timer watches all of it: until the head has come
// for HeadTimeout, then every single Read for IdleTimeout. A body that nobody reads is no silence of the upstream's.
type exchange struct {
	p      *Provider
	outer  context.Context //nolint:containedctx // the caller's; asked why something was cancelled
	ctx    context.Context //nolint:containedctx // of the request
	cancel context.CancelCauseFunc
	sent   sent
	watch  *time.Timer

	began     time.Time
	answering atomic.Bool  // the first byte of the answer has come
	headed    atomic.Bool  // the head has come
	reading   atomic.Int64 // when the Read that runs began, as nanoseconds since began plus one; 0: none runs
	ended     atomic.Bool

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

func newExchange(ctx context.Context, p *Provider, r *provider.Request) *exchange {
	e := &exchange{p: p, outer: ctx, began: time.Now()}
	e.sent.data = r.Body
	inner, cancel := context.WithCancelCause(ctx)
	e.cancel = cancel
	e.ctx = httptrace.WithClientTrace(inner, &httptrace.ClientTrace{GotFirstResponseByte: e.gotFirstByte})
	e.watch = time.AfterFunc(p.o.HeadTimeout, e.tick)
	return e
}

func (e *exchange) gotFirstByte() { e.answering.Store(true) }

// tick is the watch's. It cancels what took too long, or looks again when it may.
func (e *exchange) tick() {
	if e.ended.Load() {
		return
	}
	if !e.headed.Load() {
		e.cancel(errHeadTimeout)
		return
	}
	again := e.p.o.IdleTimeout
	if at := e.reading.Load(); at != 0 {
		again -= time.Since(e.began) - time.Duration(at-1)
		if again <= 0 {
			e.cancel(errIdleTimeout)
			return
		}
	}
	e.watch.Reset(again)
}

// end releases everything but the answer's body. It may be called more than once.
func (e *exchange) end() {
	e.ended.Store(true)
	e.watch.Stop()
	e.cancel(context.Canceled)
	e.sent.detach()
}

// head begins the body.
func (e *exchange) head(resp *http.Response) {
	e.body, e.left = resp.Body, -1
	if !isEvents(resp.Header) {
		e.left = e.p.o.MaxBody
	}
	if resp.ContentLength < 0 && resp.ProtoMajor == 1 && len(resp.TransferEncoding) == 0 {
		e.framed = newEnding(resp.Header)
	}
	e.headed.Store(true)
	e.watch.Reset(e.p.o.IdleTimeout)
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
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
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
	if !isEvents(resp.Header) && resp.ContentLength > e.p.o.MaxBody {
		return e.p.fail(provider.KindRefused, errTooLarge)
	}
	return nil
}

func mediaType(h http.Header) string {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

func isEvents(h http.Header) bool {
	v := h.Get("Content-Type")
	const events = "text/event-stream"
	return len(v) >= len(events) && strings.EqualFold(v[:len(events)], events)
}

// headError says what a failed RoundTrip means.
func (e *exchange) headError(err error) error {
	if e.outer.Err() != nil {
		return e.p.fail(contextKind(e.outer), context.Cause(e.outer))
	}
	switch {
	case errors.Is(context.Cause(e.ctx), errHeadTimeout):
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
		e.watch.Stop()
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
	case errors.Is(context.Cause(e.ctx), errIdleTimeout), errors.Is(context.Cause(e.ctx), errHeadTimeout):
		return e.p.fail(provider.KindTimeout, context.Cause(e.ctx))
	case e.ended.Load():
		return e.p.fail(provider.KindCancelled, err) // read after or during Close
	case isCut(err):
		return e.p.fail(provider.KindTruncated, err)
	}
	return e.p.fail(provider.KindProtocol, err)
}

// Close implements io.Closer: it ends the exchange, read to its end or not.
func (e *exchange) Close() error {
	err := e.body.Close()
	e.end()
	return err
}
