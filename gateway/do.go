package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

// Request is a call as it comes in, by HTTP or from inside.
type Request struct {
	Header http.Header   // names prompts, goes on to providers; may be nil
	Body   io.ReadCloser // JSON in the API's shape
	Length int64         // of Body, in bytes; -1 when it is not known
	From   string        // address that it comes from, as http.Request.RemoteAddr has it; "" from inside, which no principal of certain networks may be
}

// NewRequest is a call from inside.
func NewRequest(body []byte) Request {
	return Request{Body: io.NopCloser(bytes.NewReader(body)), Length: int64(len(body))}
}

func requestOf(r *http.Request) Request {
	return Request{Header: r.Header, Body: r.Body, Length: r.ContentLength, From: r.RemoteAddr}
}

// Sink takes an answer as it comes: head, bytes, and a Flush after each event of a stream. A Write that fails ends the call as a caller that went
// away does.
type Sink interface {
	http.ResponseWriter
	http.Flusher
}

// Do makes a call of somebody who is known already, without an HTTP connection: permissions, limits, recording and answers are those of a call that
// came by one. The sink gets the answer, a refusal as well; the error, always a fault, is that refusal, or what broke an answer off that had begun. A
// provider's own refusal is an answer and no error. ctx cancels the call at every stage.
func (g *Gateway) Do(ctx context.Context, who *policy.Principal, api wire.API, req Request, sink Sink) error {
	if who == nil || who.Project == "" {
		return fault.Wrap(errors.New("gateway: Do needs a principal"), fault.Internal, internalMessage)
	}
	g.flights.enter()
	defer g.flights.leave()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(g.flights.base, func() { cancel(errDrained) })() //nolint:contextcheck // the second of two that end it
	c := g.borrow(sink, req, api, policy.ActionCall)
	c.who = who
	_, err := g.serve(ctx, c, g.calling)
	return err
}

// serveHTTP runs a call that came by HTTP.
func (g *Gateway) serveHTTP(c *gin.Context, call *call, p pipeline) {
	if cut, _ := g.serve(c.Request.Context(), call, p); cut {
		panic(http.ErrAbortHandler) //nolint:forbidigo // the caller must not take half an answer for a whole one
	}
}

// serve runs a call down a pipeline and ends its answer. cut says that the answer has begun and cannot end well. A panic becomes a refusal that says
// nothing.
func (g *Gateway) serve(ctx context.Context, c *call, p pipeline) (cut bool, err error) {
	clean := false
	defer func() { g.giveBack(c, clean) }()
	defer func() {
		if r := recover(); r != nil {
			cut, err = g.panicked(ctx, c, r)
		}
	}()
	c.ctx = ctx
	err = p.run(ctx, c)
	if cut = c.ans.large && err != nil; !cut {
		g.finish(ctx, c, err)
	}
	clean = true
	return cut, err
}

// panicked ends a call that panicked.
func (g *Gateway) panicked(ctx context.Context, c *call, r any) (cut bool, err error) {
	g.notePanic(c.rec.Endpoint, r)
	err = fault.New(fault.Internal, internalMessage)
	if c.ans.begun {
		return true, err // cutting it is the one honest end left
	}
	g.finish(ctx, c, err)
	return false, err
}
