package policy

import (
	"slices"
	"time"
)

// Holds is all that a principal may do or hand out at a time: its rules, and for an admin of the whole project every action in it. A key that has an
// owner holds no more than its owner does.
func (p *Principal) Holds(now time.Time) ([]Rule, error) {
	rules, err := p.Rules()
	if err != nil {
		return nil, err
	}
	rules = active(rules, now)
	rules = append(rules, p.AdminRules(now)...)
	if p.Owner == nil {
		return rules, nil
	}
	owned, err := p.Owner.Holds(now)
	if err != nil || p.Inherits {
		return owned, err
	}
	return common(rules, owned), nil
}

// AdminRules are every action in the project, for one who administers the whole of it; nil for others. It is what such a principal may hand out,
// beside what it holds itself.
func (p *Principal) AdminRules(now time.Time) []Rule {
	if until, ok := governsAlone(p, now); ok {
		return projectRules(until)
	}
	return nil
}

// common is what two sets of rules both allow, under the denials of both. Where two patterns of models overlap and neither holds the other, nothing is
// common: it is asked when something is handed out, and there less is safe.
func common(a, b []Rule) []Rule {
	var out []Rule
	for _, r := range slices.Concat(a, b) {
		if r.Deny {
			out = append(out, r)
		}
	}
	for _, x := range a {
		for _, y := range b {
			if x.Deny || y.Deny || x.Kind != y.Kind {
				continue
			}
			both := x
			switch {
			case y.coversObject(x):
			case x.coversObject(y):
				both.Pattern = y.Pattern
			default:
				continue
			}
			both.Actions = slices.DeleteFunc(slices.Clone(x.Actions), func(act Action) bool { return !slices.Contains(y.Actions, act) })
			both.Labels = append(covered(x.Labels, y), covered(y.Labels, x)...)
			if !endsBy(x.Expires, y.Expires) {
				both.Expires = y.Expires
			}
			if len(both.Actions) > 0 && len(both.Labels) > 0 {
				out = append(out, both)
			}
		}
	}
	return out
}

// covered are the labels that a rule covers.
func covered(labels []string, by Rule) []string {
	return slices.DeleteFunc(slices.Clone(labels), func(l string) bool { return !by.CoversLabel(l) })
}

// governs reports whether the principal is admin of its whole project, and until when: the zero time for good.
func governs(p *Principal, now time.Time) (until time.Time, ok bool) {
	if p.Owner == nil {
		return governsAlone(p, now)
	}
	until, ok = governs(p.Owner, now)
	if !ok || p.Inherits {
		return until, ok
	}
	alone, ok := governsAlone(p, now)
	if !endsBy(until, alone) {
		until = alone
	}
	return until, ok
}

// governsAlone is governs without regard to whose key it is.
func governsAlone(p *Principal, now time.Time) (until time.Time, ok bool) {
	if wholeAdmin(p.Roles) || slices.ContainsFunc(p.Groups, func(g Group) bool { return wholeAdmin(g.Roles) }) {
		return time.Time{}, true
	}
	bindings := p.Bindings
	for _, g := range p.Groups {
		bindings = slices.Concat(bindings, g.Bindings)
	}
	for _, b := range bindings {
		switch {
		case !b.Administers(now):
		case b.Expires.IsZero():
			return time.Time{}, true
		case b.Expires.After(until):
			until, ok = b.Expires, true
		}
	}
	return until, ok
}

// wholeAdmin reports whether admin of the whole project is among roles.
func wholeAdmin(roles []string) bool {
	return slices.ContainsFunc(roles, func(s string) bool {
		b, err := ParseRole(s)
		return err == nil && b == RoleBinding{Role: RoleAdmin, Pattern: "**"}
	})
}

func projectRules(until time.Time) []Rule {
	all := Rule{Actions: projectActions(), Labels: []string{anyLabel}, Expires: until}
	rules := make([]Rule, 0, 3)
	for _, object := range [][2]string{{ObjectPrompt, "**"}, {ObjectModel, "*"}, {ObjectSystem, ""}} {
		all.Kind, all.Pattern = object[0], object[1]
		rules = append(rules, all)
	}
	return rules
}
