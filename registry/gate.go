package registry

import (
	"context"

	"github.com/promptgate/promptgate/internal/journal"
)

// ChangeKind says what is about to happen to a prompt.
type ChangeKind string

// The kinds of change that a Gate judges.
const (
	ChangeCreate  ChangeKind = "create"  // with or without a first version
	ChangeEdit    ChangeKind = "edit"    // its row: description, tags, aliases, archived, name
	ChangeVersion ChangeKind = "version" // a version is added
	ChangeMove    ChangeKind = "move"    // a label is set, moved or removed
)

// Change is what is about to happen to a prompt. The prompt's row is held until the change is committed, so that what a Gate judged is what
// is committed: nobody renames, archives or labels the prompt in between.
type Change struct {
	Kind   ChangeKind
	Before Prompt    // as it is; without an ID when it is created
	After  Prompt    // as it will be
	Labels []Label   // all of the prompt's, when its name changes: they move along
	Move   LabelMove // of ChangeMove; its From is where the label points
}

// Renames reports whether the prompt gets another name, perhaps in another folder.
func (c Change) Renames() bool { return c.Before.ID != "" && c.Before.Name != c.After.Name }

// Gate judges every change of a prompt, whoever asks for it: rights, approvals, protection. It is asked inside the change's transaction, which
// journal.Tx finds in ctx, under the rows' locks. Its errors refuse the change and reach the caller as they are.
type Gate interface {
	Allow(ctx context.Context, by journal.Origin, c Change) error
}
