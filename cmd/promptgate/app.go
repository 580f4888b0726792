package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway"
	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/internal/reseal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/keys"
	"github.com/promptgate/promptgate/policy/limits"
	"github.com/promptgate/promptgate/policy/notices"
	"github.com/promptgate/promptgate/policy/people"
)

// App is one gateway: newApp builds it and binds its listeners, start serves, stop ends it. What was opened is closed in the
// reverse order, also when building fails half-way.
type App struct {
	cfg       configs.Config
	log       *slog.Logger
	stores    *stores
	authn     *keys.Authenticator
	people    *people.Directory
	limits    *limits.Enforcer
	warner    *limits.Warner
	signing   *signingIn // nil where browsers cannot reach the gateway
	teller    *notices.Teller
	keeper    *keeper
	recording *recording
	gateway   *gateway.Gateway
	server    *http.Server
	main      net.Listener
	ops       net.Listener // nil without a listener of its own
	opsHTTP   *http.Server
	cert      *certificate // nil without TLS
	sealing   *reseal.Runner

	cleanups []func(context.Context) error // run from the last to the first
	cancel   context.CancelFunc            // ends the background loops
	loops    sync.WaitGroup
	failed   chan error // a listener or a loop that ended by itself
}

// newApp wires everything. Whatever cannot be built is an error: a gateway does not start without a limiter, a policy or a key.
func newApp(ctx context.Context, cfg configs.Config, log *slog.Logger) (a *App, err error) {
	a = &App{cfg: cfg, log: log, failed: make(chan error, 8)}
	defer func() {
		if err != nil {
			a.cleanup(ctx)
		}
	}()
	gin.SetMode(gin.ReleaseMode)
	// Bound first: a taken port is told before anything is written.
	if err := a.listen(ctx); err != nil {
		return a, err
	}
	reg := prometheus.NewRegistry()
	if a.stores, err = openStores(ctx, cfg, log, reg, true); err != nil {
		return a, err
	}
	a.onStop(func(context.Context) error { a.stores.close(); return nil })
	rec, err := openRecording(ctx, cfg, log, a.stores, reg)
	if err != nil {
		return a, err
	}
	a.recording = rec
	a.onStop(rec.close)
	a.sealing = a.stores.sealing(rec.db, log)
	if err := registerSealing(reg, a.stores.sealer, a.sealing); err != nil {
		return a, err
	}
	engine, err := a.build(ctx, rec, reg)
	if err != nil {
		return a, err
	}
	// Loaded after every subscriber is registered, so that no change falls between.
	if err := a.stores.load(ctx); err != nil {
		return a, err
	}
	if err := a.preload(ctx); err != nil {
		return a, err
	}
	if s := a.stores; s.seen == nil && s.lastKnown == nil && cfg.Database.Anchor == "" && s.feed.Revision() > 0 {
		log.Warn("this data folder has seen no revision of the database before, so it is taken as it is, even were it put back from long ago: "+
			"set database.anchor to a revision that was noted elsewhere", "revision", s.feed.Revision())
	}
	a.server = a.httpServer(engine)
	a.server.BaseContext = a.gateway.BaseContext
	return a, nil
}

func (a *App) onStop(f func(context.Context) error) { a.cleanups = append(a.cleanups, f) }

func (a *App) cleanup(ctx context.Context) {
	for i := len(a.cleanups) - 1; i >= 0; i-- {
		if err := a.cleanups[i](ctx); err != nil {
			a.log.Error("shutting down", "error", err)
		}
	}
	a.cleanups = nil
}

// build makes the data plane and the management API on one engine.
func (a *App) build(_ context.Context, rec *recording, reg *prometheus.Registry) (*gin.Engine, error) {
	s, cfg := a.stores, a.cfg
	if err := a.callers(); err != nil {
		return nil, err
	}
	authn := a.authn
	checker := s.checker
	resolver, err := s.resolver(cfg)
	if err != nil {
		return nil, err
	}
	routes, err := a.routes(reg)
	if err != nil {
		return nil, err
	}
	s.feed.Subscribe(routes.Changed)
	reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "promptgate_registry_refreshes_dropped_total",
		Help: "Pointers and keys in use that changed and were left to be read by the next call, since too many changed at once.",
	}, func() float64 { return float64(resolver.RefreshesDropped() + authn.RefreshesDropped()) }))
	err = s.reads.Register(reg, func() map[string]uint64 {
		found := resolver.MemoryReads()
		found[policy.TouchKey] = authn.MemoryReads()
		return found
	})
	if err != nil {
		return nil, err
	}
	if a.limits, err = a.limiter(reg); err != nil {
		return nil, err
	}
	a.keeper = &keeper{
		path: filepath.Join(cfg.Data, lastKnownName), sealer: s.sealer, feed: s.feed, resolver: resolver, authn: authn, people: a.people, routes: routes,
		limits: a.limits, log: a.log,
	}
	ids, err := gateway.NewCallIDs(s.sealer.DeriveKey, rand.Reader, time.Now)
	if err != nil {
		return nil, err
	}
	if err := a.cert.register(reg); err != nil {
		return nil, err
	}
	if err := metrics.RegisterFreshness(reg, s.feed.Revision, s.feed.ConfirmedAt, time.Now); err != nil {
		return nil, err
	}
	if err := metrics.RegisterAccess(reg, a.accessStats); err != nil {
		return nil, err
	}
	events, err := gateway.NewEvents(reg)
	if err != nil {
		return nil, err
	}
	a.gateway, err = gateway.New(gateway.Deps{
		Authenticator: authn, Checker: checker, Registry: resolver, Catalog: s.registry, Router: routes,
		Forwarder: provider.NewForwarder(provider.RetryOptions{}), Recorder: rec.Ledger, Pricer: rec.pricer, Feed: s.feed, CallIDs: ids,
		HashUser: userHash(s.sealer.DeriveKey("end-user")), HashDigest: digestHash(s.sealer.DeriveKey("digest")), Clock: time.Now, Log: a.log, Meter: rec.collectors, Events: events,
		Limiters: []limits.Limiter{a.limits},
		Calls:    rec, Runs: rec, Metrics: metricsHandler(reg), Checks: a.checks(rec),
	}, gateway.Options{
		MaxBodyBytes: cfg.Server.MaxBodyBytes, MaxInFlight: cfg.Server.MaxInFlight,
		WriteTimeout: cfg.Server.WriteTimeout, PingInterval: cfg.Server.PingInterval, InjectUsage: cfg.Usage.Inject, ServeUnrecorded: cfg.Spool.ServeUnrecorded,
		FeedbackOrigins: cfg.Feedback.AllowedOrigins,
	})
	if err != nil {
		return nil, err
	}
	engine := a.gateway.Engine()
	engine.UseRawPath = true // names of prompts hold slashes, which the management API takes as %2F
	a.gateway.Routes(engine)
	a.opsRoutes(engine)
	return engine, a.manage(engine, rec, reg)
}

// callers makes what knows keys and people.
func (a *App) callers() (err error) {
	s, cfg := a.stores, a.cfg
	if a.people, err = people.New(s.shared.people(s.keys), s.feed, people.Options{StaleAfter: cfg.Stale.Keys}); err != nil {
		return err
	}
	a.authn, err = keys.NewAuthenticator(s.shared.keySource(countedKeys{s.keys, s.reads}), s.hasher, s.feed, keys.Options{
		MaxKeys: cfg.Cache.Keys, StaleAfter: cfg.Stale.Keys, Owners: a.people,
	})
	return err
}

// checks are what /readyz asks. Losing the database is no reason to take a replica that still serves out of service.
func (a *App) checks(rec *recording) []gateway.Check {
	checks := []gateway.Check{
		{Name: "database", Probe: a.stores.db.PingContext},
		{Name: "spool", Probe: rec.healthy},
		{Name: "recording", Critical: !a.cfg.Spool.ServeUnrecorded, Probe: rec.recordable},
		{Name: "ledger", Probe: rec.whole},
	}
	if a.stores.shared != nil {
		checks = append(checks, gateway.Check{Name: "redis", Probe: a.stores.shared.healthy})
	}
	return checks
}

// preload puts what was served last into the caches when the database is down.
func (a *App) preload(ctx context.Context) error {
	l := a.stores.lastKnown
	if l == nil {
		return nil
	}
	a.keeper.authn.Preload(l.Keys)
	a.keeper.people.Preload(l.People)
	if err := a.limits.Preload(l.Limits); err != nil {
		return err
	}
	a.keeper.routes.Preload(l.Routes)
	if err := a.keeper.resolver.Preload(ctx, l.Registry); err != nil {
		return err
	}
	a.stores.forgetSince(l.Revision)
	return nil
}

// migrateLate does what a start does once the database answers, when it did not at the start.
func (a *App) migrateLate(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
		if a.stores.reach(ctx) != nil {
			continue
		}
		err := errors.Join(sqldb.Migrate(ctx, a.stores.db, a.log), sqldb.Migrate(ctx, a.recording.db, a.log, sqldb.Ledger))
		if err != nil && sqldb.IsUnavailable(err) {
			continue
		}
		return err // a schema that is newer than this binary ends it, as it would a start
	}
}

func (a *App) httpServer(h http.Handler) *http.Server {
	s := a.cfg.Server
	return &http.Server{
		Handler: behind(h, s.Proxies()), MaxHeaderBytes: 256 << 10, ReadHeaderTimeout: s.ReadHeaderTimeout, IdleTimeout: s.IdleTimeout,
		// It ends with the body: answers may take longer. It holds for refusals, too, behind which net/http reads on.
		ReadTimeout: s.ReadTimeout,
		Protocols:   onlyHTTP1(),
		ErrorLog:    slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
}

// start serves until stop; Failed tells of what ended by itself.
//
//nolint:contextcheck // what it starts lives until stop
func (a *App) start() {
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	a.loop(ctx, "journal", a.stores.feed.Run)
	a.loop(ctx, "ledger", a.recording.Run)
	a.loop(ctx, "last known good", a.keeper.run)
	a.loop(ctx, "data keys", a.stores.sealer.Run)
	a.loop(ctx, "sealing", a.sealing.Run)
	if a.cert != nil {
		a.loop(ctx, "certificate", a.cert.run)
	}
	if a.stores.shared != nil {
		a.loop(ctx, "redis", a.stores.shared.cache.Run)
	}
	a.loop(ctx, "registry", a.keeper.resolver.Run)
	a.loop(ctx, "keys", a.authn.Run)
	a.loop(ctx, "limits", a.limits.Run)
	a.loop(ctx, "use of access", a.stores.uses.Run)
	a.loop(ctx, "warnings of budgets", a.warner.Run)
	if a.signing != nil {
		a.loop(ctx, "sessions", a.signing.keeper.Run)
		a.loop(ctx, "messages", a.signing.Run)
	}
	a.loop(ctx, "notices", a.teller.Run)
	a.loop(ctx, "background responses", a.gateway.Follow)
	if a.stores.lastKnown != nil {
		a.loop(ctx, "late migration", a.migrateLate)
	}
	serve := func(s *http.Server, l net.Listener) {
		a.loops.Go(func() {
			if err := s.Serve(a.cert.wrap(l)); !errors.Is(err, http.ErrServerClosed) {
				a.failed <- fmt.Errorf("listener %s: %w", l.Addr(), err)
			}
		})
	}
	serve(a.server, a.main)
	if a.ops != nil {
		engine := a.gateway.Engine()
		a.gateway.OpsRoutes(engine)
		if a.cfg.Profiling {
			profiles(engine)
		}
		a.opsHTTP = a.httpServer(engine)
		serve(a.opsHTTP, a.ops)
	}
}

func (a *App) loop(ctx context.Context, name string, run func(context.Context) error) {
	a.loops.Go(func() {
		if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			a.failed <- fmt.Errorf("%s: %w", name, err)
		}
	})
}

// addr is where the data plane listens.
func (a *App) addr() string { return a.main.Addr().String() }

// handover is how long busy clients have to leave their connections before the listeners close.
const handover = 250 * time.Millisecond

// stop drains: clients leave, then there are no new connections, calls in flight have the grace, past it streams end with an explicit error
// event. Then what was recorded is flushed and everything is closed.
//
//nolint:contextcheck // it runs because the context that the program started with is done
func (a *App) stop() {
	grace, cancel := context.WithTimeout(context.Background(), a.cfg.Server.DrainGrace)
	defer cancel()
	a.gateway.Retire()
	time.Sleep(min(handover, a.cfg.Server.DrainGrace/2))
	// Shutdown waits for connections, not for calls: one whose request is still being read counts as well.
	if err := a.server.Shutdown(grace); err != nil {
		a.log.Warn("the grace is over; ending what still runs", "in_flight", a.gateway.InFlight())
	}
	late, cancelLate := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancelLate()
	if err := a.gateway.Abort(late); err != nil {
		a.log.Error("calls did not end", "in_flight", a.gateway.InFlight())
	}
	// Calls have ended; their last bytes may still be on the way out.
	written, cancelWritten := context.WithTimeout(late, 2*time.Second)
	defer cancelWritten()
	_ = a.server.Shutdown(written)
	_ = a.server.Close()
	if a.opsHTTP != nil {
		_ = a.opsHTTP.Close()
	}
	a.cancel()
	a.loops.Wait()
	a.cleanup(late)
}
