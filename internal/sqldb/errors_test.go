package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
)

// requireCode checks the code of a classified error, and that its cause is kept for the log.
func requireCode(t *testing.T, want fault.Code, err error) {
	t.Helper()
	require.Error(t, err)
	classified := sqldb.Classify(fmt.Errorf("wrapped: %w", err))
	require.Equal(t, want, fault.CodeOf(classified), "%v", err)
	require.ErrorIs(t, classified, err)
}

func TestConstraints(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		db := open(t, url)
		for _, q := range []string{
			"CREATE TABLE parent (id BIGINT PRIMARY KEY, name TEXT NOT NULL, UNIQUE (name))",
			"CREATE TABLE child (id BIGINT PRIMARY KEY, parent_id BIGINT NOT NULL REFERENCES parent (id))",
			"INSERT INTO parent VALUES (1, 'a')", "INSERT INTO child VALUES (1, 1)",
		} {
			_, err := db.ExecContext(t.Context(), q)
			require.NoError(t, err, q)
		}
		for q, unique := range map[string]bool{
			"INSERT INTO parent VALUES (1, 'b')": true,
			"INSERT INTO parent VALUES (2, 'a')": true,
			"INSERT INTO child VALUES (2, 9)":    false,
			"DELETE FROM parent":                 false,
		} {
			_, err := db.ExecContext(t.Context(), q)
			requireCode(t, fault.Conflict, err)
			assert.Equal(t, unique, sqldb.IsUnique(err), q)
			assert.Equal(t, !unique, sqldb.IsForeignKey(err), q)
			assert.False(t, sqldb.IsUnavailable(err) || sqldb.IsFull(err) || sqldb.IsRetryable(err), q)
		}
		_, err := db.ExecContext(t.Context(), "INSERT INTO parent VALUES (3, NULL)")
		require.Error(t, err)
		require.Equal(t, fault.Internal, fault.CodeOf(sqldb.Classify(err)), "a broken NOT NULL is a bug of ours")
		_, err = db.ExecContext(t.Context(), "SELECT nonsense FROM nowhere")
		require.Equal(t, err, sqldb.Classify(err))
	})
}

func TestClassifyLeavesAlone(t *testing.T) {
	require.NoError(t, sqldb.Classify(nil))
	require.Equal(t, sql.ErrNoRows, sqldb.Classify(sql.ErrNoRows))
	own := fmt.Errorf("x: %w", fault.Wrap(syscall.ECONNREFUSED, fault.NotFound, "gone"))
	require.Equal(t, own, sqldb.Classify(own))
	other := errors.New("no idea")
	require.Equal(t, other, sqldb.Classify(other))
}

func TestCodesThatCannotBeProvokedHere(t *testing.T) {
	for code, want := range map[string]fault.Code{
		"53100": fault.StorageFull, "53300": fault.RegistryUnavailable, "57P03": fault.RegistryUnavailable,
		"08006": fault.RegistryUnavailable, "25006": fault.RegistryUnavailable, "55P03": fault.RegistryUnavailable,
		"40001": fault.Conflict, "40P01": fault.Conflict, "22021": fault.Internal, "": fault.Internal,
	} {
		err := sqldb.Classify(&pgconn.PgError{Code: code})
		assert.Equal(t, want, fault.CodeOf(err), code)
	}
	for _, err := range []error{syscall.ENOSPC, &os.PathError{Op: "write", Err: syscall.EDQUOT}} {
		requireCode(t, fault.StorageFull, err)
	}
}

func TestSQLiteFull(t *testing.T) {
	db, err := sqldb.Open(t.Context(), sqldb.Options{URL: testenv.SQLite(t), MaxOpen: 1}) // the limit is the connection's
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	_, err = db.Exec("CREATE TABLE t (b BLOB)")
	require.NoError(t, err)
	_, err = db.Exec("PRAGMA max_page_count = 10")
	require.NoError(t, err)
	err = db.Write(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO t VALUES (zeroblob(1000000))")
		return err
	})
	require.True(t, fault.Is(err, fault.StorageFull), "%v", err)
	_, err = db.Exec("PRAGMA max_page_count = 100000")
	require.NoError(t, err)
	_, err = db.Exec("INSERT INTO t VALUES (zeroblob(1000000))")
	require.NoError(t, err, "it goes on once there is space")
}

func TestSQLiteLockedByAnotherProcess(t *testing.T) {
	url := testenv.SQLite(t)
	holder, db := open(t, url), open(t, url)
	tx, err := holder.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = conn.ExecContext(t.Context(), "PRAGMA busy_timeout = 10")
	require.NoError(t, err)
	_, err = conn.ExecContext(t.Context(), "CREATE TABLE t (id INT)")
	requireCode(t, fault.RegistryUnavailable, err)
}

func TestClosed(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		db := open(t, url)
		require.NoError(t, db.Close())
		requireCode(t, fault.RegistryUnavailable, db.PingContext(t.Context()))
	})
}

func TestContexts(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		db := open(t, url)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		requireCode(t, fault.ClientClosed, db.PingContext(ctx))
		ctx, cancel = context.WithTimeout(t.Context(), time.Nanosecond)
		defer cancel()
		requireCode(t, fault.RegistryUnavailable, db.PingContext(ctx))
		// A statement that is under way.
		slow := map[sqldb.Dialect]string{
			sqldb.Postgres: "SELECT pg_sleep(30)",
			sqldb.SQLite:   "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
		}[db.Dialect]
		ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := db.ExecContext(ctx, slow)
		requireCode(t, fault.RegistryUnavailable, err)
	})
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	db := open(t, "postgres://x@"+l.Addr().String()+"/x?sslmode=disable")
	requireCode(t, fault.RegistryUnavailable, db.PingContext(t.Context()))
}

func TestSomebodyListensAndSaysNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	db, err := sqldb.Open(t.Context(), sqldb.Options{
		URL: "postgres://x@" + l.Addr().String() + "/x?sslmode=disable", ConnectTimeout: 50 * time.Millisecond,
	})
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	requireCode(t, fault.RegistryUnavailable, db.PingContext(t.Context()))
}

func TestPostgresGoesAwayUnderAQuery(t *testing.T) {
	server := testenv.OwnPostgres(t)
	db := open(t, server.URL)
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	done := make(chan error, 1)
	go func() {
		_, err := tx.ExecContext(t.Context(), "SELECT pg_sleep(30)")
		done <- err
	}()
	time.Sleep(50 * time.Millisecond) // lets the statement reach the server; sooner is another case of the same
	server.Kill(t)
	requireCode(t, fault.RegistryUnavailable, <-done)
	requireCode(t, fault.RegistryUnavailable, db.PingContext(t.Context()))
	server.Restart(t)
	require.NoError(t, db.PingContext(t.Context()))
}

func TestPostgresConflictsAreRetryable(t *testing.T) {
	db := open(t, testenv.Postgres(t))
	_, err := db.Exec("CREATE TABLE t (n INT)")
	require.NoError(t, err)
	_, err = db.Exec("INSERT INTO t VALUES (0)")
	require.NoError(t, err)
	tx, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	_, err = tx.Exec("SELECT * FROM t")
	require.NoError(t, err)
	_, err = db.Exec("UPDATE t SET n = 1")
	require.NoError(t, err)
	_, err = tx.Exec("UPDATE t SET n = 2")
	require.True(t, sqldb.IsRetryable(err), "%v", err)
	requireCode(t, fault.Conflict, err)
}
