package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/policy/limits"
)

// counterRow is a bucket (holder ""), or the places of one holder.
type counterRow struct {
	bun.BaseModel `bun:"table:policy_limit_counters"`

	Name   string `bun:",pk"`
	Holder string `bun:",pk"`
	Amount int64
	At     int64
}

// Take implements limits.Counters.
func (s *Store) Take(ctx context.Context, key string, b limits.Bucket) (got, room int64, err error) {
	err = s.db.Write(ctx, func(ctx context.Context, tx bun.Tx) error {
		row := counterRow{Name: name(key)}
		found, err := s.lockCounter(ctx, tx, &row)
		if err != nil {
			return err
		}
		have := limits.Refilled(b.PerMinute, 0, time.Minute)
		at := b.Now.UnixMilli()
		if found {
			have = limits.Refilled(b.PerMinute, row.Amount, time.Duration(at-row.At)*time.Millisecond)
			at = max(at, row.At)
		}
		row.At = at
		row.Amount, got, room = limits.Drain(b, have)
		_, err = tx.NewInsert().Model(&row).On("CONFLICT (name, holder) DO UPDATE").Set("amount = EXCLUDED.amount").Set("at = EXCLUDED.at").Exec(ctx)
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("limits: take from a rate: %w", err)
	}
	return got, room, nil
}

// name is a counter's name as a database can hold it.
func name(key string) string {
	b := []byte(key)
	for i := range b {
		if b[i] == 0 {
			b[i] = ' '
		}
	}
	return string(b)
}

// lockCounter reads the row that all who use a counter lock.
func (s *Store) lockCounter(ctx context.Context, tx bun.Tx, row *counterRow) (found bool, err error) {
	if s.db.Dialect == sqldb.Postgres { // two that find none would both begin
		if _, err := tx.NewRaw("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", "promptgate/limits/"+row.Name).Exec(ctx); err != nil {
			return false, err
		}
	}
	err = tx.NewSelect().Model(row).WherePK().Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// Hold implements limits.Counters.
func (s *Store) Hold(ctx context.Context, key string, want limits.Stretch) (got int64, err error) {
	err = s.db.Write(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := s.lockCounter(ctx, tx, &counterRow{Name: name(key)}); err != nil {
			return err
		}
		var rows []counterRow
		if err := tx.NewSelect().Model(&rows).Where("name = ? AND holder <> ?", name(key), "").Scan(ctx); err != nil {
			return err
		}
		now := want.Now.UnixMilli()
		room, others := want.Limit-want.Base, 0
		for i := range rows {
			if rows[i].Holder != want.Holder && rows[i].At >= now {
				room -= rows[i].Amount
				others++
			}
		}
		got = limits.Share(room, want.Want, want.Need, others)
		if _, err := tx.NewDelete().Model((*counterRow)(nil)).Where("name = ? AND holder <> ? AND (at < ? OR holder = ?)", name(key), "", now, want.Holder).Exec(ctx); err != nil {
			return err
		}
		if want.Base+got == 0 {
			return nil
		}
		own := counterRow{Name: name(key), Holder: want.Holder, Amount: want.Base + got, At: want.Now.Add(want.For).UnixMilli()}
		_, err := tx.NewInsert().Model(&own).Exec(ctx)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("limits: hold places: %w", err)
	}
	return got, nil
}
