package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// SCIM counts what directories ask for.
type SCIM struct{ requests *prometheus.CounterVec }

// NewSCIM registers the counter. Its series are bounded: few operations, and the statuses by their first digit.
func NewSCIM(reg prometheus.Registerer) (*SCIM, error) {
	m := &SCIM{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "promptgate_scim_requests_total", Help: "SCIM requests, by operation and class of status.",
	}, []string{"operation", "status"})}
	return m, reg.Register(m.requests)
}

// SCIM counts a request.
func (m *SCIM) SCIM(operation string, status int) {
	m.requests.WithLabelValues(operation, strconv.Itoa(status/100)+"xx").Inc()
}
