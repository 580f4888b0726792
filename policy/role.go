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

// RoleActions is what a built-in role may do, nil for no such role. No role may call: calling is granted by prompt and label.
// Editors move labels; whether a label is protected is the Gate's question, not the role's.
func RoleActions(role string) []Action {
	viewer := []Action{ActionRead, ActionComment, ActionFeedback, ActionPropose}
	switch role {
	case RoleViewer:
		return viewer
	case RoleTester:
		return append(viewer, ActionRunDraft)
	case RoleEditor:
		return append(viewer, ActionRunDraft, ActionWrite, ActionMoveLabel, ActionReview)
	case RoleAdmin:
		return append(viewer, ActionRunDraft, ActionWrite, ActionMoveLabel, ActionReview, ActionProtect, ActionDelete,
			ActionManageKeys, ActionManageUsers, ActionManageProject, ActionAudit)
	}
	return nil
}

// projectActions is every action that lives inside a project: all but ActionCreateProject.
func projectActions() []Action { return append(RoleActions(RoleAdmin), ActionCall) }

// projectWide reports whether an action can concern what belongs to no prompt.
func projectWide(a Action) bool {
	switch a {
	case ActionRead, ActionDelete, ActionManageKeys, ActionManageUsers, ActionManageProject, ActionAudit, ActionCreateProject:
		return true
	}
	return false
}

func validAction(a Action) bool {
	return a == ActionCreateProject || slices.Contains(projectActions(), a)
}
