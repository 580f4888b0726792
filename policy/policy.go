// Package policy says who may do what: principals, permissions, and the one checker that the data plane and the management
// API both ask.
package policy

import (
	"context"
	"net/netip"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/promptgate/promptgate/internal/fault"
)

// Action is what somebody wants to do.
type Action string

// The actions. A role is a set of them over a pattern of prompts and labels.
const (
	ActionRead          Action = "read"     // see prompts, versions, text, figures; export, render
	ActionCall          Action = "call"     // run a prompt by a label; label "@version" for a version by number, "@model" for a call without a prompt
	ActionFeedback      Action = "feedback" // score a call
	ActionComment       Action = "comment"
	ActionRunDraft      Action = "run_draft" // sandbox
	ActionPropose       Action = "propose"
	ActionWrite         Action = "write"      // create prompts and versions, tag, archive
	ActionMoveLabel     Action = "move_label" // per label
	ActionReview        Action = "review"
	ActionProtect       Action = "protect"
	ActionDelete        Action = "delete"
	ActionManageKeys    Action = "manage_keys"
	ActionManageUsers   Action = "manage_users"   // users, roles, groups
	ActionManageProject Action = "manage_project" // providers, budgets, settings, schedules of others
	ActionAudit         Action = "audit"          // journal, backup
	// These two lie outside every project: operators hold them.
	ActionCreateProject  Action = "create_project"
	ActionManageAccounts Action = "manage_accounts" // users, groups, sign-on, of the whole installation
)

// LabelVersion is the label that a call by version number needs; no label pattern implies it, "*" neither.
const LabelVersion = "@version"

// LabelAny in a request's Label means that the action knows no label. Calling a prompt and moving a label do know one: asked without,
// they are allowed to those who may do it under every label.
const LabelAny = ""

// EveryModel as a model's name asks for a permission over every model: allowed by the pattern "*" alone, and to nobody who is denied some model.
const EveryModel = "*"

// Object kinds that a permission can name beside prompts.
const (
	ObjectPrompt = "prompt" // Name is a prompt's current name
	ObjectModel  = "model"  // Name is a model or alias: calls without a prompt and models that a caller chooses itself
	ObjectSystem = "system" // Name is "": project-wide things such as keys, providers, the journal
)

// Permission is one question: may the principal do Action on this object, under this label?
// The project is the principal's own; there is no way to name another.
type Permission struct {
	Action Action
	Kind   string // ObjectPrompt, ObjectModel, ObjectSystem
	Name   string
	Label  string
}

// Decision is the answer. Denied decisions say whether the principal holds any grant on that object, which is what
// separates a 403 from a 404.
type Decision struct {
	Allowed bool
	Holds   bool      // the principal holds some grant on this object
	Missing string    // the permission to ask an admin for, e.g. "call on support/triage@staging"
	Expires time.Time // the decision is void from then on; zero: until the policy changes
}

// Principal is who a request comes from.
type Principal struct {
	ID       string // "key_…", "usr_…"
	Kind     string // "key", "user", "system"
	Name     string
	Project  string   // the only project it can touch
	Roles    []string // "editor", or over a folder "editor:marketing/**"; see ParseRole
	Grants   []Grant
	Bindings []Binding // of a user or a service account, in Project
	Groups   []Group
	Networks []string  // CIDRs that it may come from; none means anywhere
	Expires  time.Time // zero: never
	// Owner is whose key this is, as it is now: the key may do what both may. nil: the project's own key, or no key.
	Owner *Principal
	// Inherits says that a key may do all that its owner may, without roles and grants of its own.
	Inherits bool
	Revision int64 // highest journal revision that it, its owner and its groups were read at; part of the decision cache's key

	networks []netip.Prefix // Networks, parsed by Compile
}

// Group is one that a principal belongs to, with what its members may do. Its denials count as the principal's own do.
type Group struct {
	ID       string // "grp_…"
	Name     string
	Roles    []string
	Grants   []Grant
	Bindings []Binding
}

// Compile parses what is asked of a principal on every request. Whoever builds principals calls it once, before sharing them.
func (p *Principal) Compile() error {
	nets := make([]netip.Prefix, 0, len(p.Networks))
	for _, s := range p.Networks {
		n, err := ParseNetwork(s)
		if err != nil {
			return err
		}
		nets = append(nets, n)
	}
	p.networks = nets
	return nil
}

// AllowsAddr reports whether the principal may come from this address: always without Networks, else from inside one of them.
// An IPv4 address mapped into IPv6 counts as the IPv4 address. A list that was never compiled or cannot be read allows nobody.
func (p *Principal) AllowsAddr(addr netip.Addr) bool {
	if len(p.Networks) == 0 {
		return true
	}
	addr = addr.Unmap().WithZone("")
	for _, n := range p.networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// Grant allows or denies actions by patterns. Prompt patterns are exact, "folder/*" (direct children) or "folder/**" (any depth);
// label patterns are exact or "*" (any label, never @version and never latest: these two only where they are written out).
// Deny beats allow; a deny without labels, or with "*", covers the reserved labels too. A grant with no prompts and no models, or
// with the prompt pattern "**", speaks of the project as a whole (ObjectSystem).
type Grant struct {
	Effect  string    `json:"effect,omitempty"` // "allow" (default) or "deny"
	Actions []Action  `json:"actions"`
	Prompts []string  `json:"prompts,omitempty"` // patterns; none means no prompt
	Labels  []string  `json:"labels,omitempty"`  // none means "*"
	Models  []string  `json:"models,omitempty"`  // patterns with "*"; none means: models that prompts name, no others
	Expires time.Time `json:"expires,omitzero"`
}

// UnmarshalJSONFrom reads a grant that somebody sends. Without it, a time of expiry of year 1 would mean none.
func (g *Grant) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	type plain Grant
	in := struct {
		*plain
		Expires *time.Time `json:"expires"`
	}{plain: (*plain)(g)}
	if err := json.UnmarshalDecode(dec, &in); err != nil || in.Expires == nil {
		return err
	}
	g.Expires = *in.Expires
	return ValidExpiry(g.Expires, "grants")
}

// ValidExpiry refuses (InvalidRequest, naming param) a time of expiry that no answer could spell, or that would stand for none.
func ValidExpiry(t time.Time, param string) error {
	if y := t.UTC().Year(); y < 0 || y > 9999 {
		return fault.New(fault.InvalidRequest, "The time of expiry is past the year 9999: choose a sooner one.").WithParam(param)
	}
	if t.IsZero() { // a program sends it that has not set its own
		return fault.New(fault.InvalidRequest, "The time of expiry is year 1: choose a later one, or leave it out.").WithParam(param)
	}
	return nil
}

// The built-in roles.
const (
	RoleAdmin  = "admin"
	RoleEditor = "editor"
	RoleViewer = "viewer"
	RoleTester = "tester"
	// RoleOperator is no role of a project: it is what operators of the installation hold.
	RoleOperator = "operator"
)

// OperatorGrant is what an operator holds, outside every project.
func OperatorGrant() Grant {
	return Grant{Actions: []Action{ActionCreateProject, ActionManageAccounts}}
}

// Checker decides. It never fails open: an error (RegistryUnavailable) is not a permission, and not a refusal either.
type Checker interface {
	Check(ctx context.Context, p *Principal, want Permission) (Decision, error)
}

type hypothetical struct{}

// Suppose is a context for questions about what could be done, by whoever asks or by others: what would allow it is not used by the answer.
func Suppose(ctx context.Context) context.Context {
	return context.WithValue(ctx, hypothetical{}, true)
}

// Hypothetical reports whether a context is one of Suppose.
func Hypothetical(ctx context.Context) bool { return ctx.Value(hypothetical{}) != nil }

// Authenticator turns a credential into a principal. Errors are faults: InvalidAPIKey only when the key was really looked up and is
// malformed, unknown, expired or revoked; RegistryUnavailable when that could not be found out.
type Authenticator interface {
	Authenticate(ctx context.Context, credential string) (*Principal, error)
}
