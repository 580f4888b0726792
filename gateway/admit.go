package gateway

import (
	"context"
	"net/netip"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

// admit judges what can be judged before the body is understood, the caller's address and the request's size, and reads the body.
func (g *Gateway) admit(_ context.Context, c *call) error {
	if !addressAllowed(c.who, c.r.RemoteAddr) {
		return wrongAddress()
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

// shed refuses a request that there is no room for.
func (g *Gateway) shed() error {
	g.deps.Events.count(eventShed)
	return fault.New(fault.Overloaded, "The gateway is at its limit. Try again shortly.")
}

func wrongAddress() error {
	return fault.New(fault.PermissionDenied, "This key may not be used from this network address. Ask an admin to allow it.")
}
