package policy

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"golang.org/x/text/cases"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/names"
)

// SCIMPrefix is the prefix of the ids of directories' tokens.
const SCIMPrefix = "scm_"

// KindSCIM is the kind of actor that a directory is.
const KindSCIM = "scim"

// SCIMToken lets a directory provision accounts and groups. Tokens of one directory provision the same ones, so that one can replace another.
type SCIMToken struct {
	ID        string // "scm_…"
	Directory string // such as okta
	Lookup    string // the public part of the token, which finds this
	Hash      []byte // keyed hash of the whole token, 32 bytes
	LastFour  string
	Domains   []string // whose e-mail addresses the directory may give to accounts, and take accounts over by
	CreatedBy string
	CreatedAt time.Time
	Expires   time.Time // zero: never
	RevokedAt time.Time // zero: in force
	UsedAt    time.Time // zero: never
	Revision  int64
}

// Validate checks what people choose about a token (InvalidRequest).
func (t *SCIMToken) Validate() (err error) {
	if !roleName(t.Directory) {
		return fault.New(fault.InvalidRequest, "a directory's name has 1 to %d characters, a-z, 0-9, - and _, and begins with a letter", maxRoleName).WithParam("directory")
	}
	if len(t.Domains) == 0 || len(t.Domains) > maxDomains {
		return fault.New(fault.InvalidRequest, "name the 1 to %d domains of e-mail addresses that the directory looks after, such as example.com", maxDomains).WithParam("domains")
	}
	for i := range t.Domains {
		if t.Domains[i], err = NormalDomain(t.Domains[i]); err != nil {
			return err
		}
	}
	slices.Sort(t.Domains)
	t.Domains = slices.Compact(t.Domains)
	t.Expires = t.Expires.Truncate(time.Microsecond)
	return nil
}

// Public is what the journal keeps of a token.
func (t SCIMToken) Public() json.RawMessage {
	return public(struct {
		Directory string    `json:"directory"`
		Domains   []string  `json:"domains"`
		LastFour  string    `json:"last_four"`
		Expires   time.Time `json:"expires_at,omitzero"`
	}{t.Directory, t.Domains, t.LastFour, t.Expires})
}

// String keeps the hash out of messages and logs.
func (t SCIMToken) String() string { return t.ID + " (" + t.Directory + ", …" + t.LastFour + ")" }

// Directory is who provisions.
type Directory struct {
	Name    string
	Domains []string
}

// Claims reports whether a directory looks after an address.
func (d Directory) Claims(email string) bool { return slices.Contains(d.Domains, DomainOf(email)) }

// Provision is what is kept of something that a directory provisions, beside the account or group itself.
type Provision struct {
	Directory string
	UserName  string // as it was sent; unique in a directory but for case
	External  string
	Profile   json.RawMessage // what the directory sent of an account
	Active    bool            // what the directory wants. An account that somebody else deactivated stays so; its State says what it is
	CreatedAt time.Time
	Revision  int64 // 0: the directory has not provisioned it yet
}

// ProvisionedUser is an account as a directory sees it.
type ProvisionedUser struct {
	User
	Provision Provision
}

// Version changes with whatever a directory sees of an account.
func (u ProvisionedUser) Version() int64 { return max(u.Revision, u.Provision.Revision) }

// ProvisionedGroup is a group as a directory sees it.
type ProvisionedGroup struct {
	PeopleGroup
	Provision Provision
	Members   []GroupMember // those that the directory provisions
}

// Version changes with whatever a directory changes of a group.
func (g ProvisionedGroup) Version() int64 { return max(g.Revision, g.Provision.Revision) }

// Comparison is what a filter asks of one attribute; Filter is a tree of them.
type Comparison struct {
	Attribute FilterAttribute
	Op        string // eq, ne, co, sw, ew, pr
	Text      string
	Bool      bool // of FilterActive
}

// FilterAttribute is what a filter can be about.
type FilterAttribute string

// The attributes of filters.
const (
	FilterID          FilterAttribute = "id"
	FilterUserName    FilterAttribute = "userName"
	FilterExternal    FilterAttribute = "externalId"
	FilterEmail       FilterAttribute = "emails.value"
	FilterActive      FilterAttribute = "active"
	FilterDisplayName FilterAttribute = "displayName"
	FilterMember      FilterAttribute = "members.value" // of groups
)

// Filter is a comparison, or some filters joined. Its zero value is every one.
type Filter struct {
	Is  *Comparison
	Not *Filter
	And []Filter
	Or  []Filter
}

// Moves are members that come and go.
type Moves struct{ Join, Leave []string }

// Slice is a page by number, as SCIM counts: from is the first, 0 being the first of all.
type Slice struct{ From, Count int }

// ProvisioningStore keeps directories' tokens and what they provision. Every write but NoteSCIMUse goes through journal.Change. What a directory may not
// know of is NotFound: accounts that are neither its own nor of its domains, other directories', and break-glass accounts. Every implementation runs
// policytest.Provisioning.
type ProvisioningStore interface {
	CreateSCIMToken(ctx context.Context, by journal.Origin, t SCIMToken) (SCIMToken, error)
	SCIMTokenByLookup(ctx context.Context, lookup string) (SCIMToken, error)
	ListSCIMTokens(ctx context.Context, page Page) (tokens []SCIMToken, next string, err error)
	RevokeSCIMToken(ctx context.Context, by journal.Origin, id string) (SCIMToken, error)
	NoteSCIMUse(ctx context.Context, id string) error

	// ProvisionUser makes an account, or takes one over whose address the directory looks after. What another has is a Conflict.
	ProvisionUser(ctx context.Context, by journal.Origin, d Directory, u ProvisionedUser) (ProvisionedUser, error)
	ProvisionedUser(ctx context.Context, d Directory, id string) (ProvisionedUser, error)
	ProvisionedUsers(ctx context.Context, d Directory, f Filter, s Slice) (users []ProvisionedUser, total int, err error)
	// Reprovision writes e-mail, name and what Provision holds. version is what was read. Deactivating ends sessions and keys.
	Reprovision(ctx context.Context, by journal.Origin, d Directory, u ProvisionedUser, version int64) (ProvisionedUser, error)
	// EndProvision deactivates the account, takes it out of the directory's groups and forgets it for the directory.
	EndProvision(ctx context.Context, by journal.Origin, d Directory, id string, version int64) error

	ProvisionGroup(ctx context.Context, by journal.Origin, d Directory, g ProvisionedGroup, members []string) (ProvisionedGroup, error)
	ProvisionedGroup(ctx context.Context, d Directory, id string) (ProvisionedGroup, error)
	// ProvisionedGroups are without their members unless with.
	ProvisionedGroups(ctx context.Context, d Directory, f Filter, s Slice, with bool) (groups []ProvisionedGroup, total int, err error)
	// Regroup writes name and external id and moves members; only members that a directory put in are taken out. version is what was read, 0
	// for any.
	Regroup(ctx context.Context, by journal.Origin, d Directory, g ProvisionedGroup, version int64, m Moves) (ProvisionedGroup, error)
	UngroupProvision(ctx context.Context, by journal.Origin, d Directory, id string, version int64) error
}

// FoldedUserName is how user names are told apart: without regard to case.
func FoldedUserName(s string) string {
	return names.Normal(cases.Fold().String(names.Normal(s))) // folding may take a text out of its normal form
}
