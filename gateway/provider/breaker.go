package provider

import (
	"log/slog"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// BreakerOptions say when a provider is left alone for a while. Zero fields take the defaults.
type BreakerOptions struct {
	FailureRate float64       // share of failed attempts that opens the circuit, 0 to 1; default 0.5
	MinAttempts uint          // … once there were as many within Window; default 20
	Window      time.Duration // default 30 s
	OpenFor     time.Duration // then one attempt is let through to see; default 10 s
	Trials      uint          // successes in a row that close the circuit again; default 2
	Log         *slog.Logger  // one line per change of state; nil: none
}

// Breaker remembers how a provider has been doing and says when to leave it alone. It is safe for concurrent use.
type Breaker struct {
	cb circuitbreaker.CircuitBreaker[any]
}

// NewBreaker makes a closed breaker for a provider of this name.
func NewBreaker(name string, o BreakerOptions) *Breaker {
	if o.FailureRate <= 0 || o.FailureRate > 1 {
		o.FailureRate = 0.5
	}
	if o.MinAttempts == 0 {
		o.MinAttempts = 20
	}
	if o.Window <= 0 {
		o.Window = 30 * time.Second
	}
	if o.OpenFor <= 0 {
		o.OpenFor = 10 * time.Second
	}
	if o.Trials == 0 {
		o.Trials = 2
	}
	b := circuitbreaker.NewBuilder[any]().
		WithFailureRateThreshold(o.FailureRate, o.MinAttempts, o.Window).
		WithSuccessThreshold(o.Trials).
		WithDelay(o.OpenFor).
		WithJitterFactor(0.1)
	if log := o.Log; log != nil {
		b.OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
			level := slog.LevelInfo
			if e.NewState == circuitbreaker.OpenState {
				level = slog.LevelWarn
			}
			log.Log(e.Context(), level, "provider's circuit changed", "provider", name, "from", e.OldState.String(), "to", e.NewState.String())
		})
	}
	return &Breaker{b.Build()}
}

// State is "closed", "open" or "half-open"; for gauges and readiness.
func (b *Breaker) State() string {
	if b == nil {
		return circuitbreaker.ClosedState.String()
	}
	return b.cb.State().String()
}

// RetryIn is how long the circuit stays open; 0 when it is not.
func (b *Breaker) RetryIn() time.Duration {
	if b == nil {
		return 0
	}
	return b.cb.RemainingDelay()
}

// allow asks to make one attempt. Each allowed attempt must be followed by exactly one record.
func (b *Breaker) allow() bool { return b == nil || b.cb.TryAcquirePermit() }

// verdict is what one attempt says about its provider's health.
type verdict int

const (
	healthy verdict = iota
	sick
	unknown // our caller left before we could tell
)

func (b *Breaker) record(v verdict) {
	switch {
	case b == nil:
	case v == healthy:
		b.cb.RecordSuccess()
	case v == sick:
		b.cb.RecordFailure()
	case b.cb.IsHalfOpen():
		// A trial must be given back. Callers leave providers that hang, so it does not count in the provider's favour.
		b.cb.RecordFailure()
	}
}
