package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"golang.org/x/sync/errgroup"
)

// run is the whole program: it returns the promises that were broken.
func run(t testing.TB, o options, out io.Writer) (broken []string, err error) {
	list, err := chosen(o.only)
	if err != nil {
		return nil, err
	}
	ctx := t.Context()
	began := time.Now()
	each := o.round + 2*o.rest + 10*time.Second
	w := newWorld(t, o, int(time.Duration(len(list)+1)*each/time.Second)*o.rate/coldEvery(o.rate)+20)
	if err := w.startAll(ctx); err != nil {
		return nil, err
	}
	if err := w.seed(ctx); err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	l, p := startLoad(w), startProbes(w)
	t.Cleanup(p.end)
	t.Cleanup(l.end)
	if !pause(ctx, o.rest) { // pools fill, caches warm
		return nil, ctx.Err()
	}
	fmt.Fprintf(out, "%d replicas, %d calls/s each, %s a fault; started and seeded in %s\n", replicas, o.rate, o.round, tenth(time.Since(began)))
	var rows []*row
	for _, f := range list {
		tr, err := try(ctx, w, p, f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		r := judge(w, l, p, tr)
		fmt.Fprintf(out, "%-36s %6d calls, %d failed, %d cut, %d lines\n", r.name, r.calls, r.failed, r.cut, r.lines)
		rows, broken = append(rows, r), append(broken, r.broken...)
	}
	p.end()
	l.end()
	count, err := w.recorded(ctx, l)
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(out)
	printTable(out, rows, o)
	fmt.Fprint(out, legend, "\n", count.String(), "\n")
	broken = append(broken, count.broken()...)
	for _, r := range rows {
		if r.unjudged() && len(r.reasons) > 0 {
			fmt.Fprintf(out, "not judged: %s: %s\n", r.name, summary(r.reasons))
		}
	}
	for _, b := range broken {
		fmt.Fprintln(out, "BROKEN", b)
	}
	fmt.Fprintf(out, "%d promises broken, %s in all\n", len(broken), tenth(time.Since(began)))
	return broken, nil
}

// ledger is how the calls that clients saw complete compare with what was recorded.
type ledger struct {
	completed int   // answers that a client had whole, with 200
	missing   int   // … that have no row
	rows      int64 // of successful calls
	extra     int   // rows that no client had an answer for: their replica was killed between recording and answering
	cut       int   // calls that were cut
	sums      int64 // calls in the figures by minute
	all       int64 // rows of all calls
}

func (c ledger) String() string {
	return fmt.Sprintf("calls completed %d, recorded %d, missing %d, recorded but cut on their way %d (of %d cut); rows %d, sums by minute %d",
		c.completed, c.rows, c.missing, c.extra, c.cut, c.all, c.sums)
}

func (c ledger) broken() (out []string) {
	if c.missing > 0 {
		out = append(out, fmt.Sprintf("recording: %d completed calls have no row", c.missing))
	}
	if c.extra > c.cut {
		out = append(out, fmt.Sprintf("recording: %d rows are of no call", c.extra-c.cut))
	}
	if c.sums != c.all {
		out = append(out, fmt.Sprintf("recording: %d rows, but the figures by minute say %d", c.all, c.sums))
	}
	return out
}

// recorded stops all replicas, which commits what is in their spools, and compares.
func (w *world) recorded(ctx context.Context, l *load) (c ledger, err error) {
	var g errgroup.Group
	for _, r := range w.replicas {
		g.Go(r.stop)
	}
	if err := g.Wait(); err != nil {
		return c, err
	}
	db, err := sql.Open("pgx", w.postgres.URL)
	if err != nil {
		return c, err
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, "SELECT (SELECT COUNT(*) FROM metrics_calls), (SELECT COALESCE(SUM(calls), 0) FROM metrics_rollups)").Scan(&c.all, &c.sums)
	if err != nil {
		return c, err
	}
	rows, err := db.QueryContext(ctx, "SELECT c.id FROM metrics_calls AS c JOIN metrics_call_blocks AS b USING (block) WHERE b.outcome = 'ok' AND b.provider <> ''")
	if err != nil {
		return c, err
	}
	defer rows.Close()
	found := map[string]bool{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return c, err
		}
		c.rows++
		found[id] = true
	}
	for _, r := range l.results {
		switch {
		case r.kind == direct:
		case r.status == http.StatusOK:
			c.completed++
			if !found[r.id] {
				c.missing++
			}
			delete(found, r.id)
		case r.cut:
			c.cut++
		}
	}
	c.extra = len(found)
	return c, rows.Err()
}
