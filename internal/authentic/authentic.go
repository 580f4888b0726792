// Package authentic tells rows that promptgate wrote last from rows that somebody else wrote, took away, swapped or put back.
//
// Each change's journal event carries, inside its keyed hash, a MAC of every row that the change wrote and a mark for every row that it took away.
// Folding the events gives the Index: for each row that is to be there, the MAC of its newest state. A row that was read is believed when its MAC is
// the Index's; that it is not there is believed when the Index has none; that a group has no more rows, when the Index counts as many. So nothing
// in the tables has to be trusted, and rows carry no MAC themselves: one of their own would still be right when an old row is put back.
//
// What is left to whoever can write the database without the master key is the whole of it, journal included, as it was at an earlier time. That is
// told by a revision noted elsewhere (journal.Anchor).
package authentic

import (
	"crypto/hmac"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"
)

// Sum is a row's MAC over its table and every column that is not zero: a column that is added later, with zero as its default, leaves it as it is.
type Sum [16]byte

// Grouped is a model whose rows are read in groups: those that share the first columns of their key, as many as Group says. That none of a group is
// missing is then checked as well. Changing it for a table that has rows makes them unbelievable.
type Grouped interface{ Group() int }

// Write is what a change did to one row.
type Write struct {
	Table string
	Key   []string // its primary key, in the order of the model
	Group int      // how many columns of Key its group has; 0: none
	Sum   Sum
	Gone  bool // it was taken away: Sum says nothing
}

// ID is the row's table and key, as a map's key.
func (w Write) ID() string { return w.Table + "\x00" + strings.Join(w.Key, "\x00") }

// Name names a row to people.
func (w Write) Name() string {
	return w.Table + " (" + strings.Join(w.Key, ", ") + ")"
}

// Coder makes the MACs of one installation. It is safe for concurrent use.
type Coder struct {
	db  *bun.DB
	key []byte
}

// NewCoder takes a secret key that is the same on every replica and survives rotations.
func NewCoder(db *bun.DB, key []byte) *Coder { return &Coder{db, key} }

// Row is the state of a model's row as a change leaves it; row is a pointer to the model.
func (c *Coder) Row(row any) (Write, error) {
	v := reflect.ValueOf(row)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return Write{}, fmt.Errorf("authentic: a row is a pointer to a model, not %T", row)
	}
	v = v.Elem()
	t := c.db.Table(v.Type())
	w, err := keyOf(t, v, row)
	if err != nil {
		return w, err
	}
	values := make([]Value, 0, len(t.Fields))
	for _, f := range t.Fields {
		value, err := valueOf(f, v)
		if err != nil {
			return w, err
		}
		values = append(values, value)
	}
	w.Sum = c.sum(t.Name, values)
	return w, nil
}

// Key is Row without the sum: for rows that are gone, or to be looked up.
func (c *Coder) Key(row any) (Write, error) {
	v := reflect.ValueOf(row).Elem()
	w, err := keyOf(c.db.Table(v.Type()), v, row)
	w.Gone = true
	return w, err
}

func keyOf(t *schema.Table, v reflect.Value, row any) (Write, error) {
	w := Write{Table: t.Name, Key: make([]string, 0, len(t.PKs))}
	if g, ok := row.(Grouped); ok {
		w.Group = g.Group()
	}
	for _, f := range t.PKs {
		value, err := valueOf(f, v)
		if err != nil {
			return w, err
		}
		w.Key = append(w.Key, value.text())
	}
	if len(w.Key) == 0 || w.Group > len(w.Key) {
		return w, fmt.Errorf("authentic: %s has no primary key, or a group longer than it", t.Name)
	}
	return w, nil
}

// Value is a column and what it holds: nil, a string, []byte, an int64 (a bool is 0 or 1) or a float64.
type Value struct {
	Column string
	Value  any
}

func (v Value) text() string {
	switch x := v.Value.(type) {
	case int64:
		return strconv.FormatInt(x, 10)
	case string:
		return x
	case []byte:
		return string(x)
	}
	return fmt.Sprint(v.Value)
}

func valueOf(f *schema.Field, row reflect.Value) (Value, error) {
	of := Value{Column: f.Name}
	v := f.Value(row)
	if x, ok := v.Interface().(driver.Valuer); ok {
		plain, err := x.Value()
		if err != nil {
			return of, fmt.Errorf("authentic: column %s: %w", f.Name, err)
		}
		v = reflect.ValueOf(plain)
	}
	for v.IsValid() && v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if !v.IsValid() {
		return of, nil
	}
	switch v.Kind() {
	case reflect.String:
		of.Value = v.String()
	case reflect.Int, reflect.Int64, reflect.Int32, reflect.Int16, reflect.Int8:
		of.Value = v.Int()
	case reflect.Bool:
		of.Value = int64(0)
		if v.Bool() {
			of.Value = int64(1)
		}
	case reflect.Float64, reflect.Float32:
		of.Value = v.Float()
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			return of, fmt.Errorf("authentic: column %s: %s has no form of its own: make it a driver.Valuer", f.Name, v.Type())
		}
		of.Value = v.Bytes()
	default:
		if at, ok := v.Interface().(time.Time); ok {
			of.Value = at.UnixMicro()
			break
		}
		return of, fmt.Errorf("authentic: column %s: %s has no form of its own: make it a driver.Valuer", f.Name, v.Type())
	}
	return of, nil
}

// SumOf is the sum of a row given by its columns, in any order.
func (c *Coder) SumOf(table string, values []Value) Sum { return c.sum(table, slices.Clone(values)) }

func (c *Coder) sum(table string, values []Value) Sum {
	slices.SortFunc(values, func(a, b Value) int { return strings.Compare(a.Column, b.Column) })
	b := appendText(make([]byte, 0, 512), table)
	for _, v := range values {
		switch x := v.Value.(type) {
		case string:
			if x != "" {
				b = appendText(append(appendText(b, v.Column), 't'), x)
			}
		case []byte:
			if len(x) > 0 {
				b = appendText(append(appendText(b, v.Column), 'b'), string(x))
			}
		case int64:
			if x != 0 {
				b = binary.BigEndian.AppendUint64(append(appendText(b, v.Column), 'i'), uint64(x))
			}
		case float64:
			if x != 0 {
				b = binary.BigEndian.AppendUint64(append(appendText(b, v.Column), 'f'), math.Float64bits(x))
			}
		}
	}
	mac := hmac.New(sha256.New, c.key)
	mac.Write(b)
	return Sum(mac.Sum(nil)[:len(Sum{})])
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Encode writes what a change did to its rows, for the journal's event; nothing for nothing.
func Encode(writes []Write) []byte {
	b := []byte{}
	for _, w := range writes {
		b = appendText(b, w.Table)
		b = binary.AppendUvarint(b, uint64(len(w.Key)))
		for _, part := range w.Key {
			b = appendText(b, part)
		}
		b = append(b, byte(w.Group))
		if w.Gone {
			b = append(b, 0)
			continue
		}
		b = append(append(b, 1), w.Sum[:]...)
	}
	return b
}

// Decode reads what Encode wrote.
func Decode(b []byte) ([]Write, error) {
	var out []Write
	r := reader{rest: b}
	for len(r.rest) > 0 && !r.bad {
		w := Write{Table: r.text()}
		parts := r.number()
		if parts > uint64(len(r.rest)) {
			r.bad = true
			break
		}
		for range parts {
			w.Key = append(w.Key, r.text())
		}
		head := r.take(2)
		if head == nil {
			break
		}
		w.Group, w.Gone = int(head[0]), head[1] == 0
		if !w.Gone {
			copy(w.Sum[:], r.take(len(w.Sum)))
		}
		out = append(out, w)
	}
	if r.bad {
		return nil, fmt.Errorf("authentic: what an event says of its rows cannot be read")
	}
	return out, nil
}

type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.bad, r.rest = true, nil
		return nil
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}

func (r *reader) text() string {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return ""
	}
	return string(r.take(int(n)))
}
