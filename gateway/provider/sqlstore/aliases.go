package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
)

// ListAliases implements provider.Store: by name.
func (s *Store) ListAliases(ctx context.Context, project string) ([]provider.Alias, error) {
	out, err := s.aliases(ctx, project)
	if err != nil {
		return nil, readFault(err, aliasGone())
	}
	return out, nil
}

func (s *Store) aliases(ctx context.Context, project string) ([]provider.Alias, error) {
	rows, err := journal.Select[modelRow](ctx, s.journal, &modelRow{Project: project}, func(q *bun.SelectQuery) { q.Where("project = ?", project).Order("name") })
	if err != nil {
		return nil, err
	}
	out := make([]provider.Alias, 0, len(rows))
	for i := range rows {
		a, err := rows[i].alias()
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// PutAlias implements provider.Store.
func (s *Store) PutAlias(ctx context.Context, by journal.Origin, a provider.Alias) (provider.Alias, error) {
	if err := a.Check(); err != nil {
		return provider.Alias{}, err
	}
	targets, err := json.Marshal(a.Targets)
	if err != nil {
		return provider.Alias{}, err
	}
	row := modelRow{Project: a.Project, Name: a.Name, Targets: string(targets), UpdatedAt: s.now()}
	ev := journal.Event{
		Project: a.Project, Origin: by, Action: "model.create", Object: "model:" + a.Name,
		After: a.Targets, Touches: touch(a.Project, a.Name),
	}
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		row.Revision = revision
		if a.Revision == 0 {
			ev.Adds(&row)
			_, err := tx.NewInsert().Model(&row).Exec(ctx)
			return taken(err, "model alias", a.Name)
		}
		ev.Sets(&row)
		_, err := tx.NewUpdate().Model(&row).WherePK().Exec(ctx)
		return err
	}
	_, err = s.journal.Change(ctx, &ev, func(ctx context.Context, tx bun.Tx) error {
		if err := s.known(ctx, a); err != nil {
			return err
		}
		if a.Revision == 0 {
			return nil
		}
		before, err := s.lockAlias(ctx, tx, a.Project, a.Name)
		if err != nil {
			return err
		}
		ev.Action, ev.Before = "model.update", before.Targets
		return sameRevision("model alias", before.Revision, a.Revision)
	})
	if err != nil {
		return provider.Alias{}, err
	}
	return row.alias()
}

// known refuses an alias for a provider that is not there: its calls would fail. One that is disabled is there.
func (s *Store) known(ctx context.Context, a provider.Alias) error {
	rows, err := s.rows(ctx, a.Project)
	if err != nil {
		return err
	}
	names := slices.Clone(s.o.Configured)
	for i := range rows {
		names = append(names, rows[i].Name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for i, t := range a.Targets {
		if t.Prompt != "" || slices.Contains(names, t.Provider) {
			continue
		}
		if len(names) == 0 {
			return fault.New(fault.InvalidRequest, "Target %d names the provider %q, and there is none at all: add one first.", i+1, t.Provider).WithParam("targets")
		}
		return fault.New(fault.InvalidRequest, "Target %d names the provider %q, which is not there: use one of %s, or add it first.",
			i+1, t.Provider, strings.Join(names, ", ")).WithParam("targets")
	}
	return nil
}

// DeleteAlias implements provider.Store.
func (s *Store) DeleteAlias(ctx context.Context, by journal.Origin, project, name string, revision int64) (int64, error) {
	ev := journal.Event{
		Project: project, Origin: by, Action: "model.delete", Object: "model:" + name, Touches: touch(project, name),
	}
	return s.journal.Change(ctx, &ev, func(ctx context.Context, tx bun.Tx) error {
		before, err := s.lockAlias(ctx, tx, project, name)
		if err != nil {
			return err
		}
		if revision != 0 {
			if err := sameRevision("model alias", before.Revision, revision); err != nil {
				return err
			}
		}
		ev.Before = before.Targets
		ev.Drops(&modelRow{Project: project, Name: name})
		_, err = tx.NewDelete().Model((*modelRow)(nil)).Where("project = ? AND name = ?", project, name).Exec(ctx)
		return err
	})
}

func (s *Store) lockAlias(ctx context.Context, tx bun.Tx, project, name string) (provider.Alias, error) {
	row := modelRow{Project: project, Name: name}
	if !storable(name) {
		return provider.Alias{}, aliasGone()
	}
	err := s.one(ctx, &row, s.lock(tx.NewSelect().Model(&row).WherePK()))
	if errors.Is(err, sql.ErrNoRows) {
		return provider.Alias{}, aliasGone()
	}
	if err != nil {
		return provider.Alias{}, err
	}
	return row.alias()
}
