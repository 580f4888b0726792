package gateway

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/promptgate/promptgate/internal/fault"
)

const (
	// paceAfter is how many bytes a body may promise before its pace is looked at: smaller ones came with the head, nearly always.
	paceAfter = 3 << 10
	// unpackBytes is what unpacking a body may take beside the body: a zstd window of the size that its standard asks decoders to bear.
	unpackBytes = 8 << 20
)

// errNoRoom ends the reading of a body that there is no room for.
var errNoRoom = errors.New("gateway: no room for the body")

// readBody buffers the body: its length is known before anything is decided, it can be sent to several providers, and Go's Transport
// would lose a provider's early answer while it still reads from a client. What has come counts, in the caller's share of MaxBuffered, while
// it is held; what is merely promised does not.
func (g *Gateway) readBody(c *call) error {
	c.in.pace = pace{ReadCloser: c.req.Body, call: c}
	length, from := c.req.Length, io.Reader(&c.in.pace)
	coding := c.req.Header.Get("Content-Encoding")
	if coding != "" && !strings.EqualFold(coding, "identity") {
		length = -1
		unpacked, err := c.unpack(coding, http.MaxBytesReader(nil, &c.in.pace, g.opts.MaxBodyBytes))
		if err != nil {
			return g.bodyRefusal(c, err)
		}
		defer func() {
			_ = unpacked.Close() // nothing is left to be said about what was read
			c.give(unpackBytes)
		}()
		from = unpacked
	}
	buf, more, err := g.buffers.readAll(from, length, g.opts.MaxBodyBytes, c)
	c.in.buf = buf
	switch {
	case more:
		return g.tooLarge()
	case err != nil:
		return g.bodyRefusal(c, err)
	}
	return nil
}

// bodyRefusal is what a failure to read a body comes to.
func (g *Gateway) bodyRefusal(c *call, err error) error {
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return g.tooLarge()
	}
	switch {
	case errors.Is(err, errNoRoom):
		return g.shed()
	case errors.Is(err, os.ErrDeadlineExceeded):
		g.deps.Events.count(eventSlowClient)
		return fault.Wrap(err, fault.InvalidRequest, "The request's body did not arrive in time. Try again.")
	case fault.CodeOf(err) != fault.Internal:
		return err
	case c.in.pace.err == nil || errors.Is(c.in.pace.err, io.EOF): // it came whole; it is what it holds that cannot be read
		return fault.Wrap(err, fault.InvalidRequest, "The body is not what Content-Encoding says: %s.", c.req.Header.Get("Content-Encoding")).WithParam("Content-Encoding")
	}
	return fault.Wrap(err, fault.ClientClosed, "The request was cut.")
}

// unpack reads a packed body. Its caller gives unpackBytes back.
func (c *call) unpack(coding string, from io.Reader) (io.ReadCloser, error) {
	packed := strings.ToLower(coding)
	if packed != "gzip" && packed != "zstd" {
		return nil, fault.New(fault.InvalidRequest, "Send the body as it is, or with Content-Encoding gzip or zstd.").WithParam("Content-Encoding")
	}
	if err := c.charge(unpackBytes); err != nil {
		return nil, err
	}
	if packed == "gzip" {
		r, err := gzip.NewReader(from)
		if err != nil {
			c.give(unpackBytes)
			return nil, err
		}
		return r, nil
	}
	r, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(unpackBytes))
	if err != nil {
		c.give(unpackBytes)
		return nil, err
	}
	return r.IOReadCloser(), nil
}

// charge takes room for n more bytes in the caller's share.
func (c *call) charge(n int64) error {
	if !c.g.memory.More(&c.in.held, c.who.ID, n) {
		return errNoRoom
	}
	return nil
}

// give returns n bytes of what the call holds.
func (c *call) give(n int64) { c.g.memory.Less(&c.in.held, n) }

// pace cuts a body that comes more slowly than MinBodyRate, after a grace for its beginning: who sends a byte now and then would otherwise hold
// what it has sent for as long as the server bears a request.
type pace struct {
	io.ReadCloser
	call *call
	got  int64
	err  error
}

// Read implements io.Reader.
func (p *pace) Read(b []byte) (int, error) {
	c := p.call
	if p.got > 0 || c.req.Length < 0 || c.req.Length > paceAfter {
		opts := &c.g.opts
		until := c.rec.Start.Add(opts.BodyGrace + time.Duration(float64(p.got)/float64(opts.MinBodyRate)*float64(time.Second)))
		if last, bounded := wholeBy(c.ctx, c.rec.Start); bounded && last.Before(until) {
			until = last
		}
		_ = c.ctl.SetReadDeadline(until) // not supported by every writer of tests; net/http lifts it when the body has ended
	}
	n, err := p.ReadCloser.Read(b)
	p.got += int64(n)
	p.err = err
	return n, err
}

// wholeBy is when the server's own patience with a request ends.
func wholeBy(ctx context.Context, start time.Time) (time.Time, bool) {
	s, ok := ctx.Value(http.ServerContextKey).(*http.Server)
	if !ok || s.ReadTimeout <= 0 {
		return time.Time{}, false
	}
	return start.Add(s.ReadTimeout), true
}
