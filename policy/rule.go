package policy

import (
	"slices"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
)

// The effects of a grant.
const (
	EffectAllow = "allow"
	EffectDeny  = "deny"
)

// Rule is one line of what a principal may do: its roles and grants, taken apart so that each rule names one pattern. It is the
// form that the checker compiles and that delegation is judged on.
type Rule struct {
	Deny    bool
	Actions []Action
	Kind    string   // ObjectPrompt, ObjectModel or ObjectSystem
	Pattern string   // of prompts or models; "" for ObjectSystem
	Labels  []string // label patterns
	Expires time.Time
}

// Rules expands the principal's roles and grants, its groups' too. An error (InvalidRequest) means that something in them cannot be
// understood, and then nothing may be allowed: a deny that is skipped because it has a typo is an allow.
func (p *Principal) Rules() ([]Rule, error) {
	rules, err := expand(p.Roles, p.Grants, p.Bindings)
	for _, g := range p.Groups {
		if err != nil {
			return nil, err
		}
		var more []Rule
		more, err = expand(g.Roles, g.Grants, g.Bindings)
		rules = append(rules, more...)
	}
	return rules, err
}

func expand(roles []string, grants []Grant, bindings []Binding) ([]Rule, error) {
	rules := make([]Rule, 0, 2*len(roles)+2*len(grants))
	for _, s := range roles {
		b, err := ParseRole(s)
		if err != nil {
			return nil, err
		}
		rules = append(rules, b.rules(RoleActions(b.Role))...)
	}
	for _, g := range grants {
		if err := g.Validate(); err != nil {
			return nil, err
		}
		rules = append(rules, g.Rules()...)
	}
	for _, b := range bindings {
		more, err := b.Rules()
		if err != nil {
			return nil, err
		}
		rules = append(rules, more...)
	}
	return rules, nil
}

// Rules takes a valid grant apart.
func (g Grant) Rules() []Rule {
	rules := make([]Rule, 0, len(g.Prompts)+len(g.Models)+1)
	rule := Rule{Deny: g.Effect == EffectDeny, Actions: g.Actions, Labels: g.Labels, Expires: g.Expires}
	switch {
	case rule.Deny && (len(g.Labels) == 0 || slices.Contains(g.Labels, "*")):
		rule.Labels = []string{anyLabel} // who denies "all labels" does not mean to leave calls by number open
	case len(g.Labels) == 0:
		rule.Labels = []string{"*"}
	}
	add := func(kind, pattern string) {
		r := rule
		r.Kind, r.Pattern = kind, pattern
		rules = append(rules, r)
	}
	for _, pattern := range g.Prompts {
		add(ObjectPrompt, pattern)
	}
	for _, pattern := range g.Models {
		add(ObjectModel, pattern)
	}
	if len(g.Prompts)+len(g.Models) == 0 || slices.Contains(g.Prompts, "**") {
		add(ObjectSystem, "")
	}
	return rules
}

// Validate says what is wrong with a grant (InvalidRequest).
func (g Grant) Validate() error {
	if g.Effect != "" && g.Effect != EffectAllow && g.Effect != EffectDeny {
		return fault.New(fault.InvalidRequest, "a grant's effect is %q or %q, not %q", EffectAllow, EffectDeny, g.Effect)
	}
	if len(g.Actions) == 0 {
		return fault.New(fault.InvalidRequest, "a grant must name at least one action")
	}
	for name, list := range map[string][]string{"prompts": g.Prompts, "labels": g.Labels, "models": g.Models} {
		if list != nil && len(list) == 0 { // somebody's filter that found nothing must not open everything
			return fault.New(fault.InvalidRequest, "a grant's %s is an empty list: name some, or leave it out", name)
		}
	}
	for _, a := range g.Actions {
		if !validAction(a) {
			return fault.New(fault.InvalidRequest, "%q is no action", a)
		}
		if len(g.Prompts)+len(g.Models) == 0 && !projectWide(a) {
			return fault.New(fault.InvalidRequest, "a grant of %q must name prompts or models; [\"**\"] is every prompt", a)
		}
	}
	for _, list := range []struct {
		patterns []string
		valid    func(string) error
	}{{g.Prompts, validPromptPattern}, {g.Labels, validLabelPattern}, {g.Models, validModelPattern}} {
		for _, pattern := range list.patterns {
			if err := list.valid(pattern); err != nil {
				return err
			}
		}
	}
	return nil
}

// Active reports whether the rule is in force at a time.
func (r Rule) Active(now time.Time) bool { return r.Expires.IsZero() || now.Before(r.Expires) }

// MatchesObject reports whether the rule speaks of this object, whatever the action and label.
func (r Rule) MatchesObject(kind, name string) bool {
	if r.Kind != kind {
		return false
	}
	switch kind {
	case ObjectPrompt:
		return MatchPrompt(r.Pattern, name)
	case ObjectModel:
		return MatchModel(r.Pattern, name) || r.Deny && name == EveryModel // who is denied one model is not allowed every one
	case ObjectSystem:
		return name == ""
	}
	return false
}

// MatchesLabel reports whether the rule covers the label of a request. LabelAny fits every rule, with one exception: calling a prompt and
// moving a label do know labels, so a question that forgot to name one is answered by rules for all labels only.
func (r Rule) MatchesLabel(want Permission) bool {
	if want.Label == LabelAny {
		if r.Deny || want.Kind != ObjectPrompt || (want.Action != ActionCall && want.Action != ActionMoveLabel) {
			return true
		}
		return slices.Contains(r.Labels, "*") || slices.Contains(r.Labels, anyLabel)
	}
	for _, pattern := range r.Labels {
		if MatchLabel(pattern, want.Label) || pattern == "*" && want.Action == ActionRead {
			return true // whoever may read under every label may read every version: the reserved labels guard calls
		}
	}
	return false
}

// Matches reports whether the rule decides a request.
func (r Rule) Matches(want Permission) bool {
	return slices.Contains(r.Actions, want.Action) && r.MatchesObject(want.Kind, want.Name) && r.MatchesLabel(want)
}

// CoversLabel reports whether the rule covers all that a label pattern stands for.
func (r Rule) CoversLabel(pattern string) bool {
	return slices.ContainsFunc(r.Labels, func(have string) bool { return coversLabel(have, pattern) })
}
