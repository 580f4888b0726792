package metrics

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Reads counts where calls found the prompts and keys that they need: in memory, in Redis or in the database. It is safe for concurrent use.
type Reads struct {
	slower *prometheus.CounterVec // those from Redis and the database
	desc   *prometheus.Desc
	memory func() map[string]uint64
}

// NewReads makes the counters, which Register shows.
func NewReads() *Reads {
	const name, help = "promptgate_resolver_reads_total",
		"Reads of prompts (project, handle, label, version) and keys by the tier that answered: memory, redis, database (its failures included)."
	labels := []string{"kind", "tier"}
	return &Reads{
		slower: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels),
		desc:   prometheus.NewDesc(name, help, labels, nil),
	}
}

// Redis counts a read that Redis answered.
func (r *Reads) Redis(kind string) { r.slower.WithLabelValues(kind, "redis").Inc() }

// Database counts a read that the database was asked for.
func (r *Reads) Database(kind string) { r.slower.WithLabelValues(kind, "database").Inc() }

// Register registers the counters. memory tells the reads that memory answered so far, by kind: it is asked by each scrape, so that counting
// costs calls nothing.
func (r *Reads) Register(reg prometheus.Registerer, memory func() map[string]uint64) error {
	if memory == nil {
		return errors.New("metrics: the reads from memory are required")
	}
	r.memory = memory
	return reg.Register(r)
}

// Describe implements prometheus.Collector.
func (r *Reads) Describe(ch chan<- *prometheus.Desc) { ch <- r.desc }

// Collect implements prometheus.Collector.
func (r *Reads) Collect(ch chan<- prometheus.Metric) {
	r.slower.Collect(ch)
	for kind, n := range r.memory() {
		ch <- prometheus.MustNewConstMetric(r.desc, prometheus.CounterValue, float64(n), kind, "memory")
	}
}
