package ledger

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/metrics/feedback"
)

// group gathers the rollups of one Stats.
type group struct {
	stats  metrics.Stats
	newest int64 // minute
	figures
}

// Stats implements metrics.Reader.
func (l *Ledger) Stats(ctx context.Context, project string, q metrics.StatsQuery) ([]metrics.Stats, error) {
	cols, err := feedback.Columns(q.Group)
	if err != nil {
		return nil, err
	}
	groups, err := l.readGroups(ctx, project, q, cols)
	if err != nil {
		return nil, err
	}
	scores, err := l.scores.Summary(ctx, project, q)
	if err != nil {
		return nil, err
	}
	out := make([]metrics.Stats, 0, len(groups))
	for key, g := range groups {
		g.stats.Feedback = scores[key]
		out = append(out, g.finish())
	}
	slices.SortFunc(out, func(a, b metrics.Stats) int {
		return cmp.Or(cmp.Compare(a.PromptName, b.PromptName), cmp.Compare(a.PromptID, b.PromptID), cmp.Compare(b.Version, a.Version),
			cmp.Compare(a.Label, b.Label), cmp.Compare(a.Variant, b.Variant), cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Model, b.Model),
			cmp.Compare(a.Key, b.Key), cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Purpose, b.Purpose))
	})
	return out, nil
}

func (l *Ledger) readGroups(ctx context.Context, project string, q metrics.StatsQuery, cols []string) (map[metrics.Group]*group, error) {
	sel := l.db.NewSelect().TableExpr("metrics_rollups").Where("project = ?", project).
		ColumnExpr(strings.Join(cols, ",") + ", minute, outcome, prompt_name, figures")
	if q.PromptID != "" {
		sel = sel.Where("prompt_id = ?", q.PromptID)
	}
	if q.Purpose != "" {
		sel = sel.Where("purpose = ?", string(q.Purpose))
	}
	if !q.Since.IsZero() {
		sel = sel.Where("minute >= ?", floorDiv(q.Since.Unix(), 60))
	}
	if !q.Until.IsZero() {
		sel = sel.Where("minute < ?", feedback.CeilMinute(q.Until).Unix()/60)
	}
	rows, err := sel.Rows(ctx)
	if err != nil {
		return nil, sqldb.Classify(err)
	}
	defer rows.Close()
	groups := map[metrics.Group]*group{}
	for rows.Next() {
		if err := readRollup(rows, q.Group, groups); err != nil {
			return nil, sqldb.Classify(err)
		}
	}
	return groups, sqldb.Classify(rows.Err())
}

func readRollup(rows *sql.Rows, by []metrics.Dimension, groups map[metrics.Group]*group) error {
	var key metrics.Group
	var minute int64
	var outcome metrics.Outcome
	var name string
	var blob []byte
	if err := rows.Scan(append(feedback.Targets(&key, by), &minute, &outcome, &name, &blob)...); err != nil {
		return err
	}
	g := groups[key]
	if g == nil {
		g = &group{newest: minute}
		g.stats = metrics.Stats{Group: key, Outcomes: map[metrics.Outcome]int64{}}
		groups[key] = g
	}
	var f figures
	if err := f.read(blob); err != nil {
		return err
	}
	if slices.Contains(by, metrics.ByPrompt) && minute >= g.newest {
		g.newest, g.stats.PromptName = minute, name
	}
	g.stats.Outcomes[outcome] += f.calls
	g.merge(&f)
	return nil
}

func (g *group) finish() metrics.Stats {
	g.stats.Calls, g.stats.Unpriced = g.calls, g.unpriced
	for outcome, n := range g.stats.Outcomes {
		switch outcome {
		case metrics.OutcomeOK, metrics.OutcomeRefused, metrics.OutcomeCancelled:
		default:
			g.stats.Errors += n
		}
	}
	setCounts(&g.stats.Tokens, g.tokens)
	g.stats.Tokens.Reported = g.counted > 0
	if g.priced > 0 {
		g.stats.CostMicros = &g.cost
	}
	g.stats.Latency, g.stats.FirstToken, g.stats.Overhead = g.latency.quantiles(), g.firstToken.quantiles(), g.overhead.quantiles()
	return g.stats
}

func (s *Sketch) quantiles() metrics.Quantiles {
	return metrics.Quantiles{Count: s.Count(), P50: s.Quantile(.5), P95: s.Quantile(.95), P99: s.Quantile(.99)}
}

// LastCalls implements metrics.Reader.
func (l *Ledger) LastCalls(ctx context.Context, project string, principals []string) (map[string]time.Time, error) {
	last := make(map[string]time.Time, len(principals))
	if len(principals) == 0 {
		return last, nil
	}
	rows, err := l.selectLast(project, principals).Rows(ctx)
	if err != nil {
		return nil, sqldb.Classify(err)
	}
	defer rows.Close()
	for rows.Next() {
		var principal string
		var minute sql.NullInt64
		if err := rows.Scan(&principal, &minute); err != nil {
			return nil, sqldb.Classify(err)
		}
		if minute.Valid {
			last[principal] = time.Unix(minute.Int64*60, 0).UTC()
		}
	}
	return last, sqldb.Classify(rows.Err())
}

// selectLast asks for each caller by itself: by the index that is one step, where grouping would read all that they ever called.
func (l *Ledger) selectLast(project string, principals []string) *bun.SelectQuery {
	asked := make([]bun.TupleValues, 0, len(principals))
	for _, p := range principals {
		asked = append(asked, bun.Tuple([]string{cleanText(p)}))
	}
	newest := l.db.NewSelect().TableExpr("metrics_rollups AS r").ColumnExpr("MAX(r.minute)").Where("r.project = ? AND r.principal = asked.column1", project)
	return l.db.NewSelect().ColumnExpr("asked.column1").ColumnExpr("(?)", newest).TableExpr("(VALUES ?) AS asked", bun.List(asked))
}
