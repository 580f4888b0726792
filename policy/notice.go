package policy

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Notice is something that people are told of once, however many replicas there are: what ends soon, a review that waits for them.
type Notice struct {
	ID      string // the same at each try
	Type    string
	Project string
	Object  string // what it is about, by its id
	At      time.Time
	Tries   int            // this one among them
	Data    map[string]any // of the object, as it is now
}

// The types of notices.
const (
	NoticeKeyExpiring     = "key.expiring"
	NoticeBindingExpiring = "binding.expiring"
	NoticeReviewStarted   = "access_review.started"
	NoticeReviewReminder  = "access_review.reminder"
	NoticeReviewClosed    = "access_review.closed"
)

// Notices keeps what is to be told until it is: each once, over all replicas.
type Notices interface {
	// NoteAll notes what there is to be told of now, and says what ends within which of these days, and what waits. With an error, the figures are there
	// unless they are zero.
	NoteAll(ctx context.Context, days []int) (Waiting, error)
	// DueNotices takes notices that are to be delivered now; for some time nobody else gets them. An error is about others than those that it returns.
	DueNotices(ctx context.Context, most int, hold time.Duration) ([]Notice, error)
	// NoticeDone ends a notice's delivery, or has it tried again at a moment that is not zero.
	NoticeDone(ctx context.Context, id string, again time.Time) error
	// EndDueReviews does what is to be done at the deadlines that have passed.
	EndDueReviews(ctx context.Context) error
}

// Waiting are figures of what people should look at.
type Waiting struct {
	Keys, Bindings map[int]int // that end within so many days
	Reviews        int         // open access reviews
	Undecided      int         // lines of theirs
}

// DefaultExpiryDays are how many days before its end a key or binding is told of.
func DefaultExpiryDays() []int { return []int{14, 7, 1} }

// ExpiryMark is the notice that is due of something that was made at a moment and ends at another: the smallest of the days that have begun. Nothing is due of
// what was made for less time than that: whoever made it knew.
func ExpiryMark(days []int, made, ends, now time.Time) (day int, ok bool) {
	if ends.IsZero() || !now.Before(ends) {
		return 0, false
	}
	for _, d := range slices.Sorted(slices.Values(days)) {
		if from := ends.AddDate(0, 0, -d); !now.Before(from) {
			return d, !made.After(from)
		}
	}
	return 0, false
}

// Reminder is the reminder of a review that is due: the smallest of its days that have begun since it started.
func (r Review) Reminder(now time.Time) (day int, ok bool) {
	return ExpiryMark(r.Remind, r.StartedAt, r.Deadline, now)
}

// EndMark names a notice of an end: when the end moves, it is told of anew.
func EndMark(day int, ends time.Time) string { return fmt.Sprintf("%d %d", day, ends.UnixMicro()) }
