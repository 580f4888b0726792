package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sharedcache"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/limits"
	"github.com/promptgate/promptgate/policy/limits/redislease"
	policycache "github.com/promptgate/promptgate/policy/rediscache"
	"github.com/promptgate/promptgate/registry"
	registrycache "github.com/promptgate/promptgate/registry/rediscache"
)

// shared is the cache in Redis that replicas share, nil without one.
type shared struct {
	prefix  string // of every key
	cache   *sharedcache.Cache
	bus     *sharedcache.Bus
	clients []redis.UniversalClient
}

func redisConfig(r configs.Redis) sharedcache.Config {
	return sharedcache.Config{
		Addrs: r.Addrs, Cluster: r.Cluster || len(r.Addrs) > 1 && r.MasterName == "", MasterName: r.MasterName, Username: r.Username, Password: r.Password,
		PasswordFile: r.PasswordFile, SentinelUsername: r.SentinelUsername, SentinelPassword: r.SentinelPassword, SentinelPasswordFile: r.SentinelPasswordFile,
		DB: r.DB, TLS: r.TLS, CAFile: r.CAFile, CertFile: r.CertFile, KeyFile: r.KeyFile, Budget: r.Budget,
	}
}

// openShared makes the clients; Redis need not be up. The feed's journal is set later: the cache asks for its revision when it reads.
//
//nolint:contextcheck // what it starts lives until it is closed
func openShared(st *stores, cfg configs.Config, log *slog.Logger, reg prometheus.Registerer) (*shared, error) {
	r := cfg.Redis
	if len(r.Addrs) == 0 {
		return nil, nil
	}
	redis.SetLogger(redisLog{log})
	s := &shared{prefix: r.Prefix}
	config := redisConfig(r)
	for range 2 { // one for commands, one for the subscription
		c, err := sharedcache.NewClient(config)
		if err != nil {
			return nil, errors.Join(err, s.close(context.Background()))
		}
		s.clients = append(s.clients, c)
	}
	var err error
	s.cache, err = sharedcache.New(sharedcache.Options{
		Client: s.clients[0], Sealer: st.sealer, Revision: func() int64 { return st.feed.Revision() }, Prefix: r.Prefix, Budget: r.Budget,
		Registry: reg, Log: log, OnHit: st.reads.Redis,
	})
	if err != nil {
		return nil, errors.Join(err, s.close(context.Background()))
	}
	s.bus = sharedcache.NewBus(s.cache, s.clients[1], config.Cluster, st.feed.hint)
	return s, nil
}

// redisLog is where the library tells of each connection that fails: debug, since the cache logs each change of state.
type redisLog struct{ log *slog.Logger }

// Printf implements the library's logger, which is one for the whole process.
func (l redisLog) Printf(ctx context.Context, format string, v ...any) {
	if l.log.Enabled(ctx, slog.LevelDebug) {
		l.log.DebugContext(ctx, "redis: "+fmt.Sprintf(format, v...))
	}
}

// notifier is what the journal publishes through; nil without Redis.
func (s *shared) notifier() journal.Notifier {
	if s == nil {
		return nil
	}
	return s.bus
}

// subscribe comes before every other subscriber: they read through the cache as soon as they hear of a change.
func (s *shared) subscribe(j *journal.Journal) {
	if s != nil {
		j.Subscribe(s.cache.Apply)
		j.Subscribe(s.bus.Applied)
	}
}

// source and keySource read through Redis where there is one.
func (s *shared) source(below registry.Source) registry.Source {
	if s == nil {
		return below
	}
	return registrycache.New(s.cache, below)
}

func (s *shared) keySource(below policy.KeySource) policy.KeySource {
	if s == nil {
		return below
	}
	return policycache.New(s.cache, below)
}

func (s *shared) people(below policy.People) policy.People {
	if s == nil {
		return below
	}
	return policycache.NewPeople(s.cache, below)
}

// maxSeed bounds how many past changes a new process asks for.
const maxSeed = 20_000

// seed tells the cache of the changes that entries in Redis may not have heard of: those within the life of an entry.
func (s *shared) seed(ctx context.Context, j *journal.Journal) error {
	if s == nil {
		return nil
	}
	var changes []journal.Change
	var floor int64 // the revision of TTL ago
	q := journal.Query{Everywhere: true, Since: time.Now().Add(-s.cache.TTL()), Limit: 500}
	before, _, err := j.List(ctx, journal.Query{Everywhere: true, Until: q.Since, Limit: 1})
	if err != nil {
		return fmt.Errorf("read recent changes: %w", err)
	}
	for _, e := range before {
		floor = e.Revision
	}
	for {
		entries, next, err := j.List(ctx, q)
		if err != nil {
			return fmt.Errorf("read recent changes: %w", err)
		}
		for _, e := range entries {
			changes = append(changes, e.Change)
		}
		if next == 0 {
			break
		}
		if len(changes) >= maxSeed {
			floor = max(floor, changes[len(changes)-1].Revision) // there are more in between
			break
		}
		q.Before = next
	}
	slices.Reverse(changes) // the journal lists the newest first
	s.cache.Seed(floor, changes)
	return nil
}

// healthy fails while Redis is left alone.
func (s *shared) healthy(context.Context) error {
	if s.cache.Down() {
		return errors.New("redis does not answer in time")
	}
	return nil
}

func (s *shared) close(context.Context) error {
	if s == nil {
		return nil
	}
	var errs []error
	for _, c := range s.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// counters are what rates are counted in; none without Redis.
func (s *shared) counters() []limits.Counters {
	if s == nil {
		return nil
	}
	return []limits.Counters{redislease.New(s.clients[0], s.cache, s.prefix)}
}
