package metrics

import (
	"context"
	"time"
)

// CallFilter selects calls; zero fields select all.
type CallFilter struct {
	PromptID string
	Prompts  []string // of any of these ids, "" being calls without a prompt; reads no other prompt's calls
	Version  int
	Label    string
	Outcome  Outcome
	Since    time.Time // by start, inclusive
	Until    time.Time // by start, exclusive
	Behind   Position  // only what comes after this place in the list
}

// Position is a call's place in a list of calls; the zero value is none.
type Position struct {
	Start time.Time
	ID    string
}

// Page asks for a part of a list. After is what the page before answered as next; "" starts.
type Page struct {
	Limit int // 1 to 500; 0 means 50
	After string
}

// Dimension is something that figures are kept by, and can be grouped by.
type Dimension string

// The dimensions.
const (
	ByPrompt   Dimension = "prompt"
	ByVersion  Dimension = "version" // with ByPrompt only: numbers of versions say nothing without their prompt
	ByLabel    Dimension = "label"
	ByVariant  Dimension = "variant"
	ByModel    Dimension = "model"
	ByProvider Dimension = "provider"
	ByKey      Dimension = "key"
	ByEndpoint Dimension = "endpoint"
	ByPurpose  Dimension = "purpose"
)

// Other stands in a dimension for all values that were not kept apart: each project has a bounded number of rows of figures a minute. It is no
// name that anything of ours can have.
const Other = "(other)"

// StatsQuery asks for figures. They are kept by the minute: Since is rounded down and Until up to one.
type StatsQuery struct {
	PromptID string      // "" for all of the project, those without a prompt included
	Purpose  Purpose     // "" for all
	Group    []Dimension // each once, at least one
	Since    time.Time   // by a call's start, inclusive; zero for ever
	Until    time.Time   // exclusive; zero for ever
}

// Group names what a Stats stands for. The dimensions that were not grouped by are zero.
type Group struct {
	PromptID string
	Version  int
	Label    string
	Variant  string
	Provider string
	Model    string
	Key      string
	Endpoint string
	Purpose  Purpose
}

// Stats are the figures of one group.
type Stats struct {
	Group
	PromptName string // the newest; "" unless grouped by prompt

	Calls    int64
	Errors   int64 // neither ok, nor refused by us, nor cancelled by the caller
	Outcomes map[Outcome]int64

	Latency, FirstToken, Overhead Quantiles

	Tokens     Tokens // sums; Reported is false when no call reported any
	CostMicros *int64 // of the priced calls; nil when none was priced
	Unpriced   int64  // billable calls whose cost is unknown: CostMicros lacks them

	Feedback []FeedbackSummary // by name
}

// Quantiles of a duration, within 2 %. All are zero when nothing was measured.
type Quantiles struct {
	Count         int64
	P50, P95, P99 time.Duration
}

// FeedbackSummary sums up the scores of one name and kind.
type FeedbackSummary struct {
	Name       string
	Kind       FeedbackKind
	Count      int64
	Mean       *float64         // of numbers; of booleans the share that is true; nil for categories
	Categories map[string]int64 // nil unless Kind is KindCategory
}

// FeedbackKind is the type of a score's value.
type FeedbackKind string

// The kinds.
const (
	KindBool     FeedbackKind = "boolean"
	KindNumber   FeedbackKind = "number"
	KindCategory FeedbackKind = "category"
)

// Kind is the type of f's value, "" when it has none.
func (f *Feedback) Kind() FeedbackKind {
	switch {
	case f.Bool != nil:
		return KindBool
	case f.Number != nil:
		return KindNumber
	case f.Category != "":
		return KindCategory
	}
	return ""
}

// FeedbackFilter selects feedback; zero fields select all.
type FeedbackFilter struct {
	CallID   string
	PromptID string
	Version  int
	Name     string
	Since    time.Time // inclusive
	Until    time.Time // exclusive
}

// Reader answers questions about what was recorded, some moments after it was. Everything is confined to one project: what is
// another's does not exist. Errors: RegistryUnavailable when the database cannot be reached, InvalidRequest for a bad page.
type Reader interface {
	// ListCalls lists calls, newest first. next is "" on the last page.
	ListCalls(ctx context.Context, project string, f CallFilter, p Page) (calls []Call, next string, err error)
	// Call finds a call, or what is known of one that runs; the fault is CallNotFound.
	Call(ctx context.Context, project, id string) (*Call, error)
	// FindByCompletionID finds the call that was answered with the provider's id; the fault is CallNotFound, or Conflict when several were. It knows the calls that
	// this process recorded a moment ago as well.
	FindByCompletionID(ctx context.Context, project, completionID string) (callID string, err error)
	// Stats sums up, ordered by the group's name (versions newest first).
	Stats(ctx context.Context, project string, q StatsQuery) ([]Stats, error)
	// LastCalls is the minute of the last call of each of some callers of a project, by their ids; who made none is left out. In a minute in which a project
	// had more combinations than are kept apart, calls may be nobody's (Other).
	LastCalls(ctx context.Context, project string, principals []string) (map[string]time.Time, error)
	// ListFeedback lists scores, newest first, comments opened.
	ListFeedback(ctx context.Context, project string, f FeedbackFilter, p Page) (feedback []Feedback, next string, err error)
}
