package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/metrics"
)

// routes makes the router from the configured providers and those that projects store.
func (a *App) routes(reg prometheus.Registerer) (*provider.Routes, error) {
	circuits := metrics.NewCircuits()
	var static []provider.Static
	for _, c := range a.cfg.Providers {
		p, err := configured(c)
		if err != nil {
			return nil, fmt.Errorf("provider %s: %w", c.Name, err)
		}
		prices, err := priceList(c)
		if err != nil {
			return nil, fmt.Errorf("provider %s: price_list: %w", c.Name, err)
		}
		static = append(static, provider.Static{Provider: p, Models: c.Models, Prices: provider.PriceList(c.Kind, c.BaseURL, prices)})
	}
	routes, err := provider.NewRoutes(provider.RoutesOptions{
		Static: static, Source: a.stores.providers, Build: stored, Log: a.log,
		Breaker: provider.BreakerOptions{
			MinCallers: a.cfg.Breaker.MinCallers, MinCalls: a.cfg.Breaker.MinCalls, OpenFor: a.cfg.Breaker.OpenFor, Log: a.log,
			Changed: func(to provider.State) { circuits.Changed(string(to)) },
		},
	})
	if err != nil {
		return nil, err
	}
	return routes, circuits.RegisterWith(reg, func(yield func(project, provider string, open float64)) {
		routes.Breakers(func(project, name string, b *provider.Breaker) {
			yield(project, name, map[provider.State]float64{provider.Open: 1, provider.HalfOpen: 0.5}[b.State()])
		})
	})
}

// maxIdleUser bounds what an idle hasher keeps room for, in bytes: callers choose how long a user's name is.
const maxIdleUser = 4 << 10

// userHash makes the keyed hash of an end user's name that the ledger keeps: figures by user without their names.
func userHash(key []byte) func(project, user string) string {
	type hasher struct {
		hash.Hash
		in  []byte
		sum [sha256.Size]byte
	}
	idle := sync.Pool{New: func() any { return &hasher{Hash: hmac.New(sha256.New, key)} }} // keying costs as much as hashing
	return func(project, user string) string {
		h, _ := idle.Get().(*hasher)
		h.in = append(append(append(h.in[:0], project...), 0), user...)
		h.Reset()
		_, _ = h.Write(h.in) // a hash takes everything
		var out [22]byte
		base64.RawURLEncoding.Encode(out[:], h.Sum(h.sum[:0])[:16])
		if cap(h.in) <= maxIdleUser {
			idle.Put(h)
		}
		return string(out[:])
	}
}

// digestHash makes the keyed hash of a version's digest that those see who may not read the version. What was hashed is remembered: prompts have few
// versions that are called.
func digestHash(key []byte) func(project, digest string) string {
	const most = 10_000
	var mu sync.RWMutex
	seen := map[[2]string]string{}
	return func(project, digest string) string {
		at := [2]string{project, digest}
		mu.RLock()
		known, ok := seen[at]
		mu.RUnlock()
		if ok {
			return known
		}
		h := hmac.New(sha256.New, key)
		_, _ = h.Write([]byte(project + "\x00" + digest)) // a hash takes everything
		out := "keyed:" + hex.EncodeToString(h.Sum(nil))
		mu.Lock()
		defer mu.Unlock()
		if len(seen) < most {
			seen[at] = out
		}
		return out
	}
}

func metricsHandler(reg *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// opsRoutes puts onto the main listener what operators ask, unless there is a listener for it.
func (a *App) opsRoutes(engine *gin.Engine) {
	switch {
	case a.ops != nil:
	case loopback(a.main.Addr()):
		a.gateway.OpsRoutes(engine)
	default:
		a.gateway.HealthRoutes(engine)
		a.log.Warn("/metrics is not served: it names prompts, and addr can be reached from elsewhere; "+
			"set ops_addr (PROMPTGATE_OPS_ADDR) to a listener of its own, such as 127.0.0.1:9090", "addr", a.addr())
	}
}

// manage puts the management API, SCIM and the pages to sign in on onto the engine.
//
//nolint:contextcheck // requests bring their contexts
func (a *App) manage(engine *gin.Engine, rec *recording, reg *prometheus.Registry) error {
	s := a.stores
	definitions, err := definitions(a.cfg.Providers)
	if err != nil {
		return err
	}
	directories, err := a.provisioning(engine, reg)
	if err != nil {
		return err
	}
	deps := admin.Deps{
		Configured:    definitions,
		Authenticator: a.authn, Checker: s.checker, Registry: s.service, Keys: s.keys, People: s.keys, Reports: s.keys, Reviews: s.keys, Issuer: s.issuer, Providers: s.providers, Limits: s.limits,
		Calls: rec, Journal: s.feed, Sealing: a.sealing, Directories: s.keys, SCIM: s.scimIssuer, Log: a.log, Clock: time.Now,
	}
	if err := a.signIn(engine, reg, &deps); err != nil {
		return err
	}
	api, err := admin.Mount(engine, deps, version)
	if err != nil {
		return err
	}
	engine.NoRoute(api.NoRoute, directories.NoRoute, a.gateway.NoRoute)
	engine.NoMethod(api.NoMethod, a.gateway.NoMethod)
	return nil
}
