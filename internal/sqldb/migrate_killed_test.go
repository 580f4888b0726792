package sqldb_test

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
)

func migration(text string) fs.FS {
	return fstest.MapFS{"0001_x.sql": {Data: []byte("-- +goose Up\n" + text)}}
}

func up(t *testing.T, db *sqldb.DB, files fs.FS) error {
	t.Helper()
	return sqldb.UpFS(t.Context(), db, files)
}

func TestAFailedMigrationLeavesNothing(t *testing.T) {
	db := open(t, testenv.SQLite(t))
	require.Error(t, up(t, db, migration("CREATE TABLE a (id INT);\nCREATE TABLE b (id INT REFERENCES;\n")))
	_, err := db.Exec("SELECT * FROM a")
	require.ErrorContains(t, err, "no such table")
	require.NoError(t, up(t, db, migration("CREATE TABLE a (id INT);\nCREATE TABLE b (id {{blob}});\n")))
	_, err = db.Exec("SELECT * FROM b")
	require.NoError(t, err)
}

func TestUnknownPlaceholder(t *testing.T) {
	db := open(t, testenv.SQLite(t))
	require.ErrorContains(t, up(t, db, migration("CREATE TABLE a (id {{uuid}});")), "{{uuid}}")
}

func TestUnknownSet(t *testing.T) {
	db := open(t, testenv.SQLite(t))
	require.ErrorContains(t, sqldb.Migrate(t.Context(), db, discard, "other"), "other")
}

// TestAKilledMigrationIsFinishedByTheNextStart kills a process that is in the middle of a step and holds the lock.
func TestAKilledMigrationIsFinishedByTheNextStart(t *testing.T) {
	const child = "PROMPTGATE_SQLDB_CHILD"
	ctx := context.Background()
	if url := os.Getenv(child); url != "" {
		db := open(t, url)
		_, err := sqldb.LockMigrations(ctx, db)
		require.NoError(t, err)
		fmt.Println("locked")
		_ = up(t, db, migration("CREATE TABLE a (id INT);\n"+
			"CREATE TABLE b AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n;\n"))
		return
	}
	url := testenv.SQLite(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestAKilledMigrationIsFinishedByTheNextStart$")
	cmd.Env = append(os.Environ(), child+"="+url)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "locked\n", line)

	db := open(t, url)
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_, err = sqldb.LockMigrations(short, db)
	require.Error(t, err, "while it lives, others wait")
	time.Sleep(200 * time.Millisecond) // well into the step
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()

	release, err := sqldb.LockMigrations(ctx, db)
	require.NoError(t, err)
	defer release()
	_, err = db.Exec("SELECT * FROM a")
	require.ErrorContains(t, err, "no such table", "half a step is no step")
	require.NoError(t, up(t, db, migration("CREATE TABLE a (id INT);\nCREATE TABLE b (id INT);\n")))
}

// TestPostgresMigrationKilled ends the session that migrates: its step is rolled back and its lock is free.
func TestPostgresMigrationKilled(t *testing.T) {
	url := testenv.Postgres(t)
	db, other := open(t, url), open(t, url)
	done := make(chan error, 1)
	go func() { done <- up(t, db, migration("CREATE TABLE a (id INT);\nSELECT pg_sleep(60);\n")) }()
	require.Eventually(t, func() bool {
		var killed int
		err := other.NewRaw("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%'").
			Scan(t.Context(), &killed)
		return err == nil && killed > 0
	}, 20*time.Second, 10*time.Millisecond)
	require.Error(t, <-done)
	_, err := other.Exec("SELECT * FROM a")
	require.ErrorContains(t, err, "does not exist")
	require.NoError(t, up(t, other, migration("CREATE TABLE a (id INT);\n")))
}
