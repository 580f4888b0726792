package policytest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

const aDay = 24 * time.Hour

// due notes what there is to be told of, and takes all of it, as three replicas at once do.
func (c *campaign) due(ahead time.Duration) (told map[string]policy.Notice, w policy.Waiting) {
	c.t.Helper()
	c.Ahead(ahead)
	ctx := context.Background()
	var mu sync.Mutex
	var wg sync.WaitGroup
	told = map[string]policy.Notice{}
	for range 3 {
		wg.Go(func() {
			now, err := c.Store.NoteAll(ctx, policy.DefaultExpiryDays())
			if !assert.NoError(c.t, err) {
				return
			}
			found, err := c.Store.DueNotices(ctx, 100, time.Hour)
			assert.NoError(c.t, err)
			mu.Lock()
			defer mu.Unlock()
			w = now
			for _, n := range found {
				_, twice := told[n.Type+" "+n.Object]
				assert.False(c.t, twice, "%s of %s is told twice", n.Type, n.Object)
				told[n.Type+" "+n.Object] = n
				assert.NoError(c.t, c.Store.NoticeDone(ctx, n.ID, time.Time{}))
			}
		})
	}
	wg.Wait()
	return told, w
}

func endsAreTold(t *testing.T, c *campaign) {
	ctx := context.Background()
	in := func(d time.Duration) time.Time { return time.Now().Add(d).Truncate(time.Microsecond).UTC() }
	month := NewKey("prj", "month")
	month.Expires = in(30 * aDay)
	month = create(t, c.Store, month)
	short := NewKey("prj", "short")
	short.Expires = in(10 * aDay)
	short = create(t, c.Store, short)
	gone := NewKey("prj", "gone")
	gone.Expires = in(30 * aDay)
	gone = create(t, c.Store, gone)
	b := bind(t, c.Store, policy.Binding{Project: "prj", Subject: c.ana.ID, Role: "viewer", Expires: in(30 * aDay)})
	moved := bind(t, c.Store, policy.Binding{Project: "prj", Subject: c.vic.ID, Role: "viewer", Expires: in(30 * aDay)})
	told, w := c.due(0)
	require.Empty(t, told, "whoever made it for ten days knew")
	assert.Equal(t, map[int]int{14: 1}, w.Keys)

	ofKey := func(k policy.KeyRecord) string { return policy.NoticeKeyExpiring + " " + k.ID }
	ofBinding := policy.NoticeBindingExpiring + " " + b.ID
	told, _ = c.due(4 * aDay)
	require.Contains(t, told, ofKey(short))
	assert.Equal(t, 7, told[ofKey(short)].Data["days"])
	require.Len(t, told, 1)

	c.Ahead(17 * aDay)
	_, err := c.Store.NoteAll(ctx, policy.DefaultExpiryDays())
	require.NoError(t, err)
	_, err = c.Store.RevokeKey(ctx, origin, system, policy.Revocation{Project: "prj", ID: gone.ID})
	require.NoError(t, err)
	moved.Expires = in(100 * aDay)
	_, err = c.Store.UpdateBinding(ctx, origin, system, moved)
	require.NoError(t, err)
	told, w = c.due(17 * aDay)
	require.Len(t, told, 2, "of what was revoked or lasts longer now nobody is told")
	data := told[ofKey(month)].Data
	assert.Equal(t, []any{14, "month", month.Expires, "prj"}, []any{data["days"], data["name"], data["expires_at"], data["project"]})
	assert.Equal(t, []any{14, "ana@example.com", "viewer"}, []any{told[ofBinding].Data["days"], told[ofBinding].Data["subject_name"], told[ofBinding].Data["role"]})
	assert.Equal(t, map[int]int{14: 1}, w.Keys)
	assert.Equal(t, map[int]int{14: 1}, w.Bindings)

	told, _ = c.due(18 * aDay)
	require.Empty(t, told, "once")
	b.Expires = in(100 * aDay)
	_, err = c.Store.UpdateBinding(ctx, origin, system, b)
	require.NoError(t, err)
	told, w = c.due(24 * aDay)
	require.Len(t, told, 1, "an end that was moved is none")
	assert.Equal(t, 7, told[ofKey(month)].Data["days"])
	assert.Equal(t, map[int]int{14: 1, 7: 1}, w.Keys)
	told, _ = c.due(29*aDay + time.Hour)
	assert.Equal(t, 1, told[ofKey(month)].Data["days"])
	told, w = c.due(31 * aDay)
	require.Empty(t, told)
	assert.Empty(t, w.Keys)
	told, _ = c.due(87 * aDay)
	assert.Equal(t, 14, told[ofBinding].Data["days"], "of its new end it is told")
	actions := map[string]int{}
	for _, ch := range c.Changes() {
		actions[ch.Action]++
	}
	assert.Equal(t, 5, actions["notice."+policy.NoticeKeyExpiring])
	assert.Equal(t, 4, actions["notice."+policy.NoticeBindingExpiring])
}

func reviewsAreTold(t *testing.T, c *campaign) {
	ctx := context.Background()
	r := c.start(func(r *policy.Review) {
		r.Deadline, r.Subjects, r.Remind = time.Now().Add(10*aDay), []string{c.ana.ID}, []int{14, 7, 1}
	})
	of := func(kind string) string { return kind + " " + r.ID }
	told, w := c.due(0)
	require.Len(t, told, 1)
	data := told[of(policy.NoticeReviewStarted)].Data
	assert.Equal(t, []any{"spring", policy.DecideKeep, r.Lines}, []any{data["name"], data["at_deadline"], data["lines"]})
	assert.Contains(t, data["reviewers"], map[string]string{"id": c.rita.ID, "name": "rita@example.com"})
	assert.Equal(t, []int{1, r.Lines}, []int{w.Reviews, w.Undecided})
	told, _ = c.due(2 * aDay)
	require.Empty(t, told, "the day of its first reminder was before it began")
	told, _ = c.due(3*aDay + time.Hour)
	require.Contains(t, told, of(policy.NoticeReviewReminder))
	assert.Equal(t, r.Lines, told[of(policy.NoticeReviewReminder)].Data["decisions"].(map[string]int)["undecided"])
	told, _ = c.due(4 * aDay)
	require.Empty(t, told, "once")
	for _, l := range c.evidence(r).Lines {
		_, err := c.decide(r, c.rita, l.Held.Holding, policy.DecideKeep, nil)
		if fault.Is(err, fault.PermissionDenied) { // of a group that she is in
			_, err = c.decide(r, c.vic, l.Held.Holding, policy.DecideKeep, nil)
		}
		require.NoError(t, err)
	}
	told, _ = c.due(9*aDay + time.Hour)
	require.Empty(t, told, "nobody is reminded when all is decided")
	c.Ahead(11 * aDay)
	require.NoError(t, c.Store.EndDueReviews(ctx))
	told, w = c.due(11 * aDay)
	require.Len(t, told, 1)
	closed, err := c.Store.ReviewByID(ctx, "prj", r.ID)
	require.NoError(t, err)
	assert.Equal(t, closed.Digest, told[of(policy.NoticeReviewClosed)].Data["evidence_sha256"])
	assert.Zero(t, w.Reviews)
}

func tellingIsTriedAgain(t *testing.T, c *campaign) {
	ctx := context.Background()
	c.start(nil)
	_, err := c.Store.NoteAll(ctx, nil)
	require.NoError(t, err)
	first, err := c.Store.DueNotices(ctx, 10, time.Minute)
	require.NoError(t, err)
	require.Len(t, first, 1)
	none, err := c.Store.DueNotices(ctx, 10, time.Minute)
	require.NoError(t, err)
	require.Empty(t, none, "somebody has it")
	c.Ahead(2 * time.Minute) // whoever had it was killed
	again, err := c.Store.DueNotices(ctx, 10, time.Minute)
	require.NoError(t, err)
	require.Len(t, again, 1)
	assert.Equal(t, []any{first[0].ID, 2}, []any{again[0].ID, again[0].Tries})
	require.NoError(t, c.Store.NoticeDone(ctx, again[0].ID, time.Now().Add(time.Hour)))
	c.Ahead(59 * time.Minute)
	none, err = c.Store.DueNotices(ctx, 10, time.Minute)
	require.NoError(t, err)
	require.Empty(t, none)
	c.Ahead(61 * time.Minute)
	again, err = c.Store.DueNotices(ctx, 10, time.Minute)
	require.NoError(t, err)
	require.Len(t, again, 1)
	require.NoError(t, c.Store.NoticeDone(ctx, again[0].ID, time.Time{}))
	c.Ahead(300 * time.Hour)
	none, err = c.Store.DueNotices(ctx, 10, time.Minute)
	require.NoError(t, err)
	require.Empty(t, none, "it is over")
}
