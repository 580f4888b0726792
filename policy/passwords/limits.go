package passwords

import (
	"net/netip"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/promptgate/promptgate/internal/fault"
)

// Limits slows down whoever guesses: after some wrong tries each further one has to wait, twice as long each time up to a bound, and nothing is ever
// locked for good. Tries are counted by account, by network address, and apart from both by device: who signed in from this browser before is not
// kept waiting by what others try. They are this replica's own.
type Limits struct {
	clock func() time.Time
	tries *otter.Cache[string, *tally]
}

type tally struct {
	wrong int
	until time.Time
}

// kind is how a kind of thing is counted.
type kind struct {
	free    int           // wrong tries before anybody waits
	longest time.Duration // to wait
}

const (
	forget   = time.Hour // after the last wrong try, as if there had been none
	maxTries = 100_000   // what is counted at once
)

func kindOf(name string) kind {
	if name[0] == 'n' { // a network: many people may share it
		return kind{50, 30 * time.Second}
	}
	return kind{5, 5 * time.Minute}
}

// NewLimits makes one; a nil clock means time.Now.
func NewLimits(clock func() time.Time) (*Limits, error) {
	if clock == nil {
		clock = time.Now
	}
	tries, err := otter.New(&otter.Options[string, *tally]{MaximumSize: maxTries})
	return &Limits{clock: clock, tries: tries}, err
}

// Try is one try: what it counts for.
type Try struct {
	Account string // as it was typed, in its one spelling: whether there is such an account makes no difference
	Address string // host
	Device  string // "" for a browser that nobody signed in with to this account
}

func (t Try) names() []string {
	if t.Device != "" {
		return []string{"d" + t.Device}
	}
	return []string{"a" + t.Account, "n" + network(t.Address)}
}

// network is what one subscriber has: an IPv4 address, or 64 bits of an IPv6 one.
func network(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a.String()
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a.String()
	}
	return p.String()
}

// Admit refuses (RateLimitExceeded) a try that has to wait; wait is how long. It counts the try as a wrong one until Right says otherwise, so that many
// at once are no more than that many in a row.
func (l *Limits) Admit(t Try) error {
	now := l.clock()
	var wait time.Duration
	for _, name := range t.names() {
		if v, ok := l.tries.GetIfPresent(name); ok && v.until.After(now) {
			wait = max(wait, v.until.Sub(now))
		}
	}
	if wait > 0 {
		return fault.New(fault.RateLimitExceeded, "Too many wrong tries: wait %s. A browser that you signed in with before need not wait.", wait.Round(time.Second)+time.Second)
	}
	for _, name := range t.names() {
		l.tries.Compute(name, func(old *tally, found bool) (*tally, otter.ComputeOp) {
			next := tally{wrong: 1}
			if found && now.Sub(old.until) < forget {
				next.wrong = old.wrong + 1
			}
			next.until = now
			if k := kindOf(name); next.wrong >= k.free {
				next.until = now.Add(min(time.Second<<min(next.wrong-k.free, 20), k.longest))
			}
			return &next, otter.WriteOp
		})
	}
	return nil
}

// Right takes back what a right try counted for: its account and device begin anew, its network has one wrong try less.
func (l *Limits) Right(t Try) {
	now := l.clock()
	for _, name := range t.names() {
		if name[0] != 'n' {
			l.tries.Invalidate(name)
			continue
		}
		l.tries.Compute(name, func(old *tally, found bool) (*tally, otter.ComputeOp) {
			if !found || old.wrong <= 1 {
				return nil, otter.InvalidateOp
			}
			return &tally{wrong: old.wrong - 1, until: now}, otter.WriteOp
		})
	}
}
