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
	case res.ContentLength < 0 && res.Status < 300 && !gjson.ValidBytes(buf.B):
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
	g.begin(c, res.ContentLength)
	c.ans.large = true
	buf := g.buffers.get(relayBytes)
	defer g.buffers.put(buf)
	relay := buf.B[:relayBytes]

	head := c.ans.buf.B
	last := head[len(head)-1]
	// The usage stands behind what was held. An answer that was cut has been paid for as well.
	var scan wire.ResponseScanner
	scan.Reset(c.api)
	_, _ = scan.Write(head)
	passed := len(head)
	defer func() {
		c.ans.said = scan.Result()
		c.ans.said.Answers, c.ans.said.Bytes = 1, passed
	}()
	if err := g.write(c, head[:len(head)-1]); err != nil {
		return err
	}
	for {
		asked := g.deps.Clock()
		n, err := res.Body.Read(relay[1:])
		c.ans.waited += g.deps.Clock().Sub(asked)
		if n > 0 {
			_, _ = scan.Write(relay[1 : n+1])
			passed += n
			relay[0] = last
			last = relay[n]
			if err := g.write(c, relay[:n]); err != nil {
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
