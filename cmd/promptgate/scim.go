package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/gateway/scim"
	"github.com/promptgate/promptgate/metrics"
)

// provisioning serves SCIM on the engine.
//
//nolint:contextcheck // each request has its own
func (a *App) provisioning(engine *gin.Engine, reg prometheus.Registerer) (*scim.Server, error) {
	meter, err := metrics.NewSCIM(reg)
	if err != nil {
		return nil, err
	}
	server, err := scim.New(scim.Deps{Store: a.stores.keys, Tokens: a.stores.scim, Meter: meter, Log: a.log, Clock: time.Now})
	if err != nil {
		return nil, err
	}
	server.Mount(engine)
	return server, nil
}

// scimIssuer is what the management API makes directories' tokens with.
func (s *stores) scimIssuer() (token, lookup string, hash []byte, err error) {
	return s.scim.Issue(rand.Reader)
}

type scimCmd struct {
	Token scimTokenCmd `cmd:"" help:"Manage the tokens that directories (Okta, Entra) provision accounts with: create, list, revoke."`
}

type scimTokenCmd struct {
	Create scimCreateCmd `cmd:"" help:"Create a directory's token; it is shown this once."`
	List   scimListCmd   `cmd:"" help:"List directories' tokens."`
	Revoke scimRevokeCmd `cmd:"" help:"Revoke a directory's token for good."`
}

type scimCreateCmd struct {
	remote
	Directory string   `arg:"" help:"The directory, e.g. okta. Tokens of one directory look after the same accounts, so that one can replace another."`
	Domain    []string `required:"" help:"A domain of e-mail addresses that it looks after, e.g. example.com. May be repeated."`
	Expires   lifetime `help:"How long it lives, e.g. 90d; for ever without." placeholder:"TIME"`
	Why       string   `help:"Why; kept in the journal."`
}

// Run creates the token.
func (c scimCreateCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	in := admin.SCIMTokenCreate{Directory: c.Directory, Domains: c.Domain}
	if c.Expires > 0 {
		t := time.Now().Add(time.Duration(c.Expires)).UTC()
		in.ExpiresAt = &t
	}
	var out admin.SCIMTokenCreated
	if err := cl.call(ctx, http.MethodPost, "/api/v1/scim-tokens", in, &out, "X-Promptgate-Why", c.Why); err != nil {
		return err
	}
	fmt.Fprintf(io.err, "%s: keep the token, it is not shown again; its address is %s\n", out.ID, scim.Base)
	_, err = fmt.Fprintln(io.out, out.Secret)
	return err
}

type scimListCmd struct{ remote }

// Run prints a line for each token.
func (c scimListCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	w := newTable(io.out, "ID", "DIRECTORY", "DOMAINS", "LAST USED", "STATE")
	type list struct {
		Tokens []admin.SCIMToken `json:"scim_tokens"`
		Next   string            `json:"next"`
	}
	err = pages(ctx, cl, "/api/v1/scim-tokens", nil, func(page list) string {
		for _, t := range page.Tokens {
			used, state := "never", "in force"
			if t.UsedAt != nil {
				used = stamp(*t.UsedAt)
			}
			if t.ExpiresAt != nil {
				state = "until " + stamp(*t.ExpiresAt)
			}
			if t.RevokedAt != nil {
				state = "revoked"
			}
			w.row(t.ID, t.Directory, strings.Join(t.Domains, ", "), used, state)
		}
		return page.Next
	})
	if err != nil {
		return err
	}
	return w.flush()
}

type scimRevokeCmd struct {
	remote
	ID  string `arg:"" help:"The token's id, scm_…; promptgate scim token list shows it."`
	Why string `help:"Why; kept in the journal."`
}

// Run revokes the token.
func (c scimRevokeCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var t admin.SCIMToken
	if err := cl.call(ctx, http.MethodDelete, "/api/v1/scim-tokens/"+url.PathEscape(c.ID), nil, &t, "X-Promptgate-Why", c.Why); err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s (%s): revoked\n", cell(t.ID), cell(t.Directory))
	return err
}
