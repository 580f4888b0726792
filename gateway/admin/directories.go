package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/promptgate/promptgate/policy"
)

// SCIMIssuer makes tokens of directories: the token itself, which is shown once, and what is kept of it.
type SCIMIssuer func() (token, lookup string, hash []byte, err error)

// SCIMToken is a directory's token. The token itself is shown once, when it is made.
type SCIMToken struct {
	ID        string     `json:"id" example:"scm_0k3v"`
	Directory string     `json:"directory" example:"okta"`
	Domains   []string   `json:"domains" doc:"Whose e-mail addresses it may give to accounts, and take accounts over by"`
	LastFour  string     `json:"last_four"`
	CreatedBy string     `json:"created_by"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
	UsedAt    *time.Time `json:"used_at,omitempty" doc:"About when it was last used"`
	Revision  int64      `json:"revision"`
}

// SCIMTokenCreate makes a token of a directory.
type SCIMTokenCreate struct {
	Directory string     `json:"directory" minLength:"1" maxLength:"40" doc:"Tokens of one directory look after the same accounts and groups, so that one can replace another" example:"okta"`
	Domains   []string   `json:"domains" minItems:"1" maxItems:"100" example:"[\"example.com\"]"`
	ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"Never without"`
}

// SCIMTokenCreated is a new token, with the token itself.
type SCIMTokenCreated struct {
	SCIMToken
	Secret string `json:"secret" doc:"The token: it is shown this once" example:"scim_…"`
}

func scimTokenOf(t policy.SCIMToken) SCIMToken {
	return SCIMToken{
		ID: t.ID, Directory: t.Directory, Domains: list(t.Domains), LastFour: t.LastFour, CreatedBy: t.CreatedBy, CreatedAt: t.CreatedAt,
		ExpiresAt: whenSet(t.Expires), RevokedAt: whenSet(t.RevokedAt), UsedAt: whenSet(t.UsedAt), Revision: t.Revision,
	}
}

func whenSet(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

type createSCIMTokenInput struct {
	Credentials
	Body SCIMTokenCreate
}

type scimTokenInput struct {
	Credentials
	ID string `path:"scim_token" maxLength:"100" example:"scm_0k3v"`
}

type listSCIMTokensInput struct {
	Credentials
	Paging
}

type scimTokenCreatedAnswer struct {
	Changed
	Body SCIMTokenCreated
}

type scimTokenAnswer struct {
	Changed
	Body SCIMToken
}

type scimTokenList struct {
	Body struct {
		Tokens []SCIMToken `json:"scim_tokens"`
		Next   string      `json:"next,omitempty"`
	}
}

// directories are the tokens that directories provision accounts with.
type directories struct {
	store policy.ProvisioningStore
	issue SCIMIssuer
}

func (n directories) routes(a *API) {
	manage := func(id, method, path, summary string) op {
		return op{id: id, method: method, path: path, action: policy.ActionManageAccounts, kind: policy.ObjectSystem, tag: "single sign-on", summary: summary}
	}
	handle(a, manage("list-scim-tokens", http.MethodGet, "/scim-tokens", "List the tokens that directories provision accounts with"), n.list)
	create := manage("create-scim-token", http.MethodPost, "/scim-tokens", "Make a directory's token; it is shown this once")
	create.status = http.StatusCreated
	handle(a, create, n.create)
	handle(a, manage("revoke-scim-token", http.MethodDelete, "/scim-tokens/{scim_token}", "Revoke a directory's token for good"), n.revoke)
}

func (n directories) list(ctx context.Context, _ *caller, in *listSCIMTokensInput) (*scimTokenList, error) {
	found, next, err := n.store.ListSCIMTokens(ctx, policy.Page{After: in.After, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	out := &scimTokenList{}
	out.Body.Tokens, out.Body.Next = []SCIMToken{}, next
	for _, t := range found {
		out.Body.Tokens = append(out.Body.Tokens, scimTokenOf(t))
	}
	return out, nil
}

func (n directories) create(ctx context.Context, c *caller, in *createSCIMTokenInput) (*scimTokenCreatedAnswer, error) {
	t := policy.SCIMToken{Directory: in.Body.Directory, Domains: in.Body.Domains}
	if at := in.Body.ExpiresAt; at != nil {
		if err := policy.ValidExpiry(*at, "expires_at"); err != nil {
			return nil, err
		}
		t.Expires = *at
	}
	token, lookup, hash, err := n.issue()
	if err != nil {
		return nil, err
	}
	t.Lookup, t.Hash, t.LastFour = lookup, hash, token[len(token)-4:]
	if t, err = n.store.CreateSCIMToken(ctx, c.Origin, t); err != nil {
		return nil, err
	}
	return &scimTokenCreatedAnswer{Changed: changed(t.Revision), Body: SCIMTokenCreated{SCIMToken: scimTokenOf(t), Secret: token}}, nil
}

func (n directories) revoke(ctx context.Context, c *caller, in *scimTokenInput) (*scimTokenAnswer, error) {
	t, err := n.store.RevokeSCIMToken(ctx, c.Origin, in.ID)
	if err != nil {
		return nil, err
	}
	return &scimTokenAnswer{Changed: changed(t.Revision), Body: scimTokenOf(t)}, nil
}
