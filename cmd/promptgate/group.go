package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/policy"
)

type groupCmd struct {
	List    groupListCmd    `cmd:"" help:"List the groups of the installation."`
	Create  groupCreateCmd  `cmd:"" help:"Make a group."`
	Delete  groupDeleteCmd  `cmd:"" help:"Delete a group, and what it holds in every project."`
	Members groupMembersCmd `cmd:"" help:"List who is in a group."`
	Add     groupAddCmd     `cmd:"" help:"Put accounts into a group."`
	Remove  groupRemoveCmd  `cmd:"" help:"Take accounts out of a group."`
}

type groupListCmd struct{ remote }

// Run prints a line for each group.
func (c groupListCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	w := newTable(io.out, "ID", "NAME", "DESCRIPTION", "SINCE")
	err = pages(ctx, cl, "/api/v1/groups", nil, func(page struct {
		Groups []admin.Group `json:"groups"`
		Next   string        `json:"next"`
	}) string {
		for _, g := range page.Groups {
			w.row(g.ID, g.Name, g.Description, stamp(g.CreatedAt))
		}
		return page.Next
	})
	if err != nil {
		return err
	}
	return w.flush()
}

type groupCreateCmd struct {
	remote
	Name        string `arg:"" help:"e.g. \"Support leads\"."`
	Description string `help:"What it is for."`
}

// Run makes the group.
func (c groupCreateCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var out admin.Group
	if err := cl.call(ctx, http.MethodPost, "/api/v1/groups", admin.GroupCreate{Name: c.Name, Description: c.Description}, &out); err != nil {
		return err
	}
	_, err = fmt.Fprintln(io.out, out.ID)
	return err
}

type groupDeleteCmd struct {
	remote
	ID  string `arg:"" help:"The group's id, grp_…"`
	Why string `help:"Why; kept in the journal."`
}

// Run deletes the group.
func (c groupDeleteCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	if err := cl.call(ctx, http.MethodDelete, "/api/v1/groups/"+url.PathEscape(c.ID), nil, nil, "X-Promptgate-Why", c.Why); err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s: deleted\n", cell(c.ID))
	return err
}

type groupMembersCmd struct {
	remote
	ID string `arg:"" help:"The group's id, grp_…"`
}

// Run prints a line for each member.
func (c groupMembersCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	w := newTable(io.out, "ACCOUNT", "BY", "ADDED BY", "SINCE")
	err = pages(ctx, cl, "/api/v1/groups/"+url.PathEscape(c.ID)+"/members", nil, func(page struct {
		Members []admin.GroupMember `json:"members"`
		Next    string              `json:"next"`
	}) string {
		for _, m := range page.Members {
			w.row(m.User, m.Source, m.AddedBy, stamp(m.AddedAt))
		}
		return page.Next
	})
	if err != nil {
		return err
	}
	return w.flush()
}

type groupAddCmd struct {
	remote
	ID    string   `arg:"" help:"The group's id, grp_…"`
	Users []string `arg:"" help:"Accounts, usr_… or e-mail addresses."`
}

// Run puts them in, one after the other.
func (c groupAddCmd) Run(ctx context.Context, io *streams) error {
	return eachMember(ctx, io, c.remote, http.MethodPut, "/api/v1/groups/"+url.PathEscape(c.ID)+"/members/", c.Users)
}

type groupRemoveCmd struct {
	remote
	ID    string   `arg:"" help:"The group's id, grp_…"`
	Users []string `arg:"" help:"Accounts, usr_… or e-mail addresses."`
}

// Run takes them out, one after the other.
func (c groupRemoveCmd) Run(ctx context.Context, io *streams) error {
	return eachMember(ctx, io, c.remote, http.MethodDelete, "/api/v1/groups/"+url.PathEscape(c.ID)+"/members/", c.Users)
}

// eachMember does one thing with each of some accounts, at the address that theirs stand below.
func eachMember(ctx context.Context, io *streams, r remote, method, below string, users []string) error {
	said := "is in the group"
	if method == http.MethodDelete {
		said = "is not in the group"
	}
	cl, err := r.client()
	if err != nil {
		return err
	}
	for _, u := range users {
		id, err := cl.userID(ctx, u)
		if err != nil {
			return err
		}
		if err := cl.call(ctx, method, below+url.PathEscape(id), nil, nil); err != nil {
			return fmt.Errorf("%s: %w", u, err)
		}
		fmt.Fprintf(io.out, "%s %s\n", cell(u), said)
	}
	return nil
}

// userID is the id of an account that is named by its id or its e-mail address.
func (c *client) userID(ctx context.Context, who string) (string, error) {
	if strings.HasPrefix(who, policy.UserPrefix) {
		return who, nil
	}
	email, err := policy.NormalEmail(who)
	if err != nil {
		return "", errUsage{fmt.Errorf("%q is neither an account's id (usr_…) nor an e-mail address", who)}
	}
	found := ""
	err = pages(ctx, c, "/api/v1/users", url.Values{"contains": {email}}, func(page struct {
		Users []admin.User `json:"users"`
		Next  string       `json:"next"`
	}) string {
		if i := slices.IndexFunc(page.Users, func(u admin.User) bool { return u.Email == email }); i >= 0 {
			found = page.Users[i].ID
			return ""
		}
		return page.Next
	})
	if err == nil && found == "" {
		err = fmt.Errorf("there is no account with the address %s: an operator makes one, see `promptgate help people`", email)
	}
	return found, err
}
