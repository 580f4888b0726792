package limits

import (
	"context"
	"time"
)

const (
	leaseLife  = 30 * time.Second       // a holder that is silent for so long counts as gone
	placesLife = 10 * time.Second       // … and its places among what runs at a time are free
	dryPause   = 100 * time.Millisecond // between two questions for what was not there
	grabTries  = 8                      // others may take what was granted
)

// more reserves what the lease has not got, after asking for it. It waits its turn and for the answer, no longer than Patience. It returns the pot that it
// took from, which is another one when p was dropped meanwhile.
func (e *Enforcer) more(ctx context.Context, r *rule, p *pot, subject string, n int64) (*lease, *pot, error) {
	if why := p.parched(n, e.o.Clock()); why != nil {
		e.stats.refused(r)
		return nil, p, why.err
	}
	if n > r.Amount+r.offOf(subject, 0) && !r.Soft {
		e.stats.refused(r)
		return nil, p, r.tooLarge(n).err
	}
	ctx, cancel := context.WithTimeout(ctx, e.o.Patience)
	defer cancel()
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return nil, p, e.unavailable(ctx.Err(), r)
	}
	for p.dead {
		<-p.turn
		p = r.each.get(subject)
		p.turn <- struct{}{} // the other's turn is given back by the deferred function
	}
	l, err := e.grab(ctx, r, p, n)
	return l, p, err
}

// grab reserves n of the present lease, which grows as it must. The caller has the turn.
func (e *Enforcer) grab(ctx context.Context, r *rule, p *pot, n int64) (*lease, error) {
	now := e.o.Clock()
	l := p.roll(r, now, e.slots)
	e.activate(p, r, now)
	if r.Soft {
		l.force(n)
		return l, nil
	}
	for range grabTries {
		if l.take(n) {
			return l, nil
		}
		if why := p.parched(n, now); why != nil { // somebody asked while this call waited its turn
			e.stats.refused(r)
			return nil, why.err
		}
		why, err := e.grow(ctx, r, l, n, now)
		if err != nil {
			return nil, e.unavailable(err, r)
		}
		if why != nil {
			e.stats.refused(r)
			return nil, why.err
		}
	}
	return nil, r.waits().err
}

func (e *Enforcer) activate(p *pot, r *rule, now time.Time) {
	p.warmed = now
	e.mu.Lock()
	defer e.mu.Unlock()
	e.active[p] = r
}

// grow asks for at least what n needs. why is the refusal when there is not as much.
func (e *Enforcer) grow(ctx context.Context, r *rule, l *lease, n int64, now time.Time) (why *refusal, err error) {
	p := l.pot
	need := max(1, n-max(0, l.left.Load()))
	most := max(need, r.Amount/16)
	p.chunk = min(max(2*p.chunk, 4*n, r.Amount/1024), most)
	e.stats.exchanges.Add(1)
	m := lack{n: n, need: need, want: max(need, p.chunk), now: now}
	switch {
	case r.Budget():
		return e.borrow(ctx, r, l, m)
	case r.Rate():
		return e.pour(ctx, r, l, m)
	default:
		return e.stretch(ctx, r, l, m)
	}
}

// draw is what the holder says of a lease.
func (e *Enforcer) draw(r *rule, p *pot, l *lease, now time.Time) Draw {
	used := max(0, l.used.Load())
	d := Draw{
		Project: p.project, Limit: p.id, Subject: p.subject, Holder: e.holder, Window: l.start, From: l.from, Amount: r.Amount,
		Room: r.Amount + r.offOf(p.subject, l.from), Base: max(l.granted, l.owed()), Used: used, Expires: now.Add(leaseLife).UnixMicro(),
	}
	if r.Soft {
		d.Base = l.owed()
	}
	return d
}

// lack is what a lease has not got.
type lack struct {
	n          int64 // what a call asks for
	need, want int64 // more
	now        time.Time
}

// borrow leases more of a budget.
func (e *Enforcer) borrow(ctx context.Context, r *rule, l *lease, m lack) (*refusal, error) {
	d := e.draw(r, l.pot, l, m.now)
	d.Need, d.Want = m.need, m.want
	l.asked = true
	got, err := e.o.Bank.Exchange(ctx, []Draw{d})
	if err != nil {
		e.stats.failed.Add(1)
		return nil, err
	}
	l.heard(d, got[0])
	if got[0].Granted > 0 {
		l.grow(got[0].Granted + d.Base - l.granted)
		return nil, nil
	}
	why := r.waits()
	if left := d.Room - got[0].Used; left < m.n {
		why = r.spent(r.WindowAt(m.now), m.now)
	}
	l.pot.dries(max(0, m.n-1), m.now, why, dryPause)
	return why, nil
}

// heard notes what an exchange said.
func (l *lease) heard(d Draw, got Drawn) {
	l.told, l.spent, l.charged = d.Used, got.Used, got.Charged
}

// pour takes from a rate's bucket.
func (e *Enforcer) pour(ctx context.Context, r *rule, l *lease, m lack) (*refusal, error) {
	p := l.pot
	var got, room int64
	err := e.counted(ctx, func(ctx context.Context, c Counters) (err error) {
		got, room, err = c.Take(ctx, p.counter(), Bucket{PerMinute: r.Amount, Want: m.want, Need: m.need, Now: m.now})
		return err
	})
	if err != nil {
		return nil, err
	}
	p.room.Store(room)
	p.roomAt.Store(m.now.UnixNano())
	if got == 0 {
		return r.reached(r.refill(m.need - room)), nil
	}
	l.grow(got)
	return nil, nil
}

// pourBack gives what nobody used back to a rate's bucket.
func (e *Enforcer) pourBack(ctx context.Context, r *rule, p *pot, n int64, now time.Time) {
	_ = e.counted(ctx, func(ctx context.Context, c Counters) error {
		_, room, err := c.Take(ctx, p.counter(), Bucket{PerMinute: r.Amount, Want: -n, Now: now})
		if err == nil {
			p.room.Store(room)
			p.roomAt.Store(now.UnixNano())
		}
		return err
	})
}

// stretch takes places among what runs at a time.
func (e *Enforcer) stretch(ctx context.Context, r *rule, l *lease, m lack) (*refusal, error) {
	var got int64
	err := e.counted(ctx, func(ctx context.Context, c Counters) (err error) {
		got, err = c.Hold(ctx, l.pot.counter(), Stretch{
			Holder: e.holder, Limit: r.Amount, Base: l.granted, Need: m.need, Want: m.want, Now: m.now, For: placesLife,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	if got == 0 {
		return r.reached(time.Second), nil
	}
	l.grow(got)
	return nil, nil
}

// counter is the name of a pot among counters.
func (p *pot) counter() string { return p.id + "\x00" + p.subject }

// counted asks the first counters that answer; none does: this process counts alone.
func (e *Enforcer) counted(ctx context.Context, ask func(context.Context, Counters) error) error {
	for _, c := range e.o.Counters {
		if ask(ctx, c) == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		e.stats.failed.Add(1)
	}
	return ask(ctx, e.local)
}
