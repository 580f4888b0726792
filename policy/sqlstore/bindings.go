package sqlstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

const aBinding = "binding"

// Bindings implements policy.People.
func (s *Store) Bindings(ctx context.Context, project, subject string) (*[]policy.Binding, error) {
	rows, err := s.bindingsOf(ctx, project, subject)
	if err != nil {
		return nil, err
	}
	out := make([]policy.Binding, 0, len(rows))
	for i := range rows {
		b, err := rows[i].binding()
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return &out, nil
}

// bindingsOf are all bindings of one subject in a project: none is missing.
func (s *Store) bindingsOf(ctx context.Context, project, subject string) ([]bindingRow, error) {
	if !storable(project) || !storable(subject) {
		return nil, nil
	}
	return findAll[bindingRow](ctx, s, "bindings", &bindingRow{Project: project, Subject: subject}, func(q *bun.SelectQuery) {
		q.Where("project = ? AND subject = ?", project, subject).Order("id")
	})
}

// BindingByID implements policy.Bindings.
func (s *Store) BindingByID(ctx context.Context, project, id string) (policy.Binding, error) {
	var row bindingRow
	if err := find(ctx, s, aBinding, &row, "project = ? AND id = ?", project, id); err != nil {
		return policy.Binding{}, err
	}
	return s.withActions(ctx, &row)
}

// withActions is a binding with what its role may do.
func (s *Store) withActions(ctx context.Context, row *bindingRow) (policy.Binding, error) {
	b, err := row.binding()
	if err != nil {
		return b, err
	}
	return b, s.setActions(ctx, &b)
}

func (s *Store) setActions(ctx context.Context, b *policy.Binding) error {
	b.Actions = nil
	if policy.RoleActions(b.Role) != nil {
		return nil
	}
	role, err := s.Role(ctx, b.Project, b.Role)
	if fault.Is(err, fault.NotFound) {
		return nil // Validate says that there is no such role
	}
	if err == nil {
		b.Actions = role.Actions
	}
	return err
}

// ListBindings implements policy.Bindings.
func (s *Store) ListBindings(ctx context.Context, project, subject string, page policy.Page) ([]policy.Binding, string, error) {
	rows, next, err := list(ctx, s, "bindings", page, order[bindingRow]{"granted_at", "id", func(r *bindingRow) (int64, string) { return r.GrantedAt, r.ID }},
		func(q *bun.SelectQuery) {
			q.Where("b.project = ?", project)
			if subject != "" {
				q.Where("b.subject = ?", subject)
			}
		})
	out := make([]policy.Binding, 0, len(rows))
	for i := range rows {
		b, bad := s.withActions(ctx, &rows[i])
		if bad != nil {
			return nil, "", bad
		}
		out = append(out, b)
	}
	return out, next, err
}

// ProjectsOf implements policy.Bindings.
func (s *Store) ProjectsOf(ctx context.Context, subject string) ([]string, error) {
	if !storable(subject) {
		return nil, nil
	}
	rows, err := findAll[bindingRow](ctx, s, "bindings", nil, func(q *bun.SelectQuery) {
		q.Where("b.subject = ?", subject)
		if strings.HasPrefix(subject, policy.UserPrefix) {
			q.WhereOr("b.subject IN (SELECT group_id FROM policy_group_members WHERE user_id = ?)", subject)
		}
	})
	return projectsIn(rows), err
}

// maxBindings bounds what one subject holds in a project: whoever is asked something has all of it compiled.
const maxBindings = 1000

// Bind implements policy.Bindings.
func (s *Store) Bind(ctx context.Context, by journal.Origin, granter *policy.Principal, b policy.Binding) (policy.Binding, error) {
	b.ID, b.GrantedBy, b.GrantedAt = newID(policy.BindingPrefix), by.Actor.ID, s.clock()
	var row bindingRow
	ev := bindingEvent("binding.create", by, b)
	err := put(ctx, s, ev, &row, func(ctx context.Context) error {
		if err := s.lockPeople(ctx, b.Project); err != nil {
			return err
		}
		if err := s.admitBinding(ctx, &b, granter); err != nil {
			return err
		}
		if err := s.subjectIsThere(ctx, b); err != nil {
			return err
		}
		held, err := s.bindingsOf(ctx, b.Project, b.Subject)
		if err != nil {
			return err
		}
		if len(held) >= maxBindings {
			return fault.New(fault.Conflict, "%s holds %d bindings in this project, and more are not taken: use patterns, groups or a role of the project's own", b.Subject, len(held))
		}
		ev.After = b
		row, err = rowOfBinding(b)
		return err
	})
	if err != nil {
		return b, err
	}
	b.Revision = row.Revision
	return b, nil
}

// admitBinding validates what people choose and judges whether granter may give it.
func (s *Store) admitBinding(ctx context.Context, b *policy.Binding, granter *policy.Principal) error {
	now := s.clock()
	if err := s.setActions(ctx, b); err != nil {
		return err
	}
	if err := b.Validate(); err != nil {
		return err
	}
	if b.Expired(now) {
		return fault.New(fault.InvalidRequest, "the time of expiry has passed: choose a later one").WithParam("expires_at")
	}
	return policy.DelegateBindings(granter, b.Project, []policy.Binding{*b}, now)
}

func (s *Store) subjectIsThere(ctx context.Context, b policy.Binding) error {
	switch {
	case strings.HasPrefix(b.Subject, policy.GroupPrefix):
		return find(ctx, s, aGroup, &groupRow{}, "id = ?", b.Subject)
	case strings.HasPrefix(b.Subject, policy.ServicePrefix):
		return find(ctx, s, aService, &serviceRow{}, "project = ? AND id = ?", b.Project, b.Subject)
	}
	return find(ctx, s, aUser, &userRow{}, "id = ?", b.Subject)
}

func bindingEvent(action string, by journal.Origin, b policy.Binding) *journal.Event {
	return &journal.Event{
		Project: b.Project, Origin: by, Action: action, Object: "binding:" + b.ID,
		Touches: []journal.Touch{{Kind: policy.TouchBindings, Project: b.Project, Key: b.Subject}},
	}
}

// UpdateBinding implements policy.Bindings.
func (s *Store) UpdateBinding(ctx context.Context, by journal.Origin, manager *policy.Principal, b policy.Binding) (policy.Binding, error) {
	return s.updateBinding(ctx, by, manager, b, nil)
}

// also is what a change does beside its own, in the same transaction; nil: nothing.
type also func(ctx context.Context, ev *journal.Event) error

func (a also) do(ctx context.Context, ev *journal.Event) error {
	if a == nil {
		return nil
	}
	return a(ctx, ev)
}

func (s *Store) updateBinding(ctx context.Context, by journal.Origin, manager *policy.Principal, b policy.Binding, more also) (policy.Binding, error) {
	var row bindingRow
	ev := &journal.Event{Project: b.Project, Origin: by, Action: "binding.update", Object: "binding:" + b.ID}
	err := amend(ctx, s, ev, &row, s.readBinding(b.Project, b.ID), func(ctx context.Context) (bool, error) {
		if err := sameRevision(row.Revision, b.Revision, aBinding); err != nil {
			return false, err
		}
		before, err := s.withActions(ctx, &row)
		if err != nil {
			return false, err
		}
		if err := policy.GovernBindings(manager, b.Project, []policy.Binding{before}, s.clock()); err != nil {
			return false, err
		}
		b.Subject, b.GrantedBy, b.GrantedAt = before.Subject, by.Actor.ID, s.clock()
		if err := s.admitBinding(ctx, &b, manager); err != nil {
			return false, err
		}
		if before.Administers(s.clock()) && !b.Administers(s.clock()) {
			if err := s.keepsAnAdmin(ctx, b.Project, func(have policy.Binding, _ string) bool { return have.ID == b.ID }); err != nil {
				return false, err
			}
		}
		ev.Before, ev.After, ev.Touches = before, b, bindingEvent("", by, b).Touches
		if row, err = rowOfBinding(b); err != nil {
			return false, err
		}
		return true, more.do(ctx, ev)
	})
	b.Revision = row.Revision
	return b, err
}

func (s *Store) readBinding(project, id string) func(ctx context.Context, row *bindingRow) error {
	return func(ctx context.Context, row *bindingRow) error {
		if err := s.lockPeople(ctx, project); err != nil {
			return err
		}
		return find(ctx, s, aBinding, row, "project = ? AND id = ?", project, id)
	}
}

// Unbind implements policy.Bindings.
func (s *Store) Unbind(ctx context.Context, by journal.Origin, manager *policy.Principal, project, id string, force bool) (int64, error) {
	return s.unbind(ctx, by, manager, unbinding{project: project, id: id, force: force})
}

// unbinding is a binding to take away.
type unbinding struct {
	project, id string
	force       bool
	revision    int64 // that it must have; 0: any
	also        also
}

func (s *Store) unbind(ctx context.Context, by journal.Origin, manager *policy.Principal, u unbinding) (int64, error) {
	project, id := u.project, u.id
	ev := &journal.Event{Project: project, Origin: by, Action: "binding.delete", Object: "binding:" + id}
	at, err := s.journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		var row bindingRow
		if err := s.readBinding(project, id)(ctx, &row); err != nil {
			return err
		}
		if u.revision > 0 {
			if err := sameRevision(row.Revision, u.revision, aBinding); err != nil {
				return err
			}
		}
		b, err := s.withActions(ctx, &row)
		if err != nil {
			return err
		}
		if err := policy.GovernBindings(manager, project, []policy.Binding{b}, s.clock()); err != nil {
			return err
		}
		if b.Administers(s.clock()) && !u.force {
			if err := s.keepsAnAdmin(ctx, project, func(have policy.Binding, _ string) bool { return have.ID == id }); err != nil {
				return err
			}
		}
		ev.Before, ev.Touches = b, bindingEvent("", by, b).Touches
		ev.Drops(&row)
		if _, err = tx.NewDelete().Model(&row).WherePK().Exec(ctx); err != nil {
			return err
		}
		return u.also.do(ctx, ev)
	})
	if err != nil {
		return 0, fmt.Errorf("policy: binding.delete: %w", err)
	}
	return at, nil
}
