package admin

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

// KeyRotate replaces a key.
type KeyRotate struct {
	Overlap   string     `json:"overlap,omitempty" maxLength:"20" doc:"How long the old key works on, at most 90d: 24h without it, 0 to end it at once" example:"24h"`
	ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"Of the successor; without it, it lives as long as the old one was made for"`
}

// KeyRotated is a key's successor, with the key, this once.
type KeyRotated struct {
	KeyCreated
	Replaced Key `json:"replaced" doc:"The old key, with the time at which it ends"`
}

type rotateKeyInput struct {
	KeyInput
	Body KeyRotate
}

type keyRotatedAnswer struct {
	Changed
	Created
	ETag string `header:"ETag"`
	Body KeyRotated
}

const defaultOverlap = 24 * time.Hour

// overlap reads a duration in which days are allowed.
func overlap(s string) (time.Duration, error) {
	if s == "" {
		return defaultOverlap, nil
	}
	bad := fault.New(fault.InvalidRequest, "overlap is a time such as 24h or 7d, at most 90d; 0 ends the old key at once").WithParam("overlap")
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, bad
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, bad
	}
	return d, nil
}

func (n keys) rotateKey(ctx context.Context, c *caller, in *rotateKeyInput) (*keyRotatedAnswer, error) {
	r := policy.Rotation{Project: c.Project, ID: in.ID}
	var err error
	if r.Overlap, err = overlap(in.Body.Overlap); err != nil {
		return nil, err
	}
	if at := in.Body.ExpiresAt; at != nil {
		if err := policy.ValidExpiry(*at, "expires_at"); err != nil {
			return nil, err
		}
		r.Expires = *at
	}
	issued, err := n.issue()
	if err != nil {
		return nil, err
	}
	r.Lookup, r.Hash, r.LastFour = issued.Lookup, issued.Hash, issued.LastFour
	next, old, err := n.store.RotateKey(ctx, c.Origin, c.Principal, r)
	if err != nil {
		return nil, err
	}
	told, err := n.told(ctx, c.Project, next, old)
	if err != nil {
		return nil, err
	}
	return &keyRotatedAnswer{
		Changed: changed(next.Revision), Created: created("keys", next.ID), ETag: etag(next.Revision),
		Body: KeyRotated{KeyCreated: KeyCreated{Key: told[0], Secret: issued.Plaintext}, Replaced: told[1]},
	}, nil
}

// rotate is for personal keys.
func (n ownKeys) rotate(ctx context.Context, c *caller, in *rotateKeyInput) (*keyRotatedAnswer, error) {
	if err := n.owns(ctx, c, in.ID); err != nil {
		return nil, err
	}
	return n.rotateKey(ctx, c, in)
}

// The states of keys.
const (
	keyInForce = "in_force"
	keyEnding  = "ending"
	keyExpired = "expired"
	keyRevoked = "revoked"
)

// stateOf is what a key is worth now.
func stateOf(k policy.KeyRecord, now time.Time) string {
	switch {
	case !k.RevokedAt.IsZero():
		return keyRevoked
	case k.Expires.IsZero():
		return keyInForce
	case !now.Before(k.Expires):
		return keyExpired
	case k.Expires.Sub(now) <= policy.ExpiryNotice:
		return keyEnding
	}
	return keyInForce
}
