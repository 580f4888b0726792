package signin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/names"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/sessions"
)

// CeremonyTime is how long a browser has to answer a challenge.
const CeremonyTime = 5 * time.Minute

// relyingParty is this gateway as authenticators know it. Browsers take no passkey for an address without a name, but localhost.
func relyingParty(site string) (*webauthn.WebAuthn, error) {
	u, err := url.Parse(site)
	if err != nil || u.Hostname() == "" {
		return nil, fmt.Errorf("signin: %q is no address of a site", site)
	}
	times := webauthn.TimeoutConfig{Enforce: true, Timeout: CeremonyTime, TimeoutUVD: CeremonyTime}
	return webauthn.New(&webauthn.Config{
		RPID: u.Hostname(), RPDisplayName: "promptgate", RPOrigins: []string{u.Scheme + "://" + u.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, UserVerification: protocol.VerificationRequired,
		},
		Timeouts: webauthn.TimeoutsConfig{Login: times, Registration: times},
	})
}

// holder is an account as the library sees it.
type holder struct {
	policy.User
	held []webauthn.Credential
}

func (h holder) WebAuthnID() []byte                         { return []byte(h.ID) }
func (h holder) WebAuthnName() string                       { return h.Email }
func (h holder) WebAuthnDisplayName() string                { return h.Email }
func (h holder) WebAuthnCredentials() []webauthn.Credential { return h.held }

func (s *Service) holder(ctx context.Context, u policy.User) (holder, error) {
	kept, err := s.Store.PasskeysOf(ctx, u.ID)
	h := holder{User: u}
	for _, p := range kept {
		var c webauthn.Credential
		if err := json.Unmarshal(p.Credential, &c); err != nil {
			return h, fault.Wrap(err, fault.Internal, "A stored passkey cannot be read.")
		}
		h.held = append(h.held, c)
	}
	return h, err
}

// ceremony is a challenge on its way, as the browser keeps it: sealed.
type ceremony struct {
	Data   webauthn.SessionData `json:"data"`
	Issued time.Time            `json:"issued"`
}

func ceremonyBind(what string) seal.Bind {
	return seal.Bind{Table: "cookie", Row: "ceremony", Column: what}
}

func (s *Service) sealCeremony(what string, data *webauthn.SessionData) (string, error) {
	plain, err := json.Marshal(ceremony{*data, s.Clock()})
	if err != nil {
		return "", err
	}
	sealed, err := s.Sealer.Seal(plain, ceremonyBind(what))
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

func (s *Service) openCeremony(what, state string) (ceremony, error) {
	var c ceremony
	late := fault.New(fault.InvalidRequest, "This took too long, or was begun in another browser: begin again.")
	sealed, err := base64.RawURLEncoding.DecodeString(state)
	if err != nil {
		return c, late
	}
	plain, err := s.Sealer.Open(sealed, ceremonyBind(what))
	if err != nil || json.Unmarshal(plain, &c) != nil || s.Clock().Sub(c.Issued) > CeremonyTime {
		return c, late
	}
	return c, nil
}

// unproven is the one answer for a passkey that is unknown, of an account that may not sign in, or proves nothing.
func unproven(err error) error {
	return fault.Wrap(err, fault.InvalidAPIKey, "This passkey is not known here, or could not be checked. Sign in another way, or ask an operator to reset your account.")
}

// BeginPasskey is a challenge for whoever holds a passkey of this site: options for the browser, and what it has to bring back beside the answer.
func (s *Service) BeginPasskey() (options any, state string, err error) {
	assertion, data, err := s.keys.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, "", fault.Wrap(err, fault.Internal, "The passkey's challenge could not be made.")
	}
	state, err = s.sealCeremony("sign in", data)
	return assertion, state, err
}

// Passkey signs in by the answer to a challenge.
func (s *Service) Passkey(ctx context.Context, state string, answer []byte, from sessions.Browser) (g Grant, err error) {
	defer func() { s.count(policy.ByPasskey, err) }()
	c, err := s.openCeremony("sign in", state)
	if err != nil {
		return Grant{}, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return Grant{}, unproven(err)
	}
	var who holder
	var broken error // of the store, which the library does not tell apart
	_, found, err := s.keys.ValidatePasskeyLogin(func(_, handle []byte) (webauthn.User, error) {
		var a *policy.Account
		if a, broken = s.Store.Account(ctx, string(handle)); broken != nil {
			return nil, broken
		}
		who, broken = s.holder(ctx, a.User)
		return who, broken
	}, c.Data, parsed)
	switch {
	case broken != nil && !fault.Is(broken, fault.NotFound):
		return Grant{}, broken
	case err != nil:
		return Grant{}, unproven(err)
	case !who.Active():
		return Grant{}, unproven(nil)
	case found.Authenticator.CloneWarning: // its counter went backwards: there are two of it
		s.Log.Warn("a passkey was refused: its counter says that there is a copy of it", "user", who.ID, "address", from.Address)
		return Grant{}, unproven(nil)
	}
	if err := s.freely(ctx, who.User); err != nil {
		return Grant{}, err
	}
	record, err := json.Marshal(found)
	if err != nil {
		return Grant{}, err
	}
	g, err = s.begin(ctx, who.User, policy.ByPasskey, from, &policy.Passkey{UserID: who.ID, ID: credentialID(found.ID), Credential: record, IssuedAt: c.Issued})
	if fault.Is(err, fault.NotFound) {
		return Grant{}, unproven(err)
	}
	return g, err
}

func credentialID(id []byte) string { return base64.RawURLEncoding.EncodeToString(id) }

// BeginRegister is a challenge for a new passkey of the session's person.
func (s *Service) BeginRegister(ctx context.Context, h sessions.Held) (options any, state string, err error) {
	if err := s.recent(h); err != nil {
		return nil, "", err
	}
	who, err := s.holder(ctx, h.Account.User)
	if err != nil {
		return nil, "", err
	}
	creation, data, err := s.keys.BeginRegistration(who, webauthn.WithExclusions(webauthn.Credentials(who.held).CredentialDescriptors()))
	if err != nil {
		return nil, "", fault.Wrap(err, fault.Internal, "The passkey's challenge could not be made.")
	}
	state, err = s.sealCeremony("register "+h.UserID, data)
	return creation, state, err
}

// Register keeps a new passkey. All sessions end; this browser gets a new one.
func (s *Service) Register(ctx context.Context, h sessions.Held, state string, answer []byte, name string, from sessions.Browser) (Grant, error) {
	if err := s.recent(h); err != nil {
		return Grant{}, err
	}
	if name = names.Normal(strings.TrimSpace(name)); name == "" {
		name = "Passkey"
	}
	if len(name) > 100 {
		return Grant{}, fault.New(fault.InvalidRequest, "A passkey's name has at most 100 bytes.").WithParam("name")
	}
	c, err := s.openCeremony("register "+h.UserID, state)
	if err != nil {
		return Grant{}, err
	}
	who, err := s.holder(ctx, h.Account.User)
	if err != nil {
		return Grant{}, err
	}
	refused := func(err error) error {
		return fault.Wrap(err, fault.InvalidRequest, "The passkey could not be registered: try again, or another one.")
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return Grant{}, refused(err)
	}
	made, err := s.keys.CreateCredential(who, c.Data, parsed)
	if err != nil {
		return Grant{}, refused(err)
	}
	record, err := json.Marshal(made)
	if err != nil {
		return Grant{}, err
	}
	u, err := s.Store.AddPasskey(ctx, originOf(who.User, from), policy.Passkey{UserID: who.ID, ID: credentialID(made.ID), Name: name, Credential: record, IssuedAt: c.Issued})
	if err != nil {
		return Grant{}, err
	}
	return s.goOn(ctx, h, u, policy.ByPasskey, from)
}

// RemovePasskey takes a passkey away, unless nothing would be left to sign in with. All sessions end; this browser gets a new one.
func (s *Service) RemovePasskey(ctx context.Context, h sessions.Held, id string, from sessions.Browser) (Grant, error) {
	if err := s.recent(h); err != nil {
		return Grant{}, err
	}
	held, err := s.Store.PasskeysOf(ctx, h.UserID)
	if err != nil {
		return Grant{}, err
	}
	if len(held) == 1 {
		has, err := s.HasPassword(ctx, h.UserID)
		if err != nil {
			return Grant{}, err
		}
		if !has {
			return Grant{}, fault.New(fault.Conflict, "This is your only way to sign in: set a password or add another passkey first.")
		}
	}
	u, err := s.Store.RemovePasskey(ctx, originOf(h.Account.User, from), h.UserID, id)
	if err != nil {
		return Grant{}, err
	}
	return s.goOn(ctx, h, u, "", from)
}
