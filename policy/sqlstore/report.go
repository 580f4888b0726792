package sqlstore

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/uses"
)

// household is all that a project's report is made of.
type household struct {
	bindings []bindingRow
	users    map[string]userRow
	groups   map[string]groupRow
	services map[string]serviceRow
	members  map[string][]string // active and other users, by their group
	keys     []keyRow
	uses     map[[2]string]uses.Use // by holding and subject
	total    map[string]uses.Use    // by holding
}

// ofProject are what has to do with a project: its bindings' subjects, who is in those that are groups, and who granted something.
const (
	subjectsOf = "SELECT subject FROM policy_bindings WHERE project = ?"
	membersOf  = "SELECT user_id FROM policy_group_members WHERE group_id IN (" + subjectsOf + ")"
	grantersOf = "SELECT granted_by FROM policy_bindings WHERE project = ?"
	ownersOf   = "SELECT owner FROM policy_keys WHERE project = ?"
)

func (s *Store) household(ctx context.Context, project string) (*household, error) {
	h := &household{
		users: map[string]userRow{}, groups: map[string]groupRow{}, services: map[string]serviceRow{}, members: map[string][]string{},
		uses: map[[2]string]uses.Use{}, total: map[string]uses.Use{},
	}
	if !storable(project) {
		return h, nil
	}
	var err error
	if h.bindings, err = findAll[bindingRow](ctx, s, "bindings", nil, func(q *bun.SelectQuery) { q.Where("project = ?", project) }); err != nil {
		return nil, err
	}
	users, err := findAll[userRow](ctx, s, "users", nil, func(q *bun.SelectQuery) {
		q.Where("(u.id IN ("+subjectsOf+") OR u.id IN ("+membersOf+") OR u.id IN ("+grantersOf+") OR u.id IN ("+ownersOf+"))", project, project, project, project)
	})
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		h.users[u.ID] = u
	}
	groups, err := findAll[groupRow](ctx, s, "groups", nil, func(q *bun.SelectQuery) { q.Where("g.id IN ("+subjectsOf+")", project) })
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		h.groups[g.ID] = g
	}
	members, err := findAll[memberRow](ctx, s, "members", nil, func(q *bun.SelectQuery) { q.Where("m.group_id IN ("+subjectsOf+")", project) })
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		h.members[m.GroupID] = append(h.members[m.GroupID], m.UserID)
	}
	services, err := findAll[serviceRow](ctx, s, "service accounts", nil, func(q *bun.SelectQuery) { q.Where("project = ?", project) })
	if err != nil {
		return nil, err
	}
	for _, a := range services {
		h.services[a.ID] = a
	}
	if h.keys, err = findAll[keyRow](ctx, s, "keys", nil, func(q *bun.SelectQuery) { q.Where("project = ?", project) }); err != nil {
		return nil, err
	}
	return h, h.readUses(ctx, s, project)
}

func (h *household) readUses(ctx context.Context, s *Store, project string) error {
	all, err := s.Uses(ctx, project)
	for _, u := range all {
		h.uses[[2]string{u.Holding, u.Subject}] = u
		sum := h.total[u.Holding]
		if sum.Minutes += u.Minutes; u.Last.After(sum.Last) {
			sum.Last = u.Last
		}
		h.total[u.Holding] = sum
	}
	return err
}

// name is what people call whatever has an id.
func (h *household) name(id string) string {
	switch {
	case strings.HasPrefix(id, policy.UserPrefix):
		return h.users[id].Email
	case strings.HasPrefix(id, policy.GroupPrefix):
		return h.groups[id].Name
	case strings.HasPrefix(id, policy.ServicePrefix):
		return h.services[id].Name
	}
	if i := slices.IndexFunc(h.keys, func(k keyRow) bool { return k.ID == id }); i >= 0 {
		return h.keys[i].Name
	}
	return ""
}

// named adds to what is held what people call it, whether its holder may do anything, and when it was used.
func (h *household) named(a policy.Access) policy.Access {
	a.SubjectName, a.GrantedByName, a.ViaName = h.name(a.Subject), h.name(a.GrantedBy), h.name(a.Via)
	switch u, isUser := h.users[a.Subject]; {
	case isUser && u.State == string(policy.UserInvited):
		a.State = policy.AccessInvited
	case isUser && u.State == string(policy.UserDeactivated), h.services[a.Subject].EndedAt != 0:
		a.State = policy.AccessDeactivated
	case strings.HasPrefix(a.Subject, policy.GroupPrefix) && len(h.members[a.Subject]) == 0:
		a.State = policy.AccessVacant
	}
	return a
}

// held is everything that is held, each once: what a group holds is the group's.
func (h *household) held(now time.Time) ([]policy.Access, error) {
	out := make([]policy.Access, 0, len(h.bindings)+len(h.keys))
	for i := range h.bindings {
		b, err := h.bindings[i].binding()
		if err != nil {
			return nil, err
		}
		out = append(out, policy.AccessOfBinding(b, now))
	}
	for i := range h.keys {
		if h.keys[i].RevokedAt != 0 {
			continue
		}
		k, err := h.keys[i].record()
		if err != nil {
			return nil, err
		}
		out = append(out, policy.AccessOfKey(k, now))
	}
	for i := range out {
		used := h.total[out[i].Holding]
		out[i].LastUsed, out[i].Minutes = used.Last, used.Minutes
		out[i] = h.named(out[i])
	}
	return out, nil
}

// Report implements policy.Reports.
func (s *Store) Report(ctx context.Context, project string, f policy.AccessFilter) ([]policy.Access, error) {
	h, err := s.household(ctx, project)
	if err != nil {
		return nil, err
	}
	held, err := h.held(s.clock())
	if err != nil {
		return nil, err
	}
	out := []policy.Access{}
	add := func(a policy.Access) {
		if f.Fits(a) {
			out = append(out, a)
		}
	}
	for _, a := range held {
		in := h.members[a.Subject]
		if len(in) == 0 {
			add(a)
			continue
		}
		for _, user := range in { // what a group holds is used by each of its members, or not
			one := a
			one.Subject, one.Via = user, a.Subject
			used := h.uses[[2]string{a.Holding, user}]
			one.LastUsed, one.Minutes = used.Last, used.Minutes
			add(h.named(one))
		}
	}
	slices.SortFunc(out, func(a, b policy.Access) int { return strings.Compare(a.Place(), b.Place()) })
	return out, nil
}

// LastUsed implements policy.Reports.
func (s *Store) LastUsed(ctx context.Context, project string, holdings ...string) (map[string]time.Time, error) {
	out := map[string]time.Time{}
	if len(holdings) == 0 {
		return out, nil
	}
	all, err := s.Uses(ctx, project, holdings...)
	for _, u := range all {
		if u.Last.After(out[u.Holding]) {
			out[u.Holding] = u.Last
		}
	}
	return out, err
}
