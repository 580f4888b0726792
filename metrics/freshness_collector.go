package metrics

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// RegisterFreshness registers two gauges that are read when Prometheus asks: the last revision that this replica applied, and the seconds
// since the database last confirmed it (not there before the first confirmation).
func RegisterFreshness(reg prometheus.Registerer, revision func() int64, confirmedAt func() time.Time, clock func() time.Time) error {
	if revision == nil || confirmedAt == nil || clock == nil {
		return errors.New("metrics: the revision, the time of its confirmation and a clock are required")
	}
	return reg.Register(&freshnessCollector{
		revision: revision, confirmedAt: confirmedAt, clock: clock,
		applied: prometheus.NewDesc("promptgate_registry_revision", "The last revision of the registry that this replica applied.", nil, nil),
		age:     prometheus.NewDesc("promptgate_registry_age_seconds", "Seconds since the database last confirmed that revision.", nil, nil),
	})
}

type freshnessCollector struct {
	revision     func() int64
	confirmedAt  func() time.Time
	clock        func() time.Time
	applied, age *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *freshnessCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.applied
	ch <- c.age
}

// Collect implements prometheus.Collector.
func (c *freshnessCollector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(c.applied, prometheus.GaugeValue, float64(c.revision()))
	if at := c.confirmedAt(); !at.IsZero() {
		ch <- prometheus.MustNewConstMetric(c.age, prometheus.GaugeValue, max(0, c.clock().Sub(at).Seconds()))
	}
}
