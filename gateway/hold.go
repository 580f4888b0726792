package gateway

import (
	"context"
	"errors"
	"io"

	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
)

// hold reads a whole answer before its first byte is sent, so that one that was cut becomes an honest 502 and is recorded before it
// ends. Of one larger than BufferAnswer it reads the beginning, and relayLarge passes on the rest as it comes, but for its last byte.
func (g *Gateway) hold(ctx context.Context, c *call, res *provider.Response) error {
	buf, more, err := g.buffers.readAll(res.Body, res.ContentLength, int64(g.opts.BufferAnswer), nil)
	c.ans.buf, c.ans.more = buf, more
	switch {
	case err != nil:
		return bodyFault(ctx, c, err)
	case more:
		return nil
	case res.ContentLength >= 0 && res.ContentLength != int64(len(buf.B)):
		return bodyFault(ctx, c, io.ErrUnexpectedEOF)
	case res.ContentLength < 0 && res.Status < 300 && !c.ans.media && !gjson.ValidBytes(buf.B):
		// Where nothing told the length, a cut looks like an end: only the JSON itself shows it.
		return bodyFault(ctx, c, io.ErrUnexpectedEOF)
	}
	c.ans.complete = true
	return nil
}

// bodyFault is the fault of an answer that broke off.
func bodyFault(ctx context.Context, c *call, err error) error {
	if f := ended(ctx, err); f != nil {
		return f
	}
	var pe *provider.Error
	if errors.As(err, &pe) {
		return provider.Fault(err)
	}
	return fault.Wrap(err, fault.ProviderTruncated, "The provider %q broke off its answer: try again.", c.rec.Provider)
}

// relayLarge relays an answer that is too large to hold, keeping back its last byte: finish sends that once the call is recorded. When the
// provider breaks off, serve cuts the connection, so that nobody takes the part for the whole.
func (g *Gateway) relayLarge(ctx context.Context, c *call, res *provider.Response) error {
	length := res.ContentLength
	if c.ans.mask != nil {
		length = -1 // nobody knows yet
	}
	g.begin(c, length)
	c.ans.large = true
	buf := g.buffers.get(relayBytes)
	defer g.buffers.put(buf)
	relay := buf.B[:relayBytes]

	// The usage stands behind what was held. An answer that was cut has been paid for as well.
	var scan wire.ResponseScanner
	scan.Reset(c.api)
	passed, last := 0, []byte(nil)
	defer func() {
		c.ans.said = scan.Result()
		c.ans.said.Answers, c.ans.said.Bytes = 1, passed
	}()
	pass := func(p []byte) error {
		if !c.ans.media { // there is nothing to read in it
			_, _ = scan.Write(p)
		}
		passed += len(p)
		if c.ans.mask != nil {
			c.ans.masked = c.ans.mask.Append(c.ans.masked[:0], p)
			p = c.ans.masked
		}
		if len(p) == 0 {
			return nil
		}
		if err := g.write(c, last); err != nil {
			return err
		}
		last = append(last[:0], p[len(p)-1])
		return g.write(c, p[:len(p)-1])
	}
	if err := pass(c.ans.buf.B); err != nil {
		return err
	}
	for {
		asked := g.deps.Clock()
		n, err := res.Body.Read(relay)
		c.ans.waited += g.deps.Clock().Sub(asked)
		if n > 0 {
			if err := pass(relay[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			c.ans.last, c.ans.complete = last, true
			return nil
		}
		if err != nil {
			return bodyFault(ctx, c, err)
		}
	}
}
