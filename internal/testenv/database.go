package testenv

import (
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
)

// EachDatabase runs fn once on SQLite and once on PostgreSQL, each time with the URL of an empty database.
func EachDatabase(t *testing.T, fn func(t *testing.T, url string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { fn(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { fn(t, Postgres(t)) })
}

// SQLite returns the URL of a new file.
func SQLite(t testing.TB) (url string) {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "promptgate.db")
}

// Open opens a database and migrates the given sets, or Main; the test's end closes it. SQLite does not wait for the disk.
func Open(t testing.TB, url string, sets ...sqldb.Set) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldb.Options{URL: url, NoSync: true})
	check(t, "open database", err)
	t.Cleanup(func() { _ = db.Close() })
	check(t, "migrate", sqldb.Migrate(t.Context(), db, slog.New(slog.DiscardHandler), sets...))
	return db
}

// Sealer makes keys in a migrated database, under a master key of its own.
func Sealer(t testing.TB, db *sqldb.DB) *seal.Sealer {
	t.Helper()
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	s, err := seal.OpenKeys(t.Context(), db, seal.Options{Key: base64.StdEncoding.EncodeToString(secret)})
	check(t, "open keys", err)
	return s
}

// Journal makes keys and a journal in a migrated database. The test registers its subscribers and calls Load, and Run where it
// needs other replicas' changes.
func Journal(t testing.TB, db *sqldb.DB, o journal.Options) *journal.Journal {
	t.Helper()
	return journal.New(db, Sealer(t, db), o)
}
