package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/promptgate/promptgate/policy"
)

// User is an account of the installation.
type User struct {
	ID         string     `json:"id" example:"usr_0k3v"`
	Email      string     `json:"email" example:"ana@example.com"`
	Name       string     `json:"name"`
	State      string     `json:"state" enum:"invited,active,deactivated"`
	Operator   bool       `json:"operator" doc:"It looks after accounts, groups, sign-on and projects of the whole installation; that makes it a member of no project"`
	BreakGlass bool       `json:"break_glass" doc:"No identity provider and no SCIM client has a say over it"`
	External   string     `json:"external_id,omitempty" doc:"Its id at the system that provisions it"`
	CreatedBy  string     `json:"created_by"`
	CreatedAt  time.Time  `json:"created_at"`
	EndedAt    *time.Time `json:"deactivated_at,omitempty"`
	Groups     []string   `json:"groups,omitempty" doc:"Ids of the groups that it is in; of one account only, lists leave them out"`
	Projects   []string   `json:"projects,omitempty" doc:"Ids of the projects that it has bindings in, its groups' too; of one account only"`
	Revision   int64      `json:"revision"`
}

func userOf(u policy.User) User {
	return User{
		ID: u.ID, Email: u.Email, Name: u.Name, State: string(u.State), Operator: u.Operator, BreakGlass: u.BreakGlass, External: u.External,
		CreatedBy: u.CreatedBy, CreatedAt: u.CreatedAt, EndedAt: moment(u.EndedAt), Revision: u.Revision,
	}
}

// UserCreate makes an account. It is an invited one, which may do nothing, until its state is set to active.
type UserCreate struct {
	Email    string `json:"email" minLength:"3" maxLength:"254" example:"ana@example.com"`
	Name     string `json:"name,omitempty" maxLength:"100"`
	Operator bool   `json:"operator,omitempty"`
}

// UserPatch changes an account; absent fields stay.
type UserPatch struct {
	Email      *string `json:"email,omitempty" minLength:"3" maxLength:"254"`
	Name       *string `json:"name,omitempty" maxLength:"100"`
	State      *string `json:"state,omitempty" enum:"active,deactivated" doc:"deactivated ends its sessions and its keys at once, on every replica"`
	Operator   *bool   `json:"operator,omitempty"`
	BreakGlass *bool   `json:"break_glass,omitempty"`
}

// UserInput names an account by its id.
type UserInput struct {
	Credentials
	ID string `path:"user" example:"usr_0k3v"`
}

type createUserInput struct {
	Credentials
	Body UserCreate
}

type patchUserInput struct {
	UserInput
	Precondition
	Body UserPatch
}

type listUsersInput struct {
	Credentials
	Paging
	State    string `query:"state" enum:"invited,active,deactivated"`
	Group    string `query:"group" maxLength:"60" doc:"Id of a group that they are in"`
	Contains string `query:"contains" maxLength:"100" doc:"Part of the address or name, letters of either case"`
}

type userAnswer struct {
	Changed
	ETag string `header:"ETag"`
	Body User
}

type userCreatedAnswer struct {
	Changed
	Created
	ETag string `header:"ETag"`
	Body User
}

type userList struct {
	Body struct {
		Users []User `json:"users"`
		Next  string `json:"next,omitempty"`
	}
}

// users are the accounts of the installation.
type users struct{ store policy.PeopleStore }

func (n users) routes(a *API) {
	manage := func(id, method, path, summary string) op {
		return op{id: id, method: method, path: path, action: policy.ActionManageAccounts, kind: policy.ObjectSystem, tag: "people", summary: summary}
	}
	handle(a, manage("list-users", http.MethodGet, "/users", "List the accounts of the installation"), n.list)
	create := manage("create-user", http.MethodPost, "/users", "Make an account")
	create.status = http.StatusCreated
	handle(a, create, n.create)
	handle(a, manage("get-user", http.MethodGet, "/users/{user}", "Get an account, its groups and projects"), n.get)
	handle(a, manage("update-user", http.MethodPatch, "/users/{user}", "Change, deactivate or reactivate an account"), n.patch)
	handle(a, op{id: "list-members", method: http.MethodGet, path: "/members", action: policy.ActionManageUsers, kind: policy.ObjectSystem, tag: "people",
		summary: "List the accounts that are members of the project, by bindings of their own or of their groups"}, n.members)
}

func (n users) list(ctx context.Context, _ *caller, in *listUsersInput) (*userList, error) {
	return n.listed(ctx, in, "")
}

func (n users) members(ctx context.Context, c *caller, in *listUsersInput) (*userList, error) {
	return n.listed(ctx, in, c.Project)
}

func (n users) listed(ctx context.Context, in *listUsersInput, project string) (*userList, error) {
	found, next, err := n.store.ListUsers(ctx, policy.UserFilter{
		State: policy.UserState(in.State), Group: in.Group, Contains: in.Contains, Project: project,
	}, policy.Page{After: in.After, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	out := &userList{}
	out.Body.Users, out.Body.Next = []User{}, next
	for _, u := range found {
		out.Body.Users = append(out.Body.Users, userOf(u))
	}
	return out, nil
}

func (n users) create(ctx context.Context, c *caller, in *createUserInput) (*userCreatedAnswer, error) {
	u, err := n.store.CreateUser(ctx, c.Origin, policy.User{Email: in.Body.Email, Name: in.Body.Name, Operator: in.Body.Operator})
	if err != nil {
		return nil, err
	}
	return &userCreatedAnswer{Changed: changed(u.Revision), Created: created("users", u.ID), ETag: etag(u.Revision), Body: userOf(u)}, nil
}

func (n users) get(ctx context.Context, _ *caller, in *UserInput) (*userAnswer, error) {
	a, err := n.store.Account(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	out := userOf(a.User)
	for _, m := range a.Groups {
		out.Groups = append(out.Groups, m.GroupID)
	}
	if out.Projects, err = n.store.ProjectsOf(ctx, in.ID); err != nil {
		return nil, err
	}
	return &userAnswer{Changed: changed(a.Revision), ETag: etag(a.Revision), Body: out}, nil
}

func (n users) patch(ctx context.Context, c *caller, in *patchUserInput) (*userAnswer, error) {
	return edit(in.Precondition, func(rev int64) (*userAnswer, error) {
		a, err := n.store.Account(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		u := a.User
		if rev > 0 {
			u.Revision = rev
		}
		set(&u.Email, in.Body.Email)
		set(&u.Name, in.Body.Name)
		set(&u.Operator, in.Body.Operator)
		set(&u.BreakGlass, in.Body.BreakGlass)
		if in.Body.State != nil {
			u.State = policy.UserState(*in.Body.State)
		}
		if u, err = n.store.UpdateUser(ctx, c.Origin, u); err != nil {
			return nil, err
		}
		return &userAnswer{Changed: changed(u.Revision), ETag: etag(u.Revision), Body: userOf(u)}, nil
	})
}
