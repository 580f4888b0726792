package policy

import (
	"context"
	"slices"
	"time"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
)

// Session is a browser that somebody signed in with. It is never changed: a new token makes a new one.
type Session struct {
	ID        string // "ses_…": the keyed hash of its token
	UserID    string
	Epoch     int64  // the account's when it began: of another epoch it is void
	Method    Method // how its person signed in
	Factor    Method // the second factor; "" for none
	Address   string // of the browser, when it signed in
	UserAgent string
	CreatedAt time.Time
	RotatedAt time.Time     // when it got its present token
	Idle      time.Duration // unused for so long, it ends
	EndsAt    time.Time     // it ends then, however much it is used
	Revision  int64
}

// Method is a way to sign in.
type Method string

// The ways to sign in.
const (
	ByPassword Method = "password"
	ByPasskey  Method = "passkey"
	ByLink     Method = "link"
	BySSO      Method = "sso"
)

// Satisfies reports whether a session is good for a project that requires a method; "" is any.
func (s Session) Satisfies(required Method) bool {
	return required == "" || s.Method == required || s.Factor == required
}

// SessionSeen is when a session was last used, and what its person could do then, sealed by who reads it.
type SessionSeen struct {
	ID     string
	Sealed []byte
}

// Link is a one-time link.
type Link struct {
	ID        string // the keyed hash of its token
	Purpose   Purpose
	UserID    string // "" for a set-up link
	EndsAt    time.Time
	CreatedBy string
	CreatedAt time.Time
	Revision  int64
}

// ByMachine reports whether the link was made on the machine that has the data: by a command there, or by the gateway as it started.
func (l Link) ByMachine() bool { return slices.Contains([]string{"cli", "serve", "demo"}, l.CreatedBy) }

// Purpose is what a link is for.
type Purpose string

// The purposes of links.
const (
	ToSetUp  Purpose = "setup"   // makes the first account of an installation
	ToSignIn Purpose = "sign_in" // signs in
	ToJoin   Purpose = "invite"  // signs in for the first time
	ToReset  Purpose = "reset"   // ends all sessions, takes the password away and signs in
)

// Lifetime is how long a link of this purpose can be used.
func (p Purpose) Lifetime() time.Duration {
	switch p {
	case ToJoin:
		return 7 * 24 * time.Hour
	case ToReset:
		return time.Hour
	case ToSetUp, ToSignIn:
	}
	return 15 * time.Minute
}

// Passkey is a WebAuthn credential of an account.
type Passkey struct {
	UserID     string
	ID         string // the credential's id, base64url
	Name       string
	Credential []byte // the library's record, JSON
	CreatedAt  time.Time
	UsedAt     time.Time
	IssuedAt   time.Time // when the newest challenge was made that was answered
	Revision   int64
}

// Password is what is kept of an account's password.
type Password struct {
	UserID string
	Sealed []byte // its argon2id hash
	SetAt  time.Time
}

// FirstAccount is what a set-up link makes: an operator who is admin of a project.
type FirstAccount struct {
	User    User
	Project string
}

// Redemption is a link that is used.
type Redemption struct {
	Link    string        // its id
	First   *FirstAccount // of a set-up link
	Session Session       // to begin: UserID and Epoch are set by the store
}

// SignIns keeps how people sign in: sessions, links, passwords, passkeys. Every write but Seen goes through journal.Change. What is not there is NotFound.
// Every implementation runs policytest.SignIns.
type SignIns interface {
	SignInSessions
	SignInLinks
	Factors
}

// SignInSessions keeps sessions.
type SignInSessions interface {
	SessionByID(ctx context.Context, id string) (Session, error)
	// SessionsOf are those that a user can still use, the oldest first.
	SessionsOf(ctx context.Context, user string) ([]Session, error)
	// BeginSession stores s, of its account's present epoch. proven, when it is set, is the passkey that was used: it is written in the same change, and
	// refused (PermissionDenied) when its IssuedAt is not newer than the one that is stored. NotFound when the account may not sign in. Sessions of the
	// account that have ended are taken away, and the oldest when there are too many.
	BeginSession(ctx context.Context, by journal.Origin, s Session, proven *Passkey) (Session, error)
	// RenewSession puts next in the place of a session, whose token is void from then on. NotFound when that is not there any more.
	RenewSession(ctx context.Context, by journal.Origin, id string, next Session) (Session, error)
	EndSession(ctx context.Context, by journal.Origin, user, id string) error
	// Seen notes when a session was used, without a journal.
	Seen(ctx context.Context, seen SessionSeen) error
	LastSeen(ctx context.Context, id string) (SessionSeen, error)
}

// SignInLinks keeps one-time links.
type SignInLinks interface {
	// PutLink stores l; those of the same account and purpose are void from then on. once refuses (Conflict) where one of them can still be used.
	PutLink(ctx context.Context, by journal.Origin, l Link, once bool) (Link, error)
	LinkByID(ctx context.Context, id string) (Link, error)
	// Redeem uses a link up and does what it is for, in one change: of two who redeem it, one gets NotFound.
	Redeem(ctx context.Context, by journal.Origin, r Redemption) (User, Session, error)
}

// Factors keeps passwords and passkeys. Each change of them ends the account's sessions, by its epoch.
type Factors interface {
	PasswordOf(ctx context.Context, user string) (Password, error)
	SetPassword(ctx context.Context, by journal.Origin, p Password) (User, error)
	PasskeysOf(ctx context.Context, user string) ([]Passkey, error)
	AddPasskey(ctx context.Context, by journal.Origin, p Passkey) (User, error)
	RemovePasskey(ctx context.Context, by journal.Origin, user, id string) (User, error)
	// Requires is the method that a project demands; "" for any.
	Requires(ctx context.Context, project string) (Method, error)
	Require(ctx context.Context, by journal.Origin, project string, m Method) error
}

// What caches of sign-ins listen for.
const (
	TouchSession = "session"        // Key is the id
	TouchRequire = "sign_in_policy" // Key is the project
)

// Public is what the journal keeps of a session: neither its id nor where it came from, which the event has.
func (s Session) Public() any {
	return struct {
		Method Method    `json:"method"`
		Factor Method    `json:"factor,omitempty"`
		EndsAt time.Time `json:"ends_at"`
	}{s.Method, s.Factor, s.EndsAt}
}

// Public is what the journal keeps of a link: not its id, by which it could be told from others.
func (l Link) Public() any {
	return struct {
		Purpose   Purpose   `json:"purpose"`
		EndsAt    time.Time `json:"ends_at"`
		CreatedBy string    `json:"created_by"`
	}{l.Purpose, l.EndsAt, l.CreatedBy}
}

// PasswordBind is the place that a password's hash is sealed for.
func PasswordBind(user string) seal.Bind {
	return seal.Bind{Table: "policy_passwords", Row: user, Column: "hash"}
}
