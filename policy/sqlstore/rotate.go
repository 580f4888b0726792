package sqlstore

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

// RotateKey implements policy.KeyStore.
func (s *Store) RotateKey(ctx context.Context, by journal.Origin, granter *policy.Principal, r policy.Rotation) (successor, old policy.KeyRecord, err error) {
	if r.Lookup == "" || len(r.Hash) != hashBytes {
		return successor, old, fault.New(fault.Internal, "a key record without lookup or hash")
	}
	if r.Overlap < 0 || r.Overlap > policy.MaxOverlap {
		return successor, old, fault.New(fault.InvalidRequest, "a key that is rotated works on for 90 days at the most").WithParam("overlap")
	}
	var was, next keyRow
	ev := event("key.rotate", by, keyRow{Project: r.Project, ID: r.ID})
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		was.Revision, next.Revision = revision, revision
		ev.Sets(&was)
		ev.Adds(&next)
		_, err := tx.NewUpdate().Model((*keyRow)(nil)).Set("revision = ?", revision).Where("id IN (?, ?)", was.ID, next.ID).Exec(ctx)
		return err
	}
	_, err = s.journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		before, err := s.rotates(ctx, granter, r)
		if err != nil {
			return err
		}
		old, successor = before, before
		now := s.clock().Truncate(time.Microsecond)
		successor.ID, successor.Lookup, successor.Hash, successor.LastFour = "key_"+r.Lookup, r.Lookup, r.Hash, r.LastFour
		successor.CreatedBy, successor.CreatedAt, successor.Replaces, successor.Expires = by.Actor.ID, now, before.ID, r.Expires
		if r.Expires.IsZero() && !before.Expires.IsZero() {
			successor.Expires = now.Add(before.Expires.Sub(before.CreatedAt))
		}
		if err := admit(&successor, now); err != nil {
			return err
		}
		if err := policy.Delegate(granter, successor, now); err != nil {
			return err
		}
		if err := s.ownerIsThere(ctx, granter, successor); err != nil {
			return err
		}
		old.ReplacedBy = successor.ID
		if end := now.Add(r.Overlap); r.Overlap == 0 {
			old.RevokedAt = now
		} else if old.Expires.IsZero() || end.Before(old.Expires) {
			old.Expires = end
		}
		if was, err = rowOf(old); err != nil {
			return err
		}
		if next, err = rowOf(successor); err != nil {
			return err
		}
		ev.Before, ev.After = before.Public(), map[string]any{"key": old.Public(), "successor": successor.Public()}
		ev.Touches = append(touches(was), touches(next)...)
		if _, err := tx.NewInsert().Model(&next).Exec(ctx); err != nil {
			return err
		}
		_, err = tx.NewUpdate().Model(&was).WherePK().Column("expires_at", "revoked_at", "replaced_by").Exec(ctx)
		return err
	})
	if err != nil {
		return policy.KeyRecord{}, policy.KeyRecord{}, fmt.Errorf("policy: key.rotate: %w", err)
	}
	if old, err = was.record(); err == nil {
		successor, err = next.record()
	}
	return successor, old, err
}

// rotates reads a key that may be rotated, by somebody who governs it.
func (s *Store) rotates(ctx context.Context, granter *policy.Principal, r policy.Rotation) (policy.KeyRecord, error) {
	var row keyRow
	if err := s.lockPeople(ctx, r.Project); err != nil {
		return policy.KeyRecord{}, err
	}
	if err := find(ctx, s, "API key", &row, "project = ? AND id = ?", r.Project, r.ID); err != nil {
		return policy.KeyRecord{}, err
	}
	k, err := row.record()
	if err != nil {
		return k, err
	}
	if err := policy.Govern(granter, k, s.clock()); err != nil {
		return k, err
	}
	if err := s.governOwned(ctx, granter, k); err != nil {
		return k, err
	}
	switch {
	case !k.RevokedAt.IsZero() || !k.Expires.IsZero() && !s.clock().Before(k.Expires):
		return k, fault.New(fault.Conflict, "The key is revoked or over: create a new one.")
	case k.ReplacedBy != "":
		return k, fault.New(fault.Conflict, "The key was rotated already: its successor is %s.", k.ReplacedBy)
	}
	return k, nil
}
