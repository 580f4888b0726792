package upstream

import (
	"sync"
	"time"
)

const (
	watchEvery = 5 * time.Millisecond  // between two looks, and
	watchEach  = 10 * time.Microsecond // so much longer for each exchange: many streams are looked at less often,
	watchMost  = 100 * time.Millisecond
)

// watch ends exchanges whose caller has left or whose time is up. It looks at all of them from one goroutine, which runs while there are any:
// a timer and a place in the caller's context for each cost more than the permission and the rendering of a call together. The price
// is that an end comes up to watchMost late.
type watch struct {
	mu      sync.Mutex
	first   *exchange
	count   int
	running bool
}

func (w *watch) add(e *exchange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.watched, e.after = true, w.first
	if w.first != nil {
		w.first.before = e
	}
	w.first = e
	w.count++
	if !w.running {
		w.running = true
		go w.run()
	}
}

// remove may be called more than once.
func (w *watch) remove(e *exchange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !e.watched {
		return
	}
	if e.before != nil {
		e.before.after = e.after
	} else {
		w.first = e.after
	}
	if e.after != nil {
		e.after.before = e.before
	}
	e.watched, e.before, e.after = false, nil, nil
	w.count--
}

// run ends by itself a moment after the last exchange did: the callers of exchanges are who waits for it.
func (w *watch) run() {
	type verdict struct {
		e   *exchange
		why error
	}
	var verdicts []verdict
	for {
		w.mu.Lock()
		if w.count == 0 {
			w.running = false
			w.mu.Unlock()
			return
		}
		now := time.Now()
		for e := w.first; e != nil; e = e.after {
			if why := e.overdue(now); why != nil {
				verdicts = append(verdicts, verdict{e, why})
			}
		}
		pause := min(watchEvery+time.Duration(w.count)*watchEach, watchMost)
		w.mu.Unlock()
		for _, v := range verdicts { // outside the lock: what ends may remove itself
			v.e.stop(v.why)
		}
		clear(verdicts)
		verdicts = verdicts[:0]
		time.Sleep(pause)
	}
}
