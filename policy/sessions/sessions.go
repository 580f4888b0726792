package sessions

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/pointers"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/policy"
)

// Sealer seals what is noted beside sessions; seal.Sealer is one.
type Sealer interface {
	Seal(plaintext []byte, b seal.Bind) ([]byte, error)
	Open(ciphertext []byte, b seal.Bind) ([]byte, error)
}

// People tells what a session's person may do now; people.Directory is one.
type People interface {
	Account(ctx context.Context, id string) (*policy.Account, error)
	Member(ctx context.Context, project, id string) (*policy.Principal, error)
}

// Source is what a Keeper reads and writes; policy.SignIns is more than that.
type Source interface {
	policy.SignInSessions
	Requires(ctx context.Context, project string) (policy.Method, error)
}

// Deps is what a Keeper works with. All are needed.
type Deps struct {
	Source Source
	People People
	Hasher *Hasher
	Sealer Sealer
	Feed   pointers.Feed
}

// Options tune a Keeper; every field may be left zero.
type Options struct {
	Clock       func() time.Time // nil means time.Now
	Random      io.Reader        // nil means crypto/rand's
	Idle        time.Duration    // a session ends when it is unused for so long; 0 means 12 h
	Max         time.Duration    // … when it is so old; 0 means 7 days
	MaxSessions int              // kept in memory; 0 means 100,000
	StaleAfter  time.Duration    // how long they are served after the feed was last certain; 0 means 1 h
	LoadTimeout time.Duration    // bounds what one request waits for the source; 0 means 800 ms
}

// Keeper recognises session tokens. A session seen before is answered from memory; the feed tells what ends it. It is safe for concurrent use.
type Keeper struct {
	d         Deps
	o         Options
	freshness pointers.Freshness
	known     *pointers.Cache[string, *entry] // by id
	required  *pointers.Cache[string, policy.Method]
	noted     *pointers.Queue[*entry]
}

// entry is a session in memory.
type entry struct {
	policy.Session

	mu      sync.Mutex
	seen    time.Time
	written time.Time        // when what was seen last was put where other replicas find it
	rights  map[string]int64 // the Revision of its person's principal when it was last used, by project

	renewing sync.Mutex // one renewal at a time: those who come meanwhile get its token
	renewed  string
}

// New subscribes to the feed: make it before the feed is loaded, so that no change falls between.
func New(d Deps, o Options) (*Keeper, error) {
	if d.Source == nil || d.People == nil || d.Hasher == nil || d.Sealer == nil || d.Feed == nil {
		return nil, errors.New("sessions: a dependency is missing")
	}
	o = o.withDefaults()
	k := &Keeper{d: d, o: o, noted: pointers.NewQueue[*entry]()}
	k.freshness = pointers.Freshness{ConfirmedAt: d.Feed.ConfirmedAt, MaxStale: o.StaleAfter, Clock: o.Clock, Name: "Sessions"}
	var err, err2 error
	k.known, err = pointers.New(pointers.Options[string, *entry]{
		Name: "session", Size: o.MaxSessions, Absences: 10_000, AbsentFor: 10 * time.Second, Timeout: o.LoadTimeout, Clock: o.Clock,
		Key: func(t journal.Touch) (string, bool) { return t.Key, t.Kind == policy.TouchSession },
	})
	k.required, err2 = pointers.New(pointers.Options[string, policy.Method]{
		Name: "sign-in policy", Size: o.MaxSessions, Absences: 1, Timeout: o.LoadTimeout, Clock: o.Clock,
		Key: func(t journal.Touch) (string, bool) { return t.Key, t.Kind == policy.TouchRequire },
	})
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	d.Feed.Subscribe(k.known.Apply)
	d.Feed.Subscribe(k.required.Apply)
	return k, nil
}

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	for v, fallback := range map[*time.Duration]time.Duration{&o.Idle: 12 * time.Hour, &o.Max: 7 * 24 * time.Hour, &o.StaleAfter: time.Hour, &o.LoadTimeout: 800 * time.Millisecond} {
		if *v <= 0 {
			*v = fallback
		}
	}
	if o.MaxSessions <= 0 {
		o.MaxSessions = 100_000
	}
	return o
}

// Browser is where a request comes from.
type Browser struct {
	Address   string
	UserAgent string
}

const maxUserAgent = 200 // bytes

// Fresh is a session that can be begun, with its token. It has no user yet.
func (k *Keeper) Fresh(m policy.Method, from Browser) (policy.Session, string, error) {
	token, id, err := k.d.Hasher.Issue(k.o.Random)
	now := k.o.Clock()
	return policy.Session{
		ID: id, Method: m, Address: from.Address, UserAgent: clipped(from.UserAgent), CreatedAt: now, RotatedAt: now, Idle: k.o.Idle, EndsAt: now.Add(k.o.Max),
	}, token, err
}

// Lifetime is how long a session lasts at the most.
func (k *Keeper) Lifetime() time.Duration { return k.o.Max }

// Held is a session that is good now.
type Held struct {
	policy.Session
	Account *policy.Account

	entry *entry
}

// refused is the one answer for a token that is unknown, void or too old.
func refused() error {
	return fault.New(fault.InvalidAPIKey, "You are not signed in, or your session has ended: sign in again.")
}

// Session is whose token this is. InvalidAPIKey when it is nobody's any more, RegistryUnavailable when that cannot be found out.
func (k *Keeper) Session(ctx context.Context, token string) (Held, error) {
	id, ok := k.d.Hasher.ID(token)
	if !ok {
		return Held{}, refused()
	}
	if _, err := k.freshness.Age(); err != nil {
		return Held{}, err
	}
	e, ok := k.known.Get(id)
	if !ok {
		var err error
		e, err = k.known.Load(ctx, id, true, func(ctx context.Context) (*entry, error) { return k.read(ctx, id) })
		if fault.Is(err, fault.NotFound) {
			return Held{}, refused()
		}
		if err != nil {
			return Held{}, err
		}
	}
	account, err := k.d.People.Account(ctx, e.UserID)
	switch {
	case fault.Is(err, fault.NotFound):
		return Held{}, refused()
	case err != nil:
		return Held{}, err
	case !account.Active() || account.Epoch != e.Epoch:
		return Held{}, refused()
	}
	ok, err = k.inTime(ctx, e)
	if err != nil {
		return Held{}, err
	}
	if !ok {
		return Held{}, refused()
	}
	return Held{e.Session, account, e}, nil
}

// read is a session with what was noted of it.
func (k *Keeper) read(ctx context.Context, id string) (*entry, error) {
	s, err := k.d.Source.SessionByID(ctx, id)
	if err != nil {
		if !fault.Is(err, fault.NotFound) {
			err = fault.Wrap(err, fault.RegistryUnavailable, "Your session could not be checked: try again shortly.")
		}
		return nil, err
	}
	e := &entry{Session: s, seen: s.RotatedAt}
	return e, k.lookAgain(ctx, e)
}

// noteOf is what is kept of a session's use.
type noteOf struct {
	Seen   time.Time        `json:"seen"`
	Rights map[string]int64 `json:"rights,omitempty"`
}

func bind(id string) seal.Bind {
	return seal.Bind{Table: "policy_session_seen", Row: id, Column: "sealed"}
}

// lookAgain takes in what other replicas noted.
func (k *Keeper) lookAgain(ctx context.Context, e *entry) error {
	found, err := k.d.Source.LastSeen(ctx, e.ID)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return fault.Wrap(err, fault.RegistryUnavailable, "Your session could not be checked: try again shortly.")
	}
	plain, err := k.d.Sealer.Open(found.Sealed, bind(e.ID))
	var n noteOf
	if err != nil || json.Unmarshal(plain, &n) != nil {
		return nil //nolint:nilerr // written by somebody without the keys: as if it were not there, which ends the session sooner
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if n.Seen.After(e.seen) {
		e.seen, e.written = n.Seen, n.Seen
	}
	if e.rights == nil {
		e.rights = n.Rights
	}
	return nil
}

// noteEvery bounds how often a session's use is written.
const noteEvery = time.Minute

// inTime reports whether a session has not ended by itself, and notes that it is used.
func (k *Keeper) inTime(ctx context.Context, e *entry) (bool, error) {
	now := k.o.Clock()
	if !now.Before(e.EndsAt) {
		return false, nil
	}
	if idle := e.idleAt(now); idle {
		if err := k.lookAgain(ctx, e); err != nil { // another replica may have served it
			return false, err
		}
		if e.idleAt(now) {
			return false, nil
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = now
	if now.Sub(e.written) >= min(noteEvery, e.Idle/4) {
		e.written = now
		k.noted.Add(e)
	}
	return true, nil
}

func (e *entry) idleAt(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return now.Sub(e.seen) >= e.Idle
}

// Run writes when sessions were used, until ctx is done.
func (k *Keeper) Run(ctx context.Context) error {
	k.noted.Run(ctx, func(ctx context.Context, e *entry) {
		_ = k.note(ctx, e) // a replica that does not learn of it ends the session sooner
	})
	return nil
}

func (k *Keeper) note(ctx context.Context, e *entry) error {
	e.mu.Lock()
	n := noteOf{e.seen, maps.Clone(e.rights)}
	e.mu.Unlock()
	plain, err := json.Marshal(n)
	if err != nil {
		return err
	}
	sealed, err := k.d.Sealer.Seal(plain, bind(e.ID))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return k.d.Source.Seen(ctx, policy.SessionSeen{ID: e.ID, Sealed: sealed})
}

func clipped(s string) string {
	out := []rune{}
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			continue
		}
		if len(string(out))+len(string(r)) > maxUserAgent {
			break
		}
		out = append(out, r)
	}
	return string(out)
}
