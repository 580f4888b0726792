package metrics

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Circuits counts the changes of the circuits of providers. Registered, it tells their states as well.
type Circuits struct {
	each    func(yield func(project, provider string, open float64))
	state   *prometheus.Desc
	changes *prometheus.CounterVec
}

// NewCircuits makes a collector that RegisterWith has still to be given the circuits.
func NewCircuits() *Circuits {
	return &Circuits{
		state: prometheus.NewDesc("promptgate_provider_circuit_open",
			"1 while a provider is left alone after too many failed calls, 0.5 while it is probed, 0 else. project is empty for configured providers.",
			[]string{"project", "provider"}, nil),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "promptgate_provider_circuit_changes_total", Help: "Circuits of providers that changed their state, by the state that they took.",
		}, []string{"state"}),
	}
}

// Changed counts a change to a state.
func (c *Circuits) Changed(to string) { c.changes.WithLabelValues(to).Inc() }

// RegisterWith registers the collector. each yields every circuit in use: 1 for an open one, 0.5 for one that is probed, 0 else.
func (c *Circuits) RegisterWith(reg prometheus.Registerer, each func(yield func(project, provider string, open float64))) error {
	if each == nil {
		return errors.New("metrics: circuits are missing")
	}
	c.each = each
	return errors.Join(reg.Register(c), reg.Register(c.changes))
}

// Describe implements prometheus.Collector.
func (c *Circuits) Describe(ch chan<- *prometheus.Desc) { ch <- c.state }

// Collect implements prometheus.Collector.
func (c *Circuits) Collect(ch chan<- prometheus.Metric) {
	c.each(func(project, provider string, open float64) {
		ch <- prometheus.MustNewConstMetric(c.state, prometheus.GaugeValue, open, project, provider)
	})
}
