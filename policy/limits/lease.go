package limits

import (
	"sync/atomic"
	"time"
)

// lease is what this process may spend of one limit without asking anybody: it was charged where all replicas see it before it is spent here. At rest,
// granted is left + held + used. Calls take and settle without a lock.
type lease struct {
	pot   *pot
	start int64 // of its window: microseconds since 1970
	from  int64 // the earliest window that counts with it
	until int64 // the window's end, nanoseconds since 1970; 0: never

	left *atomic.Int64 // below zero when calls cost more than was reserved for them
	used *atomic.Int64 // by calls that have ended
	held *atomic.Int64 // by calls under way

	slot    *slot // where used and held outlive this process; nil: nowhere
	granted int64 // all that was granted so far. This and what follows is under pot.turn
	asked   bool  // granted may stand in the database
	told    int64 // used, as it was told last
	toldAt  time.Time
	closed  bool
	spent   int64    // of all replicas, as it was heard last
	charged int64    // … with what they hold
	before  [2]int64 // used and held, at the tick before
	quiet   int      // ticks without a change
}

func newLease(p *pot, w Window, s *slot) *lease {
	l := &lease{pot: p, start: w.Key(), from: w.From.UnixMicro(), until: w.End.UnixNano(), slot: s, left: new(atomic.Int64)}
	if s != nil {
		l.used, l.held = s.counters()
	} else {
		l.used, l.held = new(atomic.Int64), new(atomic.Int64)
	}
	return l
}

// take reserves n, or reports that there is not as much left. What is held is counted first: whoever dies between the two has spent too much
// rather than too little.
func (l *lease) take(n int64) bool {
	l.held.Add(n)
	if l.left.Add(-n) >= 0 {
		return true
	}
	l.left.Add(n)
	l.held.Add(-n)
	return false
}

// force reserves n whether or not it is left.
func (l *lease) force(n int64) {
	l.held.Add(n)
	l.left.Add(-n)
}

// settle ends a reservation of a call that came to spent.
func (l *lease) settle(reserved, spent int64) {
	spent = min(max(spent, 0), MaxAmount)
	l.used.Add(spent)
	l.held.Add(-reserved)
	l.left.Add(reserved - spent)
}

// grow adds what was granted.
func (l *lease) grow(n int64) {
	l.granted += n
	l.left.Add(n)
}

// shrink takes what nobody has reserved out of the lease, but for keep, and returns how much that is: it can be given back.
func (l *lease) shrink(keep int64) int64 {
	for {
		left := l.left.Load()
		give := left - keep
		if give <= 0 {
			return 0
		}
		if l.left.CompareAndSwap(left, keep) {
			l.granted -= give
			return give
		}
	}
}

// owed is what has been used and is held: no lease may be smaller.
func (l *lease) owed() int64 { return max(0, l.used.Load()) + max(0, l.held.Load()) }

// idle reports whether nothing has happened since it was asked last.
func (l *lease) idle() bool {
	now := [2]int64{l.used.Load(), l.held.Load()}
	same := now == l.before
	l.before = now
	if l.quiet++; !same {
		l.quiet = 0
	}
	return same
}

// close ends a lease whose spend stands in the database.
func (l *lease) close() {
	l.closed = true
	l.slot.release()
}
