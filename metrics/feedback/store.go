package feedback

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/metrics"
)

// Sealer is what comments are kept by: *seal.Sealer.
type Sealer interface {
	Seal(plaintext []byte, b seal.Bind) ([]byte, error)
	Open(ciphertext []byte, b seal.Bind) ([]byte, error)
}

// CommentBind is the place of a comment.
func CommentBind(f *metrics.Feedback) seal.Bind {
	return seal.Bind{Table: "metrics_feedback", Row: f.CallID + " " + f.Name + " " + f.Scorer, Column: "comment", Project: f.Project}
}

// Store reads scores from the ledger's database.
type Store struct {
	DB     *sqldb.DB
	Sealer Sealer
}

const (
	maxCategories = 100 // of one name in a summary; the rest counts as otherCategory
	otherCategory = "…"

	// What a score's call is selected by stands with the block that holds the call.
	place      = "f.call_id || ' ' || f.name || ' ' || f.scorer"
	joinCalls  = "JOIN metrics_calls AS at ON at.id = f.call_id"
	joinBlocks = "JOIN metrics_call_blocks AS c ON c.block = at.block AND c.project = f.project"
)

// List lists scores, newest first, with their comments opened. limit must be positive; before is the position of the last one seen.
func (s *Store) List(ctx context.Context, project string, f metrics.FeedbackFilter, limit int, before *Position) ([]metrics.Feedback, error) {
	q := s.DB.NewSelect().TableExpr("metrics_feedback AS f").
		ColumnExpr("f.id, f.scorer, f.call_id, f.name, f.kind, f.value, f.category, f.comment, f.end_user, f.source, f.at").
		Where("f.project = ?", project).OrderExpr("f.at DESC, " + place + " DESC").Limit(int64(limit))
	if f.PromptID != "" || f.Version != 0 {
		q = q.Join(joinCalls).Join(joinBlocks)
	}
	if f.PromptID != "" {
		q = q.Where("c.prompt_id = ?", f.PromptID)
	}
	if f.Version != 0 {
		q = q.Where("c.version = ?", f.Version)
	}
	if f.CallID != "" {
		q = q.Where("f.call_id = ?", f.CallID)
	}
	if f.Name != "" {
		q = q.Where("f.name = ?", f.Name)
	}
	if !f.Since.IsZero() {
		q = q.Where("f.at >= ?", f.Since.UnixMicro())
	}
	if !f.Until.IsZero() {
		q = q.Where("f.at < ?", f.Until.UnixMicro())
	}
	if before != nil {
		q = q.Where("(f.at, "+place+") < (?, ?)", before.Micros, before.ID)
	}
	rows, err := q.Rows(ctx)
	if err != nil {
		return nil, sqldb.Classify(err)
	}
	defer rows.Close()
	var out []metrics.Feedback
	for rows.Next() {
		one, err := s.scan(rows, project)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, sqldb.Classify(rows.Err())
}

// Place tells scores of one moment apart; none of its parts but the last holds a space.
func Place(f *metrics.Feedback) string { return f.CallID + " " + f.Name + " " + f.Scorer }

// Position is a place in a list that is ordered by time and id.
type Position struct {
	Micros int64 // since 1970
	ID     string
}

func (s *Store) scan(rows *sql.Rows, project string) (metrics.Feedback, error) {
	f := metrics.Feedback{Project: project}
	var kind metrics.FeedbackKind
	var value sql.NullFloat64
	var sealed []byte
	var at int64
	if err := rows.Scan(&f.ID, &f.Scorer, &f.CallID, &f.Name, &kind, &value, &f.Category, &sealed, &f.User, &f.Source, &at); err != nil {
		return f, sqldb.Classify(err)
	}
	f.At = time.UnixMicro(at).UTC()
	switch kind {
	case metrics.KindBool:
		v := value.Float64 != 0
		f.Bool = &v
	case metrics.KindNumber:
		f.Number = &value.Float64
	}
	if len(sealed) > 0 {
		if s.Sealer == nil {
			return f, fault.New(fault.Internal, "Comments cannot be opened.")
		}
		plain, err := s.Sealer.Open(sealed, CommentBind(&f))
		if errors.Is(err, seal.ErrShredded) {
			return f, nil // the score stays, without the words
		}
		if err != nil {
			return f, fault.Wrap(err, fault.Internal, "A comment cannot be opened.")
		}
		f.Comment = string(plain)
	}
	return f, nil
}

// Summary sums up the scores of the calls that q selects, by group and then by name and kind. Scores whose call is not known (yet) are not
// part of it.
func (s *Store) Summary(ctx context.Context, project string, q metrics.StatsQuery) (map[metrics.Group][]metrics.FeedbackSummary, error) {
	cols, err := Columns(q.Group)
	if err != nil {
		return nil, err
	}
	group := "c." + strings.Join(cols, ", c.")
	sel := s.DB.NewSelect().TableExpr("metrics_feedback AS f").
		Join(joinCalls).Join(joinBlocks).
		ColumnExpr(group+", f.name, f.kind, f.category, COUNT(*), SUM(f.value)").
		Where("f.project = ?", project).
		GroupExpr(group + ", f.name, f.kind, f.category").
		OrderExpr(group + ", f.name, f.kind, COUNT(*) DESC, f.category")
	if q.PromptID != "" {
		sel = sel.Where("c.prompt_id = ?", q.PromptID)
	}
	if q.Purpose != "" {
		sel = sel.Where("c.purpose = ?", string(q.Purpose))
	}
	if !q.Since.IsZero() {
		sel = sel.Where("c.first_at >= ?", q.Since.Truncate(time.Minute).UnixMicro())
	}
	if !q.Until.IsZero() {
		sel = sel.Where("c.first_at < ?", CeilMinute(q.Until).UnixMicro())
	}
	rows, err := sel.Rows(ctx)
	if err != nil {
		return nil, sqldb.Classify(err)
	}
	defer rows.Close()
	out := map[metrics.Group][]metrics.FeedbackSummary{}
	for rows.Next() {
		var g metrics.Group
		var one metrics.FeedbackSummary
		var category string
		var sum sql.NullFloat64
		if err := rows.Scan(append(Targets(&g, q.Group), &one.Name, &one.Kind, &category, &one.Count, &sum)...); err != nil {
			return nil, sqldb.Classify(err)
		}
		out[g] = add(out[g], one, category, sum)
	}
	return out, sqldb.Classify(rows.Err())
}

// add puts one row of the summary to its name, the last of the list or a new one.
func add(list []metrics.FeedbackSummary, one metrics.FeedbackSummary, category string, sum sql.NullFloat64) []metrics.FeedbackSummary {
	if one.Kind != metrics.KindCategory {
		if sum.Valid && one.Count > 0 {
			mean := sum.Float64 / float64(one.Count)
			one.Mean = &mean
		}
		return append(list, one)
	}
	if n := len(list); n == 0 || list[n-1].Name != one.Name || list[n-1].Kind != one.Kind {
		list = append(list, metrics.FeedbackSummary{Name: one.Name, Kind: one.Kind, Categories: map[string]int64{}})
	}
	last := &list[len(list)-1]
	if len(last.Categories) >= maxCategories {
		category = otherCategory
	}
	last.Count += one.Count
	last.Categories[category] += one.Count
	return list
}

// CeilMinute rounds up to a full minute.
func CeilMinute(t time.Time) time.Time {
	if floor := t.Truncate(time.Minute); !floor.Equal(t) {
		return floor.Add(time.Minute)
	}
	return t
}
