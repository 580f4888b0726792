package journal_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
)

// replica is a journal with a pool of its own on a database that several share, as another process has it.
type replica struct {
	*journal.Journal
	db *sqldb.DB

	mu   sync.Mutex
	seen []journal.Change
}

const masterKey = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

func newReplica(t testing.TB, url string, o journal.Options) *replica {
	t.Helper()
	r := &replica{db: testenv.Open(t, url)}
	r.Journal = journal.New(r.db, openSealer(t, r.db), o)
	r.Subscribe(func(c journal.Change) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen = append(r.seen, c)
	})
	require.NoError(t, r.Load(t.Context()))
	_, err := r.db.ExecContext(t.Context(), "CREATE TABLE IF NOT EXISTS things (id TEXT PRIMARY KEY, n BIGINT, revision BIGINT)")
	require.NoError(t, err)
	return r
}

func openSealer(t testing.TB, db *sqldb.DB) *seal.Sealer {
	t.Helper()
	s, err := seal.OpenKeys(t.Context(), db, seal.Options{Key: masterKey})
	require.NoError(t, err)
	return s
}

// run starts the poll loop and stops it, and waits for it, at the test's end.
func (r *replica) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			assert.NoError(t, err)
		case <-time.After(10 * time.Second):
			t.Error("Run does not end with its context")
		}
	})
}

func (r *replica) revisions() (out []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.seen {
		out = append(out, c.Revision)
	}
	return out
}

func upTo(n int64) (out []int64) {
	for i := range n {
		out = append(out, i+1)
	}
	return out
}

func event(object string) *journal.Event {
	return &journal.Event{
		Project: "p1", Action: "thing.edit", Object: object,
		Origin: journal.Origin{Actor: journal.Actor{Kind: "user", ID: "u1", Name: "Ada"}, From: "192.0.2.1", Why: "because"},
		Before: map[string]string{"text": "was " + object}, After: map[string]string{"text": "is " + object},
		Touches: []journal.Touch{{Kind: "thing", Project: "p1", Key: object + "\x00x"}},
	}
}

func nothing(context.Context, bun.Tx) error { return nil }

func insertThing(id string) func(context.Context, bun.Tx) error {
	return func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewRaw("INSERT INTO things (id, n) VALUES (?, 0)", id).Exec(ctx)
		return err
	}
}

func (r *replica) things(t *testing.T) (n int64) {
	t.Helper()
	require.NoError(t, r.db.NewRaw("SELECT count(*) FROM things").Scan(t.Context(), &n))
	return n
}

func (r *replica) head(t *testing.T) (revision int64) {
	t.Helper()
	require.NoError(t, r.db.NewRaw("SELECT revision FROM journal_head").Scan(t.Context(), &revision))
	return revision
}

func requireWhole(t *testing.T, j *journal.Journal, events int64) {
	t.Helper()
	report, err := j.Verify(t.Context())
	require.NoError(t, err)
	require.True(t, report.OK(), "%+v", report.Problems)
	require.Equal(t, events, report.Events)
	require.Equal(t, events, report.Head.Revision)
}

func TestChange(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
		r := newReplica(t, url, journal.Options{Clock: func() time.Time { return at }})
		require.Zero(t, r.Revision())
		for i := range int64(3) {
			revision, err := r.Change(t.Context(), event("thing:1"), nothing)
			require.NoError(t, err)
			require.Equal(t, i+1, revision)
			require.Equal(t, revision, r.Revision(), "subscribers have been told when Change returns")
		}
		require.Equal(t, upTo(3), r.revisions())
		require.Equal(t, journal.Change{
			Revision: 2, At: at.Truncate(time.Microsecond), Project: "p1", Action: "thing.edit", Object: "thing:1",
			Touches: []journal.Touch{{Kind: "thing", Project: "p1", Key: "thing:1\x00x"}},
		}, r.seen[1])
		require.True(t, at.Equal(r.ConfirmedAt()))
		requireWhole(t, r.Journal, 3)
	})
}

func TestChangeKeepsStringsThatDatabasesDoNot(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newReplica(t, url, journal.Options{})
		ev := event("it's \"quoted\" \\ ? ?0 $1 {{x}} \u2028 🐘")
		ev.Origin.Why = "nul \x00, broken \xff, ends \xc3"
		_, err := r.Change(t.Context(), ev, nothing)
		require.NoError(t, err)
		requireWhole(t, r.Journal, 1)
		entries, _, err := r.List(t.Context(), journal.Query{Everywhere: true})
		require.NoError(t, err)
		require.Equal(t, ev.Object, entries[0].Object)
		require.Equal(t, "nul \uFFFD, broken \uFFFD, ends \uFFFD", entries[0].Origin.Why)
	})
}

func TestFnFillsTheEvent(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newReplica(t, url, journal.Options{})
		ev := &journal.Event{Action: "thing.create"}
		revision, err := r.Change(t.Context(), ev, func(ctx context.Context, tx bun.Tx) error {
			ev.Object, ev.After = "thing:new", 7
			ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
				ev.Touches = append(ev.Touches, journal.Touch{Kind: "stamped"})
				_, err := tx.NewRaw("UPDATE things SET revision = ? WHERE id = 'new'", revision).Exec(ctx)
				return err
			}
			return insertThing("new")(ctx, tx)
		})
		require.NoError(t, err)
		var stamped int64
		require.NoError(t, r.db.NewRaw("SELECT revision FROM things WHERE id = 'new'").Scan(t.Context(), &stamped))
		require.Equal(t, revision, stamped)
		entries, _, err := r.List(t.Context(), journal.Query{Everywhere: true, Payloads: true})
		require.NoError(t, err)
		require.Equal(t, "thing:new", entries[0].Object)
		require.JSONEq(t, "7", string(entries[0].After))
		require.Nil(t, entries[0].Before)
		require.Equal(t, "stamped", r.seen[0].Touches[0].Kind)
	})
}

func TestARefusedChangeChangesNothing(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newReplica(t, url, journal.Options{})
		refused := fault.New(fault.PreconditionFailed, "no")
		for name, ev := range map[string]*journal.Event{
			"by fn":    {Object: "fn"},
			"by stamp": {Stamp: func(context.Context, bun.Tx, int64) error { return refused }},
		} {
			_, err := r.Change(t.Context(), ev, func(ctx context.Context, tx bun.Tx) error {
				require.NoError(t, insertThing("x")(ctx, tx))
				if ev.Object == "fn" {
					return refused
				}
				return nil
			})
			require.ErrorIs(t, err, refused, name)
			require.Zero(t, r.things(t), name)
			require.Zero(t, r.head(t), name)
		}
		require.Empty(t, r.revisions())
		revision, err := r.Change(t.Context(), event("a"), nothing)
		require.NoError(t, err)
		require.EqualValues(t, 1, revision, "a refused change takes no revision")
	})
}

func TestErrorsAreClassified(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newReplica(t, url, journal.Options{})
		_, err := r.Change(t.Context(), event("a"), insertThing("same"))
		require.NoError(t, err)
		_, err = r.Change(t.Context(), event("b"), insertThing("same"))
		require.True(t, fault.Is(err, fault.Conflict), "%v", err)
		_, err = r.Change(t.Context(), &journal.Event{After: func() {}}, insertThing("other"))
		require.Equal(t, fault.Internal, fault.CodeOf(err), "what cannot be encoded is a bug of ours")
		require.EqualValues(t, 1, r.things(t))
	})
}

// TestNoAuditNoAction breaks each of the journal's own writes in turn.
func TestNoAuditNoAction(t *testing.T) {
	breakWrites := map[sqldb.Dialect]func(table, verb string) []string{
		sqldb.SQLite: func(table, verb string) []string {
			return []string{"CREATE TRIGGER broken BEFORE " + verb + " ON " + table + " BEGIN SELECT RAISE(ABORT, 'broken'); END"}
		},
		sqldb.Postgres: func(table, verb string) []string {
			return []string{
				"CREATE OR REPLACE FUNCTION broken() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'broken'; END $$ LANGUAGE plpgsql",
				"CREATE TRIGGER broken BEFORE " + verb + " ON " + table + " FOR EACH ROW EXECUTE FUNCTION broken()",
			}
		},
	}
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newReplica(t, url, journal.Options{})
		exec := func(q string) {
			_, err := r.db.ExecContext(t.Context(), q)
			require.NoError(t, err, q)
		}
		for table, verb := range map[string]string{
			"journal_events": "INSERT", "journal_payloads": "INSERT", "journal_head": "UPDATE",
		} {
			for _, q := range breakWrites[r.db.Dialect](table, verb) {
				exec(q)
			}
			_, err := r.Change(t.Context(), event("a"), insertThing("a"))
			require.True(t, fault.Is(err, fault.RegistryUnavailable), "%s: %v", table, err)
			require.Zero(t, r.things(t), table)
			require.Zero(t, r.head(t), table)
			drop := "DROP TRIGGER broken"
			if r.db.Dialect == sqldb.Postgres {
				drop += " ON " + table
			}
			exec(drop)
		}
		exec("ALTER TABLE journal_head RENAME TO away")
		_, err := r.Change(t.Context(), event("a"), insertThing("a"))
		require.True(t, fault.Is(err, fault.RegistryUnavailable), "%v", err)
		exec("ALTER TABLE away RENAME TO journal_head")
		exec("DELETE FROM journal_head")
		_, err = r.Change(t.Context(), event("a"), insertThing("a"))
		require.True(t, fault.Is(err, fault.RegistryUnavailable), "%v", err)
		require.Zero(t, r.things(t))
		exec("INSERT INTO journal_head (id, revision, hash) VALUES (1, 0, '')")
		_, err = r.Change(t.Context(), event("a"), insertThing("a"))
		require.NoError(t, err, "mended, it goes on")
		requireWhole(t, r.Journal, 1)
	})
}

func TestCancelledInFn(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newReplica(t, url, journal.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		_, err := r.Change(ctx, event("a"), func(ctx context.Context, tx bun.Tx) error {
			require.NoError(t, insertThing("a")(ctx, tx))
			cancel()
			return nil // a careless fn
		})
		require.True(t, fault.Is(err, fault.ClientClosed), "%v", err)
		require.Zero(t, r.things(t))
		require.Zero(t, r.head(t))
	})
}

func TestCancelledInAStatement(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newReplica(t, url, journal.Options{})
		slow := map[sqldb.Dialect]string{
			sqldb.Postgres: "SELECT pg_sleep(30)",
			sqldb.SQLite:   "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
		}[r.db.Dialect]
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		_, err := r.Change(ctx, event("a"), func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.ExecContext(ctx, slow)
			return err
		})
		require.True(t, fault.Is(err, fault.ClientClosed), "%v", err)
		_, err = r.Change(t.Context(), event("a"), nothing)
		require.NoError(t, err)
	})
}

func TestCancelledTooLate(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newReplica(t, url, journal.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		ev := event("a")
		ev.Stamp = func(context.Context, bun.Tx, int64) error { cancel(); return nil }
		revision, err := r.Change(ctx, ev, insertThing("a"))
		require.NoError(t, err, "who leaves during the commit does not decide its outcome")
		require.Equal(t, revision, r.Revision())
		require.EqualValues(t, 1, r.things(t))
	})
}

func TestAHangingChangeEnds(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newReplica(t, url, journal.Options{Timeout: 50 * time.Millisecond})
		_, err := r.Change(t.Context(), event("a"), func(ctx context.Context, _ bun.Tx) error {
			<-ctx.Done()
			return ctx.Err()
		})
		require.True(t, fault.Is(err, fault.RegistryUnavailable), "%v", err)
		_, err = r.Change(t.Context(), event("a"), nothing)
		require.NoError(t, err, "it holds nothing up")
	})
}

func TestAPanicInFnLocksNothing(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newReplica(t, url, journal.Options{})
		require.Panics(t, func() {
			_, _ = r.Change(t.Context(), event("a"), func(context.Context, bun.Tx) error { panic("bug") })
		})
		_, err := r.Change(t.Context(), event("a"), nothing)
		require.NoError(t, err)
	})
}

func TestConfirmingIsFree(t *testing.T) {
	r := newReplica(t, testenv.SQLite(t), journal.Options{})
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = r.ConfirmedAt(), r.Revision() }))
}
