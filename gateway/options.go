package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/limits"
	"github.com/promptgate/promptgate/registry"
)

// Deps is what the gateway works with. All are required but those that say otherwise; New refuses without them, since a gateway
// that skips a check it cannot make is worse than none.
type Deps struct {
	Authenticator policy.Authenticator
	Checker       policy.Checker
	Registry      Registry
	Catalog       Catalog // lists prompts for GET /v1/models
	Router        provider.Router
	Forwarder     Forwarder
	Recorder      metrics.Recorder // keeps nothing of a call after RecordCall returned
	Pricer        metrics.Pricer
	Feed          Feed
	CallIDs       *CallIDs
	HashUser      func(project, user string) string   // keyed hash of an end user's name for the ledger
	HashDigest    func(project, digest string) string // keyed hash of a version's digest, for those who may not read the version
	Clock         func() time.Time
	Log           *slog.Logger
	Limiters      []limits.Limiter // optional: budgets and rates, asked in this order before a provider is
	Meter         Meter            // optional
	Events        *Events          // optional: counts what is no call
	Calls         Calls            // optional: without it only one's own calls can be scored, by our id or a token
	Runs          Runs             // optional: without it no response runs in the background
	Metrics       http.Handler     // optional: serves GET /metrics
	Checks        []Check          // optional: what /readyz asks
}

// Registry finds prompts. registry.Resolver is the one that serves.
type Registry interface {
	// Identify finds the prompt behind a handle: its id and current name, archived or not. PromptNotFound or RegistryUnavailable.
	Identify(ctx context.Context, project, handle string) (*registry.Identified, error)
	// DefaultLabel is the label that a call of this project gets when it names none.
	DefaultLabel(ctx context.Context, project string) (string, error)
	// Resolve picks the version. VersionNotFound, LabelNotFound or RegistryUnavailable.
	Resolve(ctx context.Context, p *registry.Identified, sel registry.Selector) (*registry.Resolved, error)
}

// Catalog lists what GET /v1/models shows; registry.Store has both.
type Catalog interface {
	ListPrompts(ctx context.Context, project string, f registry.PromptFilter, page registry.Page) ([]registry.Prompt, string, error)
	ListLabels(ctx context.Context, project, promptID string) ([]registry.Label, error)
}

// Feed is how far this replica has followed the journal.
type Feed interface {
	// Wait returns once everything up to revision min has been applied here, or with ctx's error.
	Wait(ctx context.Context, min int64) error
	// Revision is the last one applied.
	Revision() int64
	// ConfirmedAt is when the database last confirmed it.
	ConfirmedAt() time.Time
}

// Forwarder sends a call to the first of its targets that answers it. *provider.Forwarder is the one that serves.
type Forwarder interface {
	Forward(ctx context.Context, call provider.Call) (*provider.Response, provider.Target, error)
}

// Calls finds recorded calls, for scores by somebody else than the caller and for scores by the provider's id.
type Calls interface {
	// FindCall finds a call of a project by our id or, when that is "", by the provider's. CallNotFound when it is not recorded (yet).
	FindCall(ctx context.Context, project, callID, completionID string) (metrics.Call, error)
}

// Runs knows the calls whose providers work on though their requests have ended.
type Runs = metrics.Runs

// Meter sees each call begin and end, and each finished one once; it keeps nothing of it. *metrics.Collectors is the one that
// serves. Implementations are safe for concurrent use.
type Meter interface {
	CallStarted()
	CallEnded()
	ObserveCall(c *metrics.Call)
}

// Check is one thing that /readyz asks. A check that fails takes the replica out of service only when Critical; otherwise it is
// degraded, and serves.
type Check struct {
	Name     string
	Critical bool
	Probe    func(ctx context.Context) error
}

// Options bound what one process takes on. Zero fields take the defaults of DefaultOptions, but InjectUsage and PingInterval, whose zeros mean
// what they say.
type Options struct {
	MaxBodyBytes    int64         // larger request bodies are answered 413; default 32 MiB
	MaxBuffered     int64         // memory for requests' bodies, over all callers; one has at most what is left to all others; more is answered 503; default 1 GiB, or four of the largest bodies
	MinBodyRate     int64         // bytes a second; a body that comes more slowly, after BodyGrace, is cut; default 8 KiB
	BodyGrace       time.Duration // the time for a body's beginning; default 10 s
	MaxInFlight     int           // calls at once; more are answered 503; default 10,000
	ServeUnrecorded bool          // calls go on when they cannot be recorded, counted as record_failed; without it they are answered 503
	BufferAnswer    int           // answers that are no streams are held up to this many bytes before the first one is sent; default 1 MiB
	WriteTimeout    time.Duration // rolling: each write to a client must end within it; default 30 s
	RevisionTimeout time.Duration // the longest wait for x-promptgate-min-revision; default 2 s
	PingInterval    time.Duration // ": ping" comments on a stream silent for so long; 0 sends none
	RunPoll         time.Duration // after it a provider is first asked what became of a background response, then at twice the distance, up to 30 s; default 1 s
	TokenTTL        time.Duration // how long a feedback token lasts; default 24 h
	FeedbackOrigins []string      // origins whose pages may POST /v1/feedback, such as https://app.example.com, or "*" alone; none by default
	InjectUsage     bool          // ask providers for usage on streams whose caller did not, and withhold that chunk
}

// DefaultOptions is what a gateway runs with when nothing else is said.
func DefaultOptions() Options {
	return Options{
		MaxBodyBytes: 32 << 20, MaxBuffered: 1 << 30, MaxInFlight: 10_000, BufferAnswer: 1 << 20,
		MinBodyRate: 8 << 10, BodyGrace: 10 * time.Second,
		WriteTimeout: 30 * time.Second, RevisionTimeout: 2 * time.Second,
		TokenTTL: 24 * time.Hour, RunPoll: time.Second, InjectUsage: true,
	}
}

func (o Options) withDefaults() Options {
	d := DefaultOptions()
	setDefault(&o.MaxBodyBytes, d.MaxBodyBytes)
	setDefault(&o.MaxBuffered, max(d.MaxBuffered, 4*o.MaxBodyBytes))
	setDefault(&o.MinBodyRate, d.MinBodyRate)
	setDefault(&o.BodyGrace, d.BodyGrace)
	setDefault(&o.MaxInFlight, d.MaxInFlight)
	setDefault(&o.BufferAnswer, d.BufferAnswer)
	setDefault(&o.WriteTimeout, d.WriteTimeout)
	setDefault(&o.RevisionTimeout, d.RevisionTimeout)
	setDefault(&o.TokenTTL, d.TokenTTL)
	setDefault(&o.RunPoll, d.RunPoll)
	return o
}

func setDefault[T int | int64 | time.Duration](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}

func (o Options) validate() error {
	if o.MaxBodyBytes < 0 || o.MinBodyRate < 0 || o.BodyGrace < 0 || o.MaxBuffered < 0 || o.MaxInFlight < 0 || o.BufferAnswer < 0 ||
		o.WriteTimeout < 0 || o.RevisionTimeout < 0 || o.PingInterval < 0 || o.TokenTTL < 0 || o.RunPoll < 0 {
		return errors.New("gateway: options must not be negative")
	}
	return nil
}

func (d *Deps) validate() error {
	var errs []error
	for _, need := range []struct {
		name string
		nil  bool
	}{
		{"Authenticator", d.Authenticator == nil}, {"Checker", d.Checker == nil}, {"Registry", d.Registry == nil},
		{"Catalog", d.Catalog == nil}, {"Router", d.Router == nil}, {"Forwarder", d.Forwarder == nil},
		{"Recorder", d.Recorder == nil}, {"Pricer", d.Pricer == nil}, {"Feed", d.Feed == nil}, {"CallIDs", d.CallIDs == nil},
		{"HashUser", d.HashUser == nil}, {"HashDigest", d.HashDigest == nil}, {"Clock", d.Clock == nil}, {"Log", d.Log == nil},
	} {
		if need.nil {
			errs = append(errs, fmt.Errorf("gateway: %s is required", need.name))
		}
	}
	for _, c := range d.Checks {
		if c.Name == "" || c.Probe == nil {
			errs = append(errs, errors.New("gateway: a check needs a name and a probe"))
		}
	}
	return errors.Join(errs...)
}
