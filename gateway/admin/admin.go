// Package admin is the management API under /api/v1: OpenAPI 3.1 generated from the code, problem+json errors, unknown fields
// refused. A noun is a file that registers its own operations: prompts.go, keys.go and the others that admin.go lists. access.go,
// document.go, envelope.go and problem.go are what they share. Every operation is registered through one function, which authenticates,
// authorizes and only then runs its handler: a handler cannot forget a check.
package admin

import (
	"errors"
	"log/slog"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/room"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/limits"
	"github.com/promptgate/promptgate/registry"
)

// Base is the path that all operations stand below.
const Base = "/api/v1"

// Deps is what the management API works with. All are needed.
type Deps struct {
	Authenticator policy.Authenticator
	Checker       policy.Checker
	Registry      *registry.Service
	Keys          policy.KeyStore
	People        policy.PeopleStore
	Reports       policy.Reports
	Reviews       policy.ReviewStore
	Issuer        Issuer
	Providers     Providers
	Limits        limits.Store
	Configured    []provider.Definition // the operator's providers, which every project may use: listed, and not changed here
	Calls         metrics.Reader
	Journal       Journal
	Sealing       Sealing
	Directories   policy.ProvisioningStore
	SCIM          SCIMIssuer
	Log           *slog.Logger
	Clock         func() time.Time
	Browsers      *Browsers         // nil: no session is taken
	SignIns       SignIns           // nil: nothing about sessions is served
	Identity      IdentityProviders // nil: nobody signs in through one
	Site          string            // where browsers reach the gateway
}

// noun is a kind of thing that the API serves. Its types, its routes and what they ask for stand in a file of its own; it holds what it works with and
// nothing more.
type noun interface{ routes(a *API) }

// nouns lists everything that is served. A new noun joins here.
func (d Deps) nouns() []noun {
	return []noun{
		projects{registry: d.Registry, members: d.SignIns},
		prompts{registry: d.Registry, keys: d.Keys, log: d.Log, clock: d.Clock},
		versions{registry: d.Registry},
		labels{registry: d.Registry},
		d.keys(),
		ownKeys{d.keys()},
		users{d.People},
		peopleGroups{d.People},
		bindings{d.People},
		roles{d.People},
		services{d.People},
		directories{store: d.Directories, issue: d.SCIM},
		report{store: d.Reports, clock: d.Clock},
		reviews{store: d.Reviews, people: d.People},
		explain{people: d.People, keys: d.Keys, registry: d.Registry, clock: d.Clock},
		providers{d.Providers, d.Configured},
		spending{store: d.Limits, clock: d.Clock},
		aliases{store: d.Providers, registry: d.Registry},
		calls{registry: d.Registry, ledger: d.Calls},
		stats{registry: d.Registry, ledger: d.Calls},
		feedback{registry: d.Registry, ledger: d.Calls},
		events{journal: d.Journal},
		sealed{sealing: d.Sealing, registry: d.Registry},
		browsers{d.SignIns},
		identityProviders{service: d.Identity, site: d.Site},
	}
}

// API is the mounted management API: what all nouns share. It finds out who calls, judges what they may, and writes refusals.
type API struct {
	authenticator policy.Authenticator
	checker       policy.Checker
	registry      *registry.Service // finds the prompt that a path names
	log           *slog.Logger
	bodies        *room.Room
	browsers      *Browsers
	huma          huma.API
	// access lists what each operation asks for, by operation id: the authorization table, from which tests and docs are made.
	access  map[string]Access
	repeats fault.Repeats
	clock   func() time.Time
}

// Mount registers every operation on the engine, and the OpenAPI document at /openapi.json and /openapi.yaml. What is not there is the
// engine's to answer: give it NoRoute and NoMethod.
func Mount(engine *gin.Engine, deps Deps, version string) (*API, error) {
	if err := deps.check(); err != nil {
		return nil, err
	}
	cfg := huma.DefaultConfig("promptgate management API", version)
	cfg.Info.Description = "Prompts, versions, labels, keys, providers, calls and feedback of one project: the project of the API key."
	cfg.DocsPath, cfg.SchemasPath = "", ""
	cfg.CreateHooks = nil // no $schema fields in answers
	cfg.RejectUnknownQueryParameters = true
	cfg.Formats = strictJSON()
	cfg.DefaultFormat = "application/json"
	cfg.Transformers = []huma.Transformer{problems}
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"key":     {Type: "http", Scheme: "bearer", Description: "An API key, pg_…"},
		"scim":    {Type: "http", Scheme: "bearer", Description: "A directory's token, scim_…"},
		"session": {Type: "apiKey", In: "cookie", Name: "__Host-promptgate", Description: "A browser's session (promptgate without prefix over plain HTTP), with X-Promptgate-Project where the operation is about one. The data plane takes none"},
	}
	cfg.Security = []map[string][]string{{"key": {}}}
	a := &API{
		authenticator: deps.Authenticator, checker: deps.Checker, registry: deps.Registry, log: deps.Log, bodies: room.New(maxBodies), browsers: deps.Browsers,
		huma: humagin.NewWithGroup(engine, engine.Group("", headers), cfg), access: map[string]Access{}, clock: deps.Clock,
	}
	for _, n := range deps.nouns() {
		n.routes(a)
	}
	a.dataPlane()
	a.provisioning()
	a.pages()
	a.tidy()
	return a, nil
}

// OpenAPI is the generated document.
func (a *API) OpenAPI() *huma.OpenAPI { return a.huma.OpenAPI() }

// Access is the authorization table: what each operation, by its id, asks for.
func (a *API) Access() map[string]Access { return a.access }

func (d Deps) check() error {
	if d.Authenticator == nil || d.Checker == nil || d.Registry == nil || d.Keys == nil || d.People == nil || d.Reports == nil || d.Reviews == nil || d.Issuer == nil || d.Providers == nil || d.Limits == nil ||
		d.Calls == nil || d.Directories == nil || d.SCIM == nil || d.Journal == nil || d.Sealing == nil || d.Log == nil || d.Clock == nil {
		return errors.New("admin: a dependency is missing")
	}
	return nil
}
