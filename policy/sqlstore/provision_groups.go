package sqlstore

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

// maxMoves bounds how many members one change moves.
const maxMoves = 10_000

// groupOf reads a group that a directory provisions: no other is there for it.
func (s *Store) groupOf(ctx context.Context, d policy.Directory, id string) (groupRow, provisionRow, error) {
	g, p := groupRow{ID: id}, provisionRow{ID: id}
	if err := find(ctx, s, aGroup, &p, "id = ?", id); err != nil {
		return g, p, err
	}
	if p.Directory != d.Name || p.Deleted {
		return g, p, absent(aGroup)
	}
	return g, p, find(ctx, s, aGroup, &g, "id = ?", id)
}

func grouped(g *groupRow, p *provisionRow, members []memberRow) (policy.ProvisionedGroup, error) {
	kept, err := p.provision()
	out := policy.ProvisionedGroup{PeopleGroup: g.group(), Provision: kept}
	for n := range members {
		if policy.MemberSource(members[n].Source) == policy.BySCIM {
			out.Members = append(out.Members, members[n].member())
		}
	}
	return out, err
}

func (s *Store) membersOf(ctx context.Context, group string) ([]memberRow, error) {
	return findAll[memberRow](ctx, s, "members", nil, func(q *bun.SelectQuery) { q.Where("m.group_id = ?", group).Order("user_id") })
}

// ProvisionGroup implements policy.ProvisioningStore.
func (s *Store) ProvisionGroup(ctx context.Context, by journal.Origin, d policy.Directory, in policy.ProvisionedGroup, members []string) (policy.ProvisionedGroup, error) {
	if err := in.Validate(); err != nil {
		return in, err
	}
	in.ID, in.External, in.CreatedBy, in.CreatedAt = newID(policy.GroupPrefix), in.Provision.External, by.Actor.ID, s.clock()
	g, p := rowOfGroup(in.PeopleGroup), provisionRow{ID: in.ID, Directory: d.Name, CreatedAt: micros(s.clock())}
	if err := p.take(policy.Provision{UserName: in.Name, External: in.Provision.External}); err != nil {
		return in, err
	}
	ev := &journal.Event{Origin: by, Action: "group.provision", Object: "group:" + in.ID}
	err := s.change(ctx, ev, func(ctx context.Context, w *writes) error {
		if err := s.lockPeople(ctx, ""); err != nil {
			return err
		}
		if err := s.groupNameIsFree(ctx, in.Name, in.ID); err != nil {
			return err
		}
		w.adds = append(w.adds, &g, &p)
		if _, err := s.joining(ctx, ev, w, d, in.ID, policy.Moves{Join: members}); err != nil {
			return err
		}
		ev.After = map[string]any{"name": in.Name, "directory": d.Name, "members": members}
		return nil
	})
	if err != nil {
		return in, taken(err, "displayName", "There is a group of this name.")
	}
	rows, err := s.membersOf(ctx, in.ID)
	if err != nil {
		return in, err
	}
	return grouped(&g, &p, rows)
}

// groupNameIsFree refuses a name that another group has: a directory does not get hold of a group that it did not make.
func (s *Store) groupNameIsFree(ctx context.Context, name, but string) error {
	var other groupRow
	err := find(ctx, s, aGroup, &other, "name = ? AND id <> ?", name, but)
	if err == nil {
		return fault.New(fault.Conflict, "There is a group of this name.").WithParam("displayName")
	}
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// joining puts accounts that the directory provisions into a group of its own, and takes out those that a directory put in. It returns how many move.
func (s *Store) joining(ctx context.Context, ev *journal.Event, w *writes, d policy.Directory, group string, m policy.Moves) (int, error) {
	join := slices.Compact(slices.Sorted(slices.Values(m.Join)))
	leave := slices.Compact(slices.Sorted(slices.Values(m.Leave)))
	if len(join)+len(leave) > maxMoves {
		return 0, fault.New(fault.RequestTooLarge, "at most %d members move at a time", maxMoves).WithParam("members")
	}
	held, err := s.membersOf(ctx, group)
	if err != nil {
		return 0, err
	}
	there := map[string]*memberRow{}
	for n := range held {
		there[held[n].UserID] = &held[n]
	}
	moves := 0
	for _, id := range join {
		if there[id] != nil {
			continue
		}
		_, _, err := s.accountOf(ctx, d, id)
		if fault.Is(err, fault.NotFound) {
			return 0, fault.New(fault.InvalidRequest, "There is no account %s that this directory provisions.", clip(id)).WithParam("members")
		}
		if err != nil {
			return 0, err
		}
		w.adds = append(w.adds, &memberRow{UserID: id, GroupID: group, Source: string(policy.BySCIM), AddedBy: ev.Origin.Actor.ID, AddedAt: micros(s.clock())})
		ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchUser, Key: id})
		moves++
	}
	left := 0
	for _, id := range leave {
		row := there[id]
		if row == nil || policy.MemberSource(row.Source) != policy.BySCIM {
			continue
		}
		w.drops = append(w.drops, row)
		ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchUser, Key: id})
		moves++
		left++
	}
	if left > 0 {
		err = s.leavable(ctx, []string{group}, func(user string) bool { return slices.Contains(leave, user) })
	}
	return moves, err
}

// clip shortens what somebody sent, for a message.
func clip(s string) string {
	const most = 60
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// ProvisionedGroup implements policy.ProvisioningStore.
func (s *Store) ProvisionedGroup(ctx context.Context, d policy.Directory, id string) (policy.ProvisionedGroup, error) {
	g, p, err := s.groupOf(ctx, d, id)
	if err != nil {
		return policy.ProvisionedGroup{}, err
	}
	members, err := s.membersOf(ctx, id)
	if err != nil {
		return policy.ProvisionedGroup{}, err
	}
	return grouped(&g, &p, members)
}

// Regroup implements policy.ProvisioningStore.
func (s *Store) Regroup(ctx context.Context, by journal.Origin, d policy.Directory, in policy.ProvisionedGroup, version int64, m policy.Moves) (policy.ProvisionedGroup, error) {
	if err := in.Validate(); err != nil {
		return in, err
	}
	var g groupRow
	var p provisionRow
	ev := &journal.Event{Origin: by, Action: "group.provision", Object: "group:" + in.ID}
	err := s.change(ctx, ev, func(ctx context.Context, w *writes) (err error) {
		if err := s.lockPeople(ctx, ""); err != nil {
			return err
		}
		if g, p, err = s.groupOf(ctx, d, in.ID); err != nil {
			return err
		}
		if version > 0 {
			if err := sameRevision(max(g.Revision, p.Revision), version, aGroup); err != nil {
				return err
			}
		}
		moves, err := s.joining(ctx, ev, w, d, in.ID, m)
		if err != nil {
			return err
		}
		before := g
		g.Name, g.External = in.Name, in.Provision.External
		if g != before {
			if err := s.groupNameIsFree(ctx, in.Name, in.ID); err != nil {
				return err
			}
			w.sets = append(w.sets, &g)
		} else if moves == 0 {
			return errUnchanged
		}
		w.sets = append(w.sets, &p) // its revision is the group's version for the directory
		ev.Before = map[string]any{"name": before.Name, "members": m.Leave}
		ev.After = map[string]any{"name": g.Name, "members": m.Join}
		return p.take(policy.Provision{UserName: g.Name, External: in.Provision.External})
	})
	if err != nil {
		return in, taken(err, "displayName", "There is a group of this name.")
	}
	return s.ProvisionedGroup(ctx, d, in.ID)
}

// UngroupProvision implements policy.ProvisioningStore.
func (s *Store) UngroupProvision(ctx context.Context, by journal.Origin, d policy.Directory, id string, version int64) error {
	g, p, err := s.groupOf(ctx, d, id)
	if err != nil {
		return err
	}
	if version > 0 {
		if err := sameRevision(max(g.Revision, p.Revision), version, aGroup); err != nil {
			return err
		}
	}
	_, err = s.DeleteGroup(ctx, by, id, g.Revision)
	return err
}
