package sharedcache

import "github.com/prometheus/client_golang/prometheus"

type meter struct {
	reads *prometheus.CounterVec
	open  prometheus.Gauge
	lag   prometheus.Histogram
}

func newMeter(reg prometheus.Registerer) (*meter, error) {
	m := &meter{
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "promptgate_shared_cache_reads_total",
			Help: "Reads of the cache in Redis by kind of entry and result: hit, miss, tombstone, old, forged, error, skipped.",
		}, []string{"kind", "result"}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "promptgate_shared_cache_breaker_open", Help: "1 while Redis is left alone because it does not answer as it should.",
		}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "promptgate_invalidation_lag_seconds", Help: "From a change's commit until this replica has applied it.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.reads, m.open, m.lag} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *meter) read(kind, result string) { m.reads.WithLabelValues(kind, result).Inc() }
