// Package uses notes which bindings and keys allow something, by whom and when, so that what nobody uses can be found and taken away. Noting is cheap:
// once a minute for each decision that is in memory. It decides nothing.
package uses

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Use is what one subject did by one binding or key.
type Use struct {
	Project string
	Holding string    // "bnd_…" or "key_…"
	Subject string    // "usr_…", "svc_…" or "key_…": by whom
	First   time.Time // the first minute
	Last    time.Time // the newest one
	Minutes int64     // in which it allowed something, from First to Last
}

// Keeper keeps uses over restarts and merges those of all replicas: the newest minute counts, and a minute counts once however often it is told.
type Keeper interface {
	KeepUses(ctx context.Context, batch []Use) error
}

// Options tune a Log; Keeper is needed.
type Options struct {
	Keeper Keeper
	Clock  func() time.Time // nil means time.Now
	Every  time.Duration    // between batches; 0 means 5 s: what a killed process forgets at the most
	Most   int              // uses that wait for the keeper; 0 means 200,000. What is beyond is dropped, and counted
}

// Log notes uses and has them kept in batches. It is safe for concurrent use.
type Log struct {
	o      Options
	minute atomic.Int64 // since 1970, as of the last tick

	mu      sync.Mutex
	seen    map[key]int64 // the minute that was noted last
	waiting map[key]*tally

	kept, failed, dropped atomic.Int64
}

type key struct{ project, holding, subject string }

// tally is what was noted since the last batch; minutes since 1970.
type tally struct{ first, last, minutes int64 }

// New makes a Log; run Run.
func New(o Options) (*Log, error) {
	if o.Keeper == nil {
		return nil, errors.New("uses: a log needs a keeper")
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Every <= 0 {
		o.Every = 5 * time.Second
	}
	if o.Most <= 0 {
		o.Most = 200_000
	}
	l := &Log{o: o, seen: map[key]int64{}, waiting: map[key]*tally{}}
	l.Tick()
	return l, nil
}

// Minute is the present minute since 1970, as of the last tick. It costs a load.
func (l *Log) Minute() int64 { return l.minute.Load() }

// Tick looks at the clock.
func (l *Log) Tick() {
	now := l.o.Clock().Unix() / 60
	if l.minute.Swap(now) == now {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.seen)
}

// Note says that a subject was allowed something by each of the holdings, in a minute.
func (l *Log) Note(minute int64, project, subject string, holdings []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range holdings {
		k := key{project, h, subject}
		if l.seen[k] >= minute {
			continue
		}
		if t := l.waiting[k]; t != nil {
			t.first, t.last = min(t.first, minute), max(t.last, minute)
			t.minutes++
		} else if len(l.waiting) < l.o.Most {
			l.waiting[k] = &tally{minute, minute, 1}
		} else {
			l.dropped.Add(1)
			continue
		}
		l.seen[k] = minute
	}
}

// Stats count uses, each of one minute or more.
type Stats struct{ Kept, Failed, Dropped int64 }

// Stats reads the figures: uses that were kept, batches that failed and are tried again, uses that were dropped.
func (l *Log) Stats() Stats { return Stats{l.kept.Load(), l.failed.Load(), l.dropped.Load()} }

// Run looks at the clock and hands batches to the keeper until ctx is done, and then the last one.
func (l *Log) Run(ctx context.Context) error {
	tick, batch := time.NewTicker(time.Second), time.NewTicker(l.o.Every)
	defer tick.Stop()
	defer batch.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.o.Every)
			defer cancel()
			_ = l.Flush(last) // counted; there is nobody left to try again
			return nil
		case <-tick.C:
			l.Tick()
		case <-batch.C:
			_ = l.Flush(ctx) // counted, and tried again by the next batch
		}
	}
}

// batchSize bounds one statement.
const batchSize = 500

// Flush has what was noted kept. What fails stays for the next time.
func (l *Log) Flush(ctx context.Context) error {
	l.mu.Lock()
	taken := l.waiting
	l.waiting = map[key]*tally{}
	l.mu.Unlock()
	// In one order on every replica, so that two batches do not wait for each other in a circle.
	keys := slices.SortedFunc(maps.Keys(taken), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.project, b.project), cmp.Compare(a.holding, b.holding), cmp.Compare(a.subject, b.subject))
	})
	for part := range slices.Chunk(keys, batchSize) {
		batch := make([]Use, 0, len(part))
		for _, k := range part {
			t := taken[k]
			batch = append(batch, Use{k.project, k.holding, k.subject, at(t.first), at(t.last), t.minutes})
		}
		if err := l.o.Keeper.KeepUses(ctx, batch); err != nil {
			l.failed.Add(1)
			l.putBack(taken)
			return err
		}
		l.kept.Add(int64(len(part)))
		for _, k := range part {
			delete(taken, k)
		}
	}
	return nil
}

func (l *Log) putBack(taken map[key]*tally) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, t := range taken {
		now := l.waiting[k]
		if now == nil {
			l.waiting[k] = t
			continue
		}
		now.first, now.last, now.minutes = min(now.first, t.first), max(now.last, t.last), now.minutes+t.minutes
	}
}

func at(minute int64) time.Time { return time.Unix(60*minute, 0).UTC() }
