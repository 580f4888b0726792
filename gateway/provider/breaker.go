package provider

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"
)

// BreakerOptions say when a provider is left alone for a while. Zero fields take the defaults.
type BreakerOptions struct {
	FailureRate float64          // share of failed calls that opens the circuit, 0 to 1; default 0.5
	MinCalls    int              // … once there were as many within Window; default 20
	MinCallers  int              // … and as many callers saw one of them fail; default 2, so that one client's bad luck shuts nobody else out
	Window      time.Duration    // default 30 s
	OpenFor     time.Duration    // then one call at a time is let through as a probe; default 10 s
	Probes      int              // successes in a row that close the circuit again; default 2
	Log         *slog.Logger     // one line per change of state; nil: none
	Changed     func(to State)   // told of each change of state, under a lock; nil: nobody
	Now         func() time.Time // nil: time.Now
}

// State of a circuit.
type State string

// The states.
const (
	Closed   State = "closed"
	Open     State = "open"
	HalfOpen State = "half-open"
)

// windowParts is into how many parts the window is cut; the oldest falls out as a whole.
const windowParts = 10

// maxCallers bounds the callers that one part of the window tells apart: enough to know that there are several.
const maxCallers = 8

// Breaker remembers how a provider's calls have been going and says when to leave it alone. It counts calls, not our attempts: a call that
// succeeded at last is a success, and one that failed is one failure, however often it was tried. It is safe for concurrent use.
type Breaker struct {
	o    BreakerOptions
	name string
	seed maphash.Seed

	mu      sync.Mutex
	state   State
	parts   [windowParts]part
	until   time.Time // when an open circuit lets a probe through
	probing bool      // one is under way
	probes  int       // successful ones in a row
}

// part is what happened within one part of the window.
type part struct {
	number      int64 // which part of time it is
	calls, sick int
	callers     [maxCallers]uint64 // hashes of those who saw a failure
	known       int
}

// NewBreaker makes a closed breaker for a provider of this name.
func NewBreaker(name string, o BreakerOptions) *Breaker {
	if o.FailureRate <= 0 || o.FailureRate > 1 {
		o.FailureRate = 0.5
	}
	orDefault(&o.MinCalls, 20)
	orDefault(&o.MinCallers, 2)
	orDefault(&o.Probes, 2)
	orDefault(&o.Window, 30*time.Second)
	orDefault(&o.OpenFor, 10*time.Second)
	o.MinCallers = min(o.MinCallers, maxCallers)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Breaker{o: o, name: name, seed: maphash.MakeSeed(), state: Closed}
}

func orDefault[T int | time.Duration](v *T, otherwise T) {
	if *v <= 0 {
		*v = otherwise
	}
}

// State is the circuit's; for gauges and readiness.
func (b *Breaker) State() State {
	if b == nil {
		return Closed
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

// RetryIn is how long the circuit stays open; 0 when it is not.
func (b *Breaker) RetryIn() time.Duration {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == Closed {
		return 0
	}
	return max(b.until.Sub(b.o.Now()), 0)
}

// allow asks to send one call. Each allowed call must be followed by exactly one record.
func (b *Breaker) allow() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.state == Closed:
		return true
	case b.probing || b.o.Now().Before(b.until):
		return false
	}
	b.become(HalfOpen)
	b.probing = true
	return true
}

// verdict is what one call says about its provider's health.
type verdict int

const (
	healthy verdict = iota
	sick
	unknown // our caller left before we could tell
)

// record takes the verdict of a call that was allowed.
func (b *Breaker) record(caller string, v verdict) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != Closed {
		b.probed(v)
		return
	}
	if v == unknown {
		return
	}
	p := b.now()
	p.calls++
	if v == sick {
		p.sick++
		p.saw(maphash.String(b.seed, caller))
		if b.broken() {
			b.open()
		}
	}
}

// probed takes the verdict of a probe, or of a call that was under way when the circuit opened.
func (b *Breaker) probed(v verdict) {
	if !b.probing {
		return // it was allowed before the circuit opened, and is counted in what opened it or too late for it
	}
	b.probing = false
	switch v {
	case sick:
		b.open()
	case unknown: // callers leave providers that hang: another probe, but not at once
		b.until = b.o.Now().Add(b.o.OpenFor / 10)
	default:
		if b.probes++; b.probes >= b.o.Probes {
			b.parts = [windowParts]part{}
			b.become(Closed)
		}
	}
}

// open opens the circuit for OpenFor.
func (b *Breaker) open() {
	b.until, b.probes = b.o.Now().Add(b.o.OpenFor), 0
	b.become(Open)
}

//nolint:contextcheck // it only logs, of a provider and not of one call
func (b *Breaker) become(s State) {
	if b.state == s {
		return
	}
	from := b.state
	b.state = s
	if b.o.Log != nil {
		level := slog.LevelInfo
		if s == Open {
			level = slog.LevelWarn
		}
		b.o.Log.Log(context.Background(), level, "provider's circuit changed", "provider", b.name, "from", string(from), "to", string(s))
	}
	if b.o.Changed != nil {
		b.o.Changed(s)
	}
}

// now is the part of the window that it is.
func (b *Breaker) now() *part {
	number := b.o.Now().UnixNano() / int64(b.o.Window/windowParts)
	p := &b.parts[number%windowParts]
	if p.number != number {
		*p = part{number: number}
	}
	return p
}

// saw notes a caller whose call failed.
func (p *part) saw(caller uint64) {
	for _, known := range p.callers[:p.known] {
		if known == caller {
			return
		}
	}
	if p.known < len(p.callers) {
		p.callers[p.known] = caller
		p.known++
	}
}

// broken judges the window.
func (b *Breaker) broken() bool {
	oldest := b.now().number - windowParts + 1
	var all part
	for i := range b.parts {
		p := &b.parts[i]
		if p.number < oldest {
			continue
		}
		all.calls += p.calls
		all.sick += p.sick
		for _, caller := range p.callers[:p.known] {
			all.saw(caller)
		}
	}
	return all.calls >= b.o.MinCalls && all.known >= b.o.MinCallers && float64(all.sick) >= b.o.FailureRate*float64(all.calls)
}
