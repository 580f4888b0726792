package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

// admit judges what can be judged before the body is understood, the caller's address and the request's size, and reads the body.
func (g *Gateway) admit(_ context.Context, c *call) error {
	if !addressAllowed(c.who, c.r.RemoteAddr) {
		return wrongAddress()
	}
	if v := c.r.Header.Get("Content-Encoding"); v != "" && !strings.EqualFold(v, "identity") {
		return fault.New(fault.InvalidRequest, "Send the body without Content-Encoding.").WithParam("Content-Encoding")
	}
	if c.r.ContentLength > g.opts.MaxBodyBytes {
		return g.tooLarge()
	}
	return g.readBody(c)
}

// addressAllowed reports whether a caller at remote ("host:port") may use the key; an address that cannot be read may use only
// keys that allow every one.
func addressAllowed(who *policy.Principal, remote string) bool {
	if len(who.Networks) == 0 {
		return true
	}
	from, err := netip.ParseAddrPort(remote)
	return err == nil && who.AllowsAddr(from.Addr())
}

func (g *Gateway) tooLarge() error {
	return fault.New(fault.RequestTooLarge, "The request is larger than %d bytes. Send less, or ask an admin to raise the limit.", g.opts.MaxBodyBytes)
}

// readBody buffers the body: its length is known before anything is decided, it can be sent to several providers, and Go's Transport
// would lose a provider's early answer while it still reads from a client. Its bytes count against MaxBuffered while it is held.
func (g *Gateway) readBody(c *call) error {
	declared, from := c.r.ContentLength, io.Reader(c.r.Body)
	if declared < 0 {
		declared = min(g.opts.MaxBodyBytes, 1<<20) // unknown: reserve a usual body, and what is beyond it as it comes
		from = &metered{Reader: from, gateway: g, call: c}
	}
	c.in.held = declared
	if g.held.Add(declared) > g.opts.MaxBuffered {
		return g.shed()
	}
	buf, more, err := g.buffers.readAll(from, c.r.ContentLength, g.opts.MaxBodyBytes)
	c.in.buf = buf
	var large *http.MaxBytesError
	switch {
	case more || errors.As(err, &large):
		return g.tooLarge()
	case errors.Is(err, errNoRoom):
		return g.shed()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fault.Wrap(err, fault.InvalidRequest, "The request's body did not arrive in time. Try again.")
	case err != nil:
		return fault.Wrap(err, fault.ClientClosed, "The request was cut.")
	}
	return nil
}

// errNoRoom ends the reading of a body that would take more than MaxBuffered has left.
var errNoRoom = errors.New("gateway: no room for the body")

// metered counts a body of unknown length against MaxBuffered as it comes.
type metered struct {
	io.Reader
	gateway *Gateway
	call    *call
	got     int64
}

// Read implements io.Reader.
func (m *metered) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.got += int64(n)
	if more := m.got - m.call.in.held; more > 0 {
		m.call.in.held += more
		if m.gateway.held.Add(more) > m.gateway.opts.MaxBuffered {
			return n, errNoRoom
		}
	}
	return n, err
}

// shed refuses a request that there is no room for.
func (g *Gateway) shed() error {
	g.deps.Events.count(eventShed)
	return fault.New(fault.Overloaded, "The gateway is at its limit. Try again shortly.")
}

func wrongAddress() error {
	return fault.New(fault.PermissionDenied, "This key may not be used from this network address. Ask an admin to allow it.")
}
