package sqlstore

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
)

// Credentials are the sealed credentials of providers as what seals everything again sees them.
type Credentials struct{ S *Store }

// Name says what they are.
func (Credentials) Name() string { return "provider credentials" }

// Count counts them by project and key.
func (c Credentials) Count(ctx context.Context) ([]seal.Count, error) {
	return seal.CountKeys(ctx, c.S.db.DB, "registry_providers", "project", "credential")
}

// Reseal seals at most limit credentials of a project after a place again, those that key does not seal. The providers' revisions stay.
func (c Credentials) Reseal(ctx context.Context, by journal.Origin, project string, key uint32, after string, limit int) (n int, next string, err error) {
	narrow := func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("project = ? AND id > ?", project, after).
			Where("length(credential) > 0 AND substr(credential, 1, 5) <> ?", seal.KeyPrefix(key)).Order("id").Limit(int64(limit))
	}
	left, err := narrow(c.S.db.NewSelect().Model((*providerRow)(nil))).Exists(ctx)
	if err != nil || !left {
		return 0, "", readFault(err, providerGone())
	}
	ev := journal.Event{Project: project, Origin: by, Action: "seal.reencrypt", Object: "providers:" + project}
	_, err = c.S.journal.Change(ctx, &ev, func(ctx context.Context, tx bun.Tx) error {
		n, next = 0, ""
		found, err := journal.Select[providerRow](ctx, c.S.journal, nil, func(q *bun.SelectQuery) { c.S.lock(narrow(q)) })
		if err != nil {
			return err
		}
		for i := range found {
			r := &found[i]
			if r.Credential, err = c.S.sealer.Again(r.Credential, r.place()); err != nil {
				return fmt.Errorf("credential of provider %s: %w", r.ID, err)
			}
			ev.Sets(r)
			if _, err := tx.NewUpdate().Model(r).Column("credential").WherePK().Exec(ctx); err != nil {
				return err
			}
			n, next = n+1, r.ID
		}
		return nil
	})
	return n, next, err
}
