package sqlstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/journal"
)

// writes are the rows that a change writes. Those that are added are inserted once the revision is known, so that each is written once.
type writes struct {
	adds, sets, drops []any // pointers to models
	unseen            []any // bookkeeping that goes with what is dropped
}

type stampable interface{ stamped(revision int64) }

// change runs judge within a change and writes what it gathered; errUnchanged from judge makes no change and is no error.
func (s *Store) change(ctx context.Context, ev *journal.Event, judge func(ctx context.Context, w *writes) error) error {
	var w *writes
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		for _, row := range w.adds {
			row.(stampable).stamped(revision) //nolint:forcetypeassert // every row that is added has a revision
			if _, err := tx.NewInsert().Model(row).Exec(ctx); err != nil {
				return err
			}
		}
		for _, row := range w.sets {
			row.(stampable).stamped(revision) //nolint:forcetypeassert // as above
			if _, err := tx.NewUpdate().Model(row).WherePK().Exec(ctx); err != nil {
				return err
			}
		}
		ev.Adds(w.adds...)
		ev.Sets(w.sets...)
		return nil
	}
	_, err := s.journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		w = &writes{}
		if err := judge(ctx, w); err != nil {
			return err
		}
		for _, row := range append(w.unseen, w.drops...) {
			if _, err := tx.NewDelete().Model(row).WherePK().Exec(ctx); err != nil {
				return err
			}
		}
		ev.Drops(w.drops...)
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return fmt.Errorf("policy: %s: %w", ev.Action, err)
	}
	return nil
}
