package main

import (
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy/limits"
	"github.com/promptgate/promptgate/policy/notices"
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
	hook, err := newWebhook(a.cfg.Webhook)
	if err != nil {
		return nil, err
	}
	a.warner = &limits.Warner{Warnings: s.limits, Log: a.log, Clock: time.Now}
	a.teller = &notices.Teller{Notices: s.keys, Days: a.cfg.Access.ExpiryDays, Log: a.log, Clock: time.Now}
	if hook != nil {
		a.warner.Deliver, a.teller.Deliver = hook.warn, hook.tell
	}
	return e, metrics.RegisterLimits(reg, func() metrics.LimitStats { return limitStats(e.Stats(), a.warner.Stats()) })
}

func limitStats(s limits.Stats, w limits.WarnerStats) metrics.LimitStats {
	out := metrics.LimitStats{
		Exchanges: s.Exchanges, Failed: s.Failed, Leases: s.Leases, Refusals: map[string]int64{},
		Warnings: map[string]int64{"noted": w.Noted, "delivered": w.Delivered, "failed": w.Failed, "dropped": w.Dropped},
	}
	for m, n := range s.Refusals {
		out.Refusals[string(m)] = n
	}
	return out
}
