package admin_test

import (
	"fmt"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/metrics/metricstest"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

func TestPromptsVersionsAndLabels(t *testing.T) {
	e := newEnv(t)
	made := e.do(e.admin, "POST", "/prompts", map[string]any{
		"name": "support/triage", "description": "Sorts tickets", "tags": []string{"b", "a"}, "content": content("Triage {{ticket}}"), "note": "first",
	}, "X-Promptgate-Why", "the desk asked")
	p := made.ok(201)
	require.Equal(t, "support/triage", p["name"])
	require.Equal(t, []any{"a", "b"}, p["tags"])
	require.EqualValues(t, 1, p["latest_version"])
	require.Equal(t, "/api/v1/prompts/"+p["id"].(string), made.Header.Get("Location"))
	require.NotEmpty(t, made.Header.Get("X-Promptgate-Revision"))
	require.Equal(t, `"`+made.Header.Get("X-Promptgate-Revision")+`"`, made.Header.Get("ETag"))

	for _, handle := range []string{"support%2Ftriage", p["id"].(string)} {
		at := "/prompts/" + handle
		got := e.do(e.admin, "GET", at, nil)
		require.Equal(t, p["id"], got.ok(200)["id"], handle)
		require.Equal(t, made.Header.Get("ETag"), got.Header.Get("ETag"))

		v := e.do(e.admin, "GET", at+"/versions/1", nil).ok(200)
		require.Equal(t, "first", v["note"])
		require.Equal(t, "Triage {{ticket}}", v["content"].(map[string]any)["messages"].([]any)[0].(map[string]any)["content"])
	}
	at := "/prompts/support%2Ftriage"

	dry := e.do(e.admin, "POST", at+"/versions", map[string]any{"content": content("Sort {{ticket}}"), "dry_run": true})
	require.Contains(t, dry.ok(200)["digest"], "sha256:")
	require.Empty(t, dry.Header.Get("X-Promptgate-Revision"), "nothing was changed")
	saved := e.do(e.admin, "POST", at+"/versions", map[string]any{"content": content("Sort {{ticket}}"), "latest": 1})
	require.EqualValues(t, 2, saved.ok(201)["version"])
	require.Equal(t, made.Header.Get("Location")+"/versions/2", saved.Header.Get("Location"))
	again := e.do(e.admin, "POST", at+"/versions", map[string]any{"content": content("Sort {{ticket}}")}).ok(200)
	require.Equal(t, true, again["unchanged"])
	e.do(e.admin, "POST", at+"/versions", map[string]any{"content": content("Order {{ticket}}"), "latest": 1}).refused(409, "conflict")
	require.Len(t, e.do(e.admin, "GET", at+"/versions", nil).ok(200)["versions"], 2)
	diff := e.do(e.admin, "GET", at+"/diff?from=1&to=2", nil).ok(200)
	require.Contains(t, diff["messages"].([]any)[0].(map[string]any)["unified"], "+Sort {{ticket}}")
	e.do(e.admin, "GET", at+"/diff?from=1", nil).refused(400, "invalid_request")
	e.do(e.admin, "GET", at+"/versions/9", nil).refused(404, "version_not_found")

	moved := e.do(e.admin, "PUT", at+"/labels/production", map[string]any{"version": 1, "from": 0})
	require.EqualValues(t, 1, moved.ok(200)["version"])
	require.NotEmpty(t, moved.Header.Get("X-Promptgate-Revision"))
	e.do(e.admin, "PUT", at+"/labels/production", map[string]any{"version": 2, "from": 1}, "X-Promptgate-Why", "better figures").ok(200)
	lost := e.do(e.admin, "PUT", at+"/labels/production", map[string]any{"version": 1, "from": 1}).refused(409, "conflict")
	require.Contains(t, lost.Detail, "points at version 2 now")
	require.Equal(t, "from", lost.Param)
	back := e.do(e.admin, "POST", at+"/labels/production/rollback", map[string]any{"from": 2})
	require.EqualValues(t, 1, back.ok(200)["version"])
	history := e.do(e.admin, "GET", at+"/labels/production/history", nil).ok(200)["events"].([]any)
	require.Len(t, history, 3)
	require.Equal(t, "better figures", history[1].(map[string]any)["why"])
	require.Len(t, e.do(e.admin, "GET", at+"/labels", nil).ok(200)["labels"], 1)
	e.do(e.admin, "DELETE", at+"/labels/production?from=2", nil).refused(409, "conflict")
	gone := e.do(e.admin, "DELETE", at+"/labels/production?from=1", nil)
	gone.ok(204)
	require.NotEmpty(t, gone.Header.Get("X-Promptgate-Revision"))
	e.do(e.admin, "GET", at+"/labels/never/history", nil).refused(404, "label_not_found")
	for _, label := range []string{"latest", "7", "Production", "a%20b", "%C3%A9"} {
		e.do(e.admin, "PUT", at+"/labels/"+label, map[string]any{"version": 1}).refused(400, "invalid_request")
	}
	e.do(e.admin, "PUT", at+"/labels/production", map[string]any{"version": 99}).refused(404, "version_not_found")

	events := e.do(e.admin, "GET", "/events?action=label.*&details=true", nil).ok(200)["events"].([]any)
	require.Len(t, events, 4)
	require.Equal(t, "better figures", events[2].(map[string]any)["why"])
	created := e.do(e.admin, "GET", "/events?action=prompt.create", nil).ok(200)["events"].([]any)
	require.Equal(t, "the desk asked", created[0].(map[string]any)["why"])
	require.Equal(t, "127.0.0.1", created[0].(map[string]any)["from"])
}

func TestArchivedPromptsTakeNoVersions(t *testing.T) {
	e := newEnv(t)
	p := e.prompt(e.shop, "support/triage")
	const at = "/prompts/support%2Ftriage"
	e.do(e.admin, "PATCH", at, map[string]any{"archived": true}, "If-Match", "*").ok(200)
	for _, dry := range []bool{true, false} {
		refused := e.do(e.admin, "POST", at+"/versions", map[string]any{"content": content("New {{name}}"), "dry_run": dry}).refused(409, "conflict")
		require.Contains(t, refused.Detail, "restore it first")
	}
	_, err := e.store.AddVersion(t.Context(), system, registry.Version{Project: e.shop, PromptID: p.ID})
	require.Equal(t, fault.Conflict, fault.CodeOf(err), "archived after the question was judged")
	e.do(e.admin, "PATCH", at, map[string]any{"archived": false}, "If-Match", "*").ok(200)
	e.do(e.admin, "POST", at+"/versions", map[string]any{"content": content("New {{name}}")}).ok(201)
}

func TestEditsNeedTheETagThatWasRead(t *testing.T) {
	e := newEnv(t)
	e.prompt(e.shop, "support/triage")
	id, _ := e.keyWith(policy.KeyRecord{Project: e.shop, Roles: []string{"viewer"}})
	prov := e.do(e.admin, "POST", "/providers", map[string]any{"name": "echo", "kind": "echo"}).ok(201)["id"].(string)
	for at, patches := range map[string][2]map[string]any{
		"/prompts/support%2Ftriage": {{"description": "a"}, {"description": "b"}},
		"/project":                  {{"description": "a"}, {"description": "b"}},
		"/keys/" + id:               {{"name": "a"}, {"name": "b"}},
		"/providers/" + prov:        {{"models": []string{"a"}}, {"models": []string{"b"}}},
	} {
		t.Run(at, func(t *testing.T) {
			read := e.do(e.admin, "GET", at, nil)
			tag := read.Header.Get("ETag")
			require.Regexp(t, `^"[0-9]+"$`, tag)
			for _, missing := range [][]string{nil, {"If-Match", `"0"`}, {"If-Match", `"-1"`}, {"If-Match", `W/` + tag}, {"If-Match", `"99999999999999999999"`}, {"If-Match", tag + `,"1"`}} {
				p := e.do(e.admin, "PATCH", at, patches[0], missing...).refused(412, "precondition_failed")
				require.Contains(t, p.Detail, "Send the ETag that you read in If-Match")
				require.Equal(t, "If-Match", p.Param)
			}
			changed := e.do(e.admin, "PATCH", at, patches[0], "If-Match", tag)
			changed.ok(200)
			require.NotEqual(t, tag, changed.Header.Get("ETag"))
			require.Equal(t, `"`+changed.Header.Get("X-Promptgate-Revision")+`"`, changed.Header.Get("ETag"))
			e.do(e.admin, "PATCH", at, patches[1], "If-Match", tag).refused(412, "precondition_failed")
			require.Equal(t, changed.Body, e.do(e.admin, "GET", at, nil).Body, "the stale edit changed nothing")
			e.do(e.admin, "PATCH", at, patches[1], "If-Match", "*").ok(200)
		})
	}
}

func TestKeys(t *testing.T) {
	e := newEnv(t)
	made := e.do(e.admin, "POST", "/keys", map[string]any{
		"name": "checkout", "roles": []string{"viewer"}, "networks": []string{"10.0.0.0/8"}, "expires_at": "2099-01-01T00:00:00Z",
		"grants": []any{map[string]any{"actions": []string{"call"}, "prompts": []string{"support/**"}, "labels": []string{"production"}}},
	})
	k := made.ok(201)
	secret, id := k["key"].(string), k["id"].(string)
	require.Equal(t, "/api/v1/keys/"+id, made.Header.Get("Location"))
	require.Equal(t, secret[len(secret)-4:], k["last_four"])
	got := e.do(e.admin, "GET", "/keys/"+id, nil)
	require.Equal(t, "checkout", got.ok(200)["name"])
	require.Len(t, e.do(e.admin, "GET", "/keys", nil).ok(200)["keys"], 2)
	e.do(secret, "GET", "/me", nil).refused(403, "permission_denied") // not from this address
	e.do(e.admin, "PATCH", "/keys/"+id, map[string]any{"networks": []string{}}, "If-Match", got.Header.Get("ETag")).ok(200)
	require.Equal(t, id, e.do(secret, "GET", "/me", nil).ok(200)["id"])
	require.Equal(t, e.shop, e.do(secret, "GET", "/project", nil).ok(200)["id"])

	require.NotContains(t, k, "last_call_at")
	call := metricstest.Sample(e.shop, 100)
	call.Principal = id
	require.NoError(t, e.ledger.RecordCall(t.Context(), call))
	require.NoError(t, e.ledger.Flush(t.Context()))
	called := func(key any) any { return key.(map[string]any)["last_call_at"] }
	for _, key := range e.do(e.admin, "GET", "/keys", nil).ok(200)["keys"].([]any) {
		if key.(map[string]any)["id"] != id {
			require.Nil(t, called(key), "the admin's makes no calls")
			continue
		}
		require.Equal(t, "2026-11-20T12:01:00Z", called(key))
	}
	require.Equal(t, "2026-11-20T12:01:00Z", called(e.do(e.admin, "GET", "/keys/"+id, nil).ok(200)))
	require.Equal(t, "2026-11-20T12:01:00Z", called(e.do(e.admin, "PATCH", "/keys/"+id, map[string]any{"name": "till"}, "If-Match", "*").ok(200)))
	e.read.broken.Store(true) // who looks for a key to revoke finds it all the same
	unread := e.do(e.admin, "GET", "/keys/"+id, nil).ok(200)
	require.Equal(t, []any{nil, true}, []any{called(unread), unread["last_call_unknown"]})
	e.read.broken.Store(false)

	revoked := e.do(e.admin, "DELETE", "/keys/"+id, nil, "X-Promptgate-Why", "left us")
	require.NotEmpty(t, revoked.ok(200)["revoked_at"])
	require.NotEmpty(t, revoked.Header.Get("X-Promptgate-Revision"))
	e.do(secret, "GET", "/me", nil).refused(401, "invalid_api_key")
	e.do(e.admin, "DELETE", "/keys/"+id, nil).ok(200)
	e.do(e.admin, "PATCH", "/keys/"+id, map[string]any{"name": "x"}, "If-Match", "*").refused(409, "conflict")

	for _, answer := range []string{got.Body, revoked.Body, e.do(e.admin, "GET", "/keys", nil).Body, e.do(e.admin, "GET", "/events?details=true", nil).Body, e.log.String()} {
		require.NotContains(t, answer, secret, "a key is shown once")
		require.NotContains(t, answer, secret[3:20])
	}
	for name, bad := range map[string]map[string]any{
		"no name":        {"name": "", "roles": []string{"viewer"}},
		"no role":        {"name": "x", "roles": []string{"owner"}},
		"network":        {"name": "x", "networks": []string{"everywhere"}},
		"past":           {"name": "x", "expires_at": "2001-01-01T00:00:00Z"},
		"year 1":         {"name": "x", "expires_at": "0001-01-01T00:00:00Z"},
		"year 10000":     {"name": "x", "expires_at": "9999-12-31T23:59:59-23:59"},
		"grant's year 1": {"name": "x", "grants": []any{map[string]any{"actions": []string{"call"}, "prompts": []string{"**"}, "expires": "0001-01-01T00:00:00Z"}}},
		"grant's year":   {"name": "x", "grants": []any{map[string]any{"actions": []string{"call"}, "prompts": []string{"**"}, "expires": "9999-12-31T23:59:59-23:59"}}},
		"action":         {"name": "x", "grants": []any{map[string]any{"actions": []string{"fly"}, "prompts": []string{"**"}}}},
		"grant's field":  {"name": "x", "grants": []any{map[string]any{"actions": []string{"call"}, "prompts": []string{"**"}, "until": 1}}},
		"grant's case":   {"name": "x", "grants": []any{map[string]any{"Actions": []string{"call"}, "prompts": []string{"**"}}}},
	} {
		t.Run(name, func(t *testing.T) { e.do(e.admin, "POST", "/keys", bad).refused(400, "invalid_request") })
	}
}

func TestAnExpiryCanBeTakenAway(t *testing.T) {
	e := newEnv(t)
	id, _ := e.keyWith(policy.KeyRecord{Project: e.shop, Roles: []string{"viewer"}, Expires: time.Now().Add(time.Hour)})
	at := "/keys/" + id
	patch := func(body string) map[string]any {
		return e.do(e.admin, "PATCH", at, text(body), "If-Match", "*").ok(200)
	}
	require.Contains(t, patch(`{"name":"kept"}`), "expires_at", "what is not named stays")
	require.Equal(t, "2099-01-01T00:00:00Z", patch(`{"expires_at":"2099-01-01T00:00:00Z"}`)["expires_at"])
	require.NotContains(t, patch(`{"expires_at":null}`), "expires_at")
	require.NotContains(t, e.do(e.admin, "GET", at, nil).ok(200), "expires_at")
	for _, bad := range []string{`"soon"`, `5`, `{}`, `"2001-01-01T00:00:00Z"`, `"0001-01-01T00:00:00Z"`, `"9999-12-31T23:59:59-23:59"`} {
		e.do(e.admin, "PATCH", at, text(`{"expires_at":`+bad+`}`), "If-Match", "*").refused(400, "invalid_request")
	}
	for _, bad := range []string{`{"expires_at":"0001-01-01T00:00:00Z"}`, `{"grants":[{"actions":["read"],"prompts":["a"],"expires":"0001-01-01T00:00:00Z"}]}`} {
		got := e.do(e.admin, "PATCH", at, text(bad), "If-Match", "*")
		got.refused(400, "invalid_request")
		require.Contains(t, got.Body, "The time of expiry is year 1: choose a later one, or leave it out.")
	}
	schema := e.api.OpenAPI().Components.Schemas.Map()["KeyPatch"].Properties["expires_at"]
	require.True(t, schema.Nullable)
}

// If-Match: * is for whoever wants the edit on whatever is there: no race is lost.
func TestEditsOfWhateverIsThereAllHappen(t *testing.T) {
	e := newEnv(t)
	id, _ := e.keyWith(policy.KeyRecord{Project: e.shop, Roles: []string{"viewer"}})
	prov := e.do(e.admin, "POST", "/providers", map[string]any{"name": "echo", "kind": "echo"}).ok(201)["id"].(string)
	e.prompt(e.shop, "support/triage")
	for at, field := range map[string]string{
		"/keys/" + id: "name", "/providers/" + prov: "name", "/project": "description", "/prompts/support%2Ftriage": "description",
	} {
		t.Run(at, func(t *testing.T) {
			var writers sync.WaitGroup
			statuses := make([]int, 8)
			for i := range statuses {
				writers.Go(func() {
					statuses[i] = e.do(e.admin, "PATCH", at, map[string]any{field: fmt.Sprint("w", i)}, "If-Match", "*").Status
				})
			}
			writers.Wait()
			require.Equal(t, slices.Repeat([]int{200}, len(statuses)), statuses)
		})
	}
}

func TestNobodyGrantsMoreThanTheyHold(t *testing.T) {
	e := newEnv(t)
	_, keeper := e.keyWith(policy.KeyRecord{Project: e.shop, Roles: []string{"viewer"}, Grants: []policy.Grant{{Actions: []policy.Action{policy.ActionManageKeys}}}})
	e.do(keeper, "POST", "/keys", map[string]any{"name": "x", "roles": []string{"viewer"}}).ok(201)
	for _, more := range []map[string]any{
		{"name": "x", "roles": []string{"admin"}},
		{"name": "x", "roles": []string{"editor:support/**"}},
		{"name": "x", "grants": []any{map[string]any{"actions": []string{"call"}, "prompts": []string{"a"}}}},
		{"name": "x", "grants": []any{map[string]any{"actions": []string{"create_project"}}}},
	} {
		e.do(keeper, "POST", "/keys", more).refused(403, "permission_denied")
	}
	for _, roles := range [][]string{{"admin"}, {"editor:support/**"}} {
		above, secret := e.keyWith(policy.KeyRecord{Project: e.shop, Roles: roles})
		p := e.do(keeper, "DELETE", "/keys/"+above, nil).refused(403, "permission_denied")
		require.Contains(t, p.Detail, "may do what yours may not")
		e.do(keeper, "PATCH", "/keys/"+above, map[string]any{"roles": []string{}}, "If-Match", "*").refused(403, "permission_denied")
		e.do(secret, "GET", "/me", nil).ok(200)
	}
	weak := e.do(keeper, "POST", "/keys", map[string]any{"name": "weak", "roles": []string{"viewer"}}).ok(201)["id"].(string)
	e.do(keeper, "PATCH", "/keys/"+weak, map[string]any{"roles": []string{"admin"}}, "If-Match", "*").refused(403, "permission_denied")
	e.do(e.admin, "POST", "/keys", map[string]any{"name": "x", "grants": []any{map[string]any{"actions": []string{"create_project"}}}}).refused(403, "permission_denied")
}

func TestAMovedPromptIsNotToldFromNone(t *testing.T) {
	e := newEnv(t)
	e.prompt(e.shop, "support/moved")
	e.do(e.admin, "PATCH", "/prompts/support%2Fmoved", map[string]any{"name": "secret/moved"}, "If-Match", "*").ok(200)
	_, key := e.keyWith(policy.KeyRecord{Project: e.shop, Roles: []string{"viewer:support/**"}})
	for _, path := range []string{"", "/versions", "/labels/production/history"} {
		e.do(key, "GET", "/prompts/support%2Fmoved"+path, nil).refused(404, "prompt_not_found")
		e.do(key, "GET", "/prompts/support%2Fnever"+path, nil).refused(404, "prompt_not_found")
	}
	for _, name := range []string{"moved", "never"} { // what the key may not do anywhere in the folder is refused alike
		e.do(key, "PUT", "/prompts/support%2F"+name+"/labels/staging", map[string]any{"version": 1}).refused(403, "permission_denied")
	}
}

func TestProvidersAndAliases(t *testing.T) {
	e := newEnv(t)
	const credential = "sk-canary-4242424242"
	made := e.do(e.admin, "POST", "/providers", map[string]any{
		"name": "openai", "kind": "openai", "base_url": "https://api.openai.com/v1", "credential": credential, "models": []string{"gpt-*"},
	})
	id := made.ok(201)["id"].(string)
	at := "/providers/" + id
	require.Equal(t, "/api/v1"+at, made.Header.Get("Location"))
	require.Equal(t, true, e.do(e.admin, "GET", at, nil).ok(200)["has_credential"])
	moved := e.do(e.admin, "PATCH", at, map[string]any{"base_url": "https://thief.example/v1"}, "If-Match", "*").refused(400, "invalid_request")
	require.Equal(t, "credential", moved.Param, "a stored credential does not follow a changed address")
	e.do(e.admin, "POST", "/providers", map[string]any{"name": "near", "kind": "openai", "base_url": "http://127.0.0.1/v1"}).refused(400, "invalid_request")
	e.do(e.admin, "POST", "/providers", map[string]any{"name": "openai", "kind": "echo"}).refused(409, "conflict")
	e.do(e.admin, "POST", "/providers", map[string]any{"name": "x", "kind": "openai", "base_url": "https://a.example", "credential": credential + "\n"}).refused(400, "invalid_request")
	e.do(e.admin, "POST", "/providers", map[string]any{"name": "x", "kind": "openai", "base_url": "https://a.example", "credential": []string{credential}}).refused(400, "invalid_request")

	list := e.do(e.admin, "GET", "/providers", nil).ok(200)["providers"].([]any)
	require.Len(t, list, 2)
	house := list[1].(map[string]any)
	require.Equal(t, []any{"", "house", true, "mistral", true}, []any{house["id"], house["name"], house["configured"], house["catalogue"], house["has_credential"]},
		"the operator's are listed")
	require.Equal(t, []any{false, "openai"}, []any{list[0].(map[string]any)["configured"], list[0].(map[string]any)["catalogue"]})
	prices := map[string]any{"catalogue": "none", "prices": []any{map[string]any{"model": "gpt-*", "from": "2026-01-01T00:00:00Z", "input": 2.5, "output": 10.0}}}
	priced := e.do(e.admin, "PATCH", at, map[string]any{"price_list": prices}, "If-Match", "*")
	require.Equal(t, prices, priced.ok(200)["price_list"])
	require.Equal(t, "none", e.do(e.admin, "GET", at, nil).ok(200)["catalogue"])
	made = e.do(e.admin, "PATCH", at, map[string]any{"name": "openai"}, "If-Match", "*")
	require.Equal(t, prices, made.ok(200)["price_list"], "what is not named stays")
	for _, wrong := range []any{
		map[string]any{"catalogue": "opnai"},
		map[string]any{"prices": []any{map[string]any{"model": "m", "input": -1}}},
		map[string]any{"prices": []any{map[string]any{"model": "m"}}},
	} {
		require.Equal(t, "price_list", e.do(e.admin, "PATCH", at, map[string]any{"price_list": wrong}, "If-Match", "*").refused(400, "invalid_request").Param)
	}

	alias := map[string]any{"targets": []any{map[string]any{"provider": "openai", "model": "gpt-4o"}}}
	e.do(e.admin, "PUT", "/model-aliases/lost", map[string]any{"targets": []any{map[string]any{"provider": "opnai", "model": "gpt-4o"}}}).refused(400, "invalid_request")
	e.do(e.admin, "PUT", "/model-aliases/mixed", map[string]any{"targets": []any{map[string]any{"provider": "house", "model": "m"}}}).ok(200)
	e.do(e.admin, "DELETE", "/model-aliases/mixed", nil).ok(204)
	e.do(e.admin, "POST", "/prompts", map[string]any{"name": "pricing/aliased"}).ok(201)
	named := func(prompt string) any {
		return map[string]any{"targets": []any{map[string]any{"prompt": prompt}}}
	}
	for _, wrong := range []string{"support/nobody@production", "pricing/aliased@Production", "@production", "pricing/aliased@"} {
		e.do(e.admin, "PUT", "/model-aliases/gpt-4o-triage", named(wrong)).refused(400, "invalid_request")
	}
	e.do(e.admin, "PUT", "/model-aliases/gpt-4o-triage", map[string]any{"targets": []any{map[string]any{"provider": "house", "model": "m", "prompt": "support/triage"}}}).
		refused(400, "invalid_request")
	e.do(e.admin, "PUT", "/model-aliases/gpt-4o-triage", named("pricing/aliased@production")).ok(200)
	e.do(e.admin, "DELETE", "/model-aliases/gpt-4o-triage", nil).ok(204)
	put := e.do(e.admin, "PUT", "/model-aliases/fast", alias)
	put.ok(200)
	e.do(e.admin, "PUT", "/model-aliases/fast", alias).refused(409, "conflict")
	e.do(e.admin, "PUT", "/model-aliases/fast", alias, "If-Match", "*").refused(412, "precondition_failed")
	e.do(e.admin, "PUT", "/model-aliases/fast", alias, "If-Match", `"1"`).refused(412, "precondition_failed")
	e.do(e.admin, "PUT", "/model-aliases/fast", alias, "If-Match", put.Header.Get("ETag")).ok(200)
	require.Len(t, e.do(e.admin, "GET", "/model-aliases", nil).ok(200)["aliases"], 1)
	e.do(e.admin, "DELETE", at, nil).refused(409, "conflict") // the alias names it
	e.do(e.admin, "DELETE", "/model-aliases/fast", nil, "If-Match", put.Header.Get("ETag")).refused(412, "precondition_failed")
	gone := e.do(e.admin, "DELETE", "/model-aliases/fast", nil)
	gone.ok(204)
	require.NotEmpty(t, gone.Header.Get("X-Promptgate-Revision"))
	e.do(e.admin, "DELETE", at, nil, "If-Match", `"1"`).refused(412, "precondition_failed")
	e.do(e.admin, "DELETE", at, nil, "If-Match", "yes").refused(412, "precondition_failed")
	gone = e.do(e.admin, "DELETE", at, nil, "If-Match", made.Header.Get("ETag"))
	gone.ok(204)
	require.NotEmpty(t, gone.Header.Get("X-Promptgate-Revision"))
	e.do(e.admin, "DELETE", at, nil).refused(404, "not_found")

	for _, answer := range []string{made.Body, moved.Detail, e.do(e.admin, "GET", "/providers", nil).Body, e.do(e.admin, "GET", "/events?details=true", nil).Body, e.log.String()} {
		require.NotContains(t, answer, "canary")
	}
}

func TestProjects(t *testing.T) {
	e := newEnv(t)
	_, root := e.keyWith(policy.KeyRecord{Project: e.shop, Grants: []policy.Grant{{Actions: []policy.Action{policy.ActionCreateProject}}}})
	e.do(root, "POST", "/projects", map[string]any{"name": "third"}).ok(201)
	e.do(root, "POST", "/projects", map[string]any{"name": "third"}).refused(409, "conflict")
	require.Len(t, e.do(root, "GET", "/projects", nil).ok(200)["projects"], 3)
	own := e.do(e.admin, "GET", "/projects", nil).ok(200)["projects"].([]any)
	require.Len(t, own, 1, "a project's key sees its own")
	require.Equal(t, e.shop, own[0].(map[string]any)["id"])
	e.do(e.admin, "POST", "/projects", map[string]any{"name": "fourth"}).refused(403, "permission_denied")
	e.do(e.admin, "PATCH", "/project", map[string]any{"default_label": "latest"}, "If-Match", "*").refused(400, "invalid_request")
	require.Equal(t, "staging", e.do(e.admin, "PATCH", "/project", map[string]any{"default_label": "staging"}, "If-Match", "*").ok(200)["default_label"])
}

func TestCallsAndFigures(t *testing.T) {
	e := newEnv(t)
	triage, secret := e.prompt(e.shop, "support/triage"), e.prompt(e.shop, "finance/secret")
	start := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	var calls []metrics.Call
	for i := range 9 {
		c := metrics.Call{ID: fmt.Sprintf("call_%02d", i), Start: start.Add(time.Duration(i) * time.Second), Principal: "key_x", Total: time.Second}
		switch i % 3 {
		case 0:
			c.PromptID, c.PromptName, c.Version, c.Label = triage.ID, triage.Name, 1, "production"
		case 1:
			c.PromptID, c.PromptName, c.Version = secret.ID, secret.Name, 1
		}
		calls = append(calls, c)
	}
	e.record(calls...)
	score := true
	require.NoError(t, e.ledger.RecordFeedback(t.Context(), &metrics.Feedback{ID: "fb_1", Project: e.shop, CallID: "call_00", Name: "helpful", Bool: &score, Source: "user", At: start}))
	viewer := e.key(e.shop, "viewer:support/**")

	require.Equal(t, []string{"call_08", "call_07", "call_06", "call_05", "call_04", "call_03", "call_02", "call_01", "call_00"}, e.pages(e.admin, "/calls?limit=2", "calls", "id"))
	for _, limit := range []int{1, 2, 3, 200} {
		require.Equal(t, []string{"call_06", "call_03", "call_00"}, e.pages(viewer, fmt.Sprintf("/calls?limit=%d", limit), "calls", "id"))
	}
	require.Equal(t, []string{"call_06"}, e.pages(viewer, "/calls?since="+start.Add(5*time.Second).Format(time.RFC3339Nano), "calls", "id"))
	require.Empty(t, e.pages(viewer, "/calls?prompt=finance/secret", "calls", "id"))
	require.Equal(t, e.do(viewer, "GET", "/calls?prompt=finance/none", nil).Body, e.do(viewer, "GET", "/calls?prompt=finance/secret", nil).Body)
	require.Equal(t, []string{"call_07", "call_04", "call_01"}, e.pages(e.admin, "/calls?prompt=finance/secret", "calls", "id"))
	require.Equal(t, triage.ID, e.do(viewer, "GET", "/calls/call_00", nil).ok(200)["prompt_id"])
	hidden := e.do(viewer, "GET", "/calls/call_01", nil)
	hidden.refused(404, "call_not_found")
	require.Equal(t, hidden.Body, e.do(viewer, "GET", "/calls/call_99", nil).Body)
	require.Equal(t, hidden.Body, e.do(viewer, "GET", "/calls/call_02", nil).Body, "calls without a prompt are the admins'")

	stats := e.do(viewer, "GET", "/prompts/support%2Ftriage/stats?by=label", nil).ok(200)["stats"].([]any)
	require.EqualValues(t, 3, stats[0].(map[string]any)["calls"])
	stats = e.do(viewer, "GET", "/prompts/support%2Ftriage/stats?by=key,model", nil).ok(200)["stats"].([]any)
	require.NotEmpty(t, stats[0].(map[string]any)["key"])
	for _, bad := range []string{"prompt", "caller", "key,key", "key;model"} {
		e.do(viewer, "GET", "/prompts/support%2Ftriage/stats?by="+url.QueryEscape(bad), nil).refused(400, "invalid_request")
	}
	require.Eventually(t, func() bool {
		return len(e.do(viewer, "GET", "/prompts/support%2Ftriage/feedback", nil).ok(200)["feedback"].([]any)) == 1
	}, 10*time.Second, 5*time.Millisecond)
}

// What a list costs is bounded by what is shown and by the number of prompts, not by how many calls are hidden.
func TestHiddenCallsAreNotScanned(t *testing.T) {
	e := newEnv(t)
	seen, hidden := e.prompt(e.shop, "support/triage"), e.prompt(e.shop, "finance/secret")
	start := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	var calls []metrics.Call
	var want, loose []string
	for i := range 9000 {
		c := metrics.Call{ID: fmt.Sprintf("call_%05d", i), Start: start.Add(time.Duration(i) * time.Millisecond), PromptID: hidden.ID, PromptName: hidden.Name, Version: 1}
		switch i {
		case 10, 11, 12:
			c.PromptID, c.PromptName, want = seen.ID, seen.Name, append([]string{c.ID}, want...)
		case 20:
			c.PromptID, c.PromptName, c.Version, loose = "", "", 0, append(loose, c.ID)
		}
		calls = append(calls, c)
	}
	e.record(calls...)
	_, manager := e.keyWith(policy.KeyRecord{Project: e.shop, Grants: []policy.Grant{{Actions: []policy.Action{policy.ActionManageProject}}}})
	for _, c := range []struct {
		name, key, path string
		want            []string
		most            int64
	}{
		{"nothing to see", e.key(e.shop, "viewer:none/**"), "/calls", nil, 2500},
		{"one prompt of two", e.key(e.shop, "viewer:support/**"), "/calls?limit=2", want, 2 * 2500},
		{"calls without a prompt", manager, "/calls", loose, 2500},
		{"a hidden prompt, named", e.key(e.shop, "viewer:support/**"), "/calls?prompt=finance/secret", nil, 0},
		{"a prompt, named", e.key(e.shop, "viewer:support/**"), "/calls?prompt=support/triage", want, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := e.read.calls.Load()
			require.Equal(t, c.want, e.pages(c.key, c.path, "calls", "id"))
			require.LessOrEqual(t, e.read.calls.Load()-before, c.most)
		})
	}
}

// pages walks a list by its cursors and returns one field of each entry.
func (e *env) pages(key, path, list, field string) (out []string) {
	e.t.Helper()
	u, err := url.Parse(path)
	require.NoError(e.t, err)
	q := u.Query()
	for range 100 {
		u.RawQuery = q.Encode()
		body := e.do(key, "GET", u.String(), nil).ok(200)
		for _, entry := range body[list].([]any) {
			out = append(out, entry.(map[string]any)[field].(string))
		}
		next, _ := body["next"].(string)
		if next == "" {
			return out
		}
		require.NotEmpty(e.t, body[list], "a page that has a next one shows something")
		q.Set("after", next)
	}
	require.Fail(e.t, "the list never ends")
	return nil
}
