package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/policy"
)

// TestPeopleByCommand does by commands what `promptgate help people` tells.
func TestPeopleByCommand(t *testing.T) {
	h := newHouse(t)
	ctx, s := t.Context(), h.app.stores
	project, err := s.service.Project(ctx, "own")
	require.NoError(t, err)
	operator, _, err := s.createKey(ctx, stage, project.ID, admin.KeyCreate{Name: "operator", Roles: []string{"admin"}, Grants: []policy.Grant{policy.OperatorGrant()}})
	require.NoError(t, err)
	ana, err := s.keys.CreateUser(ctx, stage, policy.User{Email: "ana@example.com", State: policy.UserActive})
	require.NoError(t, err)
	do := func(args ...string) string {
		t.Helper()
		out, errOut, code := runHere(t, append(args, "--url", h.url, "--key", operator)...)
		require.Zero(t, code, errOut)
		return strings.TrimSpace(out)
	}
	require.Contains(t, do("role", "set", "promoter", "read", "move_label"), "promoter: move_label, read")
	require.Contains(t, do("role", "set", "promoter", "read", "move_label", "comment"), "comment", "a second time it is changed")
	require.Contains(t, do("role", "list"), "promoter")
	group := do("group", "create", "Support leads")
	do("group", "add", group, "ANA@example.com")
	require.Contains(t, do("group", "members", group), ana.ID)
	granted := do("access", "grant", group, "promoter", "--prompts", "support/**", "--labels", "production", "--expires", "30d", "--why", "first line")
	require.Contains(t, granted, "Support leads")
	do("access", "grant", "ana@example.com", "viewer", "--deny", "--prompts", "marketing/secret/**")
	list := do("access", "list")
	require.Contains(t, list, "not viewer")
	require.Contains(t, list, "first line")

	allowed := do("access", "explain", "move_label", "support/triage@production", "--for", ana.ID)
	require.Contains(t, allowed, "allowed: move_label on support/triage@production")
	require.Contains(t, allowed, "of Support leads")
	refused := do("access", "explain", "read", "marketing/secret/a", "--for", ana.ID)
	require.Contains(t, refused, "refused")
	require.Contains(t, refused, "denied by denial of viewer over marketing/secret/**")
	require.Contains(t, refused, "missing: read on marketing/secret/a; ask")

	svc := do("service", "create", "checkout")
	do("access", "grant", svc, "viewer")
	secret := do("key", "create", "checkout, eu", "--owner", svc, "--inherits")
	require.Equal(t, 200, h.do(secret, "GET", "/api/v1/prompts/support%2Ftriage", "").status)
	require.Contains(t, do("key", "list"), svc)
	do("service", "end", svc)
	require.Equal(t, 401, h.do(secret, "GET", "/api/v1/me", "").status, "its keys end with it")
	binding, _, _ := strings.Cut(granted, ":")
	do("access", "revoke", binding)
	do("role", "delete", "promoter")
	do("group", "remove", group, ana.ID)
	do("group", "delete", group)
	for _, bad := range [][]string{
		{"access", "grant", "ana@example.com", "viewer", "--prompts", ""}, {"key", "create", "x", "--inherits"}, {"group", "add", "grp_x", "nobody"},
	} {
		_, errOut, code := runHere(t, append(bad, "--url", h.url, "--key", operator)...)
		require.Equal(t, exitUsage, code, "%s: %s", bad, errOut)
	}
}
