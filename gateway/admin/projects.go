package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// Project is the tenant that a key belongs to.
type Project struct {
	ID           string    `json:"id" example:"prj_0k3v"`
	Name         string    `json:"name" example:"shop"`
	Description  string    `json:"description"`
	DefaultLabel string    `json:"default_label" doc:"What a call gets that names neither version nor label" example:"production"`
	CreatedAt    time.Time `json:"created_at"`
	Revision     int64     `json:"revision"`
}

func projectOf(p registry.Project) Project {
	return Project{ID: p.ID, Name: p.Name, Description: p.Description, DefaultLabel: p.DefaultLabel, CreatedAt: p.CreatedAt, Revision: p.Revision}
}

// ProjectCreate makes a project.
type ProjectCreate struct {
	Name         string `json:"name" minLength:"1" maxLength:"100" example:"shop"`
	Description  string `json:"description,omitempty" maxLength:"2000"`
	DefaultLabel string `json:"default_label,omitempty" maxLength:"36" default:"production"`
}

// ProjectPatch changes the key's project; absent fields stay.
type ProjectPatch struct {
	Description  *string `json:"description,omitempty" maxLength:"2000"`
	DefaultLabel *string `json:"default_label,omitempty" maxLength:"36"`
}

// Me is who the key belongs to.
type Me struct {
	ID      string         `json:"id" example:"key_0k3v"`
	Kind    string         `json:"kind" enum:"key,user,system"`
	Name    string         `json:"name"`
	Project string         `json:"project"`
	Roles   []string       `json:"roles"`
	Grants  []policy.Grant `json:"grants"`
}

type meAnswer struct{ Body Me }

type projectAnswer struct {
	Changed
	ETag string `header:"ETag"`
	Body Project
}

func answerProject(p registry.Project) *projectAnswer {
	return &projectAnswer{Changed: changed(p.Revision), ETag: etag(p.Revision), Body: projectOf(p)}
}

type projectList struct {
	Body struct {
		Projects []Project `json:"projects"`
		Next     string    `json:"next,omitempty"`
	}
}

type listProjectsInput struct {
	Credentials
	Paging
}

type createProjectInput struct {
	Credentials
	Body ProjectCreate
}

type patchProjectInput struct {
	Credentials
	Precondition
	Body ProjectPatch
}

// projects are the projects, and who a key is.
type projects struct {
	registry *registry.Service
	members  SignIns // nil: there are no sessions
}

func (n projects) routes(a *API) {
	handle(a, op{id: "whoami", method: http.MethodGet, path: "/me", tag: "projects", summary: "Say who this key or this session is", anywhere: true},
		func(_ context.Context, c *caller, _ *Credentials) (*meAnswer, error) {
			return &meAnswer{Body: Me{ID: c.ID, Kind: c.Kind, Name: c.Name, Project: c.Project, Roles: list(c.Roles), Grants: list(c.Grants)}}, nil
		})
	handle(a, op{id: "get-project", method: http.MethodGet, path: "/project", tag: "projects", summary: "Get the key's project"}, n.getProject)
	handle(a, op{id: "update-project", method: http.MethodPatch, path: "/project", action: policy.ActionManageProject, kind: policy.ObjectSystem,
		tag: "projects", summary: "Change the key's project"}, n.patchProject)
	handle(a, op{id: "list-projects", method: http.MethodGet, path: "/projects", tag: "projects", anywhere: true,
		summary: "List the key's project; all of them for the system's administrators, who may create projects"}, n.listProjects)
	handle(a, op{id: "create-project", method: http.MethodPost, path: "/projects", action: policy.ActionCreateProject, kind: policy.ObjectSystem,
		tag: "projects", summary: "Create a project: the system's administrators only", status: http.StatusCreated}, n.createProject)
}

func (n projects) getProject(ctx context.Context, c *caller, _ *Credentials) (*projectAnswer, error) {
	p, err := n.registry.Project(ctx, c.Project)
	if err != nil {
		return nil, err
	}
	return answerProject(p), nil
}

func (n projects) patchProject(ctx context.Context, c *caller, in *patchProjectInput) (*projectAnswer, error) {
	rev, err := in.revision()
	if err != nil {
		return nil, err
	}
	p, err := n.registry.UpdateProject(ctx, c.Origin, registry.ProjectUpdate{
		ID: c.Project, Revision: rev, Description: in.Body.Description, DefaultLabel: in.Body.DefaultLabel,
	})
	if err != nil {
		return nil, err
	}
	return answerProject(p), nil
}

func (n projects) listProjects(ctx context.Context, c *caller, in *listProjectsInput) (*projectList, error) {
	every, err := c.may(ctx, policy.Permission{Action: policy.ActionCreateProject, Kind: policy.ObjectSystem})
	if err != nil {
		return nil, err
	}
	out := &projectList{}
	if !every && c.Project == "" {
		return n.projectsOf(ctx, c)
	}
	if !every {
		own, err := n.registry.Project(ctx, c.Project)
		if err == nil {
			out.Body.Projects = []Project{projectOf(own)}
		}
		return out, err
	}
	found, next, err := n.registry.Projects(ctx, in.page())
	if err != nil {
		return nil, err
	}
	out.Body.Projects, out.Body.Next = []Project{}, next
	for _, p := range found {
		out.Body.Projects = append(out.Body.Projects, projectOf(p))
	}
	return out, nil
}

// projectsOf are the projects that somebody who is signed in is a member of.
func (n projects) projectsOf(ctx context.Context, c *caller) (*projectList, error) {
	out := &projectList{}
	out.Body.Projects = []Project{}
	ids, err := n.members.ProjectsOf(ctx, c.ID)
	for _, id := range ids {
		p, err := n.registry.Project(ctx, id)
		if err != nil {
			return nil, err
		}
		out.Body.Projects = append(out.Body.Projects, projectOf(p))
	}
	return out, err
}

func (n projects) createProject(ctx context.Context, c *caller, in *createProjectInput) (*projectAnswer, error) {
	p, err := n.registry.CreateProject(ctx, c.Origin, registry.ProjectInput{
		Name: in.Body.Name, Description: in.Body.Description, DefaultLabel: in.Body.DefaultLabel,
	})
	if err != nil {
		return nil, err
	}
	return answerProject(p), nil
}
