package policy

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
)

// Delegate judges whether granter may hand out what a key would hold: nobody grants more than they hold. It is conservative: what it
// cannot show to be covered by a single rule of the granter, it refuses (PermissionDenied, naming what is missing).
//
//   - Every action, on every pattern, under every label that the key would get must be covered by an active rule of the granter's
//     that does not end earlier.
//   - Where one of the granter's denials touches what the key would get, the key must carry that denial too.
//   - A key does not outlive its granter, and a granter bound to networks cannot make a key that works outside them.
//   - The admin of a whole project holds everything in it for this purpose, calls included: admins are who calls are granted by.
//     ActionCreateProject lies outside every project and is handed out only by those who hold it.
//   - The system itself (bootstrap, the command line on the server) is exempt, and nobody else: no request can claim that kind.
func Delegate(granter *Principal, k KeyRecord, now time.Time) error {
	if granter != nil && granter.Kind == KindSystem {
		return nil
	}
	wanted, err := expand(k.Roles, k.Grants, nil)
	if err != nil {
		return err
	}
	d, err := compare(granter, share{k.Project, wanted, k.Expires}, now)
	if err != nil {
		return err
	}
	if err := d.lifetime(granter); err != nil {
		return err
	}
	if err := withinNetworks(granter.Networks, k.Networks); err != nil {
		return err
	}
	return d.refusal("grants")
}

// refusal is what judge found, for whoever grants; nil for nothing.
func (d delegation) refusal(param string) error {
	switch missing, denied := d.judge(); {
	case denied:
		return fault.New(fault.PermissionDenied, "you are denied %s: grant it with the same denial, or leave it out", missing).WithParam(param)
	case missing != "":
		return fault.New(fault.PermissionDenied, "you cannot grant what you do not hold: %s", missing).WithParam(param)
	}
	return nil
}

// DelegateBindings judges whether granter may give somebody these bindings of one project, in force beside the denials among them, by the rules of
// Delegate. A binding that expires later than what granter holds is refused as well.
func DelegateBindings(granter *Principal, project string, bindings []Binding, now time.Time) error {
	if granter != nil && granter.Kind == KindSystem {
		return nil
	}
	wanted, err := expand(nil, nil, bindings)
	if err != nil {
		return err
	}
	d, err := compare(granter, share{project: project, rules: wanted}, now)
	if err != nil {
		return err
	}
	if err := d.lifetimes(granter); err != nil {
		return err
	}
	if len(granter.Networks) > 0 && len(d.wanted) > 0 {
		return fault.New(fault.PermissionDenied, "you are bound to %s, and what you give people works from anywhere: use a key that is not bound",
			strings.Join(granter.Networks, ", "))
	}
	return d.refusal("role")
}

// GovernBindings judges whether manager may change or take away these bindings as they are, by the rules of Govern. A denial is taken away only by
// whoever holds what it denies, free of that denial: otherwise whoever was denied something could have it lifted by a friend.
func GovernBindings(manager *Principal, project string, bindings []Binding, now time.Time) error {
	if manager != nil && manager.Kind == KindSystem {
		return nil
	}
	rules, err := expand(nil, nil, bindings)
	if err != nil {
		return err
	}
	for i := range rules {
		rules[i].Deny = false
	}
	missing, err := lacks(manager, share{project: project, rules: rules}, now)
	if err != nil {
		return err
	}
	if missing != "" {
		return fault.New(fault.PermissionDenied, "this gives what you do not hold (%s): have it changed by somebody who does, such as an admin", missing)
	}
	return nil
}

// DelegateRole judges whether granter may make, change or take away a role of a project: who has one bound gets what it is changed to.
func DelegateRole(granter *Principal, r Role, now time.Time) error {
	if granter != nil && granter.Kind == KindSystem {
		return nil
	}
	missing, err := lacks(granter, share{project: r.Project, rules: r.Rules()}, now)
	if err != nil {
		return err
	}
	if missing != "" {
		return fault.New(fault.PermissionDenied, "a role may give only what you hold everywhere, and you lack %s: have it made or changed by an admin", missing).WithParam("actions")
	}
	return nil
}

// lacks is the first permission of a share that somebody does not hold now, however long either lasts; "" when there is none.
func lacks(who *Principal, s share, now time.Time) (missing string, err error) {
	d, err := compare(who, s, now)
	if err != nil {
		return "", err
	}
	for _, rules := range [][]Rule{d.held, d.wanted} {
		for i := range rules {
			rules[i].Expires = time.Time{}
		}
	}
	missing, _ = d.judge()
	return missing, nil
}

// Govern judges whether manager may change or revoke a key as it is: only one that may do, now, no more than manager may itself, by the
// rules of Delegate. Otherwise whoever manages keys could shut out those above it. PermissionDenied names what is missing.
//
//   - How long either lives and where it may be used from do not count: taking away a leaked key must not wait for somebody whose own
//     lasts as long.
//   - Everybody governs its own key, and the system every key.
func Govern(manager *Principal, k KeyRecord, now time.Time) error {
	if manager != nil && (manager.Kind == KindSystem || manager.Kind == KindKey && manager.ID == k.ID && manager.Project == k.Project) {
		return nil
	}
	wanted, err := expand(k.Roles, k.Grants, nil)
	if err != nil {
		return err
	}
	missing, err := lacks(manager, share{k.Project, wanted, k.Expires}, now)
	if err != nil {
		return err
	}
	if missing != "" {
		return fault.New(fault.PermissionDenied,
			"The key %s may do what yours may not (%s): have it changed or revoked by one that may, such as an admin's", k.ID, missing)
	}
	return nil
}

// share is what is to be given in a project, and until when; zero: for good.
type share struct {
	project string
	rules   []Rule
	until   time.Time
}

// compare gathers the active rules of both sides.
func compare(granter *Principal, s share, now time.Time) (delegation, error) {
	if granter == nil {
		return delegation{}, fault.New(fault.PermissionDenied, "nobody in particular cannot grant anything")
	}
	if granter.Project != s.project {
		return delegation{}, fault.New(fault.NotFound, "there is no such project")
	}
	held, err := granter.Holds(now)
	if err != nil {
		return delegation{}, fault.Wrap(err, fault.Internal, "the granter's own permissions cannot be read")
	}
	return delegation{held: held, wanted: active(s.rules, now), until: s.until}, nil
}

// delegation is one judgement: the active rules of who grants, and of what is to be granted.
type delegation struct {
	held, wanted []Rule
	until        time.Time // when the key ends; zero: never
}

func active(rules []Rule, now time.Time) []Rule {
	return slices.DeleteFunc(rules, func(r Rule) bool { return !r.Active(now) })
}

// lifetimes refuses rules that last longer than their granter does.
func (d delegation) lifetimes(granter *Principal) error {
	if granter.Expires.IsZero() {
		return nil
	}
	for _, r := range d.wanted {
		if !r.Deny && !endsBy(r.Expires, granter.Expires) {
			return fault.New(fault.PermissionDenied, "this cannot outlive the key that grants it, which ends at %s: set expires_at to that time or sooner",
				granter.Expires.UTC().Format(time.RFC3339)).WithParam("expires_at")
		}
	}
	return nil
}

func (d delegation) lifetime(granter *Principal) error {
	if granter.Expires.IsZero() || len(d.wanted) == 0 || endsBy(d.until, granter.Expires) {
		return nil
	}
	return fault.New(fault.PermissionDenied,
		"a key cannot outlive the one that makes or changes it, which ends at %s: set expires_at to that time or sooner, or use a key that lasts longer",
		granter.Expires.UTC().Format(time.RFC3339)).WithParam("expires_at")
}

// endsBy reports whether something that ends at t (zero: never) is over by limit (zero: no limit).
func endsBy(t, limit time.Time) bool { return limit.IsZero() || (!t.IsZero() && !t.After(limit)) }

func withinNetworks(outer, inner []string) error {
	if len(outer) == 0 {
		return nil
	}
	refuse := fault.New(fault.PermissionDenied, "you are bound to %s: name networks inside them", strings.Join(outer, ", ")).WithParam("networks")
	if len(inner) == 0 {
		return refuse
	}
	for _, s := range inner {
		n, err := ParseNetwork(s)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(outer, func(s string) bool {
			o, err := ParseNetwork(s)
			return err == nil && containsPrefix(o, n)
		}) {
			return refuse
		}
	}
	return nil
}

func containsPrefix(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// judge describes the first permission that is wanted and not held, "" when there is none, and whether a denial is the reason.
func (d delegation) judge() (missing string, denied bool) {
	for _, want := range d.wanted {
		if want.Deny {
			continue
		}
		for _, action := range want.Actions {
			for _, label := range want.Labels {
				if !d.holds(want, action, label) {
					return describe(action, want.Kind, want.Pattern, label), false
				}
			}
			if deny, ok := d.forgotten(want, action); ok {
				return describe(action, deny.Kind, deny.Pattern, ""), true
			}
		}
	}
	return "", false
}

// holds reports whether one rule of the granter's covers an action of a wanted rule under one of its labels.
func (d delegation) holds(want Rule, action Action, label string) bool {
	return slices.ContainsFunc(d.held, func(h Rule) bool {
		return !h.Deny && h.coversObject(want) && slices.Contains(h.Actions, action) && endsBy(d.end(want), h.Expires) && h.CoversLabel(label)
	})
}

// forgotten finds a denial of the granter's that touches what is wanted and that the key would not carry.
func (d delegation) forgotten(want Rule, action Action) (Rule, bool) {
	for _, h := range d.held {
		if !h.Deny || !slices.Contains(h.Actions, action) || !h.overlaps(want) {
			continue
		}
		if !slices.ContainsFunc(d.wanted, func(w Rule) bool { return d.carries(w, h, action) }) {
			return h, true
		}
	}
	return Rule{}, false
}

// carries reports whether a rule of the key denies at least what the granter's denial does, for as long.
func (d delegation) carries(w, denial Rule, action Action) bool {
	if !w.Deny || !slices.Contains(w.Actions, action) || !w.coversObject(denial) {
		return false
	}
	if !endsBy(denial.Expires, w.Expires) && !endsBy(d.until, w.Expires) {
		return false
	}
	for _, label := range denial.Labels {
		if !w.CoversLabel(label) {
			return false
		}
	}
	return true
}

// end is when a wanted rule is over: with itself or with its key, whichever comes first.
func (d delegation) end(want Rule) time.Time {
	if endsBy(want.Expires, d.until) {
		return want.Expires
	}
	return d.until
}

// coversObject reports whether r speaks of every object that o speaks of.
func (r Rule) coversObject(o Rule) bool {
	if r.Kind != o.Kind {
		return false
	}
	switch r.Kind {
	case ObjectPrompt:
		return coversPrompt(r.Pattern, o.Pattern)
	case ObjectModel:
		return coversModel(r.Pattern, o.Pattern)
	}
	return r.Kind == ObjectSystem
}

// overlaps reports whether two rules speak of a common object. Labels are left out on purpose: a denial under one label also answers
// questions that name none, so a grant under other labels does not go round it.
func (r Rule) overlaps(o Rule) bool {
	if r.Kind != o.Kind {
		return false
	}
	switch r.Kind {
	case ObjectPrompt:
		return overlapsPrompt(r.Pattern, o.Pattern)
	case ObjectModel:
		return overlapsModel(r.Pattern, o.Pattern)
	}
	return true
}

// Describe names a permission for people: "call on support/triage@staging".
func (want Permission) Describe() string {
	return describe(want.Action, want.Kind, want.Name, want.Label)
}

func describe(action Action, kind, name, label string) string {
	if label == anyLabel || label == "*" {
		label = ""
	}
	switch {
	case kind == ObjectSystem:
		return string(action) + " on the project"
	case kind == ObjectModel && label == LabelModel:
		return string(action) + " on model " + name + " without a prompt"
	case kind == ObjectModel:
		return string(action) + " on model " + name
	case label == "":
		return string(action) + " on " + name
	case strings.HasPrefix(label, "@"):
		return string(action) + " on " + name + label
	}
	return string(action) + " on " + name + "@" + label
}
