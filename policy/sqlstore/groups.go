package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

const aGroup = "group"

// CreateGroup implements policy.Groups.
func (s *Store) CreateGroup(ctx context.Context, by journal.Origin, g policy.PeopleGroup) (policy.PeopleGroup, error) {
	if err := g.Validate(); err != nil {
		return g, err
	}
	g.ID, g.CreatedBy, g.CreatedAt = newID(policy.GroupPrefix), by.Actor.ID, s.clock()
	row := rowOfGroup(g)
	ev := &journal.Event{Origin: by, Action: "group.create", Object: "group:" + g.ID, After: g}
	err := put(ctx, s, ev, &row, func(ctx context.Context) error {
		err := find(ctx, s, aGroup, &groupRow{}, "name = ?", g.Name)
		if err == nil {
			return fault.New(fault.Conflict, "There is a group of this name.").WithParam("name")
		}
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		return err
	})
	return row.group(), taken(err, "name", "There is a group of this name.")
}

// GroupByID implements policy.Groups.
func (s *Store) GroupByID(ctx context.Context, id string) (policy.PeopleGroup, error) {
	row := groupRow{ID: id}
	err := find(ctx, s, aGroup, &row, "id = ?", id)
	return row.group(), err
}

// GroupByName implements policy.Groups.
func (s *Store) GroupByName(ctx context.Context, name string) (policy.PeopleGroup, error) {
	var row groupRow
	err := find(ctx, s, aGroup, &row, "name = ?", name)
	return row.group(), err
}

// ListGroups implements policy.Groups.
func (s *Store) ListGroups(ctx context.Context, page policy.Page) ([]policy.PeopleGroup, string, error) {
	rows, next, err := list(ctx, s, "groups", page, order[groupRow]{"created_at", "id", func(r *groupRow) (int64, string) { return r.CreatedAt, r.ID }},
		func(*bun.SelectQuery) {})
	out := make([]policy.PeopleGroup, len(rows))
	for i := range rows {
		out[i] = rows[i].group()
	}
	return out, next, err
}

// UpdateGroup implements policy.Groups.
func (s *Store) UpdateGroup(ctx context.Context, by journal.Origin, g policy.PeopleGroup) (policy.PeopleGroup, error) {
	if err := g.Validate(); err != nil {
		return g, err
	}
	var row groupRow
	ev := &journal.Event{Origin: by, Action: "group.update", Object: "group:" + g.ID}
	err := amend(ctx, s, ev, &row, s.readGroup(g.ID), func(context.Context) (bool, error) {
		if err := sameRevision(row.Revision, g.Revision, aGroup); err != nil {
			return false, err
		}
		before := row.group()
		row.Name, row.Description, row.External = g.Name, g.Description, g.External
		ev.Before, ev.After = before, row.group()
		return row.group() != before, nil
	})
	return row.group(), taken(err, "name", "There is a group of this name.")
}

func (s *Store) readGroup(id string) func(ctx context.Context, row *groupRow) error {
	return func(ctx context.Context, row *groupRow) error {
		if err := s.lockPeople(ctx, ""); err != nil {
			return err
		}
		return find(ctx, s, aGroup, row, "id = ?", id)
	}
}

// DeleteGroup implements policy.Groups.
func (s *Store) DeleteGroup(ctx context.Context, by journal.Origin, id string, revision int64) (int64, error) {
	ev := &journal.Event{Origin: by, Action: "group.delete", Object: "group:" + id}
	at, err := s.journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		var row groupRow
		if err := s.readGroup(id)(ctx, &row); err != nil {
			return err
		}
		if revision > 0 {
			if err := sameRevision(row.Revision, revision, aGroup); err != nil {
				return err
			}
		}
		bindings, err := findAll[bindingRow](ctx, s, "bindings", nil, func(q *bun.SelectQuery) { q.Where("subject = ?", id) })
		if err != nil {
			return err
		}
		members, err := findAll[memberRow](ctx, s, "members", nil, func(q *bun.SelectQuery) { q.Where("group_id = ?", id) })
		if err != nil {
			return err
		}
		for _, project := range projectsIn(bindings) {
			if err := s.lockPeople(ctx, project); err != nil {
				return err
			}
			if err := s.keepsAnAdmin(ctx, project, func(b policy.Binding, _ string) bool { return b.Subject == id }); err != nil {
				return err
			}
			ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchBindings, Project: project, Key: id})
		}
		for i := range bindings {
			ev.Drops(&bindings[i])
		}
		for i := range members {
			ev.Drops(&members[i])
			ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchUser, Key: members[i].UserID})
		}
		provision, err := s.provisionOf(ctx, id)
		if err != nil {
			return err
		}
		if provision.Revision > 0 {
			ev.Drops(&provision)
		}
		ev.Drops(&row)
		ev.Before = row.group()
		for _, q := range []*bun.DeleteQuery{
			tx.NewDelete().Model((*provisionRow)(nil)).Where("id = ?", id),
			tx.NewDelete().Model((*bindingRow)(nil)).Where("subject = ?", id),
			tx.NewDelete().Model((*memberRow)(nil)).Where("group_id = ?", id),
			tx.NewDelete().Model((*groupRow)(nil)).Where("id = ?", id),
		} {
			if _, err := q.Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("policy: group.delete: %w", err)
	}
	return at, nil
}

func projectsIn(bindings []bindingRow) []string {
	var out []string
	for i := range bindings {
		out = append(out, bindings[i].Project)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// maxJoin bounds one change of a group.
const maxJoin = 1000

// Join implements policy.Groups.
func (s *Store) Join(ctx context.Context, by journal.Origin, group string, source policy.MemberSource, users ...string) (int64, error) {
	ev := &journal.Event{Origin: by, Action: "group.join", Object: "group:" + group}
	return s.membership(ctx, ev, group, users, func(ctx context.Context, _ bun.Tx, users []string, there map[string]*memberRow) error {
		var fresh []*memberRow
		for _, id := range users {
			if there[id] != nil {
				continue
			}
			var u userRow
			if err := find(ctx, s, aUser, &u, "id = ?", id); err != nil {
				return err
			}
			fresh = append(fresh, &memberRow{UserID: id, GroupID: group, Source: string(source), AddedBy: by.Actor.ID, AddedAt: s.clock().UnixMicro()})
			ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchUser, Key: id})
		}
		if len(fresh) == 0 {
			return errUnchanged
		}
		ev.After = map[string]any{"users": users, "source": source}
		ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
			for _, row := range fresh {
				row.stamped(revision)
				ev.Adds(row)
			}
			_, err := tx.NewInsert().Model(&fresh).Exec(ctx)
			return err
		}
		return nil
	})
}

// Leave implements policy.Groups.
func (s *Store) Leave(ctx context.Context, by journal.Origin, group string, users ...string) (int64, error) {
	ev := &journal.Event{Origin: by, Action: "group.leave", Object: "group:" + group}
	return s.membership(ctx, ev, group, users, func(ctx context.Context, tx bun.Tx, users []string, there map[string]*memberRow) error {
		if len(there) == 0 {
			return errUnchanged
		}
		bindings, err := findAll[bindingRow](ctx, s, "bindings", nil, func(q *bun.SelectQuery) { q.Where("subject = ?", group) })
		if err != nil {
			return err
		}
		for _, project := range projectsIn(bindings) {
			if err := s.lockPeople(ctx, project); err != nil {
				return err
			}
			gone := func(b policy.Binding, user string) bool { return b.Subject == group && there[user] != nil }
			if err := s.keepsAnAdmin(ctx, project, gone); err != nil {
				return err
			}
		}
		for id, row := range there {
			ev.Drops(row)
			ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchUser, Key: id})
			if _, err := tx.NewDelete().Model(row).WherePK().Exec(ctx); err != nil {
				return err
			}
		}
		ev.Before = map[string]any{"users": users}
		return nil
	})
}

// membership is a change of who is in a group; do is given those of users who are in it now.
func (s *Store) membership(ctx context.Context, ev *journal.Event, group string, users []string,
	do func(ctx context.Context, tx bun.Tx, users []string, there map[string]*memberRow) error,
) (int64, error) {
	users = slices.Compact(slices.Sorted(slices.Values(users)))
	if len(users) > maxJoin {
		return 0, fault.New(fault.InvalidRequest, "at most %d users at a time", maxJoin).WithParam("users")
	}
	if len(users) == 0 {
		return 0, nil
	}
	if slices.ContainsFunc(users, func(id string) bool { return !storable(id) }) {
		return 0, absent(aUser)
	}
	at, err := s.journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		if err := s.readGroup(group)(ctx, &groupRow{}); err != nil {
			return err
		}
		rows, err := findAll[memberRow](ctx, s, "members", nil, func(q *bun.SelectQuery) {
			q.Where("group_id = ? AND user_id IN (?)", group, bun.List(users))
		})
		if err != nil {
			return err
		}
		there := map[string]*memberRow{}
		for i := range rows {
			there[rows[i].UserID] = &rows[i]
		}
		return do(ctx, tx, users, there)
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return 0, fmt.Errorf("policy: %s: %w", ev.Action, err)
	}
	return at, nil
}

// MembersOf implements policy.Groups.
func (s *Store) MembersOf(ctx context.Context, group string, page policy.Page) ([]policy.GroupMember, string, error) {
	rows, next, err := list(ctx, s, "members", page, order[memberRow]{"added_at", "user_id", func(r *memberRow) (int64, string) { return r.AddedAt, r.UserID }},
		func(q *bun.SelectQuery) { q.Where("m.group_id = ?", group) })
	out := make([]policy.GroupMember, len(rows))
	for i := range rows {
		out[i] = rows[i].member()
	}
	return out, next, err
}
