package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/promptgate/promptgate/policy"
)

// Group is a group of accounts of the installation. Bindings give it roles in projects.
type Group struct {
	ID          string    `json:"id" example:"grp_0k3v"`
	Name        string    `json:"name" example:"Support leads"`
	Description string    `json:"description"`
	External    string    `json:"external_id,omitempty" doc:"Its id at the system that provisions it"`
	CreatedBy   string    `json:"created_by"`
	CreatedAt   time.Time `json:"created_at"`
	Revision    int64     `json:"revision"`
}

func groupOf(g policy.PeopleGroup) Group {
	return Group{ID: g.ID, Name: g.Name, Description: g.Description, External: g.External, CreatedBy: g.CreatedBy, CreatedAt: g.CreatedAt, Revision: g.Revision}
}

// GroupCreate makes a group.
type GroupCreate struct {
	Name        string `json:"name" minLength:"1" maxLength:"100"`
	Description string `json:"description,omitempty" maxLength:"500"`
}

// GroupPatch changes a group; absent fields stay.
type GroupPatch struct {
	Name        *string `json:"name,omitempty" minLength:"1" maxLength:"100"`
	Description *string `json:"description,omitempty" maxLength:"500"`
}

// GroupMember is an account's place in a group.
type GroupMember struct {
	User    string    `json:"user" example:"usr_0k3v"`
	Source  string    `json:"source" enum:"manual,claim,scim" doc:"Who put it there: somebody by hand, the identity provider's claims, or SCIM"`
	AddedBy string    `json:"added_by"`
	AddedAt time.Time `json:"added_at"`
}

// GroupInput names a group by its id.
type GroupInput struct {
	Credentials
	ID string `path:"group" example:"grp_0k3v"`
}

type createGroupInput struct {
	Credentials
	Body GroupCreate
}

type patchGroupInput struct {
	GroupInput
	Precondition
	Body GroupPatch
}

type deleteGroupInput struct {
	GroupInput
	Removal
}

type listGroupsInput struct {
	Credentials
	Paging
}

type listGroupMembersInput struct {
	GroupInput
	Paging
}

// GroupMemberInput names an account in a group.
type GroupMemberInput struct {
	GroupInput
	User string `path:"user" example:"usr_0k3v"`
}

type groupAnswer struct {
	Changed
	ETag string `header:"ETag"`
	Body Group
}

type groupCreatedAnswer struct {
	Changed
	Created
	ETag string `header:"ETag"`
	Body Group
}

type groupList struct {
	Body struct {
		Groups []Group `json:"groups"`
		Next   string  `json:"next,omitempty"`
	}
}

type groupMemberList struct {
	Body struct {
		Members []GroupMember `json:"members"`
		Next    string        `json:"next,omitempty"`
	}
}

// peopleGroups are the groups of the installation.
type peopleGroups struct{ store policy.PeopleStore }

func (n peopleGroups) routes(a *API) {
	manage := func(id, method, path, summary string, status int) op {
		return op{
			id: id, method: method, path: path, action: policy.ActionManageAccounts, kind: policy.ObjectSystem, tag: "people", summary: summary, status: status,
		}
	}
	read := func(id, path, summary string) op { // who binds roles to groups has to see them
		o := manage(id, http.MethodGet, path, summary, 0)
		o.or = policy.ActionManageUsers
		return o
	}
	handle(a, read("list-groups", "/groups", "List the groups of the installation"), n.list)
	handle(a, manage("create-group", http.MethodPost, "/groups", "Make a group", http.StatusCreated), n.create)
	handle(a, read("get-group", "/groups/{group}", "Get a group"), n.get)
	handle(a, manage("update-group", http.MethodPatch, "/groups/{group}", "Rename a group", 0), n.patch)
	handle(a, manage("delete-group", http.MethodDelete, "/groups/{group}", "Delete a group, and what it holds in every project", http.StatusNoContent), n.remove)
	handle(a, read("list-group-members", "/groups/{group}/members", "List who is in a group"), n.members)
	handle(a, manage("add-group-member", http.MethodPut, "/groups/{group}/members/{user}", "Put an account into a group", http.StatusNoContent), n.join)
	handle(a, manage("remove-group-member", http.MethodDelete, "/groups/{group}/members/{user}", "Take an account out of a group", http.StatusNoContent), n.leave)
}

func (n peopleGroups) list(ctx context.Context, _ *caller, in *listGroupsInput) (*groupList, error) {
	found, next, err := n.store.ListGroups(ctx, policy.Page{After: in.After, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	out := &groupList{}
	out.Body.Groups, out.Body.Next = []Group{}, next
	for _, g := range found {
		out.Body.Groups = append(out.Body.Groups, groupOf(g))
	}
	return out, nil
}

func (n peopleGroups) create(ctx context.Context, c *caller, in *createGroupInput) (*groupCreatedAnswer, error) {
	g, err := n.store.CreateGroup(ctx, c.Origin, policy.PeopleGroup{Name: in.Body.Name, Description: in.Body.Description})
	if err != nil {
		return nil, err
	}
	return &groupCreatedAnswer{Changed: changed(g.Revision), Created: created("groups", g.ID), ETag: etag(g.Revision), Body: groupOf(g)}, nil
}

func (n peopleGroups) get(ctx context.Context, _ *caller, in *GroupInput) (*groupAnswer, error) {
	g, err := n.store.GroupByID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &groupAnswer{Changed: changed(g.Revision), ETag: etag(g.Revision), Body: groupOf(g)}, nil
}

func (n peopleGroups) patch(ctx context.Context, c *caller, in *patchGroupInput) (*groupAnswer, error) {
	return edit(in.Precondition, func(rev int64) (*groupAnswer, error) {
		g, err := n.store.GroupByID(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		if rev > 0 {
			g.Revision = rev
		}
		set(&g.Name, in.Body.Name)
		set(&g.Description, in.Body.Description)
		if g, err = n.store.UpdateGroup(ctx, c.Origin, g); err != nil {
			return nil, err
		}
		return &groupAnswer{Changed: changed(g.Revision), ETag: etag(g.Revision), Body: groupOf(g)}, nil
	})
}

func (n peopleGroups) remove(ctx context.Context, c *caller, in *deleteGroupInput) (*removedAnswer, error) {
	rev, err := in.revision()
	if err != nil {
		return nil, err
	}
	return removed(n.store.DeleteGroup(ctx, c.Origin, in.ID, rev))
}

func (n peopleGroups) members(ctx context.Context, _ *caller, in *listGroupMembersInput) (*groupMemberList, error) {
	if _, err := n.store.GroupByID(ctx, in.ID); err != nil {
		return nil, err
	}
	found, next, err := n.store.MembersOf(ctx, in.ID, policy.Page{After: in.After, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	out := &groupMemberList{}
	out.Body.Members, out.Body.Next = []GroupMember{}, next
	for _, m := range found {
		out.Body.Members = append(out.Body.Members, GroupMember{User: m.UserID, Source: string(m.Source), AddedBy: m.AddedBy, AddedAt: m.AddedAt})
	}
	return out, nil
}

func (n peopleGroups) join(ctx context.Context, c *caller, in *GroupMemberInput) (*removedAnswer, error) {
	return removed(n.store.Join(ctx, c.Origin, in.ID, policy.ByHand, in.User))
}

func (n peopleGroups) leave(ctx context.Context, c *caller, in *GroupMemberInput) (*removedAnswer, error) {
	return removed(n.store.Leave(ctx, c.Origin, in.ID, in.User))
}
