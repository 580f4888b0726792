// Package scim serves SCIM 2.0 (RFC 7643, 7644) below /scim/v2: directories such as Okta and Entra provision accounts and groups. A directory comes with
// a token of its own, which opens nothing else; no API key and no session opens this. What it may touch is judged by the store, in each change.
package scim

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

// Base is the path that everything stands below.
const Base = "/scim/v2"

const (
	maxBody     = 2 << 20 // bytes; a group of maxMembers
	maxAtOnce   = 16      // requests
	bodyTime    = 20 * time.Second
	contentType = "application/scim+json"
	noteEvery   = time.Minute // how often a token's use is written
)

// Deps is what a Server works with. All are needed.
type Deps struct {
	Store  policy.ProvisioningStore
	Tokens *Tokens
	Meter  Meter
	Log    *slog.Logger
	Clock  func() time.Time
}

// Meter counts requests.
type Meter interface {
	SCIM(operation string, status int)
}

// Server serves SCIM.
type Server struct {
	Deps

	slots   chan struct{}
	repeats fault.Repeats

	mu    sync.Mutex
	noted map[string]time.Time // when a token's use was last written
}

// New makes a Server.
func New(d Deps) (*Server, error) {
	if d.Store == nil || d.Tokens == nil || d.Meter == nil || d.Log == nil || d.Clock == nil {
		return nil, errors.New("scim: a dependency is missing")
	}
	return &Server{Deps: d, slots: make(chan struct{}, maxAtOnce), noted: map[string]time.Time{}}, nil
}

// request is an authenticated one.
type request struct {
	*http.Request
	id        string // in the path
	directory policy.Directory
	origin    journal.Origin
	body      json.RawMessage
}

// answer is what a handler says.
type answer struct {
	status   int
	body     any // nil: none
	version  int64
	location string
}

type handler func(ctx context.Context, r *request) (answer, error)

// Mount registers the routes.
func (s *Server) Mount(engine *gin.Engine) {
	g := engine.Group(Base)
	for _, at := range s.routes() {
		g.Handle(at.method, at.path, s.serve(at.operation, at.run))
	}
}

type route struct {
	method, path, operation string
	run                     handler
}

func (s *Server) routes() []route {
	return []route{
		{http.MethodGet, "/ServiceProviderConfig", "config", s.config},
		{http.MethodGet, "/Schemas", "config", s.schemas},
		{http.MethodGet, "/Schemas/:id", "config", s.schema},
		{http.MethodGet, "/ResourceTypes", "config", s.types},
		{http.MethodGet, "/ResourceTypes/:id", "config", s.typ},
		{http.MethodGet, "/Users", "list", s.listUsers},
		{http.MethodPost, "/Users", "create", s.createUser},
		{http.MethodGet, "/Users/:id", "get", s.getUser},
		{http.MethodPut, "/Users/:id", "replace", s.putUser},
		{http.MethodPatch, "/Users/:id", "patch", s.patchUser},
		{http.MethodDelete, "/Users/:id", "delete", s.deleteUser},
		{http.MethodGet, "/Groups", "list", s.listGroups},
		{http.MethodPost, "/Groups", "create", s.createGroup},
		{http.MethodGet, "/Groups/:id", "get", s.getGroup},
		{http.MethodPut, "/Groups/:id", "replace", s.putGroup},
		{http.MethodPatch, "/Groups/:id", "patch", s.patchGroup},
		{http.MethodDelete, "/Groups/:id", "delete", s.deleteGroup},
	}
}

func (s *Server) serve(operation string, run handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		a, err := s.run(c, run)
		status := a.status
		if err != nil {
			p := s.problem(c.Request.Context(), err)
			status = p.status()
			s.write(c, status, p)
		} else {
			h := c.Writer.Header()
			if a.version > 0 {
				h.Set("ETag", etag(a.version))
			}
			if a.location != "" {
				h.Set("Location", a.location)
			}
			s.write(c, status, a.body)
		}
		s.Meter.SCIM(operation, status)
	}
}

// run finds out who asks before anything of the request is read.
func (s *Server) run(c *gin.Context, run handler) (answer, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return answer{}, fault.New(fault.Overloaded, "Too many SCIM requests are being answered. Try again shortly.")
	}
	ctx := c.Request.Context()
	t, err := s.authenticate(ctx, c.Request)
	if err != nil {
		return answer{}, err
	}
	r := &request{
		Request: c.Request, id: c.Param("id"), directory: policy.Directory{Name: t.Directory, Domains: t.Domains},
		origin: journal.Origin{Actor: journal.Actor{Kind: policy.KindSCIM, ID: t.ID, Name: t.Directory}, From: address(c.Request.RemoteAddr)},
	}
	if r.Method != http.MethodGet && r.Method != http.MethodDelete {
		if r.body, err = readBody(c); err != nil {
			return answer{}, err
		}
	}
	return run(ctx, r)
}

func address(remote string) string {
	if at, err := netip.ParseAddrPort(remote); err == nil {
		return at.Addr().Unmap().String()
	}
	return remote
}

// authenticate is whose token the request carries. It is looked up each time: one that is revoked opens nothing from then on.
func (s *Server) authenticate(ctx context.Context, r *http.Request) (policy.SCIMToken, error) {
	refused := fault.New(fault.InvalidAPIKey, "Send a SCIM token (scim_…) as \"Authorization: Bearer\": this one is missing, unknown, expired or revoked. API keys and sessions open nothing here.")
	scheme, token, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	token = strings.TrimSpace(token)
	lookup, ok := Parse(token)
	if !ok || !strings.EqualFold(scheme, "Bearer") || len(r.Header.Values("Authorization")) != 1 {
		return policy.SCIMToken{}, refused
	}
	t, err := s.Store.SCIMTokenByLookup(ctx, lookup)
	if fault.Is(err, fault.NotFound) {
		return t, refused
	}
	if err != nil {
		return t, err
	}
	now := s.Clock()
	if !s.Tokens.Verify(token, t.Hash) || !t.RevokedAt.IsZero() || !t.Expires.IsZero() && !now.Before(t.Expires) {
		return t, refused
	}
	s.note(ctx, t.ID, now)
	return t, nil
}

// note writes now and then that a token was used.
func (s *Server) note(ctx context.Context, id string, now time.Time) {
	s.mu.Lock()
	due := now.Sub(s.noted[id]) >= noteEvery
	if due {
		s.noted[id] = now
	}
	s.mu.Unlock()
	if !due {
		return
	}
	if err := s.Store.NoteSCIMUse(ctx, id); err != nil {
		s.Log.DebugContext(ctx, "the use of a SCIM token is not noted", "error", err)
	}
}

// readBody reads a body of bounded length and time, of JSON without names that stand twice.
func readBody(c *gin.Context) (json.RawMessage, error) {
	kind, _, _ := strings.Cut(c.Request.Header.Get("Content-Type"), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	if kind != contentType && kind != "application/json" {
		return nil, problem(http.StatusUnsupportedMediaType, "", "The body is %s or application/json.", contentType)
	}
	if u, ok := any(c.Writer).(interface{ Unwrap() http.ResponseWriter }); ok {
		_ = http.NewResponseController(u.Unwrap()).SetReadDeadline(time.Now().Add(bodyTime)) //nolint:forbidigo // a socket goes by the real time
	}
	raw, err := io.ReadAll(io.LimitReader(c.Request.Body, maxBody+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fault.Wrap(err, fault.InvalidRequest, "The request's body did not arrive in time. Try again.")
	case err != nil:
		return nil, fault.Wrap(err, fault.ClientClosed, "The request was cut.")
	case len(raw) > maxBody:
		return nil, problem(http.StatusRequestEntityTooLarge, "", "The body is larger than %d bytes. Send less.", maxBody)
	case !jsontext.Value(raw).IsValid():
		return nil, problem(http.StatusBadRequest, "invalidSyntax", "The body is no JSON: check quotes, commas, names that stand twice and UTF-8.")
	}
	return raw, nil
}

func (s *Server) write(c *gin.Context, status int, body any) {
	h := c.Writer.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		h.Set("Retry-After", "1")
	}
	if body == nil {
		c.Status(status)
		c.Writer.WriteHeaderNow()
		return
	}
	h.Set("Content-Type", contentType)
	c.Status(status)
	enc := json.NewEncoder(c.Writer)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		s.Log.DebugContext(c.Request.Context(), "the caller left before its answer", "error", err)
	}
}

// NoRoute answers what asks for an address below Base that is not there, and leaves the rest to the next handler.
func (s *Server) NoRoute(c *gin.Context) {
	if c.Request.URL.Path != Base && !strings.HasPrefix(c.Request.URL.Path, Base+"/") {
		return
	}
	c.Abort()
	s.write(c, http.StatusNotFound, problem(http.StatusNotFound, "", "There is nothing at this address: %s/ResourceTypes lists what there is.", Base))
}

// failure is SCIM's shape of an error.
type failure struct {
	Schemas []string `json:"schemas"`
	Status  string   `json:"status"`
	Type    string   `json:"scimType,omitempty"`
	Detail  string   `json:"detail"`
}

// Error implements error.
func (f *failure) Error() string { return f.Status + " " + f.Type + ": " + f.Detail }

func (f *failure) status() int {
	n, _ := strconv.Atoi(f.Status)
	return n
}

func problem(status int, kind, format string, args ...any) *failure {
	return &failure{[]string{schemaError}, strconv.Itoa(status), kind, fault.New(fault.InvalidRequest, format, args...).Message}
}

// problem turns an error into an answer. Causes are logged and never shown.
func (s *Server) problem(ctx context.Context, err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	code := fault.CodeOf(err)
	status := wire.Status(code)
	kind := ""
	detail := "Something failed inside the gateway. Try again; if it stays, tell its operator the time of this request."
	if f, ok := errors.AsType[*fault.Error](err); ok && status != http.StatusInternalServerError {
		detail = f.Message
		switch {
		case code == fault.Conflict && (f.Param == "userName" || f.Param == "emails" || f.Param == "displayName"):
			kind = "uniqueness"
		case code == fault.InvalidRequest && f.Param == "filter":
			kind = "invalidFilter"
		case code == fault.InvalidRequest:
			kind = "invalidValue"
		}
	}
	if status >= http.StatusInternalServerError {
		if hidden, worth := s.repeats.Worth(code, s.Clock()); worth {
			s.Log.ErrorContext(ctx, "SCIM request failed", "code", code, "others_like_it", hidden, "error", err)
		}
	}
	return problem(status, kind, "%s", detail)
}
