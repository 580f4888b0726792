package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/notices"
	policystore "github.com/promptgate/promptgate/policy/sqlstore"
)

// heard is a webhook's receiver: what it was told, by type.
type heard struct {
	mu    sync.Mutex
	ids   map[string]int
	types map[string][]map[string]any
	bad   int
}

func (h *heard) serve(t *testing.T) string {
	h.ids, h.types = map[string]int{}, map[string][]map[string]any{}
	verifier, err := standardwebhooks.NewWebhook(hookSecret)
	require.NoError(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		defer h.mu.Unlock()
		var m struct {
			Type string
			Data map[string]any
		}
		if verifier.Verify(body, r.Header) != nil || json.Unmarshal(body, &m) != nil {
			h.bad++
			return
		}
		h.ids[r.Header.Get("Webhook-Id")]++
		h.types[m.Type] = append(h.types[m.Type], m.Data)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func (h *heard) count(kind string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.types[kind])
}

// TestThreeReplicasTellOnce: three replicas of one database look and deliver at once: each notice comes once, signed; so it is after a restart; and at the
// deadline each line is decided once.
func TestThreeReplicasTellOnce(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		o := newTakeover(t, url)
		ctx := t.Context()
		ears := &heard{}
		hook, err := newWebhook(configs.Webhook{URL: ears.serve(t), Secret: hookSecret, AllowPrivate: true})
		require.NoError(t, err)
		system := &policy.Principal{Kind: policy.KindSystem}
		b, err := o.running.keys.Bind(ctx, stage, system, policy.Binding{Project: o.project[0], Subject: o.people.users[1], Role: "viewer", Expires: time.Now().AddDate(0, 0, 40)})
		require.NoError(t, err)
		r, err := o.running.keys.StartReview(ctx, stage, system, policy.Review{
			Project: o.project[0], Name: "autumn", Roles: []string{"viewer"}, Reviewers: []string{o.people.users[0]}, Deadline: time.Now().AddDate(0, 0, 32), AtDeadline: policy.DecideRevoke,
		})
		require.NoError(t, err)
		replicas := func(ahead time.Duration, done func() bool) {
			ctx, cancel := context.WithCancel(ctx)
			var loops sync.WaitGroup
			for range 3 {
				s := o.open()
				clock := func() time.Time { return time.Now().Add(ahead) }
				teller := &notices.Teller{
					Notices: policystore.New(s.db, s.feed.Journal, clock), Deliver: hook.tell, Days: policy.DefaultExpiryDays(), Log: slog.New(slog.DiscardHandler), Clock: clock,
				}
				loops.Go(func() { _ = teller.Run(ctx) })
			}
			require.Eventually(t, done, 30*time.Second, 20*time.Millisecond)
			time.Sleep(2500 * time.Millisecond) // whoever would tell it again has had two tries
			cancel()
			loops.Wait()
		}
		day := 24 * time.Hour
		replicas(29*day, func() bool {
			return ears.count(policy.NoticeBindingExpiring) > 0 && ears.count(policy.NoticeReviewReminder) > 0 && ears.count(policy.NoticeReviewStarted) > 0
		})
		replicas(29*day, func() bool { return true }) // restarted
		require.Equal(t, []int{1, 1, 1}, []int{ears.count(policy.NoticeBindingExpiring), ears.count(policy.NoticeReviewReminder), ears.count(policy.NoticeReviewStarted)})
		require.Equal(t, b.ID, ears.types[policy.NoticeBindingExpiring][0]["binding"])
		require.Equal(t, r.ID, ears.types[policy.NoticeReviewReminder][0]["review"])

		replicas(33*day, func() bool { return ears.count(policy.NoticeReviewClosed) > 0 })
		require.Equal(t, 1, ears.count(policy.NoticeReviewClosed))
		require.Equal(t, map[string]any{"keep": 0.0, "change": 0.0, "revoke": 1.0, "undecided": 0.0}, ears.types[policy.NoticeReviewClosed][0]["decisions"])
		_, err = o.open().keys.BindingByID(ctx, o.project[0], b.ID)
		require.ErrorContains(t, err, "no such binding")
		for id, n := range ears.ids {
			require.Equal(t, 1, n, id)
		}
		require.Zero(t, ears.bad)
	})
}
