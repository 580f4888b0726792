package limits

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/names"
	"github.com/promptgate/promptgate/policy"
)

// Measure is what a limit counts.
type Measure string

// The measures.
const (
	Requests Measure = "requests"
	Tokens   Measure = "tokens" // in and out
	USD      Measure = "usd"
	Calls    Measure = "concurrent_calls"
	Streams  Measure = "concurrent_streams"
)

// Measures are all of them.
func Measures() []Measure { return []Measure{Requests, Tokens, USD, Calls, Streams} }

// Period is the time that a limit is for.
type Period string

// The periods. A limit of what runs at a time has none.
const (
	Minute  Period = "minute"  // a rate: it refills as time goes by
	Day     Period = "day"     // of the calendar, in the limit's time zone
	Week    Period = "week"    // from Monday
	Month   Period = "month"   // of the calendar
	Rolling Period = "rolling" // the last Days days, today among them
)

// Scope says whose calls a limit counts together.
type Scope string

// The scopes. The last two are defaults: each key, or user, without a limit of its own of the same kind has one to itself.
const (
	ScopeProject  Scope = "project"
	ScopeKey      Scope = "key"    // Subject is its id
	ScopeUser     Scope = "user"   // … the id of who owns the key, or calls
	ScopeGroup    Scope = "group"  // … its id: all members together
	ScopePrompt   Scope = "prompt" // … a pattern: support/triage, support/*, support/**
	ScopeLabel    Scope = "label"  // … the label that the call runs under
	ScopeEachKey  Scope = "each_key"
	ScopeEachUser Scope = "each_user"
)

// Scopes are all of them.
func Scopes() []Scope {
	return []Scope{ScopeProject, ScopeKey, ScopeUser, ScopeGroup, ScopePrompt, ScopeLabel, ScopeEachKey, ScopeEachUser}
}

// Limit is one rule of a project: how much of something may be used, in which time, by whom.
type Limit struct {
	ID        string // "lim_…"
	Project   string
	Name      string // unique in the project; refusals show it
	Measure   Measure
	Amount    int64 // micro-dollars for USD
	Period    Period
	Days      int    // of Rolling
	Zone      string // IANA's name of the time zone whose days count
	Scope     Scope
	Subject   string
	Soft      bool   // it warns and refuses nothing
	Sandbox   bool   // it counts the sandbox's calls, and no others
	Unpriced  bool   // of USD: calls whose price is unknown are made, and count nothing
	Contact   string // whom a refusal names to ask
	CreatedBy string
	CreatedAt time.Time
	Revision  int64 // the ETag

	zone *time.Location // set by Validate
}

// Budget reports whether it counts what was used over days; else it is a rate, or bounds what runs at a time.
func (l *Limit) Budget() bool { return l.Period != "" && l.Period != Minute }

// Rate reports whether it is for a minute.
func (l *Limit) Rate() bool { return l.Period == Minute }

// Each reports whether it is a default.
func (l *Limit) Each() bool { return l.Scope == ScopeEachKey || l.Scope == ScopeEachUser }

// The bounds of a limit.
const (
	MaxAmount  = 1_000_000_000_000_000 // 1e15: a billion dollars, and sums of some thousands of such fit
	maxRate    = 1_000_000_000_000
	maxName    = 100 // bytes
	maxContact = 200
	maxDays    = 366
	MaxLimits  = 1000 // of one project
)

// Validate checks what people choose and brings it into its one spelling (InvalidRequest).
func (l *Limit) Validate() error {
	l.Name = names.Normal(strings.TrimSpace(l.Name))
	if l.Name == "" || len(l.Name) > maxName || !plain(l.Name) {
		return wrong("name", "A limit needs a name of 1 to %d bytes without control characters.", maxName)
	}
	if l.Contact = strings.TrimSpace(l.Contact); len(l.Contact) > maxContact || !plain(l.Contact) {
		return wrong("contact", "The contact must have at most %d bytes and no control characters.", maxContact)
	}
	if !slices.Contains(Measures(), l.Measure) {
		return wrong("measure", "There is no measure %.40q: use requests, tokens, usd, concurrent_calls or concurrent_streams.", string(l.Measure))
	}
	if l.Amount < 0 || l.Amount > MaxAmount {
		return wrong("amount", "The amount must be 0 to %d, or a billion dollars.", int64(MaxAmount))
	}
	if l.Unpriced && l.Measure != USD {
		return wrong("unpriced", "Only limits of money ask for prices: leave unpriced out.")
	}
	if err := l.validatePeriod(); err != nil {
		return err
	}
	return l.validateSubject()
}

func plain(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) }

func (l *Limit) validatePeriod() (err error) {
	running := l.Measure == Calls || l.Measure == Streams
	switch l.Period {
	case "":
		if !running {
			return wrong("period", "Say for which time: minute, day, week, month or rolling.")
		}
	case Minute:
		if l.Measure == USD {
			return wrong("period", "Money is counted by the day, week or month, or over rolling days.")
		}
	case Day, Week, Month, Rolling:
	default:
		return wrong("period", "There is no period %.40q: use minute, day, week, month or rolling.", string(l.Period))
	}
	if running && l.Period != "" {
		return wrong("period", "What runs at a time has no period: leave it out.")
	}
	if l.Soft && !l.Budget() {
		return wrong("soft", "Only budgets of days, weeks and months can be soft: what is refused now is allowed in a moment.")
	}
	if !l.Budget() && l.Amount > maxRate {
		return wrong("amount", "The amount must be 0 to %d here.", int64(maxRate))
	}
	if (l.Period == Rolling) != (l.Days != 0) || l.Days < 0 || l.Days > maxDays {
		return wrong("days", "A rolling limit has 1 to %d days, and no other has any.", maxDays)
	}
	if !l.Budget() {
		if l.Zone != "" {
			return wrong("time_zone", "Only limits of days, weeks and months have a time zone: leave it out.")
		}
		return nil
	}
	if l.Zone == "" {
		l.Zone = "UTC"
	}
	if l.zone, err = loadZone(l.Zone); err != nil {
		return wrong("time_zone", "There is no time zone %.60q: use a name such as Europe/Berlin.", l.Zone)
	}
	return nil
}

func (l *Limit) validateSubject() error {
	none := l.Scope == ScopeProject || l.Each()
	bad := func(what string) error {
		return wrong("subject", "A limit of a %s needs %s as its subject.", l.Scope, what)
	}
	switch {
	case !slices.Contains(Scopes(), l.Scope):
		return wrong("scope", "There is no scope %.40q: use project, key, user, group, prompt, label, each_key or each_user.", string(l.Scope))
	case none && l.Subject != "":
		return wrong("subject", "A limit of scope %s has no subject: leave it out.", l.Scope)
	case none:
		return nil
	case len(l.Subject) > 256 || !plain(l.Subject):
		return bad("a shorter text without control characters")
	case l.Scope == ScopeKey && !isID(l.Subject, "key_"):
		return bad("its id, key_…,")
	case l.Scope == ScopeUser && !isID(l.Subject, "usr_"):
		return bad("their id, usr_…,")
	case l.Scope == ScopeGroup && !isID(l.Subject, "grp_"):
		return bad("its id, grp_…,")
	case l.Scope == ScopePrompt && policy.CheckPromptPattern(l.Subject) != nil:
		return bad("a name or a pattern such as support/**")
	case l.Scope == ScopeLabel && policy.CheckLabelName(l.Subject) != nil:
		return bad("a label's name")
	}
	return nil
}

func isID(s, prefix string) bool {
	return len(s) > len(prefix) && strings.HasPrefix(s, prefix) && !strings.ContainsFunc(s, unicode.IsSpace)
}

func wrong(param, format string, args ...any) error {
	return fault.New(fault.InvalidRequest, format, args...).WithParam(param)
}

// Micros is dollars in micro-dollars, rounded; false for what no limit can be.
func Micros(dollars float64) (int64, bool) {
	m := math.Round(dollars * 1e6)
	if math.IsNaN(m) || m < 0 || m > MaxAmount {
		return 0, false
	}
	return int64(m), true
}

// Rules are a project's limits and what of their spend was reset, as they were read together.
type Rules struct {
	Project string  `json:"project"`
	Limits  []Limit `json:"limits,omitempty"`
	Resets  []Reset `json:"resets,omitempty"`
}

// Reset takes what was spent until then off a limit's spend.
type Reset struct {
	Limit   string
	Subject string          // of a default: whose; else ""
	Off     map[int64]int64 // what is taken off, by the window that it was spent in (its start, microseconds since 1970)
	By, Why string
	At      time.Time
}

// Source is what enforcement needs: all of a project's rules.
type Source interface {
	Rules(ctx context.Context, project string) (Rules, error)
}

// Store keeps limits. Every write goes through journal.Change and touches the project (Touch{Kind: TouchLimits, Project: …}). Another project's limit is
// NotFound.
type Store interface {
	Source
	// CreateLimit stores l, whose ID, CreatedBy, CreatedAt and Revision it sets. Conflict when the name is taken.
	CreateLimit(ctx context.Context, by journal.Origin, l Limit) (Limit, error)
	// LimitByID finds one by its id or name.
	LimitByID(ctx context.Context, project, idOrName string) (Limit, error)
	// UpdateLimit writes name, amount, softness, unpriced and contact when the stored revision is l.Revision (else PreconditionFailed). What is counted, for
	// whom and in which time stays: another limit is another one.
	UpdateLimit(ctx context.Context, by journal.Origin, l Limit) (Limit, error)
	// DeleteLimit removes it when the stored revision is rev, or whatever it is when rev is 0.
	DeleteLimit(ctx context.Context, by journal.Origin, project, id string, rev int64) (revision int64, err error)
	// ResetSpend takes what was spent so far in the present period off: of a default, of one subject's. by.Why says why.
	ResetSpend(ctx context.Context, by journal.Origin, project, id, subject string) (Usage, error)
	// Spend is what of a budget was used in the present period: by one subject, or, of a default, by each, those that used most first.
	Spend(ctx context.Context, l Limit, subject string, most int) ([]Usage, error)
}

// TouchLimits is what caches of limits listen for: Project is the project, Key is "".
const TouchLimits = "limits"

// Usage is what one subject used of a budget in the present period.
type Usage struct {
	Limit    string
	Subject  string // of a default
	Used     int64  // by calls that have ended, some moments late
	Held     int64  // reserved: by calls under way, and by replicas for calls to come
	Amount   int64
	Start    time.Time // of the period
	End      time.Time // when it is over; of rolling days, when the first of them drops out
	Warned   []int     // thresholds passed, in percent
	Revision int64     // the journal's, of a reset
}

// Forecast is what will be used when a week or month ends, at its pace until now: what was used, by the time gone by, times its length. ok is false in its
// first day, when a few calls would say too much, and for all other periods.
func (u Usage) Forecast(p Period, now time.Time) (used float64, ok bool) {
	gone, length := now.Sub(u.Start), u.End.Sub(u.Start)
	if p != Week && p != Month || gone < 24*time.Hour || length <= 0 {
		return 0, false
	}
	return float64(u.Used) * float64(length) / float64(min(gone, length)), true
}
