package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/authentic"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/policy"
)

var _ policy.PeopleStore = (*Store)(nil)

// newID is prefix and 26 random characters.
func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()) }

// within is the transaction of the change that ctx belongs to, else the database.
func (s *Store) within(ctx context.Context) bun.IDB {
	if tx, ok := journal.Tx(ctx); ok {
		return tx
	}
	return s.db.DB
}

// theRow is a pointer to the model of a row.
type theRow[R any] interface {
	*R
	stamped(revision int64)
}

// find reads one row and believes it only when the journal says the same; that there is none, too, when row holds the primary key that is sought. NotFound, by
// the name of what is sought, when there is none. In a change the row is kept from changing until the change ends.
func find[R any](ctx context.Context, s *Store, what string, row *R, where string, args ...string) error {
	for _, a := range args {
		if !storable(a) {
			return absent(what)
		}
	}
	err := s.journal.Read(ctx, func(ctx context.Context, c *authentic.Claims) error {
		var fresh R
		q := s.within(ctx).NewSelect().Model(&fresh).Where(where, bunArgs(args)...)
		if _, changing := journal.Tx(ctx); changing && s.db.Dialect == sqldb.Postgres {
			q = q.For("UPDATE") // SQLite's transaction has the whole file
		}
		err := q.Scan(ctx)
		switch {
		case err == nil:
			*row = fresh
			c.Is(row)
		case errors.Is(err, sql.ErrNoRows) && !reflect.ValueOf(*row).IsZero():
			c.Absent(row)
		}
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return absent(what)
	}
	if err != nil {
		return fmt.Errorf("policy: read %s: %w", what, sqldb.Classify(err))
	}
	return nil
}

func absent(what string) error { return fault.New(fault.NotFound, "There is no such %s.", what) }

// findAll reads some rows, each believed as by find; that none is missing is checked when like is one of a group that the rows are the whole of.
func findAll[R any](ctx context.Context, s *Store, what string, like authentic.Grouped, narrow func(q *bun.SelectQuery)) ([]R, error) {
	rows, err := journal.Select[R](ctx, s.journal, like, narrow)
	if err != nil {
		return nil, fmt.Errorf("policy: read %s: %w", what, sqldb.Classify(err))
	}
	return rows, nil
}

// order is what a list goes by: a time and, among equals, an id.
type order[R any] struct {
	at, id string // columns
	of     func(*R) (at int64, id string)
}

// list is a page of rows.
func list[R any](ctx context.Context, s *Store, what string, page policy.Page, o order[R], narrow func(q *bun.SelectQuery)) ([]R, string, error) {
	limit := page.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	if limit < 1 || limit > maxLimit {
		return nil, "", fault.New(fault.InvalidRequest, "limit must be 1 to %d", maxLimit).WithParam("limit")
	}
	after, id, err := int64(0), "", error(nil)
	if page.After != "" {
		if after, id, err = parseCursor(page.After); err != nil {
			return nil, "", err
		}
	}
	rows, err := findAll[R](ctx, s, what, nil, func(q *bun.SelectQuery) {
		narrow(q)
		at, ident := bun.Ident(o.at), bun.Ident(o.id)
		q.OrderExpr("?TableAlias.?, ?TableAlias.?", at, ident).Limit(int64(limit) + 1)
		if page.After != "" {
			q.Where("(?TableAlias.? > ? OR (?TableAlias.? = ? AND ?TableAlias.? > ?))", at, after, at, after, ident, id)
		}
	})
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > limit {
		rows = rows[:limit]
		at, id := o.of(&rows[limit-1])
		next = cursorOf(at, id)
	}
	return rows, next, nil
}

// put inserts a row within a change and stamps it with the change's revision.
func put[R any, P theRow[R]](ctx context.Context, s *Store, ev *journal.Event, row P, judge func(ctx context.Context) error) error {
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		row.stamped(revision)
		ev.Adds(row)
		_, err := tx.NewUpdate().Model(row).WherePK().Column("revision").Exec(ctx)
		return err
	}
	_, err := s.journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		if judge != nil {
			if err := judge(ctx); err != nil {
				return err
			}
		}
		_, err := tx.NewInsert().Model(row).Exec(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("policy: %s: %w", ev.Action, err)
	}
	return nil
}

// amend reads a row within a change, has it changed and writes it. do reports whether there is anything to write.
func amend[R any, P theRow[R]](ctx context.Context, s *Store, ev *journal.Event, row P, read func(ctx context.Context, row P) error, do func(ctx context.Context) (bool, error)) error {
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		row.stamped(revision)
		ev.Sets(row)
		_, err := tx.NewUpdate().Model(row).WherePK().Exec(ctx)
		return err
	}
	_, err := s.journal.Change(ctx, ev, func(ctx context.Context, _ bun.Tx) error {
		if err := read(ctx, row); err != nil {
			return err
		}
		changed, err := do(ctx)
		if err == nil && !changed {
			return errUnchanged
		}
		return err
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return fmt.Errorf("policy: %s: %w", ev.Action, err)
	}
	return nil
}

// sameRevision refuses to write over what somebody else wrote meanwhile.
func sameRevision(is, read int64, what string) error {
	if is == read {
		return nil
	}
	return fault.New(fault.PreconditionFailed, "The %s was changed meanwhile: read it again and repeat the change.", what)
}

// lockPeople makes changes of what people may do in a project wait for each other: two admins who take away each other's rights would else both find one
// left. "" is the installation's. SQLite's transaction has the whole file.
func (s *Store) lockPeople(ctx context.Context, project string) error {
	if s.db.Dialect != sqldb.Postgres {
		return nil
	}
	_, err := s.within(ctx).ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", "promptgate people "+project)
	return err
}
