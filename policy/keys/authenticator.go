package keys

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"sync/atomic"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/pointers"
	"github.com/promptgate/promptgate/policy"
)

// Feed tells of changes; journal.Journal is one.
type Feed = pointers.Feed

// Options tune an Authenticator; every field may be left zero.
type Options struct {
	Clock       func() time.Time // nil means time.Now
	MaxKeys     int              // keys kept in memory; 0 means 200,000 (about 1 KB each)
	MaxUnknown  int              // unknown lookups remembered; 0 means 20,000
	UnknownFor  time.Duration    // how long they are remembered unless a change ends it sooner; 0 means 10 s
	StaleAfter  time.Duration    // how long keys are served after the feed was last certain; 0 means 1 h
	LoadTimeout time.Duration    // bounds what one request waits for the source; 0 means 800 ms
	Owners      Owners           // nil: keys of users and service accounts are refused
}

// Owners tells what the owner of a key may do now; people.Directory is one. NotFound when it may do nothing any more.
type Owners interface {
	Member(ctx context.Context, project, id string) (*policy.Principal, error)
}

// Authenticator recognises API keys. A key seen before is answered from memory: the cache maps the lookup to the record and to the
// SHA-256 of the one token that was proven against its keyed hash, so that a warm request costs one SHA-256 and no allocation.
// Revocations and edits arrive through the feed. What a change ends is read again by Run.
// It is safe for concurrent use and starts no goroutine of its own.
type Authenticator struct {
	source policy.KeySource
	hasher *Hasher
	feed   Feed
	o      Options
	known  *pointers.Cache[string, *entry] // by lookup

	freshness pointers.Freshness
	refreshes *pointers.Queue[string] // lookups
}

// entry is a key as it was read. It is shared between requests and, but for proven, never changed.
type entry struct {
	principal *policy.Principal
	hash      []byte
	revoked   bool
	record    policy.KeyRecord // as it was read, for Served

	// proven is the SHA-256 of the token that matched the hash, so that the HMAC is computed once a load.
	proven atomic.Pointer[[sha256.Size]byte]

	// owned is the principal as its owner was when it was last asked for.
	owned atomic.Pointer[policy.Principal]
}

// NewAuthenticator subscribes to the feed: make it before the feed is loaded, so that no change falls between.
func NewAuthenticator(source policy.KeySource, hasher *Hasher, feed Feed, o Options) (*Authenticator, error) {
	if source == nil || hasher == nil || feed == nil {
		return nil, errors.New("keys: an authenticator needs a source, a hasher and a feed")
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	orInt(&o.MaxKeys, 200_000)
	orInt(&o.MaxUnknown, 20_000)
	orDuration(&o.UnknownFor, 10*time.Second)
	orDuration(&o.StaleAfter, time.Hour)
	orDuration(&o.LoadTimeout, 800*time.Millisecond)
	a := &Authenticator{source: source, hasher: hasher, feed: feed, o: o, refreshes: pointers.NewQueue[string]()}
	a.freshness = pointers.Freshness{ConfirmedAt: feed.ConfirmedAt, MaxStale: o.StaleAfter, Clock: o.Clock, Name: "API keys"}
	var err error
	a.known, err = pointers.New(pointers.Options[string, *entry]{
		Name: "API key", Size: o.MaxKeys, Absences: o.MaxUnknown, AbsentFor: o.UnknownFor, Timeout: o.LoadTimeout, Clock: o.Clock,
		Key:   func(t journal.Touch) (string, bool) { return t.Key, t.Kind == policy.TouchKey },
		Ended: func(lookup string, _ *entry) { a.refreshes.Add(lookup) },
	})
	if err != nil {
		return nil, err
	}
	feed.Subscribe(a.known.Apply)
	return a, nil
}

func orInt(v *int, fallback int) {
	if *v <= 0 {
		*v = fallback
	}
}

func orDuration(v *time.Duration, fallback time.Duration) {
	if *v <= 0 {
		*v = fallback
	}
}

// Authenticate implements policy.Authenticator. Unknown, wrong, expired and revoked keys get one and the same answer.
func (a *Authenticator) Authenticate(ctx context.Context, credential string) (*policy.Principal, error) {
	lookup, ok := Parse(credential)
	if !ok {
		return nil, malformed()
	}
	if _, err := a.freshness.Age(); err != nil {
		return nil, err
	}
	e, ok := a.known.Get(lookup)
	if !ok {
		var err error
		if e, err = a.load(ctx, lookup); err != nil {
			return nil, err
		}
	}
	if e == nil || !a.prove(e, credential) || e.revoked || expired(e.principal, a.o.Clock()) {
		return nil, refused()
	}
	if e.record.Owner != "" {
		return a.ofOwner(ctx, e)
	}
	return e.principal, nil
}

// ofOwner is the principal of somebody's key, as its owner is now. A key whose owner may do nothing any more is refused like one that was revoked.
func (a *Authenticator) ofOwner(ctx context.Context, e *entry) (*policy.Principal, error) {
	if a.o.Owners == nil {
		return nil, refused()
	}
	owner, err := a.o.Owners.Member(ctx, e.record.Project, e.record.Owner)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil, refused()
	case err != nil:
		return nil, err
	}
	if p := e.owned.Load(); p != nil && p.Owner == owner {
		return p, nil
	}
	p := e.principal.OwnedBy(owner)
	e.owned.Store(p)
	return p, nil
}

// MemoryReads counts the keys that were found in memory so far.
func (a *Authenticator) MemoryReads() uint64 { return a.known.Hits() }

func expired(p *policy.Principal, now time.Time) bool {
	return !p.Expires.IsZero() && !now.Before(p.Expires)
}

func malformed() error {
	return fault.New(fault.InvalidAPIKey,
		"This is not a complete API key: keys start with %q and have %d characters. Check that it was copied whole, or create a new one.", prefix, Length)
}

func refused() error {
	return fault.New(fault.InvalidAPIKey, "The API key is unknown, expired or revoked. Ask an admin of the project for a new one.")
}

// prove checks the secret: against the SHA-256 of a token that was proven before, else against the stored hash.
func (a *Authenticator) prove(e *entry, token string) bool {
	var buf [Length]byte
	sum := sha256.Sum256(buf[:copy(buf[:], token)])
	if known := e.proven.Load(); known != nil && subtle.ConstantTimeCompare(known[:], sum[:]) == 1 {
		return true
	}
	if !a.hasher.Verify(token, e.hash) {
		return false
	}
	proven := sum // a copy, so that sum stays on the stack of warm requests
	e.proven.Store(&proven)
	return true
}

// load reads a key that is not in memory. nil without an error means that there is none.
func (a *Authenticator) load(ctx context.Context, lookup string) (*entry, error) {
	e, err := a.known.Load(ctx, lookup, true, func(ctx context.Context) (*entry, error) {
		rec, err := a.source.KeyByLookup(ctx, lookup)
		switch {
		case fault.Is(err, fault.NotFound):
			return nil, err
		case err != nil:
			return nil, fault.Wrap(err, fault.RegistryUnavailable, "The API key could not be checked: try again shortly.")
		}
		return newEntry(rec)
	})
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	return e, err
}

func newEntry(rec policy.KeyRecord) (*entry, error) {
	p, err := rec.Principal()
	if err != nil {
		return nil, err
	}
	return &entry{principal: p, hash: rec.Hash, revoked: !rec.RevokedAt.IsZero(), record: rec}, nil
}

// Run reads again the keys that changes end, until ctx is done. Without it an Authenticator works as well, but the next request with such a key has
// to wait, or to do without the database.
func (a *Authenticator) Run(ctx context.Context) error {
	a.refreshes.Run(ctx, func(ctx context.Context, lookup string) {
		_, _ = a.load(ctx, lookup) // its error is for the request that needs the key
	})
	return nil
}

// RefreshesDropped counts the keys that there was no room for.
func (a *Authenticator) RefreshesDropped() int64 { return a.refreshes.Dropped() }
