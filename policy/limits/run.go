package limits

import (
	"context"
	"time"
)

const (
	tickEvery  = 200 * time.Millisecond
	tellEvery  = time.Second     // what was used, at most
	keepEvery  = 5 * time.Second // places that are held are said again
	dropAfter  = 10 * time.Minute
	tickTime   = 5 * time.Second
	mostDraws  = 200 // in one transaction
	lateClosed = 5 * time.Second

	quietBudget = 10 // ticks without a call until a lease is given back
	quietRate   = 5
)

// Run renews leases, gives back what is not used and tells what was, until ctx is done; then it gives back everything.
func (e *Enforcer) Run(ctx context.Context) error {
	again := make(chan struct{})
	go func() {
		defer close(again)
		e.again.Run(ctx, func(ctx context.Context, project string) { _, _ = e.load(ctx, project) })
	}()
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		e.inherit(ctx)
		select {
		case <-ctx.Done():
		case <-tick.C:
			e.tick(ctx, false)
		}
	}
	<-again
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lateClosed)
	defer cancel()
	e.tick(last, true)
	return e.slots.close()
}

// task is what a tick does with one lease, once its exchange was answered.
type task struct {
	pot   *pot
	lease *lease
	draw  Draw
	done  func(Drawn)
}

// tick looks at every lease. ending: all that can be given back is.
func (e *Enforcer) tick(ctx context.Context, ending bool) {
	ctx, cancel := context.WithTimeout(ctx, tickTime)
	defer cancel()
	e.mu.Lock()
	all := make(map[*pot]*rule, len(e.active))
	for p, r := range e.active {
		all[p] = r
	}
	e.mu.Unlock()
	var tasks []task
	var turns []*pot
	flush := func() {
		e.exchange(ctx, tasks)
		for _, p := range turns {
			e.prune(p, all[p])
			<-p.turn
		}
		tasks, turns = nil, nil
	}
	for p, r := range all {
		select {
		case p.turn <- struct{}{}:
		default: // a call exchanges it right now
			continue
		}
		now := e.present(r)
		if !now.Budget() {
			e.recount(ctx, now, p, ending)
			e.prune(p, now)
			<-p.turn
			continue
		}
		turns = append(turns, p)
		tasks = e.review(tasks, now, p, ending)
		if len(tasks) >= mostDraws || len(turns) >= 8*mostDraws {
			flush()
		}
	}
	flush()
}

// present is the rule as it is now: it may have been changed since its pot became active.
func (e *Enforcer) present(r *rule) *rule {
	set, ok := e.rules.Get(r.Project)
	if !ok {
		return r
	}
	if now := set.byID(r.ID); now != nil {
		return now
	}
	return r
}

func (e *Enforcer) exchange(ctx context.Context, tasks []task) {
	if len(tasks) == 0 {
		return
	}
	draws := make([]Draw, len(tasks))
	for i := range tasks {
		draws[i] = tasks[i].draw
	}
	e.stats.exchanges.Add(1)
	answers, err := e.o.Bank.Exchange(ctx, draws)
	if err != nil {
		e.stats.failed.Add(1)
		if !e.down.Swap(true) {
			e.o.Log.Warn("leases of budgets cannot be renewed: calls go on for as long as they last", "error", err)
		}
		return
	}
	if e.down.Swap(false) {
		e.o.Log.Info("leases of budgets are renewed again")
	}
	for i := range tasks {
		tasks[i].done(answers[i])
	}
}

// review says what is to be exchanged of a budget's leases. The caller has the turn.
func (e *Enforcer) review(tasks []task, r *rule, p *pot, ending bool) []task {
	now := e.o.Clock()
	if l := p.cur.Load(); l != nil {
		over := now.UnixNano() >= l.until
		if (over || ending) && p.cur.CompareAndSwap(l, nil) {
			p.old = append(p.old, l)
		} else if t, ok := e.renew(r, p, l, now); ok {
			tasks = append(tasks, t)
		}
	}
	for _, l := range p.old {
		l.shrink(0)
		d := e.draw(r, p, l, now)
		if d.Close = l.held.Load() == 0; !d.Close && l.told == d.Used {
			continue
		}
		if d.Close && !l.asked && d.Used == 0 { // it was never anywhere but here
			l.close()
			continue
		}
		l.asked = true
		if d.Close && r.Soft && l.told != d.Used {
			d.Close = false // what it used stands there before it ends
		}
		tasks = append(tasks, task{p, l, d, func(got Drawn) {
			l.heard(d, got)
			if d.Close {
				l.close()
			}
		}})
	}
	return tasks
}

// renew is for the lease that calls take from: more before it is spent, less when it is not used, and what was used.
func (e *Enforcer) renew(r *rule, p *pot, l *lease, now time.Time) (task, bool) {
	idle := l.idle()
	if !idle {
		p.warmed = now
	}
	gave := int64(0)
	switch {
	case r.Soft:
	case idle && l.quiet >= quietBudget:
		p.chunk /= 2
		gave = l.shrink(0)
	}
	d := e.draw(r, p, l, now)
	left := l.left.Load()
	switch {
	case r.Soft, idle:
	case left < 0: // calls came to more than was reserved for them
		d.Want = p.chunk
	case p.chunk > 0 && left < p.chunk/2:
		d.Want = p.chunk
	}
	tells := d.Used != l.told && now.Sub(l.toldAt) >= tellEvery
	if d.Want == 0 && gave == 0 && !tells && now.Sub(l.toldAt) < leaseLife/3 {
		return task{}, false
	}
	if !l.asked && d.Base == 0 && d.Want == 0 {
		return task{}, false
	}
	l.asked = true
	l.toldAt = now
	return task{p, l, d, func(got Drawn) {
		l.heard(d, got)
		if !r.Soft {
			l.grow(got.Granted + d.Base - l.granted)
		}
	}}, true
}

// prune forgets leases that have ended, and a pot that nobody used for long.
func (e *Enforcer) prune(p *pot, r *rule) {
	open := p.old[:0]
	for _, l := range p.old {
		if !l.closed {
			open = append(open, l)
		}
	}
	clear(p.old[len(open):])
	p.old = open
	if len(open) > 0 || e.o.Clock().Sub(p.warmed) < dropAfter {
		return
	}
	l := p.cur.Load()
	if l != nil && (l.held.Load() != 0 || r.Soft && l.told != l.used.Load()) {
		return
	}
	if l != nil && p.cur.CompareAndSwap(l, nil) {
		p.old = append(p.old, l)
		return // it is closed at the next tick
	}
	e.mu.Lock()
	delete(e.active, p)
	e.mu.Unlock()
	if p.in != nil {
		p.dead = true
		p.in.drop(p)
	}
}

// recount keeps a rate's or a place's lease. The caller has the turn.
func (e *Enforcer) recount(ctx context.Context, r *rule, p *pot, ending bool) {
	now := e.o.Clock()
	l := p.cur.Load()
	if l == nil {
		return
	}
	idle := l.idle()
	if !idle {
		p.warmed = now
	}
	if r.Rate() {
		if l.quiet >= quietRate || ending {
			if give := l.shrink(0); give > 0 {
				e.pourBack(ctx, r, p, give, now)
			}
		}
		return
	}
	gave := int64(0)
	if idle || ending {
		gave = l.shrink(0)
	}
	if gave > 0 || l.granted > 0 && now.Sub(l.toldAt) >= keepEvery {
		l.toldAt = now
		_, _ = e.stretch(ctx, r, l, lack{now: now})
	}
}
