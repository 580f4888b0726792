// Package signin is how people get in: by a password, a passkey, a one-time link or an identity provider. It joins what keeps accounts, what hashes and slows down, and the
// sessions that come of it. It knows no HTTP.
package signin

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/passwords"
	"github.com/promptgate/promptgate/policy/sessions"
	"github.com/promptgate/promptgate/policy/sso"
)

// Store is what is kept of people and how they sign in.
type Store interface {
	policy.PeopleStore
	policy.SignIns
	policy.SSO
}

// Mailer sends a message to one address.
type Mailer interface {
	Send(ctx context.Context, to, subject, text string) error
}

// Meter counts sign-ins.
type Meter interface {
	SignIn(method, outcome string)
}

// Deps is what a Service works with. All are needed but Mail.
type Deps struct {
	Store    Store
	Sessions *sessions.Keeper
	Hasher   *passwords.Hasher
	Limits   *passwords.Limits
	Links    *sessions.Hasher // of links' tokens
	Device   []byte           // key for what tells a browser that somebody signed in with before; DevicePurpose
	Sealer   sessions.Sealer
	Verifier *sso.Verifier // talks to identity providers
	Meter    Meter
	Mail     Mailer // nil: no SMTP is configured
	Log      *slog.Logger
	Clock    func() time.Time
	Random   io.Reader
	URL      string // where people reach this gateway, such as https://promptgate.example.com
}

// DevicePurpose is what Deps.Device is derived for: seal.Sealer.DeriveKey(DevicePurpose).
const DevicePurpose = "sign-in-device"

// Service signs people in.
type Service struct {
	Deps

	checker   *passwords.Checker
	keys      *webauthn.WebAuthn
	asks      *passwords.Limits // of Forgot
	forgotten chan forgotten
}

// New makes a Service.
func New(d Deps) (*Service, error) {
	if d.Store == nil || d.Sessions == nil || d.Hasher == nil || d.Limits == nil || d.Links == nil || len(d.Device) < sha256.Size || d.Sealer == nil || d.Verifier == nil || d.Meter == nil ||
		d.Log == nil || d.Clock == nil {
		return nil, errors.New("signin: a dependency is missing")
	}
	if d.Random == nil {
		d.Random = rand.Reader
	}
	s := &Service{Deps: d, checker: passwords.NewChecker(), forgotten: make(chan forgotten, maxForgotten)}
	var err error
	if s.asks, err = passwords.NewLimits(d.Clock); err != nil {
		return nil, err
	}
	s.keys, err = relyingParty(d.URL)
	return s, err
}

// Grant is a sign-in: what the browser keeps.
type Grant struct {
	Token  string
	Device string // for a cookie that outlives the session; "" leaves it
	User   policy.User
}

// Outcomes of a sign-in, as they are counted.
const (
	outcomeOK          = "ok"
	outcomeRefused     = "refused"
	outcomeLimited     = "limited"
	outcomeUnavailable = "unavailable"
)

// count counts a sign-in by what became of it.
func (s *Service) count(m policy.Method, err error) {
	outcome := outcomeRefused
	switch fault.CodeOf(err) {
	case "":
		outcome = outcomeOK
	case fault.RateLimitExceeded:
		outcome = outcomeLimited
	case fault.RegistryUnavailable, fault.Overloaded, fault.StorageFull, fault.Internal:
		outcome = outcomeUnavailable
	}
	s.Meter.SignIn(string(m), outcome)
}

// wrong is the one answer for an account that is not there, a password that is wrong, and an account that may not sign in.
func wrong() *fault.Error {
	return fault.New(fault.InvalidAPIKey, "The e-mail address or the password is wrong.")
}

// Password signs in by e-mail address and password. device is what a Grant of this browser had; "" for none.
func (s *Service) Password(ctx context.Context, email, password, device string, from sessions.Browser) (g Grant, err error) {
	defer func() { s.count(policy.ByPassword, err) }()
	typed, bad := policy.NormalEmail(email)
	if bad != nil { // nobody can have it, which anybody can tell
		return Grant{}, wrong()
	}
	u, err := s.Store.UserByEmail(ctx, typed)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return Grant{}, err
	}
	try := passwords.Try{Account: typed, Address: from.Address, Device: s.device(device, u.ID)}
	if err := s.Limits.Admit(try); err != nil {
		return Grant{}, err
	}
	ok, err := s.matches(ctx, u, password)
	if err != nil {
		return Grant{}, err
	}
	if !ok {
		return Grant{}, s.hint(ctx, typed, wrong())
	}
	s.Limits.Right(try)
	if err := s.freely(ctx, u); err != nil {
		return Grant{}, err
	}
	g, err = s.begin(ctx, u, policy.ByPassword, from, nil)
	if fault.Is(err, fault.NotFound) { // deactivated meanwhile
		return Grant{}, wrong()
	}
	return g, err
}

// nobody is an id that no account has, so that looking for its password takes what looking for somebody's takes.
const nobody = policy.UserPrefix + "nobody"

// matches does the same work whether there is such an account, and whether it has a password and may sign in, or not.
func (s *Service) matches(ctx context.Context, u policy.User, password string) (bool, error) {
	id := u.ID
	if id == "" {
		id = nobody
	}
	hash := ""
	kept, err := s.Store.PasswordOf(ctx, id)
	switch {
	case err == nil:
		plain, err := s.Sealer.Open(kept.Sealed, policy.PasswordBind(id))
		if err != nil {
			return false, fault.Wrap(err, fault.Internal, "The stored password cannot be read.")
		}
		hash = string(plain)
	case !fault.Is(err, fault.NotFound):
		return false, err
	}
	ok, err := s.Hasher.Verify(ctx, password, hash)
	return ok && u.Active(), err
}

// begin begins a session of somebody who has proven to be u.
func (s *Service) begin(ctx context.Context, u policy.User, m policy.Method, from sessions.Browser, proven *policy.Passkey) (Grant, error) {
	session, token, err := s.Sessions.Fresh(m, from)
	if err != nil {
		return Grant{}, err
	}
	session.UserID, session.Epoch = u.ID, u.Epoch
	if _, err := s.Store.BeginSession(ctx, originOf(u, from), session, proven); err != nil {
		return Grant{}, err
	}
	return Grant{Token: token, Device: s.newDevice(u.ID), User: u}, nil
}

func originOf(u policy.User, from sessions.Browser) journal.Origin {
	return journal.Origin{Actor: journal.Actor{Kind: policy.KindUser, ID: u.ID, Name: u.Email}, From: from.Address}
}

const deviceBytes = 16

// newDevice is what a browser shows that somebody signed in with to an account before.
func (s *Service) newDevice(user string) string {
	nonce := make([]byte, deviceBytes)
	if _, err := io.ReadFull(s.Random, nonce); err != nil {
		return "" // it will have to wait like others
	}
	return base64.RawURLEncoding.EncodeToString(append(nonce, s.deviceMAC(nonce, user)...))
}

func (s *Service) deviceMAC(nonce []byte, user string) []byte {
	m := hmac.New(sha256.New, s.Device)
	m.Write(nonce)
	m.Write([]byte(user))
	return m.Sum(nil)
}

// device is what tries from a browser are counted by; "" when it is none that user signed in with.
func (s *Service) device(shown, user string) string {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(shown)
	if err != nil || len(raw) != deviceBytes+sha256.Size || user == "" || !hmac.Equal(raw[deviceBytes:], s.deviceMAC(raw[:deviceBytes], user)) {
		return ""
	}
	return shown[:20]
}

// SignOut ends one session.
func (s *Service) SignOut(ctx context.Context, h sessions.Held, from sessions.Browser) error {
	err := s.Store.EndSession(ctx, originOf(h.Account.User, from), h.UserID, h.ID)
	if fault.Is(err, fault.NotFound) { // it has ended
		return nil
	}
	return err
}

// SignOutEverywhere ends all sessions of an account.
func (s *Service) SignOutEverywhere(ctx context.Context, h sessions.Held, from sessions.Browser) error {
	_, err := s.Store.EndSessions(ctx, originOf(h.Account.User, from), h.UserID)
	return err
}
