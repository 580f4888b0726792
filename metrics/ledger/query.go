package ledger

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/metrics/feedback"
)

const (
	defaultPage = 50
	maxPage     = 500
)

// pageOf checks a page and reads its position.
func pageOf(p metrics.Page) (limit int, after *feedback.Position, err error) {
	limit = p.Limit
	if limit == 0 {
		limit = defaultPage
	}
	if limit < 1 || limit > maxPage {
		return 0, nil, fault.New(fault.InvalidRequest, "limit must be 1 to %d.", maxPage).WithParam("limit")
	}
	if p.After == "" {
		return limit, nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(p.After)
	at, id, ok := strings.Cut(string(raw), ".")
	us, numErr := strconv.ParseInt(at, 10, 64)
	if err != nil || !ok || numErr != nil || id != cleanText(id) {
		return 0, nil, fault.New(fault.InvalidRequest, "The cursor is none that was given out: start the list again.").WithParam("after")
	}
	return limit, &feedback.Position{Micros: us, ID: id}, nil
}

func cursorOf(at time.Time, id string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(at.UnixMicro(), 10) + "." + id))
}

// ListCalls implements metrics.Reader.
func (l *Ledger) ListCalls(ctx context.Context, project string, f metrics.CallFilter, p metrics.Page) ([]metrics.Call, string, error) {
	limit, after, err := pageOf(p)
	if err != nil {
		return nil, "", err
	}
	if f.PromptID != "" {
		if len(f.Prompts) > 0 && !slices.Contains(f.Prompts, f.PromptID) {
			return nil, "", nil
		}
		f.Prompts = []string{f.PromptID}
	}
	var out []metrics.Call
	if len(f.Prompts) == 0 {
		out, err = l.newest(ctx, l.selectBlocks(project, nil, f, after), limit+1, matcher(f, after))
	} else {
		out, err = l.mergeCalls(ctx, project, f, after, limit+1)
	}
	if err != nil || len(out) <= limit {
		return out, "", err
	}
	out = out[:limit]
	return out, cursorOf(out[limit-1].Start, out[limit-1].ID), nil
}

// mergeCalls reads each prompt's newest calls by the prompt's own index and keeps the newest of all: what it costs does not depend on how
// many calls the project's other prompts have.
func (l *Ledger) mergeCalls(ctx context.Context, project string, f metrics.CallFilter, after *feedback.Position, limit int) ([]metrics.Call, error) {
	var out []metrics.Call
	for _, id := range f.Prompts {
		q := l.selectBlocks(project, &id, f, after)
		if len(out) == limit {
			q = q.Where("last_at >= ?", out[limit-1].Start.UnixMicro())
		}
		found, err := l.newest(ctx, q, limit, matcher(f, after))
		if err != nil {
			return nil, err
		}
		out = newestOf(append(out, found...), limit)
	}
	return out, nil
}

// newestOf sorts calls, the newest first, and keeps at most limit of them.
func newestOf(calls []metrics.Call, limit int) []metrics.Call {
	slices.SortFunc(calls, func(a, b metrics.Call) int { return comparePlaces(&b, &a) })
	return calls[:min(len(calls), limit)]
}

// selectBlocks selects the blocks, of one prompt unless it is nil, that may hold what a filter wants and a list has not shown.
func (l *Ledger) selectBlocks(project string, prompt *string, f metrics.CallFilter, after *feedback.Position) *bun.SelectQuery {
	q := l.db.NewSelect().ColumnExpr("block, last_at, records").Where("project = ?", project)
	table := "metrics_call_blocks"
	if prompt != nil {
		q = q.Where("prompt_id = ?", *prompt)
		if l.db.Dialect == sqldb.SQLite {
			// Without figures of its tables it would take the index of the whole project, and read what all other prompts have.
			table += " INDEXED BY metrics_call_blocks_prompt"
		}
	}
	q = q.TableExpr(table)
	if f.Version != 0 {
		q = q.Where("version = ?", f.Version)
	}
	if f.Label != "" {
		q = q.Where("label = ?", f.Label)
	}
	if f.Outcome != "" {
		q = q.Where("outcome = ?", string(f.Outcome))
	}
	if !f.Since.IsZero() {
		q = q.Where("last_at >= ?", f.Since.UnixMicro())
	}
	until := func(at int64) {
		// A block's calls are of one minute: the index goes by the newest of them.
		q = q.Where("last_at < ? AND first_at <= ?", (floorDiv(at, minuteMicros)+1)*minuteMicros, at)
	}
	if !f.Until.IsZero() {
		until(f.Until.UnixMicro())
	}
	if after != nil {
		until(after.Micros)
	}
	if f.Behind != (metrics.Position{}) {
		until(f.Behind.Start.UnixMicro())
	}
	return q
}

const minuteMicros = int64(time.Minute / time.Microsecond)

// matcher tells the calls of selectBlocks' blocks that are wanted. What a filter says of prompts, versions, labels and outcomes holds for
// whole blocks.
func matcher(f metrics.CallFilter, after *feedback.Position) func(*metrics.Call) bool {
	return func(c *metrics.Call) bool {
		at := c.Start.UnixMicro()
		before := func(micros int64, id string) bool { return at < micros || at == micros && c.ID < id }
		return (f.Since.IsZero() || at >= f.Since.UnixMicro()) && (f.Until.IsZero() || at < f.Until.UnixMicro()) &&
			(after == nil || before(after.Micros, after.ID)) &&
			(f.Behind == (metrics.Position{}) || before(f.Behind.Start.UnixMicro(), f.Behind.ID))
	}
}

const (
	firstBlocks = 4 // read at once; each time twice as many, up to
	mostBlocks  = 256
)

// newest reads blocks from the newest on, until no further one can hold one of the limit newest calls that match.
func (l *Ledger) newest(ctx context.Context, q *bun.SelectQuery, limit int, match func(*metrics.Call) bool) ([]metrics.Call, error) {
	var out []metrics.Call
	var seen *storedBlock
	for n := firstBlocks; ; n = min(2*n, mostBlocks) {
		blocks, err := readBlocks(ctx, newestFirst(q.Clone(), n, seen))
		if err != nil {
			return nil, err
		}
		for i := range blocks {
			seen = &blocks[i]
			if len(out) == limit && seen.last < out[limit-1].Start.UnixMicro() {
				return out, nil
			}
			calls, err := callsOf(seen.records)
			if err != nil {
				return nil, err
			}
			for i := range calls {
				if match(&calls[i]) {
					out = append(out, calls[i])
				}
			}
			out = newestOf(out, limit)
		}
		if len(blocks) < n {
			return out, nil
		}
	}
}

// newestFirst selects the n newest blocks behind the last one seen.
func newestFirst(q *bun.SelectQuery, n int, seen *storedBlock) *bun.SelectQuery {
	if seen != nil {
		// The index goes by the time alone: the first condition is what it is asked.
		q = q.Where("last_at <= ? AND (last_at, block) < (?, ?)", seen.last, seen.last, seen.number)
	}
	return q.OrderExpr("last_at DESC, block DESC").Limit(int64(n))
}

// storedBlock is a row of metrics_call_blocks.
type storedBlock struct {
	number, last int64
	records      []byte
}

func readBlocks(ctx context.Context, q *bun.SelectQuery) ([]storedBlock, error) {
	rows, err := q.Rows(ctx)
	if err != nil {
		return nil, sqldb.Classify(err)
	}
	defer rows.Close()
	var out []storedBlock
	for rows.Next() {
		var b storedBlock
		if err := rows.Scan(&b.number, &b.last, &b.records); err != nil {
			return nil, sqldb.Classify(err)
		}
		out = append(out, b)
	}
	return out, sqldb.Classify(rows.Err())
}

// Call implements metrics.Reader.
func (l *Ledger) Call(ctx context.Context, project, id string) (*metrics.Call, error) {
	return findCall(ctx, l.db, project, id)
}

func callNotFound() error {
	return fault.New(fault.CallNotFound, "There is no such call. One that has just ended shows after a moment.")
}

func findCall(ctx context.Context, db *sqldb.DB, project, id string) (*metrics.Call, error) {
	is := func(c *metrics.Call) bool { return c.ID == id }
	call, err := findIn(ctx, db, is, "metrics_calls", "c.id = ? AND b.project = ?", id, project)
	if err == nil && call == nil {
		call, err = findRun(ctx, db, is, "id = ? AND project = ?", id, project)
	}
	if err == nil && call == nil {
		return nil, callNotFound()
	}
	return call, err
}

// lookedThrough is how many blocks at most are looked through for one call: a provider may give all its answers the same id.
const lookedThrough = 16

// findIn is the newest call that matches in the blocks that where selects from an index of them, of which it looks through those that were committed
// last; nil when none does.
func findIn(ctx context.Context, db *sqldb.DB, match func(*metrics.Call) bool, index, where string, args ...any) (*metrics.Call, error) {
	blocks, err := readBlocks(ctx, db.NewSelect().TableExpr("? AS c", bun.Ident(index)).Join("JOIN metrics_call_blocks AS b ON b.block = c.block").
		ColumnExpr("b.block, b.last_at, b.records").Where(where, args...).OrderExpr("c.block DESC").Limit(lookedThrough))
	if err != nil {
		return nil, err
	}
	var found *metrics.Call
	for _, b := range blocks {
		calls, err := callsOf(b.records)
		if err != nil {
			return nil, err
		}
		for i := range calls {
			if c := &calls[i]; match(c) && (found == nil || comparePlaces(found, c) < 0) {
				found = c
			}
		}
	}
	return found, nil
}

// FindByCompletionID implements metrics.Reader.
func (l *Ledger) FindByCompletionID(ctx context.Context, project, completionID string) (string, error) {
	if completionID == "" || completionID != cleanText(completionID) {
		return "", callNotFound()
	}
	recent, several := l.recent.find(project, completionID)
	// Another id may have the same hash.
	found := map[string]bool{}
	if recent != "" {
		found[recent] = true
	}
	is := func(c *metrics.Call) bool {
		if c.CompletionID == completionID {
			found[c.ID] = true
			return true
		}
		return false
	}
	hash := completionHash(completionID)
	call, err := findIn(ctx, l.db, is, "metrics_completions", "c.completion = ? AND b.project = ?", hash, project)
	if err == nil && call == nil {
		call, err = findRun(ctx, l.db, is, "completion = ? AND project = ?", hash, project)
	}
	switch {
	case several || len(found) > 1:
		return "", fault.New(fault.Conflict, "Several calls were answered with this completion_id: name the one that you mean by its call_id.").WithParam("completion_id")
	case recent != "": // known though the database may not answer
		return recent, nil
	case err != nil:
		return "", err
	case call == nil:
		return "", callNotFound()
	}
	return call.ID, nil
}

// ListFeedback implements metrics.Reader.
func (l *Ledger) ListFeedback(ctx context.Context, project string, f metrics.FeedbackFilter, p metrics.Page) ([]metrics.Feedback, string, error) {
	limit, after, err := pageOf(p)
	if err != nil {
		return nil, "", err
	}
	out, err := l.scores.List(ctx, project, f, limit+1, after)
	if err != nil || len(out) <= limit {
		return out, "", err
	}
	out = out[:limit]
	return out, cursorOf(out[limit-1].At, feedback.Place(&out[limit-1])), nil
}
