package gateway

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy/limits"
)

// A background response runs on at its provider after its request has ended, and costs what it costs whoever fetches it. Its call is recorded as running
// and, once the provider says that it has ended, as what it came to. The replica that began it asks; one that a replica left behind is
// taken over by all others, and whichever records it first is the one that counts.

const (
	mostRunPoll  = 30 * time.Second // between two questions about one run
	mostPoll     = time.Minute      // … about one batch
	runScan      = 30 * time.Second // between two looks for runs that nobody asks about
	abandoned    = 2 * time.Minute  // a run that is older may have been left behind
	longestRun   = 24 * time.Hour   // then nobody asks any more
	longestBatch = 48 * time.Hour   // a batch has a day, and what it takes to end
	runsAtOnce   = 8                // questions to one provider
	mostAdopted  = 10_000           // runs that one look takes over
	runPatience  = 30 * time.Second // with one question
	mostRunBytes = 64 << 20         // of an answer to one
)

// runs are those that this replica asks about.
type runs struct {
	mu  sync.Mutex
	all map[string]*run // by the call's id
}

type run struct {
	call metrics.Call
	next time.Time
	wait time.Duration
	busy bool
	held limits.Set // money and tokens that it may come to; under runs.mu
}

// hold keeps what is reserved for a run until it has ended. Of one that nobody asks about any more, what was reserved is what is known.
func (r *runs) hold(id string, held limits.Set) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if one := r.all[id]; one != nil {
		one.held = held
		return
	}
	held.Settle(limits.Spent{})
}

// heldOf takes it out again.
func (r *runs) heldOf(one *run) limits.Set {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := one.held
	one.held = limits.Set{}
	return held
}

// keepRunning makes a call's record that of one that runs on, if it does: what it comes to is not known yet.
func (c *call) keepRunning() {
	running := c.ans.said.Running
	if c.ans.streamed && c.ans.scan != nil {
		said := c.ans.scan.Result()
		running = said.ID != "" && !said.Done && !said.Failed()
	}
	if !c.out.runsOn || !running || c.rec.CompletionID == "" {
		return
	}
	c.rec.Outcome, c.rec.ErrorCode, c.rec.CostMicros = metrics.OutcomeRunning, "", nil
	c.rec.Tokens = c.guessed(metrics.Tokens{Input: c.estimatedInput(), Estimated: true})
	if n := len(c.rec.Attempts); n > 0 {
		last := &c.rec.Attempts[n-1]
		last.Outcome, last.Tokens, last.CostMicros = metrics.OutcomeRunning, metrics.Tokens{}, nil
	}
}

// follow begins to ask about a run.
func (g *Gateway) follow(call *metrics.Call) {
	r := &run{call: *call, wait: g.opts.RunPoll, next: g.deps.Clock().Add(g.opts.RunPoll)}
	r.call.Attempts = append([]metrics.Attempt(nil), call.Attempts...)
	g.runs.add(r)
}

func (r *runs) add(one *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[string]*run{}
	}
	if r.all[one.call.ID] == nil {
		r.all[one.call.ID] = one
	}
}

// due takes the runs that are to be asked about now.
func (r *runs) due(now time.Time) (due []*run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.all {
		if !one.busy && !now.Before(one.next) {
			one.busy = true
			due = append(due, one)
		}
	}
	return due
}

// asked ends a question about a run: over says that there will be no other.
func (r *runs) asked(one *run, over bool, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if over {
		delete(r.all, one.call.ID)
		return
	}
	most := mostRunPoll
	if isBatch(&one.call) {
		most = mostPoll
	}
	one.busy, one.wait = false, min(2*one.wait, most)
	one.next = now.Add(one.wait)
}

// isBatch reports whether a run is a batch; any other is a response.
func isBatch(call *metrics.Call) bool { return call.Endpoint == wire.Batches{}.Endpoint() }

// runAPI is the shape in which a provider tells what became of a run.
func runAPI(call *metrics.Call) wire.API {
	if isBatch(call) {
		return wire.Batches{}
	}
	return wire.Responses{}
}

// Follow asks providers about the background responses and batches that they work on, and records what those come to, until ctx ends. Call it once, in a
// goroutine of its own; what it leaves behind, the next start or another replica goes on with.
func (g *Gateway) Follow(ctx context.Context) error {
	if g.deps.Runs == nil {
		return nil
	}
	tick := time.NewTicker(min(g.opts.RunPoll, time.Second))
	defer tick.Stop()
	var asking sync.WaitGroup
	defer asking.Wait()
	places := map[[2]string]chan struct{}{} // of each provider: one that hangs keeps no other's runs waiting
	began := g.deps.Clock()                 // what began before is another's, or an earlier life's, whose spool may still be on its way
	look, pause := began, min(g.opts.RunPoll, time.Second)
	for ctx.Err() == nil {
		if now := g.deps.Clock(); !now.Before(look) {
			before := now.Add(-abandoned)
			if before.Before(began) {
				before = began
			}
			g.adopt(ctx, before)
			look, pause = now.Add(pause), min(2*pause, runScan)
		}
		for _, one := range g.runs.due(g.deps.Clock()) {
			keeper := [2]string{one.call.Project, one.call.Provider}
			if places[keeper] == nil {
				places[keeper] = make(chan struct{}, runsAtOnce)
			}
			place := places[keeper]
			asking.Go(func() {
				select {
				case place <- struct{}{}:
				case <-ctx.Done():
					return
				}
				defer func() { <-place }()
				over := g.ask(ctx, one)
				g.runs.asked(one, over, g.deps.Clock())
			})
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

// adopt takes over the runs that began before a moment.
func (g *Gateway) adopt(ctx context.Context, before time.Time) {
	found, err := g.deps.Runs.Runs(ctx, before, mostAdopted)
	if err != nil {
		if ctx.Err() == nil {
			g.log.WarnContext(ctx, "background responses of other replicas cannot be looked for", "error", err)
		}
		return
	}
	for i := range found {
		g.runs.add(&run{call: found[i], wait: g.opts.RunPoll})
	}
}

// ask asks a provider about one run, and records it once it has ended. over says that nothing is left to be asked.
func (g *Gateway) ask(ctx context.Context, one *run) (over bool) {
	defer func() {
		if r := recover(); r != nil {
			g.notePanic("background", r)
		}
	}()
	call := &one.call
	target, err := g.deps.Router.Provider(ctx, call.Project, call.Provider)
	var said wire.Completion
	known := false
	if err == nil { // else it is disabled, perhaps for a while
		said, known, err = g.stateOf(ctx, target, call)
	}
	if err != nil || known && said.Running {
		longest := longestRun
		if isBatch(call) {
			longest = longestBatch
		}
		if g.deps.Clock().Sub(call.Start) < longest || ctx.Err() != nil {
			return false
		}
		said, known = wire.Completion{}, false
	}
	return g.concludeRun(ctx, one, target, &said, known)
}

// stateOf asks for the state of a run. known is false when the provider has it no more; an error, when it may say more later.
func (g *Gateway) stateOf(ctx context.Context, t provider.Target, call *metrics.Call) (said wire.Completion, known bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, runPatience)
	defer cancel()
	if !plainID(call.CompletionID) {
		return said, false, nil
	}
	api := runAPI(call)
	res, err := t.Provider.Do(ctx, &provider.Request{
		API: api.Name(), Method: http.MethodGet, Endpoint: api.Endpoint() + "/" + call.CompletionID, CallID: call.ID,
	})
	if err != nil {
		return said, false, err
	}
	defer func() { _ = res.Body.Close() }()
	switch {
	case res.Status == http.StatusNotFound, res.Status == http.StatusGone:
		return said, false, nil
	case res.Status != http.StatusOK:
		return said, false, fault.New(fault.ProviderError, "The provider answered with status %d.", res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, mostRunBytes))
	if err != nil {
		return said, false, err
	}
	said, whole := api.ReadAnswer(body)
	if !whole || said.ID != call.CompletionID {
		return said, false, fault.New(fault.ProviderError, "The provider answered with something else.")
	}
	if isBatch(call) {
		g.adoptFiles(ctx, call, said.Items, body)
	}
	return said, true, nil
}

// concludeRun records what a run came to. What a provider that has lost it charged for it is what went in, as far as anybody knows.
func (g *Gateway) concludeRun(ctx context.Context, one *run, t provider.Target, said *wire.Completion, known bool) (over bool) {
	if g.deps.Recorder.Reserve() != nil {
		return false
	}
	defer g.deps.Recorder.Release()
	call := one.call
	call.Attempts = append([]metrics.Attempt(nil), one.call.Attempts...)
	call.Total = g.deps.Clock().Sub(call.Start)
	switch {
	case !known:
		call.Outcome, call.ErrorCode = metrics.OutcomeTruncated, string(fault.ProviderTruncated)
	case said.Finish == wire.BatchCancelled:
		call.Outcome = metrics.OutcomeCancelled
	case said.Finish == wire.BatchExpired:
		call.Outcome, call.ErrorCode = metrics.OutcomeTruncated, string(fault.ProviderTruncated)
	case said.Error != nil || said.Finish == wire.BatchFailed:
		call.Outcome, call.ErrorCode = metrics.OutcomeProvider, string(fault.ProviderError)
	default:
		call.Outcome = metrics.OutcomeOK
	}
	switch {
	case said.Usage.Reported:
		call.Tokens = said.Usage
	case isBatch(&call): // nobody knows
		said.Tier = wire.BatchTier
	default:
		call.Tokens.Output = int64(said.Bytes / bytesPerToken)
	}
	if micros, ok := g.costOf(&call, t.Prices, said, call.Tokens); ok {
		call.CostMicros = &micros
	}
	if n := len(call.Attempts); n > 0 {
		last := &call.Attempts[n-1]
		last.Outcome, last.Tokens, last.CostMicros, last.Total = call.Outcome, call.Tokens, call.CostMicros, call.Start.Add(call.Total).Sub(last.Start)
	}
	if err := g.deps.Recorder.RecordCall(ctx, &call); err != nil {
		g.deps.Events.count(eventRecordFailed)
		g.log.ErrorContext(ctx, "background response could not be recorded", "call", call.ID, "project", call.Project, "error", err)
		return false
	}
	held := g.runs.heldOf(one)
	held.Settle(spentBy(&call))
	g.meter.ObserveCall(&call)
	return true
}
