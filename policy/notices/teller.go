// Package notices tells people, once over all replicas, of what ends soon and of access reviews that wait for them; and it ends reviews at their deadline.
package notices

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/promptgate/promptgate/policy"
)

// Teller notes and delivers notices. Build it as a literal, and run Run.
type Teller struct {
	Notices policy.Notices
	Deliver func(ctx context.Context, n policy.Notice) error // nil: the journal and the log are told, and nobody else
	Days    []int                                            // how many days before its end a key or binding is told of
	Log     *slog.Logger
	Clock   func() time.Time

	delivered, failed, dropped atomic.Int64
	mu                         sync.Mutex
	waiting                    policy.Waiting
}

const (
	lookEvery   = time.Minute
	tellEvery   = time.Second
	tellHold    = time.Minute // of one try
	tellTries   = 12          // in about a day
	tellFirst   = 15 * time.Second
	tellLatest  = 4 * time.Hour
	tellAtATime = 20
)

// Stats are figures of a Teller.
type Stats struct {
	Delivered, Failed, Dropped int64
	policy.Waiting             // as of the last look
}

// Stats reads the figures.
func (t *Teller) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Stats{t.delivered.Load(), t.failed.Load(), t.dropped.Load(), t.waiting}
}

// Run notes and delivers until ctx is done. What fails is tried again, later each time, and dropped after a day.
func (t *Teller) Run(ctx context.Context) error {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	looked := time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if now.Sub(looked) >= lookEvery {
				looked = now
				t.look(ctx)
			}
			t.deliver(ctx)
		}
	}
}

// look ends what is due and notes what there is to be told of.
func (t *Teller) look(ctx context.Context) {
	if err := t.Notices.EndDueReviews(ctx); err != nil && ctx.Err() == nil {
		t.Log.WarnContext(ctx, "access reviews cannot be ended at their deadline: they are tried again", "error", err)
	}
	waiting, err := t.Notices.NoteAll(ctx, t.Days)
	if err != nil && ctx.Err() == nil {
		t.Log.WarnContext(ctx, "what ends soon cannot be told of: it is tried again", "error", err)
	}
	if waiting.Keys == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = waiting
}

func (t *Teller) deliver(ctx context.Context) {
	due, err := t.Notices.DueNotices(ctx, tellAtATime, tellHold)
	if err != nil && ctx.Err() == nil {
		t.Log.DebugContext(ctx, "notices that cannot be read", "error", err) // the database is away, which others tell of
	}
	for _, n := range due {
		t.tell(ctx, n)
	}
}

func (t *Teller) tell(ctx context.Context, n policy.Notice) {
	if n.Tries == 1 {
		t.Log.InfoContext(ctx, "notice", "type", n.Type, "project", n.Project, "object", n.Object)
	}
	var again time.Time
	if t.Deliver != nil {
		switch err := t.Deliver(ctx, n); {
		case err == nil:
			t.delivered.Add(1)
		case ctx.Err() != nil:
			return // it is due again when its time is over
		case n.Tries >= tellTries:
			t.dropped.Add(1)
			t.Log.ErrorContext(ctx, "a notice could not be delivered and is dropped", "type", n.Type, "object", n.Object, "tries", n.Tries, "error", err)
		default:
			t.failed.Add(1)
			t.Log.WarnContext(ctx, "a notice could not be delivered and is tried again", "type", n.Type, "object", n.Object, "tries", n.Tries, "error", err)
			again = t.Clock().Add(min(tellFirst<<min(n.Tries-1, 12), tellLatest))
		}
	}
	if err := t.Notices.NoticeDone(ctx, n.ID, again); err != nil && !errors.Is(err, context.Canceled) {
		t.Log.WarnContext(ctx, "a notice that was delivered may be delivered again, under the same id", "error", err)
	}
}
