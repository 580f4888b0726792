package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/sqldb"
)

const (
	argsPerInsert = 704            // in one statement, at most
	maxCount      = int64(1) << 50 // of tokens and micro-dollars in one call: a provider's nonsense must not overflow the sums
)

// The columns of the tables, in the order of their rows.
//
//nolint:gochecknoglobals // constants
var (
	callColumns       = []string{"id", "block"}
	completionColumns = []string{"completion", "block"}
	blockColumns      = []string{"block", "project", "prompt_id", "version", "label", "variant", "provider", "model", "principal", "endpoint", "purpose",
		"outcome", "first_at", "last_at", "records"}
	rollupKeyColumns = []string{"project", "minute", "prompt_id", "version", "label", "variant", "provider", "model", "principal", "endpoint",
		"purpose", "outcome", "shard"}
	rollupValues    = []string{"prompt_name", "calls", "figures"}
	feedbackColumns = []string{"project", "call_id", "name", "scorer", "id", "kind", "value", "category", "comment", "end_user", "source", "at"}
)

// errCursor says that the cursor is not where this process left it: the transaction before was committed although it looked
// failed, or the database was restored. It is read again.
var errCursor = errors.New("the spool's cursor has moved")

// cursor is how far a run's segments have been applied.
type cursor struct {
	seq, pos int64
	exists   bool
}

// writer holds one transaction's statements. The driver gets the arguments apart from the text: nothing is quoted here.
type writer struct {
	tx      *sql.Tx
	dialect sqldb.Dialect
}

// placeholders writes "(?,?),(?,?)" or "($1,$2),($3,$4)".
func (w *writer) placeholders(b *strings.Builder, rows, cols int) {
	n := 0
	for r := range rows {
		if r > 0 {
			b.WriteByte(',')
		}
		for c := range cols {
			if c == 0 {
				b.WriteByte('(')
			} else {
				b.WriteByte(',')
			}
			n++
			if w.dialect == sqldb.Postgres {
				b.WriteByte('$')
				b.WriteString(strconv.Itoa(n))
			} else {
				b.WriteByte('?')
			}
		}
		b.WriteByte(')')
	}
}

func (w *writer) insert(table string, cols []string, rows int, suffix string) string {
	var b strings.Builder
	b.WriteString("INSERT ")
	if w.dialect == sqldb.SQLite && suffix == "" {
		// The transaction ends with the first error anyway: SQLite need not keep what it takes to undo this statement alone.
		b.WriteString("OR FAIL ")
	}
	b.WriteString("INTO " + table + " (" + strings.Join(cols, ",") + ") VALUES ")
	w.placeholders(&b, rows, len(cols))
	b.WriteString(suffix)
	return b.String()
}

// insertNew inserts rows unless their key is taken and returns which were new, by the expression key. args hold row after row. It costs half as
// much again as insertAll.
func (w *writer) insertNew(ctx context.Context, table string, cols []string, args []any, conflict, key string) (map[string]bool, error) {
	fresh := map[string]bool{}
	for len(args) > 0 {
		n := min(len(args), argsPerInsert) / len(cols)
		query := w.insert(table, cols, n, " ON CONFLICT ("+conflict+") DO NOTHING RETURNING "+key)
		rows, err := w.tx.QueryContext(ctx, query, args[:n*len(cols)]...)
		if err != nil {
			return nil, fmt.Errorf("insert into %s: %w", table, err)
		}
		if err := scanStrings(rows, fresh); err != nil {
			return nil, fmt.Errorf("insert into %s: %w", table, err)
		}
		args = args[n*len(cols):]
	}
	return fresh, nil
}

// insertAll inserts rows; the statement of a full chunk is parsed once.
func (w *writer) insertAll(ctx context.Context, table string, cols []string, args []any, suffix string) error {
	perInsert := argsPerInsert / len(cols)
	chunk := perInsert * len(cols)
	if len(args) >= 2*chunk {
		stmt, err := w.tx.PrepareContext(ctx, w.insert(table, cols, perInsert, suffix))
		if err != nil {
			return fmt.Errorf("insert into %s: %w", table, err)
		}
		defer stmt.Close()
		for ; len(args) >= chunk; args = args[chunk:] {
			if _, err := stmt.ExecContext(ctx, args[:chunk]...); err != nil {
				return fmt.Errorf("insert into %s: %w", table, err)
			}
		}
	}
	for len(args) > 0 {
		n := min(len(args), chunk)
		if _, err := w.tx.ExecContext(ctx, w.insert(table, cols, n/len(cols), suffix), args[:n]...); err != nil {
			return fmt.Errorf("insert into %s: %w", table, err)
		}
		args = args[n:]
	}
	return nil
}

func scanStrings(rows *sql.Rows, into map[string]bool) error {
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return err
		}
		into[s] = true
	}
	return rows.Err()
}

// advance moves a run's cursor from where we believe it is. It comes first: a transaction of ours that is still undecided after a lost
// connection holds the row, so this one waits for it and then fails instead of applying anything twice.
func (w *writer) advance(ctx context.Context, run string, from, to cursor) error {
	if !from.exists {
		_, err := w.tx.ExecContext(ctx, w.insert("metrics_spool_cursors", []string{"run", "seq", "pos"}, 1, ""), run, to.seq, to.pos)
		if sqldb.IsUnique(err) {
			return errors.Join(errCursor, err)
		}
		return err
	}
	query := "UPDATE metrics_spool_cursors SET seq = ?, pos = ? WHERE run = ? AND seq = ? AND pos = ?"
	if w.dialect == sqldb.Postgres {
		query = "UPDATE metrics_spool_cursors SET seq = $1, pos = $2 WHERE run = $3 AND seq = $4 AND pos = $5"
	}
	res, err := w.tx.ExecContext(ctx, query, to.seq, to.pos, run, from.seq, from.pos)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errors.Join(errCursor, err)
	}
	return nil
}

func readCursor(ctx context.Context, db *sqldb.DB, run string) (cursor, error) {
	var c cursor
	err := db.QueryRowContext(ctx, "SELECT seq, pos FROM metrics_spool_cursors WHERE run = ?", run).Scan(&c.seq, &c.pos)
	if errors.Is(err, sql.ErrNoRows) {
		return cursor{}, nil
	}
	c.exists = true
	return c, sqldb.Classify(err)
}

// apply writes one batch: calls, figures, feedback and the cursor, all or nothing. It returns the feedback that was new, and the changed
// rollups for the cache once the transaction is committed. Calls are expected to be new, as they are unless a database was restored
// or a call recorded twice; only when one is not, all is done again with an eye on each.
func (f *flusher) apply(ctx context.Context, b *batch) (a applied, err error) {
	a, err = f.write(ctx, b, false)
	if err != nil && !errors.Is(err, errCursor) && sqldb.IsUnique(err) {
		f.cache = newRollupCache()
		a, err = f.write(ctx, b, true)
	}
	return a, err
}

// applied is what a batch changed.
type applied struct {
	fresh  []*feedbackRecord
	rolled map[rollupKey]*rollup
	folded int64 // calls whose figures are not kept apart
}

func (f *flusher) write(ctx context.Context, b *batch, careful bool) (a applied, err error) {
	err = f.db.Write(ctx, func(ctx context.Context, tx bun.Tx) error {
		w := &writer{tx.Tx, f.db.Dialect}
		if err := w.advance(ctx, b.run, b.from, b.to); err != nil {
			return err
		}
		calls, running := apart(b.calls)
		if err := w.begin(ctx, running); err != nil {
			return err
		}
		if careful {
			var err error
			if calls, err = w.unknown(ctx, calls); err != nil {
				return err
			}
		}
		if err := f.loadMinutes(ctx, w, b.run, calls); err != nil {
			return err
		}
		var bundles []*bundle
		bundles, a.folded = f.cache.bundles(b.run, calls)
		if err := f.writeCalls(ctx, w, bundles, len(calls)); err != nil {
			return err
		}
		var err error
		if a.rolled, err = f.roll(ctx, w, bundles); err != nil {
			return err
		}
		a.fresh, err = w.feedback(ctx, b.feedback)
		return err
	})
	return a, err
}

// writeCalls inserts n calls and the blocks that hold them. A call that is not new is an error.
func (f *flusher) writeCalls(ctx context.Context, w *writer, bundles []*bundle, n int) error {
	blocks := 0
	for _, b := range bundles {
		blocks += (len(b.calls) + blockCalls - 1) / blockCalls
	}
	number := f.nextBlocks(blocks)
	places := make([]any, 0, n*len(callColumns))
	completions := make([]completionPlace, 0, n)
	rows := make([]any, 0, blocks*len(blockColumns))
	for _, b := range bundles {
		k := &b.block
		for calls := range slices.Chunk(b.calls, blockCalls) {
			var block any = number
			records := make([]byte, 0, sizeInBlock(calls))
			for _, c := range calls {
				places = append(places, c.call.ID, block)
				if id := c.call.CompletionID; id != "" {
					completions = append(completions, completionPlace{completionHash(id), number})
				}
				records = appendToBlock(records, c.record)
			}
			rows = append(rows, block, k.project, k.promptID, k.version, k.label, k.variant, k.provider, k.model, k.principal, k.endpoint,
				k.purpose, k.outcome, calls[0].call.Start.UnixMicro(), calls[len(calls)-1].call.Start.UnixMicro(), records)
			number++
		}
	}
	if err := w.insertAll(ctx, "metrics_call_blocks", blockColumns, rows, ""); err != nil {
		return err
	}
	if err := w.insertAll(ctx, "metrics_calls", callColumns, places, ""); err != nil {
		return err
	}
	return w.insertCompletions(ctx, completions)
}

// unknown leaves out calls that the database has, and all but the first of one id.
func (w *writer) unknown(ctx context.Context, calls []spooledCall) ([]spooledCall, error) {
	known := map[string]bool{}
	for part := range slices.Chunk(calls, argsPerInsert) {
		var b strings.Builder
		b.WriteString("SELECT id FROM metrics_calls WHERE id IN ")
		w.placeholders(&b, 1, len(part))
		args := make([]any, len(part))
		for i := range part {
			args[i] = part[i].call.ID
		}
		rows, err := w.tx.QueryContext(ctx, b.String(), args...)
		if err != nil {
			return nil, fmt.Errorf("read metrics_calls: %w", err)
		}
		if err := scanStrings(rows, known); err != nil {
			return nil, fmt.Errorf("read metrics_calls: %w", err)
		}
	}
	out := make([]spooledCall, 0, len(calls))
	for _, c := range calls {
		if !known[c.call.ID] {
			known[c.call.ID] = true
			out = append(out, c)
		}
	}
	return out, nil
}

// roll adds calls to the figures of their minutes.
func (f *flusher) roll(ctx context.Context, w *writer, bundles []*bundle) (map[rollupKey]*rollup, error) {
	touched := make(map[rollupKey]*rollup, len(bundles))
	for _, b := range bundles {
		r := touched[b.row]
		if r == nil {
			if r = f.cache.rows[b.row]; r != nil {
				r = r.clone()
			} else {
				r = &rollup{key: b.row.clone()}
			}
			touched[r.key] = r
		}
		for _, c := range b.calls {
			r.add(&c.call)
		}
	}
	var blobs []byte
	args := make([]any, 0, len(touched)*(len(rollupKeyColumns)+len(rollupValues)))
	for k, r := range touched {
		from := len(blobs)
		blobs = r.append(blobs)
		args = append(args, k.project, k.minute, k.promptID, k.version, k.label, k.variant, k.provider, k.model, k.principal, k.endpoint, k.purpose,
			k.outcome, k.shard, r.promptName, r.calls, blobs[from:len(blobs):len(blobs)])
	}
	return touched, w.upsertRollups(ctx, args)
}

func (w *writer) upsertRollups(ctx context.Context, args []any) error {
	sets := make([]string, len(rollupValues))
	for i, c := range rollupValues {
		sets[i] = c + " = excluded." + c
	}
	suffix := " ON CONFLICT (" + strings.Join(rollupKeyColumns, ",") + ") DO UPDATE SET " + strings.Join(sets, ",")
	return w.insertAll(ctx, "metrics_rollups", slices.Concat(rollupKeyColumns, rollupValues), args, suffix)
}

// loadMinutes makes sure that the cache holds what is committed of the minutes of calls.
func (f *flusher) loadMinutes(ctx context.Context, w *writer, shard string, calls []spooledCall) error {
	for i := range calls {
		m := shardMinute{shard, minuteOf(&calls[i].call)}
		if i > 0 && m.minute == minuteOf(&calls[i-1].call) {
			continue
		}
		if err := f.loadMinute(ctx, w, m); err != nil {
			return err
		}
	}
	return nil
}

// loadMinute makes sure that the cache holds what is committed of a minute.
func (f *flusher) loadMinute(ctx context.Context, w *writer, m shardMinute) error {
	if f.cache.loaded[m] {
		return nil
	}
	mark := "?,?"
	if w.dialect == sqldb.Postgres {
		mark = "$1,$2"
	}
	rows, err := w.tx.QueryContext(ctx, "SELECT "+strings.Join(slices.Concat(rollupKeyColumns, rollupValues), ",")+
		" FROM metrics_rollups WHERE (shard, minute) = ("+mark+")", m.shard, m.minute)
	if err != nil {
		return fmt.Errorf("read metrics_rollups: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		k, r, err := scanRollup(rows)
		if errors.Is(err, errFigures) { // damaged: the minute's figures begin anew, the calls themselves are whole
			f.damaged.Add(1)
			f.log.Error("the figures of a minute cannot be read and begin anew", "minute", k.minute, "prompt", k.promptID)
			continue
		}
		if err != nil {
			return err
		}
		r.key = k
		f.cache.set(r)
	}
	f.cache.loaded[m] = true
	return rows.Err()
}

func scanRollup(rows *sql.Rows) (rollupKey, *rollup, error) {
	var k rollupKey
	var r rollup
	var blob []byte
	if err := rows.Scan(&k.project, &k.minute, &k.promptID, &k.version, &k.label, &k.variant, &k.provider, &k.model, &k.principal, &k.endpoint,
		&k.purpose, &k.outcome, &k.shard, &r.promptName, &r.calls, &blob); err != nil {
		return k, nil, err
	}
	return k, &r, r.read(blob)
}
