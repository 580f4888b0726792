package feedback

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/metrics"
)

// Comments are the sealed comments of scores, and those that were corrected, as what seals everything again sees them.
type Comments struct {
	DB      *sqldb.DB
	Sealer  *seal.Sealer
	History bool // the corrected ones
}

func (c Comments) table() string {
	if c.History {
		return "metrics_feedback_history"
	}
	return "metrics_feedback"
}

// Name says what they are.
func (c Comments) Name() string {
	if c.History {
		return "corrected comments"
	}
	return "comments"
}

// Count counts them by project and key.
func (c Comments) Count(ctx context.Context) ([]seal.Count, error) {
	return seal.CountKeys(ctx, c.DB.DB, c.table(), "project", "comment")
}

// commentKey finds one row, or some of the history with one comment.
type commentKey struct {
	CallID, Name, Scorer string
	At                   int64
}

type commentRow struct {
	commentKey
	Comment []byte
}

// Reseal seals at most limit comments of a project after a place again, those that key does not seal.
func (c Comments) Reseal(ctx context.Context, _ journal.Origin, project string, key uint32, after string, limit int) (n int, next string, err error) {
	q := c.DB.NewSelect().TableExpr(c.table()).ColumnExpr("call_id, name, scorer, at, comment").Where("project = ?", project).
		Where("length(comment) > 0 AND substr(comment, 1, 5) <> ?", seal.KeyPrefix(key)).OrderExpr("call_id, name, scorer, at").Limit(int64(limit))
	if after != "" {
		var from commentKey
		if err := json.Unmarshal([]byte(after), &from); err != nil {
			return 0, "", fmt.Errorf("feedback: %w", err)
		}
		q = q.Where("(call_id, name, scorer, at) > (?, ?, ?, ?)", from.CallID, from.Name, from.Scorer, from.At)
	}
	found, err := readComments(ctx, q)
	if err != nil || len(found) == 0 {
		return 0, "", err
	}
	err = c.DB.Write(ctx, func(ctx context.Context, tx bun.Tx) error {
		for _, r := range found {
			fresh, err := c.Sealer.Again(r.Comment, CommentBind(&metrics.Feedback{Project: project, CallID: r.CallID, Name: r.Name, Scorer: r.Scorer}))
			if err != nil {
				return fmt.Errorf("comment of call %s: %w", r.CallID, err)
			}
			// Only over what was read: a comment that is corrected meanwhile stays.
			_, err = tx.NewUpdate().TableExpr(c.table()).Set("comment = ?", fresh).
				Where("project = ? AND call_id = ? AND name = ? AND scorer = ? AND at = ? AND comment = ?", project, r.CallID, r.Name, r.Scorer, r.At, r.Comment).Exec(ctx)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, "", sqldb.Classify(err)
	}
	place, err := json.Marshal(found[len(found)-1].commentKey)
	return len(found), string(place), err
}

func readComments(ctx context.Context, q *bun.SelectQuery) (found []commentRow, err error) {
	rows, err := q.Rows(ctx)
	if err != nil {
		return nil, sqldb.Classify(err)
	}
	defer rows.Close()
	for rows.Next() {
		var r commentRow
		if err := rows.Scan(&r.CallID, &r.Name, &r.Scorer, &r.At, &r.Comment); err != nil {
			return nil, sqldb.Classify(err)
		}
		found = append(found, r)
	}
	return found, sqldb.Classify(rows.Err())
}
