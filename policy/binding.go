package policy

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/names"
)

// Binding gives a user, a group or a service account a role in a project, over patterns of prompts, labels and models.
type Binding struct {
	ID      string // "bnd_…"
	Project string
	Subject string // "usr_…", "grp_…" or "svc_…"
	Role    string // a built-in one, or one of the project's own
	Effect  string // EffectAllow (also "") or EffectDeny
	Prompts []string
	Labels  []string // none means every label; of calls, every one but the reserved ones
	Models  []string
	Expires time.Time // zero: never

	GrantedBy string // the actor's id
	GrantedAt time.Time
	Reason    string // of who granted it, may be ""
	Revision  int64  // journal revision of the last change; the ETag

	Actions []Action `json:"-"` // what the role may do, when it is one of the project's own. Whoever reads bindings sets it
}

// Role is a project's own role: a named set of actions.
type Role struct {
	Project     string
	Name        string
	Description string
	Actions     []Action
	CreatedBy   string
	CreatedAt   time.Time
	Revision    int64
}

const (
	maxBindings    = 1000 // of one user, group or service account in one project
	maxPatterns    = 100
	maxReason      = 1000 // bytes
	maxRoleName    = 40
	maxDescription = 500
)

// Validate checks what people choose about a binding and brings it into its one spelling (InvalidRequest). A role of the project's own is one that has Actions.
func (b *Binding) Validate() error {
	kind, _, _ := strings.Cut(b.Subject, "_")
	if !slices.Contains([]string{"usr", "grp", "svc"}, kind) {
		return fault.New(fault.InvalidRequest, "a binding is of a user (usr_…), a group (grp_…) or a service account (svc_…), not of %q", b.Subject).WithParam("subject")
	}
	if RoleActions(b.Role) == nil && len(b.Actions) == 0 {
		return fault.New(fault.InvalidRequest, "%q is no role of this project: use %s, %s, %s, %s, or one that the project has made", b.Role,
			RoleAdmin, RoleEditor, RoleTester, RoleViewer).WithParam("role")
	}
	if len(b.Reason) > maxReason || !utf8.ValidString(b.Reason) {
		return fault.New(fault.InvalidRequest, "a reason has %d bytes at the most", maxReason).WithParam("reason")
	}
	for name, list := range map[string][]string{"prompts": b.Prompts, "labels": b.Labels, "models": b.Models} {
		if list != nil && len(list) == 0 {
			return fault.New(fault.InvalidRequest, "%s is an empty list: name some, or leave it out", name).WithParam(name)
		}
		if len(list) > maxPatterns {
			return fault.New(fault.InvalidRequest, "a binding names %d %s at the most: use folder patterns", maxPatterns, name).WithParam(name)
		}
	}
	if b.Effect == "" {
		b.Effect = EffectAllow
	}
	b.Expires = b.Expires.Truncate(time.Microsecond) // as it is stored
	if len(b.Prompts)+len(b.Models) == 0 {
		b.Prompts = []string{"**"}
	}
	g := normalGrants([]Grant{b.grant(b.actions())})[0]
	if err := g.Validate(); err != nil {
		return err
	}
	b.Models = g.Models
	for _, list := range []*[]string{&b.Prompts, &b.Labels, &b.Models} {
		*list = slices.Clone(*list)
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return nil
}

// actions is what the role may do.
func (b Binding) actions() []Action {
	if own := RoleActions(b.Role); own != nil {
		return own
	}
	return b.Actions
}

func (b Binding) grant(actions []Action) Grant {
	return Grant{Effect: b.Effect, Actions: actions, Prompts: b.Prompts, Labels: b.Labels, Models: b.Models, Expires: b.Expires}
}

// Rules takes a binding apart. Without labels, a built-in role is held under every label, as a key holds it.
func (b Binding) Rules() ([]Rule, error) {
	actions := b.actions()
	if len(actions) == 0 {
		return nil, fault.New(fault.InvalidRequest, "%q is no role of this project", b.Role)
	}
	g := b.grant(actions)
	if err := g.Validate(); err != nil {
		return nil, err
	}
	rules := g.Rules()
	if len(b.Labels) == 0 && RoleActions(b.Role) != nil {
		for i := range rules {
			rules[i].Labels = []string{anyLabel}
		}
	}
	return rules, nil
}

// governsFrom reports whether the binding makes its subject admin of the whole project while it lasts.
func (b Binding) governs() bool {
	return b.Role == RoleAdmin && b.Effect != EffectDeny && len(b.Labels) == 0 && slices.Contains(b.Prompts, "**")
}

// Administers reports whether the binding makes its subject admin of the whole project, now.
func (b Binding) Administers(now time.Time) bool {
	return b.governs() && (b.Expires.IsZero() || now.Before(b.Expires))
}

// Describe spells a binding for people: "editor over marketing/** under staging".
func (b Binding) Describe() string {
	s := b.Role
	if b.Effect == EffectDeny {
		s = "denial of " + s
	}
	if len(b.Prompts) > 0 && !slices.Equal(b.Prompts, []string{"**"}) {
		s += " over " + strings.Join(b.Prompts, ", ")
	}
	if len(b.Labels) > 0 {
		s += " under " + strings.Join(b.Labels, ", ")
	}
	if len(b.Models) > 0 {
		s += " with models " + strings.Join(b.Models, ", ")
	}
	return s
}

// Validate checks what people choose about a role and brings it into its one spelling (InvalidRequest).
func (r *Role) Validate() error {
	if RoleActions(r.Name) != nil || r.Name == RoleOperator {
		return fault.New(fault.InvalidRequest, "%q is a built-in role: choose another name", r.Name).WithParam("name")
	}
	if !roleName(r.Name) {
		return fault.New(fault.InvalidRequest, "a role's name has 1 to %d characters, a-z, 0-9, - and _, and begins with a letter", maxRoleName).WithParam("name")
	}
	r.Description = names.Normal(strings.TrimSpace(r.Description))
	if len(r.Description) > maxDescription || !utf8.ValidString(r.Description) || strings.ContainsFunc(r.Description, unicode.IsControl) {
		return fault.New(fault.InvalidRequest, "a description has %d bytes at the most, and no control characters", maxDescription).WithParam("description")
	}
	if len(r.Actions) == 0 {
		return fault.New(fault.InvalidRequest, "a role must name at least one action").WithParam("actions")
	}
	for _, a := range r.Actions {
		if !slices.Contains(projectActions(), a) {
			return fault.New(fault.InvalidRequest, "%q is no action of a project", a).WithParam("actions")
		}
	}
	r.Actions = slices.Clone(r.Actions)
	slices.Sort(r.Actions)
	r.Actions = slices.Compact(r.Actions)
	return nil
}

func roleName(s string) bool {
	if s == "" || len(s) > maxRoleName || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// Rules are what the role gives over a whole project: what somebody must hold who makes or changes it.
func (r Role) Rules() []Rule {
	return Grant{Actions: r.Actions, Prompts: []string{"**"}, Models: []string{"*"}}.Rules()
}
