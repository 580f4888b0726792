package limits

import (
	"sync/atomic"
	"time"
)

// pot is what this process has of one limit, or of one subject's of a default.
type pot struct {
	id, project, subject string
	in                   *pots // of a default

	cur atomic.Pointer[lease] // of the present window; calls take from it

	turn   chan struct{} // holds one token while somebody exchanges the lease
	old    []*lease      // of windows that are over, while something of them is open. This and what follows is under turn
	dead   bool          // it was dropped: whoever still has it finds the one that took its place
	chunk  int64         // what is asked for beyond what is needed: it follows the use
	warmed time.Time     // when it was last used

	dry     atomic.Int64 // until then, nanoseconds since 1970, nobody is asked for more than dryRoom
	dryRoom atomic.Int64
	dryWhy  atomic.Pointer[refusal]

	room   atomic.Int64 // of a rate: what was left in the bucket beside the lease
	roomAt atomic.Int64
}

func newPot(l *Limit, subject string, in *pots) *pot {
	return &pot{id: l.ID, project: l.Project, subject: subject, in: in, turn: make(chan struct{}, 1)}
}

// lease is the one that calls take from at a moment, nil when there is none.
func (p *pot) lease(now time.Time) *lease {
	l := p.cur.Load()
	if l == nil || l.until != 0 && now.UnixNano() >= l.until {
		return nil
	}
	return l
}

// parched is the refusal of a call that asks for more than there was a moment ago, nil when it may ask.
func (p *pot) parched(n int64, now time.Time) *refusal {
	if now.UnixNano() < p.dry.Load() && n > p.dryRoom.Load() {
		return p.dryWhy.Load()
	}
	return nil
}

func (p *pot) dries(room int64, now time.Time, why *refusal, pause time.Duration) {
	p.dryRoom.Store(room)
	p.dryWhy.Store(why)
	p.dry.Store(now.Add(pause).UnixNano())
}

// roll is the lease of the present window; that of one which is over is put aside. Call with turn.
func (p *pot) roll(r *rule, now time.Time, slots *slots) *lease {
	l := p.lease(now)
	if l != nil {
		return l
	}
	if over := p.cur.Load(); over != nil {
		p.old = append(p.old, over)
	}
	var w Window
	if r.Budget() {
		w = r.WindowAt(now)
		l = newLease(p, w, slots.take(p, w.Key()))
	} else {
		l = newLease(p, w, nil)
		l.until = 0
	}
	p.cur.Store(l)
	return l
}
