package gateway

import (
	"context"

	"github.com/promptgate/promptgate/internal/fault"
)

// admit judges what can be judged before the body is understood, the caller's address and the request's size, and reads the body.
func (g *Gateway) admit(_ context.Context, c *call) error {
	if err := c.who.ComesFrom(c.req.From); err != nil {
		return err
	}
	if c.req.Length > g.opts.MaxBodyBytes {
		return g.tooLarge()
	}
	return g.readBody(c)
}

func (g *Gateway) tooLarge() error {
	return fault.New(fault.RequestTooLarge, "The request is larger than %d bytes. Send less, or ask an admin to raise the limit.", g.opts.MaxBodyBytes)
}

// shed refuses a request that there is no room for.
func (g *Gateway) shed() error {
	g.deps.Events.count(eventShed)
	return fault.New(fault.Overloaded, "The gateway is at its limit. Try again shortly.")
}
