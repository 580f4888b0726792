package registry

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/tally"
)

// tier remembers values and absences by key, loads what it does not know once however many ask, and forgets on demand. A value
// whose key was forgotten while it was being loaded is not remembered: it may be from before the change.
type tier[K comparable, V any] struct {
	values *otter.Cache[K, V]
	absent *otter.Cache[K, absence]

	mu      sync.Mutex
	flights map[K]*flight[V]

	timeout time.Duration
	hits    tally.Counter // of get
}

// absence is the answer for what is not there.
type absence struct{ err *fault.Error }

// flight is one load. It is in flights until it lands or is forgotten.
type flight[V any] struct {
	done      chan struct{}
	forgotten bool // guarded by tier.mu until done is closed, then constant
	value     V
	err       error
}

// tierOptions bound a tier: by number, or by weight when weigh is set.
type tierOptions[K comparable, V any] struct {
	size     int
	weight   uint64
	weigh    func(K, V) uint32
	gone     func(V) // may be nil; called before a value is forgotten, for whatever reason, under a lock: it must not call the tier
	absences int
	timeout  time.Duration
}

func newTier[K comparable, V any](o tierOptions[K, V]) (*tier[K, V], error) {
	options := &otter.Options[K, V]{MaximumSize: o.size}
	if o.weigh != nil {
		options = &otter.Options[K, V]{MaximumWeight: o.weight, Weigher: o.weigh}
	}
	if o.gone != nil {
		options.OnAtomicDeletion = func(e otter.DeletionEvent[K, V]) { o.gone(e.Value) }
	}
	values, err := otter.New(options)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "registry: cache")
	}
	absent, err := otter.New(&otter.Options[K, absence]{MaximumSize: o.absences})
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "registry: cache of absences")
	}
	return &tier[K, V]{values: values, absent: absent, flights: map[K]*flight[V]{}, timeout: o.timeout}, nil
}

// get answers from memory.
func (t *tier[K, V]) get(key K) (V, bool) {
	v, ok := t.values.GetIfPresent(key)
	if ok {
		t.hits.Inc()
	}
	return v, ok
}

// loadTries bounds how often a caller waits for a load that is forgotten under way.
const loadTries = 3

// loadUntil is where a load's context keeps its end: loads inside it, and those again when it was overtaken, share its time.
type loadUntil struct{}

// load answers what the caches do not: from the source, one load per key at a time. When the key is forgotten meanwhile the
// caller tries again, a few times; then it takes what it got, which was true after it asked, and which is remembered by nobody.
func (t *tier[K, V]) load(ctx context.Context, key K, useAbsence bool, fetch func(context.Context) (V, error)) (V, error) {
	until := time.Now().Add(t.timeout)
	if outer, ok := ctx.Value(loadUntil{}).(time.Time); ok && outer.Before(until) {
		until = outer
	}
	for try := 1; ; try++ {
		if useAbsence {
			if a, ok := t.absent.GetIfPresent(key); ok {
				var none V
				return none, a.err
			}
		}
		f, mine := t.join(key)
		if mine {
			t.fly(context.WithValue(ctx, loadUntil{}, until), key, f, fetch)
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			var none V
			return none, gaveUp(ctx.Err())
		}
		if !f.forgotten || try == loadTries {
			return f.value, f.err
		}
	}
}

// gaveUp is the answer to a caller who does not wait any longer: it left, or its time is up.
func gaveUp(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fault.Wrap(err, fault.RegistryUnavailable, "The registry did not answer in time: try again shortly.")
	}
	return fault.Wrap(err, fault.ClientClosed, "The request was cancelled.")
}

// join returns the flight of a key and whether the caller has to fly it.
func (t *tier[K, V]) join(key K) (f *flight[V], mine bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f, ok := t.flights[key]; ok {
		return f, false
	}
	f = &flight[V]{done: make(chan struct{})}
	if v, ok := t.values.GetIfPresent(key); ok { // landed between the caller's look and now
		f.value = v
		close(f.done)
		return f, false
	}
	t.flights[key] = f
	return f, true
}

// fly loads on the caller's goroutine. Others wait for it, so it does not end with the caller's context but at loadUntil.
func (t *tier[K, V]) fly(ctx context.Context, key K, f *flight[V], fetch func(context.Context) (V, error)) {
	f.err = fault.New(fault.Internal, "The registry could not be read.") // stays when fetch panics
	defer t.land(key, f)
	until, _ := ctx.Value(loadUntil{}).(time.Time)
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	defer cancel()
	f.value, f.err = fetch(ctx)
}

// land remembers what a flight brought, unless its key was forgotten meanwhile or the error says nothing about the key.
func (t *tier[K, V]) land(key K, f *flight[V]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer close(f.done)
	if f.forgotten {
		return
	}
	delete(t.flights, key)
	switch gone := absenceOf(f.err); {
	case f.err == nil:
		t.absent.Invalidate(key)
		t.values.Set(key, f.value)
	case gone != nil:
		t.absent.Set(key, absence{gone})
	}
}

// forget ends what is known of a key, and of what is being loaded for it. It returns the value that was remembered.
func (t *tier[K, V]) forget(key K) (old V, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f, ok := t.flights[key]; ok {
		f.forgotten = true
		delete(t.flights, key)
	}
	t.absent.Invalidate(key)
	return t.values.Invalidate(key)
}

// replace puts a value in the place of the one that is remembered now, and nowhere else: old must still be there.
func (t *tier[K, V]) replace(key K, isOld func(V) bool, value V) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v, ok := t.values.GetIfPresent(key); ok && isOld(v) {
		t.values.Set(key, value)
	}
}

// absenceOf is err when it says that a thing is not there; nil when it says that somebody could not answer.
func absenceOf(err error) *fault.Error {
	switch fault.CodeOf(err) {
	case fault.NotFound, fault.PromptNotFound, fault.VersionNotFound, fault.LabelNotFound:
		return asFault(err)
	}
	return nil
}
