package sqldb_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
)

func open(t *testing.T, url string) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldb.Options{URL: url})
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestOpenRefusesWhatItCannotMean(t *testing.T) {
	for _, url := range []string{
		"", "promptgate.db", "sqlite:", "sqlite::memory:", "mysql://x", "postgres://%%%",
		"sqlite:/dev/null/x/promptgate.db",
	} {
		_, err := sqldb.Open(t.Context(), sqldb.Options{URL: url})
		require.Error(t, err, "%q", url)
	}
	_, err := sqldb.Open(t.Context(), sqldb.Options{URL: "postgres://u:canary@host:notaport/db"})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "canary")
}

func TestSQLiteFilesAreTheOwners(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	path := filepath.Join(dir, "odd ?#%&=.db") // each of these means something in a URI
	db := open(t, "sqlite:"+path)
	require.Equal(t, path, db.Path())
	_, err := db.Exec("CREATE TABLE t (id INT)")
	require.NoError(t, err)
	info, err := os.Stat(dir)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 3, "the database, its WAL and its index")
	for _, f := range files {
		info, err := f.Info()
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), f.Name())
	}
}

func TestSQLiteNarrowsAnOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	require.NoError(t, os.WriteFile(path, nil, 0o644))
	open(t, "sqlite:"+path)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestEverySQLiteConnectionIsSetUp(t *testing.T) {
	db := open(t, testenv.SQLite(t))
	var conns []bun.Conn
	for range 3 { // held open together, so that they are three
		c, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer func() { _ = c.Close() }()
		conns = append(conns, c)
	}
	for _, c := range conns {
		for pragma, want := range map[string]string{
			"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000", "secure_delete": "1",
			"wal_autocheckpoint": "4000",
		} {
			var got string
			require.NoError(t, c.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got))
			assert.Equal(t, want, got, pragma)
		}
	}
}

func TestTimesComeBackAsTheyWere(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		db := open(t, url)
		kind := map[sqldb.Dialect]string{sqldb.SQLite: "TIMESTAMP", sqldb.Postgres: "TIMESTAMPTZ"}[db.Dialect]
		_, err := db.ExecContext(t.Context(), "CREATE TABLE t (at "+kind+")")
		require.NoError(t, err)
		at := time.Date(2026, 2, 28, 23, 59, 59, 123456000, time.FixedZone("", -7*3600))
		_, err = db.NewRaw("INSERT INTO t (at) VALUES (?)", at).Exec(t.Context())
		require.NoError(t, err)
		var got time.Time
		require.NoError(t, db.NewRaw("SELECT at FROM t").Scan(t.Context(), &got))
		require.True(t, at.Equal(got), "%v is not %v", got, at)
	})
}

func TestWritersTakeTurns(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		// Two handles stand for two processes on the same database.
		handles := []*sqldb.DB{open(t, url), open(t, url)}
		_, err := handles[0].ExecContext(t.Context(), "CREATE TABLE counter (n INT)")
		require.NoError(t, err)
		_, err = handles[0].ExecContext(t.Context(), "INSERT INTO counter VALUES (0)")
		require.NoError(t, err)
		const writers, each = 20, 10
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				for range each {
					assert.NoError(t, handles[i%2].Write(t.Context(), func(ctx context.Context, tx bun.Tx) error {
						_, err := tx.ExecContext(ctx, "UPDATE counter SET n = n + 1")
						return err
					}))
				}
			})
		}
		wg.Wait()
		var n int
		require.NoError(t, handles[0].NewRaw("SELECT n FROM counter").Scan(t.Context(), &n))
		require.Equal(t, writers*each, n)
	})
}

func TestWriteRollsBack(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		db := open(t, url)
		_, err := db.ExecContext(t.Context(), "CREATE TABLE t (id INT)")
		require.NoError(t, err)
		cause := fault.New(fault.NotFound, "no")
		err = db.Write(t.Context(), func(ctx context.Context, tx bun.Tx) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO t VALUES (1)")
			require.NoError(t, err)
			return cause
		})
		require.ErrorIs(t, err, cause)
		n, err := db.NewSelect().TableExpr("t").Count(t.Context())
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

func TestLockWriterGivesUpWithItsContext(t *testing.T) {
	db := open(t, testenv.SQLite(t))
	unlock, err := db.LockWriter(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = db.LockWriter(ctx)
	require.True(t, fault.Is(err, fault.RegistryUnavailable), "%v", err)
	unlock()
	unlock() // twice is once
	again, err := db.LockWriter(t.Context())
	require.NoError(t, err)
	again()
}

func TestReadersDoNotWaitForTheWriter(t *testing.T) {
	db := open(t, testenv.SQLite(t))
	_, err := db.Exec("CREATE TABLE t (id INT)")
	require.NoError(t, err)
	require.NoError(t, db.Write(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO t VALUES (1)")
		require.NoError(t, err)
		n, err := db.NewSelect().TableExpr("t").Count(ctx) // on another connection
		require.NoError(t, err)
		require.Zero(t, n, "uncommitted rows are not seen")
		return nil
	}))
}
