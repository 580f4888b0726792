package gateway_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway"
	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/openai"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/template"
)

const (
	project = "prj_one"
	other   = "prj_two"
)

// env is a gateway behind a real server, before a real upstream.
type env struct {
	t        testing.TB
	gw       *gateway.Gateway
	server   *httptest.Server
	upstream *upstream
	registry *fakeRegistry
	keys     *fakeKeys
	recorder *fakeRecorder
	checker  *fakeChecker
	feed     *fakeFeed
	router   *fakeRouter
	ids      *gateway.CallIDs
	logs     *lockedBuffer
	meter    *fakeMeter
}

type setup struct {
	deps gateway.Deps
	opts gateway.Options
	up   openai.Options
	read time.Duration // the server's ReadTimeout
}

// upAt is a provider at url that speaks chat and the toy of the tests.
func upAt(url, name, credential string) openai.Options {
	o := openai.Options{Credential: provider.NewSecret(credential)}
	o.Name, o.BaseURL, o.AllowPrivate, o.APIs = name, url+"/v1", true, append(provider.OpenAIAPIs(), "messages", "toy")
	return o
}

func newEnv(t testing.TB, change ...func(*setup)) *env {
	t.Helper()
	gin.SetMode(gin.ReleaseMode)
	e := &env{t: t, registry: newFakeRegistry(t), recorder: &fakeRecorder{}, checker: &fakeChecker{}, feed: &fakeFeed{},
		logs: &lockedBuffer{}, keys: newFakeKeys(), upstream: newUpstream(t), meter: &fakeMeter{}}
	ids, err := gateway.NewCallIDs(func(p string) []byte { return []byte("0123456789abcdef" + p) }, rand.Reader, time.Now)
	require.NoError(t, err)
	e.ids = ids
	s := setup{opts: gateway.DefaultOptions(), up: upAt(e.upstream.URL, "up", "sk-provider")}
	s.deps = gateway.Deps{
		Authenticator: e.keys, Checker: e.checker, Registry: e.registry, Catalog: e.registry, Recorder: e.recorder, Pricer: fakePricer{},
		Feed: e.feed, CallIDs: ids, HashUser: func(p, u string) string { return "hash:" + p + ":" + u }, Clock: time.Now,
		HashDigest: func(p, d string) string { return "keyed:" + p + ":" + strconv.Itoa(len(d)) },
		Forwarder:  provider.NewForwarder(provider.RetryOptions{Delay: time.Millisecond, MaxDelay: 4 * time.Millisecond}),
		Log:        slog.New(slog.NewTextHandler(e.logs, &slog.HandlerOptions{Level: slog.LevelDebug})), Meter: e.meter,
	}
	for _, f := range change {
		f(&s)
	}
	up, err := openai.New(s.up)
	require.NoError(t, err)
	t.Cleanup(func() { _ = up.Close() })
	e.router = &fakeRouter{targets: map[string][]provider.Target{
		"gpt-test": {{Provider: up, Model: "gpt-test"}},
		"alias":    {{Provider: up, Model: "gpt-test"}},
	}}
	if s.deps.Router == nil {
		s.deps.Router = e.router
	}
	e.gw, err = gateway.New(s.deps, s.opts)
	require.NoError(t, err)
	e.server = httptest.NewUnstartedServer(e.gw.Handler())
	e.server.Config.BaseContext, e.server.Config.ReadTimeout = e.gw.BaseContext, s.read
	e.server.Start()
	t.Cleanup(e.server.Close)
	t.Cleanup(e.upstream.Close)
	return e
}

// answer is a response, read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error
}

func (a answer) code() string {
	var env struct{ Error struct{ Code string } }
	_ = json.Unmarshal(a.body, &env)
	return env.Error.Code
}

func (a answer) message() string {
	var env struct{ Error struct{ Message string } }
	_ = json.Unmarshal(a.body, &env)
	return env.Error.Message
}

func (e *env) request(method, path, body string, header ...string) *http.Request {
	e.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, e.server.URL+path, strings.NewReader(body))
	require.NoError(e.t, err)
	req.Header.Set("Authorization", "Bearer caller")
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		if header[i+1] == "" {
			req.Header.Del(header[i])
			continue
		}
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

func (e *env) do(req *http.Request) answer {
	e.t.Helper()
	res, err := e.server.Client().Do(req)
	require.NoError(e.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{status: res.StatusCode, header: res.Header, body: body, err: err}
}

func (e *env) post(path, body string, header ...string) answer {
	e.t.Helper()
	return e.do(e.request(http.MethodPost, path, body, header...))
}

func (e *env) chat(body string, header ...string) answer {
	e.t.Helper()
	return e.post("/v1/chat/completions", body, header...)
}

// upstream is a provider that a test can script.
type upstream struct {
	*httptest.Server
	mu     sync.Mutex
	serve  http.HandlerFunc
	bodies [][]byte
	heads  []http.Header
}

const okJSON = `{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-test","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":2,"total_tokens":13}}`

func newUpstream(t testing.TB) *upstream {
	u := &upstream{serve: respondJSON(http.StatusOK, okJSON)}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		u.mu.Lock()
		u.bodies, u.heads = append(u.bodies, body), append(u.heads, r.Header.Clone())
		serve := u.serve
		u.mu.Unlock()
		serve(w, r)
	}))
	return u
}

func (u *upstream) set(h http.HandlerFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.serve = h
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.bodies)
}

func (u *upstream) last() ([]byte, http.Header) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.bodies) == 0 {
		return nil, nil
	}
	return u.bodies[len(u.bodies)-1], u.heads[len(u.heads)-1]
}

func respondJSON(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// respondEvents streams chunks, each flushed.
func respondEvents(chunks ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, c := range chunks {
			_, _ = io.WriteString(w, c)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

func delta(text string) string {
	b, _ := json.Marshal(text)
	return `data: {"id":"chatcmpl-s","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":` + string(b) + `}}]}` + "\n\n"
}

const (
	finishEvent = `data: {"id":"chatcmpl-s","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	usageEvent  = `data: {"id":"chatcmpl-s","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}` + "\n\n"
	doneEvent   = "data: [DONE]\n\n"
)

// fakeKeys knows keys by their text.
type fakeKeys struct {
	mu   sync.Mutex
	keys map[string]*policy.Principal
	err  error
}

func newFakeKeys() *fakeKeys {
	all := policy.Grant{Actions: []policy.Action{policy.ActionCall, policy.ActionRead}, Prompts: []string{"support/**", "gone/**"},
		Labels: []string{"production", "staging", "missing", policy.LabelVersion, policy.LabelModel}, Models: []string{"*"}}
	return &fakeKeys{keys: map[string]*policy.Principal{
		"caller":   {ID: "key_caller", Kind: "key", Project: project, Grants: []policy.Grant{all}},
		"prompts":  {ID: "key_prompts", Kind: "key", Project: project, Grants: []policy.Grant{{Actions: []policy.Action{policy.ActionCall}, Prompts: []string{"support/*"}, Labels: []string{"production"}}}},
		"override": {ID: "key_override", Kind: "key", Project: project, Grants: []policy.Grant{{Actions: []policy.Action{policy.ActionCall}, Prompts: []string{"support/*"}, Labels: []string{"production"}, Models: []string{"gpt-*"}}}},
		"nothing":  {ID: "key_nothing", Kind: "key", Project: project},
		"reviewer": {ID: "key_reviewer", Kind: "key", Project: project, Grants: []policy.Grant{{Actions: []policy.Action{policy.ActionFeedback}, Prompts: []string{"support/**"}}}},
		"foreign":  {ID: "key_foreign", Kind: "key", Project: other, Grants: []policy.Grant{all}},
		"fenced":   {ID: "key_fenced", Kind: "key", Project: project, Grants: []policy.Grant{all}, Networks: []string{"10.0.0.0/8"}},
	}}
}

func (f *fakeKeys) Authenticate(_ context.Context, credential string) (*policy.Principal, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	if p := f.keys[credential]; p != nil {
		return p, nil
	}
	return nil, fault.New(fault.InvalidAPIKey, "This API key is not valid.")
}

// fakeChecker reads the rules naively.
type fakeChecker struct {
	mu    sync.Mutex
	err   error
	asked []policy.Permission
}

func (f *fakeChecker) Check(_ context.Context, p *policy.Principal, want policy.Permission) (policy.Decision, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, want)
	if f.err != nil {
		return policy.Decision{}, f.err
	}
	rules, err := p.Rules()
	if err != nil {
		return policy.Decision{}, err
	}
	d := policy.Decision{Missing: string(want.Action) + " on " + want.Name + "@" + want.Label}
	for _, r := range rules {
		d.Holds = d.Holds || r.MatchesObject(want.Kind, want.Name)
		d.Allowed = d.Allowed || r.Matches(want)
	}
	return d, nil
}

// fakeRegistry holds prompts in memory.
type fakeRegistry struct {
	t        testing.TB
	mu       sync.Mutex
	prompts  map[string]*registry.Identified // by handle
	versions map[string]map[int]*template.Compiled
	labels   map[string]map[string]int
	stale    time.Duration
	err      error
	resolves atomic.Int64
	lists    atomic.Int64
}

func newFakeRegistry(t testing.TB) *fakeRegistry {
	r := &fakeRegistry{t: t, prompts: map[string]*registry.Identified{}, versions: map[string]map[int]*template.Compiled{}, labels: map[string]map[string]int{}}
	r.add("support/triage", map[string]int{"production": 1, "staging": 2}, template.Content{
		Messages: []template.Message{{Role: "system", Text: "Sort tickets."}, {Role: "user", Text: "Ticket: {{ticket}}"}},
		Model:    "gpt-test", Parameters: map[string]json.RawMessage{"temperature": json.RawMessage("0.3")}, Locked: []string{"temperature"},
		Variables: map[string]template.Variable{"ticket": {Schema: json.RawMessage(`{"type":"string"}`), Required: true}},
	}, template.Content{
		Messages: []template.Message{{Role: "system", Text: "Version two: {{ticket}}{{mood}}"}},
		Model:    "gpt-test",
		Variables: map[string]template.Variable{"ticket": {Schema: json.RawMessage(`{"type":"string"}`), Required: true},
			"mood": {Schema: json.RawMessage(`{"type":"string"}`), Default: json.RawMessage(`"calm"`)}},
	})
	r.add("support/reply", map[string]int{"production": 1}, template.Content{
		Messages: []template.Message{{Role: "system", Text: "Reply kindly."}, {Type: template.TypePlaceholder, Name: "history"}},
	})
	r.add("gone/away", map[string]int{"production": 1}, template.Content{Messages: []template.Message{{Role: "user", Text: "x"}}, Model: "gpt-test"})
	r.prompts["gone/away"].Archived = true
	return r
}

func (r *fakeRegistry) add(name string, labels map[string]int, contents ...template.Content) {
	id := "pmpt_" + strings.ReplaceAll(name, "/", "")
	p := &registry.Identified{Prompt: registry.Prompt{
		ID: id, Project: project, Name: name, Kind: registry.KindChat, LatestVersion: len(contents), CreatedAt: time.Unix(1700000000, 0),
	}}
	r.versions[id] = map[int]*template.Compiled{}
	for i, c := range contents {
		compiled, err := template.Compile(c, nil)
		require.NoError(r.t, err)
		r.versions[id][i+1] = compiled
		for v := range compiled.Content().Variables {
			if !slices.Contains(p.Variables, v) {
				p.Variables = append(p.Variables, v)
			}
		}
	}
	slices.Sort(p.Variables)
	r.prompts[name], r.prompts[id], r.labels[id] = p, p, labels
}

func (r *fakeRegistry) Identify(_ context.Context, prj, handle string) (*registry.Identified, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, r.err
	}
	if p := r.prompts[handle]; p != nil && p.Project == prj {
		return p, nil
	}
	return nil, registry.ErrPromptNotFound()
}

func (r *fakeRegistry) DefaultLabel(context.Context, string) (string, error) {
	return "production", nil
}

func (r *fakeRegistry) Resolve(_ context.Context, p *registry.Identified, sel registry.Selector) (*registry.Resolved, error) {
	r.resolves.Add(1)
	out := &registry.Resolved{Prompt: &p.Prompt, Digest: "sha256:d", Stale: r.stale}
	switch sel.Kind {
	case registry.SelectVersion:
		out.Version = sel.Version
	case registry.SelectLabel:
		out.Label = sel.Label
	default:
		out.Label = "production"
	}
	if out.Label != "" {
		if out.Version = r.labels[p.ID][out.Label]; out.Version == 0 {
			return nil, fault.New(fault.LabelNotFound, "no such label")
		}
	}
	if out.Template = r.versions[p.ID][out.Version]; out.Template == nil {
		return nil, fault.New(fault.VersionNotFound, "no such version")
	}
	return out, nil
}

func (r *fakeRegistry) ListPrompts(_ context.Context, prj string, _ registry.PromptFilter, page registry.Page) ([]registry.Prompt, string, error) {
	r.lists.Add(1)
	var names []string
	for handle, p := range r.prompts {
		if p.Name == handle && p.Project == prj && !p.Archived && handle > page.After {
			names = append(names, handle)
		}
	}
	slices.Sort(names)
	var out []registry.Prompt
	for _, n := range names {
		if len(out) == 1 { // one a page, to walk the pages
			return out, out[0].Name, nil
		}
		out = append(out, r.prompts[n].Prompt)
	}
	return out, "", nil
}

func (r *fakeRegistry) ListLabels(_ context.Context, _, promptID string) ([]registry.Label, error) {
	var out []registry.Label
	for name, v := range r.labels[promptID] {
		out = append(out, registry.Label{Name: name, Version: v})
	}
	return out, nil
}

// fakeRouter serves fixed targets.
type fakeRouter struct {
	targets map[string][]provider.Target
	prompts map[string]string
	err     error
}

func (f *fakeRouter) Prompt(_ context.Context, _, model string) (string, error) {
	return f.prompts[model], f.err
}

func (f *fakeRouter) Route(_ context.Context, _, model string) ([]provider.Target, error) {
	if f.err != nil {
		return nil, f.err
	}
	if t := f.targets[model]; t != nil {
		return t, nil
	}
	return nil, fault.New(fault.ModelNotFound, "There is no model %q.", model).WithParam("model")
}

func (f *fakeRouter) Provider(_ context.Context, _, name string) (provider.Target, error) {
	for _, targets := range f.targets {
		for _, t := range targets {
			if t.Provider.Name() == name && f.err == nil {
				t.Model = ""
				return t, nil
			}
		}
	}
	return provider.Target{}, cmp.Or(f.err, error(fault.New(fault.NotFound, "There is no provider %q.", name)))
}

func (f *fakeRouter) Providers(context.Context, string) (all []provider.Target, err error) {
	seen := map[string]bool{}
	for _, targets := range f.targets {
		for _, t := range targets {
			if name := t.Provider.Name(); !seen[name] {
				t.Model, seen[name] = "", true
				all = append(all, t)
			}
		}
	}
	return all, f.err
}

func (f *fakeRouter) Models(context.Context, string) ([]string, error) {
	return slices.Sorted(maps.Keys(f.known())), nil
}

func (f *fakeRouter) known() map[string]bool {
	known := map[string]bool{"alias": true, "gpt-test": true}
	for name := range f.prompts {
		known[name] = true
	}
	return known
}

// fakeRecorder copies what it is given.
type fakeRecorder struct {
	mu       sync.Mutex
	calls    []metrics.Call
	fb       []metrics.Feedback
	err      error
	hook     func(*metrics.Call)
	full     error // of Reserve
	promises int
}

func (f *fakeRecorder) Reserve() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full != nil {
		return f.full
	}
	f.promises++
	return nil
}

func (f *fakeRecorder) Release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.promises--
}

func (f *fakeRecorder) RecordCall(ctx context.Context, c *metrics.Call) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	copied := *c
	copied.Attempts = slices.Clone(c.Attempts)
	if c.CostMicros != nil {
		copied.CostMicros = new(*c.CostMicros)
	}
	for i := range copied.Attempts {
		if a := &copied.Attempts[i]; a.CostMicros != nil {
			a.CostMicros = new(*a.CostMicros)
		}
	}
	f.calls = append(f.calls, copied)
	if f.hook != nil {
		f.hook(&copied)
	}
	return f.err
}

func (f *fakeRecorder) RecordFeedback(_ context.Context, fb *metrics.Feedback) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fb = append(f.fb, *fb)
	return f.err
}

func (f *fakeRecorder) all() []metrics.Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func (f *fakeRecorder) last() metrics.Call {
	calls := f.all()
	return calls[len(calls)-1]
}

func (f *fakeRecorder) FindCall(_ context.Context, prj, id, completion string) (metrics.Call, error) {
	for _, c := range f.all() {
		if c.Project == prj && (id != "" && c.ID == id || completion != "" && c.CompletionID == completion) {
			return c, nil
		}
	}
	return metrics.Call{}, fault.New(fault.CallNotFound, "no")
}

// only is the one call that was recorded, waited for: a handler may still be ending when its client has gone.
func (e *env) only() metrics.Call {
	e.t.Helper()
	require.Eventually(e.t, func() bool { return len(e.recorder.all()) > 0 && e.gw.InFlight() == 0 }, 10*time.Second, time.Millisecond)
	calls := e.recorder.all()
	require.Len(e.t, calls, 1)
	return calls[0]
}

type fakePricer struct{}

func (fakePricer) Cost(_ *metrics.PriceList, model string, _ time.Time, t metrics.Tokens) (int64, bool) {
	return t.Input*1000 + t.Output*500, model == "gpt-test"
}

type fakeFeed struct {
	revision atomic.Int64
	waited   atomic.Int64
}

func (f *fakeFeed) Wait(ctx context.Context, want int64) error {
	f.waited.Add(1)
	if f.revision.Load() >= want {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}
func (f *fakeFeed) Revision() int64        { return f.revision.Load() }
func (f *fakeFeed) ConfirmedAt() time.Time { return time.Now() }

type fakeMeter struct{ started, ended, observed atomic.Int64 }

func (f *fakeMeter) CallStarted()              { f.started.Add(1) }
func (f *fakeMeter) CallEnded()                { f.ended.Add(1) }
func (f *fakeMeter) ObserveCall(*metrics.Call) { f.observed.Add(1) }

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var errBroken = errors.New("broken on purpose")

func itoa(n int) string { return strconv.Itoa(n) }

func (e *env) closeProviders() {
	for _, targets := range e.router.targets {
		for _, t := range targets {
			if c, ok := t.Provider.(io.Closer); ok {
				_ = c.Close()
			}
		}
	}
}

// useUpstream sends all models to another address.
func (e *env) useUpstream(t testing.TB, url string) {
	t.Helper()
	up, err := openai.New(upAt(url, "up", "sk-provider"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = up.Close() })
	for model := range e.router.targets {
		e.router.targets[model] = []provider.Target{{Provider: up, Model: "gpt-test"}}
	}
}
