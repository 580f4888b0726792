package provider

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
)

// RetryOptions say how often a target is tried again before the next one is. Zero fields take the defaults; a negative number of
// retries is none.
type RetryOptions struct {
	ConnectRetries int              // after KindConnect; default 1
	StatusRetries  int              // after 429, 500, 502, 503, 504, 529; default 2
	Delay          time.Duration    // before the first retry, doubled for each further one, ±25 %; default 250 ms
	MaxDelay       time.Duration    // default 4 s
	MaxRetryAfter  time.Duration    // a provider that wants to be left alone for longer is not tried again; default 10 s
	Now            func() time.Time // default time.Now
}

// jitter is the share that failsafe adds to or takes from a delay.
const jitter = 0.25

// AttemptResult is what became of one attempt, for the record.
type AttemptResult struct {
	Provider string
	Model    string
	Start    time.Time
	Head     time.Duration // from Start to the answer's head, or to the failure
	Status   int           // 0: no answer
	Err      error         // a *Error; nil when there is an answer
	// Asked tells that the provider got the request, or may have: it can charge for it whatever came back.
	Asked bool
}

// Forwarder sends a request to the first target that answers it. It is safe for concurrent use.
type Forwarder struct {
	o      RetryOptions
	policy retrypolicy.RetryPolicy[*outcome]
}

// NewForwarder makes a Forwarder.
func NewForwarder(o RetryOptions) *Forwarder {
	o.ConnectRetries = retries(o.ConnectRetries, 1)
	o.StatusRetries = retries(o.StatusRetries, 2)
	if o.Delay <= 0 {
		o.Delay = 250 * time.Millisecond
	}
	if o.MaxDelay <= o.Delay {
		o.MaxDelay = max(4*time.Second, 2*o.Delay)
	}
	if o.MaxRetryAfter <= 0 {
		o.MaxRetryAfter = 10 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	policy := retrypolicy.NewBuilder[*outcome]().
		HandleIf(func(last *outcome, _ error) bool { return last != nil && last.again }).
		WithMaxRetries(o.ConnectRetries+o.StatusRetries).
		WithBackoff(o.Delay, o.MaxDelay).
		WithJitterFactor(jitter).
		WithDelayFunc(func(e failsafe.ExecutionAttempt[*outcome]) time.Duration {
			if last := e.LastResult(); last != nil && last.wait > 0 {
				// Jitter may take a share away again, and the provider was precise.
				return time.Duration(float64(last.wait) / (1 - jitter))
			}
			return -1 // failsafe's word for: back off as configured
		}).
		ReturnLastFailure().
		Build()
	return &Forwarder{o: o, policy: policy}
}

func retries(n, otherwise int) int {
	switch {
	case n < 0:
		return 0
	case n == 0:
		return otherwise
	}
	return n
}

// outcome is what one attempt led to: an answer or an error.
type outcome struct {
	resp     *Response
	err      error
	again    bool          // the same target may be tried again
	wait     time.Duration // … not before; 0: not said
	fallback bool          // the next target may be tried
	verdict  verdict
}

func (o *outcome) discard() {
	if o.resp != nil {
		_ = o.resp.Body.Close() // what is thrown away cannot fail
	}
}

// Call is what the gateway wants sent.
type Call struct {
	Caller  string // whose call it is: circuits open only when several callers saw failures
	Targets []Target
	// Build makes the request for a target; it is called once for each attempt.
	Build func(Target) *Request
	// Accept judges an answer with a status of success before it counts as one: an error, a *Error as a rule, makes the attempt a failed one, and
	// the next target is tried. It may read of the body what it has to. nil: every such answer is a success.
	Accept func(Target, *Response) error
	// Rebuild is asked when a provider refuses a request (400 or 422): true means that it built the request otherwise from now on, and that it is
	// worth one more attempt, which counts as none. nil: never.
	Rebuild func(Target, *Response) bool
	// Observe is told of every attempt, in order. May be nil.
	Observe func(AttemptResult)
	// Once allows one attempt a target: the caller itself is trying again already.
	Once bool
}

// call is one run of Forward.
type call struct {
	*Forwarder
	Call
	ctx      context.Context //nolint:containedctx // lives as long as one call of Forward
	target   Target
	rebuilt  bool
	connects int // retries left for the target
	statuses int
}

// Forward tries the targets in order, each again as RetryOptions say, until one gives an answer that another try would not
// better, and returns that answer and who gave it. When none does it returns the last one's answer, say its 429, or its error:
// a *Error. It never tries again once ctx is done. Nobody has seen a byte of an answer before Forward returns, and after that
// there are no retries. A target whose circuit is open is passed over.
func (f *Forwarder) Forward(ctx context.Context, what Call) (*Response, Target, error) {
	c := call{Forwarder: f, Call: what, ctx: ctx}
	var last outcome
	var refused *Error
	tried := false
	for _, t := range c.Targets {
		if tried && !last.fallback {
			break
		}
		if !t.Breaker.allow() {
			refused = sooner(refused, t)
			continue
		}
		last.discard() // only now is it certain that something follows
		c.target, c.rebuilt = t, false
		c.connects, c.statuses = f.o.ConnectRetries, f.o.StatusRetries
		if c.Once {
			c.connects, c.statuses = 0, 0
		}
		last, tried = c.tryTarget(), true
	}
	switch {
	case tried && last.err != nil:
		return nil, c.target, last.err
	case tried:
		return last.resp, c.target, nil
	case refused != nil:
		return nil, Target{}, refused
	}
	return nil, Target{}, &Error{Kind: KindRefused, Err: errors.New("no target to send the request to")}
}

// sooner keeps the refusal that ends first.
func sooner(refused *Error, t Target) *Error {
	in := t.Breaker.RetryIn()
	if refused != nil && refused.RetryAfter <= in {
		return refused
	}
	return &Error{Provider: t.Provider.Name(), Kind: KindOpen, RetryAfter: in, Err: errCircuitOpen}
}

var errCircuitOpen = errors.New("its circuit is open after too many failures")

// tryTarget is all that one call does to one target: one verdict for its circuit, whatever panics.
func (c *call) tryTarget() (last outcome) {
	last.verdict = unknown
	defer func() { c.target.Breaker.record(c.Caller, last.verdict) }()
	last = c.try()
	return last
}

// try makes the first attempt plainly, and hands over to failsafe only when there is something to retry.
func (c *call) try() outcome {
	first := c.attempt()
	if !first.again {
		return first
	}
	return c.retry(first) // apart, so that only a retried call allocates what failsafe needs
}

// retry runs the further attempts of a target after a first one that may be tried again.
func (c *call) retry(first outcome) outcome {
	last, started := &first, false
	// The executor may drop a result when ctx ends, so the answer that is open is kept track of here.
	_, err := failsafe.With(c.policy).WithContext(c.ctx).Get(func() (*outcome, error) {
		if !started {
			started = true
			return last, nil
		}
		last.discard()
		next := c.attempt()
		last = &next
		return last, nil
	})
	if err == nil && c.ctx.Err() == nil || last.err != nil && !last.again {
		return *last
	}
	last.discard()
	return outcome{err: contextError(c.target.Provider.Name(), c.ctx), verdict: unknown}
}

// contextError says why ctx ended: our caller left, or its time was up.
func contextError(name string, ctx context.Context) *Error {
	kind := KindCancelled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		kind = KindTimeout
	}
	return &Error{Provider: name, Kind: kind, Err: context.Cause(ctx)}
}

// attempt asks the target once, and once more when it refused only what we had added to the request.
func (c *call) attempt() outcome {
	o := c.once()
	if o.resp != nil && !c.rebuilt && c.Rebuild != nil && (o.resp.Status == http.StatusBadRequest || o.resp.Status == http.StatusUnprocessableEntity) &&
		c.ctx.Err() == nil && c.Rebuild(c.target, o.resp) {
		c.rebuilt = true
		o.discard()
		return c.once()
	}
	return o
}

func (c *call) once() outcome {
	start := c.o.Now()
	var o outcome
	o.resp, o.err = c.do()
	end := c.o.Now()
	status := 0
	if o.resp != nil {
		status = o.resp.Status
		if c.Accept != nil && status >= 200 && status < 300 {
			if o.err = c.accept(o.resp); o.err != nil {
				o.discard()
				o.resp = nil
			}
		}
	}
	c.judge(&o, end)
	if c.Observe != nil {
		c.Observe(AttemptResult{
			Provider: c.target.Provider.Name(), Model: c.target.Model, Start: start, Head: end.Sub(start), Err: o.err, Status: status, Asked: o.err == nil || asked(o.err),
		})
	}
	return o
}

func (c *call) accept(resp *Response) error {
	err := c.Accept(c.target, resp)
	if err == nil || isError(err) {
		return err
	}
	return &Error{Provider: c.target.Provider.Name(), Kind: KindProtocol, Err: err}
}

// asked reports whether a failure left the provider with the request.
func asked(err error) bool {
	e, _ := errors.AsType[*Error](err)
	return e != nil && e.Asked
}

func isError(err error) bool {
	_, ok := errors.AsType[*Error](err)
	return ok
}

// do keeps the contract where a provider breaks it: every error is a *Error.
func (c *call) do() (*Response, error) {
	if c.ctx.Err() != nil {
		return nil, contextError(c.target.Provider.Name(), c.ctx)
	}
	request := c.Build(c.target)
	if request == nil {
		return nil, &Error{Provider: c.target.Provider.Name(), Kind: KindRefused, Err: errors.New("no request was built for it")}
	}
	resp, err := c.target.Provider.Do(c.ctx, request)
	if err == nil {
		return resp, nil
	}
	if !isError(err) {
		err = &Error{Provider: c.target.Provider.Name(), Kind: KindProtocol, Err: err}
	}
	return nil, err
}

// judge decides what follows an attempt.
func (c *call) judge(o *outcome, now time.Time) {
	if o.err == nil {
		c.judgeStatus(o, now)
		return
	}
	var e *Error
	_ = errors.As(o.err, &e) // do made sure
	if e.Kind == KindCancelled || c.ctx.Err() != nil {
		o.verdict = unknown
		return
	}
	o.fallback = true
	if e.Kind == KindRefused {
		return // our own rule: it says nothing about the provider
	}
	o.verdict = sick
	if e.Kind == KindConnect && c.connects > 0 {
		c.connects--
		o.again, o.wait = e.RetryAfter <= c.o.MaxRetryAfter, e.RetryAfter
	}
}

// statusOverloaded is Anthropic's for a service that is too busy, not a caller that is.
const statusOverloaded = 529

func (c *call) judgeStatus(o *outcome, now time.Time) {
	switch o.resp.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		o.fallback = true // our credential there is bad: another try is pointless, another provider is not
		return
	case http.StatusTooManyRequests:
		o.fallback = true // busy is not broken: a healthy verdict
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, statusOverloaded:
		o.fallback, o.verdict = true, sick
	default:
		return
	}
	if c.statuses == 0 || o.resp.Header.Get("X-Should-Retry") == "false" || c.ctx.Err() != nil {
		return
	}
	c.statuses--
	o.wait, _ = RetryAfter(o.resp.Header, now)
	o.again = o.wait <= c.o.MaxRetryAfter
}
