package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/metrics"
)

// A call whose answer its provider still works on is recorded twice under one id: as it begins, with the outcome "running", and as it ends. The first
// record goes to metrics_runs and counts in no figures; the second is a call like any other.

//nolint:gochecknoglobals // a constant
var runColumns = []string{"id", "project", "completion", "started", "record"}

var _ metrics.Runs = (*Ledger)(nil)

// apart takes the running calls out of a batch's. As a rule there are none.
func apart(calls []spooledCall) (ended, running []spooledCall) {
	isRunning := func(c *spooledCall) bool { return c.call.Outcome == metrics.OutcomeRunning }
	for i := range calls {
		if !isRunning(&calls[i]) {
			continue
		}
		for j := range calls {
			if isRunning(&calls[j]) {
				running = append(running, calls[j])
			} else {
				ended = append(ended, calls[j])
			}
		}
		return ended, running
	}
	return calls, nil
}

// begin inserts running calls; one that is there already stays as it is.
func (w *writer) begin(ctx context.Context, running []spooledCall) error {
	args := make([]any, 0, len(running)*len(runColumns))
	for i := range running {
		c := &running[i]
		args = append(args, c.call.ID, c.call.Project, completionHash(c.call.CompletionID), c.call.Start.UnixMicro(), c.record)
	}
	return w.insertAll(ctx, "metrics_runs", runColumns, args, " ON CONFLICT (id) DO NOTHING")
}

// Runs implements metrics.Runs.
func (l *Ledger) Runs(ctx context.Context, before time.Time, limit int) ([]metrics.Call, error) {
	err := l.db.Write(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewRaw("DELETE FROM metrics_runs WHERE id IN (SELECT r.id FROM metrics_runs AS r JOIN metrics_calls AS c ON c.id = r.id)").Exec(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("drop runs that have ended: %w", err)
	}
	rows, err := l.db.NewSelect().TableExpr("metrics_runs").ColumnExpr("record").Where("started < ?", before.UnixMicro()).
		OrderExpr("started, id").Limit(int64(limit)).Rows(ctx)
	if err != nil {
		return nil, sqldb.Classify(err)
	}
	defer rows.Close()
	var out []metrics.Call
	for rows.Next() {
		c, err := scanRun(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, *c)
	}
	return out, sqldb.Classify(rows.Err())
}

// findRun is the newest running call that where selects, nil when there is none.
func findRun(ctx context.Context, db *sqldb.DB, match func(*metrics.Call) bool, where string, args ...any) (*metrics.Call, error) {
	rows, err := db.NewSelect().TableExpr("metrics_runs").ColumnExpr("record").Where(where, args...).OrderExpr("started DESC").Limit(lookedThrough).Rows(ctx)
	if err != nil {
		return nil, sqldb.Classify(err)
	}
	defer rows.Close()
	for rows.Next() {
		if c, err := scanRun(rows); err != nil || match(c) {
			return c, err
		}
	}
	return nil, sqldb.Classify(rows.Err())
}

func scanRun(rows *sql.Rows) (*metrics.Call, error) {
	var record []byte
	if err := rows.Scan(&record); err != nil {
		return nil, sqldb.Classify(err)
	}
	var c metrics.Call
	feedback, err := decodeInto(&c, record, string(record))
	if err == nil && feedback != nil {
		err = errors.New("ledger: a run's record is no call's")
	}
	return &c, err
}
