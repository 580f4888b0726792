package gateway

import (
	"context"
	"net/http"
	"time"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/limits"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/template"
)

// call is one request on its way down the pipeline, by the stages that fill it. It is pooled: nothing may keep it, or a part of it, after
// its handler returned.
type call struct {
	w   http.ResponseWriter
	ctl *http.ResponseController
	ctx context.Context //nolint:containedctx // of the stage that runs, for what it has others call back
	g   *Gateway
	req Request

	api      wire.API      // the shape, set by the route
	action   policy.Action // what the route is for: call or read
	pathName string        // the prompt's name when the path names it
	byPath   bool
	// pathModel is the model that Azure's addresses name, "" on any other.
	pathModel string
	// kept is set by the routes of what providers keep.
	kept kept

	who  *policy.Principal
	in   inbound
	ref  chosen
	out  outbound
	ans  answer
	rec  metrics.Call
	done bool // recorded

	lender   *buffers
	readsNow func() (bool, error) // Gateway.reads, made once
}

// inbound is what the caller sent.
type inbound struct {
	buf    *buffer            // holds body's bytes
	held   limits.Reservation // of memory for its bytes, in the caller's share of MaxBuffered
	pace   pace
	body   wire.Body
	parts  wire.Multipart // that body's fields were made of; of nothing as a rule
	model  string         // as sent
	stream bool
	ref    wire.Reference
}

// chosen is the prompt that the call runs; empty for a call without one.
type chosen struct {
	prompt   *registry.Identified // nil: there is none by that name
	label    string               // what it was authorized under: a label, or policy.LabelVersion
	resolved *registry.Resolved   // nil until resolved
	reads    answerTo             // may the caller read it? asked once, by Gateway.reads
}

// answerTo is an answer that may not have been asked for yet.
type answerTo uint8

const (
	unasked answerTo = iota
	may
	mayNot
)

// outbound is what the provider gets.
type outbound struct {
	edits    []wire.Edit
	body     *buffer          // the final JSON, when it is not the caller's own
	rendered *buffer          // the prompt as the shape has it: edits point into it
	messages []byte           // the part of it that is the messages
	values   *template.Values // of the version's variables: made for the first call with a prompt, then kept
	model    string           // as asked for: a name that the router knows
	byCaller bool             // the caller chose the model
	ignored  []string         // fields of the caller's that the version drops, sorted
	usage    bool             // usageSet is ours: what it brings is withheld
	usageSet wire.Edit
	// estimated is how many tokens the request has, once it was let go.
	estimated int64
	taken     bool     // the caller's last message became a variable
	runsOn    bool     // the provider is asked to work on after the request
	echoed    []string // fields of an answer that repeat the prompt
	targets   []provider.Target
	target    provider.Target // that was asked last
	request   provider.Request
	modelSet  []byte             // memory of the edit that sets the model
	tier      string             // service tier that was asked for; "" for none
	withheld  bool               // the request that was sent last asked for usage on our behalf: its chunk is kept back
	unasked   string             // the provider that refused usageSet, which was ours and is left out for it
	callbacks provider.Call      // call.request and its like, made once
	place     limits.Reservation // among the calls that run
	held      limits.Set         // what else is reserved for it: settled or released once it is recorded
	told      limits.Told        // how far its rates are used
}

// answer is what came back, and how far it got.
type answer struct {
	begun    bool // bytes went to the caller: no other answer is possible
	status   int
	header   http.Header        // the provider's
	prices   *metrics.PriceList // the provider's; nil: unknown
	buf      *buffer            // a whole answer that is no stream, held until it is recorded
	last     []byte             // of an answer too large to hold: its last byte, held until it is recorded
	more     bool               // … there is more of it than buf holds
	large    bool
	said     wire.Completion     // of a whole answer that is no stream
	micros   int64               // what it cost: the record points here
	owed     owed                // of what was asked last, while nothing of it counts as an answer
	waited   time.Duration       // for the provider
	scan     *wire.StreamScanner // made for the first stream, then kept
	streamed bool
	media    bool // it is neither JSON nor events
	ours     bool // no provider's: a rendering
	slices   [][]byte
	mask     *wire.Mask // replaces the prompt's text on the way to a caller that may not read it; nil: there is nothing to replace
	masks    *wire.Mask // made for the first answer that needs one, then kept
	masked   []byte
	between  bool      // the stream stands between two events
	armed    time.Time // when the write deadline was last moved on
	complete bool      // the provider's answer came to its end
}

// owed is a request that a provider has got and may charge for, though it came to no answer.
type owed struct {
	target  provider.Target // of no provider: nothing is owed
	got     int             // bytes of an answer that came before it broke off
	attempt int             // which of the call's it was
}

// reset forgets everything but the memory that is worth keeping. It works in place: the call is large, and a copy of it would be made anew
// for every request.
func (c *call) reset() {
	c.w, c.ctl, c.req, c.lender, c.who, c.ctx, c.g, c.api = nil, nil, Request{}, nil, nil, nil, nil, nil
	c.action, c.pathName, c.pathModel, c.byPath, c.done, c.kept = "", "", "", false, false, kept{}

	c.in.body.Reset()
	c.in.parts.Reset()
	c.in.buf, c.in.pace, c.in.held, c.in.model, c.in.stream, c.in.ref = nil, pace{}, limits.Reservation{}, "", false, wire.Reference{}

	c.ref = chosen{}

	clear(c.out.edits)
	back := &c.out.callbacks
	back.Caller, back.Targets, back.Once = "", nil, false
	if c.out.values != nil {
		c.out.values.Reset()
	}
	c.out = outbound{edits: c.out.edits[:0], callbacks: *back, held: c.out.held, modelSet: c.out.modelSet, values: c.out.values, echoed: c.out.echoed[:0]}

	clear(c.ans.slices)
	c.ans = answer{slices: c.ans.slices[:0], scan: c.ans.scan, masks: c.ans.masks}

	clear(c.rec.Attempts)
	c.rec = metrics.Call{Attempts: c.rec.Attempts[:0]}
}

// borrow readies a call for one request.
func (g *Gateway) borrow(w http.ResponseWriter, req Request, api wire.API, action policy.Action) *call {
	c, ok := g.calls.Get().(*call)
	if !ok {
		c = new(call)
	}
	c.w, c.req, c.lender, c.g, c.api, c.action = w, req, &g.buffers, g, api, action
	c.rec.Endpoint = api.Endpoint()
	c.ctl = http.NewResponseController(bottom(w))
	c.rec.Start = g.deps.Clock()
	return c
}

// releaseRequest returns what the call holds of its request, which has been sent, and keeps what will be recorded of it: thousands of streams may
// wait for their events at a time, for minutes.
func (g *Gateway) releaseRequest(c *call) {
	g.noteCaller(c)
	c.out.estimated = c.estimatedInput()
	c.in.held.Release()
	for _, b := range []*buffer{c.in.buf, c.out.rendered, c.out.body} {
		g.buffers.put(b)
	}
	c.in.body.Reset()
	c.in.parts.Reset()
	clear(c.out.edits)
	c.in.buf, c.in.ref, c.out.rendered, c.out.messages, c.out.body, c.out.edits, c.out.values = nil, wire.Reference{}, nil, nil, nil, c.out.edits[:0], nil
}

// giveBack returns what the call holds. A call that panicked is not pooled: nobody knows who still points into it.
func (g *Gateway) giveBack(c *call, reuse bool) {
	if c.out.place.Held() {
		c.out.place.Release()
		g.meter.CallEnded()
	}
	c.out.held.Release() // nothing, when the pipeline ran its closers
	c.in.held.Release()
	if !reuse {
		return
	}
	for _, b := range []*buffer{c.in.buf, c.out.rendered, c.out.body, c.ans.buf} {
		g.buffers.put(b)
	}
	c.reset()
	g.calls.Put(c)
}

// bottom is the writer below Gin's: its Flush reports errors, Gin's does not.
func bottom(w http.ResponseWriter) http.ResponseWriter {
	if u, ok := w.(interface{ Unwrap() http.ResponseWriter }); ok {
		return u.Unwrap()
	}
	return w
}
