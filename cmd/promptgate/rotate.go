package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/promptgate/promptgate/gateway/admin"
)

type keyRotateCmd struct {
	remote
	ID      string   `arg:"" help:"The key's id, key_…; promptgate key list shows it."`
	Own     bool     `help:"It is your personal key; no right to manage keys is needed."`
	Overlap string   `help:"How long the old key works on: 24h, 7d, 90d at the most; 0 ends it at once." default:"24h"`
	Expires lifetime `help:"How long the successor lives; as long as the old one was made for without." placeholder:"TIME"`
	Why     string   `help:"Why; kept in the journal."`
}

// Run prints the successor.
func (c keyRotateCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	in := admin.KeyRotate{Overlap: c.Overlap}
	if c.Expires > 0 {
		t := time.Now().Add(time.Duration(c.Expires)).UTC()
		in.ExpiresAt = &t
	}
	path := "/api/v1/keys/"
	if c.Own {
		path = "/api/v1/me/keys/"
	}
	var out admin.KeyRotated
	if err := cl.call(ctx, http.MethodPost, path+url.PathEscape(c.ID)+"/rotate", in, &out, "X-Promptgate-Why", c.Why); err != nil {
		return err
	}
	fmt.Fprintf(io.err, "%s replaces %s (%s): keep the key, it is not shown again\n", cell(out.ID), cell(c.ID), stateOfKey(out.Replaced, time.Now()))
	_, err = fmt.Fprintln(io.out, out.Secret)
	return err
}

// stateOfKey spells whether a key is worth anything.
func stateOfKey(k admin.Key, now time.Time) string {
	state := "in force"
	switch {
	case k.RevokedAt != nil:
		state = "revoked " + stamp(*k.RevokedAt)
	case k.ExpiresAt == nil:
	case !now.Before(*k.ExpiresAt):
		state = "expired " + stamp(*k.ExpiresAt)
	case k.State == "ending":
		state = "ends in " + left(k.ExpiresAt.Sub(now))
	default:
		state = "until " + stamp(*k.ExpiresAt)
	}
	if k.ReplacedBy != "" {
		state += ", replaced by " + k.ReplacedBy
	}
	return state
}

// left spells how long something still lasts, rounded down: "6 d".
func left(d time.Duration) string {
	switch {
	case d >= 24*time.Hour:
		return fmt.Sprintf("%d d", d/(24*time.Hour))
	case d >= time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d min", d/time.Minute)
}
