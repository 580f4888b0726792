package metrics

import "github.com/prometheus/client_golang/prometheus"

// SignIns counts sign-ins of people.
type SignIns struct{ total *prometheus.CounterVec }

// NewSignIns registers the counter.
func NewSignIns(reg prometheus.Registerer) (*SignIns, error) {
	s := &SignIns{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "promptgate_sign_ins_total",
		Help: "Sign-ins of people, by method (password, passkey, link, sso) and outcome (ok, refused, limited, unavailable).",
	}, []string{"method", "outcome"})}
	return s, reg.Register(s.total)
}

// SignIn counts one. Both are words of the program's own, so that the series are bounded.
func (s *SignIns) SignIn(method, outcome string) { s.total.WithLabelValues(method, outcome).Inc() }
