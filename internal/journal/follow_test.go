package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/testenv"
)

const patience = 20 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, patience, 5*time.Millisecond, what)
}

// TestManyWriters is the heart: two replicas, 50 goroutines, and what each subscriber, the chain and the rows say afterwards.
func TestManyWriters(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		const writers, each = 50, 3
		patient := journal.Options{Timeout: time.Minute}
		replicas := []*replica{newReplica(t, url, patient), newReplica(t, url, patient)}
		for _, r := range replicas {
			r.run(t)
		}
		var mu sync.Mutex
		given := map[int64]string{}
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					r, id := replicas[w%2], fmt.Sprintf("%d-%d", w, i)
					ev := event(id)
					ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
						_, err := tx.NewRaw("UPDATE things SET revision = ? WHERE id = ?", revision, id).Exec(ctx)
						return err
					}
					revision, err := r.Change(t.Context(), ev, insertThing(id))
					if !assert.NoError(t, err) {
						return
					}
					assert.GreaterOrEqual(t, r.Revision(), revision, "read your writes")
					mu.Lock()
					given[revision] = id
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		require.Len(t, given, writers*each, "each revision is given once")
		for _, r := range replicas {
			require.NoError(t, r.Wait(t.Context(), writers*each))
			require.Equal(t, upTo(writers*each), r.revisions(), "in order and without gaps")
			for _, c := range r.seen {
				require.Equal(t, given[c.Revision], c.Object)
			}
		}
		var wrong int
		require.NoError(t, replicas[0].db.NewRaw("SELECT count(*) FROM things AS t WHERE NOT EXISTS "+
			"(SELECT 1 FROM journal_events AS e WHERE e.object = t.id AND e.revision = t.revision)").Scan(t.Context(), &wrong))
		require.Zero(t, wrong)
		requireWhole(t, replicas[0].Journal, writers*each)
	})
}

func TestPollCarriesChangesToOtherReplicas(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		here := newReplica(t, url, journal.Options{})
		there := newReplica(t, url, journal.Options{Poll: 10 * time.Millisecond})
		there.run(t)
		_, err := here.Change(t.Context(), event("a"), nothing)
		require.NoError(t, err)
		eventually(t, "the poll brings it", func() bool { return there.Revision() == 1 })
		require.Equal(t, here.seen, there.seen, "told here from memory and there from the database, it is the same")
		before := there.ConfirmedAt()
		eventually(t, "each poll confirms", func() bool { return there.ConfirmedAt().After(before) })
	})
}

func TestDefaultPollIsHalfASecond(t *testing.T) {
	url := testenv.SQLite(t)
	here, there := newReplica(t, url, journal.Options{}), newReplica(t, url, journal.Options{})
	there.run(t)
	_, err := here.Change(t.Context(), event("a"), nothing)
	require.NoError(t, err)
	eventually(t, "within a moment", func() bool { return there.Revision() == 1 })
}

// bus is a Notifier within the process.
type bus struct {
	mu   sync.Mutex
	subs map[int]func(int64)
	next int
	fail atomic.Bool
}

func (b *bus) Publish(_ context.Context, revision int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, fn := range b.subs {
		fn(revision)
	}
}

func (b *bus) Subscribe(ctx context.Context, fn func(int64)) error {
	if b.fail.Swap(false) {
		return errors.New("broken once")
	}
	b.mu.Lock()
	id := b.next
	b.next++
	if b.subs == nil {
		b.subs = map[int]func(int64){}
	}
	b.subs[id] = fn
	b.mu.Unlock()
	<-ctx.Done()
	b.mu.Lock()
	delete(b.subs, id)
	b.mu.Unlock()
	return ctx.Err()
}

func (b *bus) listeners() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.subs)
}

func TestNotifierIsFasterThanThePoll(t *testing.T) {
	url := testenv.SQLite(t)
	var b bus
	b.fail.Store(true) // the first subscription breaks, and is made again
	here := newReplica(t, url, journal.Options{Notifier: &b})
	there := newReplica(t, url, journal.Options{Notifier: &b, Poll: time.Hour})
	there.run(t)
	eventually(t, "it listens", func() bool { return b.listeners() == 1 })
	for i := range int64(3) {
		_, err := here.Change(t.Context(), event("a"), nothing)
		require.NoError(t, err)
		eventually(t, "told", func() bool { return there.Revision() == i+1 })
	}
}

func TestWait(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		here, there := newReplica(t, url, journal.Options{}), newReplica(t, url, journal.Options{})
		require.NoError(t, there.Wait(t.Context(), 0))
		_, err := here.Change(t.Context(), event("a"), nothing)
		require.NoError(t, err)
		require.Zero(t, there.Revision(), "nobody polls")
		require.NoError(t, there.Wait(t.Context(), 1), "so Wait asks itself")

		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err = there.Wait(ctx, 2)
		require.True(t, fault.Is(err, fault.RegistryUnavailable), "%v", err)

		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { assert.NoError(t, there.Wait(t.Context(), 2)) })
		}
		_, err = here.Change(t.Context(), event("a"), nothing)
		require.NoError(t, err)
		wg.Wait()
		require.Equal(t, upTo(2), there.revisions())
	})
}

func TestLoadStartsAtTheHead(t *testing.T) {
	url := testenv.SQLite(t)
	here := newReplica(t, url, journal.Options{})
	for range 3 {
		_, err := here.Change(t.Context(), event("a"), nothing)
		require.NoError(t, err)
	}
	late := newReplica(t, url, journal.Options{})
	require.EqualValues(t, 3, late.Revision())
	require.Empty(t, late.revisions(), "history is not played again")
	require.False(t, late.ConfirmedAt().IsZero())
}

func TestResumePlaysWhatWasMissed(t *testing.T) {
	url := testenv.SQLite(t)
	here := newReplica(t, url, journal.Options{})
	appendMany(t, here, 1203) // more than two pages behind
	r := &replica{Journal: journal.New(here.db, openSealer(t, here.db), journal.Options{})}
	r.Subscribe(func(c journal.Change) { r.seen = append(r.seen, c) })
	require.True(t, r.ConfirmedAt().IsZero(), "a snapshot confirms nothing")
	r.Resume(2)
	require.EqualValues(t, 2, r.Revision())
	require.NoError(t, r.Wait(t.Context(), 1203))
	require.Equal(t, upTo(1203)[2:], r.revisions())
}

// logLines collects what is logged.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) count(sub string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), sub)
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// TestDatabaseLostAndBack takes PostgreSQL away in each of the ways it goes.
func TestDatabaseLostAndBack(t *testing.T) {
	server := testenv.OwnPostgres(t)
	url := server.Schema(t)
	var log logLines
	r := newReplica(t, url, journal.Options{Poll: 20 * time.Millisecond, Timeout: time.Second, Log: log.logger()})
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log.buf.String())
		}
	})
	r.run(t)
	for i, outage := range []struct {
		name       string
		take, give func()
	}{
		{"stopped", func() { server.Stop(t) }, func() { server.Restart(t) }},
		{"killed", func() { server.Kill(t) }, func() { server.Restart(t) }},
		{"frozen", server.Pause, server.Resume},
	} {
		_, err := r.Change(t.Context(), event("a"), nothing)
		require.NoError(t, err, outage.name)
		outage.take()
		eventually(t, outage.name, func() bool { return log.count("database lost") == i+1 })
		confirmed := r.ConfirmedAt()
		start := time.Now()
		_, err = r.Change(t.Context(), event("a"), nothing)
		require.True(t, fault.Is(err, fault.RegistryUnavailable), "%s: %v", outage.name, err)
		require.Less(t, time.Since(start), patience, outage.name)
		require.Equal(t, confirmed, r.ConfirmedAt(), "nothing is confirmed while it is away")
		outage.give()
		eventually(t, outage.name, func() bool { return log.count("database back") == i+1 })
		eventually(t, outage.name, func() bool { return r.ConfirmedAt().After(confirmed) })
		require.Equal(t, i+1, log.count("database lost"), "one line for each change of state")
	}
	report, err := r.Verify(t.Context())
	require.NoError(t, err)
	require.True(t, report.OK(), "%+v", report.Problems)
}

func TestAnOlderDatabaseIsNotConfirmed(t *testing.T) {
	var log logLines
	r := newReplica(t, testenv.SQLite(t), journal.Options{Log: log.logger(), Poll: 10 * time.Millisecond})
	for range 2 {
		_, err := r.Change(t.Context(), event("a"), nothing)
		require.NoError(t, err)
	}
	_, err := r.db.Exec("UPDATE journal_head SET revision = 1") // as a restored backup has it
	require.NoError(t, err)
	confirmed := r.ConfirmedAt()
	r.run(t)
	eventually(t, "it says so", func() bool { return log.count("restart this replica") == 1 })
	require.Equal(t, confirmed, r.ConfirmedAt())
	require.Equal(t, upTo(2), r.revisions())
}

// TestAnotherHistoryIsNotFollowed puts a database back and lets it grow, faster than the poll, past what was seen.
func TestAnotherHistoryIsNotFollowed(t *testing.T) {
	url := testenv.SQLite(t)
	var log logLines
	r := newReplica(t, url, journal.Options{Log: log.logger()})
	for range 2 {
		_, err := r.Change(t.Context(), event("a"), nothing)
		require.NoError(t, err)
	}
	for _, q := range []string{
		"DELETE FROM journal_payloads WHERE revision = 2", "DELETE FROM journal_events WHERE revision = 2",
		"UPDATE journal_head SET revision = 1, hash = (SELECT hash FROM journal_events WHERE revision = 1)",
	} {
		_, err := r.db.Exec(q)
		require.NoError(t, err)
	}
	other := newReplica(t, url, journal.Options{})
	wait := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		return r.Wait(ctx, 3)
	}
	for range 2 { // to the revision that was seen here, then past it
		_, err := other.Change(t.Context(), event("b"), nothing)
		require.NoError(t, err)
		confirmed := r.ConfirmedAt()
		require.Error(t, wait())
		require.Equal(t, confirmed, r.ConfirmedAt())
	}
	require.Equal(t, upTo(2), r.revisions())
	require.Equal(t, 1, log.count("restart this replica"))
	require.EqualValues(t, 3, newReplica(t, url, journal.Options{}).Revision(), "a restart helps")
}

// TestASnapshotOfALostFutureIsNotFollowed has no hash to compare with, only that the database was once behind.
func TestASnapshotOfALostFutureIsNotFollowed(t *testing.T) {
	r := newReplica(t, testenv.SQLite(t), journal.Options{})
	r.Resume(1) // from a snapshot that had seen more than the database has
	wait := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		return r.Wait(ctx, 2)
	}
	require.Error(t, wait())
	for range 2 {
		_, err := newReplica(t, "sqlite:"+r.db.Path(), journal.Options{}).Change(t.Context(), event("a"), nothing)
		require.NoError(t, err)
	}
	require.Error(t, wait())
	require.Empty(t, r.revisions())
}

func TestConfirmedAtNeverGoesBack(t *testing.T) {
	now := time.Now()
	r := newReplica(t, testenv.SQLite(t), journal.Options{Clock: func() time.Time { return now }})
	confirmed := r.ConfirmedAt()
	now = now.Add(-time.Hour)
	_, err := r.Change(t.Context(), event("a"), nothing)
	require.NoError(t, err)
	require.Equal(t, confirmed, r.ConfirmedAt())
}

func TestMissingEventsAreNotSkipped(t *testing.T) {
	url := testenv.SQLite(t)
	here, there := newReplica(t, url, journal.Options{}), newReplica(t, url, journal.Options{})
	for range 3 {
		_, err := here.Change(t.Context(), &journal.Event{Action: "a.b"}, nothing)
		require.NoError(t, err)
	}
	_, err := here.db.Exec("DELETE FROM journal_events WHERE revision = 2")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.Error(t, there.Wait(ctx, 3))
	require.Equal(t, upTo(1), there.revisions())
	require.EqualValues(t, 1, there.Revision())
}

func TestSubscribersAreToldOneAtATimeAndInOrderOfRegistration(t *testing.T) {
	r := newReplica(t, testenv.SQLite(t), journal.Options{})
	var inside atomic.Int32
	var order []string
	for _, name := range []string{"first", "second"} {
		r.Subscribe(func(journal.Change) {
			assert.EqualValues(t, 1, inside.Add(1))
			time.Sleep(time.Millisecond)
			order = append(order, name)
			inside.Add(-1)
		})
	}
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			_, err := r.Change(t.Context(), event("a"), nothing)
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	require.Equal(t, strings.Repeat("first second ", 5), strings.Join(order, " ")+" ")
}
