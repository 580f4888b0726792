package sqlstore

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/authentic"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/policy"
)

// Passwords are the sealed hashes of passwords: they belong to the installation, not to a project.
type Passwords struct {
	S      *Store
	Sealer *seal.Sealer
}

// Name says what they are.
func (Passwords) Name() string { return "passwords" }

// Count counts them by key.
func (p Passwords) Count(ctx context.Context) ([]seal.Count, error) {
	return seal.CountKeys(ctx, p.S.db.DB, "policy_passwords", "''", "hash")
}

// Reseal seals at most limit hashes after a place again, those that key does not seal. No session ends by it.
func (p Passwords) Reseal(ctx context.Context, by journal.Origin, project string, key uint32, after string, limit int) (n int, next string, err error) {
	return sealedColumn[passwordRow]{
		s: p.S, sealer: p.Sealer,
		object: "passwords:", id: "user_id", column: "hash",
		in: func(r *passwordRow) (string, *[]byte, seal.Bind) {
			return r.UserID, &r.Hash, policy.PasswordBind(r.UserID)
		},
	}.reseal(ctx, by, project, key, after, limit)
}

// IssuerSecrets are the sealed client secrets of identity providers: they belong to the installation, not to a project.
type IssuerSecrets struct {
	S      *Store
	Sealer *seal.Sealer
}

// Name says what they are.
func (IssuerSecrets) Name() string { return "client secrets of identity providers" }

// Count counts them by key.
func (p IssuerSecrets) Count(ctx context.Context) ([]seal.Count, error) {
	return seal.CountKeys(ctx, p.S.db.DB, "policy_issuers", "''", "secret")
}

// Reseal seals at most limit secrets after a place again, those that key does not seal.
func (p IssuerSecrets) Reseal(ctx context.Context, by journal.Origin, project string, key uint32, after string, limit int) (n int, next string, err error) {
	return sealedColumn[issuerRow]{
		s: p.S, sealer: p.Sealer,
		object: "issuers:", id: "id", column: "secret",
		in: func(r *issuerRow) (string, *[]byte, seal.Bind) { return r.ID, &r.Secret, policy.IssuerBind(r.ID) },
	}.reseal(ctx, by, project, key, after, limit)
}

// sealedColumn is where rows of one kind hold something that is sealed for the installation. Empty is nothing.
type sealedColumn[R any] struct {
	s          *Store
	sealer     *seal.Sealer
	object     string // of the journal's event
	id, column string
	in         func(*R) (id string, value *[]byte, place seal.Bind)
}

// reseal implements reseal.Column.
func (c sealedColumn[R]) reseal(ctx context.Context, by journal.Origin, project string, key uint32, after string, limit int) (n int, next string, err error) {
	if project != "" {
		return 0, "", nil
	}
	id, column := bun.Ident(c.id), bun.Ident(c.column)
	narrow := func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("? > ? AND length(?) > 0 AND substr(?, 1, 5) <> ?", id, after, column, column, seal.KeyPrefix(key)).OrderExpr("?", id).Limit(int64(limit))
	}
	left, err := narrow(c.s.db.NewSelect().Model((*R)(nil))).Exists(ctx)
	if err != nil || !left {
		return 0, "", sqldb.Classify(err)
	}
	ev := &journal.Event{Origin: by, Action: "seal.reencrypt", Object: c.object}
	_, err = c.s.journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		n, next = 0, ""
		var found []R
		err := c.s.journal.Read(ctx, func(ctx context.Context, claims *authentic.Claims) error {
			found = nil
			q := narrow(tx.NewSelect().Model(&found))
			if c.s.db.Dialect == sqldb.Postgres {
				q = q.For("UPDATE")
			}
			if err := q.Scan(ctx); err != nil {
				return err
			}
			for i := range found {
				claims.Is(&found[i])
			}
			return nil
		})
		if err != nil {
			return err
		}
		for i := range found {
			r := &found[i]
			at, value, place := c.in(r)
			if *value, err = c.sealer.Again(*value, place); err != nil {
				return fmt.Errorf("%s%s: %w", c.object, at, err)
			}
			ev.Sets(r)
			if _, err := tx.NewUpdate().Model(r).Column(c.column).WherePK().Exec(ctx); err != nil {
				return err
			}
			n, next = n+1, at
		}
		return nil
	})
	return n, next, err
}
