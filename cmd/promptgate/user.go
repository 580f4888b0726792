package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/signin"
)

type userCmd struct {
	Invite     userInviteCmd     `cmd:"" help:"Ask somebody into the project, by a link that is shown once or sent by e-mail."`
	List       userListCmd       `cmd:"" help:"List the accounts of the installation."`
	Set        userSetCmd        `cmd:"" help:"Change somebody's name or address, or make them operator or break glass."`
	Sessions   userSessionsCmd   `cmd:"" help:"List the browsers that somebody is signed in with."`
	SignOut    userSignOutCmd    `cmd:"" name:"sign-out" help:"Sign somebody's browsers out."`
	Deactivate userDeactivateCmd `cmd:"" help:"End somebody's sessions and keys, until they are activated."`
	Activate   userActivateCmd   `cmd:"" help:"Let somebody in again who was deactivated."`
	Reset      userResetCmd      `cmd:"" help:"Make a link by which somebody gets in again."`
	Setup      userSetupCmd      `cmd:"" help:"Make another link for the first account of an installation."`
}

// machine is a command that can work on the database itself.
type machine struct {
	settings
	Local bool `help:"Work on the database itself, on the machine that has it."`
}

// open gives what signs people in at this installation, and ends it.
func (m machine) open(ctx context.Context, io *streams) (*stores, *signingIn, error) {
	cfg, err := m.load(nil)
	if err != nil {
		return nil, nil, err
	}
	if err := installed(ctx, cfg, ""); err != nil {
		return nil, nil, err
	}
	log := logger(cfg, io.err)
	s, err := openStores(ctx, cfg, log, nil, false)
	if err != nil {
		return nil, nil, err
	}
	site := siteURL(cfg, cfg.Addr)
	if site == "" {
		s.close()
		return nil, nil, errUsage{errors.New("console.url is not set, so nobody knows where browsers reach this gateway")}
	}
	people, err := s.signIns(cfg, site, storedPeople{s.keys}, uncounted{}, log)
	if err != nil {
		s.close()
	}
	return s, people, err
}

func localOrigin(command string) journal.Origin {
	return journal.Origin{Actor: journal.Actor{Kind: policy.KindSystem, ID: "cli", Name: "command line"}, Why: "promptgate user " + command + " --local"}
}

// show prints a link that was made, once.
func show(io *streams, email, link string, sent bool) error {
	switch {
	case sent:
		_, err := fmt.Fprintf(io.out, "%s: a link was sent\n", cell(email))
		return err
	case link == "":
		_, err := fmt.Fprintf(io.out, "%s: has an account that can sign in, and needs no link\n", cell(email))
		return err
	}
	fmt.Fprintf(io.err, "%s: hand the link over, it is not shown again and can be used once\n", cell(email))
	_, err := fmt.Fprintln(io.out, link)
	return err
}

type userInviteCmd struct {
	remote
	machine
	Email    string   `arg:"" help:"E-mail address."`
	Role     []string `help:"admin, editor, viewer, tester or a role of the project's own; editor:marketing/** for a folder. May be repeated."`
	Operator bool     `help:"With --local: may look after the accounts and projects of the installation."`
	Name     string   `help:"Their name."`
	Project  string   `help:"With --local: the project." default:"default"`
}

// Run invites through the API, or with --local in the database.
func (c userInviteCmd) Run(ctx context.Context, io *streams) error {
	if c.Operator && !c.Local {
		return errUsage{errors.New("--operator needs --local; or ask an operator, who can make another one")}
	}
	if len(c.Role) == 0 && !c.Operator {
		return errUsage{errors.New("say what they may do: --role editor, or --role editor:marketing/**")}
	}
	in := admin.InvitationCreate{Email: c.Email, Name: c.Name}
	for _, r := range c.Role {
		name, pattern, scoped := strings.Cut(r, ":")
		if name == "" || scoped && pattern == "" {
			return errUsage{fmt.Errorf("--role %q is empty: leave it out, or say what it shall be", r)}
		}
		g := admin.InvitationGiving{Role: name}
		if scoped {
			g.Prompts = []string{pattern}
		}
		in.Bindings = append(in.Bindings, g)
	}
	if c.Local {
		return c.locally(ctx, io, in)
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	var out admin.LinkMade
	if err := cl.call(ctx, http.MethodPost, "/api/v1/invitations", in, &out); err != nil {
		return err
	}
	return show(io, out.Email, out.URL, out.Sent)
}

func (c userInviteCmd) locally(ctx context.Context, io *streams, in admin.InvitationCreate) error {
	s, people, err := c.open(ctx, io)
	if err != nil {
		return err
	}
	defer s.close()
	by := localOrigin("invite")
	ask := signin.Invitation{Email: in.Email, Name: in.Name, Operator: c.Operator}
	if len(in.Bindings) > 0 {
		project, err := s.service.Project(ctx, c.Project)
		if err != nil {
			return err
		}
		for _, g := range in.Bindings {
			ask.Bindings = append(ask.Bindings, g.Binding(project.ID))
		}
	}
	sent, err := people.Invite(ctx, by, &policy.Principal{Kind: policy.KindSystem, ID: by.Actor.ID}, ask)
	if err != nil {
		return err
	}
	return show(io, sent.User.Email, sent.URL, sent.Mailed)
}

type userListCmd struct {
	remote
	machine
	JSON bool `name:"json" help:"In JSON."`
}

// Run prints a line for each account.
func (c userListCmd) Run(ctx context.Context, io *streams) error {
	var found []admin.User
	var err error
	if c.Local {
		found, err = c.locally(ctx, io)
	} else {
		var cl *client
		if cl, err = c.client(); err == nil {
			found, err = cl.users(ctx, "")
		}
	}
	if err != nil {
		return err
	}
	if c.JSON {
		out := json.NewEncoder(io.exact)
		out.SetIndent("", "  ")
		return out.Encode(found)
	}
	w := newTable(io.out, "ID", "E-MAIL", "NAME", "STATE", "OPERATOR", "SINCE")
	for _, u := range found {
		operator := ""
		if u.Operator {
			operator = "yes"
		}
		if u.BreakGlass {
			operator = strings.TrimPrefix(operator+", break glass", ", ")
		}
		w.row(u.ID, u.Email, u.Name, u.State, operator, stamp(u.CreatedAt))
	}
	return w.flush()
}

func (c userListCmd) locally(ctx context.Context, io *streams) ([]admin.User, error) {
	s, people, err := c.open(ctx, io)
	if err != nil {
		return nil, err
	}
	defer s.close()
	all := []admin.User{}
	for page := (policy.Page{Limit: 200}); ; {
		list, next, err := people.ListUsers(ctx, policy.UserFilter{}, page)
		if err != nil {
			return nil, err
		}
		for _, u := range list {
			all = append(all, admin.User{
				ID: u.ID, Email: u.Email, Name: u.Name, State: string(u.State), Operator: u.Operator, BreakGlass: u.BreakGlass, CreatedBy: u.CreatedBy, CreatedAt: u.CreatedAt,
				Revision: u.Revision,
			})
		}
		if page.After = next; next == "" {
			return all, nil
		}
	}
}

// users reads all pages.
func (c *client) users(ctx context.Context, contains string) ([]admin.User, error) {
	all := []admin.User{}
	q := url.Values{}
	if contains != "" {
		q.Set("contains", contains)
	}
	type list struct {
		Users []admin.User `json:"users"`
		Next  string       `json:"next"`
	}
	err := pages(ctx, c, "/api/v1/users", q, func(page list) string {
		all = append(all, page.Users...)
		return page.Next
	})
	return all, err
}

// userNamed is an account by its id or whole address.
func (c *client) userNamed(ctx context.Context, who string) (admin.User, error) {
	if strings.HasPrefix(who, policy.UserPrefix) {
		var u admin.User
		return u, c.call(ctx, http.MethodGet, "/api/v1/users/"+url.PathEscape(who), nil, &u)
	}
	email, err := policy.NormalEmail(who)
	if err != nil {
		return admin.User{}, errUsage{fmt.Errorf("%q is neither an e-mail address nor an id (usr_…)", who)}
	}
	found, err := c.users(ctx, email)
	for _, u := range found {
		if u.Email == email {
			return u, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("there is no account %s", email)
	}
	return admin.User{}, err
}

// userNamed is an account by its id or address.
func (s *stores) userNamed(ctx context.Context, who string) (policy.User, error) {
	if !strings.HasPrefix(who, policy.UserPrefix) {
		return s.keys.UserByEmail(ctx, who)
	}
	a, err := s.keys.Account(ctx, who)
	if err != nil {
		return policy.User{}, err
	}
	return a.User, nil
}

type userDeactivateCmd struct {
	remote
	machine
	Who string `arg:"" help:"E-mail address or id (usr_…)."`
	Why string `help:"Why; kept in the journal."`
}

// Run deactivates the account.
func (c userDeactivateCmd) Run(ctx context.Context, io *streams) error {
	if c.Local {
		s, _, err := c.open(ctx, io)
		if err != nil {
			return err
		}
		defer s.close()
		u, err := s.userNamed(ctx, c.Who)
		if err != nil {
			return err
		}
		by := localOrigin("deactivate")
		by.Why = strings.TrimSuffix(by.Why+": "+c.Why, ": ")
		u.State = policy.UserDeactivated
		if u, err = s.keys.UpdateUser(ctx, by, u); err != nil {
			return err
		}
		_, err = fmt.Fprintf(io.out, "%s: deactivated\n", cell(u.Email))
		return err
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	u, err := cl.userNamed(ctx, c.Who)
	if err != nil {
		return err
	}
	state := string(policy.UserDeactivated)
	if err := cl.call(ctx, http.MethodPatch, "/api/v1/users/"+u.ID, admin.UserPatch{State: &state}, &u, "If-Match", "*", "X-Promptgate-Why", c.Why); err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s: deactivated\n", cell(u.Email))
	return err
}

type userResetCmd struct {
	remote
	machine
	Who string `arg:"" help:"E-mail address or id (usr_…)."`
	Why string `help:"Why; kept in the journal."`
}

// Run makes the link.
func (c userResetCmd) Run(ctx context.Context, io *streams) error {
	if c.Local {
		s, people, err := c.open(ctx, io)
		if err != nil {
			return err
		}
		defer s.close()
		u, err := s.userNamed(ctx, c.Who)
		if err != nil {
			return err
		}
		by := localOrigin("reset")
		by.Why = strings.TrimSuffix(by.Why+": "+c.Why, ": ")
		sent, err := people.Reset(ctx, by, u.ID, true)
		if err != nil {
			return err
		}
		return show(io, u.Email, sent.URL, sent.Mailed)
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	u, err := cl.userNamed(ctx, c.Who)
	if err != nil {
		return err
	}
	var out admin.LinkMade
	if err := cl.call(ctx, http.MethodPost, "/api/v1/users/"+u.ID+"/reset", nil, &out, "X-Promptgate-Why", c.Why); err != nil {
		return err
	}
	return show(io, u.Email, out.URL, out.Sent)
}

type userSetupCmd struct{ machine }

// Run makes a set-up link; one that was printed before is void.
func (c userSetupCmd) Run(ctx context.Context, io *streams) error {
	if !c.Local {
		return errUsage{errors.New("user setup needs --local: nobody can make the first account but the machine that has the data")}
	}
	s, people, err := c.open(ctx, io)
	if err != nil {
		return err
	}
	defer s.close()
	list, _, err := people.ListUsers(ctx, policy.UserFilter{}, policy.Page{Limit: 1})
	if err != nil {
		return err
	}
	if len(list) > 0 {
		return fault.New(fault.Conflict, "There are accounts already: promptgate user invite EMAIL --operator --local makes another operator.")
	}
	by := localOrigin("setup")
	if _, err := s.ensureProject(ctx, by, defaultProject); err != nil {
		return err
	}
	link, err := people.Link(ctx, by, policy.ToSetUp, "", false)
	if err != nil {
		return err
	}
	fmt.Fprintln(io.err, "This link makes the first account, once, within 15 minutes:")
	_, err = fmt.Fprintln(io.out, link)
	return err
}
