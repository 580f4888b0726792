package gateway

import (
	"context"

	"github.com/promptgate/promptgate/internal/fault"
)

// stage is one step of a call. It reads and completes the call; an error, always a fault, ends the call.
type stage func(ctx context.Context, c *call) error

// pipeline is an order of stages: steps run until one fails, closing ones always run, each of them, whatever panics.
type pipeline struct {
	steps   []stage
	closing []func(ctx context.Context, c *call, err error)
}

// callPipeline is what happens to a call, in order. Authorization comes before resolution, so that what a key may not run looks the
// same whether it exists or not; nothing is sent before all of it has succeeded; and whatever came of it is recorded.
func (g *Gateway) callPipeline() pipeline {
	return inOrder(
		g.authenticate, // who calls
		g.admit,        // from where, how much: the body is read here
		g.identify,     // what the body names: a prompt's id and current name
		g.authorize,    // may this key run that, under this label
		g.resolve,      // which version
		g.render,       // the messages and parameters
		g.plan,         // which targets; a model that the caller chose is authorized too
		g.reserve,      // a place, room for its record, and what limiters hold for the dearest target
		g.goOn,         // from an answer that a provider keeps: is it this caller's?
		g.forward,      // ask the provider; streams are relayed here
	).andAlways(
		g.settle, // tokens and cost
		g.record, // into the spool, before the answer ends
		g.spend,  // what was reserved
	)
}

// renderPipeline is the same up to rendering, for POST /v1/prompts/{name}/render: it calls nobody.
func (g *Gateway) renderPipeline() pipeline {
	return inOrder(g.authenticate, g.admit, g.identify, g.authorize, g.resolve, g.render, g.show)
}

func inOrder(steps ...stage) pipeline { return pipeline{steps: steps} }

func (p pipeline) andAlways(closing ...func(ctx context.Context, c *call, err error)) pipeline {
	p.closing = closing
	return p
}

func (p pipeline) run(ctx context.Context, c *call) (err error) {
	ended := false
	defer func() {
		if !ended { // a step panicked
			err = fault.New(fault.Internal, internalMessage)
		}
		p.close(ctx, c, err, 0)
	}()
	for _, step := range p.steps {
		if err = step(ctx, c); err != nil {
			break
		}
	}
	ended = true
	return err
}

// close runs the closing stages from the one at i on, in order.
func (p pipeline) close(ctx context.Context, c *call, err error, i int) {
	if i == len(p.closing) {
		return
	}
	defer p.close(ctx, c, err, i+1)
	p.closing[i](ctx, c, err)
}
