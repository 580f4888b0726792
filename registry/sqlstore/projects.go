package sqlstore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/registry"
)

func projectGone() *fault.Error { return fault.New(fault.NotFound, "There is no such project.") }

// ProjectByID implements registry.Source.
func (s *Store) ProjectByID(ctx context.Context, id string) (registry.Project, error) {
	if !storable(id) {
		return registry.Project{}, projectGone()
	}
	row := projectRow{ID: id}
	if err := s.one(ctx, &row); err != nil {
		return registry.Project{}, readFault(err, projectGone())
	}
	return row.project(), nil
}

// ProjectByName implements registry.Store.
func (s *Store) ProjectByName(ctx context.Context, name string) (registry.Project, error) {
	if !storable(name) {
		return registry.Project{}, projectGone()
	}
	found, err := journal.Select[projectRow](ctx, s.journal, nil, func(q *bun.SelectQuery) { q.Where("name = ?", name) })
	if err != nil {
		return registry.Project{}, readFault(err, projectGone())
	}
	if len(found) == 0 {
		return registry.Project{}, projectGone()
	}
	return found[0].project(), nil
}

// ListProjects implements registry.Store: by name.
func (s *Store) ListProjects(ctx context.Context, page registry.Page) ([]registry.Project, string, error) {
	const list = "projects"
	after, limit, err := readPage(list, page)
	if err != nil {
		return nil, "", err
	}
	found, err := journal.Select[projectRow](ctx, s.journal, nil, func(q *bun.SelectQuery) {
		q.Order("name").Limit(int64(limit) + 1)
		if after != nil {
			q.Where("name > ?", after.Text)
		}
	})
	if err != nil {
		return nil, "", readFault(err, projectGone())
	}
	out, next := cut(found, limit, projectRow.project, func(r projectRow) cursor { return cursor{List: list, Text: r.Name} })
	return out, next, nil
}

// CreateProject implements registry.Store.
func (s *Store) CreateProject(ctx context.Context, by journal.Origin, p registry.Project) (registry.Project, error) {
	row := projectRow{ID: p.ID, Name: p.Name, Description: p.Description, DefaultLabel: p.DefaultLabel, CreatedAt: s.now()}
	ev := journal.Event{
		Project: p.ID, Origin: by, Action: "project.create", Object: "project:" + p.ID,
		Touches: []journal.Touch{registry.ProjectTouch(p.ID), {Kind: seal.TouchKeys, Project: p.ID}},
	}
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		row.Revision = revision
		ev.After = row.project()
		ev.Adds(&row)
		return taken(exec(tx.NewInsert().Model(&row).Exec(ctx)), "project", p.Name)
	}
	_, err := s.journal.Change(ctx, &ev, func(ctx context.Context, tx bun.Tx) error { return s.sealer.AddProject(ctx, tx, p.ID) })
	if err != nil {
		return registry.Project{}, err
	}
	return row.project(), nil
}

// UpdateProject implements registry.Store.
func (s *Store) UpdateProject(ctx context.Context, by journal.Origin, p registry.Project) (registry.Project, error) {
	if !storable(p.ID) {
		return registry.Project{}, projectGone()
	}
	var row projectRow
	ev := journal.Event{
		Project: p.ID, Origin: by, Action: "project.update", Object: "project:" + p.ID,
		Touches: []journal.Touch{registry.ProjectTouch(p.ID)},
	}
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		ev.Before = row.project()
		row.Name, row.Description, row.DefaultLabel, row.Revision = p.Name, p.Description, p.DefaultLabel, revision
		ev.After = row.project()
		ev.Sets(&row)
		return taken(exec(tx.NewUpdate().Model(&row).WherePK().Exec(ctx)), "project", p.Name)
	}
	_, err := s.journal.Change(ctx, &ev, func(ctx context.Context, _ bun.Tx) error {
		row = projectRow{ID: p.ID}
		err := s.hold(ctx, &row)
		if errors.Is(err, sql.ErrNoRows) {
			return projectGone()
		}
		if err != nil {
			return err
		}
		return sameRevision("project", row.Revision, p.Revision)
	})
	if err != nil {
		return registry.Project{}, err
	}
	return row.project(), nil
}

// taken turns a unique key's refusal into a Conflict that names what is taken.
func taken(err error, what, name string) error {
	if sqldb.IsUnique(err) {
		return fault.Wrap(err, fault.Conflict, "The %s name %q is taken.", what, name).WithParam("name")
	}
	return err
}

// sameRevision is If-Match: an edit rests on what its author read.
func sameRevision(what string, stored, expected int64) error {
	if stored == expected {
		return nil
	}
	return fault.New(fault.PreconditionFailed,
		"This %s was changed since you read it: it is at revision %d, you edited revision %d. Read it again and repeat your edit.",
		what, stored, expected)
}
