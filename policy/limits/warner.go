package limits

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"
)

// Warning says that a budget passed a threshold in its present period.
type Warning struct {
	ID         string // the same at each try
	Limit      Limit
	Subject    string // of a default: whose
	Threshold  int    // percent
	Used       int64  // when it was passed
	Amount     int64
	At         time.Time
	Start, End time.Time // of the period
	Tries      int       // this one among them
}

// Warnings keeps warnings until they are delivered: one of each threshold and period, over all replicas.
type Warnings interface {
	// Due takes warnings that are to be delivered now; for some time nobody else gets them.
	Due(ctx context.Context, most int, hold time.Duration) ([]Warning, error)
	// Note has the journal know of a warning, once.
	Note(ctx context.Context, w Warning) error
	// Done ends a warning's delivery, or has it tried again at a moment that is not zero.
	Done(ctx context.Context, id string, again time.Time) error
}

// Warner delivers warnings. Build it as a literal, and run Run.
type Warner struct {
	Warnings Warnings
	Deliver  func(ctx context.Context, w Warning) error // nil: the journal and the log are told, and nobody else
	Log      *slog.Logger
	Clock    func() time.Time

	delivered, failed, dropped, noted atomic.Int64
}

const (
	warnEvery  = time.Second
	warnHold   = time.Minute // of one try
	warnTries  = 12          // in about a day
	warnFirst  = 15 * time.Second
	warnLatest = 4 * time.Hour
	warnBatch  = 20
)

// WarnerStats count what became of warnings here.
type WarnerStats struct{ Delivered, Failed, Dropped, Noted int64 }

// Stats reads the figures.
func (w *Warner) Stats() WarnerStats {
	return WarnerStats{w.delivered.Load(), w.failed.Load(), w.dropped.Load(), w.noted.Load()}
}

// Run delivers until ctx is done. What fails is tried again, later each time, and dropped after a day.
func (w *Warner) Run(ctx context.Context) error {
	tick := time.NewTicker(warnEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			w.once(ctx)
		}
	}
}

func (w *Warner) once(ctx context.Context) {
	due, err := w.Warnings.Due(ctx, warnBatch, warnHold)
	if err != nil {
		return // the database is away, which others tell of
	}
	for _, one := range due {
		w.tell(ctx, one)
	}
}

func (w *Warner) tell(ctx context.Context, one Warning) {
	if one.Tries == 1 {
		w.Log.WarnContext(ctx, "a budget passed a threshold", "project", one.Limit.Project, "limit", one.Limit.Name, "subject", one.Subject, "percent", one.Threshold)
	}
	if err := w.Warnings.Note(ctx, one); err != nil {
		return // it is due again when its time is over
	}
	w.noted.Add(1)
	var again time.Time
	if w.Deliver != nil {
		switch err := w.Deliver(ctx, one); {
		case err == nil:
			w.delivered.Add(1)
		case ctx.Err() != nil:
			return
		case one.Tries >= warnTries:
			w.dropped.Add(1)
			w.Log.ErrorContext(ctx, "a warning of a budget could not be delivered and is dropped", "limit", one.Limit.Name, "tries", one.Tries, "error", err)
		default:
			w.failed.Add(1)
			w.Log.WarnContext(ctx, "a warning of a budget could not be delivered and is tried again", "limit", one.Limit.Name, "tries", one.Tries, "error", err)
			again = w.Clock().Add(min(warnFirst<<min(one.Tries-1, 12), warnLatest))
		}
	}
	if err := w.Warnings.Done(ctx, one.ID, again); err != nil && !errors.Is(err, context.Canceled) {
		w.Log.WarnContext(ctx, "a warning that was delivered may be delivered again, under the same id", "error", err)
	}
}
