package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/policy"
)

// TestUsersByCommand does by commands what operators do for people all day.
func TestUsersByCommand(t *testing.T) {
	h := newHouse(t)
	ctx, s := t.Context(), h.app.stores
	operator, _, err := s.createKey(ctx, stage, h.ownProject(), admin.KeyCreate{Name: "operator", Roles: []string{"admin"}, Grants: []policy.Grant{policy.OperatorGrant()}})
	require.NoError(t, err)
	run := func(args ...string) (string, string, int) {
		return runHere(t, append(args, "--url", h.url, "--key", operator)...)
	}
	do := func(args ...string) string {
		t.Helper()
		out, errOut, code := run(args...)
		require.Zero(t, code, errOut)
		return strings.TrimSpace(out)
	}
	ana := h.signedIn("ana", h.ownProject(), policy.RoleEditor)
	again := h.signedIn("ana", h.ownProject(), policy.RoleEditor)
	personal, _, err := s.createKey(ctx, stage, h.ownProject(), admin.KeyCreate{Name: "ana's", Owner: ana.user.ID, Inherits: true})
	require.NoError(t, err)

	list := do("user", "sessions", "ANA@people.example")
	require.Equal(t, 3, len(strings.Split(list, "\n")), list)
	first, _, _ := strings.Cut(strings.Split(list, "\n")[1], " ")
	require.Contains(t, do("user", "sign-out", ana.user.ID, "--session", first), "signed out of that browser")
	require.Equal(t, []bool{false, true}, []bool{ana.in(), again.in()})
	do("user", "sign-out", ana.user.ID, "--why", "a lost laptop")
	require.False(t, again.in())
	require.Equal(t, http.StatusOK, h.do(personal, "GET", "/api/v1/me", "").status, "keys go on")

	h.signedIn("bea", "", policy.RoleOperator) // the last one stays
	require.Equal(t, "ana@people.example: Ana B., active, operator, break glass", do("user", "set", ana.user.ID, "--name", "Ana B.", "--operator", "--break-glass"))
	require.Equal(t, "ana@people.example: Ana B., active", do("user", "set", ana.user.ID, "--no-operator", "--no-break-glass"))
	do("user", "deactivate", ana.user.ID)
	require.Equal(t, http.StatusUnauthorized, h.do(personal, "GET", "/api/v1/me", "").status)
	require.Contains(t, do("user", "activate", ana.user.ID), "active")
	require.Equal(t, http.StatusOK, h.do(personal, "GET", "/api/v1/me", "").status)
	require.False(t, again.in(), "a session that was ended stays so")

	require.Equal(t, "any", do("project", "sign-in"))
	require.Equal(t, "passkey", do("project", "sign-in", "passkey"))
	require.Equal(t, "passkey", do("project", "sign-in"))
	require.Equal(t, "sso", do("project", "sign-in", "sso"))
	require.Equal(t, "any", do("project", "sign-in", "any"))

	told := do("audit", "list", "--installation", "--object", "user:"+ana.user.ID)
	for _, line := range []string{"link.redeem", "session.end", "a lost laptop", "user.update", "user.deactivate", "operator"} {
		require.Contains(t, told, line)
	}
	require.NotContains(t, told, "label.move")
	require.Contains(t, do("audit", "list", "--limit", "500"), "label.move")
	require.NotContains(t, do("audit", "list", "--limit", "500"), "link.redeem", "what is of no project")
	require.Equal(t, 1, len(strings.Split(do("audit", "list", "--json", "--limit", "1"), "\n")))

	for _, bad := range [][]string{{"user", "set", ana.user.ID}, {"user", "sessions", "nobody"}, {"project", "sign-in", "smoke"}} {
		_, errOut, code := run(bad...)
		require.Equal(t, exitUsage, code, "%s: %s", bad, errOut)
	}
	for _, none := range [][]string{{"user", "sessions", "nobody@people.example"}, {"user", "sign-out", ana.user.ID, "--session", "ses_none"}} {
		_, errOut, code := run(none...)
		require.Equal(t, exitFailed, code, "%s: %s", none, errOut)
	}
}
