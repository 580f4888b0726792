package authentic

import (
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"sync"
)

// id stands for a row or a group in an Index. It is keyed, so nobody can look for two rows that share one; two of a million do by chance once in
// some thirty million installations, and then one of them cannot be read.
type id uint64

func (c *Coder) id(kind byte, table string, key []string) id {
	var buf [256]byte
	b := append(buf[:0], c.key...)
	b = appendText(append(b, kind), table)
	for _, part := range key {
		b = appendText(b, part)
	}
	sum := sha256.Sum256(b)
	return id(binary.BigEndian.Uint64(sum[:8]))
}

func (c *Coder) row(w *Write) id   { return c.id('r', w.Table, w.Key) }
func (c *Coder) group(w *Write) id { return c.id('g', w.Table, w.Key[:w.Group]) }

// Index is the rows that are to be there, some 40 bytes each. It is safe for concurrent use.
type Index struct {
	coder *Coder

	mu     sync.RWMutex
	rows   map[id]Sum
	groups map[id]int32
}

// NewIndex is an empty one.
func NewIndex(c *Coder) *Index {
	return &Index{coder: c, rows: map[id]Sum{}, groups: map[id]int32{}}
}

// Apply takes in what the next change did.
func (x *Index) Apply(writes []Write) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range writes {
		w := &writes[i]
		at := x.coder.row(w)
		_, there := x.rows[at]
		if w.Gone {
			delete(x.rows, at)
		} else {
			x.rows[at] = w.Sum
		}
		if w.Group == 0 || there == !w.Gone {
			continue
		}
		group := x.coder.group(w)
		switch {
		case !w.Gone:
			x.groups[group]++
		case x.groups[group] > 1:
			x.groups[group]--
		default:
			delete(x.groups, group)
		}
	}
}

// Len is how many rows are to be there.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.rows)
}

// Claims is what one reading of the database says. It is of one goroutine.
type Claims struct {
	coder *Coder
	list  []claim
	err   error
}

type claim struct {
	kind claimKind
	row  Write
	at   id
	n    int32
}

type claimKind byte

const (
	isRow   claimKind = iota // the row is as it was read
	noRow                    // there is no such row
	someRow                  // there is such a row, in whatever state
	isGroup                  // the group has n rows
)

// Claims begins a reading.
func (c *Coder) Claims() *Claims { return &Claims{coder: c} }

// Is says that a row was read; row is a pointer to the model, with every column.
func (c *Claims) Is(row any) {
	w, err := c.coder.Row(row)
	c.add(claim{kind: isRow, row: w}, err)
}

// One is for a reading of a row by its primary key, which the model holds: that it is as it was read, or that it is not there when err is
// sql.ErrNoRows. It returns err.
func (c *Claims) One(row any, err error) error {
	switch {
	case err == nil:
		c.Is(row)
	case errors.Is(err, sql.ErrNoRows):
		c.Absent(row)
	}
	return err
}

// Absent says that there is no row of this model's primary key.
func (c *Claims) Absent(row any) {
	w, err := c.coder.Key(row)
	c.add(claim{kind: noRow, row: w}, err)
}

// Present says that there is one.
func (c *Claims) Present(row any) {
	w, err := c.coder.Key(row)
	c.add(claim{kind: someRow, row: w}, err)
}

// Group says that n rows share the group of this model, whose columns of the group are set.
func (c *Claims) Group(row Grouped, n int) {
	w, err := c.coder.Key(row)
	c.add(claim{kind: isGroup, row: w, n: int32(n)}, err)
}

func (c *Claims) add(cl claim, err error) {
	if err != nil {
		if c.err == nil {
			c.err = err
		}
		return
	}
	if cl.kind == isGroup {
		cl.at = c.coder.group(&cl.row)
	} else {
		cl.at = c.coder.row(&cl.row)
	}
	c.list = append(c.list, cl)
}

// Rows calls fn for the name of each row that was claimed to be as it was read.
func (c *Claims) Rows(fn func(name string)) {
	for i := range c.list {
		if c.list[i].kind == isRow {
			fn(c.list[i].row.Name())
		}
	}
}

// Err is a row that has no form: a mistake of ours.
func (c *Claims) Err() error { return c.err }

// Wrong returns the first claim that is not true, by the name of its row and what is wrong with it; "" when all are true.
func (x *Index) Wrong(c *Claims) (row, what string) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for i := range c.list {
		if what := x.judge(&c.list[i]); what != "" {
			return c.list[i].row.Name(), what
		}
	}
	return "", ""
}

func (x *Index) judge(c *claim) string {
	if c.kind == isGroup {
		if x.groups[c.at] != c.n {
			return "rows of its group are missing or were put in"
		}
		return ""
	}
	sum, there := x.rows[c.at]
	switch {
	case c.kind == noRow && there:
		return "is gone"
	case c.kind != noRow && !there:
		return "was put in"
	case c.kind == isRow && sum != c.row.Sum:
		return "was changed, or put back from before"
	}
	return ""
}
