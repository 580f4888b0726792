package gateway

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
)

// errDrained is the cause of contexts that end because the process does.
var errDrained = errors.New("gateway: shutting down")

// flights knows how many requests are under way and ends them when the process does.
type flights struct {
	n        atomic.Int64
	draining atomic.Bool
	landed   chan struct{}   // gets a token, if there is room, when a flight lands while draining
	base     context.Context //nolint:containedctx // ends with the process
	abort    context.CancelCauseFunc
}

func newFlights() *flights {
	f := &flights{landed: make(chan struct{}, 1)}
	f.base, f.abort = context.WithCancelCause(context.Background())
	return f
}

func (f *flights) enter() { f.n.Add(1) }

func (f *flights) leave() {
	if f.n.Add(-1) == 0 && f.draining.Load() {
		select {
		case f.landed <- struct{}{}:
		default:
		}
	}
}

// wait returns nil once nothing is under way, or ctx's error.
func (f *flights) wait(ctx context.Context) error {
	for f.n.Load() > 0 {
		select {
		case <-f.landed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// BaseContext is for http.Server.BaseContext: contexts of requests descend from it, so that Abort reaches every one of them without any
// bookkeeping per request.
func (g *Gateway) BaseContext(net.Listener) context.Context { return g.flights.base }

// InFlight is how many requests are under way.
func (g *Gateway) InFlight() int { return int(g.flights.n.Load()) }

// Retire turns /readyz to 503 and asks clients, with each answer, to leave the connection that it came by. Requests are served all the
// while. A connection that is closed just when its client sends the next request loses that request: clients that have left lose none.
func (g *Gateway) Retire() { g.flights.draining.Store(true) }

// Drain turns /readyz to 503 and waits until no request is under way, or until ctx ends: the grace. What is still running
// then goes on until Abort; the error is ctx's. New requests are served all the while: closing listeners is the server's part.
func (g *Gateway) Drain(ctx context.Context) error {
	g.flights.draining.Store(true)
	return g.flights.wait(ctx)
}

// Abort ends whatever is still running: streams get an explicit error event and no [DONE], others a 503. It waits for them to have
// been recorded, or for ctx.
func (g *Gateway) Abort(ctx context.Context) error {
	g.flights.draining.Store(true)
	g.flights.abort(errDrained)
	return g.flights.wait(ctx)
}
