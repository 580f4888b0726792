package sqldb

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"regexp"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/promptgate/promptgate/internal/fault"
)

// The migrations of every set. A file is named NNNN_<name>.sql, holds "-- +goose Up" and "-- +goose Down" parts, runs on both
// dialects and is never edited once released. {{blob}} and {{timestamp}} stand for the types that have no common name, {{sorted}} for
// text that sorts by its bytes, {{int64}} for the key that a table is stored by, {{clustered}} for storing a table by its key whatever that is.
//
//go:embed migrations
var migrationFiles embed.FS

// Set names one ordered sequence of migrations.
type Set string

// The sets. On SQLite they are two files; on PostgreSQL they live in one database, each with its own version table.
const (
	Main   Set = "main"   // internal/sqldb/migrations
	Ledger Set = "ledger" // internal/sqldb/migrations/ledger
)

// Migration is one step of a set and whether this database has taken it.
type Migration struct {
	Set     Set
	Version int64
	Name    string
	Applied bool
	At      time.Time // when it was applied; zero when pending
}

// Migrate brings the schema up to date: Main, or the given sets in order. Each step is one transaction, so a killed migration
// is finished by the next start, and processes that start together take turns. A schema newer than this binary is refused.
func Migrate(ctx context.Context, db *DB, log *slog.Logger, sets ...Set) error {
	return eachSet(sets, func(set Set) error {
		release, err := db.lockMigrations(ctx)
		if err != nil {
			return err
		}
		defer release()
		p, err := provider(db, set)
		if err != nil || p == nil {
			return err
		}
		done, err := p.Up(ctx) // under goose's lock, which GetVersions does not take; a newer schema it leaves alone
		for _, r := range done {
			log.Info("database migrated", "set", set, "version", r.Source.Version, "file", r.Source.Path, "took", r.Duration)
		}
		if err != nil {
			return explain(err, set)
		}
		return refuseNewer(ctx, p, set)
	})
}

// Status lists the steps of Main, or of the given sets, in order.
func Status(ctx context.Context, db *DB, sets ...Set) ([]Migration, error) {
	var out []Migration
	err := eachSet(sets, func(set Set) error {
		p, err := provider(db, set)
		if err != nil || p == nil {
			return err
		}
		steps, err := p.Status(ctx)
		for _, s := range steps {
			out = append(out, Migration{
				Set: set, Version: s.Source.Version, Name: s.Source.Path,
				Applied: s.State == goose.StateApplied, At: s.AppliedAt,
			})
		}
		return explain(err, set)
	})
	return out, err
}

// Down takes back the newest step of Main, or of each given set. What the step's tables held is lost.
func Down(ctx context.Context, db *DB, sets ...Set) error {
	return eachSet(sets, func(set Set) error {
		release, err := db.lockMigrations(ctx)
		if err != nil {
			return err
		}
		defer release()
		p, err := provider(db, set)
		if err != nil || p == nil {
			return err
		}
		if err := refuseNewer(ctx, p, set); err != nil {
			return err
		}
		_, err = p.Down(ctx)
		return explain(err, set)
	})
}

func eachSet(sets []Set, fn func(Set) error) error {
	if len(sets) == 0 {
		sets = []Set{Main}
	}
	for _, set := range sets {
		if err := fn(set); err != nil {
			return err
		}
	}
	return nil
}

func explain(err error, set Set) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("migrations %s: %w", set, Classify(err))
}

// refuseNewer keeps an old binary from writing to a schema that it does not understand.
func refuseNewer(ctx context.Context, p *goose.Provider, set Set) error {
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return explain(err, set)
	}
	if current > target {
		return fault.New(fault.Internal, "The database's schema %q is at version %d and this promptgate knows it up to %d: "+
			"start the newer release again, or restore the backup made before it was upgraded.", set, current, target)
	}
	return nil
}

// provider is nil when the set has no migrations yet.
func provider(db *DB, set Set) (*goose.Provider, error) {
	dir := map[Set]string{Main: "migrations", Ledger: "migrations/ledger"}[set]
	if dir == "" {
		return nil, fmt.Errorf("no such set of migrations: %q", set)
	}
	files, err := fs.Sub(migrationFiles, dir)
	if err != nil {
		return nil, err
	}
	return providerFS(db, set, files)
}

func providerFS(db *DB, set Set, files fs.FS) (*goose.Provider, error) {
	opts := []goose.ProviderOption{
		goose.WithTableName("goose_" + string(set)),
		goose.WithDisableGlobalRegistry(true),
		goose.WithLogger(goose.NopLogger()),
	}
	dialect := goose.DialectSQLite3
	if db.Dialect == Postgres {
		dialect = goose.DialectPostgres
		opts = append(opts, goose.WithSessionLocker(schemaLocker{set}))
	}
	p, err := goose.NewProvider(dialect, db.DB.DB, typedFS{files, types(db.Dialect)}, opts...)
	if errors.Is(err, goose.ErrNoMigrations) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(err, set)
	}
	return p, nil
}

// schemaLocker makes replicas that start together migrate one after the other. The lock is the schema's and the set's, waits
// in the server instead of polling, and is gone with its session when a migrating process is killed.
type schemaLocker struct{ set Set }

var _ lock.SessionLocker = schemaLocker{}

func (l schemaLocker) SessionLock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock("+l.key()+")")
	return err
}

func (l schemaLocker) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_unlock("+l.key()+")")
	return err
}

func (l schemaLocker) key() string {
	return "hashtextextended(current_database() || '/' || current_schema() || '/promptgate/" + string(l.set) + "', 0)"
}

// lockMigrations makes processes that open one SQLite file take turns. The lock is SQLite's own, on a second, empty file: it
// works wherever SQLite does and is gone with the process that held it.
func (db *DB) lockMigrations(ctx context.Context) (release func(), err error) {
	if db.Dialect != SQLite {
		return func() {}, nil
	}
	path, err := prepareFile(db.path + ".migrating")
	if err != nil {
		return nil, err
	}
	pool, err := sql.Open("sqlite", "file:"+escapePath(path)+"?_pragma=busy_timeout(1000)&_txlock=exclusive")
	if err != nil {
		return nil, err
	}
	for {
		tx, err := pool.BeginTx(context.WithoutCancel(ctx), nil)
		if err == nil {
			return func() { _ = tx.Rollback(); _ = pool.Close() }, nil
		}
		if code, ok := sqliteCode(err); !ok || !busy(code) || ctx.Err() != nil {
			_ = pool.Close()
			return nil, fmt.Errorf("wait for another process's migration: %w", Classify(errors.Join(err, ctx.Err())))
		}
	}
}

// typedFS replaces {{name}} in the SQL files it serves.
type typedFS struct {
	fs.FS
	types map[string]string
}

func types(d Dialect) map[string]string {
	if d == Postgres {
		return map[string]string{"blob": "BYTEA", "timestamp": "TIMESTAMPTZ", "sorted": `TEXT COLLATE "C"`, "int64": "BIGINT", "clustered": ""}
	}
	return map[string]string{"blob": "BLOB", "timestamp": "TIMESTAMP", "sorted": "TEXT", "int64": "INTEGER", "clustered": "WITHOUT ROWID"}
}

var placeholder = regexp.MustCompile(`\{\{(\w+)\}\}`)

// Open implements fs.FS.
func (t typedFS) Open(name string) (fs.File, error) {
	f, err := t.FS.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return f, err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	var unknown error
	text = placeholder.ReplaceAllFunc(text, func(m []byte) []byte {
		s, ok := t.types[string(m[2:len(m)-2])]
		if !ok {
			unknown = fmt.Errorf("%s: unknown placeholder %s", name, m)
		}
		return []byte(s)
	})
	return &typedFile{Reader: bytes.NewReader(text), info: info}, unknown
}

type typedFile struct {
	*bytes.Reader
	info fs.FileInfo
}

// Stat implements fs.File; its size is that of the file before replacement.
func (f *typedFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// Close implements fs.File.
func (f *typedFile) Close() error { return nil }
