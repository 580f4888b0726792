// Package sqlstore keeps the registry in SQL: one implementation on bun for SQLite and PostgreSQL. Every write is a journal.Change,
// every query names its project, and the text of versions is sealed.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/authentic"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/registry"
)

// Store implements registry.Store. It is safe for concurrent use.
type Store struct {
	db      *sqldb.DB
	journal *journal.Journal
	sealer  *seal.Sealer
	clock   func() time.Time
	gate    registry.Gate
}

var _ registry.Store = (*Store)(nil)

// Options tune a Store; the zero value is fit for production.
type Options struct {
	Clock func() time.Time // nil means time.Now
	Gate  registry.Gate    // judges every change of a prompt; nil allows them all
}

// New returns a Store on a migrated database.
func New(db *sqldb.DB, j *journal.Journal, s *seal.Sealer, o Options) *Store {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return &Store{db: db, journal: j, sealer: s, clock: o.Clock, gate: o.Gate}
}

// judge asks the gate whether a change may happen whose prompt is held.
func (s *Store) judge(ctx context.Context, by journal.Origin, c registry.Change) error {
	if s.gate == nil {
		return nil
	}
	return s.gate.Allow(ctx, by, c)
}

// now is the present at the precision that rows keep.
func (s *Store) now() int64 { return s.clock().UnixMicro() }

// lock makes a select in a transaction hold its rows until the end: what a change checks must not move under it. SQLite's
// transactions have the whole file already.
func (s *Store) lock(q *bun.SelectQuery) *bun.SelectQuery {
	if s.db.Dialect == sqldb.Postgres {
		return q.For("UPDATE")
	}
	return q
}

// readFault turns what a read failed with into a fault. absent is the answer when there is no such row; everything that is not
// known to be the caller's doing is the store's inability to answer, never an absence.
func readFault(err error, absent *fault.Error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return absent
	}
	classified := sqldb.Classify(err)
	var f *fault.Error
	if errors.As(classified, &f) {
		return classified
	}
	return fault.Wrap(err, fault.RegistryUnavailable, "The registry cannot be read now: try again shortly.")
}

// Tables are the models of the rows that decide something: every column of them is checked when it is read (journal.Read).
func Tables() []any {
	return []any{(*projectRow)(nil), (*promptRow)(nil), (*handleRow)(nil), (*versionRow)(nil), (*labelRow)(nil)}
}

// one reads the row of a model's primary key, or finds that it is not there (sql.ErrNoRows), and believes neither unless the journal says so.
func (s *Store) one(ctx context.Context, row any) error {
	return s.journal.Read(ctx, func(ctx context.Context, c *authentic.Claims) error {
		return c.One(row, s.from(ctx).Model(row).WherePK().Scan(ctx))
	})
}

// hold is one in a change, which then has the row for itself.
func (s *Store) hold(ctx context.Context, row any) error {
	return s.journal.Read(ctx, func(ctx context.Context, c *authentic.Claims) error {
		return c.One(row, s.lock(s.from(ctx).Model(row).WherePK()).Scan(ctx))
	})
}

// from begins a select in the change that ctx belongs to, or outside one.
func (s *Store) from(ctx context.Context) *bun.SelectQuery {
	if tx, ok := journal.Tx(ctx); ok {
		return tx.NewSelect()
	}
	return s.db.NewSelect()
}

// storable reports whether a database could hold this text at all: PostgreSQL refuses NUL and invalid UTF-8 with an error that
// would look like a fault of ours.
func storable(ss ...string) bool {
	for _, s := range ss {
		if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
			return false
		}
	}
	return true
}

func micros(us int64) time.Time { return time.UnixMicro(us).UTC() }

func exec(_ sql.Result, err error) error { return err }

// promptGone is also the answer for a prompt of another project.
func promptGone() *fault.Error { return registry.ErrPromptNotFound() }

// lockPrompt reads a prompt's row in a change and holds it until the end of its transaction.
func (s *Store) lockPrompt(ctx context.Context, project, id string) (promptRow, error) {
	row := promptRow{Project: project, ID: id}
	if !storable(project, id) {
		return row, promptGone()
	}
	err := s.hold(ctx, &row)
	if errors.Is(err, sql.ErrNoRows) {
		return row, promptGone()
	}
	return row, err
}
