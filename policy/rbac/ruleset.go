package rbac

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/casbin/casbin/v2"
	"github.com/casbin/casbin/v2/model"

	"github.com/promptgate/promptgate/policy"
)

// text is the Casbin model. Matching is ours: Casbin's keyMatch family ignores what follows a star. A policy line holds lists
// (actions, labels) joined by commas, which no action, pattern or label can contain.
const text = `
[request_definition]
r = act, kind, name, label

[policy_definition]
p = acts, kind, pattern, labels, eft

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = hasAction(r.act, p.acts) && onObject(r.kind, r.name, p.kind, p.pattern) && underLabel(r.act, r.kind, r.label, p.labels, p.eft)
`

const separator = ","

// baseModel is the parsed text, copied for each enforcer.
type baseModel struct{ model model.Model }

func newBaseModel() (*baseModel, error) {
	m, err := model.NewModelFromString(text)
	if err != nil {
		return nil, fmt.Errorf("rbac: model: %w", err)
	}
	return &baseModel{model: m}, nil
}

// ruleset is a principal's active rules and the enforcer that they were compiled into. It never changes.
type ruleset struct {
	enforcer *casbin.Enforcer
	rules    []policy.Rule
}

func (b *baseModel) compile(rules []policy.Rule) (*ruleset, error) {
	m := b.model.Copy()
	for _, r := range rules {
		// Straight into the model: Enforcer.AddPolicy drops a line that equals another one once its fields are joined.
		if err := m.AddPolicy("p", "p", line(r)); err != nil {
			return nil, fmt.Errorf("rbac: rule: %w", err)
		}
	}
	e, err := casbin.NewEnforcer(m)
	if err != nil {
		return nil, fmt.Errorf("rbac: enforcer: %w", err)
	}
	e.AddFunction("hasAction", hasAction)
	e.AddFunction("onObject", onObject)
	e.AddFunction("underLabel", underLabel)
	return &ruleset{enforcer: e, rules: slices.Clone(rules)}, nil
}

// line is a rule as Casbin keeps it.
func line(r policy.Rule) []string {
	acts := make([]string, len(r.Actions))
	for i, a := range r.Actions {
		acts[i] = string(a)
	}
	effect := policy.EffectAllow
	if r.Deny {
		effect = policy.EffectDeny
	}
	return []string{strings.Join(acts, separator), r.Kind, r.Pattern, strings.Join(r.Labels, separator), effect}
}

// fingerprint is one spelling per list of rules: fields are free of NUL and newline by validation.
func fingerprint(rules []policy.Rule) string {
	var b strings.Builder
	for _, r := range rules {
		for _, field := range line(r) {
			b.WriteString(field)
			b.WriteByte(0)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (s *ruleset) allows(want policy.Permission) (bool, error) {
	ok, err := s.enforcer.Enforce(string(want.Action), want.Kind, want.Name, want.Label)
	if err != nil {
		return false, fmt.Errorf("rbac: enforce: %w", err)
	}
	return ok, nil
}

// holds reports whether something may be done to the object: an allowing rule that no denial takes back wholly.
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

// hasAction(action, list)
func hasAction(args ...any) (any, error) {
	a, err := texts(args, 2)
	if err != nil {
		return false, err
	}
	return slices.Contains(strings.Split(a[1], separator), a[0]), nil
}

// onObject(kind, name, rule's kind, rule's pattern)
func onObject(args ...any) (any, error) {
	a, err := texts(args, 4)
	if err != nil {
		return false, err
	}
	return policy.Rule{Kind: a[2], Pattern: a[3]}.MatchesObject(a[0], a[1]), nil
}

// underLabel(action, kind, label, rule's labels, rule's effect)
func underLabel(args ...any) (any, error) {
	a, err := texts(args, 5)
	if err != nil {
		return false, err
	}
	rule := policy.Rule{Labels: strings.Split(a[3], separator), Deny: a[4] != policy.EffectAllow}
	return rule.MatchesLabel(policy.Permission{Action: policy.Action(a[0]), Kind: a[1], Label: a[2]}), nil
}
