package registry

import (
	"context"
	"crypto/rand"
	"io"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry/template"
)

// Service is the only writer of the registry and the only mover of labels. It checks every rule that holds between prompts,
// versions and labels, and leaves memory to the Store. Who may do what is the Gate's to judge, which the Store asks inside each change.
//
// Its errors are faults: InvalidRequest (Param names the field), InvalidTemplate, Conflict, PreconditionFailed, NotFound,
// PromptNotFound, VersionNotFound, LabelNotFound, RegistryUnavailable, StorageFull, and whatever the Gate returns.
type Service struct {
	store Store
	clock func() time.Time
	rand  io.Reader
}

// ServiceOptions are a Service's surroundings; the zero value is fit for production.
type ServiceOptions struct {
	Clock  func() time.Time // of ids; time.Now when nil
	Random io.Reader        // of ids; crypto/rand when nil
}

// NewService returns a Service over a store.
func NewService(store Store, o ServiceOptions) (*Service, error) {
	if store == nil {
		return nil, fault.New(fault.Internal, "registry: a service needs a store")
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	return &Service{store: store, clock: o.Clock, rand: o.Random}, nil
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
	Insist  bool // as in VersionInput

	AllowReference func(ctx context.Context, p Prompt, label string) error // as in VersionInput
}

// PromptUpdate changes a prompt's row; nil fields stay. A new Name keeps the id, and the old name stays a handle of this prompt: it
// joins the aliases, answers calls as before, and no other prompt can ever take it. An alias that is left out of Aliases stops
// answering, but stays taken as well.
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
	Insist   bool // what template.Misspelt doubts is meant

	// AllowReference is asked for each prompt that the templates include directly: including a text shows it. nil allows all. A
	// PromptNotFound looks to the author as if there were no such prompt.
	AllowReference func(ctx context.Context, p Prompt, label string) error
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
