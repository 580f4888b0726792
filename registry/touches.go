package registry

import (
	"strconv"
	"strings"

	"github.com/promptgate/promptgate/internal/journal"
)

// The kinds of pointer that a change of the registry makes stale. A store writes them, caches act on them; nobody else spells
// them out.
const (
	TouchProject = "project" // key: the project's id
	TouchHandle  = "handle"  // key: a name, alias or id, of a prompt that is new, changed or gone
	TouchPrompt  = "prompt"  // key: the prompt's id; for those who keep something by prompt. Its handles are touched as well
	TouchLabel   = "label"   // key: prompt id and label; LabelLatest too, when a version was added
	TouchVersion = "version" // key: prompt id and number; only to end a remembered absence, for versions never change
)

// touchSep parts a touch's key. No valid id, name or label holds it.
const touchSep = "\x00"

// ProjectTouch says that a project's row changed.
func ProjectTouch(id string) journal.Touch {
	return journal.Touch{Kind: TouchProject, Project: id, Key: id}
}

// HandleTouch says that what a handle stands for was added or changed.
func HandleTouch(project, handle string) journal.Touch {
	return journal.Touch{Kind: TouchHandle, Project: project, Key: handle}
}

// PromptTouch says that a prompt's row changed.
func PromptTouch(project, promptID string) journal.Touch {
	return journal.Touch{Kind: TouchPrompt, Project: project, Key: promptID}
}

// LabelTouch says that a label was set, moved or removed.
func LabelTouch(project, promptID, label string) journal.Touch {
	return journal.Touch{Kind: TouchLabel, Project: project, Key: promptID + touchSep + label}
}

// VersionTouch says that a version was added.
func VersionTouch(project, promptID string, number int) journal.Touch {
	return journal.Touch{Kind: TouchVersion, Project: project, Key: promptID + touchSep + strconv.Itoa(number)}
}

// ParseLabelTouch is the reverse of LabelTouch; ok is false for a touch of another shape.
func ParseLabelTouch(t journal.Touch) (promptID, label string, ok bool) {
	if t.Kind != TouchLabel {
		return "", "", false
	}
	return strings.Cut(t.Key, touchSep)
}

// ParseVersionTouch is the reverse of VersionTouch; ok is false for a touch of another shape.
func ParseVersionTouch(t journal.Touch) (promptID string, number int, ok bool) {
	if t.Kind != TouchVersion {
		return "", 0, false
	}
	promptID, digits, ok := strings.Cut(t.Key, touchSep)
	if !ok {
		return "", 0, false
	}
	number, err := strconv.Atoi(digits)
	return promptID, number, err == nil
}
