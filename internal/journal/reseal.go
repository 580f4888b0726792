package journal

import (
	"context"
	"fmt"
	"strconv"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
)

// Payloads are the journal's sealed payloads as what seals everything again sees them. The chain commits to what is in them, not to their bytes.
type Payloads struct{ J *Journal }

// Name says what they are.
func (Payloads) Name() string { return "journal payloads" }

// Count counts them by project and key.
func (p Payloads) Count(ctx context.Context) ([]seal.Count, error) {
	return seal.CountKeys(ctx, p.J.db.DB, "journal_payloads AS p JOIN journal_events AS e ON e.revision = p.revision", "e.project", "before_sealed", "after_sealed")
}

// Reseal seals at most limit payloads of a project after a place again, those that key does not seal. next is where to go on, "" at the end.
func (p Payloads) Reseal(ctx context.Context, _ Origin, project string, key uint32, after string, limit int) (n int, next string, err error) {
	last, _ := strconv.ParseInt(after, 10, 64) // "" is the beginning
	j := p.J
	prefix := seal.KeyPrefix(key)
	var found []payloadRow
	err = j.db.NewSelect().Model(&found).Where("revision > ?", last).
		Where("revision IN (SELECT e.revision FROM journal_events AS e WHERE e.project = ?)", project).
		Where("(length(before_sealed) > 0 AND substr(before_sealed, 1, 5) <> ?) OR (length(after_sealed) > 0 AND substr(after_sealed, 1, 5) <> ?)", prefix, prefix).
		Order("revision").Limit(int64(limit)).Scan(ctx)
	if err != nil || len(found) == 0 {
		return 0, "", sqldb.Classify(err)
	}
	err = j.db.Write(ctx, func(ctx context.Context, tx bun.Tx) error {
		for _, old := range found {
			row := &eventRow{Revision: old.Revision, Project: project}
			fresh := old
			var err error
			if fresh.BeforeSealed, err = j.sealer.Again(old.BeforeSealed, place(row, sideBefore)); err != nil {
				return fmt.Errorf("journal: payload of revision %d: %w", old.Revision, err)
			}
			if fresh.AfterSealed, err = j.sealer.Again(old.AfterSealed, place(row, sideAfter)); err != nil {
				return fmt.Errorf("journal: payload of revision %d: %w", old.Revision, err)
			}
			// Only over what was read: one that is shredded meanwhile must not come back.
			_, err = tx.NewUpdate().Model((*payloadRow)(nil)).Set("before_sealed = ?", fresh.BeforeSealed).Set("after_sealed = ?", fresh.AfterSealed).
				Where("revision = ? AND before_sealed = ? AND after_sealed = ?", old.Revision, old.BeforeSealed, old.AfterSealed).Exec(ctx)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return len(found), strconv.FormatInt(found[len(found)-1].Revision, 10), sqldb.Classify(err)
}
