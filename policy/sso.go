package policy

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
)

// IssuerPrefix is the prefix of the ids of identity providers.
const IssuerPrefix = "idp_"

// Issuer is an identity provider (OpenID Connect) of the installation. Its URL and client id are for good: another provider under the same id would be
// taken for those who were linked to the first.
type Issuer struct {
	ID       string // "idp_…"
	Name     string // on the button
	URL      string // the issuer, exactly as its tokens spell it
	ClientID string
	Secret   []byte // sealed; empty for a public client
	Scopes   []string
	Domains  []Domain // whose e-mail addresses its word is taken for
	// GroupClaim names the claim that holds groups, and Groups says for which of its values somebody is in which of our groups.
	GroupClaim string
	Groups     map[string]string
	Creates    bool // makes accounts for people of its domains who have none
	CreatedBy  string
	CreatedAt  time.Time
	Revision   int64
}

// NewIssuerID is the id of a new identity provider.
func NewIssuerID() string { return IssuerPrefix + strings.ToLower(rand.Text()) }

// Domain is a claimed domain of e-mail addresses.
type Domain struct {
	Domain   string
	Issuer   string // its id
	Enforced bool   // who has an address there signs in that way alone
}

// Identity is who somebody is at a provider.
type Identity struct {
	Issuer    string // its id
	Subject   string
	UserID    string
	Email     string // what the provider said when it was linked
	CreatedAt time.Time
	Revision  int64
}

// Assertion is what a provider says of who signs in, verified to be its word.
type Assertion struct {
	Issuer   string // its id
	Subject  string
	Email    string
	Verified bool // the provider vouches for the address
	Name     string
	Groups   []string // values of the group claim
}

// SSO keeps identity providers and who people are there. Every write but Once and Note goes through journal.Change. What is not there is NotFound. Every
// implementation runs policytest.SSO.
type SSO interface {
	// CreateIssuer stores i with its domains. It sets ID (unless there is one, that its secret is sealed for), CreatedBy,
	// CreatedAt and Revision. A name, or a domain, that is taken is a Conflict.
	CreateIssuer(ctx context.Context, by journal.Origin, i Issuer) (Issuer, error)
	IssuerByID(ctx context.Context, id string) (Issuer, error)
	ListIssuers(ctx context.Context) ([]Issuer, error)
	// UpdateIssuer writes all but URL and client id.
	UpdateIssuer(ctx context.Context, by journal.Origin, i Issuer) (Issuer, error)
	// DeleteIssuer takes it away with its domains and identities. Its people's sessions end.
	DeleteIssuer(ctx context.Context, by journal.Origin, id string, revision int64) error
	// DomainOf is the claim of a domain; NotFound when nobody claims it.
	DomainOf(ctx context.Context, domain string) (Domain, error)
	IdentityOf(ctx context.Context, issuer, subject string) (Identity, error)
	// Arrive finds, links or makes the account of who signs in, and puts it into the groups that the provider says and takes it out of those that it does
	// not. PermissionDenied says why somebody may not come in.
	Arrive(ctx context.Context, by journal.Origin, a Assertion) (User, error)
	// Once notes that something was used; fresh is false when it was before. What is noted can be forgotten at until.
	Once(ctx context.Context, kind, id, value string, until time.Time) (fresh bool, err error)
	// Note is Once that writes over what was noted before.
	Note(ctx context.Context, kind, id, value string, until time.Time) error
	// Noted is the value of what was noted; NotFound when there is none, or it has ended.
	Noted(ctx context.Context, kind, id string) (string, error)
}

const (
	maxScopes      = 20
	maxDomains     = 100
	maxClaimGroups = 1000
	maxClaimName   = 200 // bytes
	maxIssuers     = 50
	maxURL         = 2048
)

// Validate checks what people choose about an issuer, but for its address, and brings it into its one spelling (InvalidRequest).
func (i *Issuer) Validate() (err error) {
	if i.Name, err = plainName(i.Name, "an issuer's name", true); err != nil {
		return err
	}
	switch {
	case i.URL == "" || len(i.URL) > maxURL:
		return fault.New(fault.InvalidRequest, "an issuer's address is needed, of %d bytes at the most", maxURL).WithParam("url")
	case i.ClientID == "" || len(i.ClientID) > maxURL || !plainASCII(i.ClientID):
		return fault.New(fault.InvalidRequest, "the client id is what the provider calls this gateway: printable ASCII, %d bytes at the most", maxURL).WithParam("client_id")
	case len(i.Scopes) > maxScopes || slices.ContainsFunc(i.Scopes, func(s string) bool { return s == "" || len(s) > maxClaimName || !plainASCII(s) }):
		return fault.New(fault.InvalidRequest, "scopes are at most %d words without spaces", maxScopes).WithParam("scopes")
	case len(i.GroupClaim) > maxClaimName || len(i.Groups) > maxClaimGroups:
		return fault.New(fault.InvalidRequest, "the group claim has %d bytes at the most, and stands for %d groups at the most", maxClaimName, maxClaimGroups).WithParam("groups")
	case len(i.Groups) > 0 && i.GroupClaim == "":
		return fault.New(fault.InvalidRequest, "groups need a group_claim: the claim that says which of them somebody is in").WithParam("group_claim")
	}
	for value, group := range i.Groups {
		if value == "" || len(value) > maxClaimName || !strings.HasPrefix(group, GroupPrefix) {
			return fault.New(fault.InvalidRequest, "groups maps a value of the claim to a group of this installation (grp_…)").WithParam("groups")
		}
	}
	if len(i.Scopes) == 0 {
		i.Scopes = []string{"openid", "profile", "email"}
	}
	if !slices.Contains(i.Scopes, "openid") {
		i.Scopes = append([]string{"openid"}, i.Scopes...)
	}
	if len(i.Domains) > maxDomains {
		return fault.New(fault.InvalidRequest, "an issuer claims %d domains at the most", maxDomains).WithParam("domains")
	}
	for n := range i.Domains {
		if i.Domains[n].Domain, err = NormalDomain(i.Domains[n].Domain); err != nil {
			return err
		}
	}
	slices.SortFunc(i.Domains, func(a, b Domain) int { return strings.Compare(a.Domain, b.Domain) })
	if n := len(i.Domains); len(slices.CompactFunc(slices.Clone(i.Domains), func(a, b Domain) bool { return a.Domain == b.Domain })) != n {
		return fault.New(fault.InvalidRequest, "a domain is named twice").WithParam("domains")
	}
	return nil
}

func plainASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// NormalDomain is the one spelling of a domain of e-mail addresses (InvalidRequest when it is none).
func NormalDomain(s string) (string, error) {
	email, err := NormalEmail("a@" + strings.TrimSpace(s))
	if err != nil || strings.Count(email, "@") != 1 || !strings.Contains(email, ".") {
		return "", fault.New(fault.InvalidRequest, "%q is no domain of e-mail addresses: write it like example.com", s).WithParam("domains")
	}
	return DomainOf(email), nil
}

// Claims reports whether the issuer's word is taken for an address.
func (i Issuer) Claims(email string) bool {
	return slices.ContainsFunc(i.Domains, func(d Domain) bool { return d.Domain == DomainOf(email) })
}

// GroupsFor are our groups that somebody is in by values of the group claim.
func (i Issuer) GroupsFor(values []string) []string {
	var in []string
	for _, v := range values {
		if g := i.Groups[v]; g != "" {
			in = append(in, g)
		}
	}
	slices.Sort(in)
	return slices.Compact(in)
}

// Mapped are our groups that the claim can put somebody into.
func (i Issuer) Mapped() []string { return slices.Compact(slices.Sorted(maps.Values(i.Groups))) }

// Public is what the journal keeps of an issuer: nothing of its secret but whether there is one.
func (i Issuer) Public() json.RawMessage {
	return public(struct {
		Name       string            `json:"name"`
		URL        string            `json:"url"`
		ClientID   string            `json:"client_id"`
		Secret     bool              `json:"has_secret"`
		Scopes     []string          `json:"scopes"`
		Domains    []Domain          `json:"domains"`
		GroupClaim string            `json:"group_claim,omitempty"`
		Groups     map[string]string `json:"groups,omitempty"`
		Creates    bool              `json:"creates_accounts"`
	}{i.Name, i.URL, i.ClientID, len(i.Secret) > 0, i.Scopes, i.Domains, i.GroupClaim, i.Groups, i.Creates})
}

// MaxIssuers is how many identity providers an installation has at the most.
const MaxIssuers = maxIssuers

// What caches of issuers listen for.
const (
	TouchIssuer = "issuer" // Key is the id
	TouchDomain = "domain" // Key is the domain
)

// IssuerBind is the place that an identity provider's client secret is sealed for.
func IssuerBind(id string) seal.Bind {
	return seal.Bind{Table: "policy_issuers", Row: id, Column: "secret"}
}
