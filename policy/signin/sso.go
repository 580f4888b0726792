package signin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/sessions"
	"github.com/promptgate/promptgate/policy/sso"
)

// Where single sign-on stands. Identity providers have to know both in full.
const (
	SSOPath      = "/signin/sso/" // and an identity provider's id
	CallbackPath = SSOPath + "callback"
	LogoutPath   = SSOPath + "logout"
)

const (
	// FlowTime is how long somebody may stay at the identity provider.
	FlowTime = 10 * time.Minute

	providerTime = 20 * time.Second // that a sign-in waits for an identity provider, with all that it is asked
	flowBytes    = 32
)

// The kinds of notes.
const (
	noteState  = "state"  // an answer that was taken
	noteLogout = "logout" // a logout token that was taken
	noteSID    = "sid"    // a provider's session: its value is the subject
)

// inside joins what is of one identity provider.
func inside(provider, id string) string { return provider + "|" + id }

var flowBind = seal.Bind{Table: "cookie", Row: "sso", Column: "flow"} //nolint:gochecknoglobals // a constant

// party is who this gateway is to an identity provider.
func (s *Service) party(i policy.Issuer) (sso.Party, error) {
	p := sso.Party{Issuer: i, RedirectURL: s.URL + CallbackPath}
	if len(i.Secret) == 0 {
		return p, nil
	}
	secret, err := s.Sealer.Open(i.Secret, policy.IssuerBind(i.ID))
	if err != nil {
		return p, fault.Wrap(err, fault.Internal, "The identity provider's secret cannot be read.")
	}
	p.Secret = string(secret)
	return p, nil
}

func (s *Service) partyOf(ctx context.Context, id string) (sso.Party, error) {
	i, err := s.Store.IssuerByID(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return sso.Party{}, fault.New(fault.NotFound, "There is no such identity provider any more: start again from the sign-in page.")
	}
	if err != nil {
		return sso.Party{}, err
	}
	return s.party(i)
}

// Leave begins a sign-in at an identity provider: where the browser goes, and what it has to bring back beside the answer.
func (s *Service) Leave(ctx context.Context, provider string) (to, state string, err error) {
	defer func() {
		if err != nil {
			s.count(policy.BySSO, err)
		}
	}()
	party, err := s.partyOf(ctx, provider)
	if err != nil {
		return "", "", err
	}
	f := sso.Flow{Issuer: party.ID, EndsAt: s.Clock().Add(FlowTime)}
	for _, random := range []*string{&f.State, &f.Nonce, &f.Verifier} {
		raw := make([]byte, flowBytes)
		if _, err := io.ReadFull(s.Random, raw); err != nil {
			return "", "", fault.Wrap(err, fault.Internal, "There is no randomness to sign in with.")
		}
		*random = base64.RawURLEncoding.EncodeToString(raw)
	}
	ctx, cancel := context.WithTimeout(ctx, providerTime)
	defer cancel()
	if to, err = s.Verifier.Leave(ctx, party, f); err != nil {
		return "", "", err
	}
	plain, err := json.Marshal(f)
	if err != nil {
		return "", "", err
	}
	sealed, err := s.Sealer.Seal(plain, flowBind)
	return to, base64.RawURLEncoding.EncodeToString(sealed), err
}

func (s *Service) openFlow(state string) (sso.Flow, error) {
	var f sso.Flow
	lost := fault.New(fault.PermissionDenied, "Your browser did not bring back what it left with: it took too long, was another browser, or takes no cookies. Start again from the sign-in page.")
	sealed, err := base64.RawURLEncoding.DecodeString(state)
	if err != nil || state == "" {
		return f, lost
	}
	plain, err := s.Sealer.Open(sealed, flowBind)
	if err != nil || json.Unmarshal(plain, &f) != nil {
		return f, lost
	}
	return f, nil
}

// Return signs in who comes back from an identity provider, with what Leave gave the browser. Each answer is taken once.
func (s *Service) Return(ctx context.Context, state string, r sso.Return, from sessions.Browser) (g Grant, err error) {
	defer func() { s.count(policy.BySSO, err) }()
	flow, err := s.openFlow(state)
	if err != nil {
		return Grant{}, err
	}
	party, err := s.partyOf(ctx, flow.Issuer)
	if err != nil {
		return Grant{}, err
	}
	asking, cancel := context.WithTimeout(ctx, providerTime)
	defer cancel()
	said, held, err := s.Verifier.Come(asking, party, flow, r)
	if err != nil {
		s.Log.Warn("a sign-in through an identity provider was refused", "provider", party.ID, "name", party.Name, "address", from.Address, "error", err)
		return Grant{}, err
	}
	fresh, err := s.Store.Once(ctx, noteState, flow.State, "", flow.EndsAt)
	if err != nil {
		return Grant{}, err
	}
	if !fresh {
		return Grant{}, fault.New(fault.PermissionDenied, "This answer of the identity provider was used already: start again from the sign-in page.")
	}
	u, err := s.Store.Arrive(ctx, originOfProvider(party.Issuer, from), said)
	if err != nil {
		return Grant{}, err
	}
	if held.ID != "" {
		if err := s.Store.Note(ctx, noteSID, inside(party.ID, held.ID), said.Subject, s.Clock().Add(s.Sessions.Lifetime())); err != nil {
			return Grant{}, err
		}
	}
	g, err = s.begin(ctx, u, policy.BySSO, from, nil)
	if fault.Is(err, fault.NotFound) {
		return Grant{}, fault.New(fault.PermissionDenied, "Your account was deactivated just now: ask whoever looks after promptgate.")
	}
	return g, err
}

// originOfProvider is an identity provider that does something here.
func originOfProvider(i policy.Issuer, from sessions.Browser) journal.Origin {
	return journal.Origin{Actor: journal.Actor{Kind: policy.KindSystem, ID: i.ID, Name: i.Name}, From: from.Address}
}

// SignedOut ends the sessions of somebody who signed out at an identity provider, as its logout token says. All of them end: which of them began in the
// provider's session matters less than that none is left.
func (s *Service) SignedOut(ctx context.Context, token string, from sessions.Browser) error {
	issuers, err := s.Store.ListIssuers(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, providerTime)
	defer cancel()
	refused := fault.New(fault.InvalidRequest, "This is no logout token of an identity provider that is known here.").WithParam("logout_token")
	for _, i := range issuers {
		if !sso.Addressed(token, i) {
			continue
		}
		said, err := s.Verifier.Logout(ctx, sso.Party{Issuer: i}, token)
		if fault.Is(err, fault.RegistryUnavailable) {
			return err
		}
		if err != nil {
			s.Log.Warn("a logout token was refused", "provider", i.ID, "name", i.Name, "address", from.Address, "error", err)
			return fault.Wrap(err, fault.InvalidRequest, "The logout token was not accepted.").WithParam("logout_token")
		}
		return s.endAllOf(ctx, i, said, from)
	}
	return refused
}

// endAllOf ends the sessions of whoever a logout token names, once. Its id is noted when that is done, so that a provider that was answered 503 can say
// it again.
func (s *Service) endAllOf(ctx context.Context, i policy.Issuer, said sso.Logout, from sessions.Browser) error {
	once := inside(i.ID, said.ID)
	switch _, err := s.Store.Noted(ctx, noteLogout, once); {
	case err == nil:
		return fault.New(fault.InvalidRequest, "This logout token was used already.").WithParam("logout_token")
	case !fault.Is(err, fault.NotFound):
		return err
	}
	if err := s.endSubject(ctx, i, said, from); err != nil && !fault.Is(err, fault.NotFound) { // NotFound: nobody is signed in by it
		return err
	}
	_, err := s.Store.Once(ctx, noteLogout, once, "", said.EndsAt)
	return err
}

func (s *Service) endSubject(ctx context.Context, i policy.Issuer, said sso.Logout, from sessions.Browser) (err error) {
	subject := said.Subject
	if subject == "" {
		if subject, err = s.Store.Noted(ctx, noteSID, inside(i.ID, said.Session)); err != nil {
			return err
		}
	}
	who, err := s.Store.IdentityOf(ctx, i.ID, subject)
	if err != nil {
		return err
	}
	a, err := s.Store.Account(ctx, who.UserID)
	if err != nil || a.BreakGlass { // no provider has a say over it
		return err
	}
	by := originOfProvider(i, from)
	by.Why = "signed out at the identity provider"
	_, err = s.Store.EndSessions(ctx, by, who.UserID)
	return err
}

// enforcer is the identity provider by which alone people of an address's domain sign in; "" when they may choose.
func (s *Service) enforcer(ctx context.Context, email string) (name string, err error) {
	d, err := s.Store.DomainOf(ctx, policy.DomainOf(email))
	if fault.Is(err, fault.NotFound) || err == nil && !d.Enforced {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	i, err := s.Store.IssuerByID(ctx, d.Issuer)
	return i.Name, err
}

// freely refuses a sign-in of somebody whose domain signs in through an identity provider alone. Break-glass accounts are not asked to: they are for when
// that is down.
func (s *Service) freely(ctx context.Context, u policy.User) error {
	if u.BreakGlass {
		return nil
	}
	name, err := s.enforcer(ctx, u.Email)
	if err != nil || name == "" {
		return err
	}
	return elsewhere(u.Email, name)
}

func elsewhere(email, provider string) error {
	return fault.New(fault.PermissionDenied, "People of %s sign in with %s alone: use its button on the sign-in page.", policy.DomainOf(email), provider)
}

// opens refuses a link that would let somebody in whose domain signs in through an identity provider alone. Who has the machine can let anybody in.
func (s *Service) opens(ctx context.Context, l policy.Link) error {
	if l.UserID == "" || l.ByMachine() {
		return nil
	}
	a, err := s.Store.Account(ctx, l.UserID)
	if fault.Is(err, fault.NotFound) {
		return gone()
	}
	if err != nil {
		return err
	}
	return s.freely(ctx, a.User)
}

// hint adds to the answer to a wrong password where people of the address's domain sign in. It is the same whether there is such an account.
func (s *Service) hint(ctx context.Context, email string, wrong *fault.Error) error {
	if !strings.Contains(email, "@") {
		return wrong
	}
	name, err := s.enforcer(ctx, email)
	if err != nil || name == "" { // what is answered is right without it
		return wrong
	}
	return fault.New(wrong.Code, "%s People of %s sign in with %s.", wrong.Message, policy.DomainOf(email), name)
}
