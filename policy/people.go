package policy

import (
	"encoding/json"
	"net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/names"
)

// User is an account of the installation, and a member of the projects that it has bindings in.
type User struct {
	ID    string // "usr_…"
	Email string // normal form C, case folded: one address is one account
	Name  string
	State UserState
	// Operator says that it looks after the installation: accounts, groups, issuers, projects. It makes nobody a member of a project.
	Operator bool
	// BreakGlass says that neither an identity provider nor SCIM has a say over it: it signs in when they are down.
	BreakGlass bool
	External   string // its id at the system that provisions it (SCIM's externalId), "" for none
	CreatedBy  string
	CreatedAt  time.Time
	EndedAt    time.Time // when it was deactivated; zero: it was not
	// Epoch counts what ends its sessions: a new password, another second factor, a change of what it may do. A session is of one epoch.
	Epoch    int64
	Revision int64 // journal revision of the last change; the ETag
}

// UserState is what an account can be.
type UserState string

// The states of an account.
const (
	UserInvited     UserState = "invited" // it never signed in
	UserActive      UserState = "active"
	UserDeactivated UserState = "deactivated"
)

// Active reports whether the account may do anything.
func (u User) Active() bool { return u.State == UserActive }

// PeopleGroup is a group of users of the installation; bindings give it roles in projects.
type PeopleGroup struct {
	ID          string // "grp_…"
	Name        string
	Description string
	External    string // its id at the system that provisions it, "" for none
	CreatedBy   string
	CreatedAt   time.Time
	Revision    int64
}

// GroupMember is a user's place in a group.
type GroupMember struct {
	UserID, GroupID string
	Source          MemberSource
	AddedBy         string
	AddedAt         time.Time
	Revision        int64
}

// MemberSource says who put a user into a group, and so who takes it out again.
type MemberSource string

// The sources of membership.
const (
	ByHand  MemberSource = "manual"
	ByClaim MemberSource = "claim"
	BySCIM  MemberSource = "scim"
)

// ServiceAccount is a program of a project: it owns keys and holds bindings as a user does, and cannot sign in.
type ServiceAccount struct {
	ID          string // "svc_…"
	Project     string
	Name        string
	Description string
	CreatedBy   string
	CreatedAt   time.Time
	EndedAt     time.Time // when it was ended; zero: in force
	Revision    int64
}

const (
	maxEmail      = 254 // RFC 5321's path without its brackets
	maxPersonName = 100
)

// NormalEmail is the one spelling of an address (InvalidRequest when it is none): one address in two spellings must not be two accounts.
func NormalEmail(s string) (string, error) {
	bad := fault.New(fault.InvalidRequest, "This is no e-mail address: write it like ana@example.com.").WithParam("email")
	s = cases.Fold().String(names.Normal(strings.TrimSpace(s)))
	s = names.Normal(s) // folding may take a text out of its normal form
	at, err := mail.ParseAddress(s)
	if err != nil || at.Address != s || at.Name != "" || len(s) > maxEmail || !utf8.ValidString(s) ||
		strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
		return "", bad
	}
	return s, nil
}

// DomainOf is the domain of a normal address.
func DomainOf(email string) string { return email[strings.LastIndexByte(email, '@')+1:] }

// Validate checks what people choose about an account and brings it into its one spelling (InvalidRequest).
func (u *User) Validate() error {
	email, err := NormalEmail(u.Email)
	if err != nil {
		return err
	}
	u.Email = email
	u.Name, err = plainName(u.Name, "a user's name", false)
	return err
}

// Validate checks what people choose about a group.
func (g *PeopleGroup) Validate() (err error) {
	if g.Name, err = plainName(g.Name, "a group's name", true); err != nil {
		return err
	}
	g.Description, err = plainText(g.Description)
	return err
}

// Validate checks what people choose about a service account.
func (s *ServiceAccount) Validate() (err error) {
	if s.Name, err = plainName(s.Name, "a service account's name", true); err != nil {
		return err
	}
	s.Description, err = plainText(s.Description)
	return err
}

func plainName(s, what string, needed bool) (string, error) {
	s = names.Normal(strings.TrimSpace(s))
	if needed && s == "" || len(s) > maxPersonName || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return "", fault.New(fault.InvalidRequest, "%s has 1 to %d bytes and no control characters", what, maxPersonName).WithParam("name")
	}
	return s, nil
}

func plainText(s string) (string, error) {
	s = names.Normal(strings.TrimSpace(s))
	if len(s) > maxDescription || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return "", fault.New(fault.InvalidRequest, "a description has %d bytes at the most, and no control characters", maxDescription).WithParam("description")
	}
	return s, nil
}

// Public is what the journal keeps of an account.
func (u User) Public() json.RawMessage {
	return public(struct {
		ID         string    `json:"id"`
		Email      string    `json:"email"`
		Name       string    `json:"name"`
		State      UserState `json:"state"`
		Operator   bool      `json:"operator"`
		BreakGlass bool      `json:"break_glass"`
		External   string    `json:"external_id,omitempty"`
	}{u.ID, u.Email, u.Name, u.State, u.Operator, u.BreakGlass, u.External})
}

func public(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil { // plain fields: cannot fail short of a year past 9999
		return json.RawMessage(`{"unreadable":true}`)
	}
	return b
}
