package sqlstore

import (
	"encoding/json"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/policy"
)

type issuerRow struct {
	bun.BaseModel `bun:"table:policy_issuers,alias:i"`

	ID         string `bun:"id,pk"`
	Name       string `bun:"name"`
	URL        string `bun:"url"`
	ClientID   string `bun:"client_id"`
	Secret     []byte `bun:"secret"`
	Scopes     string `bun:"scopes"`
	Domains    string `bun:"domains"`
	GroupClaim string `bun:"group_claim"`
	Groups     string `bun:"groups"`
	Creates    bool   `bun:"creates"`
	CreatedBy  string `bun:"created_by"`
	CreatedAt  int64  `bun:"created_at"`
	Revision   int64  `bun:"revision"`
}

func rowOfIssuer(i policy.Issuer) (issuerRow, error) {
	row := issuerRow{
		ID: i.ID, Name: i.Name, URL: i.URL, ClientID: i.ClientID, Secret: i.Secret, GroupClaim: i.GroupClaim, Creates: i.Creates,
		CreatedBy: i.CreatedBy, CreatedAt: micros(i.CreatedAt), Revision: i.Revision,
	}
	if row.Secret == nil {
		row.Secret = []byte{}
	}
	if err := encode(&row.Scopes, i.Scopes); err != nil {
		return row, err
	}
	domains := make([]domainOf, len(i.Domains))
	for n, d := range i.Domains {
		domains[n] = domainOf{d.Domain, d.Enforced}
	}
	if err := encode(&row.Domains, domains); err != nil {
		return row, err
	}
	return row, encode(&row.Groups, i.Groups)
}

// domainOf is an element of the column domains, which is what policy_domains holds of the issuer: so that none can be hidden from its reader.
type domainOf struct {
	Domain   string `json:"domain"`
	Enforced bool   `json:"enforced"`
}

func (r *issuerRow) issuer() (policy.Issuer, error) {
	i := policy.Issuer{
		ID: r.ID, Name: r.Name, URL: r.URL, ClientID: r.ClientID, Secret: r.Secret, GroupClaim: r.GroupClaim, Creates: r.Creates,
		CreatedBy: r.CreatedBy, CreatedAt: at(r.CreatedAt), Revision: r.Revision,
	}
	var domains []domainOf
	if err := decode(r.Domains, &domains, "issuer "+r.ID); err != nil {
		return i, err
	}
	for _, d := range domains {
		i.Domains = append(i.Domains, policy.Domain{Domain: d.Domain, Issuer: r.ID, Enforced: d.Enforced})
	}
	if err := decode(r.Scopes, &i.Scopes, "issuer "+r.ID); err != nil {
		return i, err
	}
	return i, decode(r.Groups, &i.Groups, "issuer "+r.ID)
}

func (r *issuerRow) stamped(revision int64) { r.Revision = revision }

type domainRow struct {
	bun.BaseModel `bun:"table:policy_domains,alias:d"`

	Domain   string `bun:"domain,pk"`
	Issuer   string `bun:"issuer"`
	Enforced bool   `bun:"enforced"`
	Revision int64  `bun:"revision"`
}

func (r *domainRow) domain() policy.Domain {
	return policy.Domain{Domain: r.Domain, Issuer: r.Issuer, Enforced: r.Enforced}
}

func (r *domainRow) stamped(revision int64) { r.Revision = revision }

type identityRow struct {
	bun.BaseModel `bun:"table:policy_identities,alias:n"`

	Issuer    string `bun:"issuer,pk"`
	Subject   string `bun:"subject,pk"`
	UserID    string `bun:"user_id"`
	Email     string `bun:"email"`
	CreatedAt int64  `bun:"created_at"`
	Revision  int64  `bun:"revision"`
}

func (r *identityRow) identity() policy.Identity {
	return policy.Identity{Issuer: r.Issuer, Subject: r.Subject, UserID: r.UserID, Email: r.Email, CreatedAt: at(r.CreatedAt), Revision: r.Revision}
}

func (r *identityRow) stamped(revision int64) { r.Revision = revision }

// noteRow is bookkeeping: policy_sso_notes.
type noteRow struct {
	bun.BaseModel `bun:"table:policy_sso_notes,alias:o"`

	Kind   string `bun:"kind,pk"`
	ID     string `bun:"id,pk"`
	Value  string `bun:"value"`
	EndsAt int64  `bun:"ends_at"`
}

type scimTokenRow struct {
	bun.BaseModel `bun:"table:policy_scim_tokens,alias:t"`

	ID        string `bun:"id,pk"`
	Directory string `bun:"directory"`
	Lookup    string `bun:"lookup"`
	Hash      []byte `bun:"hash"`
	LastFour  string `bun:"last_four"`
	Domains   string `bun:"domains"`
	CreatedBy string `bun:"created_by"`
	CreatedAt int64  `bun:"created_at"`
	ExpiresAt int64  `bun:"expires_at"`
	RevokedAt int64  `bun:"revoked_at"`
	Revision  int64  `bun:"revision"`
}

func rowOfSCIMToken(t policy.SCIMToken) (scimTokenRow, error) {
	row := scimTokenRow{
		ID: t.ID, Directory: t.Directory, Lookup: t.Lookup, Hash: t.Hash, LastFour: t.LastFour, CreatedBy: t.CreatedBy, CreatedAt: micros(t.CreatedAt),
		ExpiresAt: micros(t.Expires), RevokedAt: micros(t.RevokedAt), Revision: t.Revision,
	}
	return row, encode(&row.Domains, t.Domains)
}

func (r *scimTokenRow) token() (policy.SCIMToken, error) {
	t := policy.SCIMToken{
		ID: r.ID, Directory: r.Directory, Lookup: r.Lookup, Hash: r.Hash, LastFour: r.LastFour, CreatedBy: r.CreatedBy, CreatedAt: at(r.CreatedAt),
		Expires: at(r.ExpiresAt), RevokedAt: at(r.RevokedAt), Revision: r.Revision,
	}
	return t, decode(r.Domains, &t.Domains, "SCIM token "+r.ID)
}

func (r *scimTokenRow) stamped(revision int64) { r.Revision = revision }

// scimUseRow is bookkeeping: policy_scim_uses.
type scimUseRow struct {
	bun.BaseModel `bun:"table:policy_scim_uses,alias:v"`

	Token  string `bun:"token,pk"`
	UsedAt int64  `bun:"used_at"`
}

type provisionRow struct {
	bun.BaseModel `bun:"table:policy_provisions,alias:p"`

	ID        string `bun:"id,pk"`
	Directory string `bun:"directory"`
	UserName  string `bun:"user_name"`
	External  string `bun:"external"`
	Profile   string `bun:"profile"`
	EndedAt   int64  `bun:"ended_at"`
	Deleted   bool   `bun:"deleted"`
	CreatedAt int64  `bun:"created_at"`
	Revision  int64  `bun:"revision"`
}

// profile is the column of that name.
type profile struct {
	UserName string          `json:"user_name"`
	Sent     json.RawMessage `json:"sent,omitempty"`
}

func (r *provisionRow) provision() (policy.Provision, error) {
	var sent profile
	err := decode(r.Profile, &sent, "profile of "+r.ID)
	return policy.Provision{
		Directory: r.Directory, UserName: sent.UserName, External: r.External, Profile: sent.Sent, CreatedAt: at(r.CreatedAt), Revision: r.Revision,
	}, err
}

// take writes what a directory says.
func (r *provisionRow) take(p policy.Provision) error {
	r.UserName, r.External = policy.FoldedUserName(p.UserName), p.External
	return encode(&r.Profile, profile{p.UserName, p.Profile})
}

func (r *provisionRow) stamped(revision int64) { r.Revision = revision }
