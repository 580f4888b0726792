package registry

import (
	"context"
	"crypto/rand"
	"io"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/registry/template"
)

// Service is the only writer of the registry and the only mover of labels. It checks every rule that holds between prompts,
// versions and labels, asks the Gate before a label moves, and leaves memory to the Store. Who may do what is judged before:
// the Service trusts that its caller was authorized for the project and the prompt it names.
//
// Its errors are faults: InvalidRequest (Param names the field), InvalidTemplate, Conflict, PreconditionFailed, NotFound,
// PromptNotFound, VersionNotFound, LabelNotFound, RegistryUnavailable, StorageFull, and whatever the Gate returns.
type Service struct {
	store Store
	gate  Gate
	clock func() time.Time
	rand  io.Reader
}

// ServiceOptions are a Service's surroundings; the zero value is fit for production.
type ServiceOptions struct {
	Clock  func() time.Time // of ids; time.Now when nil
	Random io.Reader        // of ids; crypto/rand when nil
}

// NewService returns a Service over a store. A nil gate allows every move that the registry's own rules allow.
func NewService(store Store, gate Gate, o ServiceOptions) (*Service, error) {
	if store == nil {
		return nil, fault.New(fault.Internal, "registry: a service needs a store")
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	return &Service{store: store, gate: gate, clock: o.Clock, rand: o.Random}, nil
}

// AnyRevision in an update's Revision means "whatever it is now": an update without If-Match. 0 is refused, so that a
// forgotten precondition is an error instead of a lost update.
const AnyRevision int64 = -1

// ProjectInput is a project to create.
type ProjectInput struct {
	Name         string
	Description  string
	DefaultLabel string // "" means DefaultLabel ("production")
}

// ProjectUpdate changes a project; nil fields stay.
type ProjectUpdate struct {
	ID           string
	Revision     int64 // the Project.Revision that was read (If-Match), or AnyRevision
	Name         *string
	Description  *string
	DefaultLabel *string
}

// PromptInput is a prompt to create.
type PromptInput struct {
	Project     string
	Name        string
	Kind        Kind // "" means KindChat
	Description string
	Category    string
	Tags        []string
	Owner       string
	Aliases     []string
	First       *FirstVersion // its version 1, in the same transaction; nil for none yet
}

// FirstVersion is what a prompt is created with.
type FirstVersion struct {
	Content template.Content
	Note    string
}

// PromptUpdate changes a prompt's row; nil fields stay. A new Name keeps the id, and the old name stays a handle of this prompt: it
// answers calls as before and no other prompt can ever take it. An alias that is left out of Aliases stops answering, but stays
// taken as well.
type PromptUpdate struct {
	Project     string
	ID          string
	Revision    int64 // the Prompt.Revision that was read (If-Match), or AnyRevision
	Name        *string
	Description *string
	Category    *string
	Tags        *[]string
	Owner       *string
	Aliases     *[]string
	Archived    *bool
}

// VersionInput is a version to save.
type VersionInput struct {
	Project  string
	PromptID string
	Content  template.Content // References are ignored and computed anew
	Note     string
	Parent   int  // the version it was made from; 0 means the latest
	Latest   *int // the latest version that the author saw: another is a Conflict; nil: do not compare
	Number   int  // 0 takes the next; an import may ask for a free one
}

// Saved is the outcome of SaveVersion.
type Saved struct {
	Version   Version
	Unchanged bool // nothing was saved: Version is the latest, which says the same
}

// Checked is what SaveVersion would save.
type Checked struct {
	Content template.Content // variables inferred, references pinned
	Digest  string
}

// LabelRef names one label of one prompt.
type LabelRef struct {
	Project  string
	PromptID string
	Label    string
}

// RollbackInput asks to put a label back where it pointed before its last move.
type RollbackInput struct {
	LabelRef
	From  *int // the version it must point at now; nil: do not compare
	Force bool // as in LabelMove
}

// Project finds a project by its id or its name.
func (s *Service) Project(ctx context.Context, idOrName string) (Project, error) {
	return Project{}, errUnwritten
}

// Projects lists projects by name, and the cursor of the next page ("" when there is none).
func (s *Service) Projects(ctx context.Context, page Page) ([]Project, string, error) {
	return nil, "", errUnwritten
}

// CreateProject makes a project; its name must be free.
func (s *Service) CreateProject(ctx context.Context, by journal.Origin, in ProjectInput) (Project, error) {
	return Project{}, errUnwritten
}

// UpdateProject changes a project.
func (s *Service) UpdateProject(ctx context.Context, by journal.Origin, u ProjectUpdate) (Project, error) {
	return Project{}, errUnwritten
}

// Prompt finds a prompt by any handle: name, alias, id; archived ones too.
func (s *Service) Prompt(ctx context.Context, project, handle string) (Prompt, error) {
	return Prompt{}, errUnwritten
}

// Prompts lists prompts by name, and the cursor of the next page ("" when there is none).
func (s *Service) Prompts(ctx context.Context, project string, f PromptFilter, page Page) ([]Prompt, string, error) {
	return nil, "", errUnwritten
}

// CreatePrompt makes a prompt, with its first version when one is given. Name and aliases must never have been used.
func (s *Service) CreatePrompt(ctx context.Context, by journal.Origin, in PromptInput) (Prompt, error) {
	return Prompt{}, errUnwritten
}

// UpdatePrompt changes, renames, archives or restores a prompt.
func (s *Service) UpdatePrompt(ctx context.Context, by journal.Origin, u PromptUpdate) (Prompt, error) {
	return Prompt{}, errUnwritten
}

// Check tells what SaveVersion would save, or why it would refuse, and changes nothing.
func (s *Service) Check(ctx context.Context, in VersionInput) (Checked, error) {
	return Checked{}, errUnwritten
}

// SaveVersion checks and saves a version: templates parse, variables are inferred where not declared, references are pinned,
// cycles and a depth over MaxReferenceDepth refused. Content equal to the latest version's is not saved again.
func (s *Service) SaveVersion(ctx context.Context, by journal.Origin, in VersionInput) (Saved, error) {
	return Saved{}, errUnwritten
}

// Version is one version.
func (s *Service) Version(ctx context.Context, project, promptID string, number int) (Version, error) {
	return Version{}, errUnwritten
}

// Versions lists versions, newest first, and the cursor of the next page.
func (s *Service) Versions(ctx context.Context, project, promptID string, page Page) ([]Version, string, error) {
	return nil, "", errUnwritten
}

// Diff compares two versions of a prompt.
func (s *Service) Diff(ctx context.Context, project, promptID string, from, to int) (Diff, error) {
	return Diff{}, errUnwritten
}

// Labels lists a prompt's labels by name, without the implicit LabelLatest.
func (s *Service) Labels(ctx context.Context, project, promptID string) ([]Label, error) {
	return nil, errUnwritten
}

// Label is where one label points now; LabelLatest works as well.
func (s *Service) Label(ctx context.Context, ref LabelRef) (Label, error) {
	return Label{}, errUnwritten
}

// MoveLabel sets or moves a label (m.To ≥ 1), or removes it (m.To == 0). A Conflict names the version it points at now. The move is
// refused when the new target requires a variable without default that the old target did not, unless m.Force and by.Why say
// otherwise; and when the Gate refuses.
func (s *Service) MoveLabel(ctx context.Context, by journal.Origin, m LabelMove) (Label, error) {
	return Label{}, errUnwritten
}

// LabelHistory lists the moves of one label ("": of all labels of the prompt), newest first, and the cursor of the next page.
func (s *Service) LabelHistory(ctx context.Context, ref LabelRef, page Page) ([]LabelEvent, string, error) {
	return nil, "", errUnwritten
}

// Rollback moves a label back to where it pointed before its last move. A second Rollback undoes the first.
func (s *Service) Rollback(ctx context.Context, by journal.Origin, in RollbackInput) (Label, error) {
	return Label{}, errUnwritten
}

var errUnwritten = fault.New(fault.NotImplemented, "not written yet")
