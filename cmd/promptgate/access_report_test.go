package main

import (
	"encoding/csv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/policy"
)

// TestReportAndRotationByCommand: who holds what and uses it is told, and a key is replaced without anybody noticing.
func TestReportAndRotationByCommand(t *testing.T) {
	h := newHouse(t)
	ctx, s := t.Context(), h.app.stores
	project, err := s.service.Project(ctx, "own")
	require.NoError(t, err)
	soon := time.Now().Add(10 * 24 * time.Hour)
	old, id, err := s.createKey(ctx, stage, project.ID, admin.KeyCreate{Name: "+cmd|calc", Roles: []string{"viewer"}, ExpiresAt: &soon})
	require.NoError(t, err)
	do := func(args ...string) string {
		t.Helper()
		out, errOut, code := runHere(t, append(args, "--url", h.url, "--key", h.keys["admin"])...)
		require.Zero(t, code, errOut)
		return strings.TrimSpace(out)
	}
	keyRow := func(id string) string {
		t.Helper()
		for _, row := range strings.Split(do("key", "list"), "\n") {
			if strings.HasPrefix(row, id) {
				return row
			}
		}
		require.FailNow(t, "no key "+id)
		return ""
	}
	require.Contains(t, keyRow(id), "ends in 9 d")
	reads := func(key string) int { return h.do(key, "GET", "/api/v1/prompts/support%2Ftriage", "").status }
	require.Equal(t, 200, reads(old))
	require.Eventually(t, func() bool { // uses are kept in batches
		rows, err := csv.NewReader(strings.NewReader(do("access", "report", "--csv", "--subject", id))).ReadAll()
		require.NoError(t, err)
		require.Len(t, rows, 2)
		require.Contains(t, rows[1], "'+cmd|calc")
		return rows[1][len(rows[1])-1] == "1"
	}, 20*time.Second, 200*time.Millisecond)
	require.NotContains(t, do("access", "report", "--unused", "1"), id)
	require.Contains(t, do("access", "report", "--role", "viewer"), id)
	require.NotContains(t, do("access", "report", "--role", "editor"), id)

	next := do("key", "rotate", id, "--overlap", "1d")
	require.Equal(t, []int{200, 200}, []int{reads(old), reads(next)}, "both work during the overlap")
	require.Contains(t, keyRow(id), "replaced by key_")
	_, errOut, code := runHere(t, "key", "rotate", id, "--url", h.url, "--key", h.keys["admin"])
	require.NotZero(t, code)
	require.Contains(t, errOut, "rotated already")
	nextID := "key_" + strings.Split(keyRow(id), "replaced by key_")[1][:16]
	last := do("key", "rotate", nextID, "--overlap", "0")
	require.Equal(t, []int{200, 401, 200}, []int{reads(old), reads(next), reads(last)})
	_, errOut, code = runHere(t, "key", "rotate", nextID, "--overlap", "91d", "--url", h.url, "--key", h.keys["admin"])
	require.NotZero(t, code)
	require.Contains(t, errOut, "90")

	own := h.keys["viewer's own key"]
	require.Equal(t, 200, reads(own))
	mine, _, err := s.keys.ListKeys(ctx, project.ID, policy.Page{Owner: h.own["user"]})
	require.NoError(t, err)
	out, errOut, code := runHere(t, "key", "rotate", mine[0].ID, "--own", "--overlap", "0", "--url", h.url, "--key", own)
	require.Zero(t, code, errOut)
	require.Equal(t, []int{401, 200}, []int{reads(own), reads(strings.TrimSpace(out))})
}
