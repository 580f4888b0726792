package fault

import (
	"sync"
	"time"
)

// Repeats decides which of many equal failures is worth a log line. What is unavailable fails every request that needs it, with one
// cause: the first tells all, and the part that is responsible logs the change of state. The zero value is ready, and safe for
// concurrent use.
type Repeats struct {
	mu     sync.Mutex
	last   time.Time
	hidden int64
}

// RepeatsEvery is how often an outage that goes on is logged again. Its beginning and its end are logged by the part that is responsible.
const RepeatsEvery = 10 * time.Minute

// Worth reports whether a failure with this code is to be logged now, and how many equal ones were not since the last that was. Only
// RegistryUnavailable is ever held back: all else has causes of its own.
func (r *Repeats) Worth(code Code, now time.Time) (hidden int64, ok bool) {
	if code != RegistryUnavailable {
		return 0, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.last.IsZero() && now.Sub(r.last) < RepeatsEvery {
		r.hidden++
		return 0, false
	}
	hidden, r.hidden, r.last = r.hidden, 0, now
	return hidden, true
}
