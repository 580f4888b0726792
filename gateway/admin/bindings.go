package admin

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

// Binding gives a user, a group or a service account a role in the project.
type Binding struct {
	ID          string     `json:"id" example:"bnd_0k3v"`
	Subject     string     `json:"subject" doc:"usr_…, grp_… or svc_…" example:"usr_0k3v"`
	SubjectName string     `json:"subject_name,omitempty" doc:"The account's address, or the group's or service account's name"`
	Role        string     `json:"role" example:"editor"`
	Effect      string     `json:"effect" enum:"allow,deny"`
	Prompts     []string   `json:"prompts"`
	Labels      []string   `json:"labels" doc:"None: every label"`
	Models      []string   `json:"models"`
	ExpiresAt   *time.Time `json:"expires_at,omitempty"`
	GrantedBy   string     `json:"granted_by"`
	GrantedAt   time.Time  `json:"granted_at"`
	Reason      string     `json:"reason"`
	Revision    int64      `json:"revision"`
}

func bindingOf(b policy.Binding, name string) Binding {
	return Binding{
		ID: b.ID, Subject: b.Subject, SubjectName: name, Role: b.Role, Effect: b.Effect, Prompts: list(b.Prompts), Labels: list(b.Labels), Models: list(b.Models),
		ExpiresAt: moment(b.Expires), GrantedBy: b.GrantedBy, GrantedAt: b.GrantedAt, Reason: b.Reason, Revision: b.Revision,
	}
}

// BindingCreate gives a role. Nobody gives more than they hold.
type BindingCreate struct {
	Subject   string     `json:"subject,omitempty" maxLength:"60" doc:"usr_…, grp_… or svc_…" example:"usr_0k3v"`
	Email     string     `json:"email,omitempty" maxLength:"254" doc:"The account's address, instead of subject"`
	Role      string     `json:"role" minLength:"1" maxLength:"40" doc:"admin, editor, viewer, tester, or one of the project's own" example:"editor"`
	Effect    string     `json:"effect,omitempty" enum:"allow,deny" doc:"deny takes away what the role names, whatever else is held"`
	Prompts   []string   `json:"prompts,omitempty" maxItems:"100" doc:"Patterns: an exact name, folder/* or folder/**; all prompts, and what belongs to none, when neither prompts nor models are named" example:"[\"marketing/**\"]"`
	Labels    []string   `json:"labels,omitempty" maxItems:"100" example:"[\"staging\"]"`
	Models    []string   `json:"models,omitempty" maxItems:"100"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	Reason    string     `json:"reason,omitempty" maxLength:"1000"`
}

// BindingPatch changes what is given; absent fields stay.
type BindingPatch struct {
	Role      *string   `json:"role,omitempty" minLength:"1" maxLength:"40"`
	Effect    *string   `json:"effect,omitempty" enum:"allow,deny"`
	Prompts   *[]string `json:"prompts,omitempty" maxItems:"100"`
	Labels    *[]string `json:"labels,omitempty" maxItems:"100"`
	Models    *[]string `json:"models,omitempty" maxItems:"100"`
	ExpiresAt Expiry    `json:"expires_at,omitempty" doc:"null: never again"`
	Reason    *string   `json:"reason,omitempty" maxLength:"1000"`
}

// BindingInput names a binding by its id.
type BindingInput struct {
	Credentials
	ID string `path:"binding" example:"bnd_0k3v"`
}

type createBindingInput struct {
	Credentials
	Body BindingCreate
}

type patchBindingInput struct {
	BindingInput
	Precondition
	Body BindingPatch
}

type deleteBindingInput struct {
	BindingInput
	Force bool `query:"force" doc:"Also the project's last admin"`
}

type listBindingsInput struct {
	Credentials
	Paging
	Subject string `query:"subject" maxLength:"60" doc:"Those of one user, group or service account"`
}

type bindingAnswer struct {
	Changed
	ETag string `header:"ETag"`
	Body Binding
}

type bindingCreatedAnswer struct {
	Changed
	Created
	ETag string `header:"ETag"`
	Body Binding
}

type bindingList struct {
	Body struct {
		Bindings []Binding `json:"bindings"`
		Next     string    `json:"next,omitempty"`
	}
}

// bindings say who holds which role in a project.
type bindings struct{ store policy.PeopleStore }

func (n bindings) routes(a *API) {
	manage := func(id, method, path, summary string, status int) op {
		return op{id: id, method: method, path: path, action: policy.ActionManageUsers, kind: policy.ObjectSystem, tag: "people", summary: summary, status: status}
	}
	handle(a, manage("list-bindings", http.MethodGet, "/bindings", "List who holds which role in the project", 0), n.list)
	handle(a, manage("create-binding", http.MethodPost, "/bindings", "Give somebody a role in the project", http.StatusCreated), n.create)
	handle(a, manage("get-binding", http.MethodGet, "/bindings/{binding}", "Get a binding", 0), n.get)
	handle(a, manage("update-binding", http.MethodPatch, "/bindings/{binding}", "Change what a binding gives", 0), n.patch)
	handle(a, manage("delete-binding", http.MethodDelete, "/bindings/{binding}", "Take a role away", http.StatusNoContent), n.remove)
}

// nameOf is what people call a subject; "" when it cannot be told.
func nameOf(ctx context.Context, store policy.PeopleStore, project, subject string) (string, error) {
	name := ""
	var err error
	switch {
	case strings.HasPrefix(subject, policy.UserPrefix):
		var a *policy.Account
		if a, err = store.Account(ctx, subject); err == nil {
			name = a.Email
		}
	case strings.HasPrefix(subject, policy.GroupPrefix):
		var g policy.PeopleGroup
		if g, err = store.GroupByID(ctx, subject); err == nil {
			name = g.Name
		}
	default:
		var s *policy.ServiceAccount
		if s, err = store.Service(ctx, project, subject); err == nil {
			name = s.Name
		}
	}
	if fault.Is(err, fault.NotFound) {
		err = nil
	}
	return name, err
}

func (n bindings) list(ctx context.Context, c *caller, in *listBindingsInput) (*bindingList, error) {
	found, next, err := n.store.ListBindings(ctx, c.Project, in.Subject, policy.Page{After: in.After, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	out := &bindingList{}
	out.Body.Bindings, out.Body.Next = []Binding{}, next
	known := map[string]string{}
	for _, b := range found {
		name, ok := known[b.Subject]
		if !ok {
			if name, err = nameOf(ctx, n.store, c.Project, b.Subject); err != nil {
				return nil, err
			}
			known[b.Subject] = name
		}
		out.Body.Bindings = append(out.Body.Bindings, bindingOf(b, name))
	}
	return out, nil
}

func (n bindings) create(ctx context.Context, c *caller, in *createBindingInput) (*bindingCreatedAnswer, error) {
	body := in.Body
	b := policy.Binding{
		Project: c.Project, Subject: body.Subject, Role: body.Role, Effect: body.Effect, Prompts: body.Prompts, Labels: body.Labels, Models: body.Models, Reason: body.Reason,
	}
	if (body.Subject == "") == (body.Email == "") {
		return nil, fault.New(fault.InvalidRequest, "Name who gets the role: by subject or by email, one of both.").WithParam("subject")
	}
	if body.Email != "" {
		u, err := n.store.UserByEmail(ctx, body.Email)
		if fault.Is(err, fault.NotFound) {
			return nil, fault.New(fault.NotFound, "There is no account with this address: have an operator make one.").WithParam("email")
		}
		if err != nil {
			return nil, err
		}
		b.Subject = u.ID
	}
	if at := body.ExpiresAt; at != nil {
		if err := policy.ValidExpiry(*at, "expires_at"); err != nil {
			return nil, err
		}
		b.Expires = *at
	}
	b, err := n.store.Bind(ctx, c.Origin, c.Principal, b)
	if err != nil {
		return nil, err
	}
	name, err := nameOf(ctx, n.store, c.Project, b.Subject)
	if err != nil {
		return nil, err
	}
	return &bindingCreatedAnswer{Changed: changed(b.Revision), Created: created("bindings", b.ID), ETag: etag(b.Revision), Body: bindingOf(b, name)}, nil
}

func (n bindings) get(ctx context.Context, c *caller, in *BindingInput) (*bindingAnswer, error) {
	b, err := n.store.BindingByID(ctx, c.Project, in.ID)
	if err != nil {
		return nil, err
	}
	return n.answer(ctx, b)
}

func (n bindings) answer(ctx context.Context, b policy.Binding) (*bindingAnswer, error) {
	name, err := nameOf(ctx, n.store, b.Project, b.Subject)
	if err != nil {
		return nil, err
	}
	return &bindingAnswer{Changed: changed(b.Revision), ETag: etag(b.Revision), Body: bindingOf(b, name)}, nil
}

func (n bindings) patch(ctx context.Context, c *caller, in *patchBindingInput) (*bindingAnswer, error) {
	return edit(in.Precondition, func(rev int64) (*bindingAnswer, error) {
		b, err := n.store.BindingByID(ctx, c.Project, in.ID)
		if err != nil {
			return nil, err
		}
		if rev > 0 {
			b.Revision = rev
		}
		set(&b.Role, in.Body.Role)
		set(&b.Effect, in.Body.Effect)
		set(&b.Prompts, in.Body.Prompts)
		set(&b.Labels, in.Body.Labels)
		set(&b.Models, in.Body.Models)
		set(&b.Reason, in.Body.Reason)
		if in.Body.ExpiresAt.Set {
			b.Expires = in.Body.ExpiresAt.Time
		}
		if b, err = n.store.UpdateBinding(ctx, c.Origin, c.Principal, b); err != nil {
			return nil, err
		}
		return n.answer(ctx, b)
	})
}

func (n bindings) remove(ctx context.Context, c *caller, in *deleteBindingInput) (*removedAnswer, error) {
	return removed(n.store.Unbind(ctx, c.Origin, c.Principal, c.Project, in.ID, in.Force))
}
