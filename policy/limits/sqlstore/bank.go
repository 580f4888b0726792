package sqlstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/policy/limits"
)

// leaseRow is what one holder was charged in one window.
type leaseRow struct {
	bun.BaseModel `bun:"table:policy_limit_leases"`

	LimitID   string `bun:",pk"`
	Subject   string `bun:",pk"`
	Started   int64  `bun:",pk"`
	Holder    string `bun:",pk"`
	Granted   int64
	Used      int64
	ExpiresAt int64
}

// keepSpend is how long the spend of windows that are over stays.
const keepSpend = 400 * 24 * time.Hour

// Exchange implements limits.Bank, in one transaction. Exchanges of one pot wait for each other.
func (s *Store) Exchange(ctx context.Context, draws []limits.Draw) ([]limits.Drawn, error) {
	order := make([]int, len(draws))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { // two replicas lock in one order
		return cmp.Or(cmp.Compare(draws[a].Limit, draws[b].Limit), cmp.Compare(draws[a].Subject, draws[b].Subject))
	})
	out := make([]limits.Drawn, len(draws))
	var warned []warningKey
	err := s.db.Write(ctx, func(ctx context.Context, tx bun.Tx) error {
		warned = warned[:0]
		for _, i := range order {
			var err error
			if out[i], err = s.exchange(ctx, tx, &draws[i]); err != nil {
				return err
			}
			if warned, err = s.warn(ctx, tx, &draws[i], out[i].Used, warned); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("limits: exchange leases: %w", err)
	}
	s.remember(warned)
	return out, nil
}

func (s *Store) exchange(ctx context.Context, tx bun.Tx, d *limits.Draw) (limits.Drawn, error) {
	if err := s.lockPot(ctx, tx, d.Limit, d.Subject); err != nil {
		return limits.Drawn{}, err
	}
	var rows []leaseRow
	err := tx.NewSelect().Model(&rows).Where("limit_id = ? AND subject = ? AND started >= ? AND started <= ?", d.Limit, d.Subject, d.From, d.Window).Scan(ctx)
	if err != nil {
		return limits.Drawn{}, err
	}
	now, known, others := s.clock().UnixMicro(), false, 0
	var out limits.Drawn
	for i := range rows {
		r := &rows[i]
		if r.Holder == d.Holder && r.Started == d.Window {
			known = true
			continue
		}
		out.Used += r.Used
		out.Charged += r.Granted
		if r.Holder != "" && r.ExpiresAt > now {
			others++
		}
	}
	out.Used += d.Used
	if d.Close {
		out.Charged += d.Used
		return out, s.closeLease(ctx, tx, d, known)
	}
	out.Granted = limits.Share(d.Room-out.Charged-d.Base, d.Want, d.Need, others)
	out.Charged += d.Base + out.Granted
	own := leaseRow{
		LimitID: d.Limit, Subject: d.Subject, Started: d.Window, Holder: d.Holder, Granted: d.Base + out.Granted, Used: d.Used, ExpiresAt: d.Expires,
	}
	if !known {
		if err := s.purge(ctx, tx, d, now); err != nil {
			return out, err
		}
	}
	_, err = tx.NewInsert().Model(&own).On("CONFLICT (limit_id, subject, started, holder) DO UPDATE").
		Set("granted = EXCLUDED.granted").Set("used = EXCLUDED.used").Set("expires_at = EXCLUDED.expires_at").Exec(ctx)
	return out, err
}

// lockPot makes exchanges of one pot wait for each other. SQLite's transaction has the whole file.
func (s *Store) lockPot(ctx context.Context, tx bun.Tx, limit, subject string) error {
	if s.db.Dialect != sqldb.Postgres {
		return nil
	}
	lock := leaseRow{LimitID: limit, Subject: subject}
	_, err := tx.NewInsert().Model(&lock).On("CONFLICT (limit_id, subject, started, holder) DO UPDATE").Set("granted = 0").Exec(ctx)
	return err
}

// closeLease leaves of a lease what was used of it, once: a second time there is none.
func (s *Store) closeLease(ctx context.Context, tx bun.Tx, d *limits.Draw, known bool) error {
	if !known {
		return nil
	}
	own := leaseRow{LimitID: d.Limit, Subject: d.Subject, Started: d.Window, Holder: d.Holder}
	if _, err := tx.NewDelete().Model(&own).WherePK().Exec(ctx); err != nil || d.Used == 0 {
		return err
	}
	own.Holder, own.Granted, own.Used = "", d.Used, d.Used
	_, err := tx.NewInsert().Model(&own).On("CONFLICT (limit_id, subject, started, holder) DO UPDATE").
		Set("granted = ?TableAlias.granted + EXCLUDED.granted").Set("used = ?TableAlias.used + EXCLUDED.used").Exec(ctx)
	return err
}

// purge drops the spend of windows that are long over.
func (s *Store) purge(ctx context.Context, tx bun.Tx, d *limits.Draw, now int64) error {
	_, err := tx.NewDelete().Model((*leaseRow)(nil)).Where("limit_id = ? AND subject = ? AND started > 0 AND started < ?",
		d.Limit, d.Subject, min(now, d.From)-keepSpend.Microseconds()).Exec(ctx)
	return err
}

// spentBy is what was used in the windows that count now, by the window. A holder that is gone used what it was granted, until it says otherwise.
func (s *Store) spentBy(ctx context.Context, tx bun.Tx, l limits.Limit, subject string, now time.Time) (map[int64]int64, error) {
	if err := s.lockPot(ctx, tx, l.ID, subject); err != nil {
		return nil, err
	}
	w := l.WindowAt(now)
	var rows []leaseRow
	err := tx.NewSelect().Model(&rows).Where("limit_id = ? AND subject = ? AND started >= ? AND started <= ?", l.ID, subject, w.From.UnixMicro(), w.Key()).Scan(ctx)
	off := map[int64]int64{}
	for i := range rows {
		n := rows[i].Used
		if rows[i].Holder != "" && rows[i].ExpiresAt <= now.UnixMicro() {
			n = rows[i].Granted
		}
		off[rows[i].Started] += n
	}
	return off, err
}

// Spend implements limits.Store.
func (s *Store) Spend(ctx context.Context, l limits.Limit, subject string, most int) ([]limits.Usage, error) {
	w := l.WindowAt(s.clock())
	if !l.Budget() {
		return nil, nil
	}
	resets, err := s.resets(ctx, l.Project)
	if err != nil {
		return nil, err
	}
	var sums []struct {
		Subject       string
		Used, Granted int64
	}
	q := s.db.NewSelect().Model((*leaseRow)(nil)).ColumnExpr("subject, SUM(used) AS used, SUM(granted) AS granted").
		Where("limit_id = ? AND started >= ? AND started <= ?", l.ID, w.From.UnixMicro(), w.Key()).Group("subject").OrderExpr("2 DESC, 1").Limit(int64(most))
	if subject != "" || !l.Each() {
		q = q.Where("subject = ?", subject)
	}
	if err := q.Scan(ctx, &sums); err != nil {
		return nil, readFault(err)
	}
	if len(sums) == 0 && (subject != "" || !l.Each()) {
		sums = append(sums, struct {
			Subject       string
			Used, Granted int64
		}{Subject: subject})
	}
	out := make([]limits.Usage, 0, len(sums))
	for _, sum := range sums {
		u := limits.Usage{Limit: l.ID, Subject: sum.Subject, Used: sum.Used, Held: max(0, sum.Granted-sum.Used), Amount: l.Amount, Start: w.From, End: w.End}
		for _, r := range resets {
			if r.Limit != l.ID || r.Subject != sum.Subject {
				continue
			}
			for window, off := range r.Off {
				if window >= w.From.UnixMicro() {
					u.Used -= off
				}
			}
		}
		if u.Used < 0 { // what a holder that was gone gave back after a reset
			u.Held, u.Used = max(0, u.Held+u.Used), 0
		}
		if u.Warned, err = s.warnedOf(ctx, l.ID, sum.Subject, w.Key()); err != nil {
			return nil, err
		}
		out = append(out, u)
	}
	return out, nil
}
