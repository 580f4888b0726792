package gateway

import (
	"errors"
	"net/http"
	"runtime"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/promptgate/promptgate/internal/fault"
)

const stackBytes = 8 << 10

// maxHead bounds a request's headers, in bytes. The server's own bound is higher: it can only say so in plain text.
const maxHead = 64 << 10

func headBytes(h http.Header) (n int) {
	for key, values := range h {
		for _, v := range values {
			n += len(key) + len(v)
		}
	}
	return n
}

// isCall reports whether a route names its answers itself: by the call's id, or the provider's.
func isCall(route string) bool {
	return route == "" || strings.HasPrefix(route, "/v1/") || strings.HasPrefix(route, "/openai/")
}

// Guard is the outermost middleware: it counts the request as under way and turns a panic into a 500 that says nothing. The log gets a
// bounded stack (function names and lines; never the request or the panic's value, which may hold a part of it), and http.ErrAbortHandler
// passes, since it is how an answer is cut.
func (g *Gateway) Guard(c *gin.Context) {
	g.flights.enter()
	defer g.flights.leave()
	defer g.recover(c)
	if id := c.Request.Header[requestID]; saneID(id) {
		c.Writer.Header()[requestID] = id
	} else if !isCall(c.FullPath()) {
		id, _ := g.deps.CallIDs.Mint("", "") // without randomness there is none
		newHead(c.Writer.Header()).named(id)
	}
	if headBytes(c.Request.Header) > maxHead {
		g.refuseHere(c, fault.New(fault.HeadersTooLarge, "The request's headers are larger than %d bytes. Send variables in the body.", maxHead))
		c.Abort()
		return
	}
	if g.flights.draining.Load() {
		c.Writer.Header()["Connection"] = []string{"close"}
	}
	c.Next()
}

func (g *Gateway) recover(c *gin.Context) {
	r := recover()
	if r == nil {
		return
	}
	if err, ok := r.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(r) //nolint:forbidigo // net/http ends the connection by it
	}
	g.notePanic(c.FullPath(), r)
	c.Abort()
	if c.Writer.Written() {
		panic(http.ErrAbortHandler) //nolint:forbidigo // an answer has begun: cutting it is the one honest end left
	}
	g.refuse(c.Writer, newHead(c.Writer.Header()), shapeOf(c.Request), "", fault.New(fault.Internal, internalMessage))
}

// notePanic counts and logs a panic.
func (g *Gateway) notePanic(where string, r any) {
	stack := make([]byte, stackBytes)
	stack = stack[:runtime.Stack(stack, false)]
	g.deps.Events.count(eventPanic)
	g.log.Error("panic while serving", "route", where, "kind", kindOf(r), "stack", string(stack))
}

// kindOf names a panic without its value.
func kindOf(r any) string {
	switch r.(type) {
	case runtime.Error:
		return "runtime error"
	case error:
		return "error"
	case string:
		return "string"
	default:
		return "value"
	}
}
