package main

import "github.com/promptgate/promptgate/metrics"

// accessStats are figures of what is held in projects, read when Prometheus asks.
func (a *App) accessStats() metrics.AccessStats {
	s, n := a.stores.uses.Stats(), a.teller.Stats()
	return metrics.AccessStats{
		Uses:    map[string]int64{"kept": s.Kept, "failed": s.Failed, "dropped": s.Dropped},
		Notices: map[string]int64{"delivered": n.Delivered, "failed": n.Failed, "dropped": n.Dropped},
		Keys:    n.Keys, Bindings: n.Bindings, Reviews: n.Reviews, Lines: n.Undecided,
	}
}
