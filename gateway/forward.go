package gateway

import (
	"bytes"
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
	c.prepare(ctx)
	asked, waited := g.deps.Clock(), c.ans.waited
	res, target, err := g.deps.Forwarder.Forward(ctx, c.out.callbacks)
	c.ans.waited = waited + g.deps.Clock().Sub(asked)
	if err != nil {
		c.payOwed()
		return providerFault(ctx, err)
	}
	defer func() { _ = res.Body.Close() }() // its bytes have been read or are unwanted
	c.answeredBy(target, res)

	switch {
	case res.Status == http.StatusUnauthorized || res.Status == http.StatusForbidden:
		g.logRefusal(ctx, c, res)
		return fault.New(fault.ProviderAuth, "The provider %q refused the gateway's own credential. Ask an admin to check it.", c.rec.Provider)
	case res.Status >= 500 || res.Status < 200 || res.Status >= 300 && res.Status < 400:
		return fault.New(fault.ProviderError, "The provider %q answered with status %d: try again shortly.", c.rec.Provider, res.Status)
	case res.Status >= 400:
		if err := g.hold(ctx, c, res); err != nil {
			return err
		}
		if ok, err := g.reads(ctx, c); err != nil || !ok {
			return c.blank(err)
		}
		if c.ans.more {
			return g.relayLarge(ctx, c, res)
		}
		return nil
	}
	if c.out.unasked != "" && c.out.unasked == c.rec.Provider {
		g.refusals.remember(c.rec.Project, c.rec.Provider, g.deps.Clock())
	}
	c.ans.mask = c.maskFor()
	switch {
	case c.ans.streamed:
		return g.relay(ctx, c, res)
	case c.ans.more:
		return g.relayLarge(ctx, c, res)
	case c.ans.mask != nil:
		c.maskWhole()
	}
	return nil
}

// maskWhole replaces the prompt in an answer that is held.
func (c *call) maskWhole() {
	masked := c.lender.get(len(c.ans.buf.B) + maskedMore)
	masked.B = c.ans.mask.Append(masked.B, c.ans.buf.B)
	c.lender.put(c.ans.buf)
	c.ans.buf = masked
}

// maskedMore is how much longer a mask makes an answer, as a rule at most.
const maskedMore = 64

// maskFor is what replaces the prompt in the answer: nothing for who may read it, and for a shape whose providers do not repeat it.
func (c *call) maskFor() *wire.Mask {
	if len(c.out.echoed) == 0 {
		return nil
	}
	if ok, err := c.g.reads(c.ctx, c); ok && err == nil {
		return nil
	}
	if _, list := c.api.(wire.KeptItems); list {
		return wire.NewItemsMask()
	}
	if c.ans.masks == nil {
		c.ans.masks = new(wire.Mask)
	}
	c.ans.masks.Reset(c.out.echoed, c.ans.streamed)
	return c.ans.masks
}

// blank replaces a provider's refusal, which may repeat the request, by what callers who may not read the prompt can know of it.
func (c *call) blank(err error) error {
	if err != nil {
		return err
	}
	c.ans.buf.B = c.api.AppendRefusal(c.ans.buf.B[:0], c.ans.buf.B, c.ans.status)
	c.ans.more, c.ans.complete = false, true
	c.ans.header = http.Header{"Content-Type": {"application/json"}, "Retry-After": c.ans.header["Retry-After"]}
	return nil
}

// answeredBy notes whose answer it is that the call has now.
func (c *call) answeredBy(t provider.Target, res *provider.Response) {
	c.rec.Provider, c.rec.Model, c.rec.ModelListed = t.Provider.Name(), t.Model, t.Listed || c.ref.resolved != nil && !c.out.byCaller
	c.ans.status, c.ans.header, c.ans.prices = res.Status, res.Header, t.Prices
}

// accept judges an answer with a status of success: one that holds no answer is none, so that the next target is tried, and what is wrong with
// it is told before the first byte was sent.
func (c *call) accept(t provider.Target, res *provider.Response) error {
	c.answeredBy(t, res)
	c.lender.put(c.ans.buf)
	c.ans.buf, c.ans.more, c.ans.streamed, c.ans.media, c.ans.complete = nil, false, false, false, false
	kind := mediaType(res.Header.Get("Content-Type"))
	var err error
	_, content := c.api.(wire.FileContent)
	switch {
	case content:
		c.ans.media = true
		err = c.g.hold(c.ctx, c, res)
	case kind == "text/event-stream":
		c.ans.streamed = true
		err = c.acceptStream(res)
	case kind == "application/json" || strings.HasSuffix(kind, "+json") || kind == "":
		if err = c.g.hold(c.ctx, c, res); err == nil {
			err = c.acceptWhole()
		}
	case c.takesMedia(kind):
		c.ans.media = true
		if err = c.g.hold(c.ctx, c, res); err == nil {
			err = c.acceptMedia()
		}
	default:
		err = c.unusable(provider.KindProtocol, errNeither)
	}
	if err != nil {
		c.owe(t, err)
		c.lender.put(c.ans.buf)
		c.ans.buf, c.ans.status, c.ans.header, c.ans.streamed, c.ans.media = nil, 0, nil, false, false
		c.rec.Provider, c.rec.Model = "", ""
	}
	return err
}

var (
	errNeither = errors.New("its answer is neither JSON nor a stream of events; is its address right?")
	errEmpty   = errors.New("a status of success without an answer")
)

func (c *call) unusable(kind provider.Kind, err error) error {
	return &provider.Error{Provider: c.rec.Provider, Kind: kind, Err: err}
}

// acceptWhole judges an answer that is no stream: an error in it, no choice in it, and a cut are no answer.
func (c *call) acceptWhole() error {
	said, whole := c.api.ReadAnswer(c.ans.buf.B)
	c.ans.said = said
	switch {
	case said.Error != nil:
		return c.unusable(provider.KindEmpty, errEmpty)
	case c.ans.more && wire.BeginsError(c.api, c.ans.buf.B):
		return c.unusable(provider.KindEmpty, errEmpty)
	case c.ans.more:
		return nil // only its beginning is known; nothing else is that long
	case !whole && len(bytes.TrimSpace(c.ans.buf.B)) > 0 && bytes.TrimSpace(c.ans.buf.B)[0] == '{':
		return c.unusable(provider.KindTruncated, io.ErrUnexpectedEOF)
	case said.Answers == 0 && (!said.Running || !c.out.runsOn):
		return c.unusable(provider.KindEmpty, errEmpty)
	}
	return nil
}

// acceptStream reads a stream up to its first event that says something: an error there, or an end, is no answer. What was read stays in
// c.ans.buf and is relayed first. A provider that is silent for so long that the caller was sent a ping is the one that answers, come what may.
func (c *call) acceptStream(res *provider.Response) error {
	c.ans.buf, c.ans.between = c.lender.get(waitBytes), true
	if c.ans.scan == nil {
		c.ans.scan = new(wire.StreamScanner)
	}
	c.ans.scan.Reset(c.api, false)
	ping := c.g.startPings(c)
	err := func() error {
		defer ping.stop() // after a panic, too: its timer writes
		return c.readBeginning(res)
	}()
	if c.ans.begun {
		return nil
	}
	return err
}

func (c *call) readBeginning(res *provider.Response) error {
	buf := c.ans.buf
	for {
		n, err := res.Body.Read(buf.B[len(buf.B):cap(buf.B)])
		buf.B = buf.B[:len(buf.B)+n]
		switch begins := c.ans.scan.Begins(buf.B); {
		case begins == wire.Answers, begins == wire.Undecided && len(buf.B) >= maxBeginning: // nobody fails at such length
			return nil
		case begins == wire.Fails, err == io.EOF:
			return c.unusable(provider.KindEmpty, errEmpty)
		case err != nil:
			return err
		}
		if len(buf.B) == cap(buf.B) { // what has begun repeats the request, say
			larger := c.lender.get(2 * cap(buf.B))
			larger.B = append(larger.B[:0], buf.B...)
			c.lender.put(buf)
			buf, c.ans.buf = larger, larger
		}
	}
}

// maxBeginning bounds what is held of a stream that has not said anything yet, in bytes.
const maxBeginning = 64 << 10

// mediaType is a Content-Type without its parameters, "" for one that is none.
func mediaType(contentType string) string {
	if contentType == "application/json" { // nearly always, and reading it costs as much as a permission's check
		return contentType
	}
	kind, _, _ := mime.ParseMediaType(contentType)
	return kind
}

// prepare makes, once for a pooled call, what the forwarder calls back.
func (c *call) prepare(ctx context.Context) {
	c.ctx = ctx
	back := &c.out.callbacks
	if back.Build == nil {
		back.Build, back.Accept, back.Rebuild, back.Observe = c.request, c.accept, c.rebuild, c.observe
	}
	back.Caller, back.Targets = c.who.ID, c.out.targets
	// A client that tries again by itself says so: trying again within its trials would multiply them.
	retry := c.req.Header.Get("X-Stainless-Retry-Count")
	back.Once = retry != "" && retry != "0"
}

// request is the call as one target gets it. The bytes are the caller's own but for the declared edits; without any they are the
// caller's own.
func (c *call) request(t provider.Target) *provider.Request {
	if c.kept.route != nil {
		return c.keptRequest()
	}
	edits := c.out.edits
	if t.Model != c.in.model && !c.api.Stores() {
		set := wire.SetIn(c.out.modelSet, "model", t.Model)
		edits, c.out.modelSet = append(edits, set), set.Value
	}
	if c.out.withheld = c.withholds(t); c.out.withheld {
		edits = append(edits, c.out.usageSet)
	}
	c.out.edits = edits[:len(c.out.edits)] // keeps the memory
	c.out.target = t
	body := c.in.body.Raw()
	if len(edits) > 0 && !c.in.parts.Present() {
		if c.out.body == nil {
			c.out.body = c.lender.get(len(body) + c.editBytes())
		}
		// The buffer is free again: the target before has answered, and its answer was closed.
		c.out.body.B = c.in.body.Splice(c.out.body.B[:0], edits)
		body = c.out.body.B
	}
	c.out.request = provider.Request{
		API: c.api.Name(), Endpoint: c.api.Endpoint(), Body: body, Stream: c.in.stream, Header: c.api.Onward(c.req.Header, edits), CallID: c.rec.ID,
	}
	if api, passes := c.api.(wire.Passed); passes {
		c.out.request.Accept = api.Accept()
	}
	if c.in.parts.Present() {
		c.formRequest(t)
	}
	return &c.out.request
}

// editBytes is about how much longer the edits make the body.
func (c *call) editBytes() int {
	n := 128
	if c.out.rendered != nil {
		n += len(c.out.rendered.B)
	}
	for _, e := range c.out.edits {
		n += len(e.Name) + 4
	}
	return n
}

// withholds reports whether the usage chunk of this target's stream was ours to ask for.
func (c *call) withholds(t provider.Target) bool {
	return c.out.usage && c.out.unasked != t.Provider.Name() && t.Provider.Capabilities().StreamUsage && !c.g.refusals.remembers(c.rec.Project, t.Provider.Name(), c.rec.Start)
}

// rebuild leaves out what we added to a request that a provider refuses, when that may be why.
func (c *call) rebuild(t provider.Target, res *provider.Response) bool {
	if !c.withholds(t) {
		return false
	}
	said, err := io.ReadAll(io.LimitReader(res.Body, maxRefusal))
	res.Body = readBack{io.MultiReader(bytes.NewReader(said), errorReader{err}, res.Body), res.Body}
	if err != nil || !blamesAddition(said, c.out.usageSet) {
		return false
	}
	c.out.unasked = t.Provider.Name()
	return true
}

// owe notes an answer that broke off: the provider may charge for it. One that is an error, or that our own rules refuse, is no such.
func (c *call) owe(t provider.Target, err error) {
	e, _ := errors.AsType[*provider.Error](err)
	cut := fault.Is(err, fault.ProviderTruncated) || fault.Is(err, fault.ClientClosed) || fault.Is(err, fault.ProviderTimeout)
	if e != nil {
		cut = cut || e.Kind == provider.KindTruncated || e.Kind == provider.KindTimeout || e.Kind == provider.KindCancelled
	}
	if cut && c.ans.buf != nil {
		c.ans.owed = owed{target: t, got: len(c.ans.buf.B), attempt: len(c.rec.Attempts)}
	}
}

// payOwed makes a call that nobody answered that of the provider which was left with it: it may charge for what it got and said.
func (c *call) payOwed() {
	if t := c.ans.owed.target; t.Provider != nil {
		c.answeredBy(t, &provider.Response{})
	}
}

// observe notes one attempt.
func (c *call) observe(a provider.AttemptResult) {
	if a.Err != nil && a.Asked {
		c.ans.owed = owed{target: c.out.target, attempt: len(c.rec.Attempts)}
	}
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
