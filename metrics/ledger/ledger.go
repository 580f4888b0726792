// Package ledger keeps calls and feedback: first in a spool of local files, by one write each, then in the database, in batches,
// exactly once.
//
// What Record* has acknowledged survives the death of the process at once and a power cut after the next sync (100 ms). A flusher applies the
// spool to the database: rows, figures by minute and the spool's cursor in one transaction, so that a batch is applied wholly or not at
// all, however the process dies. While the database is down the spool grows up to its bound; beyond it Record* refuses.
package ledger

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/metrics/feedback"
)

// Options of a ledger. DB, Dir and Sealer are required.
type Options struct {
	DB     *sqldb.DB // migrated (sqldb.Ledger)
	Dir    string    // of the spool; one process at a time
	Sealer feedback.Sealer
	Rules  feedback.Rules // may be nil
	Log    *slog.Logger   // nil: none
	Now    func() time.Time

	MaxBytes     int64         // of what waits; 0 means 1 GiB
	SegmentBytes int64         // of one file; 0 means 4 MiB
	SyncEvery    time.Duration // 0 means 100 ms
	FlushEvery   time.Duration // 0 means 300 ms; 4 to 16 times as long while hundreds of calls come each second (pause)

	// OnFeedback is told of each new score once it is committed, with its call or, when that is not known, nil. It must not block.
	OnFeedback func(*metrics.Feedback, *metrics.Call)
	// OnDamage is told, once, that the database's file is damaged where records are committed to. They wait in the spool until another one is there.
	OnDamage func(error)
}

// Ledger is a metrics.Recorder and a metrics.Reader. Run must be running for anything to reach the database.
type Ledger struct {
	db      *sqldb.DB
	spool   *spool
	flusher *flusher
	scores  *feedback.Store
	checker *feedback.Checker
	sealer  feedback.Sealer
	log     *slog.Logger
	now     func() time.Time
	recent  *recentIDs
	buffers sync.Pool

	syncEvery, flushEvery time.Duration

	running sync.Mutex // held by Run, and by Close
	closed  bool       // under running
	stop    chan struct{}
	once    sync.Once
}

var (
	_ metrics.Recorder = (*Ledger)(nil)
	_ metrics.Reader   = (*Ledger)(nil)
)

// Open takes the spool's directory and finds what an earlier process left in it. It does not need the database to be up.
func Open(o Options) (*Ledger, error) { return open(o, createSegment) }

func open(o Options, create createFunc) (*Ledger, error) {
	if o.DB == nil || o.Dir == "" || o.Sealer == nil {
		return nil, errors.New("ledger: DB, Dir and Sealer are required")
	}
	setDefault(&o.MaxBytes, 1<<30)
	setDefault(&o.SegmentBytes, 4<<20)
	setDefault(&o.SyncEvery, 100*time.Millisecond)
	setDefault(&o.FlushEvery, 300*time.Millisecond)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	checker, err := feedback.NewChecker(o.Rules)
	if err != nil {
		return nil, err
	}
	s, err := openSpool(&spool{dir: o.Dir, maxBytes: o.MaxBytes, maxSegment: o.SegmentBytes, now: o.Now, create: create})
	if err != nil {
		return nil, err
	}
	l := &Ledger{
		db: o.DB, spool: s, checker: checker, sealer: o.Sealer, log: o.Log, now: o.Now,
		scores: &feedback.Store{DB: o.DB, Sealer: o.Sealer},
		recent: newRecentIDs(),
		flusher: &flusher{db: o.DB, spool: s, log: o.Log, onFeedback: o.OnFeedback, onDamage: o.OnDamage, cursors: map[string]cursor{},
			cache: newRollupCache(), limit: maxBatch, timeout: commitTimeout, salt: newSalt()},
		syncEvery: o.SyncEvery, flushEvery: o.FlushEvery,
		stop: make(chan struct{}),
	}
	l.buffers.New = func() any { b := make([]byte, 0, 1024); return &b }
	return l, nil
}

// What pause goes by.
const (
	busyRate    = 500 // records per second from which on flushes are further apart
	busyFactor  = 4   // times FlushEvery, at least, are then between them
	mostFactor  = 16  // and at most
	callsPerRow = 16  // are what it waits for
)

func setDefault[T int64 | time.Duration](v *T, to T) {
	if *v <= 0 {
		*v = to
	}
}

// RecordCall implements metrics.Recorder. The error is StorageFull when the disk is full and Overloaded when too much waits to be
// committed; both are counted. It does not wait for the database, and ctx does not stop it: a call whose caller has left is recorded.
func (l *Ledger) RecordCall(_ context.Context, c *metrics.Call) error {
	if c.ID == "" || c.Project == "" {
		return fault.New(fault.Internal, "A call without id or project cannot be recorded.")
	}
	buf := l.buffers.Get().(*[]byte)
	var room frameStart
	b := appendCall(append((*buf)[:0], room[:]...), c)
	finishFrame(b, l.spool.table)
	err := l.spool.append(b)
	*buf = b
	l.buffers.Put(buf)
	if err == nil && c.CompletionID != "" {
		l.recent.add(c.Project, c.CompletionID, c.ID)
	}
	return err
}

// recordBytes is about what the record of a call takes in the spool.
const recordBytes = 1 << 10

// Reserve implements metrics.Recorder: room for one more call is reserved in the spool.
func (l *Ledger) Reserve() error { return l.spool.promise(recordBytes) }

// Release implements metrics.Recorder.
func (l *Ledger) Release() { l.spool.unpromise(recordBytes) }

// RecordFeedback implements metrics.Recorder. A score without an ID gets one, one without a time is of now, one without a source
// is of a user: f is filled in. The comment is sealed before it touches the disk. The error may be InvalidRequest, too.
func (l *Ledger) RecordFeedback(_ context.Context, f *metrics.Feedback) error {
	if f.Source == "" {
		f.Source = "user"
	}
	if err := l.checker.Check(f); err != nil {
		return err
	}
	if f.ID == "" {
		var random [12]byte
		_, _ = rand.Read(random[:]) // never fails
		f.ID = "fb_" + hex.EncodeToString(random[:])
	}
	if f.At.IsZero() {
		f.At = l.now()
	}
	if f.Scorer == "" {
		f.Scorer = "id:" + f.ID
	}
	r := feedbackRecord{Feedback: *f}
	r.Comment = ""
	if f.Comment != "" {
		var err error
		if r.Sealed, err = l.sealer.Seal([]byte(f.Comment), feedback.CommentBind(f)); err != nil {
			return fault.Wrap(err, fault.Internal, "The comment cannot be sealed.")
		}
	}
	b := appendFeedback(make([]byte, frameHeader, 512), &r)
	finishFrame(b, l.spool.table)
	return l.spool.append(b)
}

// Run syncs and flushes until ctx ends or Close is called. It returns nil, once its goroutines have ended. What fails is logged and
// tried again.
func (l *Ledger) Run(ctx context.Context) error {
	l.running.Lock()
	defer l.running.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { l.syncLoop(ctx) })
	wg.Go(func() { l.flushLoop(ctx) })
	select {
	case <-ctx.Done():
	case <-l.stop:
		cancel()
	}
	wg.Wait()
	return nil
}

func (l *Ledger) syncLoop(ctx context.Context) {
	tick := time.NewTicker(l.syncEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := l.spool.sync()
		if err != nil && !failing {
			l.log.Error("the spool cannot be synced: a power cut may lose calls", "err", err)
		}
		failing = err != nil
	}
}

func (l *Ledger) flushLoop(ctx context.Context) {
	wait := l.flushEvery
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		records, rows := l.flusher.flushed.Load(), l.flusher.rows
		if err := l.Flush(ctx); err != nil {
			wait = min(wait*2, maxBackoff)
		} else {
			wait = l.pause(wait, l.flusher.flushed.Load()-records, l.flusher.rows-rows)
		}
		timer.Reset(wait)
	}
}

// pause is how long to wait after a flush of so many records, into so many rows of figures, that followed a wait: longer while there are
// many, because calls that are committed together share the rows of their prompt and minute, and a row costs as much as ten calls. Calls of
// many prompts wait until each row is likely to have callsPerRow of them.
func (l *Ledger) pause(waited time.Duration, records, rows int64) time.Duration {
	if records*int64(time.Second) <= busyRate*int64(waited) {
		return l.flushEvery
	}
	shared := waited * time.Duration(callsPerRow*rows) / time.Duration(records)
	return min(max(shared, busyFactor*l.flushEvery), mostFactor*l.flushEvery)
}

// Flush commits everything recorded so far, or fails with the first transaction that does. Run calls it; others may only while Run is not
// running.
func (l *Ledger) Flush(ctx context.Context) error {
	l.recent.drainBegins()
	err := l.flusher.drain(ctx)
	if err == nil {
		l.recent.drained()
	}
	return err
}

// Close ends Run, refuses further records, commits what waits as far as ctx allows, and gives the spool free. What could not be committed
// stays in the spool for the next start; the error says so. Closing again does nothing.
func (l *Ledger) Close(ctx context.Context) error {
	l.once.Do(func() { close(l.stop) })
	l.running.Lock()
	defer l.running.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.spool.stop()
	err := l.Flush(ctx)
	if err == nil {
		err = l.flusher.dropCursor(ctx, l.spool.run)
	} else {
		err = fmt.Errorf("calls stay in the spool until the next start: %w", err)
	}
	return errors.Join(err, l.spool.close())
}

// SpoolStats is the state of the spool, for metrics.RegisterSpool.
func (l *Ledger) SpoolStats() metrics.SpoolStats {
	s := l.spool
	s.mu.Lock()
	defer s.mu.Unlock()
	out := metrics.SpoolStats{
		Bytes: s.waiting, MaxBytes: s.maxBytes, Segments: len(s.segments), Records: s.records, Refused: s.refused,
		Flushed: l.flusher.flushed.Load(), Damaged: l.flusher.damaged.Load(), FlushErrors: l.flusher.failures.Load(), Folded: l.flusher.folded.Load(),
	}
	if s.waiting > 0 {
		out.OldestSeconds = s.now().Sub(s.since).Seconds()
	}
	return out
}

// recentIDs knows the calls that may not be committed yet by the provider's id of their answer.
type recentIDs struct {
	mu       sync.Mutex
	now, old map[recentKey]string // old: recorded before the drain that is under way, or failed, began
}

type recentKey struct{ project, completion string }

// several stands for the calls of a provider that gave them one id. No call's id looks like it.
const several = "*"

const maxRecent = 1 << 16 // more than a busy gateway answers in the longest pause

func newRecentIDs() *recentIDs {
	return &recentIDs{now: map[recentKey]string{}, old: map[recentKey]string{}}
}

func (r *recentIDs) add(project, completion, id string) {
	if len(completion) > maxText {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.now) < maxRecent {
		// Cloned: it may be a slice of the provider's whole answer.
		key := recentKey{project, strings.Clone(completion)}
		if known, ok := r.now[key]; ok && known != id {
			id = several
		}
		r.now[key] = id
	}
}

// find is the call that a provider's id belongs to, "" when none is known; more is true when there are several.
func (r *recentIDs) find(project, completion string) (id string, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := recentKey{project, completion}
	id, old := r.now[key], r.old[key]
	switch {
	case id == several || old == several || id != "" && old != "" && id != old:
		return "", true
	case id == "":
		id = old
	}
	return id, false
}

// drainBegins sets apart what this drain will commit; drained forgets it.
func (r *recentIDs) drainBegins() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.old) == 0 && len(r.now) > 0 {
		r.old, r.now = r.now, r.old
	}
}

func (r *recentIDs) drained() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.old)
}
