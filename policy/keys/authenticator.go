package keys

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/refresh"
	"github.com/promptgate/promptgate/internal/tally"
	"github.com/promptgate/promptgate/policy"
)

// Feed tells of changes; journal.Journal is one.
type Feed interface {
	// Subscribe registers fn for every change that is committed from now on.
	Subscribe(fn func(journal.Change))
	// ConfirmedAt is when it was last certain that no change was missed; zero: never yet.
	ConfirmedAt() time.Time
}

// Options tune an Authenticator; every field may be left zero.
type Options struct {
	Clock       func() time.Time // nil means time.Now
	MaxKeys     int              // keys kept in memory; 0 means 200,000 (about 1 KB each)
	MaxUnknown  int              // unknown lookups remembered; 0 means 20,000
	UnknownFor  time.Duration    // how long they are remembered unless a change ends it sooner; 0 means 10 s
	StaleAfter  time.Duration    // how long keys are served after the feed was last certain; 0 means 1 h
	LoadTimeout time.Duration    // bounds what one request waits for the source; 0 means 800 ms
}

// Authenticator recognises API keys. A key seen before is answered from memory: the cache maps the lookup to the record and to the
// SHA-256 of the one token that was proven against its keyed hash, so that a warm request costs one SHA-256 and no allocation.
// Revocations and edits arrive through the feed. What a change ends is read again by Run.
// It is safe for concurrent use and starts no goroutine of its own.
type Authenticator struct {
	source  policy.KeySource
	hasher  *Hasher
	feed    Feed
	o       Options
	known   *otter.Cache[string, *entry]
	unknown *otter.Cache[string, time.Time] // until when

	hits tally.Counter // of known

	refreshes *refresh.Queue[string] // lookups

	mu      sync.Mutex
	flights map[string]*flight // reads under way by lookup; an invalidation removes them, and only registered ones install
}

// entry is a key as it was read. It is shared between requests and, but for proven, never changed.
type entry struct {
	principal *policy.Principal
	hash      []byte
	revoked   bool
	record    policy.KeyRecord // as it was read, for Served

	// proven is the SHA-256 of the token that matched the hash, so that the HMAC is computed once a load.
	proven atomic.Pointer[[sha256.Size]byte]
}

// flight is one read that several requests may wait for.
type flight struct {
	done  chan struct{}
	stale bool   // invalidated under way; guarded by Authenticator.mu
	entry *entry // nil: there is no such key
	err   error
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
	known, err := otter.New(&otter.Options[string, *entry]{MaximumSize: o.MaxKeys})
	if err != nil {
		return nil, fmt.Errorf("keys: cache: %w", err)
	}
	unknown, err := otter.New(&otter.Options[string, time.Time]{MaximumSize: o.MaxUnknown})
	if err != nil {
		return nil, fmt.Errorf("keys: cache: %w", err)
	}
	a := &Authenticator{
		source: source, hasher: hasher, feed: feed, o: o, known: known, unknown: unknown,
		refreshes: refresh.NewQueue[string](), flights: map[string]*flight{},
	}
	feed.Subscribe(a.apply)
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
	now := a.o.Clock()
	if now.Sub(a.feed.ConfirmedAt()) > a.o.StaleAfter {
		return nil, fault.New(fault.RegistryUnavailable,
			"API keys could not be confirmed for too long: try again when the gateway reaches its database again.")
	}
	e, ok := a.known.GetIfPresent(lookup)
	if ok {
		a.hits.Inc()
	} else {
		var err error
		if e, err = a.miss(ctx, lookup, now); err != nil {
			return nil, err
		}
	}
	if e == nil || !a.prove(e, credential) || e.revoked || expired(e.principal, now) {
		return nil, refused()
	}
	return e.principal, nil
}

// MemoryReads counts the keys that were found in memory so far.
func (a *Authenticator) MemoryReads() uint64 { return a.hits.Value() }

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

// miss reads a key that is not in memory. nil without an error means that there is none.
func (a *Authenticator) miss(ctx context.Context, lookup string, now time.Time) (*entry, error) {
	if until, ok := a.unknown.GetIfPresent(lookup); ok && now.Before(until) {
		return nil, nil
	}
	// A read that was overtaken by a change is read again: its answer may be from before. The bound only matters to keys that
	// change faster than they can be read; then the last answer, which is younger than the request, counts.
	until := time.Now().Add(a.o.LoadTimeout) // of all of them
	var f *flight
	for range 3 {
		var leader bool
		if f, leader = a.join(lookup); leader {
			a.load(ctx, lookup, f, until)
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, waitError(ctx.Err())
		}
		if !a.overtaken(f) {
			break
		}
	}
	return f.entry, f.err
}

func waitError(err error) error {
	if errors.Is(err, context.Canceled) {
		return fault.Wrap(err, fault.ClientClosed, "The request was cancelled.")
	}
	return fault.Wrap(err, fault.RegistryUnavailable, "The API key could not be checked in time: try again shortly.")
}

// join finds the read under way for a lookup or registers a new one, which the caller must then load.
func (a *Authenticator) join(lookup string) (f *flight, leader bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f = a.flights[lookup]; f != nil {
		return f, false
	}
	f = &flight{done: make(chan struct{})}
	if e, ok := a.known.GetIfPresent(lookup); ok { // landed between the caller's look and now
		f.entry = e
		close(f.done)
		return f, false
	}
	a.flights[lookup] = f
	return f, true
}

func (a *Authenticator) overtaken(f *flight) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return f.stale
}

// load reads for all who wait, so the leaving of one caller does not end it. What it found is installed only if no change to
// the key was heard of meanwhile: the check and the installation are one step under the lock that changes take as well.
func (a *Authenticator) load(ctx context.Context, lookup string, f *flight, until time.Time) {
	defer close(f.done)
	f.err = fault.New(fault.Internal, "reading the API key did not finish") // unless it does
	defer a.install(lookup, f)
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	defer cancel()
	f.entry, f.err = a.read(ctx, lookup)
}

func (a *Authenticator) install(lookup string, f *flight) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.flights[lookup] != f {
		return
	}
	delete(a.flights, lookup)
	switch {
	case f.err != nil: // not remembered: the next request asks again
	case f.entry == nil:
		a.unknown.Set(lookup, a.o.Clock().Add(a.o.UnknownFor))
	default:
		a.known.Set(lookup, f.entry)
	}
}

func (a *Authenticator) read(ctx context.Context, lookup string) (*entry, error) {
	rec, err := a.source.KeyByLookup(ctx, lookup)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil, nil
	case err != nil:
		return nil, fault.Wrap(err, fault.RegistryUnavailable, "The API key could not be checked: try again shortly.")
	}
	return newEntry(rec)
}

func newEntry(rec policy.KeyRecord) (*entry, error) {
	p, err := rec.Principal()
	if err != nil {
		return nil, err
	}
	return &entry{principal: p, hash: rec.Hash, revoked: !rec.RevokedAt.IsZero(), record: rec}, nil
}

// apply forgets the keys that a change touched, and has those in use read again.
func (a *Authenticator) apply(c journal.Change) {
	for _, t := range c.Touches {
		if t.Kind == policy.TouchKey {
			a.forget(t.Key)
		}
	}
}

func (a *Authenticator) forget(lookup string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f := a.flights[lookup]; f != nil {
		f.stale = true
		delete(a.flights, lookup)
	}
	if _, inUse := a.known.Invalidate(lookup); inUse {
		a.refreshes.Add(lookup)
	}
	a.unknown.Invalidate(lookup)
}

// Run reads again the keys that changes end, until ctx is done. Without it an Authenticator works as well, but the next request with such a key has
// to wait, or to do without the database.
func (a *Authenticator) Run(ctx context.Context) error {
	a.refreshes.Run(ctx, func(ctx context.Context, lookup string) {
		if _, ok := a.known.GetIfPresent(lookup); !ok {
			_, _ = a.miss(ctx, lookup, a.o.Clock()) // its error is for the request that needs the key
		}
	})
	return nil
}

// RefreshesDropped counts the keys that there was no room for.
func (a *Authenticator) RefreshesDropped() int64 { return a.refreshes.Dropped() }
