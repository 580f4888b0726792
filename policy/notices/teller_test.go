package notices

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/policy"
)

// scripted is what is due, and what was said of it.
type scripted struct {
	policy.Notices
	due     []policy.Notice
	done    map[string]time.Time
	fails   error
	looked  int
	waiting policy.Waiting
}

func (s *scripted) EndDueReviews(context.Context) error { return s.fails }
func (s *scripted) NoteAll(context.Context, []int) (policy.Waiting, error) {
	s.looked++
	return s.waiting, s.fails
}

func (s *scripted) DueNotices(context.Context, int, time.Duration) ([]policy.Notice, error) {
	return s.due, s.fails
}

func (s *scripted) NoticeDone(_ context.Context, id string, again time.Time) error {
	s.done[id] = again
	return nil
}

func TestTellerTriesAgain(t *testing.T) {
	now := time.Date(2027, 1, 2, 12, 0, 0, 0, time.UTC)
	s := &scripted{done: map[string]time.Time{}, waiting: policy.Waiting{Keys: map[int]int{}, Reviews: 3}}
	var log strings.Builder
	answer := errors.New("answered 500")
	teller := &Teller{Notices: s, Deliver: func(context.Context, policy.Notice) error { return answer }, Log: slog.New(slog.NewTextHandler(&log, nil)), Clock: func() time.Time { return now }}
	s.due = []policy.Notice{{ID: "a", Tries: 1}, {ID: "b", Tries: 3}, {ID: "c", Tries: tellTries}}
	teller.deliver(t.Context())
	require.Equal(t, map[string]time.Time{"a": now.Add(15 * time.Second), "b": now.Add(time.Minute), "c": {}}, s.done, "later each time, and dropped in the end")
	require.Equal(t, Stats{Failed: 2, Dropped: 1}, teller.Stats())
	require.Contains(t, log.String(), "is dropped")
	answer, s.done = nil, map[string]time.Time{}
	teller.deliver(t.Context())
	require.Equal(t, map[string]time.Time{"a": {}, "b": {}, "c": {}}, s.done)
	teller.look(t.Context())
	require.Equal(t, Stats{Delivered: 3, Failed: 2, Dropped: 1, Waiting: policy.Waiting{Keys: map[int]int{}, Reviews: 3}}, teller.Stats())

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	answer, s.done = errors.New("the process ends"), map[string]time.Time{}
	teller.deliver(ended)
	require.Empty(t, s.done, "it is due again when its time is over")

	s.waiting, s.fails = policy.Waiting{}, errors.New("the database is away")
	teller.look(t.Context())
	require.Equal(t, 3, teller.Stats().Reviews, "figures stay as they were seen last")
	require.Contains(t, log.String(), "the database is away")

	s.fails, answer, s.done = nil, nil, map[string]time.Time{}
	quiet := &Teller{Notices: s, Log: slog.New(slog.DiscardHandler), Clock: time.Now}
	quiet.deliver(t.Context())
	require.Len(t, s.done, 3, "without a webhook the journal has it")
}
