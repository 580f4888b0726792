package admin

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/signin"
)

// IdentityProviders is what looks after identity providers; signin.Service is one.
type IdentityProviders interface {
	Provider(ctx context.Context, id string) (policy.Issuer, error)
	Providers(ctx context.Context) ([]policy.Issuer, error)
	AddProvider(ctx context.Context, by journal.Origin, i policy.Issuer, secret string) (policy.Issuer, error)
	ChangeProvider(ctx context.Context, by journal.Origin, i policy.Issuer, secret *string) (policy.Issuer, error)
	RemoveProvider(ctx context.Context, by journal.Origin, id string, revision int64) error
	TryProvider(ctx context.Context, id string) (problem string, err error)
}

// ClaimedDomain is a domain of e-mail addresses that an identity provider speaks for.
type ClaimedDomain struct {
	Domain   string `json:"domain" minLength:"3" maxLength:"253" example:"example.com"`
	Enforced bool   `json:"enforced,omitempty" doc:"Who has an address there signs in through the provider alone; break-glass accounts, and links made on the machine, are let in all the same"`
}

// IdentityProvider is an OpenID Connect provider that people sign in with, without its secret.
type IdentityProvider struct {
	ID         string            `json:"id" example:"idp_0k3v"`
	Name       string            `json:"name" example:"Okta" doc:"On the button"`
	Issuer     string            `json:"issuer" example:"https://example.okta.com"`
	ClientID   string            `json:"client_id"`
	HasSecret  bool              `json:"has_secret"`
	Scopes     []string          `json:"scopes"`
	Domains    []ClaimedDomain   `json:"domains"`
	GroupClaim string            `json:"group_claim"`
	Groups     map[string]string `json:"groups" doc:"A value of the group claim, and the group here that it puts somebody into"`
	Creates    bool              `json:"creates_accounts"`
	Redirect   string            `json:"redirect_uri" doc:"To be entered at the provider"`
	Logout     string            `json:"backchannel_logout_uri" doc:"To be entered at the provider, for sign-outs there to end sessions here"`
	CreatedBy  string            `json:"created_by"`
	CreatedAt  time.Time         `json:"created_at"`
	Revision   int64             `json:"revision"`
}

// IdentityProviderCreate adds an identity provider.
type IdentityProviderCreate struct {
	Name         string            `json:"name" minLength:"1" maxLength:"100" example:"Okta"`
	Issuer       string            `json:"issuer" minLength:"1" maxLength:"2048" doc:"Exactly as the provider's discovery document spells it; for good" example:"https://example.okta.com"`
	ClientID     string            `json:"client_id" minLength:"1" maxLength:"2048" doc:"For good"`
	ClientSecret string            `json:"client_secret,omitempty" maxLength:"4096" writeOnly:"true" doc:"Sealed, never shown; none for a public client"`
	Scopes       []string          `json:"scopes,omitempty" maxItems:"20" doc:"openid, profile and email unless said"`
	Domains      []ClaimedDomain   `json:"domains,omitempty" maxItems:"100" doc:"Whose e-mail addresses its word is taken for"`
	GroupClaim   string            `json:"group_claim,omitempty" maxLength:"200" example:"groups"`
	Groups       map[string]string `json:"groups,omitempty" doc:"A value of the group claim, and the group here (grp_…) that it puts somebody into and without it takes them out of"`
	Creates      bool              `json:"creates_accounts,omitempty" doc:"Makes accounts for people of its domains who have none"`
}

// IdentityProviderPatch changes an identity provider; absent fields stay. Its issuer and client id are for good.
type IdentityProviderPatch struct {
	Name         *string            `json:"name,omitempty" minLength:"1" maxLength:"100"`
	ClientSecret *string            `json:"client_secret,omitempty" maxLength:"4096" writeOnly:"true"`
	Scopes       *[]string          `json:"scopes,omitempty" maxItems:"20"`
	Domains      *[]ClaimedDomain   `json:"domains,omitempty" maxItems:"100" doc:"The whole list"`
	GroupClaim   *string            `json:"group_claim,omitempty" maxLength:"200"`
	Groups       *map[string]string `json:"groups,omitempty" doc:"The whole mapping"`
	Creates      *bool              `json:"creates_accounts,omitempty"`
}

// IdentityProviderTest says whether people could sign in through an identity provider now.
type IdentityProviderTest struct {
	OK      bool   `json:"ok"`
	Problem string `json:"problem,omitempty" doc:"Why not, for whoever looks after the gateway"`
}

// IdentityProviderInput names an identity provider by its id.
type IdentityProviderInput struct {
	Credentials
	ID string `path:"identity_provider" example:"idp_0k3v" maxLength:"100"`
}

type createIdentityProviderInput struct {
	Credentials
	Body IdentityProviderCreate
}

type patchIdentityProviderInput struct {
	IdentityProviderInput
	Precondition
	Body IdentityProviderPatch
}

type deleteIdentityProviderInput struct {
	IdentityProviderInput
	Removal
}

type identityProviderAnswer struct {
	Changed
	ETag string `header:"ETag"`
	Body IdentityProvider
}

type createdIdentityProvider struct {
	Changed
	Created
	ETag string `header:"ETag"`
	Body IdentityProvider
}

type identityProviderList struct {
	Body struct {
		Providers []IdentityProvider `json:"identity_providers"`
	}
}

type identityProviderTestAnswer struct{ Body IdentityProviderTest }

// identityProviders are those that people sign in with.
type identityProviders struct {
	service IdentityProviders
	site    string
}

func (n identityProviders) routes(a *API) {
	if n.service == nil {
		return
	}
	manage := func(id, method, path, summary string, status int) op {
		return op{id: id, method: method, path: path, action: policy.ActionManageAccounts, kind: policy.ObjectSystem, tag: "single sign-on", summary: summary, status: status}
	}
	const one = "/identity-providers/{identity_provider}"
	handle(a, manage("list-identity-providers", http.MethodGet, "/identity-providers", "List the identity providers that people sign in with", 0), n.list)
	create := manage("create-identity-provider", http.MethodPost, "/identity-providers", "Add an identity provider (OpenID Connect)", http.StatusCreated)
	create.about = "Nothing is asked of it yet: test-identity-provider does."
	handle(a, create, n.create)
	handle(a, manage("get-identity-provider", http.MethodGet, one, "Get an identity provider", 0), n.get)
	handle(a, manage("update-identity-provider", http.MethodPatch, one, "Change an identity provider", 0), n.patch)
	remove := manage("delete-identity-provider", http.MethodDelete, one, "Remove an identity provider", http.StatusNoContent)
	remove.about = "With its claims of domains and its links to accounts. The accounts stay; their sessions end."
	handle(a, remove, n.remove)
	handle(a, manage("test-identity-provider", http.MethodPost, one+"/test", "Ask an identity provider what it is, and for its keys", 0), n.test)
}

func (n identityProviders) shown(i policy.Issuer) IdentityProvider {
	site := strings.TrimSuffix(n.site, "/")
	out := IdentityProvider{
		ID: i.ID, Name: i.Name, Issuer: i.URL, ClientID: i.ClientID, HasSecret: len(i.Secret) > 0, Scopes: list(i.Scopes), Domains: []ClaimedDomain{}, GroupClaim: i.GroupClaim,
		Groups: maps.Clone(i.Groups), Creates: i.Creates, Redirect: site + signin.CallbackPath, Logout: site + signin.LogoutPath, CreatedBy: i.CreatedBy, CreatedAt: i.CreatedAt,
		Revision: i.Revision,
	}
	if out.Groups == nil {
		out.Groups = map[string]string{}
	}
	for _, d := range i.Domains {
		out.Domains = append(out.Domains, ClaimedDomain{Domain: d.Domain, Enforced: d.Enforced})
	}
	return out
}

func claimed(domains []ClaimedDomain) []policy.Domain {
	out := make([]policy.Domain, len(domains))
	for n, d := range domains {
		out[n] = policy.Domain{Domain: d.Domain, Enforced: d.Enforced}
	}
	return out
}

func (n identityProviders) answer(i policy.Issuer, err error) (*identityProviderAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &identityProviderAnswer{Changed: changed(i.Revision), ETag: etag(i.Revision), Body: n.shown(i)}, nil
}

func (n identityProviders) list(ctx context.Context, _ *caller, _ *Credentials) (*identityProviderList, error) {
	found, err := n.service.Providers(ctx)
	out := &identityProviderList{}
	out.Body.Providers = []IdentityProvider{}
	for _, i := range found {
		out.Body.Providers = append(out.Body.Providers, n.shown(i))
	}
	return out, err
}

func (n identityProviders) create(ctx context.Context, c *caller, in *createIdentityProviderInput) (*createdIdentityProvider, error) {
	b := in.Body
	i, err := n.service.AddProvider(ctx, c.Origin, policy.Issuer{
		Name: b.Name, URL: b.Issuer, ClientID: b.ClientID, Scopes: b.Scopes, Domains: claimed(b.Domains), GroupClaim: b.GroupClaim, Groups: b.Groups, Creates: b.Creates,
	}, b.ClientSecret)
	if err != nil {
		return nil, err
	}
	return &createdIdentityProvider{Changed: changed(i.Revision), Created: created("identity-providers", i.ID), ETag: etag(i.Revision), Body: n.shown(i)}, nil
}

func (n identityProviders) get(ctx context.Context, _ *caller, in *IdentityProviderInput) (*identityProviderAnswer, error) {
	return n.answer(n.service.Provider(ctx, in.ID))
}

func (n identityProviders) patch(ctx context.Context, c *caller, in *patchIdentityProviderInput) (*identityProviderAnswer, error) {
	return edit(in.Precondition, func(rev int64) (*identityProviderAnswer, error) {
		i, err := n.service.Provider(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		if rev > 0 {
			i.Revision = rev
		}
		b := in.Body
		set(&i.Name, b.Name)
		set(&i.GroupClaim, b.GroupClaim)
		set(&i.Groups, b.Groups)
		set(&i.Creates, b.Creates)
		if b.Scopes != nil {
			i.Scopes = slices.Clone(*b.Scopes)
		}
		if b.Domains != nil {
			i.Domains = claimed(*b.Domains)
		}
		return n.answer(n.service.ChangeProvider(ctx, c.Origin, i, b.ClientSecret))
	})
}

func (n identityProviders) remove(ctx context.Context, c *caller, in *deleteIdentityProviderInput) (*struct{}, error) {
	rev, err := in.revision()
	if err != nil {
		return nil, err
	}
	return nil, n.service.RemoveProvider(ctx, c.Origin, in.ID, rev)
}

func (n identityProviders) test(ctx context.Context, _ *caller, in *IdentityProviderInput) (*identityProviderTestAnswer, error) {
	problem, err := n.service.TryProvider(ctx, in.ID)
	return &identityProviderTestAnswer{IdentityProviderTest{OK: problem == "", Problem: problem}}, err
}
