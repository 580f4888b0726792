package policy

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/names"
)

// KeyRecord is an API key as it is kept: everything but the key itself, which is shown once and stored as a keyed hash.
type KeyRecord struct {
	ID        string // "key_…"
	Project   string
	Name      string // for people; need not be unique
	Owner     string // "usr_…", whose personal key it is, "svc_…", or "": the project's own
	Inherits  bool   // it may do all that its owner may, and holds nothing itself
	Lookup    string // the public part of the key that finds this record; unique over all projects
	Hash      []byte // HMAC-SHA256 of the whole key, 32 bytes
	LastFour  string // the key's last characters, so that people can tell keys apart
	Roles     []string
	Grants    []Grant
	Networks  []string  // CIDRs; none means anywhere
	Expires   time.Time // zero: never
	CreatedBy string    // the actor's id
	CreatedAt time.Time
	RevokedAt time.Time // zero: in force. Revoked keys stay listed
	Revision  int64     // journal revision of the last change; the ETag

	Replaces, ReplacedBy string // the key before it, and after it, when either was rotated
}

// Principal is who a request with this key comes from.
func (r KeyRecord) Principal() (*Principal, error) {
	p := &Principal{
		ID: r.ID, Kind: KindKey, Name: r.Name, Project: r.Project, Roles: r.Roles, Grants: r.Grants,
		Networks: r.Networks, Expires: r.Expires, Revision: r.Revision, Inherits: r.Inherits,
	}
	if err := p.Compile(); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "the key's networks cannot be read")
	}
	return p, nil
}

// String keeps the hash out of messages and logs.
func (r KeyRecord) String() string { return r.ID + " (" + r.Name + ", …" + r.LastFour + ")" }

// The kinds of principals.
const (
	KindKey     = "key"
	KindUser    = "user"
	KindService = "service"
	KindSystem  = "system"
)

// KeySource is what authentication needs: one point read. NotFound when there is no such key, RegistryUnavailable (and only that)
// for an infrastructure fault. Revoked and expired keys are returned as they are.
type KeySource interface {
	KeyByLookup(ctx context.Context, lookup string) (KeyRecord, error)
}

// KeyStore keeps API keys. Every write goes through journal.Change and touches the key by its lookup (Touch{Kind: TouchKey}) and the
// principal by its id (Touch{Kind: TouchPrincipal}). Another project's key is NotFound. Every implementation runs policytest.KeyStore.
type KeyStore interface {
	KeySource

	// CreateKey stores k, whose ID, CreatedBy, CreatedAt and Revision it sets. granter must hold all that k grants (PermissionDenied), see Delegate.
	CreateKey(ctx context.Context, by journal.Origin, granter *Principal, k KeyRecord) (KeyRecord, error)
	// KeyByID is one key of a project.
	KeyByID(ctx context.Context, project, id string) (KeyRecord, error)
	// ListKeys returns keys in the order of their creation, revoked ones too, and the cursor of the next page ("" after the last).
	ListKeys(ctx context.Context, project string, page Page) ([]KeyRecord, string, error)
	// UpdateKey writes name, roles, grants, networks and expiry when the stored revision is k.Revision (else PreconditionFailed).
	// granter must govern the key as it is, see Govern, and hold all that it grants afterwards. A revoked key is a Conflict.
	UpdateKey(ctx context.Context, by journal.Origin, granter *Principal, k KeyRecord) (KeyRecord, error)
	// RevokeKey ends a key for good. manager must govern it, see Govern. Revoking twice changes nothing and is no error. manager's own key and the
	// project's last admin key are a Conflict unless r.Force says so: what comes after might be nobody's to mend.
	RevokeKey(ctx context.Context, by journal.Origin, manager *Principal, r Revocation) (KeyRecord, error)
	// RotateKey makes a key's successor, with the same rights, owner and networks, and ends the key after the overlap. granter must govern the key and
	// may make such a one. A key that is revoked, over, or rotated already is a Conflict.
	RotateKey(ctx context.Context, by journal.Origin, granter *Principal, r Rotation) (successor, old KeyRecord, err error)
}

// Rotation names a key to replace, and has what is kept of its successor.
type Rotation struct {
	Project, ID string
	Overlap     time.Duration // how long the key works on; 0: it ends at once
	Expires     time.Time     // of the successor; zero: it lives as long as the key was made for
	Lookup      string
	Hash        []byte
	LastFour    string
}

// MaxOverlap bounds how long a key that was rotated works on.
const MaxOverlap = 90 * 24 * time.Hour

// Revocation names a key to end.
type Revocation struct {
	Project, ID string
	Force       bool
}

// Administers reports whether a key may do everything in its project, now.
func (k KeyRecord) Administers(now time.Time) bool {
	return k.RevokedAt.IsZero() && (k.Expires.IsZero() || now.Before(k.Expires)) && wholeAdmin(k.Roles)
}

// What caches of keys and principals listen for.
const (
	TouchKey       = "key"       // Key is the lookup; Project is ""
	TouchPrincipal = "principal" // Key is the principal's id; Project is its project
)

// Page asks for one page of a list. After is the cursor that the page before returned, "" for the first.
type Page struct {
	After string
	Limit int    // 1 to 200; 0 means 50
	Owner string // of keys: those of one user or service account; "" is all
}

const (
	maxKeyName  = 100 // bytes
	maxGrants   = 100
	maxLines    = 4000 // pattern × action × label: deciding is linear in them, at about 0.3 µs each
	maxNetworks = 100
)

// Validate checks what people choose about a key and brings its name, roles, models and networks into their one spelling (InvalidRequest).
func (r *KeyRecord) Validate() error {
	name := names.Normal(strings.TrimSpace(r.Name))
	if name == "" || len(name) > maxKeyName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return fault.New(fault.InvalidRequest, "a key needs a name of 1 to %d bytes without control characters", maxKeyName).WithParam("name")
	}
	r.Name = name
	if r.Inherits && (r.Owner == "" || len(r.Roles)+len(r.Grants) > 0) {
		return fault.New(fault.InvalidRequest, "a key that inherits what its owner may needs an owner, and no roles or grants of its own").WithParam("inherits")
	}
	roles := make([]string, 0, len(r.Roles))
	for _, s := range r.Roles {
		b, err := ParseRole(s)
		if err != nil {
			return param(err, "roles")
		}
		roles = append(roles, b.String())
	}
	slices.Sort(roles)
	r.Roles = slices.Compact(roles)
	r.Grants = normalGrants(r.Grants)
	rules, err := expand(nil, r.Grants, nil)
	if err != nil {
		return param(err, "grants")
	}
	lines := 2 * len(projectActions()) * len(r.Roles)
	for _, rule := range rules {
		lines += len(rule.Actions) * len(rule.Labels)
	}
	if len(r.Grants) > maxGrants || lines > maxLines {
		return fault.New(fault.InvalidRequest, "a key may hold %d grants, and %d combinations of a pattern, an action and a label at the most; this has %d and %d: "+
			"use folder patterns, and * for labels", maxGrants, maxLines, len(r.Grants), lines).WithParam("grants")
	}
	return r.validateNetworks()
}

// normalGrants is grants with the names of models, which alone may be of any letters, in their one form.
func normalGrants(grants []Grant) []Grant {
	out := slices.Clone(grants)
	for i := range out {
		if !slices.ContainsFunc(out[i].Models, func(m string) bool { return !names.IsNormal(m) }) {
			continue
		}
		out[i].Models = slices.Clone(out[i].Models)
		for j, m := range out[i].Models {
			out[i].Models[j] = names.Normal(m)
		}
	}
	return out
}

func (r *KeyRecord) validateNetworks() error {
	if len(r.Networks) > maxNetworks {
		return fault.New(fault.InvalidRequest, "a key may name %d networks at the most", maxNetworks).WithParam("networks")
	}
	nets := make([]string, 0, len(r.Networks))
	for _, s := range r.Networks {
		n, err := ParseNetwork(s)
		if err != nil {
			return param(err, "networks")
		}
		nets = append(nets, n.String())
	}
	slices.Sort(nets)
	r.Networks = slices.Compact(nets)
	return nil
}

// Public is what the journal and the management API may show of a key: no hash.
func (r KeyRecord) Public() json.RawMessage {
	b, err := json.Marshal(struct {
		ID       string    `json:"id"`
		Name     string    `json:"name"`
		Owner    string    `json:"owner,omitempty"`
		Inherits bool      `json:"inherits,omitempty"`
		LastFour string    `json:"last_four"`
		Roles    []string  `json:"roles"`
		Grants   []Grant   `json:"grants"`
		Networks []string  `json:"networks"`
		Expires  time.Time `json:"expires,omitzero"`
		Revoked  time.Time `json:"revoked,omitzero"`
		Replaces string    `json:"replaces,omitempty"`
		By       string    `json:"replaced_by,omitempty"`
	}{r.ID, r.Name, r.Owner, r.Inherits, r.LastFour, r.Roles, r.Grants, r.Networks, r.Expires, r.RevokedAt, r.Replaces, r.ReplacedBy})
	if err != nil { // plain fields: cannot fail short of a year past 9999
		return json.RawMessage(`{"unreadable":true}`)
	}
	return b
}

func param(err error, name string) error {
	var f *fault.Error
	if errors.As(err, &f) {
		return f.WithParam(name)
	}
	return err
}
