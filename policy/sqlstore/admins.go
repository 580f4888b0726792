package sqlstore

import (
	"context"
	"strings"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

// What stands here keeps each project an admin: somebody who may do everything in it, a person or a key of the project's own. The caller holds lockPeople.

// keepsAnAdmin refuses (Conflict) to leave a project that has an admin among people without any. gone says which bindings, or whose share in them, a change
// takes away; user is "" for a binding as a whole.
func (s *Store) keepsAnAdmin(ctx context.Context, project string, gone func(b policy.Binding, user string) bool) error {
	had, left, err := s.adminPeople(ctx, project, gone)
	if err != nil || left || !had {
		return err
	}
	found, err := s.adminKey(ctx, project, "")
	if err != nil || found {
		return err
	}
	return fault.New(fault.Conflict, "This would leave the project %s without an admin: make another one first.", project)
}

// adminPeople reports whether the project has an admin among people, and whether one is left after a change.
func (s *Store) adminPeople(ctx context.Context, project string, gone func(b policy.Binding, user string) bool) (had, left bool, err error) {
	now := s.clock()
	rows, err := findAll[bindingRow](ctx, s, "bindings", nil, func(q *bun.SelectQuery) {
		q.Where("project = ? AND role = ?", project, policy.RoleAdmin)
	})
	if err != nil {
		return false, false, err
	}
	for i := range rows {
		b, err := rows[i].binding()
		if err != nil {
			return false, false, err
		}
		if !b.Administers(now) {
			continue
		}
		users, err := s.activeUsersOf(ctx, b.Subject)
		if err != nil {
			return false, false, err
		}
		for _, u := range users {
			had = true
			if !gone(b, "") && !gone(b, u) {
				return true, true, nil
			}
		}
	}
	return had, false, nil
}

// adminKey reports whether a key of the project's own, but for one, is its admin.
func (s *Store) adminKey(ctx context.Context, project, except string) (bool, error) {
	rows, err := findAll[keyRow](ctx, s, "keys", nil, func(q *bun.SelectQuery) {
		q.Where("project = ? AND revoked_at = 0 AND owner = '' AND id <> ?", project, except)
	})
	if err != nil {
		return false, err
	}
	for i := range rows {
		k, err := rows[i].record()
		if err != nil {
			return false, err
		}
		if k.Administers(s.clock()) {
			return true, nil
		}
	}
	return false, nil
}

// activeUsersOf are the active accounts that a binding's subject stands for; a service account is not one who could mend anything.
func (s *Store) activeUsersOf(ctx context.Context, subject string) ([]string, error) {
	rows, err := findAll[userRow](ctx, s, "users", nil, func(q *bun.SelectQuery) {
		q.Where("u.state = ?", string(policy.UserActive))
		if strings.HasPrefix(subject, policy.GroupPrefix) {
			q.Where("u.id IN (SELECT user_id FROM policy_group_members WHERE group_id = ?)", subject)
		} else {
			q.Where("u.id = ?", subject)
		}
	})
	out := make([]string, len(rows))
	for i := range rows {
		out[i] = rows[i].ID
	}
	return out, err
}
