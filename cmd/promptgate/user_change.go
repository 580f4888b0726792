package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/policy"
)

// personCmd is a command about one account, through the API.
type personCmd struct {
	remote
	Who string `arg:"" help:"E-mail address or id (usr_…)."`
	Why string `help:"Why; kept in the journal."`
}

// found is the account that is meant.
func (c personCmd) found(ctx context.Context) (*client, admin.User, error) {
	cl, err := c.client()
	if err != nil {
		return nil, admin.User{}, err
	}
	u, err := cl.userNamed(ctx, c.Who)
	return cl, u, err
}

// change changes the account, as it was when it was read.
func (c personCmd) change(ctx context.Context, patch admin.UserPatch) (admin.User, error) {
	cl, u, err := c.found(ctx)
	if err != nil {
		return u, err
	}
	return u, cl.call(ctx, http.MethodPatch, "/api/v1/users/"+u.ID, patch, &u, "If-Match", fmt.Sprintf(`"%d"`, u.Revision), "X-Promptgate-Why", c.Why)
}

type userActivateCmd struct{ personCmd }

// Run lets somebody in again who was deactivated.
func (c userActivateCmd) Run(ctx context.Context, io *streams) error {
	state := string(policy.UserActive)
	u, err := c.change(ctx, admin.UserPatch{State: &state})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s: active; its sessions have ended, its keys are good again\n", cell(u.Email))
	return err
}

type userSetCmd struct {
	personCmd
	Name       *string `help:"Their name."`
	Email      *string `name:"email" help:"Their e-mail address."`
	Operator   *bool   `negatable:"" help:"May look after the accounts and projects of the installation."`
	BreakGlass *bool   `negatable:"" help:"A way in for the day when everything else fails: no identity provider, no directory and no other operator's reset reaches it."`
}

// Run changes what is named and nothing else.
func (c userSetCmd) Run(ctx context.Context, io *streams) error {
	patch := admin.UserPatch{Name: c.Name, Email: c.Email, Operator: c.Operator, BreakGlass: c.BreakGlass}
	if patch == (admin.UserPatch{}) {
		return errUsage{errors.New("say what shall change: --name, --email, --operator or --break-glass, with no- in front to take it away")}
	}
	u, err := c.change(ctx, patch)
	if err != nil {
		return err
	}
	is := []string{u.State}
	if u.Operator {
		is = append(is, "operator")
	}
	if u.BreakGlass {
		is = append(is, "break glass")
	}
	_, err = fmt.Fprintf(io.out, "%s: %s, %s\n", cell(u.Email), cell(u.Name), strings.Join(is, ", "))
	return err
}

type userSessionsCmd struct{ personCmd }

// Run prints a line for each browser that the account is signed in with.
func (c userSessionsCmd) Run(ctx context.Context, io *streams) error {
	cl, u, err := c.found(ctx)
	if err != nil {
		return err
	}
	var list struct {
		Sessions []admin.Session `json:"sessions"`
	}
	if err := cl.call(ctx, http.MethodGet, "/api/v1/users/"+u.ID+"/sessions", nil, &list); err != nil {
		return err
	}
	w := newTable(io.out, "ID", "SINCE", "ENDS", "BY", "FROM", "BROWSER")
	for _, s := range list.Sessions {
		w.row(s.ID, stamp(s.CreatedAt), stamp(s.EndsAt), strings.TrimSuffix(s.Method+" and "+s.Factor, " and "), s.Address, s.UserAgent)
	}
	return w.flush()
}

type userSignOutCmd struct {
	personCmd
	Session string `help:"One browser (ses_…); else all of them."`
}

// Run ends sessions, and leaves keys and the account as they are.
func (c userSignOutCmd) Run(ctx context.Context, io *streams) error {
	cl, u, err := c.found(ctx)
	if err != nil {
		return err
	}
	path, said := "/api/v1/users/"+u.ID+"/sessions", "signed out everywhere"
	if c.Session != "" {
		path, said = path+"/"+url.PathEscape(c.Session), "signed out of that browser"
	}
	if err := cl.call(ctx, http.MethodDelete, path, nil, nil, "X-Promptgate-Why", c.Why); err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s: %s\n", cell(u.Email), said)
	return err
}

type projectSignInCmd struct {
	remote
	Require string `arg:"" optional:"" default:"" enum:",any,password,passkey,sso" help:"How people must have signed in to use the project: any, password, passkey or sso. Nothing: say what it is."`
	Why     string `help:"Why; kept in the journal."`
}

// Run shows or sets what the project requires of sessions.
func (c projectSignInCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var is admin.SignInPolicy
	if c.Require == "" {
		err = cl.call(ctx, http.MethodGet, "/api/v1/sign-in-policy", nil, &is)
	} else {
		err = cl.call(ctx, http.MethodPut, "/api/v1/sign-in-policy", admin.SignInPolicy{Require: strings.TrimSuffix(c.Require, "any")}, &is, "X-Promptgate-Why", c.Why)
	}
	if err != nil {
		return err
	}
	if is.Require == "" {
		is.Require = "any"
	}
	_, err = fmt.Fprintln(io.out, is.Require)
	return err
}
