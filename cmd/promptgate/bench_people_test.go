package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

// hotPeople are those who ask.
const hotPeople = 1_000

// BenchmarkPeople starts a gateway before 100, and before 100,000 accounts in a tenth as many groups, each of which holds a binding; then 1,000 people ask for a
// prompt by keys of their own, one after the other, and once more.
//
//	start_ms     until the first call is answered
//	idle_MiB     resident memory then
//	first_ms     the median of somebody's first request: its key, its account, its group's bindings are read, verified and compiled
//	again_ms     the median of the second
//	asked_MiB    resident memory when all have asked
func BenchmarkPeople(b *testing.B) {
	rig := newRig(b)
	mustBinary(b) // is built in nobody's time
	for _, n := range []int{100, 100_000} {
		b.Run(fmt.Sprintf("accounts=%d", n), func(b *testing.B) {
			s := seeded(b, 1, 1)
			keys := seedPeople(b, s, n, n/10)
			for range b.N {
				began := time.Now()
				gw := rig.gateway(b, s)
				b.ReportMetric(float64(time.Since(began).Milliseconds()), "start_ms")
				time.Sleep(time.Second)
				b.ReportMetric(float64(gw.proc.rss())/(1<<20), "idle_MiB")
				b.ReportMetric(median(askAll(b, gw.addr, s.prompts[0], keys)), "first_ms")
				b.ReportMetric(median(askAll(b, gw.addr, s.prompts[0], keys)), "again_ms")
				b.ReportMetric(float64(gw.proc.rss())/(1<<20), "asked_MiB")
				gw.proc.end(b)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// askAll reads a prompt with each key in turn.
func askAll(b testing.TB, addr, prompt string, keys []string) (ms []float64) {
	b.Helper()
	at := "http://" + addr + "/api/v1/prompts/" + url.PathEscape(prompt)
	for _, key := range keys {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, at, nil)
		require.NoError(b, err)
		req.Header.Set("Authorization", "Bearer "+key)
		began := time.Now()
		resp, err := http.DefaultClient.Do(req)
		require.NoError(b, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		ms = append(ms, float64(time.Since(began).Microseconds())/1000)
		require.Equal(b, http.StatusOK, resp.StatusCode)
	}
	return ms
}

// seedPeople adds so many accounts in so many groups, one each, and a binding of each group. One of each is made as anybody would, the others are copies of
// its rows. It returns personal keys of up to hotPeople of them.
func seedPeople(b testing.TB, seed *seed, users, groups int) []string {
	b.Helper()
	cfg := configs.Default()
	cfg.Data = seed.data
	s, err := openStores(b.Context(), cfg, slog.New(slog.DiscardHandler), nil, false)
	require.NoError(b, err)
	defer s.close()
	ctx, by := b.Context(), journal.Origin{Actor: journal.Actor{Kind: policy.KindSystem, ID: "bench", Name: "bench"}}
	project, err := s.service.Project(ctx, "bench")
	require.NoError(b, err)
	u, err := s.keys.CreateUser(ctx, by, policy.User{Email: "first@example.com", State: policy.UserActive})
	require.NoError(b, err)
	g, err := s.keys.CreateGroup(ctx, by, policy.PeopleGroup{Name: "first"})
	require.NoError(b, err)
	_, err = s.keys.Join(ctx, by, g.ID, policy.ByHand, u.ID)
	require.NoError(b, err)
	_, err = s.keys.Bind(ctx, by, &policy.Principal{Kind: policy.KindSystem}, policy.Binding{Project: project.ID, Subject: g.ID, Role: "viewer", Prompts: []string{"bench/**"}})
	require.NoError(b, err)
	_, id, err := s.createKey(ctx, by, project.ID, admin.KeyCreate{Name: "own", Owner: u.ID, Inherits: true})
	require.NoError(b, err)
	copies := func(table string, n int, changed map[string]string) {
		names, values := copied(b, s, table, changed)
		_, err := s.db.DB.DB.ExecContext(ctx, fmt.Sprintf(
			"WITH RECURSIVE c (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i < ?), t AS (SELECT * FROM %s LIMIT 1) INSERT INTO %s (%s) SELECT %s FROM t, c",
			table, table, names, values), n-1)
		require.NoError(b, err)
	}
	const user = "'usr_copy' || i"
	group := fmt.Sprintf("'grp_copy' || (i %% %d)", groups)
	copies("policy_users", users, map[string]string{"id": user, "email": "'p' || i || '@example.com'"})
	copies("policy_groups", groups, map[string]string{"id": group, "name": "'group ' || i"})
	copies("policy_group_members", users, map[string]string{"user_id": user, "group_id": group})
	copies("policy_bindings", groups, map[string]string{"id": "'bnd_copy' || i", "subject": group})
	var keys []string
	names, values := copied(b, s, "policy_keys", map[string]string{"id": "'key_' || lookup_", "lookup": "lookup_", "hash": "hash_", "last_four": "four_", "owner": "owner_"})
	for i := range min(users, hotPeople) {
		k, err := s.hasher.Issue(rand.Reader)
		require.NoError(b, err)
		_, err = s.db.DB.DB.ExecContext(ctx, fmt.Sprintf(
			"WITH k (lookup_, hash_, four_, owner_) AS (VALUES (?, ?, ?, ?)) INSERT INTO policy_keys (%s) SELECT %s FROM k, policy_keys AS t WHERE t.id = ?", names, values),
			k.Lookup, k.Hash, k.LastFour, fmt.Sprintf("usr_copy%d", i), id)
		require.NoError(b, err)
		keys = append(keys, k.Plaintext)
	}
	tellRows(b, s, by)
	return keys
}
