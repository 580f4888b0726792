package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/promptgate/promptgate/policy"
)

// ServiceAccount is a program of the project: it owns keys, and holds roles as people do.
type ServiceAccount struct {
	ID          string     `json:"id" example:"svc_0k3v"`
	Name        string     `json:"name" example:"checkout"`
	Description string     `json:"description"`
	CreatedBy   string     `json:"created_by"`
	CreatedAt   time.Time  `json:"created_at"`
	EndedAt     *time.Time `json:"ended_at,omitempty"`
	Revision    int64      `json:"revision"`
}

func serviceOf(s policy.ServiceAccount) ServiceAccount {
	return ServiceAccount{
		ID: s.ID, Name: s.Name, Description: s.Description, CreatedBy: s.CreatedBy, CreatedAt: s.CreatedAt, EndedAt: moment(s.EndedAt), Revision: s.Revision,
	}
}

// ServiceAccountCreate makes a service account, which holds nothing until a role is bound to it.
type ServiceAccountCreate struct {
	Name        string `json:"name" minLength:"1" maxLength:"100"`
	Description string `json:"description,omitempty" maxLength:"500"`
}

// ServiceAccountPatch changes one; absent fields stay.
type ServiceAccountPatch struct {
	Name        *string `json:"name,omitempty" minLength:"1" maxLength:"100"`
	Description *string `json:"description,omitempty" maxLength:"500"`
}

// ServiceAccountInput names a service account by its id.
type ServiceAccountInput struct {
	Credentials
	ID string `path:"service" example:"svc_0k3v"`
}

type createServiceInput struct {
	Credentials
	Body ServiceAccountCreate
}

type patchServiceInput struct {
	ServiceAccountInput
	Precondition
	Body ServiceAccountPatch
}

type listServicesInput struct {
	Credentials
	Paging
}

type serviceAnswer struct {
	Changed
	ETag string `header:"ETag"`
	Body ServiceAccount
}

type serviceCreatedAnswer struct {
	Changed
	Created
	ETag string `header:"ETag"`
	Body ServiceAccount
}

type serviceList struct {
	Body struct {
		ServiceAccounts []ServiceAccount `json:"service_accounts"`
		Next            string           `json:"next,omitempty"`
	}
}

// services are a project's service accounts.
type services struct{ store policy.PeopleStore }

func (n services) routes(a *API) {
	manage := func(id, method, path, summary string, status int) op {
		return op{id: id, method: method, path: path, action: policy.ActionManageUsers, kind: policy.ObjectSystem, tag: "people", summary: summary, status: status}
	}
	handle(a, manage("list-service-accounts", http.MethodGet, "/service-accounts", "List the project's service accounts, ended ones too", 0), n.list)
	handle(a, manage("create-service-account", http.MethodPost, "/service-accounts", "Make a service account", http.StatusCreated), n.create)
	handle(a, manage("get-service-account", http.MethodGet, "/service-accounts/{service}", "Get a service account", 0), n.get)
	handle(a, manage("update-service-account", http.MethodPatch, "/service-accounts/{service}", "Rename a service account", 0), n.patch)
	handle(a, manage("end-service-account", http.MethodDelete, "/service-accounts/{service}", "End a service account and its keys for good", 0), n.end)
}

func (n services) list(ctx context.Context, c *caller, in *listServicesInput) (*serviceList, error) {
	found, next, err := n.store.ListServices(ctx, c.Project, policy.Page{After: in.After, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	out := &serviceList{}
	out.Body.ServiceAccounts, out.Body.Next = []ServiceAccount{}, next
	for _, s := range found {
		out.Body.ServiceAccounts = append(out.Body.ServiceAccounts, serviceOf(s))
	}
	return out, nil
}

func (n services) create(ctx context.Context, c *caller, in *createServiceInput) (*serviceCreatedAnswer, error) {
	s, err := n.store.CreateService(ctx, c.Origin, policy.ServiceAccount{Project: c.Project, Name: in.Body.Name, Description: in.Body.Description})
	if err != nil {
		return nil, err
	}
	return &serviceCreatedAnswer{Changed: changed(s.Revision), Created: created("service-accounts", s.ID), ETag: etag(s.Revision), Body: serviceOf(s)}, nil
}

func answerService(s policy.ServiceAccount, err error) (*serviceAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &serviceAnswer{Changed: changed(s.Revision), ETag: etag(s.Revision), Body: serviceOf(s)}, nil
}

func (n services) get(ctx context.Context, c *caller, in *ServiceAccountInput) (*serviceAnswer, error) {
	s, err := n.store.Service(ctx, c.Project, in.ID)
	if err != nil {
		return nil, err
	}
	return answerService(*s, nil)
}

func (n services) patch(ctx context.Context, c *caller, in *patchServiceInput) (*serviceAnswer, error) {
	return edit(in.Precondition, func(rev int64) (*serviceAnswer, error) {
		read, err := n.store.Service(ctx, c.Project, in.ID)
		if err != nil {
			return nil, err
		}
		s := *read
		if rev > 0 {
			s.Revision = rev
		}
		set(&s.Name, in.Body.Name)
		set(&s.Description, in.Body.Description)
		return answerService(n.store.UpdateService(ctx, c.Origin, s))
	})
}

func (n services) end(ctx context.Context, c *caller, in *ServiceAccountInput) (*serviceAnswer, error) {
	return answerService(n.store.EndService(ctx, c.Origin, c.Principal, c.Project, in.ID))
}
