// Package sqlstore keeps limits, and what of budgets is leased and spent, in SQLite or PostgreSQL, by one implementation. Limits and resets are written
// through the journal; leases, counters and warnings are bookkeeping, which no person does.
package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/policy/limits"
)

// Store implements limits.Store, limits.Bank, limits.Counters and limits.Warnings. It is safe for concurrent use.
type Store struct {
	db      *sqldb.DB
	journal *journal.Journal
	clock   func() time.Time

	mu   sync.Mutex
	said map[warningKey]bool // warnings that are known to stand there
}

// New makes a store on a migrated database. A nil clock means time.Now.
func New(db *sqldb.DB, j *journal.Journal, clock func() time.Time) *Store {
	if clock == nil {
		clock = time.Now
	}
	return &Store{db: db, journal: j, clock: clock, said: map[warningKey]bool{}}
}

var (
	_ limits.Store    = (*Store)(nil)
	_ limits.Bank     = (*Store)(nil)
	_ limits.Counters = (*Store)(nil)
)

// Rules implements limits.Source.
func (s *Store) Rules(ctx context.Context, project string) (limits.Rules, error) {
	out := limits.Rules{Project: project}
	rows, err := s.limitRows(ctx, project)
	if err != nil {
		return out, err
	}
	for i := range rows {
		l, err := rows[i].limit()
		if err != nil {
			return out, err
		}
		out.Limits = append(out.Limits, l)
	}
	out.Resets, err = s.resets(ctx, project)
	return out, err
}

func (s *Store) limitRows(ctx context.Context, project string) ([]limitRow, error) {
	if !storable(project) {
		return nil, nil
	}
	rows, err := journal.Select[limitRow](ctx, s.journal, &limitRow{Project: project}, func(q *bun.SelectQuery) { q.Where("project = ?", project).Order("name") })
	return rows, readFault(err)
}

func (s *Store) resets(ctx context.Context, project string) (out []limits.Reset, err error) {
	rows, err := journal.Select[resetRow](ctx, s.journal, &resetRow{Project: project}, func(q *bun.SelectQuery) { q.Where("project = ?", project) })
	if err != nil {
		return nil, readFault(err)
	}
	for i := range rows {
		r, err := rows[i].reset()
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// LimitByID implements limits.Store.
func (s *Store) LimitByID(ctx context.Context, project, idOrName string) (limits.Limit, error) {
	row, err := s.find(ctx, project, idOrName)
	if err != nil {
		return limits.Limit{}, err
	}
	return row.limit()
}

// find is the limit of a project by its id, else by its name. That there is none is not doubted: nobody is let through by it.
func (s *Store) find(ctx context.Context, project, idOrName string) (limitRow, error) {
	if !storable(project) || !storable(idOrName) {
		return limitRow{}, gone()
	}
	rows, err := journal.Select[limitRow](ctx, s.journal, nil, func(q *bun.SelectQuery) {
		q.Where("project = ? AND (id = ? OR name = ?)", project, idOrName, idOrName).OrderExpr("CASE WHEN id = ? THEN 0 ELSE 1 END", idOrName).Limit(1)
		if _, changing := journal.Tx(ctx); changing && s.db.Dialect == sqldb.Postgres {
			q.For("UPDATE")
		}
	})
	switch {
	case err != nil:
		return limitRow{}, readFault(err)
	case len(rows) == 0:
		return limitRow{}, gone()
	}
	return rows[0], nil
}

// CreateLimit implements limits.Store.
func (s *Store) CreateLimit(ctx context.Context, by journal.Origin, l limits.Limit) (limits.Limit, error) {
	if err := l.Validate(); err != nil {
		return l, err
	}
	l.ID, l.CreatedBy, l.CreatedAt = "lim_"+strings.ToLower(rand.Text()), by.Actor.ID, s.clock()
	row := limitRowOf(l)
	ev := event("limit.create", by, row)
	ev.After = row.public()
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		row.Revision = revision
		ev.Adds(&row)
		_, err := tx.NewInsert().Model(&row).Exec(ctx)
		if sqldb.IsUnique(err) {
			return fault.New(fault.Conflict, "There is a limit called %q already: change it, or choose another name.", row.Name).WithParam("name")
		}
		return err
	}
	_, err := s.journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		n, err := tx.NewSelect().Model((*limitRow)(nil)).Where("project = ?", l.Project).Count(ctx)
		if err == nil && n >= limits.MaxLimits {
			return fault.New(fault.Conflict, "A project has %d limits at the most: use each_key, each_user, groups or patterns.", limits.MaxLimits)
		}
		return err
	})
	if err != nil {
		return l, err
	}
	return row.limit()
}

// UpdateLimit implements limits.Store.
func (s *Store) UpdateLimit(ctx context.Context, by journal.Origin, l limits.Limit) (limits.Limit, error) {
	if err := l.Validate(); err != nil {
		return l, err
	}
	var row limitRow
	ev := event("limit.update", by, limitRow{Project: l.Project, ID: l.ID})
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		row.Revision = revision
		ev.Sets(&row)
		_, err := tx.NewUpdate().Model(&row).WherePK().Exec(ctx)
		if sqldb.IsUnique(err) {
			return fault.New(fault.Conflict, "There is a limit called %q already: choose another name.", row.Name).WithParam("name")
		}
		return err
	}
	_, err := s.journal.Change(ctx, ev, func(ctx context.Context, _ bun.Tx) (err error) {
		if row, err = s.find(ctx, l.Project, l.ID); err != nil {
			return err
		}
		if row.Revision != l.Revision {
			return changedMeanwhile()
		}
		ev.Before = row.public()
		row.Name, row.Amount, row.Soft, row.Unpriced, row.Contact = l.Name, l.Amount, l.Soft, l.Unpriced, l.Contact
		ev.After = row.public()
		return nil
	})
	if err != nil {
		return l, err
	}
	return row.limit()
}

// DeleteLimit implements limits.Store.
func (s *Store) DeleteLimit(ctx context.Context, by journal.Origin, project, id string, rev int64) (int64, error) {
	ev := event("limit.delete", by, limitRow{Project: project, ID: id})
	return s.journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		row, err := s.find(ctx, project, id)
		if err != nil {
			return err
		}
		if rev != 0 && row.Revision != rev {
			return changedMeanwhile()
		}
		ev.Before, ev.Object = row.public(), "limit:"+row.ID
		ev.Drops(&limitRow{Project: project, ID: row.ID})
		if _, err = tx.NewDelete().Model(&row).WherePK().Exec(ctx); err != nil {
			return err
		}
		return s.clear(ctx, tx, ev, row)
	})
}

// clear takes away what was kept for a limit that is no more.
func (s *Store) clear(ctx context.Context, tx bun.Tx, ev *journal.Event, row limitRow) error {
	resets, err := s.resets(ctx, row.Project)
	if err != nil {
		return err
	}
	for _, r := range resets {
		if r.Limit != row.ID {
			continue
		}
		dropped := &resetRow{Project: row.Project, LimitID: r.Limit, Subject: r.Subject}
		ev.Drops(dropped)
		if _, err := tx.NewDelete().Model(dropped).WherePK().Exec(ctx); err != nil {
			return err
		}
	}
	for _, table := range []string{"policy_limit_leases", "policy_limit_warnings"} {
		if _, err := tx.NewDelete().TableExpr(table).Where("limit_id = ?", row.ID).Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ResetSpend implements limits.Store.
func (s *Store) ResetSpend(ctx context.Context, by journal.Origin, project, id, subject string) (limits.Usage, error) {
	now := s.clock()
	var l limits.Limit
	reset := resetRow{Project: project, Subject: subject, ResetBy: by.Actor.ID, ResetAt: now.UnixMicro(), Why: by.Why}
	there := false
	ev := event("limit.reset", by, limitRow{Project: project, ID: id})
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		reset.Revision = revision
		if there {
			ev.Sets(&reset)
			_, err := tx.NewUpdate().Model(&reset).WherePK().Exec(ctx)
			return err
		}
		ev.Adds(&reset)
		_, err := tx.NewInsert().Model(&reset).Exec(ctx)
		return err
	}
	revision, err := s.journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		row, err := s.find(ctx, project, id)
		if err != nil {
			return err
		}
		if l, err = row.limit(); err != nil {
			return err
		}
		switch {
		case !l.Budget():
			return fault.New(fault.InvalidRequest, "A limit of a minute, or of what runs at a time, has no spend to reset.").WithParam("limit")
		case l.Each() != (subject != "") || !storable(subject):
			return fault.New(fault.InvalidRequest, "The spend of a default is reset for one key or user: send its id as subject, and for other limits none.").WithParam("subject")
		}
		ev.Object, reset.LimitID = "limit:"+l.ID, l.ID
		off, err := s.spentBy(ctx, tx, l, subject, now)
		if err != nil {
			return err
		}
		text, err := json.Marshal(off)
		if err != nil {
			return err
		}
		reset.Off = string(text)
		ev.After = map[string]any{"subject": subject, "off": off}
		old, err := s.resets(ctx, project)
		for _, r := range old {
			there = there || r.Limit == l.ID && r.Subject == subject
		}
		return err
	})
	if err != nil {
		return limits.Usage{}, err
	}
	all, err := s.Spend(ctx, l, subject, 1)
	if err != nil {
		return limits.Usage{}, err
	}
	all[0].Revision = revision
	return all[0], nil
}

func event(action string, by journal.Origin, row limitRow) *journal.Event {
	return &journal.Event{
		Project: row.Project, Origin: by, Action: action, Object: "limit:" + row.ID,
		Touches: []journal.Touch{{Kind: limits.TouchLimits, Project: row.Project}},
	}
}

func gone() error { return fault.New(fault.NotFound, "There is no such limit.") }

func changedMeanwhile() error {
	return fault.New(fault.PreconditionFailed, "The limit was changed meanwhile: read it again and repeat the change.")
}

func storable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

func readFault(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return gone()
	}
	err = sqldb.Classify(err)
	var f *fault.Error
	if err == nil || errors.As(err, &f) {
		return err
	}
	return fault.Wrap(err, fault.RegistryUnavailable, "The project's limits cannot be read now: try again shortly.")
}
