package admin

import (
	"context"
	"net/http"
	"slices"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

// Role is a named set of actions.
type Role struct {
	Name        string          `json:"name" example:"promoter"`
	Description string          `json:"description"`
	Actions     []policy.Action `json:"actions" example:"[\"read\",\"move_label\"]"`
	BuiltIn     bool            `json:"built_in" doc:"It is the same in every project and cannot be changed"`
	Revision    int64           `json:"revision,omitempty"`
}

func roleOf(r policy.Role) Role {
	return Role{Name: r.Name, Description: r.Description, Actions: r.Actions, Revision: r.Revision}
}

func builtInRoles() []Role {
	var out []Role
	for _, r := range []struct{ name, about string }{
		{policy.RoleViewer, "Reads prompts, versions and figures; comments, scores and proposes."},
		{policy.RoleTester, "A viewer who runs drafts in the sandbox."},
		{policy.RoleEditor, "A tester who makes prompts and versions, and moves labels that are not protected."},
		{policy.RoleAdmin, "An editor who manages people, keys, providers, budgets and protection, deletes, and reads the journal."},
	} {
		out = append(out, Role{Name: r.name, Description: r.about, Actions: policy.RoleActions(r.name), BuiltIn: true})
	}
	return out
}

// RolePut makes or changes a role of the project's own.
type RolePut struct {
	Description string          `json:"description,omitempty" maxLength:"500"`
	Actions     []policy.Action `json:"actions" minItems:"1" maxItems:"30"`
}

// RoleInput names a role.
type RoleInput struct {
	Credentials
	Name string `path:"role" example:"promoter"`
}

type putRoleInput struct {
	RoleInput
	Replacement
	Body RolePut
}

type deleteRoleInput struct {
	RoleInput
	Removal
}

type roleAnswer struct {
	Changed
	ETag string `header:"ETag"`
	Body Role
}

type roleList struct {
	Body struct {
		Roles []Role `json:"roles"`
	}
}

// roles are what bindings give.
type roles struct{ store policy.PeopleStore }

func (n roles) routes(a *API) {
	manage := func(id, method, path, summary string, status int) op {
		return op{id: id, method: method, path: path, action: policy.ActionManageUsers, kind: policy.ObjectSystem, tag: "people", summary: summary, status: status}
	}
	handle(a, manage("list-roles", http.MethodGet, "/roles", "List the roles, built in and the project's own", 0), n.list)
	handle(a, manage("put-role", http.MethodPut, "/roles/{role}", "Make or change a role of the project's own", 0), n.put)
	handle(a, manage("delete-role", http.MethodDelete, "/roles/{role}", "Remove a role that nobody holds", http.StatusNoContent), n.remove)
}

func (n roles) list(ctx context.Context, c *caller, _ *Credentials) (*roleList, error) {
	own, err := n.store.ListRoles(ctx, c.Project)
	if err != nil {
		return nil, err
	}
	out := &roleList{}
	out.Body.Roles = builtInRoles()
	for _, r := range own {
		out.Body.Roles = append(out.Body.Roles, roleOf(r))
	}
	return out, nil
}

func (n roles) put(ctx context.Context, c *caller, in *putRoleInput) (*roleAnswer, error) {
	if slices.ContainsFunc(builtInRoles(), func(r Role) bool { return r.Name == in.Name }) {
		return nil, fault.New(fault.InvalidRequest, "%q is built in: choose another name.", in.Name).WithParam("role")
	}
	if in.IfMatch == "*" {
		return nil, fault.New(fault.PreconditionFailed, "A role is replaced by its ETag: list the roles to read it.").WithParam("If-Match")
	}
	r := policy.Role{Project: c.Project, Name: in.Name, Description: in.Body.Description, Actions: in.Body.Actions}
	var err error
	if r.Revision, err = in.revision(); err != nil {
		return nil, err
	}
	if r, err = n.store.PutRole(ctx, c.Origin, c.Principal, r); err != nil {
		return nil, err
	}
	return &roleAnswer{Changed: changed(r.Revision), ETag: etag(r.Revision), Body: roleOf(r)}, nil
}

func (n roles) remove(ctx context.Context, c *caller, in *deleteRoleInput) (*removedAnswer, error) {
	rev, err := in.revision()
	if err != nil {
		return nil, err
	}
	return removed(n.store.DeleteRole(ctx, c.Origin, c.Principal, c.Project, in.Name, rev))
}
