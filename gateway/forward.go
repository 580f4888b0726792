package gateway

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
)

// maxLogged bounds what the log gets of a provider's refusal.
const maxLogged = 2 << 10

// forward asks the provider and takes its answer: a stream is relayed here, anything else is held until it has been recorded.
func (g *Gateway) forward(ctx context.Context, c *call) error {
	c.prepare()
	asked := g.deps.Clock()
	res, target, err := g.deps.Forwarder.Forward(ctx, c.out.targets, c.out.build, c.out.observe)
	c.ans.waited += g.deps.Clock().Sub(asked)
	if err != nil {
		return providerFault(ctx, err)
	}
	defer func() { _ = res.Body.Close() }() // its bytes have been read or are unwanted
	c.rec.Provider, c.rec.Model = target.Provider.Name(), target.Model
	c.ans.status, c.ans.header = res.Status, res.Header

	switch {
	case res.Status == http.StatusUnauthorized || res.Status == http.StatusForbidden:
		g.logRefusal(ctx, c, res)
		return fault.New(fault.ProviderAuth, "The provider %q refused the gateway's own credential. Ask an admin to check it.", c.rec.Provider)
	case res.Status >= 500 || res.Status < 200 || res.Status >= 300 && res.Status < 400:
		return fault.New(fault.ProviderError, "The provider %q answered with status %d: try again shortly.", c.rec.Provider, res.Status)
	case res.Status >= 400:
		return g.hold(ctx, c, res)
	}
	kind := mediaType(res.Header.Get("Content-Type"))
	switch {
	case kind == "text/event-stream":
		return g.relay(ctx, c, res, target)
	case kind == "application/json" || strings.HasSuffix(kind, "+json") || kind == "":
		return g.hold(ctx, c, res)
	}
	return fault.New(fault.ProviderError, "The provider %q gave an answer that is neither JSON nor a stream of events. Ask an admin to check its address.", c.rec.Provider)
}

// mediaType is a Content-Type without its parameters, "" for one that is none.
func mediaType(contentType string) string {
	if contentType == "application/json" { // nearly always, and reading it costs as much as a permission's check
		return contentType
	}
	kind, _, _ := mime.ParseMediaType(contentType)
	return kind
}

// prepare makes, once for a pooled call, the two functions that the forwarder calls back.
func (c *call) prepare() {
	if c.out.build == nil {
		c.out.build, c.out.observe = c.request, c.observe
	}
}

// request is the call as one target gets it. The bytes are the caller's own but for the declared edits; without any they are the
// caller's own.
func (c *call) request(t provider.Target) *provider.Request {
	edits := c.out.edits
	if t.Model != c.in.model {
		edits = append(edits, wire.Set("model", t.Model))
	}
	if c.withholds(t) {
		edits = append(edits, c.out.usageSet)
	}
	body := c.in.body.Raw()
	if len(edits) > 0 {
		if c.out.body == nil {
			c.out.body = c.lender.get(len(body) + c.editBytes())
		}
		// The buffer is free again: the target before has answered, and its answer was closed.
		c.out.body.B = c.in.body.Splice(c.out.body.B[:0], edits)
		body = c.out.body.B
	}
	return &provider.Request{
		Endpoint: c.rec.Endpoint, Body: body, Stream: c.in.stream, Header: onward(c.r.Header), CallID: c.rec.ID,
	}
}

// editBytes is about how much longer the edits make the body.
func (c *call) editBytes() int {
	n := 128
	if c.out.messages != nil {
		n += len(c.out.messages.B)
	}
	for _, e := range c.out.edits {
		n += len(e.Name) + 4
	}
	return n
}

// withholds reports whether the usage chunk of this target's stream was ours to ask for.
func (c *call) withholds(t provider.Target) bool {
	return c.out.usage && t.Provider.Capabilities().StreamUsage
}

// observe notes one attempt.
func (c *call) observe(a provider.AttemptResult) {
	at := metrics.Attempt{Provider: a.Provider, Model: a.Model, Start: a.Start, Total: a.Head, Status: a.Status, Outcome: metrics.OutcomeOK}
	switch {
	case a.Err != nil:
		at.Outcome = outcomeOf(fault.CodeOf(provider.Fault(a.Err)))
	case a.Status >= 300:
		at.Outcome = metrics.OutcomeProvider
	}
	c.rec.Attempts = append(c.rec.Attempts, at)
}

// providerFault is what a failed attempt comes to. A context that ended explains more than the error that it caused.
func providerFault(ctx context.Context, err error) error {
	if f := ended(ctx, err); f != nil {
		return f
	}
	return provider.Fault(err)
}

// ended is the fault of a context that is done, nil while it is not.
func ended(ctx context.Context, err error) error {
	switch {
	case ctx.Err() == nil:
		return nil
	case errors.Is(context.Cause(ctx), errDrained):
		return fault.Wrap(err, fault.Overloaded, "This replica is shutting down. Try again.")
	default:
		return fault.Wrap(err, fault.ClientClosed, "The caller went away.")
	}
}

// logRefusal logs why a provider refused our credential, without what may be one.
func (g *Gateway) logRefusal(ctx context.Context, c *call, res *provider.Response) {
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxLogged)) // what came is enough to look at
	g.log.WarnContext(ctx, "provider refused the gateway's credential", "call", c.rec.ID, "provider", c.rec.Provider,
		"status", res.Status, "body", redact(string(body)))
}

// redact masks every word that could be a credential: long, and of more than letters. Words of prose survive, keys do not.
func redact(s string) string {
	var out strings.Builder
	word := func(r rune) bool { return r > ' ' && !strings.ContainsRune(`"'{}[](),:;<>`, r) }
	for len(s) > 0 {
		end := strings.IndexFunc(s, func(r rune) bool { return !word(r) })
		if end < 0 {
			end = len(s)
		}
		w := s[:end]
		if len(w) >= 12 && strings.IndexFunc(w, func(r rune) bool { return !unicode.IsLetter(r) && r != '_' && r != '.' }) >= 0 || len(w) > 40 {
			w = "[redacted]"
		}
		out.WriteString(w)
		if end < len(s) {
			out.WriteByte(s[end])
			end++
		}
		s = s[end:]
	}
	return out.String()
}
