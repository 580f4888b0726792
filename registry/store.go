package registry

import (
	"context"

	"github.com/promptgate/promptgate/internal/journal"
)

// Source is what resolving needs: four point reads, each by a key that is unique in its project. Caches decorate it, and every
// implementation runs registrytest.Source. Errors are faults: NotFound (a project), PromptNotFound, VersionNotFound,
// LabelNotFound, RegistryUnavailable (and only that one for an infrastructure fault), ClientClosed.
type Source interface {
	// ProjectByID is a project; resolving needs its default label.
	ProjectByID(ctx context.Context, id string) (Project, error)
	// PromptByHandle finds a prompt by its name, an alias, its id or a foreign id; archived ones too.
	PromptByHandle(ctx context.Context, project, handle string) (Prompt, error)
	// LabelOf is where a label points now. LabelLatest works as well.
	LabelOf(ctx context.Context, project, promptID, label string) (Label, error)
	// VersionOf is one immutable version.
	VersionOf(ctx context.Context, project, promptID string, number int) (Version, error)
}

// Store is the registry's memory. All writes go through journal.Change, so each returns the journal's revision of its change.
type Store interface {
	Source

	ProjectByName(ctx context.Context, name string) (Project, error)
	ListProjects(ctx context.Context, page Page) ([]Project, string, error)
	CreateProject(ctx context.Context, by journal.Origin, p Project) (Project, error)
	// UpdateProject writes p when the stored revision is p.Revision, else PreconditionFailed.
	UpdateProject(ctx context.Context, by journal.Origin, p Project) (Project, error)

	ListPrompts(ctx context.Context, project string, f PromptFilter, page Page) ([]Prompt, string, error)
	// CreatePrompt takes a name that was never used, or fails with Conflict. first may be nil.
	CreatePrompt(ctx context.Context, by journal.Origin, p Prompt, first *Version) (Prompt, error)
	// UpdatePrompt writes description, category, tags, owner, archived, name and aliases when the stored revision is p.Revision.
	UpdatePrompt(ctx context.Context, by journal.Origin, p Prompt) (Prompt, error)
	// CheckUpdate tells whether UpdatePrompt would be refused, by the Gate, a name that is taken or a lost race, and changes nothing.
	CheckUpdate(ctx context.Context, by journal.Origin, p Prompt) error
	// AddVersion numbers v as the next of its prompt (or takes v.Number when it is set and free: imports). An archived prompt takes none
	// (Conflict).
	AddVersion(ctx context.Context, by journal.Origin, v Version) (Version, error)
	ListVersions(ctx context.Context, project, promptID string, page Page) ([]Version, string, error)

	ListLabels(ctx context.Context, project, promptID string) ([]Label, error)
	// MoveLabel sets, moves or (m.To == 0) removes a label by compare-and-set.
	MoveLabel(ctx context.Context, by journal.Origin, m LabelMove) (Label, error)
	LabelHistory(ctx context.Context, project, promptID, label string, page Page) ([]LabelEvent, string, error)
}

// LabelMove is a request to point a label elsewhere.
type LabelMove struct {
	Project  string
	PromptID string
	Label    string
	To       int    // 0 removes the label
	From     *int   // the version it must point at now (0: must not exist); nil: do not compare
	Force    bool   // skip the required-variable rule; Origin.Why must say why
	Proposal string // the proposal that permits the move, for the Gate to judge and consume; "" for none
}

// Page asks for one page of a list. After is the cursor that the page before returned, "" for the first.
type Page struct {
	After string
	Limit int // 1 to 200; 0 means 50
}

// PromptFilter narrows a list of prompts; zero fields do not.
type PromptFilter struct {
	Folder   string // "support" lists support/…
	Tag      string
	Category string
	Query    string // substring of name or description, case folded; LIKE wildcards are plain characters
	Archived bool   // with archived ones
	Behind   string // only names that come after this one
}
