package admin_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/testenv/corpora"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

func TestBodiesAreReadStrictly(t *testing.T) {
	e := newEnv(t)
	for name, c := range map[string]struct {
		body text
		says string
	}{
		"unknown field":             {`{"name":"a","colour":"red"}`, "colour"},
		"unknown field below":       {`{"name":"a","content":{"messages":[{"role":"user","content":"x","colour":1}]}}`, "colour"},
		"project is not the body's": {`{"name":"a","project":"prj_other"}`, "project"},
		"id is not the body's":      {`{"name":"a","id":"pmpt_mine"}`, "id"},
		"duplicate key":             {`{"name":"a","name":"b"}`, "duplicate"},
		"duplicate escaped key":     {`{"name":"a","n\u0061me":"b"}`, "duplicate"},
		"duplicate key below":       {`{"name":"a","content":{"messages":[],"messages":[{"role":"user","content":"x"}]}}`, "duplicate"},
		"other case":                {`{"Name":"a"}`, "case"},
		"both cases":                {`{"name":"a","NAME":"b"}`, "case"},
		"other case below":          {`{"name":"a","content":{"Messages":[{"role":"user","content":"x"}]}}`, "case"},
		"wrong type":                {`{"name":7}`, "name"},
		"array":                     {`[]`, ""},
		"null":                      {`null`, ""},
		"cut":                       {`{"name":"a"`, "JSON"},
		"two values":                {`{"name":"a"}{"name":"b"}`, "JSON"},
		"comment":                   {`{"name":"a"/**/}`, "JSON"},
		"invalid UTF-8":             {"{\"name\":\"a\",\"description\":\"\xff\"}", "UTF-8"},
		"lone surrogate":            {`{"name":"a","description":"\ud800"}`, "UTF-8"},
		"deep":                      {text(`{"name":"a","content":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`), ""},
		"empty":                     {``, ""},
		"blank":                     {`   `, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := e.do(e.admin, "POST", "/prompts", c.body).refused(400, "invalid_request")
			require.Contains(t, strings.Join(append(p.Errors, p.Detail), "\n"), c.says)
		})
	}
	require.Empty(t, e.do(e.admin, "GET", "/prompts", nil).ok(200)["prompts"], "nothing of it was taken")

	e.do(e.admin, "POST", "/prompts", text(`{"name":"a","description":"`+strings.Repeat("x", 5<<20)+`"}`)).refused(413, "request_too_large")
	e.do(e.admin, "POST", "/prompts", text(`name: a`), "Content-Type", "application/yaml").refused(400, "invalid_request") // two content types
	many := map[string]any{"name": "a"}
	for _, c := range strings.Split(strings.Repeat("x,", 500), ",") {
		many[c+strings.Repeat("y", len(many))] = 1
	}
	p := e.do(e.admin, "POST", "/prompts", many).refused(400, "invalid_request")
	require.LessOrEqual(t, len(p.Errors), 20, "an answer does not grow with what was sent")
}

func TestQueriesAreReadStrictly(t *testing.T) {
	e := newEnv(t)
	for _, q := range []string{
		"colour=red", "Limit=1", "limit=0", "limit=201", "limit=-1", "limit=x", "limit=99999999999999999999", "limit=1&limit=2", "tag=%zz", "tag=%ff",
		"tag=%00", "tag=a;b", "archived=maybe", "after=%21", "after=" + base64.RawURLEncoding.EncodeToString([]byte("a\x00")), "q=" + strings.Repeat("x", 201),
		"after=" + strings.Repeat("x", 501), "=", "tag=", "folder=",
	} {
		t.Run(q, func(t *testing.T) { e.do(e.admin, "GET", "/prompts?"+q, nil).refused(400, "invalid_request") })
	}
	for _, path := range []string{
		"/calls?outcome=good", "/calls?since=yesterday", "/calls?after=YQ", "/calls?version=0", "/events?before=-1", "/events?limit=201", "/keys?after=YQ", "/projects?limit=0",
	} {
		if r := e.do(e.admin, "GET", path, nil); r.Status != 403 {
			r.refused(400, "invalid_request")
		}
	}
}

// naughty are strings that broke other programs; and the public list of such.
func naughty(t *testing.T) []string {
	out := []string{
		"", " ", "\x00", "a\x00b", "\u202e", "\ufeff", "Ω≈ç√∫", "👩‍👩‍👧", "'; DROP TABLE registry_prompts;--", "<script>alert(1)</script>", "../../etc/passwd",
		"%00", "%2e%2e%2f", "{{name}}", "{{{x}}}", "${7*7}", "null", "NaN", "1e999", "\\", "\"", "\r\nX-Evil: 1", strings.Repeat("a", 300), strings.Repeat("é", 101),
		"/", "//", "a//b", "/a", "a/", "pmpt_x", "drf_x", "prj_x", ".", "..", "a/..", "A", "support/triage@production", "--", "%", "_", "!", "latest", "@version",
	}
	return append(out, corpora.Naughty(t)...)
}

// TestNaughtyStringsAreTakenOrRefused: whatever text stands anywhere, the answer is a success or a clean refusal, and what was taken comes
// back as it was sent.
func TestNaughtyStringsAreTakenOrRefused(t *testing.T) {
	e := newEnv(t)
	e.prompt(e.shop, "a")
	clean := func(r reply) reply {
		t.Helper()
		require.Less(t, r.Status, 500, r.Body)
		if r.Status >= 400 {
			var p problem
			require.NoError(t, json.Unmarshal([]byte(r.Body), &p), r.Body)
			require.NotEmpty(t, p.Code, r.Body)
		}
		return r
	}
	for i, s := range naughty(t) {
		esc, q := url.PathEscape(s), url.QueryEscape(s)
		r := clean(e.do(e.admin, "PATCH", "/prompts/a", map[string]any{"description": s, "category": s, "owner": s, "tags": []string{s}}, "If-Match", "*"))
		if r.Status == 200 {
			got := r.ok(200)
			require.Equal(t, s, got["description"])
			require.Equal(t, []any{s}, got["tags"])
			found := clean(e.do(e.admin, "GET", "/prompts?tag="+q, nil))
			if found.Status == 200 && s != "" {
				require.Len(t, found.ok(200)["prompts"], 1, "%q", s)
			}
		}
		clean(e.do(e.admin, "GET", "/prompts?folder="+q+"&category="+q, nil))
		clean(e.do(e.admin, "GET", "/prompts?q="+q, nil))
		clean(e.do(e.admin, "POST", "/prompts", map[string]any{"name": s}))
		clean(e.do(e.admin, "POST", "/prompts", map[string]any{"name": "b", "aliases": []string{s}}))
		clean(e.do(e.admin, "POST", "/keys", map[string]any{"name": s, "roles": []string{s}, "networks": []string{s}}))
		clean(e.do(e.admin, "POST", "/providers", map[string]any{"name": s, "kind": "openai", "base_url": s, "credential": s, "organization": s, "models": []string{s}}))
		clean(e.do(e.admin, "POST", "/providers", map[string]any{"name": "x", "kind": "openai", "base_url": "https://" + s, "models": []string{s}}))
		if esc != "" && esc != "." && esc != ".." {
			clean(e.do(e.admin, "GET", "/prompts/"+esc, nil))
			clean(e.do(e.admin, "PUT", "/prompts/a/labels/"+esc, map[string]any{"version": 1}))
			clean(e.do(e.admin, "GET", "/prompts/a/labels/"+esc+"/history", nil))
			clean(e.do(e.admin, "GET", "/keys/"+esc, nil))
			clean(e.do(e.admin, "GET", "/providers/"+esc, nil))
			clean(e.do(e.admin, "DELETE", "/model-aliases/"+esc, nil))
			clean(e.do(e.admin, "GET", "/calls/"+esc, nil))
		}
		clean(e.do(e.admin, "GET", "/calls?label="+q+"&prompt="+q, nil))
		clean(e.do(e.admin, "GET", "/events?object="+q+"&action="+q+"&actor="+q, nil))
		if i%8 == 0 { // each makes a version
			clean(e.do(e.admin, "POST", "/prompts/a/versions", map[string]any{"content": content(s), "note": s}))
		}
	}
	require.NotContains(t, e.log.String(), "level=ERROR")
}

func TestWithoutAKeyNothingIsTold(t *testing.T) {
	e := newEnv(t)
	e.prompt(e.shop, "a")
	expiredNever := "pg_" + strings.Repeat("a", 40)
	for id, row := range e.api.Access() {
		path := strings.TrimPrefix(row.Path, "/api/v1")
		path = strings.NewReplacer("{prompt}", "a", "{label}", "production", "{version}", "1", "{key}", "key_x", "{provider}", "prov_x", "{alias}", "x", "{call}", "call_x",
			"{limit}", "lim_x", "{user}", "usr_x", "{group}", "grp_x", "{binding}", "bnd_x", "{role}", "x", "{service}", "svc_x", "{job}", "job_x", "{review}", "rvw_x", "{line}", "1", "{scim_token}", "scim_x", "{session}", "ses_x").Replace(path)
		require.NotContains(t, path, "{", id)
		for _, key := range []string{"", "x", expiredNever} {
			// A body that breaks the rules, and one that is no JSON: neither is looked at.
			r := e.do(key, row.Method, path, text(`{"nonsense":`))
			r.refused(401, "invalid_api_key")
			require.Equal(t, "Bearer", r.Header.Get("WWW-Authenticate"), id)
		}
		r := e.do(e.admin, row.Method, path, nil, "Authorization", "Bearer "+expiredNever)
		r.refused(401, "invalid_api_key") // two credentials
		r = e.do(e.admin, row.Method, path, nil, "X-Api-Key", expiredNever)
		r.refused(401, "invalid_api_key") // in whichever headers
	}
}

func TestPermissionsComeBeforeTheBody(t *testing.T) {
	e := newEnv(t)
	viewer := e.key(e.shop, "viewer")
	e.prompt(e.shop, "a")
	e.do(viewer, "POST", "/keys", text(`{`)).refused(403, "permission_denied")
	e.do(viewer, "POST", "/prompts/a/versions", text(`{`)).refused(403, "permission_denied")
	e.do(viewer, "POST", "/prompts", map[string]any{"name": "b"}).refused(403, "permission_denied")
	e.do(viewer, "PATCH", "/prompts/a", map[string]any{"tags": []string{}}).refused(403, "permission_denied")
}

func TestWhyMustBeStorable(t *testing.T) {
	e := newEnv(t)
	e.do(e.admin, "POST", "/prompts", map[string]any{"name": "a"}, "X-Promptgate-Why", "caf\xe9").refused(400, "invalid_request")
	e.do(e.admin, "POST", "/prompts", map[string]any{"name": "a"}, "X-Promptgate-Why", strings.Repeat("x", 1001)).refused(400, "invalid_request")
	e.do(e.admin, "POST", "/prompts", map[string]any{"name": "a"}, "X-Promptgate-Why", "für Jörg").ok(201)
	require.Equal(t, "für Jörg", e.do(e.admin, "GET", "/events", nil).ok(200)["events"].([]any)[0].(map[string]any)["why"])
}

// TestListsShowWhatAKeyMayRead: neither entries, nor the presence of a next page, nor what a cursor holds tells of the rest.
func TestListsShowWhatAKeyMayRead(t *testing.T) {
	e := newEnv(t)
	for _, name := range []string{"a/hidden", "b/hidden", "m/one", "m/two", "n/hidden", "o/hidden", "z/hidden"} {
		_, err := e.service.CreatePrompt(t.Context(), system, registry.PromptInput{Project: e.shop, Name: name, Description: "d"})
		require.NoError(t, err)
	}
	e.prompt(e.other, "m/foreign")
	viewer := e.key(e.shop, "viewer:m/**")
	for _, limit := range []string{"1", "2", "3", "200"} {
		require.Equal(t, []string{"m/one", "m/two"}, e.pages(viewer, "/prompts?limit="+limit, "prompts", "name"))
	}
	require.Len(t, e.pages(e.admin, "/prompts?limit=2", "prompts", "name"), 7)
	first := e.do(viewer, "GET", "/prompts?limit=1", nil).ok(200)
	cursor, err := base64.RawURLEncoding.DecodeString(first["next"].(string))
	require.NoError(t, err)
	require.Equal(t, "m/one", string(cursor))
	require.NotContains(t, e.do(viewer, "GET", "/prompts?limit=2", nil).ok(200), "next", "only hidden ones follow")
	require.Empty(t, e.pages(viewer, "/prompts?folder=a", "prompts", "name"))
	require.Empty(t, e.pages(viewer, "/prompts?q=hidden", "prompts", "name"))
	require.Empty(t, e.pages(e.key(e.shop), "/prompts", "prompts", "name"), "a key without grants")
	require.Equal(t, []string{"m/two"}, e.pages(viewer, "/prompts?limit=1&after="+first["next"].(string), "prompts", "name"))
}

// TestForeignThingsAreNotThere: what belongs to another project looks like what never was, byte by byte.
func TestForeignThingsAreNotThere(t *testing.T) {
	e := newEnv(t)
	stranger := e.prompt(e.other, "their/prompt")
	otherAdmin := e.key(e.other, policy.RoleAdmin)
	theirKey, _ := e.keyWith(policy.KeyRecord{Project: e.other, Roles: []string{"viewer"}})
	theirProvider := e.do(otherAdmin, "POST", "/providers", map[string]any{"name": "p", "kind": "echo"}).ok(201)["id"].(string)
	for _, c := range []struct{ method, path, theirs, nobodys string }{
		{"GET", "/prompts/%", stranger.ID, "pmpt_" + strings.Repeat("0", 26)},
		{"GET", "/prompts/%", "their%2Fprompt", "no%2Fprompt"},
		{"PATCH", "/prompts/%", stranger.ID, "pmpt_0"},
		{"GET", "/prompts/%/versions/1", stranger.ID, "pmpt_0"},
		{"POST", "/prompts/%/versions", stranger.ID, "pmpt_0"},
		{"PUT", "/prompts/%/labels/production", stranger.ID, "pmpt_0"},
		{"GET", "/keys/%", theirKey, "key_0"},
		{"PATCH", "/keys/%", theirKey, "key_0"},
		{"DELETE", "/keys/%", theirKey, "key_0"},
		{"GET", "/providers/%", theirProvider, "prov_0"},
		{"PATCH", "/providers/%", theirProvider, "prov_0"},
		{"DELETE", "/providers/%", theirProvider, "prov_0"},
	} {
		var body any
		switch {
		case c.method == "PATCH" && strings.HasPrefix(c.path, "/keys"):
			body = map[string]any{"name": "mine"}
		case c.method == "PATCH" && strings.HasPrefix(c.path, "/providers"):
			body = map[string]any{"enabled": false}
		case c.method == "PATCH":
			body = map[string]any{"description": "mine"}
		case c.method == "PUT":
			body = map[string]any{"version": 1}
		case c.method == "POST":
			body = map[string]any{"content": content("x")}
		}
		send := func(id string) reply {
			return e.do(e.admin, c.method, strings.Replace(c.path, "%", id, 1), body, "If-Match", "*")
		}
		theirs, nobodys := send(c.theirs), send(c.nobodys)
		require.Equal(t, http.StatusNotFound, theirs.Status, theirs.Body)
		require.Equal(t, nobodys.Status, theirs.Status)
		require.Equal(t, nobodys.Body, theirs.Body, c.method+" "+c.path)
	}
	require.Empty(t, e.do(e.admin, "GET", "/events?object=prompt:"+stranger.ID, nil).ok(200)["events"])
	require.NotContains(t, e.do(e.admin, "GET", "/keys?limit=200", nil).Body, theirKey)
	cursor := e.do(otherAdmin, "GET", "/keys?limit=1", nil).ok(200)["next"].(string)
	require.NotContains(t, e.do(e.admin, "GET", "/keys?after="+cursor, nil).Body, theirKey, "another project's cursor opens nothing")
}

// TestFoldersHold: rights in one folder give nothing in another, by no detour.
func TestFoldersHold(t *testing.T) {
	e := newEnv(t)
	_, err := e.service.CreatePrompt(t.Context(), system, registry.PromptInput{Project: e.shop, Name: "finance/secret", Kind: registry.KindText})
	require.NoError(t, err)
	e.do(e.admin, "POST", "/prompts/finance%2Fsecret/versions", map[string]any{"content": content("the secret text")}).ok(201)
	e.do(e.admin, "POST", "/prompts", map[string]any{"name": "support/style", "kind": "text", "content": content("be nice")}).ok(201)
	editor := e.key(e.shop, "editor:support/**")

	e.do(editor, "POST", "/prompts", map[string]any{"name": "finance/new"}).refused(403, "permission_denied")
	e.do(editor, "POST", "/prompts", map[string]any{"name": "finance/secret"}).refused(403, "permission_denied") // as one that is not there
	e.do(editor, "POST", "/prompts", map[string]any{"name": "support/new"}).ok(201)

	taken := e.do(editor, "POST", "/prompts", map[string]any{"name": "support/x", "aliases": []string{"finance/secret"}})
	taken.refused(403, "permission_denied")
	free := e.do(editor, "POST", "/prompts", map[string]any{"name": "support/x", "aliases": []string{"finance/public"}})
	require.Equal(t, strings.Replace(taken.Body, "finance/secret", "finance/public", 1), free.Body, "no handle is taken, or found out, in another folder")
	e.do(editor, "PATCH", "/prompts/support%2Fnew", map[string]any{"aliases": []string{"finance/y"}}, "If-Match", "*").refused(403, "permission_denied")
	e.do(editor, "PATCH", "/prompts/support%2Fnew", map[string]any{"name": "finance/new"}, "If-Match", "*").refused(403, "permission_denied")
	e.do(editor, "PATCH", "/prompts/support%2Fnew", map[string]any{"aliases": []string{"support/newer", "pmpt_from_openai"}}, "If-Match", "*").ok(200)

	for _, dry := range []bool{true, false} {
		e.do(editor, "POST", "/prompts/support%2Fnew/versions", map[string]any{"content": content("{{> support/style@1}}"), "dry_run": dry, "note": "x"})
		secret := e.do(editor, "POST", "/prompts/support%2Fnew/versions", map[string]any{"content": content("{{> finance/secret@1}}"), "dry_run": dry})
		secret.refused(400, "invalid_template")
		none := e.do(editor, "POST", "/prompts/support%2Fnew/versions", map[string]any{"content": content("{{> finance/nothing@1}}"), "dry_run": dry})
		require.Equal(t, strings.Replace(none.Body, "finance/nothing", "finance/secret", 1), secret.Body, "what may not be read cannot be included, and looks absent")
	}
	e.do(editor, "POST", "/prompts", map[string]any{"name": "support/thief", "content": content("{{> finance/secret@1}}")}).refused(400, "invalid_template")
	e.do(e.admin, "POST", "/prompts/support%2Fnew/versions", map[string]any{"content": content("{{> finance/secret@1}}")}).ok(201)
}

func TestAnswersAreTheCallersAlone(t *testing.T) {
	e := newEnv(t)
	for path, status := range map[string]int{"/me": 200, "/prompts": 200, "/prompts/none": 404, "/nowhere": 404, "/prompts/a/b/c/d": 404, "": 404} {
		a := e.do(e.admin, "GET", path, nil)
		require.Equal(t, status, a.Status, path)
		require.Equal(t, "nosniff", a.Header.Get("X-Content-Type-Options"), path)
		require.Equal(t, "no-store", a.Header.Get("Cache-Control"), path)
		if status == 404 && path != "/prompts/none" {
			a.refused(404, "not_found")
		}
	}
	e.do("", "GET", "/me", nil).refused(401, "invalid_api_key")
	require.Equal(t, "no-store", e.do("", "GET", "/me", nil).Header.Get("Cache-Control"))

	wrong := e.do(e.admin, "POST", "/me", nil)
	wrong.refused(405, "invalid_request")
	require.Equal(t, "GET", wrong.Header.Get("Allow"))
	require.Equal(t, "no-store", wrong.Header.Get("Cache-Control"))
	e.do(e.admin, "PUT", "/keys/key_x", nil).refused(405, "invalid_request")

	require.Equal(t, http.StatusTeapot, e.do(e.admin, "GET", "beta", nil).Status, "/api/v1beta is not ours")
	resp, err := e.client.Get(e.url + "/openapi.json")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, "nosniff", resp.Header.Get("X-Content-Type-Options"))
	require.Empty(t, resp.Header.Get("Cache-Control"))
}
