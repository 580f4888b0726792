package journal

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
)

// Options tune a Journal; every field may be left zero.
type Options struct {
	Clock    func() time.Time // nil means time.Now
	Poll     time.Duration    // how often Run asks for the revision; 0 means 500 ms
	Timeout  time.Duration    // bounds one change whose context sets no earlier deadline; 0 means 15 s
	Notifier Notifier         // nil when replicas learn of changes by polling alone
	Log      *slog.Logger     // nil discards
	// Anchors are revisions that were noted outside the database: one that is older, or another one, is not believed.
	Anchors []Anchor
	// Dir is where the newest revision that was seen is kept; "" keeps none. Seen is what ReadSeen found there.
	Dir  string
	Seen *Seen
}

// Notifier carries word of new revisions between replicas, faster than polling does. It may lose any of them.
type Notifier interface {
	// Publish tells the other replicas, within the context's deadline, as well as it can.
	Publish(ctx context.Context, revision int64)
	// Subscribe calls fn for each revision it hears of, until ctx is done or the subscription breaks; Run then calls it again.
	Subscribe(ctx context.Context, fn func(revision int64)) error
}

// Journal owns the chain of one database. It is safe for concurrent use. Make it with New, register subscribers, call Load (or
// Resume), then Run.
type Journal struct {
	db      *sqldb.DB
	sealer  *seal.Sealer
	chain   chain
	clock   func() time.Time
	every   time.Duration
	timeout time.Duration
	notify  Notifier
	log     *slog.Logger
	rows    *rows
	dir     string

	keeping   sync.Mutex // guards kept
	kept      Seen       // what is in the file
	keepFails bool       // of Run only
	touchedMu sync.Mutex
	touched   []Told // since kept

	applied   atomic.Int64 // the revision that every subscriber has been told of
	confirmed atomic.Int64 // nanoseconds since 1970; 0 until the database first answered

	applying    chan struct{} // holds one token while subscribers are told; guards what follows, to since
	subscribers []func(Change)
	tip         []byte // hash of the revision applied; nil when it is not known
	health      health
	since       time.Time // when the database was healthy last

	mu   sync.Mutex
	news chan struct{} // closed and replaced whenever applied moves

	nudge chan struct{} // wakes Run before its time; holds one
}

// New makes a journal on a migrated database. It does not touch the database.
func New(db *sqldb.DB, sealer *seal.Sealer, o Options) *Journal {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Poll <= 0 {
		o.Poll = 500 * time.Millisecond
	}
	if o.Timeout <= 0 {
		o.Timeout = 15 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	j := &Journal{
		dir: o.Dir, db: db, sealer: sealer, chain: chain{key: sealer.DeriveKey("journal/chain")},
		clock: o.Clock, every: o.Poll, timeout: o.Timeout, notify: o.Notifier, log: o.Log,
		applying: make(chan struct{}, 1), news: make(chan struct{}), nudge: make(chan struct{}, 1),
	}
	anchors := o.Anchors
	if o.Seen != nil {
		j.kept = *o.Seen
		anchors = append(slices.Clone(anchors), o.Seen.Anchor)
	}
	j.rows = newRows(db, sealer.DeriveKey("journal/rows"), anchors)
	return j
}

// Subscribe registers fn to be told of every change after the revision that Load or Resume starts from: in the order of
// revisions, without gaps, one at a time, those of other replicas too. A caller of Change waits for fn, so it must be quick;
// it must not call Change or Wait. Register before Load.
func (j *Journal) Subscribe(fn func(Change)) {
	j.applying <- struct{}{}
	defer func() { <-j.applying }()
	j.subscribers = append(j.subscribers, fn)
}

// Revision is the newest revision that every subscriber here has been told of.
func (j *Journal) Revision() int64 { return j.applied.Load() }

// ConfirmedAt is when the database last confirmed that nothing newer than Revision existed; zero until it first did. It
// allocates nothing.
func (j *Journal) ConfirmedAt() time.Time {
	ns := j.confirmed.Load()
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// Load starts from the database's present revision: subscribers hear of what comes after it. It reads the whole chain, which tells what
// every row that decides something has to be.
func (j *Journal) Load(ctx context.Context) error {
	if err := j.lockApplying(ctx); err != nil {
		return err
	}
	defer func() { <-j.applying }()
	asked := j.clock()
	if err := j.fold(ctx, j.db.DB); err != nil {
		return err
	}
	at := j.rows.folded.Load()
	j.tip = at.hash
	j.advance(at.revision)
	j.startKeeping(at.revision)
	j.confirm(asked)
	return nil
}

// Resume starts from a revision known from elsewhere, such as a snapshot taken when it was current, without asking the
// database. The next poll delivers what happened since.
func (j *Journal) Resume(revision int64) {
	j.applying <- struct{}{}
	defer func() { <-j.applying }()
	j.tip = nil
	j.advance(revision)
}

// Wait returns once Revision has reached min. It fails with RegistryUnavailable when ctx ends first.
func (j *Journal) Wait(ctx context.Context, min int64) error {
	const between = 25 * time.Millisecond
	for {
		j.mu.Lock()
		news := j.news
		j.mu.Unlock()
		if j.applied.Load() >= min {
			return nil
		}
		// Whoever finds nobody asking asks; the others wait for the answer. Errors show as the deadline passing.
		select {
		case j.applying <- struct{}{}:
			err := j.catchUpLocked(ctx)
			<-j.applying
			if err == nil && j.applied.Load() >= min {
				return nil
			}
		default:
		}
		select {
		case <-ctx.Done():
			return fault.Wrap(ctx.Err(), fault.RegistryUnavailable,
				"This replica has not seen revision %d yet (it is at %d): try again shortly.", min, j.applied.Load())
		case <-news:
		case <-time.After(between):
		}
	}
}

// advance moves applied forward and wakes those who wait for it.
func (j *Journal) advance(revision int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if revision <= j.applied.Load() {
		return
	}
	j.applied.Store(revision)
	close(j.news)
	j.news = make(chan struct{})
}

// confirm records that the database was asked at t and had nothing that is not applied. It never goes back.
func (j *Journal) confirm(t time.Time) {
	for ns := t.UnixNano(); ; {
		old := j.confirmed.Load()
		if ns <= old || j.confirmed.CompareAndSwap(old, ns) {
			return
		}
	}
}

func (j *Journal) lockApplying(ctx context.Context) error {
	select {
	case j.applying <- struct{}{}:
		return nil
	case <-ctx.Done():
		return sqldb.Classify(ctx.Err())
	}
}
