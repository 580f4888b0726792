package sqlstore

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
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

var _ limits.Warnings = (*Store)(nil)

// Due implements limits.Warnings.
func (s *Store) Due(ctx context.Context, most int, hold time.Duration) (out []limits.Warning, err error) {
	now := s.clock()
	var ids []string
	q := s.db.NewSelect().Model((*warningRow)(nil)).Column("id").Where("due_at > 0 AND due_at <= ?", now.UnixMicro()).Order("due_at").Limit(int64(most))
	if err := q.Scan(ctx, &ids); err != nil || len(ids) == 0 {
		return nil, readFault(err)
	}
	var rows []warningRow
	err = s.db.Write(ctx, func(ctx context.Context, tx bun.Tx) error {
		rows = nil
		return tx.NewUpdate().Model(&rows).Set("due_at = ?", now.Add(hold).UnixMicro()).Set("tries = tries + 1").
			Where("id IN (?) AND due_at > 0 AND due_at <= ?", bun.List(ids), now.UnixMicro()).Returning("*").Scan(ctx)
	})
	if err != nil {
		return nil, readFault(err)
	}
	for i := range rows {
		r := &rows[i]
		l, err := s.LimitByID(ctx, r.Project, r.LimitID)
		if err != nil {
			return nil, err
		}
		w := l.WindowAt(time.UnixMicro(r.Started))
		out = append(out, limits.Warning{
			ID: r.ID, Limit: l, Subject: r.Subject, Threshold: int(r.Threshold), Used: r.Used, Amount: r.Amount, At: time.UnixMicro(r.WarnedAt).UTC(),
			Start: w.From, End: w.End, Tries: int(r.Tries),
		})
	}
	return out, nil
}

var errNoted = errors.New("limits: noted before")

// Note implements limits.Warnings.
func (s *Store) Note(ctx context.Context, w limits.Warning) error {
	ev := &journal.Event{
		Project: w.Limit.Project, Origin: journal.Origin{Actor: journal.Actor{Kind: policy.KindSystem, ID: "limits", Name: "limits"}}, Action: "limit.warn", Object: "limit:" + w.Limit.ID,
		After: map[string]any{"subject": w.Subject, "percent": w.Threshold, "used": w.Used, "amount": w.Amount, "period_start": w.Start},
	}
	_, err := s.journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		res, err := tx.NewUpdate().Model((*warningRow)(nil)).Set("told = 1").Where("id = ? AND told = 0", w.ID).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(errNoted, err)
		}
		return nil
	})
	if errors.Is(err, errNoted) {
		return nil
	}
	return err
}

// Done implements limits.Warnings.
func (s *Store) Done(ctx context.Context, id string, again time.Time) error {
	due := int64(0)
	if !again.IsZero() {
		due = again.UnixMicro()
	}
	return s.db.Write(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewUpdate().Model((*warningRow)(nil)).Set("due_at = ?", due).Where("id = ?", id).Exec(ctx)
		return err
	})
}
