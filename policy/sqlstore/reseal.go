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

// Passwords are the sealed hashes of passwords: they belong to the installation, not to a project.
type Passwords struct {
	S      *Store
	Sealer *seal.Sealer
}

// PasswordBind is the place that a password's hash is sealed for.
func PasswordBind(user string) seal.Bind {
	return seal.Bind{Table: "policy_passwords", Row: user, Column: "hash"}
}

// Name says what they are.
func (Passwords) Name() string { return "passwords" }

// Count counts them by key.
func (p Passwords) Count(ctx context.Context) ([]seal.Count, error) {
	return seal.CountKeys(ctx, p.S.db.DB, "policy_passwords", "''", "hash")
}

// Reseal seals at most limit hashes after a place again, those that key does not seal. No session ends by it.
func (p Passwords) Reseal(ctx context.Context, by journal.Origin, project string, key uint32, after string, limit int) (n int, next string, err error) {
	if project != "" {
		return 0, "", nil
	}
	narrow := func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("p.user_id > ? AND substr(p.hash, 1, 5) <> ?", after, seal.KeyPrefix(key)).Order("p.user_id").Limit(int64(limit))
	}
	left, err := narrow(p.S.db.NewSelect().Model((*passwordRow)(nil))).Exists(ctx)
	if err != nil || !left {
		return 0, "", sqldb.Classify(err)
	}
	ev := &journal.Event{Origin: by, Action: "seal.reencrypt", Object: "passwords:"}
	_, err = p.S.journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		n, next = 0, ""
		var found []passwordRow
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
			if r.Hash, err = p.Sealer.Again(r.Hash, PasswordBind(r.UserID)); err != nil {
				return fmt.Errorf("password of %s: %w", r.UserID, err)
			}
			ev.Sets(r)
			if _, err := tx.NewUpdate().Model(r).Column("hash").WherePK().Exec(ctx); err != nil {
				return err
			}
			n, next = n+1, r.UserID
		}
		return nil
	})
	return n, next, err
}
