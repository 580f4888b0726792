// Package sso checks what identity providers say (OpenID Connect): where somebody is sent to sign in, the answer that comes back, and the tokens in it. It
// knows neither accounts nor browsers. Whatever a provider says or names is somebody else's word: bounded in time and length, and reached over a Network
// that refuses private addresses.
package sso

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

const (
	skew       = 60 * time.Second // how far a provider's clock may be off
	knownFor   = time.Hour        // how long what a provider said of itself is believed
	maxIssued  = 24 * time.Hour   // a token that is older is refused, whatever its expiry
	maxSubject = 255              // OpenID Connect's own bound
)

// Verifier talks to providers and checks what they say. It is safe for concurrent use.
type Verifier struct {
	network Network
	client  *http.Client
	clock   func() time.Time

	mu    sync.Mutex
	known map[string]*known // by issuer
}

// known is one provider; those who come while it is asked wait for the same answer.
type known struct {
	mu     sync.Mutex
	is     *provider
	failed time.Time
	err    error
}

// NewVerifier makes a Verifier. A nil clock means time.Now.
func NewVerifier(n Network, clock func() time.Time) (*Verifier, error) {
	if n.Check == nil || n.Dial == nil {
		return nil, errors.New("sso: a verifier needs a network")
	}
	if clock == nil {
		clock = time.Now
	}
	return &Verifier{network: n, client: n.client(), clock: clock, known: map[string]*known{}}, nil
}

// failedFor is how long a provider that failed is not asked again, so that many who sign in do not wait one after the other.
const failedFor = 2 * time.Second

func (v *Verifier) provider(ctx context.Context, issuer string) (*provider, error) {
	v.mu.Lock()
	k := v.known[issuer]
	if k == nil {
		if len(v.known) >= policy.MaxIssuers*2 { // issuers that were removed
			clear(v.known)
		}
		k = &known{}
		v.known[issuer] = k
	}
	v.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	now := v.clock()
	switch {
	case k.is != nil && now.Sub(k.is.readAt) < knownFor:
		return k.is, nil
	case k.err != nil && now.Sub(k.failed) < failedFor:
		return nil, k.err
	}
	p, err := v.discover(ctx, issuer)
	if err != nil {
		k.failed, k.err = v.clock(), err
		return nil, err
	}
	if k.is != nil && k.is.keys.url == p.keys.url {
		k.is.keys.mu.Lock()
		p.keys.keys, p.keys.readAt, p.keys.good = k.is.keys.keys, k.is.keys.readAt, k.is.keys.good
		k.is.keys.mu.Unlock()
	}
	k.is, k.err = p, nil
	return p, nil
}

// Try asks a provider what it is and for its keys, whatever is remembered of it: whether an issuer can work.
func (v *Verifier) Try(ctx context.Context, issuer string) error {
	p, err := v.discover(ctx, issuer)
	if err != nil {
		return err
	}
	keys, err := p.keys.current(ctx, false)
	if err == nil && len(keys) == 0 {
		err = unreachable(errors.New("it publishes no key that signatures can be checked by"))
	}
	return err
}

// Check refuses (InvalidRequest) an address that no issuer may have.
func (v *Verifier) Check(issuer string) error {
	u, err := url.Parse(issuer)
	if err == nil && (u.RawQuery != "" || u.Fragment != "") {
		err = errors.New("has a query or a fragment: an issuer has none")
	}
	if err == nil {
		err = v.network.Check(u)
	}
	if err != nil {
		return fault.New(fault.InvalidRequest, "The issuer's address %v.", err).WithParam("issuer")
	}
	return nil
}

// Flow is what has to be the same when somebody comes back: it is kept in a sealed cookie of the browser that left.
type Flow struct {
	Issuer   string    `json:"i"` // its id
	State    string    `json:"s"`
	Nonce    string    `json:"n"`
	Verifier string    `json:"v"` // PKCE's
	EndsAt   time.Time `json:"e"`
}

// Party is who we are to an issuer.
type Party struct {
	policy.Issuer

	Secret      string // opened
	RedirectURL string
}

func (p Party) config(at *provider) oauth2.Config {
	return oauth2.Config{ClientID: p.ClientID, ClientSecret: p.Secret, Endpoint: at.endpoint, RedirectURL: p.RedirectURL, Scopes: p.Scopes}
}

// Leave is the address at the provider that somebody is sent to.
func (v *Verifier) Leave(ctx context.Context, p Party, f Flow) (string, error) {
	at, err := v.provider(ctx, p.URL)
	if err != nil {
		return "", err
	}
	if f.State == "" || f.Nonce == "" || f.Verifier == "" {
		return "", fault.New(fault.Internal, "a flow without state, nonce or verifier")
	}
	c := p.config(at)
	return c.AuthCodeURL(f.State, oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)), nil
}

// Return is what a browser brings back.
type Return struct {
	State, Code, Issuer string
	Error               string
}

// refused is what people read when an answer or a token is not good. The cause is for the log.
func refused(format string, args ...any) error {
	return fault.Wrap(fmt.Errorf(format, args...), fault.PermissionDenied, "The identity provider's answer was not accepted: start again from the sign-in page.")
}

// Come checks what a browser brings back against the flow that it left with, trades the code for tokens and checks them.
func (v *Verifier) Come(ctx context.Context, p Party, f Flow, r Return) (policy.Assertion, Session, error) {
	var none policy.Assertion
	switch {
	case f.State == "" || subtle.ConstantTimeCompare([]byte(f.State), []byte(r.State)) != 1:
		return none, Session{}, refused("the state is another one")
	case f.Issuer != p.ID:
		return none, Session{}, refused("the flow began at another issuer")
	case !v.clock().Before(f.EndsAt):
		return none, Session{}, fault.New(fault.PermissionDenied, "Signing in took too long: start again from the sign-in page.")
	}
	at, err := v.provider(ctx, p.URL)
	if err != nil {
		return none, Session{}, err
	}
	switch {
	case at.namesIss && r.Issuer != p.URL, r.Issuer != "" && r.Issuer != p.URL:
		return none, Session{}, refused("the answer is of the issuer %q", r.Issuer)
	case r.Error == "access_denied":
		return none, Session{}, fault.New(fault.PermissionDenied, "The identity provider did not let you sign in here: ask whoever looks after it.")
	case r.Error != "" || r.Code == "":
		return none, Session{}, refused("the provider answered the error %q", clipped(r.Error))
	}
	c := p.config(at)
	tokens, err := c.Exchange(oidc.ClientContext(ctx, v.client), r.Code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		var said *oauth2.RetrieveError
		if errors.As(err, &said) && said.Response != nil && said.Response.StatusCode < http.StatusInternalServerError {
			return none, Session{}, refused("the code was not taken: %s", clipped(said.ErrorCode))
		}
		return none, Session{}, unreachable(err)
	}
	raw, ok := tokens.Extra("id_token").(string)
	if !ok {
		return none, Session{}, refused("there is no id_token in the answer")
	}
	return v.identity(ctx, p, at, raw, f.Nonce, tokens.AccessToken)
}

// Session is a provider's own session, which a logout token can name.
type Session struct{ ID string }

// identity checks an ID token.
func (v *Verifier) identity(ctx context.Context, p Party, at *provider, raw, nonce, access string) (policy.Assertion, Session, error) {
	var none policy.Assertion
	token, err := oidc.NewVerifier(p.URL, at.keys, v.checks(p, at)).Verify(ctx, raw)
	if err != nil {
		return none, Session{}, verdict(err)
	}
	var c claims
	if err := token.Claims(&c); err != nil {
		return none, Session{}, refused("the claims cannot be read: %w", err)
	}
	switch {
	case nonce == "" || subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(nonce)) != 1:
		return none, Session{}, refused("the nonce is another one")
	case token.Subject == "" || len(token.Subject) > maxSubject:
		return none, Session{}, refused("the subject is missing or too long")
	case len(token.Audience) > 1 && c.AuthorizedParty == "", c.AuthorizedParty != "" && c.AuthorizedParty != p.ClientID:
		return none, Session{}, refused("the token was made for %q", c.AuthorizedParty)
	}
	if err := v.inTime(c.times, token.IssuedAt, token.Expiry); err != nil {
		return none, Session{}, err
	}
	if token.AccessTokenHash != "" {
		if err := token.VerifyAccessToken(access); err != nil {
			return none, Session{}, refused("at_hash: %w", err)
		}
	}
	groups, err := c.groups(p.GroupClaim)
	if err != nil {
		return none, Session{}, err
	}
	return policy.Assertion{
		Issuer: p.ID, Subject: token.Subject, Email: c.Email, Verified: bool(c.EmailVerified || c.DomainVerified), Name: c.Name, Groups: groups,
	}, Session{c.SessionID}, nil
}

// checks are those of go-oidc; times are checked by us, since its allowance for clocks is another one.
func (v *Verifier) checks(p Party, at *provider) *oidc.Config {
	algorithms := make([]string, len(at.keys.allow))
	for i, a := range at.keys.allow {
		algorithms[i] = string(a)
	}
	return &oidc.Config{ClientID: p.ClientID, SupportedSigningAlgs: algorithms, SkipExpiryCheck: true, Now: v.clock}
}

// verdict tells a provider that cannot be reached from a token that is not good.
func verdict(err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok || strings.Contains(err.Error(), "cannot be reached") {
		return unreachable(err)
	}
	return refused("%w", err)
}

// inTime allows for clocks that are off by skew, and no more.
func (v *Verifier) inTime(t times, issued, expiry time.Time) error {
	now := v.clock()
	switch {
	case expiry.Unix() <= 0 || !now.Before(expiry.Add(skew)):
		return refused("the token expired at %s", expiry)
	case issued.Unix() <= 0 || issued.After(now.Add(skew)):
		return refused("the token was issued at %s, and now is %s", issued, now)
	case now.Sub(issued) > maxIssued:
		return refused("the token was issued long ago, at %s", issued)
	case t.NotBefore != 0 && time.Unix(int64(t.NotBefore), 0).After(now.Add(skew)):
		return refused("the token is not good yet")
	}
	return nil
}

var _ oidc.KeySet = (*keySet)(nil)
