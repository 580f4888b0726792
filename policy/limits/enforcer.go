package limits

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/pointers"
)

// Options of an Enforcer. Source, Bank and Feed are required.
type Options struct {
	Source   Source
	Bank     Bank
	Feed     pointers.Feed
	Counters []Counters // of rates and of what runs at a time, the first that answers; none: this process counts alone
	Dir      string     // where open leases outlive this process, so that a start gives back what an earlier life did not use; "": nowhere
	Log      *slog.Logger
	Clock    func() time.Time
	Patience time.Duration // how long a call waits for a lease; default 3 s
	Assumed  int64         // tokens of answer to reckon with when a request sets no bound; default 4096
	Projects int           // whose limits are kept in memory; default 20,000
}

// Enforcer is the Limiter of the limits that people set. What calls may use it leases in the database before they do, some at a time, so that as a rule a
// call asks nobody; Run renews the leases and gives back what is not used. It is safe for concurrent use.
type Enforcer struct {
	o      Options
	holder string // this life of the process
	rules  *pointers.Cache[string, *ruleset]
	again  *pointers.Queue[string]
	slots  *slots
	holds  sync.Pool
	local  Counters

	mu     sync.Mutex
	known  map[string]*rulePots // by the limit's id
	active map[*pot]*rule       // that hold a lease
	down   atomic.Bool          // the last exchange failed

	stats stats
}

// rulePots are the pots of a limit, whatever becomes of its rule.
type rulePots struct {
	project string
	one     *pot
	each    *pots
}

var _ Limiter = (*Enforcer)(nil)

// NewEnforcer subscribes to the feed: make it before the feed is loaded, so that no change falls between.
func NewEnforcer(o Options) (*Enforcer, error) {
	if o.Source == nil || o.Bank == nil || o.Feed == nil {
		return nil, errors.New("limits: a source, a bank and a feed are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Patience <= 0 {
		o.Patience = 3 * time.Second
	}
	if o.Assumed <= 0 {
		o.Assumed = 4096
	}
	if o.Projects <= 0 {
		o.Projects = 20_000
	}
	e := &Enforcer{
		o: o, holder: "hold_" + strings.ToLower(rand.Text()), again: pointers.NewQueue[string](), local: NewCounters(),
		known: map[string]*rulePots{}, active: map[*pot]*rule{},
	}
	e.holds.New = func() any { return newHold(e) }
	var err error
	if e.slots, err = openSlots(o.Dir, e.holder, o.Log); err != nil {
		return nil, err
	}
	e.rules, err = pointers.New(pointers.Options[string, *ruleset]{
		Name: "project's limits", Size: o.Projects, Absences: 1, Timeout: 800 * time.Millisecond, Clock: o.Clock,
		Key:   func(t journal.Touch) (string, bool) { return t.Project, t.Kind == TouchLimits },
		Ended: func(project string, _ *ruleset) { e.again.Add(project) },
	})
	if err != nil {
		return nil, err
	}
	o.Feed.Subscribe(e.rules.Apply)
	return e, nil
}

// load is a project's rules.
func (e *Enforcer) load(ctx context.Context, project string) (*ruleset, error) {
	if s, ok := e.rules.Get(project); ok {
		return s, nil
	}
	return e.rules.Load(ctx, project, false, func(ctx context.Context) (*ruleset, error) {
		raw, err := e.o.Source.Rules(ctx, project)
		if err != nil {
			return nil, err
		}
		return e.compile(raw)
	})
}

// Served are the rules in memory, for the next start to begin with when the database is down.
func (e *Enforcer) Served() []Rules {
	var out []Rules
	for project, s := range e.rules.All() {
		raw := s.raw
		raw.Project = project
		out = append(out, raw)
	}
	return out
}

// Preload remembers what an earlier life served.
func (e *Enforcer) Preload(all []Rules) error {
	for _, raw := range all {
		s, err := e.compile(raw)
		if err != nil {
			return err
		}
		e.rules.Put(raw.Project, s)
	}
	return nil
}

func (e *Enforcer) potsIn(l *Limit) *rulePots {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.known[l.ID]
	if p == nil {
		p = &rulePots{project: l.Project}
		if l.Each() {
			p.each = &pots{limit: l}
		} else {
			p.one = newPot(l, "", nil)
		}
		e.known[l.ID] = p
	}
	return p
}

func (e *Enforcer) potOf(l *Limit) *pot   { return e.potsIn(l).one }
func (e *Enforcer) potsOf(l *Limit) *pots { return e.potsIn(l).each }

// Reserve implements Limiter.
func (e *Enforcer) Reserve(ctx context.Context, ask Ask) (Reservation, error) {
	set, err := e.load(ctx, ask.Project)
	if err != nil {
		return Reservation{}, err
	}
	if set.none {
		return Reservation{}, nil
	}
	return e.reserve(ctx, set, ask)
}

func (e *Enforcer) reserve(ctx context.Context, set *ruleset, ask Ask) (Reservation, error) {
	h, _ := e.holds.Get().(*hold)
	h.ctx, h.ask = ctx, ask
	h.now = e.o.Clock()
	if err := set.match(&h.ask, h.visit); err != nil {
		h.Release("", 0)
		return Reservation{}, err
	}
	if len(h.items) == 0 {
		h.end()
		return Reservation{}, nil
	}
	h.ctx = nil
	return Grant(h, "", 0), nil
}

// Settle implements Limiter: reservations are their holds'.
func (*Enforcer) Settle(string, int64, Spent) {}

// Release implements Limiter.
func (*Enforcer) Release(string, int64) {}

// unavailable is the refusal of a call whose limit cannot be asked.
func (e *Enforcer) unavailable(err error, r *rule) error {
	if fault.Is(err, fault.ClientClosed) || errors.Is(err, context.Canceled) {
		return fault.Wrap(err, fault.ClientClosed, "The request was cancelled.")
	}
	return fault.Wrap(err, fault.RegistryUnavailable, "The limit %q cannot be confirmed now, so the call is not made: try again shortly.", r.Name)
}
