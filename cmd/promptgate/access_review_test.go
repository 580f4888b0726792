package main

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/policy"
)

// TestAccessReviewByCommand does by commands what `promptgate help access` tells: an admin begins a review, its reviewers decide, the evidence says what came
// of it.
func TestAccessReviewByCommand(t *testing.T) {
	h := newHouse(t)
	ctx, s := t.Context(), h.app.stores
	project, err := s.service.Project(ctx, "own")
	require.NoError(t, err)
	system := &policy.Principal{ID: "test", Kind: policy.KindSystem, Project: project.ID}
	keys := map[string]string{}
	ids := map[string]string{}
	for name, role := range map[string]string{"rita": "admin", "vic": "viewer", "ana": "editor"} {
		u, err := s.keys.CreateUser(ctx, stage, policy.User{Email: name + "@example.com", State: policy.UserActive})
		require.NoError(t, err)
		_, err = s.keys.Bind(ctx, stage, system, policy.Binding{Project: project.ID, Subject: u.ID, Role: role, Reason: `=HYPERLINK("http://evil.example","x")`})
		require.NoError(t, err)
		keys[name], _, err = s.createKey(ctx, stage, project.ID, admin.KeyCreate{Name: name, Owner: u.ID, Inherits: true})
		require.NoError(t, err)
		ids[name] = u.ID
	}
	run := func(who string, args ...string) (string, string, int) {
		t.Helper()
		return runHere(t, append(args, "--url", h.url, "--key", keys[who])...)
	}
	do := func(who string, args ...string) string {
		t.Helper()
		out, errOut, code := run(who, args...)
		require.Zero(t, code, errOut)
		return strings.TrimSpace(out)
	}
	refused := func(says, who string, args ...string) {
		t.Helper()
		_, errOut, code := run(who, args...)
		require.NotZero(t, code)
		require.Contains(t, errOut, says)
	}
	review := do("rita", "access", "review", "create", "spring", "--reviewers", "rita@example.com,vic@example.com", "--subjects", ids["ana"]+","+ids["rita"], "--deadline", "2d")
	refused("manage_users", "vic", "access", "review", "create", "x", "--reviewers", "rita@example.com")
	require.Contains(t, do("rita", "access", "review", "list"), review)
	require.Contains(t, do("vic", "access", "review", "list", "--mine"), review)
	require.NotContains(t, do("ana", "access", "review", "list", "--mine"), review)
	refused("no such access review", "ana", "access", "review", "show", review)

	lineOf := func(holder, what string) string {
		t.Helper()
		for _, row := range strings.Split(do("vic", "access", "review", "show", review), "\n") {
			if strings.Contains(row, holder+"@example.com") && strings.Contains(row, what) {
				return strings.Fields(row)[0]
			}
		}
		require.FailNow(t, "no line of "+holder)
		return ""
	}
	own, binding, key := lineOf("rita", "admin"), lineOf("ana", "editor"), lineOf("ana", "inherits")
	refused("your own access", "rita", "access", "review", "decide", review, own, "keep")
	do("vic", "access", "review", "decide", review, own, "keep", "--comment", "she runs it")
	refused("do not hold", "vic", "access", "review", "decide", review, binding, "revoke")
	refused("no such access review", "ana", "access", "review", "decide", review, own, "keep")
	refused("no such access review", "ana", "access", "review", "decide", review, binding, "keep")
	refused("smaller", "rita", "access", "review", "decide", review, binding, "change", "--role", "admin")
	do("vic", "access", "review", "decide", review, binding, "keep")
	refused("--again", "rita", "access", "review", "decide", review, binding, "revoke")
	require.Contains(t, do("rita", "access", "review", "decide", review, binding, "change", "--again", "--role", "viewer", "--prompts", "support/**", "--comment", "reads only"), "change")
	require.Equal(t, 403, h.do(keys["ana"], "POST", "/api/v1/prompts", `{"name":"support/new","kind":"chat"}`).status, "she is no editor any more")
	require.Equal(t, 200, h.do(keys["ana"], "GET", "/api/v1/prompts/support%2Ftriage", "").status)
	do("vic", "access", "review", "decide", review, lineOf("rita", "inherits"), "keep")
	refused("decided by nobody", "rita", "access", "review", "close", review)
	do("rita", "access", "review", "decide", review, key, "revoke")
	require.Equal(t, 401, h.do(keys["ana"], "GET", "/api/v1/me", "").status)
	refused("carried out", "vic", "access", "review", "decide", review, key, "keep")
	closed := do("rita", "access", "review", "close", review)

	text := do("rita", "access", "review", "evidence", review) + "\n"
	sum := sha256.Sum256([]byte(text))
	require.Contains(t, closed, hex.EncodeToString(sum[:]), "the evidence is what the journal has the digest of")
	require.Contains(t, h.do(keys["rita"], "GET", "/api/v1/events?action=review.close&details=true", "").body, hex.EncodeToString(sum[:]))
	var e policy.Evidence
	require.NoError(t, json.Unmarshal([]byte(text), &e))
	require.Len(t, e.Lines, e.Review.Lines)
	table, err := csv.NewReader(strings.NewReader(do("rita", "access", "review", "evidence", review, "--csv"))).ReadAll()
	require.NoError(t, err)
	require.Len(t, table, e.Review.Lines+1)
	comments, formulas := 0, 0
	for _, row := range table {
		for _, cell := range row {
			require.NotRegexp(t, `^\s*[=+\-@]`, cell, "a spreadsheet would run it")
			if strings.HasPrefix(cell, "'=HYPERLINK") {
				formulas++
			}
			if cell == "reads only" {
				comments++
			}
		}
	}
	require.Equal(t, 2, formulas)
	require.Equal(t, 1, comments)
	require.Contains(t, do("rita", "access", "report", "--csv"), `"'=HYPERLINK(""http://evil.example"",""x"")"`)
	refused("over", "vic", "access", "review", "decide", review, own, "revoke", "--again")
}
