package gateway

import "github.com/prometheus/client_golang/prometheus"

// The events that are counted; a bounded set, since it is a Prometheus label.
const (
	eventUnauthenticated = "unauthenticated"
	eventShed            = "shed"
	eventPanic           = "panic"
	eventRecordFailed    = "record_failed"
	eventUnrecordable    = "unrecordable" // refused, since there is no room for its record
	eventSlowClient      = "slow_client"
)

// Events counts what happens to requests beside the calls that are recorded: refusals before anybody was identified, shed load,
// panics, records that could not be written. A nil Events counts nothing.
type Events struct {
	counters map[string]prometheus.Counter
}

// NewEvents registers promptgate_gateway_events_total with reg. It fails when it is registered there already.
func NewEvents(reg prometheus.Registerer) (*Events, error) {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "promptgate_gateway_events_total",
		Help: "Things that happened to requests, by event: unauthenticated, shed, panic, record_failed, slow_client.",
	}, []string{"event"})
	if err := reg.Register(vec); err != nil {
		return nil, err
	}
	e := &Events{counters: map[string]prometheus.Counter{}}
	for _, name := range []string{eventUnauthenticated, eventShed, eventPanic, eventRecordFailed, eventUnrecordable, eventSlowClient} {
		e.counters[name] = vec.WithLabelValues(name)
	}
	return e, nil
}

func (e *Events) count(name string) {
	if e == nil {
		return
	}
	if c := e.counters[name]; c != nil {
		c.Inc()
	}
}
