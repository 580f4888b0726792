package sqlstore

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

const aService = "service account"

// Service implements policy.People.
func (s *Store) Service(ctx context.Context, project, id string) (*policy.ServiceAccount, error) {
	row := serviceRow{Project: project, ID: id}
	if err := find(ctx, s, aService, &row, "project = ? AND id = ?", project, id); err != nil {
		return nil, err
	}
	out := row.service()
	return &out, nil
}

// CreateService implements policy.Services.
func (s *Store) CreateService(ctx context.Context, by journal.Origin, a policy.ServiceAccount) (policy.ServiceAccount, error) {
	if err := a.Validate(); err != nil {
		return a, err
	}
	a.ID, a.CreatedBy, a.CreatedAt = newID(policy.ServicePrefix), by.Actor.ID, s.clock()
	row := rowOfService(a)
	ev := &journal.Event{
		Project: a.Project, Origin: by, Action: "service_account.create", Object: "service_account:" + a.ID, After: a,
		Touches: []journal.Touch{{Kind: policy.TouchService, Project: a.Project, Key: a.ID}},
	}
	err := put(ctx, s, ev, &row, nil)
	return row.service(), err
}

// ListServices implements policy.Services.
func (s *Store) ListServices(ctx context.Context, project string, page policy.Page) ([]policy.ServiceAccount, string, error) {
	rows, next, err := list(ctx, s, "service accounts", page, order[serviceRow]{"created_at", "id", func(r *serviceRow) (int64, string) { return r.CreatedAt, r.ID }},
		func(q *bun.SelectQuery) { q.Where("s.project = ?", project) })
	out := make([]policy.ServiceAccount, len(rows))
	for i := range rows {
		out[i] = rows[i].service()
	}
	return out, next, err
}

// UpdateService implements policy.Services.
func (s *Store) UpdateService(ctx context.Context, by journal.Origin, a policy.ServiceAccount) (policy.ServiceAccount, error) {
	if err := a.Validate(); err != nil {
		return a, err
	}
	return s.amendService(ctx, by, "service_account.update", a.Project, a.ID, func(_ context.Context, row *serviceRow) (bool, error) {
		if row.EndedAt != 0 {
			return false, fault.New(fault.Conflict, "The service account has ended, and that is for good: make a new one.")
		}
		if err := sameRevision(row.Revision, a.Revision, aService); err != nil {
			return false, err
		}
		changed := row.Name != a.Name || row.Description != a.Description
		row.Name, row.Description = a.Name, a.Description
		return changed, nil
	})
}

// EndService implements policy.Services. Its keys end with it, as they may only do what it may.
func (s *Store) EndService(ctx context.Context, by journal.Origin, manager *policy.Principal, project, id string) (policy.ServiceAccount, error) {
	return s.amendService(ctx, by, "service_account.end", project, id, func(ctx context.Context, row *serviceRow) (bool, error) {
		if row.EndedAt != 0 {
			return false, nil
		}
		rows, err := s.bindingsOf(ctx, project, id)
		if err != nil {
			return false, err
		}
		held := make([]policy.Binding, 0, len(rows))
		for i := range rows {
			b, err := s.withActions(ctx, &rows[i])
			if err != nil {
				return false, err
			}
			held = append(held, b)
		}
		if err := policy.GovernBindings(manager, project, held, s.clock()); err != nil {
			return false, err
		}
		row.EndedAt = s.clock().UnixMicro()
		return true, nil
	})
}

func (s *Store) amendService(ctx context.Context, by journal.Origin, action, project, id string, do func(ctx context.Context, row *serviceRow) (bool, error),
) (policy.ServiceAccount, error) {
	var row serviceRow
	ev := &journal.Event{
		Project: project, Origin: by, Action: action, Object: "service_account:" + id,
		Touches: []journal.Touch{{Kind: policy.TouchService, Project: project, Key: id}},
	}
	read := func(ctx context.Context, row *serviceRow) error {
		if err := s.lockPeople(ctx, project); err != nil {
			return err
		}
		return find(ctx, s, aService, row, "project = ? AND id = ?", project, id)
	}
	err := amend(ctx, s, ev, &row, read, func(ctx context.Context) (bool, error) {
		before := row.service()
		changed, err := do(ctx, &row)
		ev.Before, ev.After = before, row.service()
		return changed, err
	})
	return row.service(), err
}
