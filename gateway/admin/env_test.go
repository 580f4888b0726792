package admin_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/gateway/provider"
	providerstore "github.com/promptgate/promptgate/gateway/provider/sqlstore"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/reseal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/metrics/ledger"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/keys"
	limitstore "github.com/promptgate/promptgate/policy/limits/sqlstore"
	"github.com/promptgate/promptgate/policy/rbac"
	policystore "github.com/promptgate/promptgate/policy/sqlstore"
	"github.com/promptgate/promptgate/registry"
	registrystore "github.com/promptgate/promptgate/registry/sqlstore"
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"))
}

// system is who sets the stage.
var system = journal.Origin{Actor: journal.Actor{Kind: policy.KindSystem, ID: "test", Name: "test"}}

// env is the management API on real stores, reached over HTTP. It has two projects of which the first, "shop", is most tests'.
type env struct {
	t       testing.TB
	url     string
	client  *http.Client
	api     *admin.API
	service *registry.Service
	store   *registrystore.Store
	keys    *policystore.Store
	hasher  *keys.Hasher
	journal *journal.Journal
	ledger  *ledger.Ledger
	read    counted // what the API asks the ledger
	log     *lockedBuffer
	shop    string       // id of the project
	other   string       // id of a foreign project
	admin   string       // key of shop's admin
	ahead   atomic.Int64 // how far the API's clock is ahead, in nanoseconds
}

// counted counts the calls that lists read.
type counted struct {
	metrics.Reader
	calls  atomic.Int64
	broken atomic.Bool // last calls cannot be read
}

func (c *counted) LastCalls(ctx context.Context, project string, principals []string) (map[string]time.Time, error) {
	if c.broken.Load() {
		return nil, fault.New(fault.RegistryUnavailable, "broken")
	}
	return c.Reader.LastCalls(ctx, project, principals)
}

func (c *counted) ListCalls(ctx context.Context, project string, f metrics.CallFilter, p metrics.Page) ([]metrics.Call, string, error) {
	found, next, err := c.Reader.ListCalls(ctx, project, f, p)
	c.calls.Add(int64(len(found)))
	return found, next, err
}

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

func newEnv(t testing.TB) *env {
	t.Helper()
	e := &env{t: t, log: &lockedBuffer{}}
	log := slog.New(slog.NewTextHandler(e.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	db := testenv.Open(t, testenv.SQLite(t))
	calls := testenv.Open(t, testenv.SQLite(t), sqldb.Ledger)
	sealer := testenv.Sealer(t, db)
	e.journal = journal.New(db, sealer, journal.Options{Log: log})
	var err error
	e.hasher, err = keys.NewHasher(sealer.DeriveKey(keys.HashPurpose))
	require.NoError(t, err)
	e.keys = policystore.New(db, e.journal, time.Now)
	authn, err := keys.NewAuthenticator(e.keys, e.hasher, e.journal, keys.Options{})
	require.NoError(t, err)
	checker, err := rbac.New(rbac.Options{})
	require.NoError(t, err)
	e.store = registrystore.New(db, e.journal, sealer, registrystore.Options{Gate: admin.NewGate(checker, e.keys, time.Now)})
	e.service, err = registry.NewService(e.store, registry.ServiceOptions{})
	require.NoError(t, err)
	e.ledger, err = ledger.Open(ledger.Options{DB: calls, Dir: t.TempDir(), Sealer: sealer, Log: log, FlushEvery: 5 * time.Millisecond})
	require.NoError(t, err)
	require.NoError(t, e.journal.Load(t.Context()))

	e.read.Reader = e.ledger
	engine := gin.New()
	engine.UseRawPath = true // as the program's
	e.api, err = admin.Mount(engine, admin.Deps{
		Authenticator: authn, Checker: checker, Registry: e.service, Keys: e.keys, People: e.keys, Reports: e.keys, Reviews: e.keys, Issuer: e.issue,
		Limits:    limitstore.New(db, e.journal, time.Now),
		Providers: providerstore.New(db, e.journal, sealer, providerstore.Options{Configured: []string{"house"}}), Calls: &e.read, Journal: e.journal,
		Directories: e.keys, SCIM: func() (string, string, []byte, error) { return "scim_aaaa", rand.Text()[:16], make([]byte, 32), nil },
		Sealing: reseal.New(reseal.Options{DB: db, Journal: e.journal, Sealer: sealer, Columns: []reseal.Column{registrystore.Texts{S: e.store}}}), Log: log, Clock: func() time.Time { return time.Now().Add(time.Duration(e.ahead.Load())) },
		Configured: []provider.Definition{{Name: "house", Kind: provider.ProviderOpenAI, BaseURL: "https://api.mistral.ai/v1", Enabled: true, HasCredential: true}},
	}, "test")
	require.NoError(t, err)
	engine.HandleMethodNotAllowed = true
	engine.NoRoute(e.api.NoRoute, func(c *gin.Context) { c.String(http.StatusTeapot, "another's") })
	engine.NoMethod(e.api.NoMethod)
	server := httptest.NewServer(engine)
	e.url, e.client = server.URL, server.Client()
	ctx, cancel := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	loops.Go(func() { _ = e.ledger.Run(ctx) })
	t.Cleanup(func() {
		server.Close()
		cancel()
		loops.Wait()
		_ = e.ledger.Close(context.Background())
	})
	e.shop, e.other = e.project("shop"), e.project("other")
	e.admin = e.key(e.shop, policy.RoleAdmin)
	return e
}

func (e *env) issue() (admin.Issued, error) {
	i, err := e.hasher.Issue(rand.Reader)
	return admin.Issued{Plaintext: i.Plaintext, Lookup: i.Lookup, Hash: i.Hash, LastFour: i.LastFour}, err
}

func (e *env) project(name string) string {
	e.t.Helper()
	p, err := e.service.CreateProject(e.t.Context(), system, registry.ProjectInput{Name: name})
	require.NoError(e.t, err)
	return p.ID
}

// key makes a key with roles.
func (e *env) key(project string, roles ...string) string {
	e.t.Helper()
	_, secret := e.keyWith(policy.KeyRecord{Project: project, Roles: roles})
	return secret
}

func (e *env) keyWith(r policy.KeyRecord) (id, secret string) {
	e.t.Helper()
	issued, err := e.issue()
	require.NoError(e.t, err)
	if r.Name == "" {
		r.Name = strings.Join(append([]string{"key"}, r.Roles...), " ")
	}
	r.Lookup, r.Hash, r.LastFour = issued.Lookup, issued.Hash, issued.LastFour
	k, err := e.keys.CreateKey(e.t.Context(), system, &policy.Principal{Kind: policy.KindSystem, ID: "test", Project: r.Project}, r)
	require.NoError(e.t, err)
	return k.ID, issued.Plaintext
}

// text is a body that is sent as it is; everything else is encoded as JSON.
type text string

type reply struct {
	t      testing.TB
	Status int
	Header http.Header
	Body   string
}

// do sends one request; headers stand as name, value, name, value.
func (e *env) do(key, method, path string, body any, headers ...string) reply {
	e.t.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case text:
		in = strings.NewReader(string(b))
	default:
		encoded, err := json.Marshal(b)
		require.NoError(e.t, err)
		in = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(e.t.Context(), method, e.url+"/api/v1"+path, in)
	require.NoError(e.t, err)
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := e.client.Do(req)
	require.NoError(e.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(e.t, err)
	return reply{t: e.t, Status: resp.StatusCode, Header: resp.Header, Body: string(b)}
}

// ok demands a status and decodes the body.
func (r reply) ok(status int) map[string]any {
	r.t.Helper()
	require.Equal(r.t, status, r.Status, r.Body)
	if r.Body == "" {
		return nil
	}
	var v map[string]any
	require.NoError(r.t, json.Unmarshal([]byte(r.Body), &v), r.Body)
	return v
}

// problem is a refusal.
type problem struct {
	Title, Detail, Code, Param string
	Status                     int
	Errors                     []string
}

// refused demands a problem with this status and code.
func (r reply) refused(status int, code string) problem {
	r.t.Helper()
	require.Equal(r.t, status, r.Status, r.Body)
	require.Equal(r.t, "application/problem+json", r.Header.Get("Content-Type"), r.Body)
	var p problem
	require.NoError(r.t, json.Unmarshal([]byte(r.Body), &p), r.Body)
	require.Equal(r.t, code, p.Code, r.Body)
	require.Equal(r.t, status, p.Status, "the status stands in the body as well")
	require.NotEmpty(r.t, p.Detail, "says what to do")
	require.NotEmpty(r.t, p.Title)
	return p
}

func content(text string) map[string]any {
	return map[string]any{"messages": []any{map[string]any{"role": "user", "content": text}}}
}

// prompt makes a prompt with a version and production on it.
func (e *env) prompt(project, name string) registry.Prompt {
	e.t.Helper()
	key := e.key(project, policy.RoleAdmin)
	e.do(key, "POST", "/prompts", map[string]any{"name": name, "content": content("Hello {{name}}")}).ok(201)
	p, err := e.service.Prompt(e.t.Context(), project, name)
	require.NoError(e.t, err)
	_, err = e.service.MoveLabel(e.t.Context(), system, registry.LabelMove{Project: project, PromptID: p.ID, Label: "production", To: 1})
	require.NoError(e.t, err)
	return p
}

// record puts calls into the ledger and waits until they can be read.
func (e *env) record(calls ...metrics.Call) {
	e.t.Helper()
	for i := range calls {
		calls[i].Project = e.shop
		calls[i].Outcome, calls[i].Status, calls[i].Endpoint = metrics.OutcomeOK, 200, "chat/completions"
		require.NoError(e.t, e.ledger.RecordCall(e.t.Context(), &calls[i]))
	}
	last := calls[len(calls)-1].ID
	require.Eventually(e.t, func() bool {
		_, err := e.ledger.Call(e.t.Context(), e.shop, last)
		return err == nil
	}, 10*time.Second, 5*time.Millisecond)
}
