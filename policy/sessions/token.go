// Package sessions knows who a browser is signed in as: tokens, the cookie that carries them, and the sessions in memory that answer warm requests
// without asking a database.
//
// It is no session library's: those keep whatever they are given under a random key and believe it. Here a session decides who somebody is, so that it
// is a row that the journal vouches for, ended by the feed on every replica as keys are, and renewed when its person's rights change.
package sessions

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
)

const (
	tokenBytes = 32
	tokenChars = 43 // base64url without padding

	// Purpose is what the key that hashes sessions is derived for: seal.Sealer.DeriveKey(Purpose).
	Purpose = "session"
	// LinkPurpose is what the key that hashes links is derived for.
	LinkPurpose = "sign-in-link"

	sessionPrefix = "ses_"
	linkPrefix    = "lnk_"
)

// Hasher makes tokens and their ids: who steals the database can use neither.
type Hasher struct {
	key    []byte
	prefix string
}

// NewHasher makes the one for session tokens from a secret that every replica shares.
func NewHasher(key []byte) (*Hasher, error) { return newHasher(key, sessionPrefix) }

// NewLinkHasher makes the one for tokens of links.
func NewLinkHasher(key []byte) (*Hasher, error) { return newHasher(key, linkPrefix) }

func newHasher(key []byte, prefix string) (*Hasher, error) {
	if len(key) < sha256.Size {
		return nil, errors.New("sessions: the hashing key is too short")
	}
	return &Hasher{append([]byte(nil), key...), prefix}, nil
}

// Issue makes a token of 256 bits and its id.
func (h *Hasher) Issue(random io.Reader) (token, id string, err error) {
	raw := make([]byte, tokenBytes)
	if _, err := io.ReadFull(random, raw); err != nil {
		return "", "", fault.Wrap(err, fault.Internal, "There is no randomness to make a token from.")
	}
	token = base64.RawURLEncoding.EncodeToString(raw)
	id, _ = h.ID(token)
	return token, id, nil
}

// ID is the keyed hash of a token; ok is false for what is no token.
func (h *Hasher) ID(token string) (id string, ok bool) {
	if len(token) != tokenChars {
		return "", false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil {
		return "", false
	}
	mac := hmac.New(sha256.New, h.key)
	mac.Write(raw)
	return h.prefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(mac.Sum(nil))), true
}

// Cookie is how tokens travel.
type Cookie struct {
	// Secure is for addresses that begin with https. The prefix then keeps other hosts of the domain from setting it, and ties it to TLS. Without, which is
	// for loopback, there is no prefix that browsers would take.
	Secure bool
}

const cookieName = "promptgate"

// Name is the cookie's, or that of one beside it when there is a suffix.
func (c Cookie) Name(suffix string) string {
	name := cookieName + suffix
	if c.Secure {
		return "__Host-" + name
	}
	return name
}

// Token is the token that a request carries; "" for none. A name that is there twice is refused: one of them may have been planted.
func (c Cookie) Token(h http.Header, suffix string) (string, error) {
	token, seen := "", false
	for _, line := range h["Cookie"] {
		found, err := http.ParseCookie(line)
		if err != nil { // another cookie's fault
			found = (&http.Request{Header: http.Header{"Cookie": {line}}}).Cookies()
		}
		for _, k := range found {
			if k.Name != c.Name(suffix) {
				continue
			}
			if seen && k.Value != token {
				return "", fault.New(fault.InvalidAPIKey, "The request carries two different session cookies: delete this site's cookies and sign in again.")
			}
			token, seen = k.Value, true
		}
	}
	return token, nil
}

// Set is the Set-Cookie header for a token; for is how long the browser keeps it, 0 until it is closed, less than 0 not at all. The cookie goes along with
// links from elsewhere, so that a link in a message opens; changes from elsewhere are refused by their origin.
func (c Cookie) Set(suffix, token string, keep time.Duration) string {
	k := http.Cookie{ //nolint:gosec // Secure wherever the address is https
		Name: c.Name(suffix), Value: token, Path: "/", HttpOnly: true, Secure: c.Secure, SameSite: http.SameSiteLaxMode,
	}
	switch {
	case keep > 0:
		k.MaxAge = int(keep.Seconds())
	case keep < 0:
		k.MaxAge = -1
	}
	return k.String()
}
