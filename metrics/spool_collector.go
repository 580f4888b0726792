package metrics

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// SpoolStats is the state of a recorder's local spool.
type SpoolStats struct {
	Bytes, MaxBytes  int64   // waiting to be committed, and the bound
	Segments         int     // files
	OldestSeconds    float64 // age of the oldest record that waits; 0: none
	Records, Refused int64   // taken, and turned away because the spool or the disk was full
	Flushed          int64   // committed to the database
	Damaged          int64   // stretches that were unreadable or that the database rejected; their files are kept aside
	FlushErrors      int64   // failed transactions, each tried again
	Folded           int64   // committed calls whose figures count as Other, since their minute had too many combinations to keep apart
}

type spoolCollector struct {
	stats func() SpoolStats
	descs []*prometheus.Desc
}

// RegisterSpool registers gauges and counters of a spool, read when Prometheus asks.
func RegisterSpool(reg prometheus.Registerer, stats func() SpoolStats) error {
	if stats == nil {
		return errors.New("metrics: spool statistics are missing")
	}
	d := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("promptgate_spool_"+name, help, nil, nil)
	}
	return reg.Register(&spoolCollector{stats, []*prometheus.Desc{
		d("bytes", "Recorded calls and feedback waiting to be committed, in bytes."),
		d("max_bytes", "Bytes at which recording refuses."),
		d("segments", "Files of the spool."),
		d("oldest_seconds", "Age of the oldest waiting record."),
		d("records_total", "Records taken."),
		d("refused_total", "Records turned away because the spool or the disk was full."),
		d("flushed_total", "Records committed to the database."),
		d("damaged_total", "Stretches that were unreadable or that the database rejected."),
		d("flush_errors_total", "Failed transactions, each tried again."),
		d("folded_calls_total", "Calls whose figures are not kept apart: their minute had too many combinations of prompts, keys and models."),
	}})
}

// Describe implements prometheus.Collector.
func (c *spoolCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *spoolCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	values := [...]float64{float64(s.Bytes), float64(s.MaxBytes), float64(s.Segments), s.OldestSeconds,
		float64(s.Records), float64(s.Refused), float64(s.Flushed), float64(s.Damaged), float64(s.FlushErrors), float64(s.Folded)}
	for i, v := range values {
		kind := prometheus.GaugeValue
		if i > 3 {
			kind = prometheus.CounterValue
		}
		ch <- prometheus.MustNewConstMetric(c.descs[i], kind, v)
	}
}
