package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/policy"
)

type roleCmd struct {
	List   roleListCmd   `cmd:"" help:"List the roles and what they may do."`
	Set    roleSetCmd    `cmd:"" help:"Make or change a role of the project's own."`
	Delete roleDeleteCmd `cmd:"" help:"Remove a role that nobody holds."`
}

type roleListCmd struct{ remote }

func (c *client) roles(ctx context.Context) ([]admin.Role, error) {
	var out struct {
		Roles []admin.Role `json:"roles"`
	}
	err := c.call(ctx, http.MethodGet, "/api/v1/roles", nil, &out)
	return out.Roles, err
}

// Run prints a line for each role.
func (c roleListCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	found, err := cl.roles(ctx)
	if err != nil {
		return err
	}
	w := newTable(io.out, "NAME", "BUILT IN", "ACTIONS", "DESCRIPTION")
	for _, r := range found {
		built := ""
		if r.BuiltIn {
			built = "yes"
		}
		w.row(r.Name, built, joined(r.Actions), r.Description)
	}
	return w.flush()
}

func joined(actions []policy.Action) string {
	out := make([]string, 0, len(actions))
	for _, a := range actions {
		out = append(out, string(a))
	}
	return strings.Join(out, ", ")
}

type roleSetCmd struct {
	remote
	Name        string   `arg:"" help:"a-z, 0-9, - and _."`
	Actions     []string `arg:"" help:"What it may do, e.g. read call."`
	Description string   `help:"What it is for."`
}

// Run makes the role, or changes the one that is there now.
func (c roleSetCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	found, err := cl.roles(ctx)
	if err != nil {
		return err
	}
	in := admin.RolePut{Description: c.Description}
	for _, a := range c.Actions {
		in.Actions = append(in.Actions, policy.Action(a))
	}
	var header []string
	for _, r := range found {
		if r.Name == c.Name && !r.BuiltIn {
			header = []string{"If-Match", fmt.Sprintf(`"%d"`, r.Revision)}
		}
	}
	var out admin.Role
	if err := cl.call(ctx, http.MethodPut, "/api/v1/roles/"+url.PathEscape(c.Name), in, &out, header...); err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s: %s\n", cell(out.Name), cell(joined(out.Actions)))
	return err
}

type roleDeleteCmd struct {
	remote
	Name string `arg:"" help:"The role."`
}

// Run removes the role.
func (c roleDeleteCmd) Run(ctx context.Context, io *streams) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	if err := cl.call(ctx, http.MethodDelete, "/api/v1/roles/"+url.PathEscape(c.Name), nil, nil); err != nil {
		return err
	}
	_, err = fmt.Fprintf(io.out, "%s: removed\n", cell(c.Name))
	return err
}
