package rbac

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/casbin/casbin/v2"
	"github.com/casbin/casbin/v2/model"

	"github.com/promptgate/promptgate/policy"
)

// text is the Casbin model: subjects are principals, their groups and their roles, linked within a project (g), and each line of policy gives one
// subject one action on one pattern of objects under one pattern of labels. Roles inherit from roles, over the same prompts. Casbin owns that
// inheritance; matching patterns and labels is ours: its keyMatch family ignores what follows a star.
const text = `
[request_definition]
r = sub, dom, kind, obj, label, act

[policy_definition]
p = sub, dom, kind, obj, label, act, eft

[role_definition]
g = _, _, _

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = r.act == p.act && r.kind == p.kind && r.dom == p.dom && onObject(r.kind, r.obj, p.obj, p.eft) && underLabel(r.act, r.kind, r.label, p.label, p.eft) && g(r.sub, p.sub, r.dom)
`

// baseModel is the parsed text, copied for each enforcer.
type baseModel struct{ model model.Model }

func newBaseModel() (*baseModel, error) {
	m, err := model.NewModelFromString(text)
	if err != nil {
		return nil, fmt.Errorf("rbac: model: %w", err)
	}
	return &baseModel{model: m}, nil
}

// ruleset is what a principal may do at a time, and the enforcer that it was compiled into. It never changes.
type ruleset struct {
	enforcer *casbin.Enforcer // nil: no rule is in force
	subject  string
	project  string
	rules    []policy.Rule
	from     []string  // the bindings that the rules are of, "" for others
	admins   []string  // the bindings that make it admin of the whole project
	until    time.Time // a rule ends then, or the principal; zero: never
}

// compiler fills one enforcer.
type compiler struct {
	model   model.Model
	project string
	now     time.Time
	set     *ruleset
	linked  map[string]bool // roles that are in the model
	binding string          // the one whose rules are being added; "" for none
	err     error
}

// compile takes a principal's roles, grants and groups as they are at a time. An error means that something in them cannot be understood.
func (b *baseModel) compile(p *policy.Principal, now time.Time, admin bool) (*ruleset, error) {
	c := compiler{
		model: b.model.Copy(), project: p.Project, now: now, linked: map[string]bool{},
		set: &ruleset{subject: subject(p.Kind, p.ID), project: p.Project, until: p.Expires},
	}
	c.member(c.set.subject, p.Roles, p.Grants, p.Bindings)
	for _, g := range p.Groups {
		group := subject("group", g.ID)
		c.add("g", c.set.subject, group, p.Project)
		c.member(group, g.Roles, g.Grants, g.Bindings)
	}
	if admin {
		c.binding = byAdmins
		for _, r := range p.AdminRules(now) {
			c.rule(c.set.subject, r)
		}
	}
	if c.err != nil || len(c.set.rules) == 0 {
		return c.set, c.err // Casbin without policies evaluates its matcher against empty strings; it is not asked
	}
	e, err := casbin.NewEnforcer(c.model)
	if err != nil {
		return nil, fmt.Errorf("rbac: enforcer: %w", err)
	}
	if err := e.BuildRoleLinks(); err != nil {
		return nil, fmt.Errorf("rbac: roles: %w", err)
	}
	e.AddFunction("onObject", onObject)
	e.AddFunction("underLabel", underLabel)
	c.set.enforcer = e
	return c.set, nil
}

// byAdmins stands for each binding that makes its subject admin of the whole project.
const byAdmins = "*"

// allowedBy are the bindings that allow something, each of which would do alone. What allows or refuses is Casbin's to say.
func (s *ruleset) allowedBy(want policy.Permission) []string {
	var out []string
	for i, r := range s.rules {
		switch from := s.from[i]; {
		case from == "" || r.Deny || !r.Matches(want):
		case from == byAdmins:
			out = append(out, s.admins...)
		default:
			out = append(out, from)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// subject keeps the names of principals, groups and roles apart.
func subject(kind, id string) string { return kind + ":" + id }

// member is a principal or a group with its roles, grants and bindings. A binding is a subject of its own, so that Casbin can say which one decided.
func (c *compiler) member(sub string, roles []string, grants []policy.Grant, bindings []policy.Binding) {
	for _, s := range roles {
		b, err := policy.ParseRole(s)
		if err != nil {
			c.fail(err)
			return
		}
		c.add("g", sub, subject("role", b.String()), c.project)
		c.role(b)
	}
	for _, g := range grants {
		if err := g.Validate(); err != nil {
			c.fail(err)
			return
		}
		for _, r := range g.Rules() {
			c.rule(sub, r)
		}
	}
	for _, b := range bindings {
		rules, err := b.Rules()
		if err != nil {
			c.fail(err)
			return
		}
		node := subject("binding", b.ID)
		c.add("g", sub, node, c.project)
		c.binding = b.ID
		for _, r := range rules {
			c.rule(node, r)
		}
		if b.Administers(c.now) {
			c.set.admins = append(c.set.admins, b.ID)
		}
	}
	c.binding = ""
}

// role puts a role over its prompts into the model, once, with what it inherits.
func (c *compiler) role(b policy.RoleBinding) {
	sub := subject("role", b.String())
	if c.linked[sub] {
		return
	}
	c.linked[sub] = true
	for _, r := range b.Rules() {
		c.rule(sub, r)
	}
	if parent, ok := b.Inherits(); ok {
		c.add("g", sub, subject("role", parent.String()), c.project)
		c.role(parent)
	}
}

// rule adds a line for each action and label of a rule that is in force.
func (c *compiler) rule(sub string, r policy.Rule) {
	if !r.Active(c.now) {
		return
	}
	if !r.Expires.IsZero() && (c.set.until.IsZero() || r.Expires.Before(c.set.until)) {
		c.set.until = r.Expires
	}
	c.set.rules, c.set.from = append(c.set.rules, r), append(c.set.from, c.binding)
	effect := policy.EffectAllow
	if r.Deny {
		effect = policy.EffectDeny
	}
	for _, action := range r.Actions {
		for _, label := range r.Labels {
			c.add("p", sub, c.project, r.Kind, r.Pattern, label, string(action), effect)
		}
	}
}

// add puts a line straight into the model: Enforcer.AddPolicy drops a line that equals another one once its fields are joined.
func (c *compiler) add(section string, fields ...string) {
	c.fail(c.model.AddPolicy(section, section, fields))
}

func (c *compiler) fail(err error) {
	if c.err == nil && err != nil {
		c.err = fmt.Errorf("rbac: rule: %w", err)
	}
}

func (s *ruleset) allows(want policy.Permission) (bool, error) {
	if s.enforcer == nil {
		return false, nil
	}
	ok, err := s.enforcer.Enforce(s.subject, s.project, want.Kind, want.Name, want.Label, string(want.Action))
	if err != nil {
		return false, fmt.Errorf("rbac: enforce: %w", err)
	}
	return ok, nil
}

// holds reports whether something may be done to the object: an allowing rule that no denial takes back wholly. It decides how a refusal
// looks, never whether something is allowed.
func (s *ruleset) holds(kind, name string) bool {
	for _, r := range s.rules {
		if r.Deny || !r.MatchesObject(kind, name) {
			continue
		}
		for _, action := range r.Actions {
			if !s.denied(r, action, kind, name) {
				return true
			}
		}
	}
	return false
}

// denied reports whether every label that r allows an action under is denied on the object by one rule.
func (s *ruleset) denied(r policy.Rule, action policy.Action, kind, name string) bool {
	for _, label := range r.Labels {
		if !slices.ContainsFunc(s.rules, func(d policy.Rule) bool {
			return d.Deny && slices.Contains(d.Actions, action) && d.MatchesObject(kind, name) && d.CoversLabel(label)
		}) {
			return false
		}
	}
	return true
}

var errArguments = errors.New("rbac: a matching function was called with other arguments than its model names")

func texts(args []any, n int) ([]string, error) {
	if len(args) != n {
		return nil, errArguments
	}
	out := make([]string, n)
	for i, a := range args {
		s, ok := a.(string)
		if !ok {
			return nil, errArguments
		}
		out[i] = s
	}
	return out, nil
}

// onObject(kind, name, pattern, effect)
func onObject(args ...any) (any, error) {
	a, err := texts(args, 4)
	if err != nil {
		return false, err
	}
	return policy.Rule{Kind: a[0], Pattern: a[2], Deny: a[3] != policy.EffectAllow}.MatchesObject(a[0], a[1]), nil
}

// underLabel(action, kind, label, label's pattern, effect)
func underLabel(args ...any) (any, error) {
	a, err := texts(args, 5)
	if err != nil {
		return false, err
	}
	rule := policy.Rule{Labels: []string{a[3]}, Deny: a[4] != policy.EffectAllow}
	return rule.MatchesLabel(policy.Permission{Action: policy.Action(a[0]), Kind: a[1], Label: a[2]}), nil
}
