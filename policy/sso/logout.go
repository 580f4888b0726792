package sso

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/promptgate/promptgate/policy"
)

// Addressed reports whether a token says that it is an issuer's and made for us there. Nothing is checked yet: it is how the issuer is found.
func Addressed(token string, i policy.Issuer) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(token) > maxTokenSize {
		return false
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	var says struct {
		Issuer   string   `json:"iss"`
		Audience audience `json:"aud"`
	}
	return err == nil && json.Unmarshal(body, &says) == nil && says.Issuer == i.URL && slices.Contains(says.Audience, i.ClientID)
}

// audience is one name or several.
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// Logout is what a provider says of somebody who signed out there.
type Logout struct {
	ID      string // of the token: it is taken once
	Subject string // "" when only the session is named
	Session string
	EndsAt  time.Time // when ID can be forgotten
}

// Logout checks a logout token (OpenID Connect Back-Channel Logout). The caller takes each ID once.
func (v *Verifier) Logout(ctx context.Context, p Party, raw string) (Logout, error) {
	at, err := v.provider(ctx, p.URL)
	if err != nil {
		return Logout{}, err
	}
	token, err := oidc.NewVerifier(p.URL, at.keys, v.checks(p, at)).Verify(ctx, raw)
	if err != nil {
		return Logout{}, verdict(err)
	}
	var c struct {
		times

		ID      string              `json:"jti"`
		Session string              `json:"sid"`
		Events  map[string]jsonText `json:"events"`
		Nonce   *string             `json:"nonce"`
	}
	if err := token.Claims(&c); err != nil {
		return Logout{}, refused("the claims cannot be read: %w", err)
	}
	_, isLogout := c.Events["http://schemas.openid.net/event/backchannel-logout"]
	switch {
	case !isLogout:
		return Logout{}, refused("it is no logout token")
	case c.Nonce != nil: // an ID token must not be taken for one
		return Logout{}, refused("a logout token has no nonce")
	case c.ID == "" || len(c.ID) > maxSubject:
		return Logout{}, refused("the token has no id")
	case token.Subject == "" && c.Session == "" || len(token.Subject) > maxSubject || len(c.Session) > maxSubject:
		return Logout{}, refused("the token names nobody")
	}
	expiry := token.Expiry
	if expiry.Unix() <= 0 { // the first edition of the standard knew none
		expiry = token.IssuedAt.Add(2 * time.Minute)
	}
	if err := v.inTime(c.times, token.IssuedAt, expiry); err != nil {
		return Logout{}, err
	}
	return Logout{ID: c.ID, Subject: token.Subject, Session: c.Session, EndsAt: expiry.Add(2 * skew)}, nil
}
