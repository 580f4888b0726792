package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/promptgate/promptgate/gateway/admin"
)

const ssoPath = "/api/v1/identity-providers"

type ssoCmd struct {
	List   ssoListCmd   `cmd:"" help:"List the identity providers that people sign in with."`
	Add    ssoAddCmd    `cmd:"" help:"Add an identity provider (OpenID Connect)."`
	Show   ssoShowCmd   `cmd:"" help:"Show an identity provider, and the addresses that it has to know."`
	Change ssoChangeCmd `cmd:"" help:"Change an identity provider: what is given is written, the rest stays."`
	Test   ssoTestCmd   `cmd:"" help:"Ask an identity provider what it is and for its keys: whether people can sign in now."`
	Remove ssoRemoveCmd `cmd:"" help:"Remove an identity provider. Accounts stay; their sessions end."`
}

// providerFlags are what people choose of an identity provider.
type providerFlags struct {
	SecretFile string            `help:"File with the client secret; - reads standard input. None: a public client." placeholder:"FILE"`
	Domain     []string          `help:"A domain of e-mail addresses that it speaks for, e.g. example.com. May be repeated."`
	Enforce    []string          `help:"Such a domain, whose people sign in through it alone. May be repeated."`
	Scope      []string          `help:"A scope to ask for; openid, profile and email without. May be repeated."`
	GroupClaim string            `help:"The claim that holds groups, e.g. groups." placeholder:"CLAIM"`
	Group      map[string]string `help:"VALUE=grp_…: a value of the claim, and the group that it puts somebody into. May be repeated." placeholder:"VALUE=GROUP"`
	Creates    *bool             `name:"creates-accounts" negatable:"" help:"Make accounts for people of its domains who have none."`
}

func (f providerFlags) domains() []admin.ClaimedDomain {
	var out []admin.ClaimedDomain
	for _, d := range f.Domain {
		out = append(out, admin.ClaimedDomain{Domain: d})
	}
	for _, d := range f.Enforce {
		out = append(out, admin.ClaimedDomain{Domain: d, Enforced: true})
	}
	return out
}

const maxSecretFile = 8 << 10

func (f providerFlags) secret(in io.Reader) (string, error) {
	if f.SecretFile == "" {
		return "", nil
	}
	if f.SecretFile != "-" {
		file, err := os.Open(f.SecretFile)
		if err != nil {
			return "", err
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	b, err := io.ReadAll(io.LimitReader(in, maxSecretFile))
	if b = bytes.TrimSpace(b); err == nil && len(b) == 0 {
		return "", errUsage{errors.New("there is no client secret in what --secret-file names")}
	}
	return string(b), err
}

func printProvider(out io.Writer, p admin.IdentityProvider) error {
	t := newTable(out)
	client := "public: it has no secret"
	if p.HasSecret {
		client = "its secret is set"
	}
	t.row("id", p.ID)
	t.row("name", p.Name)
	t.row("issuer", p.Issuer)
	t.row("client id", p.ClientID)
	t.row("client", client)
	t.row("scopes", strings.Join(p.Scopes, " "))
	for _, d := range p.Domains {
		word := "claimed"
		if d.Enforced {
			word = "enforced"
		}
		t.row("domain", d.Domain+" ("+word+")")
	}
	t.row("makes accounts", p.Creates)
	if p.GroupClaim != "" {
		t.row("group claim", p.GroupClaim)
	}
	for value, group := range p.Groups {
		t.row("group", value+" = "+group)
	}
	t.row("redirect URI", p.Redirect)
	t.row("back-channel logout URI", p.Logout)
	return t.flush()
}

type ssoListCmd struct{ remote }

// Run prints a line for each.
func (c ssoListCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var list struct {
		Providers []admin.IdentityProvider `json:"identity_providers"`
	}
	if err := cl.call(ctx, http.MethodGet, ssoPath, nil, &list); err != nil {
		return err
	}
	t := newTable(io.out, "ID", "NAME", "ISSUER", "DOMAINS", "SINCE")
	for _, p := range list.Providers {
		var domains []string
		for _, d := range p.Domains {
			name := d.Domain
			if d.Enforced {
				name += " (enforced)"
			}
			domains = append(domains, name)
		}
		t.row(p.ID, p.Name, p.Issuer, strings.Join(domains, ", "), stamp(p.CreatedAt))
	}
	return t.flush()
}

type ssoAddCmd struct {
	remote
	providerFlags
	Name     string `arg:"" help:"On the button, e.g. Okta."`
	Issuer   string `required:"" help:"Its issuer, exactly as its discovery document spells it; for good." placeholder:"URL"`
	ClientID string `required:"" help:"What it calls this gateway; for good." placeholder:"ID"`
	Why      string `help:"Why; kept in the journal."`
}

// Run adds it.
func (c ssoAddCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	secret, err := c.secret(io.in)
	if err != nil {
		return err
	}
	var out admin.IdentityProvider
	err = cl.call(ctx, http.MethodPost, ssoPath, admin.IdentityProviderCreate{
		Name: c.Name, Issuer: c.Issuer, ClientID: c.ClientID, ClientSecret: secret, Scopes: c.Scope, Domains: c.domains(), GroupClaim: c.GroupClaim, Groups: c.Group,
		Creates: c.Creates != nil && *c.Creates,
	}, &out, "X-Promptgate-Why", c.Why)
	if err != nil {
		return err
	}
	return printProvider(io.out, out)
}

// oneProvider is a command about one.
type oneProvider struct {
	remote
	ID string `arg:"" help:"Its id, idp_…; promptgate sso list shows it."`
}

func (c oneProvider) path() string { return ssoPath + "/" + url.PathEscape(c.ID) }

type ssoShowCmd struct{ oneProvider }

// Run prints it.
func (c ssoShowCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var out admin.IdentityProvider
	if err := cl.call(ctx, http.MethodGet, c.path(), nil, &out); err != nil {
		return err
	}
	return printProvider(io.out, out)
}

type ssoChangeCmd struct {
	oneProvider
	providerFlags
	Name string `help:"On the button."`
	Why  string `help:"Why; kept in the journal."`
}

// Run writes what was given. --domain and --enforce are the whole list of its domains, --group is the whole mapping.
func (c ssoChangeCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	in := admin.IdentityProviderPatch{Creates: c.Creates}
	secret, err := c.secret(io.in)
	if err != nil {
		return err
	}
	if secret != "" {
		in.ClientSecret = &secret
	}
	if c.Name != "" {
		in.Name = &c.Name
	}
	if len(c.Scope) > 0 {
		in.Scopes = &c.Scope
	}
	if domains := c.domains(); len(domains) > 0 {
		in.Domains = &domains
	}
	if c.GroupClaim != "" {
		in.GroupClaim = &c.GroupClaim
	}
	if len(c.Group) > 0 {
		in.Groups = &c.Group
	}
	var out admin.IdentityProvider
	if err := cl.call(ctx, http.MethodPatch, c.path(), in, &out, "If-Match", "*", "X-Promptgate-Why", c.Why); err != nil {
		return err
	}
	return printProvider(io.out, out)
}

type ssoTestCmd struct{ oneProvider }

// Run fails when people could not sign in through it now.
func (c ssoTestCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var out admin.IdentityProviderTest
	if err := cl.call(ctx, http.MethodPost, c.path()+"/test", nil, &out); err != nil {
		return err
	}
	if !out.OK {
		return fmt.Errorf("nobody can sign in through it: %s", out.Problem)
	}
	_, err = fmt.Fprintln(io.out, "It answers as it should.")
	return err
}

type ssoRemoveCmd struct {
	oneProvider
	Why string `help:"Why; kept in the journal."`
}

// Run removes it.
func (c ssoRemoveCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	if err := cl.call(ctx, http.MethodDelete, c.path(), nil, nil, "X-Promptgate-Why", c.Why); err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s: removed\n", cell(c.ID))
	return err
}
