package metrics

import (
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// AccessStats are figures of who may do what.
type AccessStats struct {
	Uses     map[string]int64 // notes that something was used, by what became of them: kept, failed (each is tried again), dropped
	Notices  map[string]int64 // that people were told of, by what became of them: delivered, failed (each is tried again), dropped
	Keys     map[int]int      // that end within so many days
	Bindings map[int]int
	Reviews  int // open access reviews
	Lines    int // of theirs, that nobody has decided about
}

type accessCollector struct {
	stats                                          func() AccessStats
	uses, notices, keys, bindings, reviews, undone *prometheus.Desc
}

// RegisterAccess registers figures of access, read when Prometheus asks.
func RegisterAccess(reg prometheus.Registerer, stats func() AccessStats) error {
	if stats == nil {
		return errors.New("metrics: statistics of access are missing")
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return reg.Register(&accessCollector{
		stats: stats,
		uses: desc("promptgate_access_uses_total",
			"Notes that a binding or key was used in a minute: kept, failed (a batch, which is tried again) or dropped.", "result"),
		notices:  desc("promptgate_notices_total", "Notices of what ends and of access reviews: delivered to the webhook, failed (tried again) or dropped.", "result"),
		keys:     desc("promptgate_keys_expiring", "Keys in force that end within so many days, in all projects; the same on every replica.", "days"),
		bindings: desc("promptgate_bindings_expiring", "Bindings in force that end within so many days, in all projects; the same on every replica.", "days"),
		reviews:  desc("promptgate_access_reviews_open", "Open access reviews, in all projects; the same on every replica."),
		undone:   desc("promptgate_access_review_lines_undecided", "Lines of open access reviews that nobody has decided about."),
	})
}

// Describe implements prometheus.Collector.
func (c *accessCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.uses, c.notices, c.keys, c.bindings, c.reviews, c.undone} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *accessCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	for desc, by := range map[*prometheus.Desc]map[string]int64{c.uses: s.Uses, c.notices: s.Notices} {
		for _, result := range slices.Sorted(maps.Keys(by)) {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(by[result]), result)
		}
	}
	for desc, by := range map[*prometheus.Desc]map[int]int{c.keys: s.Keys, c.bindings: s.Bindings} {
		for _, days := range slices.Sorted(maps.Keys(by)) {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(by[days]), strconv.Itoa(days))
		}
	}
	ch <- prometheus.MustNewConstMetric(c.reviews, prometheus.GaugeValue, float64(s.Reviews))
	ch <- prometheus.MustNewConstMetric(c.undone, prometheus.GaugeValue, float64(s.Lines))
}
