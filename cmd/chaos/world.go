package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/promptgate/promptgate/internal/testenv"
)

const (
	replicas = 3
	// hotPrompts are called all the time; their label moves under load, hotVersions round and round.
	hotPrompts  = 20
	hotVersions = 8
)

// world is everything that one run starts. The paths are
//
//	replica → toxiproxy → relay → redis-server
//	replica → toxiproxy → PostgreSQL
//
// with two toxiproxies for each replica, so that one replica alone can be cut off.
type world struct {
	t        testing.TB
	o        options
	redis    *testenv.RedisServer
	postgres *testenv.PostgresServer
	relay    *relay
	cache    []*toxiproxy.Proxy // before Redis, by replica
	database []*toxiproxy.Proxy // before PostgreSQL, by replica
	upstream *httptest.Server
	replicas []*replica
	client   *http.Client
	admin    string // key that may do everything in the project
	caller   string // key that the load uses
	cold     int    // labels that are called once on each replica
}

func newWorld(t testing.TB, o options, cold int) *world {
	w := &world{t: t, o: o, cold: cold}
	w.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 512, IdleConnTimeout: time.Minute}}
	t.Cleanup(w.client.CloseIdleConnections)
	w.redis, w.postgres = testenv.Redis(t), testenv.OwnPostgres(t)
	w.upstream = newUpstream()
	t.Cleanup(w.upstream.Close)
	var err error
	if w.relay, err = newRelay(t.Context(), w.redis.Addr); err != nil {
		t.Fatalf("relay: %v", err)
	}
	t.Cleanup(w.relay.close)
	w.openProxies()
	w.makeReplicas()
	return w
}

func (w *world) openProxies() {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	open := func(name, upstream string) *toxiproxy.Proxy {
		p := toxiproxy.NewProxy(server, name, "127.0.0.1:0", upstream)
		if err := p.Start(); err != nil {
			w.t.Fatalf("toxiproxy: %v", err)
		}
		w.t.Cleanup(p.Stop)
		return p
	}
	u, err := url.Parse(w.postgres.URL)
	if err != nil {
		w.t.Fatalf("postgres: %v", err)
	}
	for n := range replicas {
		w.cache = append(w.cache, open(fmt.Sprintf("redis-%d", n), w.relay.addr()))
		w.database = append(w.database, open(fmt.Sprintf("postgres-%d", n), u.Host))
	}
}

// binary builds promptgate, unless it is there.
func (w *world) binary(dir string) string {
	if w.o.binary != "" {
		return w.o.binary
	}
	name := filepath.Join(dir, "promptgate")
	cmd := exec.CommandContext(w.t.Context(), "go", "build", "-pgo=off", "-o", name, "github.com/promptgate/promptgate/cmd/promptgate") //nolint:gosec // our own paths
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("build promptgate: %v\n%s", err, out)
	}
	return name
}

func (w *world) makeReplicas() {
	dir := w.t.TempDir()
	name := w.binary(dir)
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails
	config := fmt.Sprintf("providers: [{name: openai, kind: openai, base_url: %q, api_key: sk-upstream, allow_private: true}]\n", w.upstream.URL+"/v1")
	for n := range replicas {
		r := &replica{n: n + 1, name: name, dir: filepath.Join(dir, fmt.Sprintf("replica-%d", n+1)), addr: freeAddr(w.t)}
		r.url = "http://" + r.addr
		if err := os.MkdirAll(r.dir, 0o700); err != nil {
			w.t.Fatalf("%v", err)
		}
		if err := os.WriteFile(filepath.Join(r.dir, "config.yaml"), []byte(config), 0o600); err != nil {
			w.t.Fatalf("%v", err)
		}
		u, err := url.Parse(w.postgres.URL)
		if err != nil {
			w.t.Fatalf("postgres: %v", err)
		}
		u.Host = w.database[n].Listen
		r.env = append(plainEnv(),
			"PROMPTGATE_DATABASE_URL="+u.String(), "PROMPTGATE_REDIS_ADDRS="+w.cache[n].Listen, "PROMPTGATE_LOG_FORMAT=json",
			"PROMPTGATE_ENCRYPTION_MASTER_KEY="+base64.StdEncoding.EncodeToString(secret[:]))
		w.replicas = append(w.replicas, r)
	}
}

// plainEnv is the environment without what would configure a replica.
func plainEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PROMPTGATE_") && !strings.HasPrefix(kv, "OPENAI_") {
			env = append(env, kv)
		}
	}
	return env
}

func freeAddr(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed at once
	if err != nil {
		t.Fatalf("find a port: %v", err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startAll starts the replicas at once, so that they race for the migrations, after the first key was made on the database itself.
func (w *world) startAll(ctx context.Context) error {
	first := w.replicas[0]
	args := []string{
		"key", "create", "chaos", "--local", "--init", "--project", "chaos", "--role", "admin", "--call", "**", "--data", filepath.Join(first.dir, "data"),
	}
	cmd := exec.CommandContext(ctx, first.name, args...) //nolint:gosec // our own binary
	cmd.Env = first.env
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("make the first key: %w", err)
	}
	w.admin = strings.TrimSpace(string(out))
	var g errgroup.Group
	for _, r := range w.replicas {
		w.t.Cleanup(r.end)
		g.Go(func() error { return r.start(ctx) })
	}
	return g.Wait()
}

// apiTimeout bounds one request to the management API.
const apiTimeout = 20 * time.Second

// api makes one request to a replica with the admin's key.
func (w *world) api(ctx context.Context, r *replica, method, path string, in, out any) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	body := ""
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return 0, err
		}
		body = string(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.url+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+w.admin)
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return resp.StatusCode, err
	case resp.StatusCode >= 300:
		return resp.StatusCode, fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, text)
	case out == nil:
		return resp.StatusCode, nil
	}
	return resp.StatusCode, json.Unmarshal(text, out)
}

type object = map[string]any

func content(version int) object {
	return object{"model": "gpt-4o-mini", "messages": []object{
		{"role": "system", "content": fmt.Sprintf("You are version %d.", version)}, {"role": "user", "content": "Hello {{name}}"},
	}}
}

// makeKey makes a key for callers that may render and call every prompt.
func (w *world) makeKey(ctx context.Context, r *replica, name string) (id, secret string, err error) {
	var out struct{ ID, Key string }
	_, err = w.api(ctx, r, http.MethodPost, "/keys", object{
		"name": name, "roles": []string{"viewer"}, "grants": []object{{"actions": []string{"call"}, "prompts": []string{"**"}}},
	}, &out)
	return out.ID, out.Key, err
}

// moveLabel points a label at a version.
func (w *world) moveLabel(ctx context.Context, r *replica, prompt, label string, version int) (status int, err error) {
	return w.api(ctx, r, http.MethodPut, "/prompts/"+url.PathEscape(prompt)+"/labels/"+label, object{"version": version}, nil)
}

// seed makes the prompts, labels and the load's key, through all replicas at once.
func (w *world) seed(ctx context.Context) error {
	var err error
	if _, w.caller, err = w.makeKey(ctx, w.replicas[0], "load"); err != nil {
		return err
	}
	prompts, gctx := errgroup.WithContext(ctx)
	prompts.SetLimit(8)
	for n := range hotPrompts {
		prompts.Go(func() error { return w.makePrompt(gctx, w.replicas[n%replicas], hotPrompt(n), hotVersions) })
	}
	for _, name := range []string{coldPrompt, seenPrompt} {
		prompts.Go(func() error { return w.makePrompt(gctx, w.replicas[0], name, 2) })
	}
	if err := prompts.Wait(); err != nil {
		return err
	}
	labels, gctx := errgroup.WithContext(ctx)
	labels.SetLimit(8)
	for n := range w.cold {
		labels.Go(func() error {
			_, err := w.moveLabel(gctx, w.replicas[n%replicas], coldPrompt, coldLabel(n), 1)
			return err
		})
	}
	return labels.Wait()
}

func (w *world) makePrompt(ctx context.Context, r *replica, name string, versions int) error {
	_, err := w.api(ctx, r, http.MethodPost, "/prompts", object{"name": name, "content": content(1)}, nil)
	for n := 2; n <= versions && err == nil; n++ {
		_, err = w.api(ctx, r, http.MethodPost, "/prompts/"+url.PathEscape(name)+"/versions", object{"content": content(n)}, nil)
	}
	if err == nil {
		_, err = w.moveLabel(ctx, r, name, "production", 1)
	}
	return err
}

const (
	coldPrompt = "chaos/cold"
	seenPrompt = "chaos/seen"
)

func hotPrompt(n int) string { return fmt.Sprintf("chaos/hot-%d", n) }
func coldLabel(n int) string { return fmt.Sprintf("cold-%d", n) }

// inService is a replica that takes changes, from the n-th on.
func (w *world) inService(n int) (*replica, error) {
	for i := range replicas {
		if r := w.replicas[(n+i)%replicas]; !r.out.Load() {
			return r, nil
		}
	}
	return nil, errNoReplica
}
