package policy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
)

// ReviewPrefix begins the ids of access reviews.
const ReviewPrefix = "rvw_"

// Review is a campaign: reviewers look at what is held in a project when it begins, line by line, and keep it, make it smaller or take it away.
type Review struct {
	ID            string    `json:"id"`
	Project       string    `json:"project"`
	Name          string    `json:"name"`
	Roles         []string  `json:"roles,omitempty"` // what it looks at; none: all
	Subjects      []string  `json:"subjects,omitempty"`
	Prompts       []string  `json:"prompts,omitempty"`
	Reviewers     []string  `json:"reviewers"`       // "usr_…" and "grp_…"
	Remind        []int     `json:"remind_days"`     // so many days before the deadline
	AtDeadline    Decided   `json:"at_deadline"`     // what becomes of lines that nobody decided: DecideKeep or DecideRevoke
	Deadline      time.Time `json:"deadline_at"`     //
	Lines         int       `json:"lines"`           //
	StartedBy     string    `json:"started_by"`      //
	StartedByName string    `json:"started_by_name"` // as it was then
	StartedAt     time.Time `json:"started_at"`
	ClosedBy      string    `json:"closed_by,omitempty"`
	ClosedByName  string    `json:"closed_by_name,omitempty"`
	ClosedAt      time.Time `json:"closed_at,omitzero"`

	Digest   string `json:"-"` // of the evidence, once it is closed
	Revision int64  `json:"-"`
}

// Closed reports whether nothing can be decided any more.
func (r Review) Closed() bool { return !r.ClosedAt.IsZero() }

// Decided is what a reviewer says of a line.
type Decided string

// The decisions.
const (
	DecideKeep   Decided = "keep"
	DecideChange Decided = "change"
	DecideRevoke Decided = "revoke"
)

// Outcome is what became of a line.
type Outcome string

// The outcomes. A line that was changed or taken away by others while the review ran is nobody's to decide.
const (
	OutcomeDone      Outcome = "done"
	OutcomeChanged   Outcome = "changed_meanwhile"
	OutcomeGone      Outcome = "gone_meanwhile"
	OutcomeLastAdmin Outcome = "kept_last_admin" // at the deadline
)

// ReviewLine is one thing that was held when the review began.
type ReviewLine struct {
	N             int           `json:"n"`
	Held          Access        `json:"held"`
	Decision      Decided       `json:"decision,omitempty"` // "" nobody has decided
	Change        *ReviewChange `json:"change,omitempty"`
	Outcome       Outcome       `json:"outcome,omitempty"`
	Comment       string        `json:"comment,omitempty"`
	DecidedBy     string        `json:"decided_by,omitempty"`
	DecidedByName string        `json:"decided_by_name,omitempty"`
	DecidedAt     time.Time     `json:"decided_at,omitzero"`
	Revision      int64         `json:"-"`
}

// Undecided reports whether a line waits for a decision.
func (l ReviewLine) Undecided() bool { return l.Decision == "" && l.Outcome == "" }

// ReviewChange makes a binding smaller; what is nil stays.
type ReviewChange struct {
	Role    *string    `json:"role,omitempty"`
	Prompts *[]string  `json:"prompts,omitempty"`
	Labels  *[]string  `json:"labels,omitempty"`
	Models  *[]string  `json:"models,omitempty"`
	Expires *time.Time `json:"expires_at,omitempty"`
}

// LineDecision is what a person decides about a line.
type LineDecision struct {
	Project, ReviewID string
	N                 int
	Revision          int64  // that the line must have; 0: any
	Person            string // whose decision it is, "usr_…"
	Decision          Decided
	Change            *ReviewChange
	Comment           string
}

// Evidence is what a review came to.
type Evidence struct {
	Review Review       `json:"review"`
	Lines  []ReviewLine `json:"lines"`
}

// Document is the evidence as it is handed out, and its SHA-256 in hex.
func (e Evidence) Document() (doc []byte, digest string, err error) {
	doc, err = json.MarshalIndent(e, "", "  ")
	if err != nil {
		return nil, "", fault.Wrap(err, fault.Internal, "the evidence cannot be written")
	}
	doc = append(doc, '\n')
	sum := sha256.Sum256(doc)
	return doc, hex.EncodeToString(sum[:]), nil
}

// ReviewStore keeps access reviews.
type ReviewStore interface {
	// StartReview takes down what is held and fits. starter must hold what is taken away at the deadline; each line must have a reviewer who may decide it.
	StartReview(ctx context.Context, by journal.Origin, starter *Principal, r Review) (Review, error)
	ReviewByID(ctx context.Context, project, id string) (Review, error)
	ListReviews(ctx context.Context, project string, page Page) (reviews []Review, next string, err error)
	// Evidence are a review with all its lines, in their order.
	Evidence(ctx context.Context, project, id string) (Evidence, error)
	// Reviews reports whether a person is one of the reviewers.
	Reviews(ctx context.Context, r Review, person string) (bool, error)
	// ReviewsOf are a project's open reviews that a person is one of the reviewers of, the soonest deadline first.
	ReviewsOf(ctx context.Context, project, person string) ([]Review, error)
	// Undecided counts the lines of a project's reviews that nobody has decided, by the review's id.
	Undecided(ctx context.Context, project string, ids ...string) (map[string]int, error)
	// DecideLine decides about a line, and carries it out by reviewer's rights. PermissionDenied: it is not one of the reviewers, or the line is its own.
	// Conflict: the review is over, or what was decided is carried out. PreconditionFailed: the line, or what is held, was changed since it was read.
	DecideLine(ctx context.Context, by journal.Origin, reviewer *Principal, d LineDecision) (ReviewLine, error)
	// CloseReview ends it. Lines that nobody decided are a Conflict unless force says so.
	CloseReview(ctx context.Context, by journal.Origin, project, id string, force bool) (Review, error)
}

const (
	maxReviewers = 50
	// MaxOpenReviews bounds how many run in a project at a time.
	MaxOpenReviews  = 50
	maxReviewDays   = 366
	maxReminders    = 5
	defaultDeadline = DecideKeep
)

// MaxReviewLines bounds a review.
const MaxReviewLines = 5000

// Validate checks what people choose about a review and brings it into its one spelling (InvalidRequest).
func (r *Review) Validate(now time.Time) (err error) {
	if r.Name, err = plainName(r.Name, "a review's name", true); err != nil {
		return err
	}
	if r.AtDeadline == "" {
		r.AtDeadline = defaultDeadline
	}
	if r.AtDeadline != DecideKeep && r.AtDeadline != DecideRevoke {
		return fault.New(fault.InvalidRequest, "at the deadline, what nobody decided about is kept or revoked: write keep or revoke").WithParam("at_deadline")
	}
	if !r.Deadline.After(now) || r.Deadline.After(now.AddDate(0, 0, maxReviewDays)) {
		return fault.New(fault.InvalidRequest, "the deadline lies ahead, within %d days", maxReviewDays).WithParam("deadline_at")
	}
	r.Deadline = r.Deadline.Truncate(time.Microsecond).UTC()
	if len(r.Reviewers) == 0 || len(r.Reviewers) > maxReviewers {
		return fault.New(fault.InvalidRequest, "a review has 1 to %d reviewers: users and groups", maxReviewers).WithParam("reviewers")
	}
	if r.Remind == nil {
		r.Remind = []int{7, 1}
	}
	if len(r.Remind) > maxReminders || slices.ContainsFunc(r.Remind, func(d int) bool { return d < 1 || d > maxReviewDays }) {
		return fault.New(fault.InvalidRequest, "remind_days are %d numbers of days at the most", maxReminders).WithParam("remind_days")
	}
	for _, p := range r.Prompts {
		if err := validPromptPattern(p); err != nil {
			return param(err, "prompts")
		}
	}
	for name, list := range map[string][]string{"roles": r.Roles, "subjects": r.Subjects, "prompts": r.Prompts} {
		if list != nil && len(list) == 0 || len(list) > maxPatterns {
			return fault.New(fault.InvalidRequest, "%s are 1 to %d, or left out for all", name, maxPatterns).WithParam(name)
		}
	}
	return nil
}

// Covers reports whether a review looks at something: a group's holding when the group or one of its members is asked for.
func (r Review) Covers(a Access, members []string) bool {
	fits := func(list []string, fit func(string) bool) bool {
		return len(list) == 0 || slices.ContainsFunc(list, fit)
	}
	return a.State != AccessExpired &&
		fits(r.Roles, func(role string) bool { return AccessFilter{Role: role}.Fits(a) }) &&
		fits(r.Prompts, func(p string) bool { return AccessFilter{Prompt: p}.Fits(a) }) &&
		fits(r.Subjects, func(s string) bool { return AccessFilter{Subject: s}.Fits(a) || slices.Contains(members, s) })
}

// OwnLine reports whether what is held is somebody's own, so that another must review it: a binding of its own or of a group that it is in, or a key that is
// its own or that it made. members are who is in the group; keys are the person's own.
func OwnLine(a Access, person string, members, keys []string) bool {
	if a.Subject == person || slices.Contains(members, person) {
		return true
	}
	return strings.HasPrefix(a.Holding, "key_") && (a.GrantedBy == person || slices.Contains(keys, a.GrantedBy) || slices.Contains(keys, a.Holding))
}

// Of is a binding as a change makes it (InvalidRequest for what no review may do). Whether it is smaller is Within's to say.
func (c *ReviewChange) Of(b Binding) (Binding, error) {
	if c == nil || *c == (ReviewChange{}) {
		return b, fault.New(fault.InvalidRequest, "a change names a smaller role, smaller patterns or a sooner end").WithParam("change")
	}
	if b.Effect == EffectDeny {
		return b, fault.New(fault.InvalidRequest, "a denial is kept or revoked: making it smaller would allow more").WithParam("change")
	}
	if c.Role != nil {
		b.Role, b.Actions = *c.Role, nil
	}
	for to, from := range map[*[]string]*[]string{&b.Prompts: c.Prompts, &b.Labels: c.Labels, &b.Models: c.Models} {
		if from != nil {
			*to = *from
		}
	}
	if c.Expires != nil {
		b.Expires = *c.Expires
	}
	return b, nil
}

// Within reports (InvalidRequest) when a binding gives what another did not.
func (b Binding) Within(old Binding, now time.Time) error {
	holder := &Principal{ID: "review", Kind: KindUser, Project: old.Project, Bindings: []Binding{old}}
	if err := DelegateBindings(holder, old.Project, []Binding{b}, now); err != nil {
		if !fault.Is(err, fault.PermissionDenied) {
			return err
		}
		return fault.New(fault.InvalidRequest, "A review makes access smaller, and this gives what is not held now, or for longer: give it with a binding.").WithParam("change")
	}
	return nil
}

// ValidComment checks what a reviewer says.
func ValidComment(s string) (string, error) {
	s, err := plainText(s)
	if err != nil {
		return "", fault.New(fault.InvalidRequest, "a comment has %d bytes at the most, and no control characters", maxDescription).WithParam("comment")
	}
	return s, nil
}
