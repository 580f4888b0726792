package sqlstore

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/authentic"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
)

// IssuerSecrets are the sealed client secrets of identity providers: they belong to the installation, not to a project.
type IssuerSecrets struct {
	S      *Store
	Sealer *seal.Sealer
}

// IssuerBind is the place that a client secret is sealed for.
func IssuerBind(id string) seal.Bind {
	return seal.Bind{Table: "policy_issuers", Row: id, Column: "secret"}
}

// Name says what they are.
func (IssuerSecrets) Name() string { return "client secrets of identity providers" }

// Count counts them by key.
func (p IssuerSecrets) Count(ctx context.Context) ([]seal.Count, error) {
	return seal.CountKeys(ctx, p.S.db.DB, "policy_issuers", "''", "secret")
}

// Reseal seals at most limit secrets after a place again, those that key does not seal.
func (p IssuerSecrets) Reseal(ctx context.Context, by journal.Origin, project string, key uint32, after string, limit int) (n int, next string, err error) {
	if project != "" {
		return 0, "", nil
	}
	narrow := func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("i.id > ? AND length(i.secret) > 0 AND substr(i.secret, 1, 5) <> ?", after, seal.KeyPrefix(key)).Order("i.id").Limit(int64(limit))
	}
	left, err := narrow(p.S.db.NewSelect().Model((*issuerRow)(nil))).Exists(ctx)
	if err != nil || !left {
		return 0, "", sqldb.Classify(err)
	}
	ev := &journal.Event{Origin: by, Action: "seal.reencrypt", Object: "issuers:"}
	_, err = p.S.journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		n, next = 0, ""
		var found []issuerRow
		err := p.S.journal.Read(ctx, func(ctx context.Context, c *authentic.Claims) error {
			found = nil
			q := narrow(tx.NewSelect().Model(&found))
			if p.S.db.Dialect == sqldb.Postgres {
				q = q.For("UPDATE")
			}
			if err := q.Scan(ctx); err != nil {
				return err
			}
			for i := range found {
				c.Is(&found[i])
			}
			return nil
		})
		if err != nil {
			return err
		}
		for i := range found {
			r := &found[i]
			if r.Secret, err = p.Sealer.Again(r.Secret, IssuerBind(r.ID)); err != nil {
				return fmt.Errorf("client secret of %s: %w", r.ID, err)
			}
			ev.Sets(r)
			if _, err := tx.NewUpdate().Model(r).Column("secret").WherePK().Exec(ctx); err != nil {
				return err
			}
			n, next = n+1, r.ID
		}
		return nil
	})
	return n, next, err
}
