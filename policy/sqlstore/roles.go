package sqlstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

const aRole = "role"

// Role implements policy.People.
func (s *Store) Role(ctx context.Context, project, name string) (*policy.Role, error) {
	row := roleRow{Project: project, Name: name}
	if err := find(ctx, s, aRole, &row, "project = ? AND name = ?", project, name); err != nil {
		return nil, err
	}
	r, err := row.role()
	return &r, err
}

// ListRoles implements policy.Roles.
func (s *Store) ListRoles(ctx context.Context, project string) ([]policy.Role, error) {
	rows, err := findAll[roleRow](ctx, s, "roles", nil, func(q *bun.SelectQuery) { q.Where("project = ?", project).Order("name") })
	out := make([]policy.Role, 0, len(rows))
	for i := range rows {
		r, bad := rows[i].role()
		if bad != nil {
			return nil, bad
		}
		out = append(out, r)
	}
	return out, err
}

// maxRoles bounds a project's own roles.
const maxRoles = 200

// PutRole implements policy.Roles.
func (s *Store) PutRole(ctx context.Context, by journal.Origin, manager *policy.Principal, r policy.Role) (policy.Role, error) {
	if err := r.Validate(); err != nil {
		return r, err
	}
	if err := policy.DelegateRole(manager, r, s.clock()); err != nil {
		return r, err
	}
	ev := &journal.Event{
		Project: r.Project, Origin: by, Action: "role.create", Object: "role:" + r.Name,
		Touches: []journal.Touch{{Kind: policy.TouchRole, Project: r.Project, Key: r.Name}},
	}
	var row roleRow
	if r.Revision == 0 {
		r.CreatedBy, r.CreatedAt = by.Actor.ID, s.clock()
		err := put(ctx, s, ev, &row, func(ctx context.Context) error {
			if err := s.lockPeople(ctx, r.Project); err != nil {
				return err
			}
			there, err := s.ListRoles(ctx, r.Project)
			if err != nil {
				return err
			}
			if len(there) >= maxRoles || slices.ContainsFunc(there, func(o policy.Role) bool { return o.Name == r.Name }) {
				return fault.New(fault.Conflict, "There is a role of this name, or there are %d roles already.", maxRoles).WithParam("name")
			}
			ev.After = r
			row, err = rowOfRole(r)
			return err
		})
		r.Revision = row.Revision
		return r, err
	}
	ev.Action = "role.update"
	err := amend(ctx, s, ev, &row, s.readRole(r.Project, r.Name), func(context.Context) (bool, error) {
		if err := sameRevision(row.Revision, r.Revision, aRole); err != nil {
			return false, err
		}
		before, err := row.role()
		if err != nil {
			return false, err
		}
		if err := policy.DelegateRole(manager, before, s.clock()); err != nil {
			return false, err
		}
		r.CreatedBy, r.CreatedAt = before.CreatedBy, before.CreatedAt
		ev.Before, ev.After = before, r
		row, err = rowOfRole(r)
		return true, err
	})
	r.Revision = row.Revision
	return r, err
}

func (s *Store) readRole(project, name string) func(ctx context.Context, row *roleRow) error {
	return func(ctx context.Context, row *roleRow) error {
		if err := s.lockPeople(ctx, project); err != nil {
			return err
		}
		return find(ctx, s, aRole, row, "project = ? AND name = ?", project, name)
	}
}

// DeleteRole implements policy.Roles.
func (s *Store) DeleteRole(ctx context.Context, by journal.Origin, manager *policy.Principal, project, name string, revision int64) (int64, error) {
	ev := &journal.Event{
		Project: project, Origin: by, Action: "role.delete", Object: "role:" + name,
		Touches: []journal.Touch{{Kind: policy.TouchRole, Project: project, Key: name}},
	}
	at, err := s.journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		var row roleRow
		if err := s.readRole(project, name)(ctx, &row); err != nil {
			return err
		}
		if revision > 0 {
			if err := sameRevision(row.Revision, revision, aRole); err != nil {
				return err
			}
		}
		r, err := row.role()
		if err != nil {
			return err
		}
		if err := policy.DelegateRole(manager, r, s.clock()); err != nil {
			return err
		}
		held, err := findAll[bindingRow](ctx, s, "bindings", nil, func(q *bun.SelectQuery) { q.Where("project = ? AND role = ?", project, name) })
		if err != nil {
			return err
		}
		if len(held) > 0 {
			return fault.New(fault.Conflict, "%d bindings give this role: take them away first, such as %s.", len(held), held[0].ID)
		}
		ev.Before = r
		ev.Drops(&row)
		_, err = tx.NewDelete().Model(&row).WherePK().Exec(ctx)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("policy: role.delete: %w", err)
	}
	return at, nil
}
