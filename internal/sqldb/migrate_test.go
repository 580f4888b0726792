package sqldb_test

import (
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
)

var discard = slog.New(slog.DiscardHandler)

var sets = []sqldb.Set{sqldb.Main, sqldb.Ledger}

func tables(t *testing.T, db *sqldb.DB) (names []string) {
	t.Helper()
	q := "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'goose_%' ORDER BY name"
	if db.Dialect == sqldb.Postgres {
		q = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename NOT LIKE 'goose_%' ORDER BY 1"
	}
	require.NoError(t, db.NewRaw(q).Scan(t.Context(), &names))
	return names
}

func TestMigrateUpAndDownAndUpAgain(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		db := open(t, url)
		require.NoError(t, sqldb.Migrate(t.Context(), db, discard, sets...))
		first := tables(t, db)
		require.Contains(t, first, "journal_events")
		require.NoError(t, sqldb.Migrate(t.Context(), db, discard, sets...), "a second start has nothing to do")

		steps, err := sqldb.Status(t.Context(), db, sets...)
		require.NoError(t, err)
		for _, s := range steps {
			require.True(t, s.Applied, "%+v", s)
			require.False(t, s.At.IsZero(), "%+v", s)
		}
		for i := len(steps) - 1; i >= 0; i-- {
			require.NoError(t, sqldb.Down(t.Context(), db, steps[i].Set), "%+v", steps[i])
		}
		require.Empty(t, tables(t, db), "what goes up comes down")
		steps, err = sqldb.Status(t.Context(), db, sets...)
		require.NoError(t, err)
		for _, s := range steps {
			require.False(t, s.Applied, "%+v", s)
		}
		require.NoError(t, sqldb.Migrate(t.Context(), db, discard, sets...))
		require.Equal(t, first, tables(t, db))
	})
}

func TestStartingTogetherMigratesOnce(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		var wg sync.WaitGroup
		for range 6 {
			db := open(t, url)
			wg.Go(func() { assert.NoError(t, sqldb.Migrate(t.Context(), db, discard, sets...)) })
		}
		wg.Wait()
		db := open(t, url)
		var twice int
		require.NoError(t, db.NewRaw(
			"SELECT count(*) FROM (SELECT version_id FROM goose_main GROUP BY version_id HAVING count(*) > 1) AS d").
			Scan(t.Context(), &twice))
		require.Zero(t, twice)
	})
}

func TestNewerSchemaIsRefused(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		db := testenv.Open(t, url)
		_, err := db.ExecContext(t.Context(), "INSERT INTO goose_main (version_id, is_applied) VALUES (9999, true)")
		require.NoError(t, err)
		err = sqldb.Migrate(t.Context(), db, discard)
		require.ErrorContains(t, err, "9999")
		require.ErrorContains(t, err, "newer release")
		require.ErrorContains(t, sqldb.Down(t.Context(), db), "newer release")
	})
}

func TestMigrateSaysThatTheDatabaseIsAway(t *testing.T) {
	db := open(t, "postgres://x@127.0.0.1:1/x?sslmode=disable")
	require.True(t, sqldb.IsUnavailable(sqldb.Migrate(t.Context(), db, discard)))
}

var (
	createTable = regexp.MustCompile(`(?is)CREATE TABLE\s+(?:IF NOT EXISTS\s+)?(\w+)\s*\((.*?)\n\)[^;\n]*;`)
	references  = regexp.MustCompile(`(?i)REFERENCES\s+(\w+)`)
)

// TestTablesKeepToTheirPrefix is the rule that lets a domain's tables be moved to another database.
func TestTablesKeepToTheirPrefix(t *testing.T) {
	prefix := func(table string) string { p, _, _ := strings.Cut(table, "_"); return p }
	known := map[string]bool{"registry": true, "policy": true, "metrics": true, "journal": true}
	found := 0
	err := fs.WalkDir(os.DirFS("migrations"), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile("migrations/" + path)
		require.NoError(t, err)
		matches := createTable.FindAllStringSubmatch(string(text), -1)
		require.Equal(t, strings.Count(strings.ToUpper(string(text)), "CREATE TABLE"), len(matches),
			"%s: write CREATE TABLE so that this test can read it: name, '(', columns, ')' and ';' on a line of their own", path)
		for _, m := range matches {
			found++
			assert.True(t, known[prefix(m[1])], "%s: table %s wants the prefix of its domain", path, m[1])
			for _, r := range references.FindAllStringSubmatch(m[2], -1) {
				assert.Equal(t, prefix(m[1]), prefix(r[1]), "%s: %s refers to %s across a prefix", path, m[1], r[1])
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.GreaterOrEqual(t, found, 4)
}
