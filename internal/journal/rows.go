package journal

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/authentic"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/sqldb"
)

// Adds says that the change made these rows, which were never there, or are no more; each is a pointer to its model, with every column as the change
// leaves it. What the rows hold is taken when the event is appended, after Stamp. A row that decides something and is not told of is believed by
// nobody.
func (e *Event) Adds(rows ...any) { e.wrote(rowAdded, rows) }

// Sets says that the change wrote these rows, which were there before.
func (e *Event) Sets(rows ...any) { e.wrote(rowSet, rows) }

// Drops says that the change took these rows away; their keys are enough.
func (e *Event) Drops(rows ...any) { e.wrote(rowDropped, rows) }

type rowWrite struct {
	how int
	row any
}

const (
	rowAdded = iota
	rowSet
	rowDropped
)

func (e *Event) wrote(how int, rows []any) {
	for _, row := range rows {
		e.rows = append(e.rows, rowWrite{how, row})
	}
}

// rows is what the chain says of rows, as far as it was folded.
type rows struct {
	coder *authentic.Coder
	index *authentic.Index

	folding chan struct{}            // holds one token while events are folded
	folded  atomic.Pointer[foldedTo] // written under folding
	once    atomic.Bool              // folded to the head at least once
	notes   map[int64]string         // hashes by revision
	floor   int64                    // the newest revision that was noted

	mu       sync.Mutex
	shredded []string        // projects
	forged   map[string]bool // rows that were told of in the log, at most maxForged
	amiss    atomic.Int32    // how many
}

// maxForged bounds what is remembered of rows that somebody else wrote: past it, new ones are not logged.
const maxForged = 1000

func newRows(db *sqldb.DB, key []byte, anchors []Anchor) *rows {
	coder := authentic.NewCoder(db.DB, key)
	r := &rows{
		coder: coder, index: authentic.NewIndex(coder), folding: make(chan struct{}, 1),
		notes: map[int64]string{}, forged: map[string]bool{},
	}
	for _, a := range anchors {
		r.notes[a.Revision] = a.Hash
		r.floor = max(r.floor, a.Revision)
	}
	r.folded.Store(&foldedTo{})
	return r
}

// errForged says that an event was not written by a promptgate with our keys, or that events are missing.
var errForged = errors.New("the journal is not as it was written: run `promptgate audit verify`")

// errNoted says that the database is older than what was noted elsewhere, or another one.
var errNoted = errors.New("the database is older than one that was seen before, or has another history: if a backup was restored on purpose, run " +
	"`promptgate restore --accept`")

// fold takes in the events up to the head, each checked against the one before and its keyed hash.
func (j *Journal) fold(ctx context.Context, db bun.IDB) error {
	r := j.rows
	select {
	case r.folding <- struct{}{}:
		defer func() { <-r.folding }()
	case <-ctx.Done():
		return sqldb.Classify(ctx.Err())
	}
	head, err := readHead(ctx, db)
	if err != nil {
		return err
	}
	if err := r.grown(head); err != nil {
		return err
	}
	for r.folded.Load().revision < head.Revision {
		var events []eventRow
		err := db.NewSelect().Model(&events).Where("revision > ? AND revision <= ?", r.folded.Load().revision, head.Revision).
			Order("revision").Limit(foldPage).Scan(ctx)
		if err != nil {
			return fmt.Errorf("journal: read events: %w", sqldb.Classify(err))
		}
		if len(events) == 0 {
			return fmt.Errorf("%w (events after revision %d are missing)", errForged, r.folded.Load().revision)
		}
		for i := range events {
			if err := j.foldEvent(&events[i]); err != nil {
				return err
			}
		}
	}
	if !bytes.Equal(r.folded.Load().hash, head.Hash) {
		return fmt.Errorf("%w (the head names another event %d than the chain)", errForged, head.Revision)
	}
	r.once.Store(true)
	return nil
}

func hexOf(hash []byte) string { return hex.EncodeToString(hash) }

// foldedTo is a place in the chain.
type foldedTo struct {
	revision int64
	hash     []byte
}

// grown refuses a head that is older than what is folded or was noted, or another one.
func (r *rows) grown(head headRow) error {
	at := r.folded.Load()
	if seen := max(at.revision, r.floor); head.Revision < seen {
		return fmt.Errorf("%w (it is at revision %d, and %d was seen)", errNoted, head.Revision, seen)
	}
	if head.Revision == at.revision && !bytes.Equal(head.Hash, at.hash) {
		return fmt.Errorf("%w (revision %d is another one than was seen)", errNoted, head.Revision)
	}
	return nil
}

// foldPage bounds the events read at a time while folding.
const foldPage = 2000

// foldEvent takes in the next event. The caller holds folding.
func (j *Journal) foldEvent(e *eventRow) error {
	r := j.rows
	at := r.folded.Load()
	switch {
	case e.Revision != at.revision+1:
		return fmt.Errorf("%w (revision %d is missing)", errForged, at.revision+1)
	case !bytes.Equal(e.PrevHash, at.hash):
		return fmt.Errorf("%w (revision %d does not follow the one before it)", errForged, e.Revision)
	case !hmac.Equal(e.Hash, j.chain.hash(e)):
		return fmt.Errorf("%w (revision %d was altered)", errForged, e.Revision)
	}
	if noted, ok := r.notes[e.Revision]; ok && noted != hexOf(e.Hash) {
		return fmt.Errorf("%w (revision %d has another hash than was noted)", errNoted, e.Revision)
	}
	writes, err := authentic.Decode(e.Written)
	if err != nil {
		return fmt.Errorf("journal: revision %d: %w", e.Revision, err)
	}
	r.index.Apply(writes)
	if e.Action == ActionShredProject {
		r.mu.Lock()
		r.shredded = append(r.shredded, e.Project)
		r.mu.Unlock()
	}
	r.folded.Store(&foldedTo{e.Revision, e.Hash})
	return nil
}

// foldNext takes in an event that was committed or followed, when it is the next one and nobody folds; else the next reading does.
func (j *Journal) foldNext(e *eventRow) {
	r := j.rows
	select {
	case r.folding <- struct{}{}:
		defer func() { <-r.folding }()
	default:
		return
	}
	if r.once.Load() && e.Revision == r.folded.Load().revision+1 {
		_ = j.foldEvent(e) // it is read again, and refused, when a row is asked for
	}
}

// within is the transaction of the change that ctx belongs to, else the database.
func (j *Journal) within(ctx context.Context) bun.IDB {
	if tx, ok := Tx(ctx); ok {
		return tx
	}
	return j.db.DB
}

// readTries bounds how often rows are read again that changed while they were read.
const readTries = 3

// Read runs read, which reads rows that decide something and claims what it found, and returns its error when all that was claimed is what the chain
// says. read may run several times. A claim that is not true, also of a row that is not there, is RegistryUnavailable: whoever wrote it had not the
// master key. In a change, read must read in its transaction.
func (j *Journal) Read(ctx context.Context, read func(ctx context.Context, c *authentic.Claims) error) error {
	if !j.rows.once.Load() {
		if err := j.fold(ctx, j.within(ctx)); err != nil {
			return unbelievable(err)
		}
	}
	for try := 1; ; try++ {
		claims := j.rows.coder.Claims()
		err := read(ctx, claims)
		row, what, folded := j.judge(ctx, claims)
		switch {
		case folded != nil:
			return unbelievable(folded)
		case claims.Err() != nil:
			return fault.Wrap(claims.Err(), fault.Internal, "A row has no form that can be checked.")
		case row == "":
			j.mended(claims)
			return err
		case try == readTries:
			return j.tell(row, what)
		}
	}
}

// judge asks the index, and once more after taking in what was committed meanwhile.
func (j *Journal) judge(ctx context.Context, c *authentic.Claims) (row, what string, err error) {
	if row, _ = j.rows.index.Wrong(c); row == "" {
		return "", "", nil
	}
	if err := j.fold(ctx, j.within(ctx)); err != nil {
		return "", "", err
	}
	row, what = j.rows.index.Wrong(c)
	return row, what, nil
}

// unbelievable is what a reader gets while the chain cannot be believed.
func unbelievable(err error) error {
	if errors.Is(err, errForged) || errors.Is(err, errNoted) {
		return fault.Wrap(err, fault.RegistryUnavailable, "The database is not as this gateway left it: its operator has to look at it.")
	}
	return sqldb.Classify(err)
}

// tell logs a row once and returns the fault that its readers get.
func (j *Journal) tell(row, what string) error {
	r := j.rows
	r.mu.Lock()
	fresh := !r.forged[row] && len(r.forged) < maxForged
	if fresh {
		r.forged[row] = true
		r.amiss.Add(1)
	}
	r.mu.Unlock()
	if fresh {
		j.log.Error("a row of the database is not what promptgate wrote last and is not used: run `promptgate audit verify`", "row", row, "what", what)
	}
	return fault.Wrap(fmt.Errorf("journal: %s: %s", row, what), fault.RegistryUnavailable,
		"What the database holds of this is not what was saved last: its operator has to look at it.")
}

// mended logs rows that are right again.
func (j *Journal) mended(c *authentic.Claims) {
	r := j.rows
	if r.amiss.Load() == 0 {
		return
	}
	c.Rows(func(row string) {
		r.mu.Lock()
		known := r.forged[row]
		if known {
			delete(r.forged, row)
			r.amiss.Add(-1)
		}
		r.mu.Unlock()
		if known {
			j.log.Info("a row of the database is again what promptgate wrote last", "row", row)
		}
	})
}

// writes is what ev says that it did to rows, checked against what the chain says of them. The caller holds the head.
func (j *Journal) writes(ctx context.Context, tx bun.Tx, ev *Event) ([]byte, error) {
	if len(ev.rows) == 0 {
		return []byte{}, nil
	}
	claims := j.rows.coder.Claims()
	out := make([]authentic.Write, 0, len(ev.rows))
	for _, r := range ev.rows {
		make := j.rows.coder.Row
		switch r.how {
		case rowAdded:
			claims.Absent(r.row)
		case rowDropped:
			make = j.rows.coder.Key
			fallthrough
		default:
			claims.Present(r.row)
		}
		w, err := make(r.row)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	row, what, err := j.judge(context.WithValue(ctx, txKey{}, tx), claims)
	if err != nil {
		return nil, unbelievable(err)
	}
	if row != "" {
		return nil, j.tell(row, what)
	}
	return authentic.Encode(out), nil
}

// History folds the whole chain, as db has it.
func (j *Journal) History(ctx context.Context, db bun.IDB) (*authentic.History, error) {
	h := authentic.NewHistory()
	var last int64
	for {
		var events []eventRow
		err := db.NewSelect().Model(&events).Column("revision", "written").Where("revision > ?", last).Order("revision").Limit(foldPage).Scan(ctx)
		if err != nil {
			return nil, fmt.Errorf("journal: read events: %w", sqldb.Classify(err))
		}
		if len(events) == 0 {
			return h, nil
		}
		for i := range events {
			last = events[i].Revision
			writes, err := authentic.Decode(events[i].Written)
			if err != nil {
				return nil, fmt.Errorf("journal: revision %d: %w", last, err)
			}
			h.Add(last, writes)
		}
	}
}

// VerifyRows compares all rows of the models' tables with the chain, which must have been verified, in one snapshot of the database. It may run beside
// a gateway. The error says that it could not be read to the end.
func (j *Journal) VerifyRows(ctx context.Context, models []any) (report authentic.Report, err error) {
	err = j.snapshot(ctx, func(tx bun.Tx) error {
		h, err := j.History(ctx, tx)
		if err == nil {
			report, err = j.rows.coder.Compare(ctx, tx, h, models)
		}
		return err
	})
	return report, err
}
