package admin_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/policy"
)

// TestPeople walks through what an operator and a project's admin do: an account, a group, a role of the project's own, who holds what, and why.
func TestPeople(t *testing.T) {
	e := newEnv(t)
	_, operator := e.keyWith(policy.KeyRecord{Project: e.shop, Name: "operator", Grants: []policy.Grant{policy.OperatorGrant()}})
	user := e.do(operator, "POST", "/users", map[string]any{"email": "Ana@Example.com", "name": "Ana"}).ok(201)
	id := user["id"].(string)
	assert.Equal(t, "ana@example.com", user["email"])
	assert.Equal(t, "invited", user["state"])
	e.do(operator, "POST", "/users", map[string]any{"email": "ana@example.com"}).refused(409, "conflict")
	e.do(e.admin, "GET", "/users", nil).refused(403, "permission_denied") // an admin is nobody's operator

	patch := e.do(operator, "PATCH", "/users/"+id, map[string]any{"state": "active"}, "If-Match", "*").ok(200)
	assert.Equal(t, "active", patch["state"])
	e.do(operator, "PATCH", "/users/"+id, map[string]any{"name": "A"}, "If-Match", `"1"`).refused(412, "precondition_failed")

	e.do(e.admin, "PUT", "/roles/caller", map[string]any{"actions": []string{"call", "read"}}).ok(200)
	group := e.do(operator, "POST", "/groups", map[string]any{"name": "Support"}).ok(201)["id"].(string)
	e.do(operator, "PUT", "/groups/"+group+"/members/"+id, nil).ok(204)
	bound := e.do(e.admin, "POST", "/bindings", map[string]any{
		"subject": group, "role": "caller", "prompts": []string{"support/**"}, "labels": []string{"production"}, "reason": "first line",
	}).ok(201)
	assert.Equal(t, "Support", bound["subject_name"])
	e.do(e.admin, "POST", "/bindings", map[string]any{"email": "ana@example.com", "role": "viewer", "effect": "deny", "prompts": []string{"support/secret/**"}}).ok(201)
	e.do(e.admin, "POST", "/bindings", map[string]any{"email": "bo@example.com", "role": "viewer"}).refused(404, "not_found")
	e.do(operator, "POST", "/bindings", map[string]any{"subject": id, "role": "admin"}).refused(403, "permission_denied")
	members := e.do(e.admin, "GET", "/members", nil).ok(200)["users"].([]any)
	require.Len(t, members, 1)
	got := e.do(operator, "GET", "/users/"+id, nil).ok(200)
	assert.Equal(t, []any{group}, got["groups"])
	assert.Equal(t, []any{e.shop}, got["projects"])

	ask := func(key string, q map[string]any) map[string]any {
		return e.do(key, "POST", "/access/explain", q).ok(200)
	}
	why := ask(e.admin, map[string]any{"principal": id, "action": "call", "prompt": "support/a", "label": "production"})
	assert.Equal(t, true, why["allowed"])
	reason := why["reasons"].([]any)[0].(map[string]any)
	assert.Equal(t, bound["id"], reason["binding"])
	assert.Equal(t, "Support", reason["through_name"])
	assert.Equal(t, "first line", reason["reason"])
	why = ask(e.admin, map[string]any{"principal": id, "action": "read", "prompt": "support/secret/a"})
	assert.Equal(t, false, why["allowed"])
	assert.Equal(t, "deny", why["reasons"].([]any)[0].(map[string]any)["effect"])
	assert.NotEmpty(t, why["ask"])
	assert.Equal(t, "read on support/secret/a", why["missing"])
	viewer := e.key(e.shop, policy.RoleViewer)
	e.do(viewer, "POST", "/access/explain", map[string]any{"principal": id, "action": "read"}).refused(403, "permission_denied")
	assert.Equal(t, false, ask(viewer, map[string]any{"action": "manage_keys"})["allowed"])
	e.do(viewer, "POST", "/access/explain", map[string]any{"action": "fly"}).refused(400, "invalid_request")
	e.do(e.admin, "POST", "/access/explain", map[string]any{"principal": "usr_none", "action": "read"}).refused(404, "not_found")

	svc := e.do(e.admin, "POST", "/service-accounts", map[string]any{"name": "till"}).ok(201)["id"].(string)
	e.do(e.admin, "POST", "/bindings", map[string]any{"subject": svc, "role": "viewer"}).ok(201)
	made := e.do(e.admin, "POST", "/keys", map[string]any{"name": "till", "owner": svc, "inherits": true}).ok(201)
	assert.Equal(t, svc, made["owner"])
	e.do(e.admin, "POST", "/keys", map[string]any{"name": "x", "owner": id, "inherits": true}).refused(403, "permission_denied")
	e.do(e.admin, "GET", "/me/keys", nil).refused(403, "permission_denied")
	e.do(e.admin, "DELETE", "/roles/caller", nil).refused(409, "conflict")
	e.do(e.admin, "DELETE", "/bindings/"+bound["id"].(string), nil).ok(204)
	e.do(e.admin, "DELETE", "/roles/caller", nil).ok(204)
	e.do(operator, "DELETE", "/groups/"+group, nil).ok(204)
}
