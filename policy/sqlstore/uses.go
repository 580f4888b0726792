package sqlstore

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/policy/uses"
)

var _ uses.Keeper = (*Store)(nil)

type useRow struct {
	bun.BaseModel `bun:"table:policy_uses,alias:used"`

	Project string `bun:"project,pk"`
	Holding string `bun:"holding,pk"`
	Subject string `bun:"subject,pk"`
	FirstAt int64  `bun:"first_at"`
	UsedAt  int64  `bun:"used_at"`
	Minutes int64  `bun:"minutes"`
}

// KeepUses implements uses.Keeper. Minutes that are known already are not counted again: not those of another replica, and not those of a batch whose
// outcome was not known.
func (s *Store) KeepUses(ctx context.Context, batch []uses.Use) error {
	rows := make([]useRow, len(batch))
	for i, u := range batch {
		rows[i] = useRow{Project: u.Project, Holding: u.Holding, Subject: u.Subject, FirstAt: micros(u.First), UsedAt: micros(u.Last), Minutes: u.Minutes}
	}
	err := s.db.Write(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(&rows).On("CONFLICT (project, holding, subject) DO UPDATE").
			Set("minutes = ?TableAlias.minutes + CASE WHEN EXCLUDED.used_at <= ?TableAlias.used_at THEN 0 " +
				"WHEN EXCLUDED.first_at > ?TableAlias.used_at THEN EXCLUDED.minutes " +
				"WHEN EXCLUDED.minutes > 1 THEN EXCLUDED.minutes - 1 ELSE 1 END").
			Set("first_at = CASE WHEN EXCLUDED.first_at < ?TableAlias.first_at THEN EXCLUDED.first_at ELSE ?TableAlias.first_at END").
			Set("used_at = CASE WHEN EXCLUDED.used_at > ?TableAlias.used_at THEN EXCLUDED.used_at ELSE ?TableAlias.used_at END").
			Exec(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("policy: keep uses: %w", err)
	}
	return nil
}

// Uses are those of a project, or of some of its holdings when any are named.
func (s *Store) Uses(ctx context.Context, project string, holdings ...string) ([]uses.Use, error) {
	var rows []useRow
	q := s.within(ctx).NewSelect().Model(&rows).Where("project = ?", project)
	if len(holdings) > 0 {
		q = q.Where("holding IN (?)", bun.List(holdings))
	}
	if err := q.Order("holding", "subject").Scan(ctx); err != nil {
		return nil, fmt.Errorf("policy: read uses: %w", sqldb.Classify(err))
	}
	out := make([]uses.Use, len(rows))
	for i, r := range rows {
		out[i] = uses.Use{Project: r.Project, Holding: r.Holding, Subject: r.Subject, First: at(r.FirstAt), Last: at(r.UsedAt), Minutes: r.Minutes}
	}
	return out, nil
}
