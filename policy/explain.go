package policy

import (
	"slices"
	"strings"
	"time"
)

// Reason is one thing that a principal holds that speaks of a question.
type Reason struct {
	Effect  string // EffectAllow or EffectDeny
	Text    string // what it is, for people: "editor over marketing/**"
	Through string // "" for its own, a group's id, or the id of the key's owner
	Binding *Binding
	Role    string // of a key: as ParseRole reads it
	Grant   *Grant // of a key or an operator
	Expires time.Time
}

// Explanation says how a question comes to be answered.
type Explanation struct {
	Decision
	// Reasons are what speaks of it now, denials first. With an owner, a key's own and its owner's must both allow it.
	Reasons []Reason
}

// Reasons are what a principal holds at a time that speaks of a question: each as Rule.Matches says, which the checker goes by as well.
func (p *Principal) Reasons(want Permission, now time.Time) ([]Reason, error) {
	var out []Reason
	add := func(rules []Rule, err error, r Reason) error {
		if err != nil {
			return err
		}
		for _, rule := range rules {
			if !rule.Active(now) || !rule.Matches(want) {
				continue
			}
			r.Effect, r.Expires = EffectAllow, rule.Expires
			if rule.Deny {
				r.Effect = EffectDeny
			}
			out = append(out, r)
			break
		}
		return nil
	}
	holder := func(through string, roles []string, grants []Grant, bindings []Binding) error {
		for _, s := range roles {
			rules, err := expand([]string{s}, nil, nil)
			if err := add(rules, err, Reason{Text: "role " + s, Role: s, Through: through}); err != nil {
				return err
			}
		}
		for _, g := range grants {
			rules, err := expand(nil, []Grant{g}, nil)
			if err := add(rules, err, Reason{Text: "grant", Grant: &g, Through: through}); err != nil {
				return err
			}
		}
		for _, b := range bindings {
			rules, err := b.Rules()
			if err := add(rules, err, Reason{Text: b.Describe(), Binding: &b, Through: through}); err != nil {
				return err
			}
		}
		return nil
	}
	if err := holder("", p.Roles, p.Grants, p.Bindings); err != nil {
		return nil, err
	}
	for _, g := range p.Groups {
		if err := holder(g.ID, g.Roles, g.Grants, g.Bindings); err != nil {
			return nil, err
		}
	}
	if p.Owner != nil {
		theirs, err := p.Owner.Reasons(want, now)
		if err != nil {
			return nil, err
		}
		for _, r := range theirs {
			if r.Through == "" {
				r.Through = p.Owner.ID
			}
			out = append(out, r)
		}
		if !slices.ContainsFunc(theirs, func(r Reason) bool { return r.Effect == EffectAllow }) {
			if until, ok := governs(p.Owner, now); ok {
				out = append(out, Reason{Effect: EffectAllow, Text: "the owner administers the whole project", Through: p.Owner.ID, Expires: until})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Reason) int {
		return strings.Compare(b.Effect, a.Effect) // "deny" comes after "allow"
	})
	return out, nil
}
