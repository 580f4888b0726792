package main

import (
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy/limits"
)

// limiter is what enforces limits. A process on SQLite is alone and counts rates by itself; replicas share them in Redis, and without it, or while it is
// away, in the database.
func (a *App) limiter(reg *prometheus.Registry) (*limits.Enforcer, error) {
	s := a.stores
	o := limits.Options{
		Source: s.limits, Bank: s.limits, Feed: s.feed, Dir: filepath.Join(a.cfg.Data, "leases"), Log: a.log, Assumed: a.cfg.Limits.AssumedOutput,
	}
	if a.cfg.Postgres() {
		o.Counters = append(s.shared.counters(), s.limits)
	}
	e, err := limits.NewEnforcer(o)
	if err != nil {
		return nil, err
	}
	return e, metrics.RegisterLimits(reg, func() metrics.LimitStats {
		st := e.Stats()
		out := metrics.LimitStats{Exchanges: st.Exchanges, Failed: st.Failed, Leases: st.Leases, Refusals: map[string]int64{}}
		for m, n := range st.Refusals {
			out.Refusals[string(m)] = n
		}
		return out
	})
}
