package admin_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
)

// TestReadingByLabel: a key that may read what production points at sees that version in every answer, and nothing of any other.
func TestReadingByLabel(t *testing.T) {
	e := newEnv(t)
	p := e.prompt(e.shop, "support/triage") // version 1 is production
	at := "/prompts/support%2Ftriage"
	const secret = "canary {{secret_variable}}"
	e.do(e.admin, "POST", at+"/versions", map[string]any{"content": content(secret), "note": "canary note"}).ok(201)
	e.do(e.admin, "PUT", at+"/labels/canary-label", map[string]any{"version": 2}).ok(200)
	start := time.Now().Add(-time.Minute)
	e.record(
		metrics.Call{ID: "call_one", PromptID: p.ID, PromptName: p.Name, Version: 1, Label: "production", Start: start, Principal: "key_x"},
		metrics.Call{ID: "call_canary", PromptID: p.ID, PromptName: p.Name, Version: 2, Label: "canary-label", Start: start.Add(time.Second), Principal: "key_x", Model: "canary-model"},
	)
	_, key := e.keyWith(policy.KeyRecord{Project: e.shop, Grants: []policy.Grant{
		{Actions: []policy.Action{policy.ActionRead}, Prompts: []string{"support/*"}, Labels: []string{"production"}},
	}})
	for _, path := range []string{
		"/prompts", "/prompts?q=triage", at, at + "/versions", at + "/versions/1", at + "/labels", at + "/labels/production/history", "/calls", "/calls?prompt=support%2Ftriage",
		"/calls?version=2", "/calls?label=canary-label", "/calls/call_one", at + "/stats", at + "/stats?by=label", at + "/feedback?version=1", at + "/diff?from=1&to=1",
	} {
		r := e.do(key, "GET", path, nil)
		require.Equal(t, 200, r.Status, "%s: %s", path, r.Body)
		require.NotContains(t, r.Body, "canary", path)
		require.NotContains(t, r.Body, "secret_variable", path)
	}
	require.EqualValues(t, 1, e.do(key, "GET", at, nil).ok(200)["latest_version"], "how far the versions go is no business of this key's")
	require.Len(t, e.do(key, "GET", at+"/versions", nil).ok(200)["versions"], 1)
	require.Len(t, e.do(key, "GET", "/calls", nil).ok(200)["calls"], 1)
	require.Len(t, e.do(key, "GET", at+"/stats", nil).ok(200)["stats"], 1)

	// What it may not read is answered like what is not there.
	for hidden, absent := range map[string]string{
		at + "/versions/2":                  at + "/versions/9",
		at + "/diff?from=1&to=2":            at + "/diff?from=1&to=9",
		at + "/labels/canary-label/history": at + "/labels/nothing-here/history",
		"/calls/call_canary":                "/calls/call_nothing",
		at + "/feedback?version=2":          at + "/feedback?version=9",
	} {
		r, none := e.do(key, "GET", hidden, nil), e.do(key, "GET", absent, nil)
		require.Equal(t, 404, r.Status, "%s: %s", hidden, r.Body)
		plain := strings.NewReplacer("canary-label", "X", "nothing-here", "X", "version 2", "version N", "version 9", "version N").Replace
		require.Equal(t, plain(none.Body), plain(r.Body), hidden)
	}
	e.do(key, "GET", at+"/stats?by=model", nil).refused(403, "permission_denied")
	e.do(key, "GET", at+"/feedback", nil).refused(400, "invalid_request")

	// The label moves, and what may be read moves with it; a key without labels, or with "*", reads every version.
	e.do(e.admin, "PUT", at+"/labels/production", map[string]any{"version": 2, "force": true}, "X-Promptgate-Why", "test").ok(200)
	require.Contains(t, e.do(key, "GET", at+"/versions/2", nil).Body, "canary")
	e.do(key, "GET", at+"/versions/1", nil).refused(404, "version_not_found")
	for _, labels := range [][]string{nil, {"*"}} {
		_, all := e.keyWith(policy.KeyRecord{Project: e.shop, Grants: []policy.Grant{
			{Actions: []policy.Action{policy.ActionRead}, Prompts: []string{"support/*"}, Labels: labels},
		}})
		for n := 1; n <= 2; n++ {
			e.do(all, "GET", fmt.Sprintf("%s/versions/%d", at, n), nil).ok(200)
		}
	}
}

// TestMovingNeedsTheRightsAtBothEnds: who renames a prompt gets nothing by it that it did not have, and takes nothing into a folder that it could not
// put there otherwise: text that others read there, labels that others call.
func TestMovingNeedsTheRightsAtBothEnds(t *testing.T) {
	e := newEnv(t)
	on := func(pattern string, labels []string, actions ...policy.Action) policy.Grant {
		return policy.Grant{Actions: actions, Prompts: []string{pattern}, Labels: labels}
	}
	const read, write, move, call = policy.ActionRead, policy.ActionWrite, policy.ActionMoveLabel, policy.ActionCall
	for name, c := range map[string]struct {
		grants []policy.Grant
		status int
		lacks  string
	}{
		"all of it":                  {[]policy.Grant{on("support/**", nil, read, write, move), on("mine/**", nil, read, write, move)}, 200, ""},
		"reads by moving":            {[]policy.Grant{on("support/**", nil, write, move), on("mine/**", nil, read, write, move, call)}, 403, "read on support/x@version"},
		"reads one label by moving":  {[]policy.Grant{on("support/**", nil, write, move), on("support/**", []string{"production"}, read), on("mine/**", nil, read, write, move)}, 403, "read on support/x@version"},
		"brings what it cannot read": {[]policy.Grant{on("support/**", nil, read, write, move), on("mine/**", nil, write, move)}, 403, "read on mine/x@version"},
		"no write there":             {[]policy.Grant{on("support/**", nil, read, write, move), on("mine/**", nil, read, move)}, 403, "write on mine/x"},
		"takes a label along":        {[]policy.Grant{on("support/**", nil, read, write, move), on("mine/**", nil, read, write)}, 403, "move_label on mine/x@production"},
		"takes a label away":         {[]policy.Grant{on("support/**", nil, read, write), on("mine/**", nil, read, write, move)}, 403, "move_label on support/x@production"},
		"only another label":         {[]policy.Grant{on("support/**", nil, read, write, move), on("mine/**", nil, read, write), on("mine/**", []string{"staging"}, move)}, 403, "move_label on mine/x@production"},
		"as call":                    {[]policy.Grant{on("support/**", nil, write), on("mine/**", nil, read, call)}, 403, ""},
	} {
		t.Run(name, func(t *testing.T) {
			project := e.project(strings.ReplaceAll(name, " ", "-"))
			p := e.prompt(project, "support/x")
			_, key := e.keyWith(policy.KeyRecord{Project: project, Grants: c.grants})
			for _, query := range []string{"?dry_run=true", ""} {
				r := e.do(key, "PATCH", "/prompts/"+p.ID+query, map[string]any{"name": "mine/x"}, "If-Match", "*")
				require.Equal(t, c.status, r.Status, r.Body)
				require.Contains(t, r.Body, c.lacks)
			}
			now, err := e.service.Prompt(t.Context(), project, p.ID)
			require.NoError(t, err)
			require.Equal(t, map[bool]string{true: "mine/x", false: "support/x"}[c.status == 200], now.Name)
		})
	}
}

// TestARenameSaysWhoseAccessItChanges, before it does, and can carry along the grants that name the prompt.
func TestARenameSaysWhoseAccessItChanges(t *testing.T) {
	e := newEnv(t)
	p := e.prompt(e.shop, "f/t1")
	call := []policy.Action{policy.ActionCall}
	exact, _ := e.keyWith(policy.KeyRecord{Name: "exact", Project: e.shop, Grants: []policy.Grant{{Actions: call, Prompts: []string{"f/t1"}, Labels: []string{"production"}}}})
	denied, _ := e.keyWith(policy.KeyRecord{Name: "denied", Project: e.shop, Grants: []policy.Grant{
		{Actions: call, Prompts: []string{"**"}}, {Effect: policy.EffectDeny, Actions: call, Prompts: []string{"f/t1"}}}})
	brief, _ := e.keyWith(policy.KeyRecord{Name: "brief", Project: e.shop, Expires: time.Now().Add(time.Hour),
		Grants: []policy.Grant{{Actions: call, Prompts: []string{"f/t1"}}}})
	_, _ = e.keyWith(policy.KeyRecord{Name: "unconcerned", Project: e.shop, Grants: []policy.Grant{{Actions: call, Prompts: []string{"**"}}}})
	want := []any{
		map[string]any{"key": exact, "name": "exact", "loses": []any{"call@production"}, "gains": []any{}},
		map[string]any{"key": denied, "name": "denied", "loses": []any{}, "gains": []any{"call@production"}},
	}
	rename := func(query string, name string) reply {
		return e.do(e.admin, "PATCH", "/prompts/"+p.ID+query, map[string]any{"name": name}, "If-Match", "*")
	}
	dry := rename("?dry_run=true", "g/t1").ok(200)
	require.ElementsMatch(t, append(want, map[string]any{"key": brief, "name": "brief", "loses": []any{"call@production"}, "gains": []any{}}), dry["access_changes"])
	e.ahead.Store(int64(2 * time.Hour)) // the brief one has expired
	require.Equal(t, "g/t1", dry["name"])
	require.Equal(t, "f/t1", e.do(e.admin, "GET", "/prompts/"+p.ID, nil).ok(200)["name"], "nothing was renamed")
	require.ElementsMatch(t, want, rename("", "g/t1").ok(200)["access_changes"])
	rename("", "f/t1").ok(200)

	// A name that is taken: the grants are as they were.
	e.prompt(e.shop, "g/taken")
	rename("?carry_grants=true", "g/taken").refused(409, "conflict")
	grants := func(id string) string {
		k, err := e.keys.KeyByID(t.Context(), e.shop, id)
		require.NoError(t, err)
		return fmt.Sprint(k.Grants)
	}
	require.NotContains(t, grants(exact), "g/taken")

	rename("?carry_grants=true", "h/t1").ok(200)
	require.Contains(t, grants(exact), "h/t1")
	require.Contains(t, grants(denied), "h/t1")
	again := rename("?dry_run=true", "f/t1").ok(200)
	require.NotContains(t, again, "access_changes", "both names are granted now")

	// Who may not manage keys is told of none, and carries none.
	editor := e.key(e.shop, policy.RoleEditor)
	r := e.do(editor, "PATCH", "/prompts/"+p.ID+"?dry_run=true", map[string]any{"name": "g/t2"}, "If-Match", "*")
	require.NotContains(t, r.ok(200), "access_changes")
	e.do(editor, "PATCH", "/prompts/"+p.ID+"?carry_grants=true", map[string]any{"name": "g/t2"}, "If-Match", "*").refused(403, "permission_denied")
}

// TestEmptyIsNotAny: a list or a label that somebody's script left empty is refused, never taken for everything.
func TestEmptyIsNotAny(t *testing.T) {
	e := newEnv(t)
	for name, grant := range map[string]map[string]any{
		"labels":         {"actions": []string{"call"}, "prompts": []string{"a/**"}, "labels": []string{}},
		"a label":        {"actions": []string{"call"}, "prompts": []string{"a/**"}, "labels": []string{""}},
		"prompts":        {"actions": []string{"read"}, "prompts": []string{}},
		"a prompt":       {"actions": []string{"call"}, "prompts": []string{""}},
		"models":         {"actions": []string{"read"}, "models": []string{}},
		"a model":        {"actions": []string{"call"}, "models": []string{""}},
		"a folder":       {"actions": []string{"call"}, "prompts": []string{"/**"}},
		"actions":        {"actions": []string{}, "prompts": []string{"a"}},
		"an action":      {"actions": []string{""}, "prompts": []string{"a"}},
		"nothing at all": {},
	} {
		e.do(e.admin, "POST", "/keys", map[string]any{"name": name, "grants": []any{grant}}).refused(400, "invalid_request")
	}
	e.do(e.admin, "POST", "/keys", map[string]any{"name": "x", "networks": []string{}, "roles": []string{"viewer"}}).refused(400, "invalid_request")
	for _, role := range []string{"", "editor:", "editor:/**"} {
		e.do(e.admin, "POST", "/keys", map[string]any{"name": "x", "roles": []string{role}}).refused(400, "invalid_request")
	}
}
