package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"

	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/metrics"
)

const (
	maxBatch      = 16_000
	commitTimeout = 30 * time.Second
	maxBackoff    = 5 * time.Second
)

// flusher moves records from the spool to the database. One goroutine uses it at a time.
type flusher struct {
	db         *sqldb.DB
	spool      *spool
	log        *slog.Logger
	onFeedback func(*metrics.Feedback, *metrics.Call)
	onDamage   func(error) // nil: nobody listens, or was told

	cursors map[string]cursor
	cache   *rollupCache
	buf     []byte
	calls   []spooledCall // of the batch before, for their memory
	limit   int           // records in the next batch; 1 while looking for one that the database rejects, fewer while it is slow
	timeout time.Duration // of one commit
	salt    int64         // tells this process's blocks from those that another begins in the same microsecond; below 1 << saltBits
	block   int64         // the last block's number
	rows    int64         // of figures written so far
	down    bool

	foldSaid time.Time // when it was last logged that figures are not kept apart

	flushed, damaged, failures, folded atomic.Int64
}

// batch is a stretch of one segment.
type batch struct {
	seg      *segment
	run      string
	from, to cursor
	calls    []spooledCall
	feedback []*feedbackRecord
	damaged  int // stretches and records that cannot be read, or that the database rejects
}

// spooledCall is a call with its record as the database keeps it: the spool's own bytes, which stand in flusher.buf until the next read.
type spooledCall struct {
	call   metrics.Call
	record []byte
}

// saltBits of a block's number are salt; the rest are microseconds since 1970, so that new blocks stand behind the old ones.
const saltBits = 11

func newSalt() int64 {
	var random [2]byte
	_, _ = rand.Read(random[:]) // never fails
	return int64(binary.LittleEndian.Uint16(random[:])) & (1<<saltBits - 1)
}

// nextBlocks takes n numbers and returns the first of them.
func (f *flusher) nextBlocks(n int) int64 {
	first := max(f.block+1, f.spool.now().UnixMicro()<<saltBits|f.salt)
	f.block = first + int64(n) - 1
	return first
}

// drain commits everything that waits, or fails with the first transaction that does.
func (f *flusher) drain(ctx context.Context) error {
	for {
		b, err := f.next(ctx)
		if err == nil && b == nil {
			f.report(nil)
			return nil
		}
		if err == nil {
			err = f.commit(ctx, b)
		}
		if err != nil {
			f.forget()
			if ctx.Err() == nil {
				f.failures.Add(1)
				f.report(err)
			}
			return err
		}
	}
}

// forget drops what was believed about the database: after a failure it is read again.
func (f *flusher) forget() {
	clear(f.cursors)
	f.cache = newRollupCache()
}

// report logs a change of state, once.
func (f *flusher) report(err error) {
	if err != nil && f.onDamage != nil && sqldb.IsDamaged(err) {
		f.onDamage(err)
		f.onDamage = nil
	}
	switch {
	case err != nil && !f.down:
		f.down = true
		f.log.Error("calls cannot be committed; they wait in the spool", "err", err)
	case err == nil && f.down:
		f.down = false
		f.log.Info("calls are committed again")
	}
}

// next reads the next batch, nil when nothing waits. It drops segments that are done.
func (f *flusher) next(ctx context.Context) (*batch, error) {
	for {
		seg, size, sealed := f.spool.first()
		if seg == nil {
			return nil, nil
		}
		cur, err := f.cursor(ctx, seg.run)
		if err != nil {
			return nil, err
		}
		var pos int64
		switch {
		case cur.seq > seg.seq:
			pos = size
		case cur.seq == seg.seq:
			pos = min(cur.pos, size)
		}
		f.spool.consumed(seg, pos)
		if pos < size {
			return f.read(seg, cur, pos, size)
		}
		if !sealed {
			return nil, nil
		}
		if err := f.done(ctx, seg); err != nil {
			return nil, err
		}
	}
}

func (f *flusher) cursor(ctx context.Context, run string) (cursor, error) {
	if c, ok := f.cursors[run]; ok {
		return c, nil
	}
	c, err := readCursor(ctx, f.db, run)
	if err != nil {
		return c, fmt.Errorf("read the spool's cursor: %w", err)
	}
	f.cursors[run] = c
	return c, nil
}

// done deletes a segment that has been applied, and the cursor of an earlier run whose last one it was: in this order, since a segment
// without its cursor would be applied again.
func (f *flusher) done(ctx context.Context, seg *segment) error {
	if err := f.spool.drop(seg); err != nil && !errors.Is(err, os.ErrNotExist) {
		f.log.Warn("a spool segment cannot be removed", "path", seg.path, "err", err)
		return nil // its file is still there: keep the cursor
	}
	if seg.run == f.spool.run || f.spool.hasRun(seg.run) {
		return nil
	}
	delete(f.cursors, seg.run)
	return f.dropCursor(ctx, seg.run)
}

func (f *flusher) dropCursor(ctx context.Context, run string) error {
	unlock, err := f.db.LockWriter(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = f.db.NewRaw("DELETE FROM metrics_spool_cursors WHERE run = ?", run).Exec(ctx)
	return sqldb.Classify(err)
}

// read decodes records from pos on.
func (f *flusher) read(seg *segment, cur cursor, pos, size int64) (*batch, error) {
	if err := f.load(seg.path, pos, size); err != nil {
		return nil, fmt.Errorf("read the spool: %w", err)
	}
	b := &batch{seg: seg, run: seg.run, from: cur}
	scan := &scanner{b: f.buf, table: f.spool.table, acked: seg.run == f.spool.run} // of earlier runs only the file's size is known
	var payloads [][]byte
	for len(payloads) < f.limit {
		payload := scan.next()
		if payload == nil {
			break
		}
		payloads = append(payloads, payload)
	}
	b.damaged = f.decode(b, payloads) + scan.damaged
	if scan.torn {
		f.log.Warn("a spool segment ends in the middle of a record that was never acknowledged", "path", seg.path)
	}
	b.to = cursor{seq: seg.seq, pos: pos + int64(scan.pos), exists: true}
	return b, nil
}

// decode fills a batch and returns how many records cannot be read.
func (f *flusher) decode(b *batch, payloads [][]byte) (bad int) {
	text := string(bytes.Join(payloads, nil)) // the texts of all calls are parts of one: it costs a fraction of one each
	f.calls = slices.Grow(f.calls[:0], len(payloads))
	for _, payload := range payloads {
		n := len(b.calls)
		b.calls = f.calls[:n+1]
		last := &b.calls[n]
		*last = spooledCall{record: payload}
		feedback, err := decodeInto(&last.call, payload, text[:len(payload)])
		text = text[len(payload):]
		switch {
		case err != nil:
			bad++
			f.log.Error("a spooled record cannot be read; its segment is kept aside", "path", b.seg.path, "err", err)
		case feedback != nil:
			cleanFeedback(feedback)
			b.feedback = append(b.feedback, feedback)
		default:
			if clean(&last.call) {
				last.record = appendCall(nil, &last.call)
			}
			continue
		}
		*last = spooledCall{}
		b.calls = b.calls[:n]
	}
	return bad
}

// load reads a stretch of a file into f.buf.
func (f *flusher) load(path string, pos, size int64) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	n := int(size - pos)
	if cap(f.buf) < n {
		f.buf = make([]byte, n)
	}
	f.buf = f.buf[:n]
	got, err := file.ReadAt(f.buf, pos)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	// A file that became shorter was cut: zeros behind its end are no frames.
	clear(f.buf[got:])
	return nil
}

// commit applies a batch. A batch that holds something the database rejects for what it is goes record by record, and that record is
// counted as damaged and left out: it must not keep all others waiting for ever.
func (f *flusher) commit(ctx context.Context, b *batch) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	a, err := f.apply(ctx, b)
	if err != nil && rejected(err) {
		f.cache = newRollupCache()
		if n := len(b.calls) + len(b.feedback); n > 1 {
			f.limit = 1
			return nil
		}
		f.log.Error("the database rejects a record; its segment is kept aside", "path", b.seg.path, "err", err)
		b.damaged++
		b.calls, b.feedback = nil, nil
		a, err = f.apply(ctx, b)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		f.limit = max(1, f.limit/4) // the same batch would be too much again
	}
	if err != nil {
		return err
	}
	if b.damaged > 0 { // counted here: a batch that fails is read again
		b.seg.damaged = true
		f.damaged.Add(int64(b.damaged))
		f.log.Error("a spool segment is damaged; what is sound is committed, the file is kept aside", "path", b.seg.path, "stretches", b.damaged)
	}
	f.limit = min(maxBatch, f.limit*2)
	f.cursors[b.run] = b.to
	f.rows += int64(len(a.rolled))
	f.cache.put(a.rolled)
	f.fold(a.folded)
	f.spool.consumed(b.seg, b.to.pos)
	f.flushed.Add(int64(len(b.calls) + len(b.feedback)))
	clear(b.calls)
	f.observe(ctx, a.fresh)
	return nil
}

// foldReport is how often at most it is logged that figures are not kept apart.
const foldReport = 10 * time.Minute

// fold counts calls whose figures are not kept apart, and says so.
func (f *flusher) fold(calls int64) {
	if calls == 0 {
		return
	}
	f.folded.Add(calls)
	if now := f.spool.now(); now.Sub(f.foldSaid) >= foldReport {
		f.foldSaid = now
		f.log.Warn("a project has more combinations of prompts, keys and models in a minute than figures are kept apart by; the rest counts as "+metrics.Other,
			"calls", calls)
	}
}

// rejected reports whether the database refused the data itself: SQLSTATE class 22 or 23, or SQLite's constraint, mismatch and
// too-big. Everything else (down, full, wrong schema) is tried again.
func rejected(err error) bool {
	if errors.Is(err, errCursor) {
		return false
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return len(pg.Code) == 5 && (pg.Code[:2] == "22" || pg.Code[:2] == "23")
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		switch lite.Code() & 0xff {
		case 18, 19, 20: // SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH
			return true
		}
	}
	return false
}

// observe tells whoever counts feedback about new scores and the calls they are on. It is for figures only: a failure is
// logged, and the score counted without its call.
func (f *flusher) observe(ctx context.Context, fresh []*feedbackRecord) {
	if f.onFeedback == nil {
		return
	}
	for _, r := range fresh {
		call, err := findCall(ctx, f.db, r.Project, r.CallID)
		if err != nil {
			call = nil
		}
		f.onFeedback(&r.Feedback, call)
	}
}
