package main

import (
	"sync/atomic"
	"time"

	"github.com/promptgate/promptgate/internal/journal"
)

// feed is the journal as caches see it. Beside the journal's changes its subscribers get hints: word of a change from another replica,
// by Redis, before this one has read it from the database, or instead of it while the database is away. Subscribers only forget, so a
// hint can be early, late or twice.
type feed struct {
	*journal.Journal
	subscribers []func(journal.Change)
	snapshot    atomic.Int64 // when what was preloaded had last been confirmed, nanoseconds since 1970; 0: nothing was
}

// Subscribe registers before the journal is loaded.
func (f *feed) Subscribe(fn func(journal.Change)) {
	f.subscribers = append(f.subscribers, fn)
	f.Journal.Subscribe(fn)
}

func (f *feed) hint(c journal.Change) {
	for _, fn := range f.subscribers {
		fn(c)
	}
}

// ConfirmedAt is the journal's, or the snapshot's until the database first answers.
func (f *feed) ConfirmedAt() time.Time {
	at := f.Journal.ConfirmedAt()
	if at.IsZero() {
		if ns := f.snapshot.Load(); ns != 0 {
			return time.Unix(0, ns)
		}
	}
	return at
}
