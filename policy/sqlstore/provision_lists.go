package sqlstore

import (
	"context"
	"strings"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/policy"
)

// What is listed is found by a query that believes the database, and then read and believed row by row as by id.

const maxSlice = 200

// ProvisionedUsers implements policy.ProvisioningStore.
func (s *Store) ProvisionedUsers(ctx context.Context, d policy.Directory, f policy.Filter, page policy.Slice) ([]policy.ProvisionedUser, int, error) {
	q := s.db.NewSelect().TableExpr("policy_users AS u").Join("LEFT JOIN policy_provisions AS p ON p.id = u.id").Column("u.id").
		Where("NOT u.break_glass").WhereGroup(" AND ", func(q *bun.SelectQuery) *bun.SelectQuery {
		q.Where("p.directory = ? AND NOT p.deleted", d.Name)
		for _, domain := range d.Domains {
			q.WhereOr(`p.id IS NULL AND u.email LIKE ? ESCAPE '\'`, "%@"+escaped(domain))
		}
		return q
	})
	where, args, err := usersAttributes().where(f)
	if err != nil {
		return nil, 0, err
	}
	ids, total, err := s.slice(ctx, q.Where(where, args...).Order("u.created_at", "u.id"), page)
	if err != nil {
		return nil, 0, err
	}
	out := make([]policy.ProvisionedUser, 0, len(ids))
	for _, id := range ids {
		u, err := s.ProvisionedUser(ctx, d, id)
		if fault.Is(err, fault.NotFound) { // gone meanwhile
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		out = append(out, u)
	}
	return out, total, nil
}

// ProvisionedGroups implements policy.ProvisioningStore.
func (s *Store) ProvisionedGroups(ctx context.Context, d policy.Directory, f policy.Filter, page policy.Slice, with bool) ([]policy.ProvisionedGroup, int, error) {
	q := s.db.NewSelect().TableExpr("policy_groups AS g").Join("JOIN policy_provisions AS p ON p.id = g.id").Column("g.id").
		Where("p.directory = ? AND NOT p.deleted", d.Name)
	where, args, err := groupsAttributes().where(f)
	if err != nil {
		return nil, 0, err
	}
	ids, total, err := s.slice(ctx, q.Where(where, args...).Order("g.created_at", "g.id"), page)
	if err != nil {
		return nil, 0, err
	}
	out := make([]policy.ProvisionedGroup, 0, len(ids))
	for _, id := range ids {
		g, p, err := s.groupOf(ctx, d, id)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		var members []memberRow
		if with {
			if members, err = s.membersOf(ctx, id); err != nil {
				return nil, 0, err
			}
		}
		group, err := grouped(&g, &p, members)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, group)
	}
	return out, total, nil
}

func (s *Store) slice(ctx context.Context, q *bun.SelectQuery, page policy.Slice) (ids []string, total int, err error) {
	found, err := s.db.NewSelect().TableExpr("(?) AS found", q).Count(ctx)
	if err != nil {
		return nil, 0, sqldb.Classify(err)
	}
	total = int(found)
	count := min(page.Count, maxSlice)
	if count <= 0 || page.From >= total {
		return nil, total, nil
	}
	err = q.Offset(int64(max(page.From, 0))).Limit(int64(count)).Scan(ctx, &ids)
	return ids, total, sqldb.Classify(err)
}

func escaped(s string) string {
	return strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(s)
}

// attributes says in which column an attribute stands, and how it is spelled there.
type attributes map[policy.FilterAttribute]struct {
	column string
	spell  func(string) string
}

func exactly(s string) string { return s }

func usersAttributes() attributes {
	return attributes{
		policy.FilterID:          {"u.id", exactly},
		policy.FilterUserName:    {"COALESCE(p.user_name, u.email)", policy.FoldedUserName},
		policy.FilterExternal:    {"COALESCE(p.external, '')", exactly},
		policy.FilterEmail:       {"u.email", policy.FoldedUserName},
		policy.FilterDisplayName: {"LOWER(u.name)", strings.ToLower},
		policy.FilterActive:      {"u.state", exactly},
	}
}

func groupsAttributes() attributes {
	return attributes{
		policy.FilterID:          {"g.id", exactly},
		policy.FilterExternal:    {"p.external", exactly},
		policy.FilterDisplayName: {"LOWER(g.name)", strings.ToLower},
		policy.FilterMember:      {"", exactly},
	}
}

// where is a filter as SQL; values are bound.
func (a attributes) where(f policy.Filter) (string, []any, error) {
	switch {
	case f.Is != nil:
		return a.compare(*f.Is)
	case f.Not != nil:
		sql, args, err := a.where(*f.Not)
		return "NOT (" + sql + ")", args, err
	case len(f.And) > 0:
		return a.all(f.And, " AND ")
	case len(f.Or) > 0:
		return a.all(f.Or, " OR ")
	}
	return "1 = 1", nil, nil
}

func (a attributes) all(list []policy.Filter, word string) (string, []any, error) {
	var parts []string
	var args []any
	for _, f := range list {
		sql, more, err := a.where(f)
		if err != nil {
			return "", nil, err
		}
		parts, args = append(parts, "("+sql+")"), append(args, more...)
	}
	return strings.Join(parts, word), args, nil
}

func (a attributes) compare(c policy.Comparison) (string, []any, error) {
	at, ok := a[c.Attribute]
	if !ok || !storable(c.Text) {
		return "", nil, fault.New(fault.InvalidRequest, "This filter is not understood here.").WithParam("filter")
	}
	switch {
	case c.Attribute == policy.FilterActive:
		return active(c)
	case c.Attribute == policy.FilterMember:
		if c.Op != "eq" {
			break
		}
		return "EXISTS (SELECT 1 FROM policy_group_members AS m WHERE m.group_id = g.id AND m.user_id = ? AND m.source = ?)", []any{c.Text, string(policy.BySCIM)}, nil
	case c.Op == "pr":
		return at.column + " <> ''", nil, nil
	case c.Op == "eq":
		return at.column + " = ?", []any{at.spell(c.Text)}, nil
	case c.Op == "ne":
		return at.column + " <> ?", []any{at.spell(c.Text)}, nil
	}
	pattern, ok := map[string]string{"co": "%" + escaped(at.spell(c.Text)) + "%", "sw": escaped(at.spell(c.Text)) + "%", "ew": "%" + escaped(at.spell(c.Text))}[c.Op]
	if !ok || c.Attribute == policy.FilterMember {
		return "", nil, fault.New(fault.InvalidRequest, "%s cannot be compared by %q here.", string(c.Attribute), c.Op).WithParam("filter")
	}
	return at.column + ` LIKE ? ESCAPE '\'`, []any{pattern}, nil
}

func active(c policy.Comparison) (string, []any, error) {
	op := "<>"
	switch {
	case c.Op == "pr":
		return "1 = 1", nil, nil
	case c.Op != "eq" && c.Op != "ne":
		return "", nil, fault.New(fault.InvalidRequest, "active is compared by eq and ne.").WithParam("filter")
	case c.Bool == (c.Op == "ne"):
		op = "="
	}
	return "u.state " + op + " ?", []any{string(policy.UserDeactivated)}, nil
}
