package metrics

import (
	"errors"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// LimitStats are what limits did in this process.
type LimitStats struct {
	Exchanges, Failed int64            // with what replicas share
	Leases            int64            // open now
	Refusals          map[string]int64 // of calls, by measure: a bounded set
	Warnings          map[string]int64 // of budgets, by what became of them: noted, delivered, failed, dropped
}

type limitsCollector struct {
	stats                                         func() LimitStats
	exchanges, failed, leases, refusals, warnings *prometheus.Desc
}

// RegisterLimits registers figures of limits, read when Prometheus asks.
func RegisterLimits(reg prometheus.Registerer, stats func() LimitStats) error {
	if stats == nil {
		return errors.New("metrics: statistics of limits are missing")
	}
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("promptgate_limit_"+name, help, labels, nil)
	}
	return reg.Register(&limitsCollector{
		stats:     stats,
		exchanges: d("lease_exchanges_total", "Times that leases of limits were taken, renewed or given back: in the database, or in Redis."),
		failed:    d("lease_failures_total", "Exchanges of leases that failed, each tried again."),
		leases:    d("leases", "Leases of limits that this replica holds."),
		refusals:  d("refusals_total", "Calls that a limit refused, by what it counts.", "measure"),
		warnings:  d("warnings_total", "Warnings that budgets passed a threshold: noted, and delivered, failed (each is tried again) or dropped.", "result"),
	})
}

// Describe implements prometheus.Collector.
func (c *limitsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.exchanges, c.failed, c.leases, c.refusals, c.warnings} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *limitsCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	ch <- prometheus.MustNewConstMetric(c.exchanges, prometheus.CounterValue, float64(s.Exchanges))
	ch <- prometheus.MustNewConstMetric(c.failed, prometheus.CounterValue, float64(s.Failed))
	ch <- prometheus.MustNewConstMetric(c.leases, prometheus.GaugeValue, float64(s.Leases))
	for _, measure := range slices.Sorted(maps.Keys(s.Refusals)) {
		ch <- prometheus.MustNewConstMetric(c.refusals, prometheus.CounterValue, float64(s.Refusals[measure]), measure)
	}
	for _, result := range slices.Sorted(maps.Keys(s.Warnings)) {
		ch <- prometheus.MustNewConstMetric(c.warnings, prometheus.CounterValue, float64(s.Warnings[result]), result)
	}
}
