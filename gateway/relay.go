package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/internal/fault"
)

// relay passes a stream on as it comes: read, scan, write, flush. Once a byte has gone out there is no other answer, and no further
// attempt: what goes wrong then ends the stream with an error event and no [DONE].
func (g *Gateway) relay(ctx context.Context, c *call, res *provider.Response) error {
	scan := c.ans.scan // accept made it
	scan.Reset(c.api, c.out.withheld)
	if scan.HideErrors = false; c.ans.mask == nil && c.ref.resolved != nil {
		ok, err := g.reads(ctx, c)
		scan.HideErrors = !ok || err != nil
	}
	if res.Sent {
		g.releaseRequest(c)
	}
	c.ans.streamed, c.ans.between = true, true
	ping := g.startPings(c)
	defer ping.stop()

	err := g.relayChunks(ctx, c, res, ping)
	ping.stop()
	if fault.Is(err, fault.ClientClosed) {
		return err // nobody is left to tell
	}
	c.ans.slices = scan.Finish(c.ans.slices[:0])
	switch lost := g.writeEvents(c); {
	case lost != nil:
		return lost
	case err == nil:
		err = c.judgeStream()
	}
	return g.endStream(c, err)
}

// relayChunks relays until the provider's stream ends. It waits for the next event with a small buffer, as thousands of streams do at a time,
// and takes a large one as long as that is filled.
func (g *Gateway) relayChunks(ctx context.Context, c *call, res *provider.Response, ping *pinger) error {
	size := waitBytes
	buf := c.ans.buf // what accept read of it
	c.ans.buf = nil
	defer func() { g.buffers.put(buf) }()
	now := g.deps.Clock()
	if err := g.relayChunk(c, buf.B, ping); err != nil {
		return err
	}
	if c.ans.scan.Result().Started {
		c.rec.FirstToken = now.Sub(c.rec.Start)
	}
	for {
		chunk := buf.B[:size]
		n, readErr := res.Body.Read(chunk)
		came := g.deps.Clock()
		c.ans.waited += came.Sub(now)
		now = came
		if n > 0 {
			if err := g.relayChunk(c, chunk[:n], ping); err != nil {
				return err
			}
			now = g.deps.Clock()
			if c.rec.FirstToken == 0 && c.ans.scan.Result().Started {
				c.rec.FirstToken = came.Sub(c.rec.Start)
			}
		}
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return bodyFault(ctx, c, readErr)
		}
		if next := relaySize(n); next != size {
			g.buffers.put(buf)
			size, buf = next, g.buffers.get(next)
		}
	}
}

// relaySize is how much to read next after n bytes came.
func relaySize(n int) int {
	if n >= waitBytes {
		return relayBytes
	}
	return waitBytes
}

func (g *Gateway) relayChunk(c *call, chunk []byte, ping *pinger) error {
	ping.lock()
	defer ping.unlock()
	if c.ans.mask != nil {
		c.ans.masked = c.ans.mask.Append(c.ans.masked[:0], chunk)
		chunk = c.ans.masked
	}
	c.ans.slices = c.ans.scan.Feed(chunk, c.ans.slices[:0])
	return g.writeEvents(c)
}

// writeEvents writes what the scanner let through, as one flush.
func (g *Gateway) writeEvents(c *call) error {
	wrote := false
	for _, p := range c.ans.slices {
		if len(p) == 0 {
			continue
		}
		if !c.ans.begun {
			g.begin(c, -1)
		}
		if err := g.write(c, p); err != nil {
			return err
		}
		wrote, c.ans.between = true, endsEvent(c.ans.between, p)
	}
	if !wrote {
		return nil
	}
	return g.flush(c)
}

// endsEvent reports whether a stream stands between two events after p. before is what held ahead of p: a lone line end after a whole
// event leaves the stream there. It errs towards no: the only cost is a ping less.
func endsEvent(before bool, p []byte) bool {
	return bytes.HasSuffix(p, []byte("\n\n")) || bytes.HasSuffix(p, []byte("\r\n\r\n")) || bytes.HasSuffix(p, []byte("\r\r")) ||
		before && len(bytes.Trim(p, "\r\n")) == 0
}

// judgeStream tells a stream that came to its end from one that merely stopped.
func (c *call) judgeStream() error {
	result := c.ans.scan.Result()
	switch {
	case result.Failed():
		// The caller has the provider's own words; nothing is to be added to them.
		return fault.New(fault.ProviderError, "The provider %q ended its stream with an error.", c.rec.Provider)
	case !result.Complete():
		return fault.Wrap(io.ErrUnexpectedEOF, fault.ProviderTruncated, "The provider %q broke off its answer: try again.", c.rec.Provider)
	}
	c.ans.complete = true
	return nil
}

// endStream tells the caller how a stream ended, when it has not been told.
func (g *Gateway) endStream(c *call, err error) error {
	if err == nil || !c.ans.begun || c.ans.scan.Result().Error != nil && !c.ans.scan.HideErrors {
		return err
	}
	var last []byte
	if fault.Is(err, fault.ProviderTruncated) {
		last = c.ans.scan.Truncation(c.rec.ID)
	} else {
		last = c.ans.scan.ErrorEvent(err, c.rec.ID)
	}
	if g.write(c, last) == nil {
		_ = g.flush(c) // it was the last thing to try
	}
	return err
}

// write sends bytes under the rolling deadline: a client that takes none for so long is cut.
func (g *Gateway) write(c *call, p []byte) error {
	g.armDeadline(c)
	if _, err := c.w.Write(p); err != nil {
		return g.lost(err)
	}
	return nil
}

func (g *Gateway) flush(c *call) error {
	if err := c.ctl.Flush(); err != nil {
		return g.lost(err)
	}
	return nil
}

// armDeadline moves the write deadline on, but not with every event: a quarter of it is precise enough.
func (g *Gateway) armDeadline(c *call) {
	now := g.deps.Clock()
	if now.Sub(c.ans.armed) < g.opts.WriteTimeout/4 {
		return
	}
	c.ans.armed = now
	_ = c.ctl.SetWriteDeadline(now.Add(g.opts.WriteTimeout)) // not supported by every writer of tests
}

// lost is a caller that can no longer be written to.
func (g *Gateway) lost(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		g.deps.Events.count(eventSlowClient)
		return fault.Wrap(err, fault.ClientClosed, "The caller reads too slowly.")
	}
	return fault.Wrap(err, fault.ClientClosed, "The caller went away.")
}
