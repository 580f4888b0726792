// Package pointers keeps in memory what a key stands for now: prompts, labels, API keys, and whatever else every call looks up and a change may
// move. It loads what it does not know once however many ask, forgets what a change touched, and remembers nothing that may be from before a change.
package pointers

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/tally"
)

// Cache remembers values and absences by key. A value whose key was forgotten while it was being loaded is not remembered: it may be from before
// the change. It is safe for concurrent use and starts no goroutine.
type Cache[K comparable, V any] struct {
	o      Options[K, V]
	values *otter.Cache[K, V]
	absent *otter.Cache[K, absence]

	mu      sync.Mutex
	flights map[K]*flight[V]

	hits tally.Counter
}

// absence is the answer for what is not there.
type absence struct {
	err   *fault.Error
	until time.Time // zero: until it is forgotten
}

// flight is one load. It is in flights until it lands or is forgotten.
type flight[V any] struct {
	done      chan struct{}
	forgotten bool // guarded by Cache.mu until done is closed, then constant
	value     V
	err       error
}

// Options say what a Cache holds: by number, or by weight when Weigh is set.
type Options[K comparable, V any] struct {
	Name   string // of one value in messages, such as "API key"
	Size   int
	Weight uint64
	Weigh  func(K, V) uint32

	// Key is the key that a touch ends, for Apply; ok is false for touches of other things. nil: none.
	Key func(journal.Touch) (key K, ok bool)
	// Ended is called for each value that Apply forgot. nil: nobody wants to know.
	Ended func(K, V)
	// Gone is called before a value is forgotten, for whatever reason, under a lock: it must not call the cache. May be nil.
	Gone func(V)

	Absences  int           // how many are remembered
	AbsentFor time.Duration // how long; 0: until they are forgotten
	Timeout   time.Duration // of one load, those inside it included
	Clock     func() time.Time
}

// New builds a Cache. An error means that its bounds make no sense: refuse to start.
func New[K comparable, V any](o Options[K, V]) (*Cache[K, V], error) {
	values := &otter.Options[K, V]{MaximumSize: o.Size}
	if o.Weigh != nil {
		values = &otter.Options[K, V]{MaximumWeight: o.Weight, Weigher: o.Weigh}
	}
	if o.Gone != nil {
		values.OnAtomicDeletion = func(e otter.DeletionEvent[K, V]) { o.Gone(e.Value) }
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	c := &Cache[K, V]{o: o, flights: map[K]*flight[V]{}}
	var err error
	if c.values, err = otter.New(values); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "pointers: cache of %s", o.Name)
	}
	if c.absent, err = otter.New(&otter.Options[K, absence]{MaximumSize: o.Absences}); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "pointers: cache of absences of %s", o.Name)
	}
	return c, nil
}

// Get answers from memory.
func (c *Cache[K, V]) Get(key K) (V, bool) {
	v, ok := c.values.GetIfPresent(key)
	if ok {
		c.hits.Inc()
	}
	return v, ok
}

// Hit counts an answer that the caller had kept from an earlier Get.
func (c *Cache[K, V]) Hit() { c.hits.Inc() }

// Hits counts what was found in memory so far.
func (c *Cache[K, V]) Hits() uint64 { return c.hits.Value() }

// All are the values in memory.
func (c *Cache[K, V]) All() iter.Seq2[K, V] { return c.values.All() }

// Put remembers a value as if it had just been loaded: for what an earlier process served. The feed must stand at the revision that it was read at.
func (c *Cache[K, V]) Put(key K, value V) { c.values.Set(key, value) }

// loadTries bounds how often a caller waits for a load that is forgotten under way.
const loadTries = 3

// loadUntil is where a load's context keeps its end: loads inside it, and those again when it was overtaken, share its time.
type loadUntil struct{}

// Load answers what Get does not: from the source, one load per key at a time. When the key is forgotten meanwhile the caller tries again, a few
// times; then it takes what it got, which was true after it asked, and which is remembered by nobody. useAbsence says whether it is certain that no
// change was missed, so that a remembered absence is an answer. Errors are fetch's, RegistryUnavailable when the time is up, and ClientClosed.
func (c *Cache[K, V]) Load(ctx context.Context, key K, useAbsence bool, fetch func(context.Context) (V, error)) (V, error) {
	until := time.Now().Add(c.o.Timeout) //nolint:forbidigo // contexts go by the real time
	if outer, ok := ctx.Value(loadUntil{}).(time.Time); ok && outer.Before(until) {
		until = outer
	}
	for try := 1; ; try++ {
		if useAbsence {
			if a, ok := c.absent.GetIfPresent(key); ok && (a.until.IsZero() || c.o.Clock().Before(a.until)) {
				var none V
				return none, a.err
			}
		}
		f, mine := c.join(key)
		if mine {
			c.fly(context.WithValue(ctx, loadUntil{}, until), key, f, fetch)
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			var none V
			return none, c.gaveUp(ctx.Err())
		}
		if !f.forgotten || try == loadTries {
			return f.value, f.err
		}
	}
}

// gaveUp is the answer to a caller who does not wait any longer: it left, or its time is up.
func (c *Cache[K, V]) gaveUp(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fault.Wrap(err, fault.RegistryUnavailable, "The %s could not be read in time: try again shortly.", c.o.Name)
	}
	return fault.Wrap(err, fault.ClientClosed, "The request was cancelled.")
}

// join returns the flight of a key and whether the caller has to fly it.
func (c *Cache[K, V]) join(key K) (f *flight[V], mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.flights[key]; ok {
		return f, false
	}
	f = &flight[V]{done: make(chan struct{})}
	if v, ok := c.values.GetIfPresent(key); ok { // landed between the caller's look and now
		f.value = v
		close(f.done)
		return f, false
	}
	c.flights[key] = f
	return f, true
}

// fly loads on the caller's goroutine. Others wait for it, so it does not end with the caller's context but at loadUntil.
func (c *Cache[K, V]) fly(ctx context.Context, key K, f *flight[V], fetch func(context.Context) (V, error)) {
	f.err = fault.New(fault.Internal, "The %s could not be read.", c.o.Name) // stays when fetch panics
	defer c.land(key, f)
	until, _ := ctx.Value(loadUntil{}).(time.Time)
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	defer cancel()
	f.value, f.err = fetch(ctx)
}

// land remembers what a flight brought, unless its key was forgotten meanwhile or the error says nothing about the key.
func (c *Cache[K, V]) land(key K, f *flight[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(f.done)
	if f.forgotten {
		return
	}
	delete(c.flights, key)
	switch gone := Absence(f.err); {
	case f.err == nil:
		c.absent.Invalidate(key)
		c.values.Set(key, f.value)
	case gone != nil:
		a := absence{err: gone}
		if c.o.AbsentFor > 0 {
			a.until = c.o.Clock().Add(c.o.AbsentFor)
		}
		c.absent.Set(key, a)
	}
}

// Apply forgets what a change touched.
func (c *Cache[K, V]) Apply(change journal.Change) {
	for _, t := range change.Touches {
		key, ok := c.o.Key(t)
		if !ok {
			continue
		}
		if old, known := c.forget(key); known && c.o.Ended != nil {
			c.o.Ended(key, old)
		}
	}
}

// forget ends what is known of a key, and of what is being loaded for it. It returns the value that was remembered.
func (c *Cache[K, V]) forget(key K) (old V, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.flights[key]; ok {
		f.forgotten = true
		delete(c.flights, key)
	}
	c.absent.Invalidate(key)
	return c.values.Invalidate(key)
}

// Forget ends all values that match, and what is being loaded.
func (c *Cache[K, V]) Forget(match func(K, V) bool) {
	var keys []K
	for k, v := range c.values.All() {
		if match(k, v) {
			keys = append(keys, k)
		}
	}
	c.mu.Lock()
	for k := range c.flights {
		keys = append(keys, k)
	}
	c.mu.Unlock()
	for _, k := range keys {
		c.forget(k)
	}
}

// Replace puts a value in the place of the one that is remembered now, and nowhere else: the old one must still be there.
func (c *Cache[K, V]) Replace(key K, isOld func(V) bool, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.values.GetIfPresent(key); ok && isOld(v) {
		c.values.Set(key, value)
	}
}

// Absence is err when it says that a thing is not there; nil when it says that somebody could not answer.
func Absence(err error) *fault.Error {
	switch fault.CodeOf(err) {
	case fault.NotFound, fault.PromptNotFound, fault.VersionNotFound, fault.LabelNotFound:
		var f *fault.Error
		errors.As(err, &f)
		return f
	}
	return nil
}
