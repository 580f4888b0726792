package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

type keyCmd struct {
	Create keyCreateCmd `cmd:"" help:"Create an API key; it is shown this once."`
	List   keyListCmd   `cmd:"" help:"List API keys."`
	Rotate keyRotateCmd `cmd:"" help:"Replace an API key: its successor is shown this once, and the old one ends after an overlap."`
	Revoke keyRevokeCmd `cmd:"" help:"Revoke an API key for good."`
}

type keyCreateCmd struct {
	remote
	settings
	Name     string    `arg:"" help:"What it is for, e.g. \"checkout service\"."`
	Role     namesFlag `help:"admin, editor, viewer or tester; editor:marketing/** for a folder. May be repeated."`
	Owner    string    `help:"Whose key it is: a service account, svc_…, or with --local a person, usr_…. It may do what both may." placeholder:"ID"`
	Inherits bool      `help:"With --owner: it may do all that its owner may."`
	Call     []string  `help:"May call these prompts: a pattern and labels, e.g. support/**@production,staging; the label @version is for calls by number. May be repeated." sep:"none" placeholder:"PATTERN@LABELS"`
	Operator bool      `help:"May create projects and list all of them, and manage accounts, groups and sign-on of the installation; only with --local."`
	Models   namesFlag `help:"May use these models without a prompt, or instead of a prompt's own; patterns with *."`
	Networks namesFlag `help:"CIDRs that it may be used from."`
	Expires  lifetime  `help:"How long it lives, e.g. 30d, 2w or 720h; for ever without." placeholder:"TIME"`
	Local    bool      `help:"Work on the database itself, on the machine that has it: for the first key of a project."`
	Project  string    `help:"With --local: the project." default:"default"`
	Init     bool      `help:"With --local: begin an installation or a project that is not there."`
}

// grants turns the flags into grants.
func (c keyCreateCmd) grants() ([]policy.Grant, error) {
	var out []policy.Grant
	for _, s := range c.Call {
		pattern, labels, limited := strings.Cut(s, "@")
		if pattern == "" {
			return nil, fmt.Errorf("--call %s: names no prompt; write a pattern such as support/**@production", s)
		}
		g := policy.Grant{Actions: []policy.Action{policy.ActionCall, policy.ActionFeedback}, Prompts: []string{pattern}}
		if limited {
			g.Labels = strings.Split(labels, ",")
		}
		if slices.Contains(g.Labels, "") { // an empty variable in a script must not open every label
			return nil, fmt.Errorf("--call %s: names an empty label; write %s@production, or %s alone for every label", s, pattern, pattern)
		}
		out = append(out, g)
	}
	if c.Operator {
		out = append(out, policy.OperatorGrant())
	}
	if len(c.Models) > 0 {
		out = append(out, policy.Grant{Actions: []policy.Action{policy.ActionCall}, Models: c.Models})
	}
	return out, nil
}

// Run creates the key through the API, or with --local in the database.
func (c keyCreateCmd) Run(ctx context.Context, io *streams) error {
	grants, err := c.grants()
	if err != nil {
		return errUsage{err}
	}
	if c.Operator && !c.Local {
		return errUsage{errors.New("--operator needs --local: nobody can grant it but the machine that has the data")}
	}
	if c.Inherits && c.Owner == "" {
		return errUsage{errors.New("--inherits needs --owner: a key of the project's own has nobody to inherit from")}
	}
	if len(c.Role) == 0 && len(grants) == 0 && !c.Inherits {
		return errUsage{errors.New("the key could do nothing: give it a --role, or prompts that it may --call")}
	}
	in := admin.KeyCreate{Name: c.Name, Owner: c.Owner, Inherits: c.Inherits, Roles: c.Role, Grants: grants, Networks: c.Networks}
	if c.Expires > 0 {
		t := time.Now().Add(time.Duration(c.Expires)).UTC()
		in.ExpiresAt = &t
	}
	secret, id := "", ""
	if c.Local {
		secret, id, err = c.createLocally(ctx, in, io)
	} else {
		var cl *client
		if cl, err = c.client(); err != nil {
			return err
		}
		var out admin.KeyCreated
		err = cl.call(ctx, http.MethodPost, "/api/v1/keys", in, &out)
		secret, id = out.Secret, out.ID
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(io.err, "%s: keep the key, it is not shown again\n", id)
	_, err = fmt.Fprintln(io.out, secret)
	return err
}

func (c keyCreateCmd) createLocally(ctx context.Context, in admin.KeyCreate, io *streams) (secret, id string, err error) {
	cfg, err := c.load(nil)
	if err != nil {
		return "", "", err
	}
	if !c.Init {
		if err := installed(ctx, cfg, ", or pass --init to begin one"); err != nil {
			return "", "", err
		}
	}
	s, err := openStores(ctx, cfg, logger(cfg, io.err), nil, false)
	if err != nil {
		return "", "", err
	}
	defer s.close()
	by := journal.Origin{Actor: journal.Actor{Kind: policy.KindSystem, ID: "cli", Name: "command line"}, Why: "promptgate key create --local"}
	project, err := s.service.Project(ctx, c.Project)
	switch {
	case fault.Is(err, fault.NotFound) && !c.Init:
		return "", "", errUsage{fmt.Errorf("there is no project %q: mend --project, or pass --init to create it", c.Project)}
	case fault.Is(err, fault.NotFound):
		fmt.Fprintf(io.err, "creating the project %s\n", c.Project)
		project, err = s.ensureProject(ctx, by, c.Project)
	}
	if err != nil {
		return "", "", err
	}
	return s.createKey(ctx, by, project.ID, in)
}

type keyListCmd struct {
	remote
	JSON bool `name:"json" help:"As the management API tells it, in JSON."`
}

// Run prints a line for each key.
func (c keyListCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	found, err := cl.keys(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		out := json.NewEncoder(io.exact)
		out.SetIndent("", "  ")
		return out.Encode(found)
	}
	w := newTable(io.out, "ID", "NAME", "OWNER", "ENDS WITH", "ROLES", "GRANTS", "NETWORKS", "STATE", "LAST CALL")
	for _, k := range found {
		last := "never"
		switch {
		case k.LastCallUnknown:
			last = "unknown"
		case k.LastCallAt != nil:
			last = k.LastCallAt.Local().Format("2006-01-02 15:04")
		}
		w.row(k.ID, k.Name, k.Owner, k.LastFour, strings.Join(k.Roles, ", "), grantsOf(k.Grants), strings.Join(k.Networks, ", "), stateOfKey(k, time.Now()), last)
	}
	return w.flush()
}

// keys reads all pages.
func (c *client) keys(ctx context.Context) ([]admin.Key, error) {
	all := []admin.Key{}
	type list struct {
		Keys []admin.Key `json:"keys"`
		Next string      `json:"next"`
	}
	err := pages(ctx, c, "/api/v1/keys", nil, func(page list) string {
		all = append(all, page.Keys...)
		return page.Next
	})
	return all, err
}

// grantsOf spells grants as --call does, with what they are about.
func grantsOf(grants []policy.Grant) string {
	said := make([]string, 0, len(grants))
	for _, g := range grants {
		var actions []string
		for _, a := range g.Actions {
			actions = append(actions, string(a))
		}
		s := strings.Join(actions, "+")
		if g.Effect == policy.EffectDeny {
			s = "deny " + s
		}
		if len(g.Prompts) > 0 {
			s += " " + strings.Join(g.Prompts, ",")
		}
		if len(g.Labels) > 0 {
			s += "@" + strings.Join(g.Labels, ",")
		}
		if len(g.Models) > 0 {
			s += " models " + strings.Join(g.Models, ",")
		}
		if !g.Expires.IsZero() {
			s += " until " + stamp(g.Expires)
		}
		said = append(said, s)
	}
	return strings.Join(said, "; ")
}

type keyRevokeCmd struct {
	remote
	ID    string `arg:"" help:"The key's id, key_…; promptgate key list shows it."`
	Force bool   `help:"Also the key that this command itself uses, and the project's last admin key."`
	Why   string `help:"Why; kept in the journal."`
}

// Run revokes the key.
func (c keyRevokeCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var k admin.Key
	path := "/api/v1/keys/" + url.PathEscape(c.ID)
	if c.Force {
		path += "?force=true"
	}
	if err := cl.call(ctx, http.MethodDelete, path, nil, &k, "X-Promptgate-Why", c.Why); err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s (%s): revoked\n", cell(k.ID), cell(k.Name))
	return err
}
