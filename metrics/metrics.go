// Package metrics keeps what happened: calls, their attempts, tokens, cost and feedback.
package metrics

import (
	"context"
	"time"
)

// Outcome of a call or an attempt.
type Outcome string

// The outcomes; a bounded set, since it is a Prometheus label.
const (
	OutcomeOK        Outcome = "ok"
	OutcomeRefused   Outcome = "refused"  // by us: permission, variables, limits
	OutcomeProvider  Outcome = "provider" // the provider answered an error
	OutcomeTimeout   Outcome = "timeout"
	OutcomeTruncated Outcome = "truncated" // the provider's stream was cut
	OutcomeCancelled Outcome = "cancelled" // the caller went away
	OutcomeInternal  Outcome = "internal"  // a fault of ours
)

// OutcomeRunning is that of a call whose provider works on though the request has ended, until it is recorded again, under the same id, with what came
// of it. It counts in no figures and is no label of metrics.
const OutcomeRunning Outcome = "running"

// Tokens by kind, as the provider reported them. Input is everything that went in: it includes CachedInput, CacheWrite and AudioInput (a
// provider that counts its cache apart, as Anthropic does, is added up when its answer is read). Output includes Reasoning and
// AudioOutput. Pricing subtracts, so that nothing is priced twice.
type Tokens struct {
	Input, CachedInput, CacheWrite, AudioInput int64
	Output, Reasoning, AudioOutput             int64
	Reported                                   bool // false: the provider reported nothing, the figures are absent, not zero
	Estimated                                  bool // the figures are ours, not the provider's
}

// Attempt is one request to one provider.
type Attempt struct {
	Provider   string
	Model      string // as sent upstream
	Start      time.Time
	FirstToken time.Duration // 0: none came
	Total      time.Duration
	Status     int // of the provider; 0: no answer
	Outcome    Outcome
	Tokens     Tokens
	CostMicros *int64 // millionths of a US dollar; nil: unpriced, never zero for unknown
}

// Purpose is what a call was made for; a bounded set. "" is recorded as PurposeProduction.
type Purpose string

// The purposes.
const (
	PurposeProduction Purpose = "production"
	PurposeSandbox    Purpose = "sandbox" // drafts, the playground, evaluations: figures of production leave them out
)

// Call is one request as it is recorded.
type Call struct {
	ID           string // "call_…", carries a MAC of its project
	Project      string
	Principal    string
	PromptID     string // "" for a call without a prompt
	PromptName   string
	Version      int
	Label        string // as it was resolved; "" when called by version
	Variant      string // the arm of a rollout that served it; "" without one
	Digest       string
	Provider     string // of the attempt that answered
	Model        string
	Endpoint     string // "chat/completions", …
	Stream       bool
	CompletionID string // the provider's own id of the answer
	EndUser      string // keyed hash of the caller's "user"
	Purpose      Purpose
	Start        time.Time
	FirstToken   time.Duration
	Total        time.Duration
	Overhead     time.Duration // Total less the time spent waiting for the provider
	Status       int
	ErrorCode    string
	Outcome      Outcome
	Tokens       Tokens
	CostMicros   *int64
	Attempts     []Attempt

	// ModelListed says that Model is a name of ours: one that the routing lists, or the version's own. Any other was chosen by a caller, and is
	// no label of metrics. It is not kept.
	ModelListed bool
}

// The limits of a score, in bytes where it is text.
const (
	MaxScoreName    = 64
	MaxScoreText    = 200 // an id, a category, a user
	MaxScoreComment = 8 << 10
	MaxScoreNumber  = 1e9 // absolute value
)

// Feedback is a score on a call.
type Feedback struct {
	ID string // idempotency key, unique within (call, name); ours when the caller sends none
	// Scorer is who holds this score: of one scorer the newest score on (call, name) is current, and those before it are its history. "" stands for the
	// scorer that ID is.
	Scorer   string
	Project  string
	CallID   string
	Name     string
	Bool     *bool
	Number   *float64
	Category string
	Comment  string // sealed at rest
	User     string // keyed hash, the same as a call's EndUser
	Source   string // user, reviewer, evaluator, code
	At       time.Time
}

// Recorder takes finished calls and feedback. Both return once the record survives the death of this process (the local spool);
// an error means that it does not.
type Recorder interface {
	// Reserve makes sure that there is room for the record of one more call before it is made. The error is StorageFull or Overloaded. Release gives the
	// room back, once for each Reserve that succeeded, after the call was recorded or will not be.
	Reserve() error
	Release()
	// RecordCall records a finished call. It keeps nothing of c.
	RecordCall(ctx context.Context, c *Call) error
	RecordFeedback(ctx context.Context, f *Feedback) error
}

// Runs knows the calls that were recorded as running and not as ended yet, of all projects.
type Runs interface {
	// Runs lists those that began before a moment, the oldest first. A call shows some moments after it was recorded.
	Runs(ctx context.Context, before time.Time, limit int) ([]Call, error)
}

// Pricer knows what tokens cost. ok is false when the model has no price on that day: the cost is unknown, not zero.
type Pricer interface {
	// Cost goes by the provider's price list, which may be nil, and the model as it was sent upstream.
	Cost(list *PriceList, model string, at time.Time, t Tokens) (micros int64, ok bool)
}
