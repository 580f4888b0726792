package authentic

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"
)

// History is what a whole chain says of rows.
type History struct {
	last map[string]Write // by ID
	ever map[Sum]int64    // the revision that left a row so
}

// NewHistory is that of an empty chain.
func NewHistory() *History { return &History{last: map[string]Write{}, ever: map[Sum]int64{}} }

// Add takes in the next event.
func (h *History) Add(revision int64, writes []Write) {
	for _, w := range writes {
		h.last[w.ID()] = w
		if !w.Gone {
			h.ever[w.Sum] = revision
		}
	}
}

// Told reports whether the chain says that there is such a row.
func (h *History) Told(w Write) bool {
	last, ok := h.last[w.ID()]
	return ok && !last.Gone
}

// Report is what comparing whole tables with the chain came to.
type Report struct {
	Rows     int64    // rows compared
	Problems []string // the first maxProblems of them, each naming a table, a row and what is wrong with it
	Found    int64    // how many there are
}

const maxProblems = 100

func (r *Report) add(w Write, format string, args ...any) {
	r.Found++
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, w.Name()+": "+fmt.Sprintf(format, args...))
	}
}

// Compare reads all rows of the models' tables from db, which should be one snapshot, the one that h was read from. It reads columns as they are
// stored, whatever somebody put there.
func (c *Coder) Compare(ctx context.Context, db bun.IDB, h *History, models []any) (Report, error) {
	var r Report
	left := maps.Clone(h.last)
	for _, model := range models {
		if err := c.compareTable(ctx, db, h, left, model, &r); err != nil {
			return r, err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(left)) {
		if w := left[id]; !w.Gone {
			r.add(w, "is gone; revision %d wrote it", h.ever[w.Sum])
		}
	}
	return r, nil
}

func (c *Coder) compareTable(ctx context.Context, db bun.IDB, h *History, left map[string]Write, model any, r *Report) error {
	typ := reflect.TypeOf(model).Elem()
	t := c.db.Table(typ)
	columns := make([]string, len(t.Fields))
	kinds := make([]any, len(t.Fields))
	zero := reflect.New(typ).Elem()
	for i, f := range t.Fields {
		columns[i] = string(f.SQLName)
		kind, err := valueOf(f, zero)
		if err != nil {
			return err
		}
		kinds[i] = kind.Value
	}
	found, err := db.QueryContext(ctx, "SELECT "+strings.Join(columns, ", ")+" FROM "+string(t.SQLName)) //nolint:gosec // names of ours
	if err != nil {
		return fmt.Errorf("authentic: read %s: %w", t.Name, err)
	}
	defer found.Close()
	for found.Next() {
		stored := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range stored {
			into[i] = &stored[i]
		}
		if err := found.Scan(into...); err != nil {
			return fmt.Errorf("authentic: read %s: %w", t.Name, err)
		}
		values := make([]Value, len(columns))
		for i, f := range t.Fields {
			values[i] = Value{f.Name, plain(stored[i], kinds[i])}
		}
		c.compareRow(h, left, t, values, r)
	}
	return found.Err()
}

func (c *Coder) compareRow(h *History, left map[string]Write, t *schema.Table, values []Value, r *Report) {
	r.Rows++
	w := Write{Table: t.Name}
	for _, pk := range t.PKs {
		for _, v := range values {
			if v.Column == pk.Name {
				w.Key = append(w.Key, v.text())
			}
		}
	}
	w.Sum = c.sum(t.Name, values)
	said, told := h.last[w.ID()]
	delete(left, w.ID())
	before, once := h.ever[w.Sum]
	switch {
	case told && !said.Gone && said.Sum == w.Sum:
	case once:
		r.add(w, "is as revision %d left it, and was changed or taken away since: it was put back", before)
	case !told || said.Gone:
		r.add(w, "was put in: no event of the journal wrote it")
	default:
		r.add(w, "is not what revision %d wrote", h.ever[said.Sum])
	}
}

// plain is a stored value in the form of a column's kind; one of another kind stays as it is and so gives another sum.
func plain(stored, kind any) any {
	switch kind.(type) {
	case string:
		if b, ok := stored.([]byte); ok {
			return string(b)
		}
	case []byte:
		if s, ok := stored.(string); ok {
			return []byte(s)
		}
	case int64:
		if b, ok := stored.(bool); ok {
			if b {
				return int64(1)
			}
			return int64(0)
		}
	}
	if stored == nil {
		return "\x00null" // no column of ours is null
	}
	return stored
}
