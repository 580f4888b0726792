package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// Question is what somebody wants to do.
type Question struct {
	Principal string        `json:"principal,omitempty" maxLength:"60" doc:"usr_…, svc_… or key_…; whoever asks, without it" example:"usr_0k3v"`
	Action    policy.Action `json:"action" example:"call"`
	Prompt    string        `json:"prompt,omitempty" maxLength:"200" doc:"Its name, alias or id" example:"support/triage"`
	Model     string        `json:"model,omitempty" maxLength:"200" doc:"Instead of a prompt"`
	Label     string        `json:"label,omitempty" maxLength:"36" doc:"@version for calls by number, @model for calls without a prompt" example:"production"`
}

// Reason is one thing that speaks of a question.
type Reason struct {
	Effect      string        `json:"effect" enum:"allow,deny"`
	Text        string        `json:"text" example:"editor over marketing/**"`
	Through     string        `json:"through,omitempty" doc:"The group that holds it, or the owner of the key"`
	ThroughName string        `json:"through_name,omitempty"`
	Binding     string        `json:"binding,omitempty" example:"bnd_0k3v"`
	Role        string        `json:"role,omitempty"`
	Grant       *policy.Grant `json:"grant,omitempty"`
	GrantedBy   string        `json:"granted_by,omitempty"`
	GrantedAt   *time.Time    `json:"granted_at,omitempty"`
	Why         string        `json:"reason,omitempty" doc:"What whoever granted it gave as the reason"`
	ExpiresAt   *time.Time    `json:"expires_at,omitempty"`
}

// Explanation says whether something is allowed, why, and whom to ask.
type Explanation struct {
	Allowed   bool     `json:"allowed"`
	Principal string   `json:"principal"`
	Question  string   `json:"question" example:"call on support/triage@production"`
	Reasons   []Reason `json:"reasons" doc:"What speaks of it, denials first: one denial refuses, whatever allows. What allows a key and what allows its owner are both needed"`
	Missing   string   `json:"missing,omitempty" doc:"The permission to ask for"`
	Ask       []string `json:"ask,omitempty" doc:"Who could grant it"`
}

type explainInput struct {
	Credentials
	Body Question
}

type explanationAnswer struct{ Body Explanation }

// explain answers why something is allowed or refused.
type explain struct {
	people   policy.PeopleStore
	keys     policy.KeyStore
	registry *registry.Service
	clock    func() time.Time
}

func (n explain) routes(a *API) {
	handle(a, op{id: "explain-access", method: http.MethodPost, path: "/access/explain", tag: "people",
		summary: "Say why something is allowed or refused, by what, granted by whom, and whom to ask",
		about:   "Anybody may ask for itself; asking for others needs `manage_users`. It changes nothing."}, n.answer)
}

func (n explain) answer(ctx context.Context, c *caller, in *explainInput) (*explanationAnswer, error) {
	want, err := n.question(ctx, c, in.Body)
	if err != nil {
		return nil, err
	}
	who := c.Principal
	if id := in.Body.Principal; id != "" && id != c.ID {
		if err := c.need(ctx, policy.Permission{Action: policy.ActionManageUsers, Kind: policy.ObjectSystem}); err != nil {
			return nil, err
		}
		if who, err = n.principal(ctx, c.Project, id); err != nil {
			return nil, err
		}
	}
	d, err := c.check.Check(policy.Suppose(ctx), who, want)
	if err != nil {
		return nil, err
	}
	reasons, err := who.Reasons(want, n.clock())
	if err != nil {
		return nil, err
	}
	out := &explanationAnswer{Body: Explanation{Allowed: d.Allowed, Principal: who.ID, Question: want.Describe(), Reasons: []Reason{}}}
	for _, r := range reasons {
		told, err := n.reason(ctx, c.Project, r)
		if err != nil {
			return nil, err
		}
		out.Body.Reasons = append(out.Body.Reasons, told)
	}
	if d.Allowed {
		return out, nil
	}
	out.Body.Missing = want.Describe()
	out.Body.Ask, err = n.admins(ctx, c.Project)
	return out, err
}

// question is the permission that is asked about. Whoever may not know a prompt asks about its spelling: the answer does not depend on what is there.
func (n explain) question(ctx context.Context, c *caller, q Question) (policy.Permission, error) {
	want := policy.Permission{Action: q.Action, Kind: policy.ObjectSystem, Label: q.Label}
	if !slices.Contains(policy.Actions(), q.Action) {
		return want, fault.New(fault.InvalidRequest, "%q is no action: use one of %s.", q.Action, actionNames(policy.Actions())).WithParam("action")
	}
	switch {
	case q.Prompt != "" && q.Model != "":
		return want, fault.New(fault.InvalidRequest, "Ask about a prompt or about a model.").WithParam("model")
	case q.Model != "":
		want.Kind, want.Name = policy.ObjectModel, q.Model
	case q.Prompt != "":
		want.Kind, want.Name = policy.ObjectPrompt, q.Prompt
		found, err := n.registry.Prompt(ctx, c.Project, q.Prompt)
		if err != nil && !fault.Is(err, fault.PromptNotFound) {
			return want, err
		}
		if err == nil {
			read := policy.Permission{Action: policy.ActionRead, Kind: policy.ObjectPrompt}
			verdict, _, err := policy.Decide(ctx, c.check, c.Principal, read, policy.Named{Spelled: q.Prompt, Current: found.Name})
			if err != nil {
				return want, err
			}
			if verdict != policy.Unseen {
				want.Name = found.Name
			}
		}
	}
	return want, nil
}

func actionNames(actions []policy.Action) string {
	out := make([]string, 0, len(actions))
	for _, a := range actions {
		out = append(out, string(a))
	}
	return strings.Join(out, ", ")
}

func (n explain) principal(ctx context.Context, project, id string) (*policy.Principal, error) {
	if !strings.HasPrefix(id, "key_") {
		return policy.Member(ctx, n.people, project, id)
	}
	k, err := n.keys.KeyByID(ctx, project, id)
	if err != nil {
		return nil, err
	}
	if !k.RevokedAt.IsZero() {
		return nil, fault.New(fault.Conflict, "This key is revoked: it may do nothing.").WithParam("principal")
	}
	p, err := k.Principal()
	if err != nil || k.Owner == "" {
		return p, err
	}
	owner, err := policy.Member(ctx, n.people, project, k.Owner)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.Conflict, "The owner of this key is no member of the project any more: the key may do nothing.").WithParam("principal")
	}
	if err != nil {
		return nil, err
	}
	return p.OwnedBy(owner), nil
}

func (n explain) reason(ctx context.Context, project string, r policy.Reason) (Reason, error) {
	out := Reason{Effect: r.Effect, Text: r.Text, Through: r.Through, Role: r.Role, Grant: r.Grant, ExpiresAt: moment(r.Expires)}
	if b := r.Binding; b != nil {
		out.Binding, out.Role, out.GrantedBy, out.GrantedAt, out.Why = b.ID, b.Role, b.GrantedBy, moment(b.GrantedAt), b.Reason
	}
	if r.Through == "" {
		return out, nil
	}
	var err error
	out.ThroughName, err = nameOf(ctx, n.people, project, r.Through)
	return out, err
}

// maxAsk bounds how many people are named.
const maxAsk = 10

// admins are those who could grant something in the project: its admins, else the operators.
func (n explain) admins(ctx context.Context, project string) ([]string, error) {
	held, _, err := n.people.ListBindings(ctx, project, "", policy.Page{Limit: 200})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, b := range held {
		if !b.Administers(n.clock()) || len(out) == maxAsk {
			continue
		}
		name, err := nameOf(ctx, n.people, project, b.Subject)
		if err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	if len(out) == 0 {
		out = []string{"whoever holds an admin key of the project, or an operator of the installation"}
	}
	return out, nil
}
