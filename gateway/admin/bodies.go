package admin

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/danielgtaylor/huma/v2/adapters/humagin"

	"github.com/promptgate/promptgate/internal/fault"
)

const (
	// maxBodies bounds the memory of all bodies that the management API reads at a time, in bytes; one caller has at most half.
	maxBodies = 256 << 20
	// bodyTime is how long a body may take to come.
	bodyTime = 20 * time.Second
	// decoded is how many times the length of a body reading and decoding it takes, about.
	decoded = 4
	// readPiece is how much of a body is read at a time.
	readPiece = 16 << 10
)

// readBody reads the body before its operation does, as it comes, in the caller's share of maxBodies; done gives the share back. It runs once the
// caller is known and, but for what names a new prompt, authorized.
func (a *API) readBody(ctx humaContext, c *caller) (done func(), err error) {
	g := humagin.Unwrap(ctx)
	r := g.Request
	if r.Body == nil || r.Body == http.NoBody {
		return func() {}, nil
	}
	var held int64
	done = func() { a.bodies.Give(c.ID, held) }
	_ = http.NewResponseController(bottom(g.Writer)).SetReadDeadline(time.Now().Add(bodyTime)) //nolint:forbidigo // a socket goes by the real time; net/http lifts it when the body has ended
	var body bytes.Buffer
	for {
		if !a.bodies.Take(c.ID, decoded*readPiece) {
			return done, fault.New(fault.Overloaded, "Too many bodies are being sent to the management API. Try again shortly.")
		}
		held += decoded * readPiece
		_, err := io.CopyN(&body, r.Body, readPiece)
		switch {
		case errors.Is(err, io.EOF):
			r.Body = io.NopCloser(&body)
			return done, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return done, fault.Wrap(err, fault.InvalidRequest, "The request's body did not arrive in time. Try again.")
		case err != nil:
			return done, fault.Wrap(err, fault.ClientClosed, "The request was cut.")
		case body.Len() > maxBody:
			return done, fault.New(fault.RequestTooLarge, "The body is larger than %d bytes. Send less.", maxBody)
		}
	}
}

// bottom is the writer below Gin's, which knows the connection.
func bottom(w http.ResponseWriter) http.ResponseWriter {
	if u, ok := w.(interface{ Unwrap() http.ResponseWriter }); ok {
		return u.Unwrap()
	}
	return w
}
