package policy

import (
	"slices"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
)

// RoleBinding is a role over part of a project. It is written "editor" for the whole project or "editor:marketing/**".
type RoleBinding struct {
	Role    string
	Pattern string // of prompts; "**" is the whole project, with what belongs to no prompt (keys, providers, the journal)
}

// ParseRole reads a binding as principals and keys hold it.
func ParseRole(s string) (RoleBinding, error) {
	role, pattern, scoped := strings.Cut(s, ":")
	if !scoped {
		pattern = "**"
	}
	if RoleActions(role) == nil {
		return RoleBinding{}, fault.New(fault.InvalidRequest, "%q is no role: use %s, %s, %s or %s, alone or with a folder as in editor:marketing/**",
			s, RoleAdmin, RoleEditor, RoleTester, RoleViewer)
	}
	if err := validPromptPattern(pattern); err != nil {
		return RoleBinding{}, err
	}
	return RoleBinding{Role: role, Pattern: pattern}, nil
}

// String is the form that ParseRole reads.
func (b RoleBinding) String() string {
	if b.Pattern == "**" {
		return b.Role
	}
	return b.Role + ":" + b.Pattern
}

// role is a named set of actions on top of another's.
type role struct {
	inherits string // "" for none
	actions  []Action
}

// roleOf is a built-in role. No role may call: calling is granted by prompt and label. Editors move labels; whether a label is protected is the
// Gate's question, not the role's.
func roleOf(name string) (r role, ok bool) {
	switch name {
	case RoleViewer:
		return role{"", []Action{ActionRead, ActionComment, ActionFeedback, ActionPropose}}, true
	case RoleTester:
		return role{RoleViewer, []Action{ActionRunDraft}}, true
	case RoleEditor:
		return role{RoleTester, []Action{ActionWrite, ActionMoveLabel, ActionReview}}, true
	case RoleAdmin:
		return role{RoleEditor, []Action{ActionProtect, ActionDelete, ActionManageKeys, ActionManageUsers, ActionManageProject, ActionAudit}}, true
	}
	return role{}, false
}

// RoleActions is all that a built-in role may do, inherited actions first; nil for no such role.
func RoleActions(name string) []Action {
	r, ok := roleOf(name)
	if !ok {
		return nil
	}
	return append(RoleActions(r.inherits), r.actions...)
}

// Inherits is the binding whose actions this one has as well, over the same prompts.
func (b RoleBinding) Inherits() (RoleBinding, bool) {
	r, _ := roleOf(b.Role)
	return RoleBinding{Role: r.inherits, Pattern: b.Pattern}, r.inherits != ""
}

// Rules is what the role itself may do there, without what it inherits.
func (b RoleBinding) Rules() []Rule {
	r, _ := roleOf(b.Role)
	return b.rules(r.actions)
}

func (b RoleBinding) rules(actions []Action) []Rule {
	rule := Rule{Actions: actions, Kind: ObjectPrompt, Pattern: b.Pattern, Labels: []string{anyLabel}}
	if b.Pattern != "**" {
		return []Rule{rule}
	}
	project := rule
	project.Kind, project.Pattern = ObjectSystem, ""
	return []Rule{rule, project}
}

// projectActions is every action that lives inside a project: all but an operator's.
func projectActions() []Action { return append(RoleActions(RoleAdmin), ActionCall) }

// Actions is every action that there is.
func Actions() []Action { return append(projectActions(), ActionCreateProject, ActionManageAccounts) }

// projectWide reports whether an action can concern what belongs to no prompt.
func projectWide(a Action) bool {
	switch a {
	case ActionRead, ActionDelete, ActionManageKeys, ActionManageUsers, ActionManageProject, ActionAudit, ActionCreateProject, ActionManageAccounts:
		return true
	}
	return false
}

func validAction(a Action) bool {
	return a == ActionCreateProject || a == ActionManageAccounts || slices.Contains(projectActions(), a)
}
