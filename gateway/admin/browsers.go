package admin

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/signin"
	"github.com/promptgate/promptgate/registry"
)

func isProjectID(s string) bool { return strings.HasPrefix(s, registry.ProjectIDPrefix) }

// SignIns is what the management API has to do with sign-ins; signin.Service, by its store, is one.
type SignIns interface {
	SessionsOf(ctx context.Context, user string) ([]policy.Session, error)
	EndSession(ctx context.Context, by journal.Origin, user, id string) error
	EndSessions(ctx context.Context, by journal.Origin, user string) (policy.User, error)
	ProjectsOf(ctx context.Context, user string) ([]string, error)
	Requires(ctx context.Context, project string) (policy.Method, error)
	Require(ctx context.Context, by journal.Origin, project string, m policy.Method) error
	Invite(ctx context.Context, by journal.Origin, granter *policy.Principal, in signin.Invitation) (signin.Sent, error)
	Reset(ctx context.Context, by journal.Origin, user string, machine bool) (signin.Sent, error)
}

// Session is a browser that somebody is signed in with.
type Session struct {
	ID        string    `json:"id" example:"ses_0k3v"`
	Method    string    `json:"method" enum:"password,passkey,link,sso"`
	Factor    string    `json:"second_factor,omitempty"`
	Address   string    `json:"address" doc:"Where it was signed in from"`
	UserAgent string    `json:"user_agent"`
	CreatedAt time.Time `json:"created_at"`
	EndsAt    time.Time `json:"ends_at" doc:"At the latest; sooner when it is not used"`
	Current   bool      `json:"current" doc:"It is the one that asks"`
}

type sessionList struct {
	Body struct {
		Sessions []Session `json:"sessions"`
	}
}

// OnUser is embedded in inputs whose path names an account.
type OnUser struct {
	Credentials
	User string `path:"user" example:"usr_0k3v" maxLength:"100"`
}

type sessionInput struct {
	Credentials
	Session string `path:"session" example:"ses_0k3v" maxLength:"100"`
}

type userSessionInput struct {
	OnUser
	Session string `path:"session" example:"ses_0k3v" maxLength:"100"`
}

// InvitationCreate asks somebody into the project.
type InvitationCreate struct {
	Email    string             `json:"email" minLength:"3" maxLength:"254" example:"ana@example.com"`
	Name     string             `json:"name,omitempty" maxLength:"100"`
	Bindings []InvitationGiving `json:"bindings" minItems:"1" maxItems:"20"`
}

// InvitationGiving is a role that an invitation gives.
type InvitationGiving struct {
	Role      string     `json:"role" minLength:"1" maxLength:"40" example:"editor"`
	Prompts   []string   `json:"prompts,omitempty" maxItems:"100" doc:"Patterns; none means the whole project"`
	Labels    []string   `json:"labels,omitempty" maxItems:"100"`
	Models    []string   `json:"models,omitempty" maxItems:"100"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	Reason    string     `json:"reason,omitempty" maxLength:"1000"`
}

type invitationInput struct {
	Credentials
	Body InvitationCreate
}

// LinkMade is a one-time link that was made for somebody.
type LinkMade struct {
	User  string `json:"user" example:"usr_0k3v"`
	Email string `json:"email"`
	URL   string `json:"url,omitempty" doc:"To be handed over; it is shown this once. Absent when it was sent by e-mail, or when somebody who can sign in needs none"`
	Sent  bool   `json:"sent" doc:"It was sent by e-mail"`
}

type linkMadeAnswer struct{ Body LinkMade }

// SignInPolicy is what a project requires of whoever is signed in.
type SignInPolicy struct {
	Require string `json:"require" enum:",password,passkey,sso" doc:"How somebody must have signed in to use this project; empty for any way. Keys are not concerned"`
}

type signInPolicyInput struct {
	Credentials
	Body SignInPolicy
}

type signInPolicyAnswer struct{ Body SignInPolicy }

// browsers are the sessions of people's browsers, and how people get in. Without a way to sign in there are none.
type browsers struct{ signIns SignIns }

func (n browsers) routes(a *API) {
	if n.signIns == nil {
		return
	}
	own := op{tag: "sign-in", session: true}
	with := func(o op, id, method, path, summary string) op {
		o.id, o.method, o.path, o.summary = id, method, path, summary
		if method == http.MethodDelete {
			o.status = http.StatusNoContent
		}
		return o
	}
	handle(a, with(own, "list-own-sessions", http.MethodGet, "/me/sessions", "List the browsers that you are signed in with"), n.listOwn)
	handle(a, with(own, "end-own-session", http.MethodDelete, "/me/sessions/{session}", "Sign one of your browsers out"), n.endOwn)
	handle(a, with(own, "sign-out-everywhere", http.MethodDelete, "/me/sessions", "Sign all of your browsers out, this one too"), n.endAllOwn)
	others := op{tag: "sign-in", action: policy.ActionManageAccounts, kind: policy.ObjectSystem}
	handle(a, with(others, "list-sessions", http.MethodGet, "/users/{user}/sessions", "List the browsers that somebody is signed in with"), n.list)
	handle(a, with(others, "end-session", http.MethodDelete, "/users/{user}/sessions/{session}", "Sign one of somebody's browsers out"), n.end)
	handle(a, with(others, "end-sessions", http.MethodDelete, "/users/{user}/sessions", "Sign all of somebody's browsers out"), n.endAll)
	reset := with(others, "reset-user", http.MethodPost, "/users/{user}/reset", "Make a link by which somebody gets in again")
	reset.about = "Used, it ends the account's sessions and takes its password away. A break-glass account is reset by itself alone, or on the machine that has the data."
	handle(a, reset, n.reset)
	handle(a, op{id: "invite", method: http.MethodPost, path: "/invitations", tag: "sign-in", action: policy.ActionManageUsers, kind: policy.ObjectSystem,
		status: http.StatusCreated, summary: "Ask somebody into the project",
		about: "Makes the account when there is none and gives it what you may give. The link is sent by e-mail where SMTP is configured; else it is answered this once, and the journal says so."}, n.invite)
	settings := op{tag: "sign-in", action: policy.ActionManageProject, kind: policy.ObjectSystem}
	handle(a, with(settings, "get-sign-in-policy", http.MethodGet, "/sign-in-policy", "Say how people must have signed in to use the project"), n.policy)
	handle(a, with(settings, "set-sign-in-policy", http.MethodPut, "/sign-in-policy", "Choose how people must have signed in to use the project"), n.setPolicy)
}

func (n browsers) listed(ctx context.Context, user, current string) (*sessionList, error) {
	found, err := n.signIns.SessionsOf(ctx, user)
	out := &sessionList{}
	out.Body.Sessions = []Session{}
	for _, s := range found {
		out.Body.Sessions = append(out.Body.Sessions, Session{
			ID: s.ID, Method: string(s.Method), Factor: string(s.Factor), Address: s.Address, UserAgent: s.UserAgent, CreatedAt: s.CreatedAt, EndsAt: s.EndsAt,
			Current: s.ID == current,
		})
	}
	return out, err
}

func (n browsers) listOwn(ctx context.Context, c *caller, _ *Credentials) (*sessionList, error) {
	return n.listed(ctx, c.ID, c.Held.ID)
}

func (n browsers) endOwn(ctx context.Context, c *caller, in *sessionInput) (*struct{}, error) {
	return nil, n.signIns.EndSession(ctx, c.Origin, c.ID, in.Session)
}

func (n browsers) endAllOwn(ctx context.Context, c *caller, _ *Credentials) (*struct{}, error) {
	_, err := n.signIns.EndSessions(ctx, c.Origin, c.ID)
	return nil, err
}

func (n browsers) list(ctx context.Context, _ *caller, in *OnUser) (*sessionList, error) {
	return n.listed(ctx, in.User, "")
}

func (n browsers) end(ctx context.Context, c *caller, in *userSessionInput) (*struct{}, error) {
	return nil, n.signIns.EndSession(ctx, c.Origin, in.User, in.Session)
}

func (n browsers) endAll(ctx context.Context, c *caller, in *OnUser) (*struct{}, error) {
	_, err := n.signIns.EndSessions(ctx, c.Origin, in.User)
	return nil, err
}

func made(sent signin.Sent, err error) (*linkMadeAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &linkMadeAnswer{Body: LinkMade{User: sent.User.ID, Email: sent.User.Email, URL: sent.URL, Sent: sent.Mailed}}, nil
}

func (n browsers) reset(ctx context.Context, c *caller, in *OnUser) (*linkMadeAnswer, error) {
	return made(n.signIns.Reset(ctx, c.Origin, in.User, false))
}

// Binding is what is given, in a project. Subject is still open.
func (g InvitationGiving) Binding(project string) policy.Binding {
	b := policy.Binding{Project: project, Role: g.Role, Prompts: g.Prompts, Labels: g.Labels, Models: g.Models, Reason: g.Reason}
	if len(b.Prompts) == 0 {
		b.Prompts = []string{"**"}
	}
	if g.ExpiresAt != nil {
		b.Expires = *g.ExpiresAt
	}
	return b
}

func (n browsers) invite(ctx context.Context, c *caller, in *invitationInput) (*linkMadeAnswer, error) {
	ask := signin.Invitation{Email: in.Body.Email, Name: in.Body.Name}
	for _, g := range in.Body.Bindings {
		if g.ExpiresAt != nil {
			if err := policy.ValidExpiry(*g.ExpiresAt, "bindings"); err != nil {
				return nil, err
			}
		}
		ask.Bindings = append(ask.Bindings, g.Binding(c.Project))
	}
	return made(n.signIns.Invite(ctx, c.Origin, c.Principal, ask))
}

func (n browsers) policy(ctx context.Context, c *caller, _ *Credentials) (*signInPolicyAnswer, error) {
	m, err := n.signIns.Requires(ctx, c.Project)
	return &signInPolicyAnswer{Body: SignInPolicy{Require: string(m)}}, err
}

func (n browsers) setPolicy(ctx context.Context, c *caller, in *signInPolicyInput) (*signInPolicyAnswer, error) {
	m := policy.Method(in.Body.Require)
	if c.Held != nil && !c.Held.Satisfies(m) {
		return nil, fault.New(fault.Conflict, "You are not signed in by %s yourself, and would be shut out: sign in that way first.", m).WithParam("require")
	}
	if err := n.signIns.Require(ctx, c.Origin, c.Project, m); err != nil {
		return nil, err
	}
	return &signInPolicyAnswer{Body: in.Body}, nil
}
