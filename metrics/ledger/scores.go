package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/metrics"
)

// feedback makes scores current, keeps those that they correct as history, and returns the ones of scorers who had none on that name of that call.
func (w *writer) feedback(ctx context.Context, list []*feedbackRecord) (fresh []*feedbackRecord, err error) {
	current, history := corrected(list)
	args := make([]any, 0, len(current)*len(feedbackColumns))
	for _, f := range current {
		args = f.appendRow(args)
	}
	const scored = "project, call_id, name, scorer"
	inserted, err := w.insertNew(ctx, "metrics_feedback", feedbackColumns, args, scored, "project || ' ' || call_id || ' ' || name || ' ' || scorer")
	if err != nil {
		return nil, err
	}
	for _, f := range current {
		if inserted[f.scored()] {
			fresh = append(fresh, f)
			continue
		}
		older, err := w.correct(ctx, f)
		if err != nil {
			return nil, err
		}
		history = append(history, older...)
	}
	args = args[:0]
	for _, f := range history {
		args = f.appendRow(args)
	}
	return fresh, w.insertAll(ctx, "metrics_feedback_history", feedbackColumns, args, " ")
}

// corrected parts the scores of a batch: the newest of each scorer, and those before it that said something else.
func corrected(list []*feedbackRecord) (current, history []*feedbackRecord) {
	at := map[string]int{}
	for _, f := range list {
		i, known := at[f.scored()]
		switch {
		case !known:
			at[f.scored()] = len(current)
			current = append(current, f)
		case current[i].says(f):
		case f.At.Before(current[i].At):
			history = append(history, f)
		default:
			history = append(history, current[i])
			current[i] = f
		}
	}
	return current, history
}

// correct replaces a scorer's current score by a newer one that says something else. It returns what belongs to the history now.
func (w *writer) correct(ctx context.Context, f *feedbackRecord) (older []*feedbackRecord, err error) {
	const key = " WHERE project = ? AND call_id = ? AND name = ? AND scorer = ?"
	mark := func(query string) string {
		if w.dialect != sqldb.Postgres {
			return query
		}
		for n := 1; strings.Contains(query, "?"); n++ {
			query = strings.Replace(query, "?", "$"+strconv.Itoa(n), 1)
		}
		return query
	}
	old := &feedbackRecord{Feedback: metrics.Feedback{Project: f.Project, CallID: f.CallID, Name: f.Name, Scorer: f.Scorer}}
	var kind string
	var value sql.NullFloat64
	var at int64
	err = w.tx.QueryRowContext(ctx, mark("SELECT id, kind, value, category, comment, end_user, source, at FROM metrics_feedback"+key),
		f.Project, f.CallID, f.Name, f.Scorer).Scan(&old.ID, &kind, &value, &old.Category, &old.Sealed, &old.User, &old.Source, &at)
	if err != nil {
		return nil, fmt.Errorf("read a score: %w", err)
	}
	switch old.At = time.UnixMicro(at); metrics.FeedbackKind(kind) {
	case metrics.KindBool:
		v := value.Float64 != 0
		old.Bool = &v
	case metrics.KindNumber:
		old.Number = &value.Float64
	}
	switch {
	case old.says(f):
		return nil, nil
	case f.At.UnixMicro() < at: // another replica's, committed late
		return []*feedbackRecord{f}, nil
	}
	row := f.appendRow(nil)
	_, err = w.tx.ExecContext(ctx, mark("UPDATE metrics_feedback SET id = ?, kind = ?, value = ?, category = ?, comment = ?, end_user = ?, source = ?, at = ?"+key),
		append(row[4:], row[:4]...)...)
	if err != nil {
		return nil, fmt.Errorf("correct a score: %w", err)
	}
	return []*feedbackRecord{old}, nil
}

// scored is whose score on what it is.
func (f *feedbackRecord) scored() string {
	return f.Project + " " + f.CallID + " " + f.Name + " " + f.Scorer
}

// says reports whether two scores of one scorer say the same, so that the later one changes nothing. A comment is sealed, and every sealing looks
// different: one that is sent again with the same id is taken for the same.
func (f *feedbackRecord) says(o *feedbackRecord) bool {
	same := f.Kind() == o.Kind() && f.Category == o.Category && equal(f.Bool, o.Bool) && equal(f.Number, o.Number)
	return same && (f.ID == o.ID || len(f.Sealed)+len(o.Sealed) == 0)
}

func equal[T comparable](a, b *T) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

// appendRow appends the values of feedbackColumns.
func (f *feedbackRecord) appendRow(args []any) []any {
	var value any
	switch {
	case f.Bool != nil && *f.Bool:
		value = 1.0
	case f.Bool != nil:
		value = 0.0
	case f.Number != nil:
		value = *f.Number
	}
	sealed := f.Sealed
	if sealed == nil {
		sealed = []byte{}
	}
	return append(args, f.Project, f.CallID, f.Name, f.Scorer, f.ID, string(f.Kind()), value, f.Category, sealed, f.User, f.Source, f.At.UnixMicro())
}
