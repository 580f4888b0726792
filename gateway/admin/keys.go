package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
)

// Key is an API key as it is listed: without the key itself, which is shown once.
type Key struct {
	ID        string         `json:"id" example:"key_0k3v"`
	Name      string         `json:"name" example:"checkout service"`
	LastFour  string         `json:"last_four"`
	Owner     string         `json:"owner,omitempty" doc:"Whose it is: usr_… for a personal key, svc_… for a service account's; absent: the project's own. It may do what it and its owner may"`
	Inherits  bool           `json:"inherits,omitempty" doc:"It may do all that its owner may"`
	Roles     []string       `json:"roles"`
	Grants    []policy.Grant `json:"grants"`
	Networks  []string       `json:"networks"`
	ExpiresAt *time.Time     `json:"expires_at,omitempty"`
	CreatedBy string         `json:"created_by"`
	CreatedAt time.Time      `json:"created_at"`
	RevokedAt *time.Time     `json:"revoked_at,omitempty"`
	Revision  int64          `json:"revision"`

	State      string     `json:"state" enum:"in_force,ending,expired,revoked" doc:"ending: within 14 days"`
	Replaces   string     `json:"replaces,omitempty" doc:"The key that it is the successor of"`
	ReplacedBy string     `json:"replaced_by,omitempty" doc:"Its successor"`
	LastUsedAt *time.Time `json:"last_used_at,omitempty" doc:"The minute in which it was allowed something last, requests to this API too; absent: never"`

	LastCallAt      *time.Time `json:"last_call_at,omitempty" doc:"The minute of the last call that it made, refused ones too; absent: none. Requests to this API are no calls"`
	LastCallUnknown bool       `json:"last_call_unknown,omitempty" doc:"What was recorded cannot be read now: last_call_at is unknown, not none"`
}

func keyOf(k policy.KeyRecord) Key {
	return Key{
		ID: k.ID, Name: k.Name, LastFour: k.LastFour, Owner: k.Owner, Inherits: k.Inherits, Roles: list(k.Roles), Grants: list(k.Grants), Networks: list(k.Networks),
		ExpiresAt: moment(k.Expires), CreatedBy: k.CreatedBy, CreatedAt: k.CreatedAt, RevokedAt: moment(k.RevokedAt), Revision: k.Revision,
		Replaces: k.Replaces, ReplacedBy: k.ReplacedBy,
	}
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// KeyCreate makes a key. It can hold no more than the key that makes it.
type KeyCreate struct {
	Name      string         `json:"name" minLength:"1" maxLength:"100"`
	Owner     string         `json:"owner,omitempty" maxLength:"60" doc:"A service account's id, svc_…; without it the key is the project's own. Personal keys are made at /me/keys" example:"svc_0k3v"`
	Inherits  bool           `json:"inherits,omitempty" doc:"It may do all that its owner may; roles and grants are then left out"`
	Roles     []string       `json:"roles,omitempty" maxItems:"20" doc:"admin, editor, viewer or tester, for all prompts or, as editor:marketing/**, for a folder" example:"[\"viewer\"]"`
	Grants    []policy.Grant `json:"grants,omitempty" maxItems:"100" doc:"Single permissions, e.g. to call production of support/**"`
	Networks  []string       `json:"networks,omitempty" maxItems:"100" doc:"CIDRs that it may be used from; none means anywhere" example:"[\"10.0.0.0/8\"]"`
	ExpiresAt *time.Time     `json:"expires_at,omitempty"`
}

// Issued is a new key and what is kept of it.
type Issued struct {
	Plaintext string // the key, for its owner and nobody else
	Lookup    string
	Hash      []byte
	LastFour  string
}

// Issuer makes a new key.
type Issuer func() (Issued, error)

// KeyPatch changes a key; absent fields stay.
type KeyPatch struct {
	Name      *string         `json:"name,omitempty" minLength:"1" maxLength:"100"`
	Roles     *[]string       `json:"roles,omitempty" maxItems:"20"`
	Grants    *[]policy.Grant `json:"grants,omitempty" maxItems:"100"`
	Networks  *[]string       `json:"networks,omitempty" maxItems:"100"`
	ExpiresAt Expiry          `json:"expires_at,omitempty" doc:"null: never again"`
}

// Expiry is a moment in a patch: absent it stays as it is, null takes it away.
type Expiry struct {
	Set  bool // it was sent
	Time time.Time
}

// Schema implements huma.SchemaProvider.
func (Expiry) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time", Nullable: true}
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *Expiry) UnmarshalJSON(b []byte) error {
	e.Set, e.Time = true, time.Time{}
	if string(b) == "null" {
		return nil
	}
	if err := e.Time.UnmarshalJSON(b); err != nil {
		return err
	}
	return policy.ValidExpiry(e.Time, "expires_at")
}

// KeyCreated holds the key, this once.
type KeyCreated struct {
	Key
	Secret string `json:"key" doc:"The key. It is not stored and cannot be shown again" example:"pg_…"`
}

// KeyInput names a key by its id. It is exported, like its siblings, because huma looks into exported embedded structs only.
type KeyInput struct {
	Credentials
	ID string `path:"key" example:"key_0k3v"`
}

type createKeyInput struct {
	Credentials
	Body KeyCreate
}

type patchKeyInput struct {
	KeyInput
	Precondition
	Body KeyPatch
}

type revokeKeyInput struct {
	KeyInput
	Force bool `query:"force" doc:"Also the key that makes this request, and the project's last admin key"`
}

type listKeysInput struct {
	Credentials
	Paging
}

type keyAnswer struct {
	Changed
	ETag string `header:"ETag"`
	Body Key
}

type keyCreatedAnswer struct {
	Changed
	Created
	ETag string `header:"ETag"`
	Body KeyCreated
}

type keyList struct {
	Body struct {
		Keys []Key  `json:"keys"`
		Next string `json:"next,omitempty"`
	}
}

// keys are the API keys of a project.
type keys struct {
	store  policy.KeyStore
	issue  Issuer
	ledger metrics.Reader
	uses   policy.Reports
	clock  func() time.Time
}

func (d Deps) keys() keys {
	return keys{store: d.Keys, issue: d.Issuer, ledger: d.Calls, uses: d.Reports, clock: d.Clock}
}

// told are keys of one project with their last calls. Who looks for a key to revoke must find it though the ledger cannot be read.
func (n keys) told(ctx context.Context, project string, records ...policy.KeyRecord) ([]Key, error) {
	ids := make([]string, 0, len(records))
	for _, k := range records {
		ids = append(ids, k.ID)
	}
	last, err := n.ledger.LastCalls(ctx, project, ids)
	unknown := fault.Is(err, fault.RegistryUnavailable)
	if err != nil && !unknown {
		return nil, err
	}
	used, err := n.uses.LastUsed(ctx, project, ids...)
	if err != nil {
		return nil, err
	}
	out := make([]Key, 0, len(records))
	for _, r := range records {
		k := keyOf(r)
		k.LastCallAt, k.LastCallUnknown, k.LastUsedAt, k.State = moment(last[r.ID]), unknown, moment(used[r.ID]), stateOf(r, n.clock())
		out = append(out, k)
	}
	return out, nil
}

func (n keys) answer(ctx context.Context, k policy.KeyRecord) (*keyAnswer, error) {
	told, err := n.told(ctx, k.Project, k)
	if err != nil {
		return nil, err
	}
	return &keyAnswer{Changed: changed(k.Revision), ETag: etag(k.Revision), Body: told[0]}, nil
}

func (n keys) routes(a *API) {
	manage := func(id, method, path, summary string) op {
		return op{id: id, method: method, path: path, action: policy.ActionManageKeys, kind: policy.ObjectSystem, tag: "keys", summary: summary}
	}
	handle(a, manage("list-keys", http.MethodGet, "/keys", "List API keys, revoked ones too"), n.listKeys)
	create := manage("create-key", http.MethodPost, "/keys", "Create an API key; it is shown this once")
	create.status = http.StatusCreated
	handle(a, create, n.createKey)
	handle(a, manage("get-key", http.MethodGet, "/keys/{key}", "Get an API key's record"), n.getKey)
	handle(a, manage("update-key", http.MethodPatch, "/keys/{key}", "Change what an API key may do"), n.patchKey)
	rotate := manage("rotate-key", http.MethodPost, "/keys/{key}/rotate", "Make a key's successor, which is shown this once, and end the key after an overlap")
	rotate.status, rotate.about = http.StatusCreated, "The successor has the same rights, owner and networks. A personal key is rotated by the person whose it is."
	handle(a, rotate, n.rotateKey)
	handle(a, manage("revoke-key", http.MethodDelete, "/keys/{key}", "Revoke an API key for good"), n.revokeKey)
}

func (n keys) listKeys(ctx context.Context, c *caller, in *listKeysInput) (*keyList, error) {
	found, next, err := n.store.ListKeys(ctx, c.Project, policy.Page{After: in.After, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	out := &keyList{}
	out.Body.Next = next
	out.Body.Keys, err = n.told(ctx, c.Project, found...)
	return out, err
}

func (n keys) createKey(ctx context.Context, c *caller, in *createKeyInput) (*keyCreatedAnswer, error) {
	return n.creates(ctx, c, in.Body)
}

func (n keys) creates(ctx context.Context, c *caller, in KeyCreate) (*keyCreatedAnswer, error) {
	r := policy.KeyRecord{
		Project: c.Project, Name: in.Name, Owner: in.Owner, Inherits: in.Inherits, Roles: in.Roles, Grants: in.Grants, Networks: in.Networks,
	}
	if in.Networks != nil && len(in.Networks) == 0 { // somebody's filter that found nothing must not open the key to every address
		return nil, fault.New(fault.InvalidRequest, "networks is an empty list: name some, or leave it out for a key that works anywhere").WithParam("networks")
	}
	if at := in.ExpiresAt; at != nil {
		if err := policy.ValidExpiry(*at, "expires_at"); err != nil {
			return nil, err
		}
		r.Expires = *at
	}
	issued, err := n.issue()
	if err != nil {
		return nil, err
	}
	r.Lookup, r.Hash, r.LastFour = issued.Lookup, issued.Hash, issued.LastFour
	k, err := n.store.CreateKey(ctx, c.Origin, c.Principal, r)
	if err != nil {
		return nil, err
	}
	return &keyCreatedAnswer{
		Changed: changed(k.Revision), Created: created("keys", k.ID), ETag: etag(k.Revision), Body: KeyCreated{Key: keyOf(k), Secret: issued.Plaintext},
	}, nil
}

func (n keys) getKey(ctx context.Context, c *caller, in *KeyInput) (*keyAnswer, error) {
	k, err := n.store.KeyByID(ctx, c.Project, in.ID)
	if err != nil {
		return nil, err
	}
	return n.answer(ctx, k)
}

func (n keys) patchKey(ctx context.Context, c *caller, in *patchKeyInput) (*keyAnswer, error) {
	return edit(in.Precondition, func(rev int64) (*keyAnswer, error) {
		k, err := n.store.KeyByID(ctx, c.Project, in.ID)
		if err != nil {
			return nil, err
		}
		if rev > 0 {
			k.Revision = rev
		}
		b := in.Body
		set(&k.Name, b.Name)
		set(&k.Roles, b.Roles)
		set(&k.Grants, b.Grants)
		set(&k.Networks, b.Networks)
		if b.ExpiresAt.Set {
			k.Expires = b.ExpiresAt.Time
		}
		if k, err = n.store.UpdateKey(ctx, c.Origin, c.Principal, k); err != nil {
			return nil, err
		}
		return n.answer(ctx, k)
	})
}

func (n keys) revokeKey(ctx context.Context, c *caller, in *revokeKeyInput) (*keyAnswer, error) {
	k, err := n.store.RevokeKey(ctx, c.Origin, c.Principal, policy.Revocation{Project: c.Project, ID: in.ID, Force: in.Force})
	if err != nil {
		return nil, err
	}
	return n.answer(ctx, k)
}

// set writes a patch's field when it is there.
func set[T any](at *T, v *T) {
	if v != nil {
		*at = *v
	}
}
