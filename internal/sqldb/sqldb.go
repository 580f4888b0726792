// Package sqldb opens the databases promptgate keeps its state in, SQLite or PostgreSQL, behind one type; brings their schema
// up to date; and says what a driver's error means. It knows no table but those of goose.
package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
)

// Dialect is the kind of database behind a DB.
type Dialect string

// The dialects.
const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
)

// Options say which database to open and how.
type Options struct {
	// URL is "sqlite:<path>" or "postgres://…" (also "postgresql://…"). A search_path parameter of a PostgreSQL URL selects
	// the schema that the tables live in.
	URL string
	// MaxOpen bounds the open connections; 0 means 8 for SQLite (one writer, the rest readers) and 16 for PostgreSQL.
	MaxOpen int
	// ConnectTimeout bounds one attempt to connect to PostgreSQL; 0 means 3 s.
	ConnectTimeout time.Duration
	// NoSync lets SQLite acknowledge a commit before it is on the disk: for tests, which outlive no power cut.
	NoSync bool
}

// DB is an open database. Pass the embedded *bun.DB where bun wants an IDB: the field Dialect hides bun's method.
type DB struct {
	*bun.DB
	Dialect Dialect

	path   string        // of the SQLite file, "" for PostgreSQL
	writer chan struct{} // holds one token while somebody writes to SQLite; nil for PostgreSQL
}

// Open opens the database and, for SQLite, creates the file (0600) and its directory (0700) when they are missing. It does
// not wait for PostgreSQL to answer: a gateway starts from its snapshot while the database is down. Ping tells.
func Open(ctx context.Context, o Options) (*DB, error) {
	scheme, rest, found := strings.Cut(o.URL, ":")
	if !found {
		return nil, fmt.Errorf("database URL must be sqlite:<path> or postgres://…")
	}
	switch scheme {
	case "sqlite":
		return openSQLite(ctx, rest, o)
	case "postgres", "postgresql":
		return openPostgres(o)
	default:
		return nil, fmt.Errorf("database URL has scheme %q: it must be sqlite:<path> or postgres://…", scheme)
	}
}

func openPostgres(o Options) (*DB, error) {
	cfg, err := pgx.ParseConfig(o.URL)
	if err != nil {
		// pgx leaves the password out of its parse errors.
		return nil, fmt.Errorf("database URL: %w", err)
	}
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 3 * time.Second
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = o.ConnectTimeout
	}
	// bun writes arguments into the text, so each text is seen once: caching prepared statements would cost a round trip for
	// every query and never pay it back.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	cfg.StatementCacheCapacity = 0
	cfg.DescriptionCacheCapacity = 0
	setDefault(cfg.RuntimeParams, "application_name", "promptgate")
	setDefault(cfg.RuntimeParams, "timezone", "UTC")

	pool := stdlib.OpenDB(*cfg)
	size := o.MaxOpen
	if size <= 0 {
		size = 16
	}
	pool.SetMaxOpenConns(size)
	pool.SetMaxIdleConns(size)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	pool.SetConnMaxLifetime(30 * time.Minute) // lets a failover or a moved address be noticed
	return &DB{DB: bun.NewDB(pool, pgdialect.New()), Dialect: Postgres}, nil
}

func setDefault(m map[string]string, key, value string) {
	if _, ok := m[key]; !ok {
		m[key] = value
	}
}

func openSQLite(ctx context.Context, path string, o Options) (*DB, error) {
	path, err := prepareFile(path)
	if err != nil {
		return nil, err
	}
	pool, err := sql.Open("sqlite", sqliteDSN(path, o.NoSync))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	size := o.MaxOpen
	if size <= 0 {
		size = 8
	}
	pool.SetMaxOpenConns(size)
	pool.SetMaxIdleConns(size)
	if err := pool.PingContext(ctx); err != nil {
		_ = pool.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &DB{
		DB: bun.NewDB(pool, sqlitedialect.New()), Dialect: SQLite,
		path: path, writer: make(chan struct{}, 1),
	}, nil
}

// Path is the file of a SQLite database, "" for PostgreSQL.
func (db *DB) Path() string { return db.path }

// LockWriter waits for this process's turn to write and returns the function that ends it, which may be called twice. SQLite
// lets one connection write at a time and makes the others poll, unfairly, until busy_timeout; queueing here instead keeps
// writers in order and busy_timeout for other processes. On PostgreSQL it returns at once.
func (db *DB) LockWriter(ctx context.Context) (unlock func(), err error) {
	if db.writer == nil {
		return func() {}, nil
	}
	select {
	case db.writer <- struct{}{}:
	case <-ctx.Done():
		return nil, Classify(ctx.Err())
	}
	done := false
	return func() {
		if !done {
			done = true
			<-db.writer
		}
	}, nil
}

// Write runs fn in a write transaction and commits it when fn returns nil. Changes of the domain go through journal.Change
// instead; this is for bookkeeping nobody audits: spool flushes, jobs, leases. Errors of the driver come back classified.
func (db *DB) Write(ctx context.Context, fn func(ctx context.Context, tx bun.Tx) error) error {
	unlock, err := db.LockWriter(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return Classify(db.RunInTx(ctx, nil, fn))
}
