package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// kindOf a fault says which promises hold during it.
type kindOf int

const (
	healthy  kindOf = iota // everything holds at its best
	noCache                // Redis is lost: no call fails, changes are seen by polling
	noWord                 // only publications are lost
	noData                 // the database is lost: what is warm is served, what is cold is 503, changes are refused
	cutOff                 // the last replica alone has lost the database
	noReplic               // a replica is lost
)

// fault is one thing that breaks, and is mended.
type fault struct {
	name  string
	kind  kindOf
	lines int // that a replica may log: one for each change of state, of each part that has states
	// bounded: replica 2 has stale.keys, replica 3 stale.prompts at staleBound
	bounded bool
	subtle  bool // a replica may go on as if nothing were
	inject  func(context.Context, *world) error
	mend    func(context.Context, *world) error
	// prepare and clear, where they are set, come before and after, and outside of what is judged
	prepare, clear func(context.Context, *world) error
}

// Redis has one part with states: the cache. The database has four: the journal and the ledger say that it is lost and back, the data
// plane and the management API that they refuse.
const (
	redisLines    = 2
	databaseLines = 6
)

// staleBound is how long replicas 2 and 3 serve without the database in the fault that is about that.
const staleBound = time.Second

func faults() []fault {
	return []fault{
		{name: "none", inject: nothing, mend: nothing},
		{name: "redis-killed", kind: noCache, lines: redisLines, inject: killRedis, mend: reviveRedis},
		{name: "redis-frozen", kind: noCache, lines: redisLines,
			inject: func(_ context.Context, w *world) error { w.redis.Pause(); return nil },
			mend:   func(_ context.Context, w *world) error { w.redis.Resume(); return nil }},
		{name: "redis-slow", kind: noCache, lines: redisLines, inject: slowRedis, mend: hurryRedis},
		{name: "redis-garbage", kind: noCache, lines: redisLines, inject: redisIs(nonsense), mend: redisIs(honest)},
		{name: "redis-oom", kind: noCache, lines: redisLines, inject: redisIs(fullUp), mend: redisIs(honest)},
		{name: "redis-full", kind: noCache, subtle: true, lines: redisLines, inject: redisMemory("1"), mend: redisMemory("0")},
		{name: "pubsub-muted", kind: noWord, inject: redisIs(muted), mend: redisIs(honest)},
		{name: "postgres-killed", kind: noData, lines: databaseLines,
			inject: func(_ context.Context, w *world) error { w.postgres.Kill(w.t); return nil },
			mend:   func(_ context.Context, w *world) error { w.postgres.Restart(w.t); return nil }},
		{name: "postgres-frozen", kind: noData, lines: databaseLines,
			inject: func(_ context.Context, w *world) error { w.postgres.Pause(); return nil },
			mend:   func(_ context.Context, w *world) error { w.postgres.Resume(); return nil }},
		{name: "postgres-killed-for-too-long", kind: noData, lines: databaseLines, bounded: true, prepare: boundStale, clear: unboundStale,
			inject: func(_ context.Context, w *world) error { w.postgres.Kill(w.t); return nil },
			mend:   func(_ context.Context, w *world) error { w.postgres.Restart(w.t); return nil }},
		{name: "replica-cut-off", kind: cutOff, lines: databaseLines,
			inject: func(_ context.Context, w *world) error { return enable(false, w.database[replicas-1]) },
			mend:   func(_ context.Context, w *world) error { return enable(true, w.database[replicas-1]) }},
		{name: "replica-killed", kind: noReplic, inject: killReplica, mend: nothing},
		{name: "replica-restarted-without-postgres", kind: noData, lines: databaseLines, inject: restartWithoutDatabase,
			mend: func(_ context.Context, w *world) error { w.postgres.Restart(w.t); return nil }},
	}
}

func names() []string {
	var out []string
	for _, f := range faults() {
		out = append(out, f.name)
	}
	return out
}

// chosen are the faults that the options ask for.
func chosen(only string) ([]fault, error) {
	if only == "" {
		return faults(), nil
	}
	var out []fault
	for name := range strings.SplitSeq(only, ",") {
		before := len(out)
		for _, f := range faults() {
			if f.name == strings.TrimSpace(name) {
				out = append(out, f)
			}
		}
		if len(out) == before {
			return nil, errors.New(name + " is no fault; there are " + strings.Join(names(), ", "))
		}
	}
	return out, nil
}

func nothing(context.Context, *world) error { return nil }

// enable opens or closes proxies, connections and all.
func enable(on bool, proxies ...*toxiproxy.Proxy) error {
	var errs []error
	for _, p := range proxies {
		errs = append(errs, p.Update(&toxiproxy.Proxy{Listen: p.Listen, Upstream: p.Upstream, Enabled: on}))
	}
	return errors.Join(errs...)
}

// killRedis closes the proxies too: a port that nobody listens on refuses, which is what replicas see of a dead server.
func killRedis(_ context.Context, w *world) error {
	w.redis.Kill(w.t)
	return enable(false, w.cache...)
}

func reviveRedis(_ context.Context, w *world) error {
	w.redis.Restart(w.t)
	return enable(true, w.cache...)
}

func slowRedis(_ context.Context, w *world) error {
	for _, p := range w.cache {
		toxic := `{"name":"slow","type":"latency","stream":"downstream","attributes":{"latency":2000}}`
		if _, err := p.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			return err
		}
	}
	return nil
}

func hurryRedis(ctx context.Context, w *world) error {
	var g errgroup.Group // removing waits for what is delayed
	for _, p := range w.cache {
		g.Go(func() error { return p.Toxics.RemoveToxic(ctx, "slow") })
	}
	return g.Wait()
}

func redisIs(m mood) func(context.Context, *world) error {
	return func(_ context.Context, w *world) error { w.relay.become(m); return nil }
}

// redisMemory bounds what the real server may hold: past it, it reads and does not write.
func redisMemory(bytes string) func(context.Context, *world) error {
	return func(ctx context.Context, w *world) error {
		c := redis.NewClient(&redis.Options{Addr: w.redis.Addr})
		defer c.Close()
		return c.ConfigSet(ctx, "maxmemory", bytes).Err()
	}
}

// boundStale restarts replicas 2 and 3 with bounds that a fault outlasts.
func boundStale(ctx context.Context, w *world) error {
	return errors.Join(
		w.restartWith(ctx, 1, fmt.Sprintf("PROMPTGATE_STALE_KEYS=%s", staleBound)),
		w.restartWith(ctx, 2, fmt.Sprintf("PROMPTGATE_STALE_PROMPTS=%s", staleBound)))
}

func unboundStale(ctx context.Context, w *world) error {
	return errors.Join(w.restartWith(ctx, 1), w.restartWith(ctx, 2))
}

// restartWith restarts one replica with more in its environment.
func (w *world) restartWith(ctx context.Context, n int, more ...string) error {
	r := w.replicas[n]
	if err := r.stop(); err != nil {
		return err
	}
	r.extra = more
	return r.start(ctx)
}

// killReplica kills one without warning and starts it again.
func killReplica(ctx context.Context, w *world) error {
	r := w.replicas[1]
	if err := r.kill(); err != nil {
		return err
	}
	if !pause(ctx, w.o.round/4) {
		return ctx.Err()
	}
	return r.start(ctx)
}

// restartWithoutDatabase restarts a replica as a deployment does while the database is down: all that it then serves is from its
// last-known-good file. The long form kills it instead: the file must have been written in time.
func restartWithoutDatabase(ctx context.Context, w *world) error {
	r := w.replicas[2]
	w.postgres.Kill(w.t)
	var err error
	if w.o.speed {
		err = r.kill()
	} else {
		err = r.stop()
	}
	if err != nil {
		return err
	}
	return r.start(ctx)
}

// trial is one fault under load, with the moments that its figures are cut by.
type trial struct {
	fault
	began    time.Time // of the healthy time before
	injected time.Time
	down     time.Time // when injecting was done
	mended   time.Time
	up       time.Time // when mending was done
	ended    time.Time

	revoked   time.Duration // until every replica refused a key; 0: not tried
	revokeErr error
	coldKeys  []result // calls with a key that no replica had seen
	restored  bool     // every replica said ready in the end
}

// try breaks one thing and mends it.
func try(ctx context.Context, w *world, p *probes, f fault) (trial, error) {
	t := trial{fault: f, began: time.Now()}
	if f.prepare != nil {
		if err := f.prepare(ctx, w); err != nil {
			return t, err
		}
		t.began = time.Now()
	}
	known, err := p.newKey(ctx, true)
	if err != nil {
		return t, err
	}
	unknown, err := p.newKey(ctx, false)
	if err != nil {
		return t, err
	}
	if !pause(ctx, w.o.rest-time.Since(t.began)) {
		return t, ctx.Err()
	}
	t.injected = time.Now()
	if err := f.inject(ctx, w); err != nil {
		return t, err
	}
	t.down = time.Now()
	var watch sync.WaitGroup
	over, done := context.WithDeadline(ctx, time.Now().Add(w.o.round))
	defer done()
	watch.Go(func() {
		if f.kind == noData {
			t.coldKeys = unknown.ask(over, w)
		} else if pause(over, w.o.round/3) {
			t.revoked, t.revokeErr = known.revoke(ctx)
		}
	})
	<-over.Done()
	watch.Wait()
	if ctx.Err() != nil {
		return t, ctx.Err()
	}
	t.mended = time.Now()
	if err := f.mend(ctx, w); err != nil {
		return t, err
	}
	t.up = time.Now()
	t.restored = w.allReady(ctx)
	if !pause(ctx, w.o.rest-time.Since(t.mended)) {
		return t, ctx.Err()
	}
	t.ended = time.Now()
	if f.clear != nil {
		return t, f.clear(ctx, w)
	}
	return t, nil
}

// restoreTimeout bounds the wait for every replica to be ready again.
const restoreTimeout = 15 * time.Second

func (w *world) allReady(ctx context.Context) bool {
	deadline := time.Now().Add(restoreTimeout)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		ready := 0
		for _, r := range w.replicas {
			if r.status(ctx, w.client) == "ready" {
				ready++
			}
		}
		if ready == replicas {
			return true
		}
		pause(ctx, 50*time.Millisecond)
	}
	return false
}

// ask calls every replica with a key that none has seen, until ctx is done.
func (k *keyProbe) ask(ctx context.Context, w *world) []result {
	var out []result
	for pause(ctx, 300*time.Millisecond) {
		for _, r := range w.replicas {
			began := time.Now()
			s := k.status(context.WithoutCancel(ctx), r)
			out = append(out, result{at: began, took: time.Since(began), replica: r.n - 1, status: s})
		}
	}
	return out
}
