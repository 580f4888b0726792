package journal_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
)

// columns lists a table's columns and their types as the database has them, so that a new column without protection is found.
func columns(t *testing.T, db *sqldb.DB, table string) map[string]string {
	t.Helper()
	q := "SELECT name, type FROM pragma_table_info(?)"
	if db.Dialect == sqldb.Postgres {
		q = "SELECT column_name AS name, data_type AS type FROM information_schema.columns " +
			"WHERE table_schema = current_schema() AND table_name = ?"
	}
	var found []struct{ Name, Type string }
	require.NoError(t, db.NewRaw(q, table).Scan(t.Context(), &found))
	require.NotEmpty(t, found)
	out := map[string]string{}
	for _, c := range found {
		out[c.Name] = strings.ToUpper(c.Type)
	}
	return out
}

// unprotected lifts the foreign key for this test, as somebody who edits the file does.
func unprotected(t *testing.T, db *sqldb.DB) {
	t.Helper()
	if db.Dialect == sqldb.Postgres {
		_, err := db.Exec("ALTER TABLE journal_payloads DROP CONSTRAINT journal_payloads_revision_fkey")
		require.NoError(t, err)
		return
	}
	db.SetMaxOpenConns(1) // the pragma is the connection's
	_, err := db.Exec("PRAGMA foreign_keys = 0")
	require.NoError(t, err)
}

var chainTables = []string{"journal_payloads", "journal_events", "journal_head"}

// vandal is a chain of five changes, one of them without a payload, to be spoilt again and again.
type vandal struct{ *replica }

func newVandal(t *testing.T, url string) vandal {
	t.Helper()
	v := vandal{chainOfFive(t, url)}
	unprotected(t, v.db)
	for _, table := range chainTables {
		_, err := v.db.Exec("CREATE TABLE copy_of_" + table + " AS SELECT * FROM " + table)
		require.NoError(t, err)
	}
	return v
}

// tamper runs the statements, returns what Verify finds and puts everything back.
func (v vandal) tamper(t *testing.T, statements ...string) journal.Report {
	t.Helper()
	for _, q := range statements {
		res, err := v.db.ExecContext(t.Context(), q)
		require.NoError(t, err, q)
		n, err := res.RowsAffected()
		require.NoError(t, err)
		require.Positive(t, n, "%s: changes nothing, so it tests nothing", q)
	}
	report, err := v.Verify(t.Context())
	require.NoError(t, err)
	for _, table := range chainTables {
		for _, q := range []string{"DELETE FROM " + table, "INSERT INTO " + table + " SELECT * FROM copy_of_" + table} {
			_, err := v.db.ExecContext(t.Context(), q)
			require.NoError(t, err, q)
		}
	}
	requireWhole(t, v.Journal, 5)
	return report
}

func chainOfFive(t *testing.T, url string) *replica {
	t.Helper()
	r := newReplica(t, url, journal.Options{})
	for i := range 5 {
		ev := event(fmt.Sprint("thing:", i))
		if i == 4 {
			ev.Before, ev.After = nil, nil
		}
		_, err := r.Change(t.Context(), ev, nothing)
		require.NoError(t, err)
	}
	requireWhole(t, r.Journal, 5)
	return r
}

func kinds(r journal.Report) (out []journal.ProblemKind) {
	for _, p := range r.Problems {
		out = append(out, p.Kind)
	}
	return out
}

// edits is a statement for each column of a table that changes it in one row.
func edits(t *testing.T, db *sqldb.DB, table string) map[string]string {
	t.Helper()
	blob := map[sqldb.Dialect]string{sqldb.SQLite: "X'01'", sqldb.Postgres: `'\x01'`}[db.Dialect]
	out := map[string]string{}
	for name, kind := range columns(t, db, table) {
		var value string
		switch kind {
		case "BIGINT", "INTEGER":
			value = name + " + 100"
		case "TEXT":
			value = "'[]'" // also what touches may hold
		case "BLOB", "BYTEA":
			value = blob
		case "BOOLEAN":
			value = "NOT " + name
		default:
			t.Fatalf("%s.%s is a %s: teach this test to change it", table, name, kind)
		}
		where := "revision = 3"
		if table == "journal_head" {
			where = "id = 1"
		}
		out[name] = fmt.Sprintf("UPDATE %s SET %s = %s WHERE %s", table, name, value, where)
	}
	return out
}

func TestEveryColumnIsProtected(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		v := newVandal(t, url)
		for _, table := range chainTables {
			for column, statement := range edits(t, v.db, table) {
				if table == "journal_head" && column == "id" {
					continue // its CHECK forbids every other value
				}
				report := v.tamper(t, statement)
				assert.False(t, report.OK(), "%s goes unseen", statement)
			}
		}
	})
}

func TestTampering(t *testing.T) {
	const (
		cut    = "DELETE FROM journal_events WHERE revision = "
		gone   = "DELETE FROM journal_payloads WHERE revision = "
		set    = "UPDATE journal_payloads SET "
		toHead = "UPDATE journal_head SET revision = 4, hash = (SELECT hash FROM journal_events WHERE revision = 4)"
	)
	cases := map[string]struct {
		statements []string
		want       journal.ProblemKind
		at         int64
	}{
		"first event deleted":  {[]string{cut + "1", gone + "1"}, journal.Gap, 2},
		"middle event deleted": {[]string{cut + "3", gone + "3"}, journal.Gap, 4},
		"deleted, closed up": {
			[]string{
				cut + "3", gone + "3", "UPDATE journal_events SET revision = revision - 1 WHERE revision = 4",
				"UPDATE journal_events SET revision = 4 WHERE revision = 5",
			}, journal.Unlinked, 3,
		},
		"deleted, relinked": {
			[]string{
				"UPDATE journal_events SET prev_hash = (SELECT hash FROM journal_events WHERE revision = 2) WHERE revision = 4",
				cut + "3", gone + "3",
			}, journal.Edited, 4,
		},
		"swapped": {
			[]string{
				"UPDATE journal_events SET revision = 99 WHERE revision = 2",
				"UPDATE journal_events SET revision = 2 WHERE revision = 3",
				"UPDATE journal_events SET revision = 3 WHERE revision = 99",
			}, journal.Edited, 2,
		},
		"inserted": {
			[]string{
				"INSERT INTO journal_events SELECT 6, at, project, actor_kind, actor_id, actor_name, action, object, why, from_addr, " +
					"touches, before_commit, after_commit, written, hash, hash FROM journal_events WHERE revision = 5",
				"UPDATE journal_head SET revision = 6",
			}, journal.Edited, 6,
		},
		"tail cut off":        {[]string{cut + "5"}, journal.Tail, 5},
		"everything cut off":  {[]string{"DELETE FROM journal_events", "DELETE FROM journal_payloads"}, journal.Tail, 5},
		"payload deleted":     {[]string{gone + "2"}, journal.Payload, 2},
		"payload of no event": {[]string{"UPDATE journal_payloads SET revision = 77 WHERE revision = 4"}, journal.Payload, 77},
		"payload added": {
			[]string{
				"INSERT INTO journal_payloads SELECT 5, shredded, before_sealed, after_sealed FROM journal_payloads WHERE revision = 4",
			}, journal.Payload, 5,
		},
		"payload of another": {
			[]string{
				set + "after_sealed = (SELECT p.after_sealed FROM journal_payloads AS p WHERE p.revision = 1) WHERE revision = 2",
			}, journal.Payload, 2,
		},
		"before and after swap": {
			[]string{set + "after_sealed = before_sealed, before_sealed = after_sealed WHERE revision = 2"}, journal.Payload, 2,
		},
		"shredded unrecorded": {
			[]string{set + "shredded = TRUE, before_sealed = '', after_sealed = '' WHERE revision = 2"}, journal.Shred, 2,
		},
		"half shredded":        {[]string{set + "shredded = TRUE, before_sealed = '' WHERE revision = 2"}, journal.Shred, 2},
		"marked shredded":      {[]string{set + "shredded = TRUE WHERE revision = 2"}, journal.Shred, 2},
		"emptied":              {[]string{set + "before_sealed = '' WHERE revision = 2"}, journal.Payload, 2},
		"rolled back unmarked": {[]string{cut + "5", toHead}, "", 0},
	}
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		v := newVandal(t, url)
		for name, c := range cases {
			t.Run(name, func(t *testing.T) {
				report := v.tamper(t, c.statements...)
				if c.want == "" {
					require.True(t, report.OK(), "only an anchor can show this: %+v", report.Problems)
					return
				}
				require.Contains(t, report.Problems, journal.Problem{Revision: c.at, Kind: c.want})
			})
		}
	})
}

func TestAnchorShowsARollback(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := chainOfFive(t, url)
		report, err := r.Verify(t.Context())
		require.NoError(t, err)
		noted := report.Head
		require.EqualValues(t, 5, noted.Revision)
		report, err = r.Verify(t.Context(), noted)
		require.NoError(t, err)
		require.True(t, report.OK())

		for _, q := range []string{
			"DELETE FROM journal_events WHERE revision = 5",
			"UPDATE journal_head SET revision = 4, hash = (SELECT hash FROM journal_events WHERE revision = 4)",
		} {
			_, err := r.db.ExecContext(t.Context(), q)
			require.NoError(t, err)
		}
		report, err = r.Verify(t.Context(), noted)
		require.NoError(t, err)
		require.Equal(t, []journal.Problem{{Revision: 5, Kind: journal.Anchored}}, report.Problems)

		// Another history that has grown past the cut.
		again := newReplica(t, url, journal.Options{})
		_, err = again.Change(t.Context(), event("thing:other"), nothing)
		require.NoError(t, err)
		report, err = again.Verify(t.Context(), noted)
		require.NoError(t, err)
		require.Equal(t, []journal.Problem{{Revision: 5, Kind: journal.Anchored}}, report.Problems)
	})
}

func TestShred(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := chainOfFive(t, url)
		other := event("thing:0")
		other.Project = "p2"
		_, err := r.Change(t.Context(), other, nothing)
		require.NoError(t, err)
		by := journal.Origin{Actor: journal.Actor{Kind: "user", ID: "u2"}, Why: "asked to"}

		revision, err := r.Shred(t.Context(), by, "p1", "thing:0")
		require.NoError(t, err)
		require.EqualValues(t, 7, revision)
		report, err := r.Verify(t.Context())
		require.NoError(t, err)
		require.True(t, report.OK(), "%+v", report.Problems)
		require.EqualValues(t, 1, report.Shredded)
		require.EqualValues(t, 4, report.Payloads)

		_, err = r.Shred(t.Context(), by, "p1", "")
		require.NoError(t, err)
		report, err = r.Verify(t.Context())
		require.NoError(t, err)
		require.True(t, report.OK(), "%+v", report.Problems)
		require.EqualValues(t, 4, report.Shredded)
		require.EqualValues(t, 1, report.Payloads, "the other project's")

		entries, _, err := r.List(t.Context(), journal.Query{Project: "p1", Action: "thing.*", Payloads: true})
		require.NoError(t, err)
		for _, e := range entries {
			require.Nil(t, e.Before)
			require.Nil(t, e.After)
			require.Equal(t, e.Revision != 5, e.Shredded, "revision 5 had none")
		}
		spoil := func(statement string) {
			_, err := r.db.ExecContext(t.Context(), statement)
			require.NoError(t, err)
		}
		spoil("UPDATE journal_payloads SET after_sealed = (SELECT p.after_sealed FROM journal_payloads AS p WHERE p.revision = 6) WHERE revision = 2")
		report, err = r.Verify(t.Context())
		require.NoError(t, err)
		require.Equal(t, []journal.Problem{{Revision: 2, Kind: journal.Shred}}, report.Problems, "shredded is empty")
		spoil("UPDATE journal_payloads SET after_sealed = '' WHERE revision = 2")

		_, err = r.Change(t.Context(), event("thing:9"), nothing)
		require.NoError(t, err)
		spoil("UPDATE journal_payloads SET shredded = TRUE, before_sealed = '', after_sealed = '' WHERE revision > 8 OR revision = 6")
		report, err = r.Verify(t.Context())
		require.NoError(t, err)
		require.Equal(t, []journal.ProblemKind{journal.Shred, journal.Shred}, kinds(report),
			"a record covers neither later events nor other projects")
	})
}

func TestShredNeedsAName(t *testing.T) {
	r := newReplica(t, testenv.SQLite(t), journal.Options{})
	_, err := r.Shred(t.Context(), journal.Origin{}, "", "")
	require.Error(t, err)
	require.Zero(t, r.head(t))
}

func TestAnotherKeyMakesAnotherChain(t *testing.T) {
	r := chainOfFive(t, testenv.SQLite(t))
	// Somebody who can write to the database and has keys, but not ours, has a chain of his own: each of its events is told.
	other := chainOfFive(t, testenv.SQLite(t))
	for _, q := range []string{
		"ATTACH DATABASE '" + other.db.Path() + "' AS other", "DELETE FROM journal_payloads", "DELETE FROM journal_events",
		"INSERT INTO journal_events SELECT * FROM other.journal_events", "INSERT INTO journal_payloads SELECT * FROM other.journal_payloads",
		"UPDATE journal_head SET hash = (SELECT hash FROM other.journal_head)", "DETACH DATABASE other",
	} {
		_, err := r.db.ExecContext(t.Context(), q)
		require.NoError(t, err)
	}
	report, err := r.Verify(t.Context())
	require.NoError(t, err)
	for revision := range int64(5) {
		require.Contains(t, report.Problems, journal.Problem{Revision: revision + 1, Kind: journal.Edited})
	}
	require.Error(t, journal.New(r.db, openSealer(t, r.db), journal.Options{}).Load(t.Context()), "and nobody starts on it")
}

func TestVerifyOfManyPagesAndProblems(t *testing.T) {
	r := newReplica(t, testenv.SQLite(t), journal.Options{})
	const n = 1001 // two full pages and one more
	appendMany(t, r, n)
	requireWhole(t, r.Journal, n)
	_, err := r.db.Exec("UPDATE journal_events SET why = 'x'")
	require.NoError(t, err)
	report, err := r.Verify(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, n, report.Found)
	require.Len(t, report.Problems, 100)
}

func appendMany(t *testing.T, r *replica, n int) {
	t.Helper()
	for range n {
		_, err := r.Change(t.Context(), &journal.Event{Action: "a.b"}, nothing)
		require.NoError(t, err)
	}
}
