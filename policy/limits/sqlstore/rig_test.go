package sqlstore_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/policy/limits"
	"github.com/promptgate/promptgate/policy/limits/sqlstore"
)

// rig is a project's limits in a database, and replicas that enforce them.
type rig struct {
	t       *testing.T
	store   *sqlstore.Store
	journal *journal.Journal
	ahead   atomic.Int64 // how far the clock is ahead of base, in nanoseconds
	base    time.Time
	fails   atomic.Bool // the bank
}

const shop = "prj_shop"

var by = journal.Origin{Actor: journal.Actor{Kind: "system", ID: "test", Name: "test"}, Why: "a test"}

func newRig(t *testing.T, url string) *rig {
	t.Helper()
	r := &rig{t: t, base: time.Date(2026, 11, 10, 12, 0, 0, 0, time.UTC)}
	db := testenv.Open(t, url)
	r.journal = testenv.Journal(t, db, journal.Options{})
	r.store = sqlstore.New(db, r.journal, r.clock)
	require.NoError(t, r.journal.Load(t.Context()))
	return r
}

func (r *rig) clock() time.Time { return r.base.Add(time.Duration(r.ahead.Load())) }

// Exchange implements limits.Bank: that of a database which may be away.
func (r *rig) Exchange(ctx context.Context, draws []limits.Draw) ([]limits.Drawn, error) {
	if r.fails.Load() {
		return nil, context.DeadlineExceeded
	}
	return r.store.Exchange(ctx, draws)
}

func (r *rig) limit(l limits.Limit) limits.Limit {
	r.t.Helper()
	l.Project = shop
	if l.Name == "" {
		l.Name = "the limit"
	}
	if l.Scope == "" {
		l.Scope = limits.ScopeProject
	}
	made, err := r.store.CreateLimit(r.t.Context(), by, l)
	require.NoError(r.t, err)
	return made
}

// replica is one process.
type replica struct {
	*limits.Enforcer
	stop func() // ends it as SIGTERM does; a second time does nothing
}

func (r *rig) replica(counters ...limits.Counters) *replica { return r.replicaIn("", counters...) }

func (r *rig) replicaIn(dir string, counters ...limits.Counters) *replica {
	r.t.Helper()
	e, err := limits.NewEnforcer(limits.Options{
		Source: r.store, Bank: r, Feed: r.journal, Clock: r.clock, Counters: counters, Dir: dir, Patience: 20 * time.Second,
	})
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = e.Run(ctx) }()
	stop := sync.OnceFunc(func() { cancel(); <-done })
	r.t.Cleanup(stop)
	return &replica{e, stop}
}

// idle is a replica whose Run does not run: nothing is renewed or given back by itself.
func (r *rig) idle() *limits.Enforcer {
	r.t.Helper()
	e, err := limits.NewEnforcer(limits.Options{Source: r.store, Bank: r, Feed: r.journal, Clock: r.clock, Patience: 20 * time.Second})
	require.NoError(r.t, err)
	return e
}

// price is a Coster: what a call may come to.
type price struct {
	micros, tokens int64
	unknown        bool
}

func (p price) Dearest(int64) (int64, bool) { return p.micros, !p.unknown }
func (p price) Largest(int64) (int64, bool) { return p.tokens, true }

func (r *rig) ask(p price) limits.Ask {
	return limits.Ask{Project: shop, Principal: "key_one", Cost: p, Label: "production", PromptName: "support/triage"}
}

func (r *rig) spent(l limits.Limit, subject string) limits.Usage {
	r.t.Helper()
	u, err := r.store.Spend(r.t.Context(), l, subject, 1)
	require.NoError(r.t, err)
	require.Len(r.t, u, 1)
	return u[0]
}

func paid(micros int64) limits.Spent { return limits.Spent{Micros: micros, Priced: true} }
