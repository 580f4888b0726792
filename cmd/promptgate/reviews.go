package main

import "github.com/promptgate/promptgate/metrics"

// accessStats are figures of what is held in projects, read when Prometheus asks.
func (a *App) accessStats() metrics.AccessStats {
	s := a.stores.uses.Stats()
	return metrics.AccessStats{Uses: map[string]int64{"kept": s.Kept, "failed": s.Failed, "dropped": s.Dropped}}
}
