package limits

import "sync/atomic"

// stats are figures of one process.
type stats struct {
	exchanges, failed atomic.Int64
	refusals          [5]atomic.Int64 // by measure
}

func (s *stats) refused(r *rule) {
	for i, m := range Measures() {
		if m == r.Measure {
			s.refusals[i].Add(1)
		}
	}
}

// Stats are what an Enforcer has done since the process began.
type Stats struct {
	Exchanges, Failed int64             // with what replicas share
	Refusals          map[Measure]int64 // of calls, by what was limited
	Leases            int64             // open now
}

// Stats reads the figures.
func (e *Enforcer) Stats() Stats {
	out := Stats{Exchanges: e.stats.exchanges.Load(), Failed: e.stats.failed.Load(), Refusals: map[Measure]int64{}}
	for i, m := range Measures() {
		out.Refusals[m] = e.stats.refusals[i].Load()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	out.Leases = int64(len(e.active))
	return out
}
