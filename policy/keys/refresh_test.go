package keys_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/keys"
)

// What was in use when it changed is read again at once: a database that is lost before the next request takes nothing with it.
func TestChangedKeysAreReadAgain(t *testing.T) {
	w, a, h := newWorld(t)
	kept, revoked, unused := issue(t, h), issue(t, h), issue(t, h)
	for _, k := range []keys.Issued{kept, revoked, unused} {
		w.put(record(k, 1))
	}
	for _, k := range []keys.Issued{kept, revoked} {
		_, err := a.Authenticate(t.Context(), k.Plaintext)
		require.NoError(t, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	gone := record(revoked, 2)
	gone.RevokedAt = noon
	reads := w.reads.Load()
	w.put(record(unused, 2))
	w.put(record(kept, 2))
	w.put(gone)
	require.Eventually(t, func() bool { return len(a.Served()) == 2 }, 10*time.Second, time.Millisecond)
	require.Equal(t, reads+2, w.reads.Load(), "those in use, and no other")
	stop()
	require.NoError(t, <-done)

	w.set(func() { w.err = errors.New("gone") })
	p, err := a.Authenticate(t.Context(), kept.Plaintext)
	require.NoError(t, err)
	require.EqualValues(t, 2, p.Revision)
	_, err = a.Authenticate(t.Context(), revoked.Plaintext)
	require.True(t, fault.Is(err, fault.InvalidAPIKey), "%v", err)
	require.Zero(t, a.RefreshesDropped())
}

// However many ask for a key that has changed, and whoever reads it ahead: the database is asked once.
func TestChangedKeyIsReadOnce(t *testing.T) {
	w, a, h := newWorld(t)
	k := issue(t, h)
	w.put(record(k, 1))
	_, err := a.Authenticate(t.Context(), k.Plaintext)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	for i := 2; i < 50; i++ {
		reads := w.reads.Load()
		w.put(record(k, i))
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				p, err := a.Authenticate(context.Background(), k.Plaintext)
				if assert.NoError(t, err) {
					assert.EqualValues(t, i, p.Revision)
				}
			})
		}
		all.Wait()
		require.Equal(t, reads+1, w.reads.Load())
	}
	stop()
	require.NoError(t, <-done)
}

// deadlines is a store that never answers and notes how long it was given.
type deadlines struct {
	world
	until []time.Time
	each  func()
}

func (d *deadlines) KeyByLookup(ctx context.Context, _ string) (policy.KeyRecord, error) {
	until, _ := ctx.Deadline()
	d.until = append(d.until, until)
	if d.each != nil {
		d.each()
		return policy.KeyRecord{}, nil
	}
	<-ctx.Done()
	return policy.KeyRecord{}, ctx.Err()
}

// A database that hangs costs a request less than a second, also when what it reads changes meanwhile and is read again.
func TestHungDatabase(t *testing.T) {
	d := &deadlines{world: world{now: noon, confirmed: noon}}
	h := newHasher(t)
	a, err := keys.NewAuthenticator(d, h, d, keys.Options{Clock: d.Now})
	require.NoError(t, err)
	k := issue(t, h)
	start := time.Now()
	_, err = a.Authenticate(t.Context(), k.Plaintext)
	require.True(t, fault.Is(err, fault.RegistryUnavailable), "%v", err)
	require.Less(t, d.until[0].Sub(start), time.Second, "the time that it was given, not the time that it took")

	d.until = nil
	d.each = func() {
		d.tell(journal.Change{Touches: []journal.Touch{{Kind: policy.TouchKey, Key: k.Lookup}}})
	}
	_, _ = a.Authenticate(t.Context(), k.Plaintext)
	require.Len(t, d.until, 3)
	for _, until := range d.until {
		require.Equal(t, d.until[0], until, "each reading got the whole time again")
	}
}
