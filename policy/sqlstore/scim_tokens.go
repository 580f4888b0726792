package sqlstore

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/policy"
)

var _ policy.ProvisioningStore = (*Store)(nil)

const aSCIMToken = "SCIM token"

// CreateSCIMToken implements policy.ProvisioningStore.
func (s *Store) CreateSCIMToken(ctx context.Context, by journal.Origin, t policy.SCIMToken) (policy.SCIMToken, error) {
	if err := t.Validate(); err != nil {
		return t, err
	}
	now := s.clock()
	if t.Lookup == "" || len(t.Hash) != hashBytes {
		return t, fault.New(fault.Internal, "a SCIM token without lookup or hash")
	}
	if !t.Expires.IsZero() && !now.Before(t.Expires) {
		return t, fault.New(fault.InvalidRequest, "the token's time of expiry has passed: choose a later one").WithParam("expires_at")
	}
	t.ID, t.CreatedBy, t.CreatedAt, t.RevokedAt = policy.SCIMPrefix+t.Lookup, by.Actor.ID, now, time.Time{}
	row, err := rowOfSCIMToken(t)
	if err != nil {
		return t, err
	}
	ev := &journal.Event{Origin: by, Action: "scim_token.create", Object: "scim_token:" + t.ID, After: t.Public()}
	if err := s.change(ctx, ev, func(_ context.Context, w *writes) error {
		w.adds = append(w.adds, &row)
		return nil
	}); err != nil {
		return t, err
	}
	return row.token()
}

// SCIMTokenByLookup implements policy.ProvisioningStore.
func (s *Store) SCIMTokenByLookup(ctx context.Context, lookup string) (policy.SCIMToken, error) {
	row := scimTokenRow{ID: policy.SCIMPrefix + lookup} // its primary key: that there is none is believed only when the journal says so
	if err := find(ctx, s, aSCIMToken, &row, "id = ?", row.ID); err != nil {
		return policy.SCIMToken{}, err
	}
	return row.token()
}

// ListSCIMTokens implements policy.ProvisioningStore.
func (s *Store) ListSCIMTokens(ctx context.Context, page policy.Page) ([]policy.SCIMToken, string, error) {
	rows, next, err := list(ctx, s, "SCIM tokens", page, order[scimTokenRow]{"created_at", "id", func(r *scimTokenRow) (int64, string) { return r.CreatedAt, r.ID }},
		func(*bun.SelectQuery) {})
	if err != nil {
		return nil, "", err
	}
	var uses []scimUseRow
	if err := s.db.NewSelect().Model(&uses).Scan(ctx); err != nil {
		return nil, "", sqldb.Classify(err)
	}
	used := map[string]int64{}
	for _, u := range uses {
		used[u.Token] = u.UsedAt
	}
	out := make([]policy.SCIMToken, len(rows))
	for i := range rows {
		if out[i], err = rows[i].token(); err != nil {
			return nil, "", err
		}
		out[i].UsedAt = at(used[rows[i].ID])
	}
	return out, next, nil
}

// RevokeSCIMToken implements policy.ProvisioningStore.
func (s *Store) RevokeSCIMToken(ctx context.Context, by journal.Origin, id string) (policy.SCIMToken, error) {
	var row scimTokenRow
	ev := &journal.Event{Origin: by, Action: "scim_token.revoke", Object: "scim_token:" + id}
	err := s.change(ctx, ev, func(ctx context.Context, w *writes) error {
		row = scimTokenRow{ID: id}
		if err := find(ctx, s, aSCIMToken, &row, "id = ?", id); err != nil {
			return err
		}
		if row.RevokedAt != 0 {
			return errUnchanged
		}
		row.RevokedAt = micros(s.clock())
		t, err := row.token()
		ev.Before = t.Public()
		w.sets = append(w.sets, &row)
		return err
	})
	if err != nil {
		return policy.SCIMToken{}, err
	}
	return row.token()
}

// NoteSCIMUse implements policy.ProvisioningStore.
func (s *Store) NoteSCIMUse(ctx context.Context, id string) error {
	_, err := s.db.NewInsert().Model(&scimUseRow{Token: id, UsedAt: micros(s.clock())}).On("CONFLICT (token) DO UPDATE").Set("used_at = EXCLUDED.used_at").Exec(ctx)
	return sqldb.Classify(err)
}
