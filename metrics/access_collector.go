package metrics

import (
	"errors"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// AccessStats are figures of who may do what.
type AccessStats struct {
	Uses map[string]int64 // notes that something was used, by what became of them: kept, failed (each is tried again), dropped
}

type accessCollector struct {
	stats func() AccessStats
	uses  *prometheus.Desc
}

// RegisterAccess registers figures of access, read when Prometheus asks.
func RegisterAccess(reg prometheus.Registerer, stats func() AccessStats) error {
	if stats == nil {
		return errors.New("metrics: statistics of access are missing")
	}
	return reg.Register(&accessCollector{
		stats: stats,
		uses: prometheus.NewDesc("promptgate_access_uses_total",
			"Notes that a binding or key was used in a minute: kept, failed (a batch, which is tried again) or dropped.", []string{"result"}, nil),
	})
}

// Describe implements prometheus.Collector.
func (c *accessCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.uses }

// Collect implements prometheus.Collector.
func (c *accessCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	for _, result := range slices.Sorted(maps.Keys(s.Uses)) {
		ch <- prometheus.MustNewConstMetric(c.uses, prometheus.CounterValue, float64(s.Uses[result]), result)
	}
}
