package sqlstore

import (
	"context"
	"crypto/rand"
	"strings"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/policy/limits"
)

type warningRow struct {
	bun.BaseModel `bun:"table:policy_limit_warnings"`

	LimitID   string `bun:",pk"`
	Subject   string `bun:",pk"`
	Started   int64  `bun:",pk"`
	Threshold int64  `bun:",pk"`
	Project   string
	ID        string
	Used      int64
	Amount    int64
	WarnedAt  int64
	Tries     int64
	DueAt     int64
	Told      int64
}

type warningKey struct {
	limit, subject     string
	started, threshold int64
}

// maxSaid bounds what is remembered of warnings; past it all of it is forgotten, which costs a statement each.
const maxSaid = 20_000

// warn writes a warning for each threshold that a budget's spend has passed, unless some replica has.
func (s *Store) warn(ctx context.Context, tx bun.Tx, d *limits.Draw, used int64, warned []warningKey) ([]warningKey, error) {
	used -= d.Room - d.Amount // what was reset
	for _, threshold := range limits.Thresholds() {
		key := warningKey{d.Limit, d.Subject, d.Window, int64(threshold)}
		if d.Amount <= 0 || float64(used) < float64(d.Amount)*float64(threshold)/100 || s.knows(key) {
			continue
		}
		now := s.clock().UnixMicro()
		row := warningRow{
			LimitID: d.Limit, Subject: d.Subject, Started: d.Window, Threshold: int64(threshold), Project: d.Project,
			ID: "warn_" + strings.ToLower(rand.Text()), Used: used, Amount: d.Amount, WarnedAt: now, DueAt: now,
		}
		if _, err := tx.NewInsert().Model(&row).On("CONFLICT (limit_id, subject, started, threshold) DO NOTHING").Exec(ctx); err != nil {
			return warned, err
		}
		warned = append(warned, key)
	}
	return warned, nil
}

func (s *Store) knows(key warningKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said[key]
}

func (s *Store) remember(keys []warningKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.said)+len(keys) > maxSaid {
		clear(s.said)
	}
	for _, key := range keys {
		s.said[key] = true
	}
}

func (s *Store) warnedOf(ctx context.Context, limit, subject string, started int64) (out []int, err error) {
	err = s.db.NewSelect().Model((*warningRow)(nil)).Column("threshold").
		Where("limit_id = ? AND subject = ? AND started = ?", limit, subject, started).Order("threshold").Scan(ctx, &out)
	return out, readFault(err)
}
