package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// directory makes a directory's token.
func (h *house) directory(name string, domains ...string) string {
	h.t.Helper()
	token, lookup, hash, err := h.app.stores.scimIssuer()
	require.NoError(h.t, err)
	_, err = h.app.stores.keys.CreateSCIMToken(h.t.Context(), stage, policy.SCIMToken{
		Directory: name, Lookup: lookup, Hash: hash, LastFour: token[len(token)-4:], Domains: domains,
	})
	require.NoError(h.t, err)
	return token
}

// provisioner is a directory that talks to an installation.
type provisioner struct {
	*house
	token string
}

// installation starts one replica on a database.
func installation(t *testing.T, url, data, project string) *house {
	t.Helper()
	cfg := configs.Default()
	cfg.Addr, cfg.Data, cfg.Database.URL = "127.0.0.1:0", data, url
	cfg.Encryption.MasterKey = strings.Repeat("A", 43) + "="
	cfg.Providers = []configs.Provider{{Name: "echo", Kind: "echo"}}
	require.NoError(t, cfg.Validate())
	a, err := newApp(t.Context(), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	a.start()
	t.Cleanup(a.stop)
	_, err = a.stores.ensureProject(t.Context(), stage, project)
	require.NoError(t, err)
	return &house{t: t, app: a, url: "http://" + a.addr()}
}

func newProvisioner(t *testing.T) *provisioner {
	h := installation(t, testenv.SQLite(t), t.TempDir(), "shop")
	return &provisioner{h, h.directory("okta", "example.com")}
}

// say sends a request and returns its answer; headers are name, value pairs.
func (p *provisioner) say(method, path, body string, headers ...string) (int, map[string]any, http.Header) {
	p.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.url+"/scim/v2"+path, in)
	require.NoError(p.t, err)
	req.Header.Set("Authorization", "Bearer "+p.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/scim+json; charset=utf-8")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	out := map[string]any{}
	if len(raw) > 0 {
		require.Equal(p.t, "application/scim+json", resp.Header.Get("Content-Type"))
		require.NoError(p.t, json.Unmarshal(raw, &out), string(raw))
	}
	return resp.StatusCode, out, resp.Header
}

func (p *provisioner) ok(want int, method, path, body string, headers ...string) map[string]any {
	p.t.Helper()
	status, out, _ := p.say(method, path, body, headers...)
	require.Equal(p.t, want, status, "%s %s: %v", method, path, out)
	return out
}

func patchOf(ops string) string {
	return `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[` + ops + `]}`
}

func userOf(name string, more string) string {
	return `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"` + name + `"` + more + `}`
}

func query(filter string) string {
	return "?filter=" + strings.NewReplacer(" ", "%20", `"`, "%22", "[", "%5B", "]", "%5D").Replace(filter)
}

// TestSCIMAsOktaSpeaksIt follows Okta's documentation of its SCIM 2.0 client: look for the account, make it, update it as a whole, deactivate it by a PATCH
// without a path, push a group and its members.
func TestSCIMAsOktaSpeaksIt(t *testing.T) {
	p := newProvisioner(t)
	found := p.ok(200, "GET", "/Users"+query(`userName eq "ana@example.com"`)+"&startIndex=1&count=100", "")
	require.EqualValues(t, 0, found["totalResults"])
	require.Equal(t, []any{}, found["Resources"])
	made := p.ok(201, "POST", "/Users", userOf("ana@example.com", `,"name":{"givenName":"Ana","familyName":"Lee"},"emails":[{"primary":true,"value":"ana@example.com","type":"work"}],
		"displayName":"Ana Lee","locale":"en-US","externalId":"00u1","groups":[],"password":"1mz050nq","active":true`))
	id, _ := made["id"].(string)
	require.Regexp(t, `^usr_`, id)
	require.Equal(t, "Lee", made["name"].(map[string]any)["familyName"])
	require.NotContains(t, fmt.Sprint(made), "1mz050nq", "a password is neither kept nor repeated")
	p.ok(409, "POST", "/Users", userOf("ANA@example.com", `,"active":true`))
	got := p.ok(200, "GET", "/Users/"+id, "")
	require.Equal(t, made, got)
	put := p.ok(200, "PUT", "/Users/"+id, userOf("ana@example.com", `,"id":"`+id+`","name":{"givenName":"Anna","familyName":"Lee"},"emails":[{"primary":true,"value":"anna@example.com","type":"work"}],"externalId":"00u1","active":true`))
	require.Equal(t, "Anna", put["name"].(map[string]any)["givenName"])
	a, err := p.app.stores.keys.Account(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "anna@example.com", a.Email)
	require.Equal(t, "Anna Lee", a.Name)
	off := p.ok(200, "PATCH", "/Users/"+id, patchOf(`{"op":"replace","value":{"active":false}}`))
	require.Equal(t, false, off["active"])
	on := p.ok(200, "PATCH", "/Users/"+id, patchOf(`{"op":"replace","value":{"active":true}}`))
	require.Equal(t, true, on["active"])

	group := p.ok(201, "POST", "/Groups", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"Support","members":[{"value":"`+id+`","display":"ana@example.com"}]}`)
	gid, _ := group["id"].(string)
	require.Len(t, group["members"], 1)
	renamed := p.ok(200, "PATCH", "/Groups/"+gid, patchOf(`{"op":"replace","value":{"id":"`+gid+`","displayName":"Support team"}}`))
	require.Equal(t, "Support team", renamed["displayName"])
	require.Len(t, renamed["members"], 1)
	gone := p.ok(200, "PATCH", "/Groups/"+gid, patchOf(`{"op":"remove","path":"members[value eq \"`+id+`\"]"}`))
	require.Equal(t, []any{}, gone["members"])
	back := p.ok(200, "PATCH", "/Groups/"+gid, patchOf(`{"op":"add","path":"members","value":[{"value":"`+id+`","display":"ana@example.com"}]}`))
	require.Len(t, back["members"], 1)
	replaced := p.ok(200, "PUT", "/Groups/"+gid, `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"Support team","members":[]}`)
	require.Equal(t, []any{}, replaced["members"])
	p.ok(204, "DELETE", "/Groups/"+gid, "")
	p.ok(404, "GET", "/Groups/"+gid, "")
}

// TestSCIMAsEntraSpeaksIt follows Microsoft's documentation of the Entra provisioning service: filters by userName and externalId, operations with a
// capital, truth values as words, paths with filters, members removed by value, groups without their members.
func TestSCIMAsEntraSpeaksIt(t *testing.T) {
	p := newProvisioner(t)
	require.EqualValues(t, 0, p.ok(200, "GET", "/Users"+query(`externalId eq "58342554"`), "")["totalResults"])
	made := p.ok(201, "POST", "/Users", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],
		"externalId":"58342554","userName":"bo@example.com","active":true,"displayName":"Bo","emails":[{"primary":true,"type":"work","value":"bo@example.com"}],
		"meta":{"resourceType":"User"},"name":{"formatted":"Bo Li","familyName":"Li","givenName":"Bo"},"roles":[],
		"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"x"}}`)
	id, _ := made["id"].(string)
	require.EqualValues(t, 1, p.ok(200, "GET", "/Users"+query(`externalId eq "58342554"`), "")["totalResults"])
	require.EqualValues(t, 1, p.ok(200, "GET", "/Users"+query(`userName eq "BO@example.com" and active eq true`), "")["totalResults"])
	require.EqualValues(t, 1, p.ok(200, "GET", "/Users"+query(`emails[type eq "work"].value eq "bo@example.com"`), "")["totalResults"])
	changed := p.ok(200, "PATCH", "/Users/"+id, patchOf(`
		{"op":"Replace","path":"emails[type eq \"work\"].value","value":"bob@example.com"},
		{"op":"Replace","path":"name.familyName","value":"Lim"},
		{"op":"Add","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department","value":"Sales"},
		{"op":"Replace","value":{"displayName":"Bob","name.givenName":"Bob"}}`))
	require.Equal(t, "bob@example.com", changed["emails"].([]any)[0].(map[string]any)["value"])
	require.Equal(t, map[string]any{"formatted": "Bo Li", "familyName": "Lim", "givenName": "Bob"}, changed["name"])
	require.Equal(t, "Bob", changed["displayName"])
	off := p.ok(200, "PATCH", "/Users/"+id, patchOf(`{"op":"Replace","path":"active","value":"False"}`))
	require.Equal(t, false, off["active"])
	a, err := p.app.stores.keys.Account(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, policy.UserDeactivated, a.State)
	require.Equal(t, "bob@example.com", a.Email)
	p.ok(200, "PATCH", "/Users/"+id, patchOf(`{"op":"Replace","path":"active","value":"True"}`))

	other := p.ok(201, "POST", "/Users", userOf("cy@example.com", ""))["id"].(string)
	group := p.ok(201, "POST", "/Groups", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"externalId":"8aa1","displayName":"Editors","meta":{"resourceType":"Group"}}`)
	gid, _ := group["id"].(string)
	listed := p.ok(200, "GET", "/Groups"+query(`displayName eq "editors"`)+"&excludedAttributes=members", "")
	require.EqualValues(t, 1, listed["totalResults"])
	require.NotContains(t, listed["Resources"].([]any)[0], "members")
	p.ok(200, "PATCH", "/Groups/"+gid, patchOf(`{"op":"Add","path":"members","value":[{"$ref":null,"value":"`+id+`"},{"$ref":null,"value":"`+other+`"}]}`))
	require.EqualValues(t, 1, p.ok(200, "GET", "/Groups"+query(`id eq "`+gid+`" and members eq "`+id+`"`), "")["totalResults"])
	left := p.ok(200, "PATCH", "/Groups/"+gid, patchOf(`{"op":"Remove","path":"members","value":[{"$ref":null,"value":"`+id+`"}]}`))
	require.Len(t, left["members"], 1)
	require.Equal(t, other, left["members"].([]any)[0].(map[string]any)["value"], "the other one stays")
	p.ok(200, "PATCH", "/Groups/"+gid, patchOf(`{"op":"Replace","path":"displayName","value":"Writers"}`))
	p.ok(204, "DELETE", "/Users/"+id, "")
	p.ok(404, "GET", "/Users/"+id, "")
	p.ok(404, "DELETE", "/Users/"+id, "")
}

// TestSCIMConformance is RFC 7644 in a table.
func TestSCIMConformance(t *testing.T) {
	p := newProvisioner(t)
	id := p.ok(201, "POST", "/Users", userOf("ana@example.com", ""))["id"].(string)
	gid := p.ok(201, "POST", "/Groups", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"g"}`)["id"].(string)
	u, g := "/Users/"+id, "/Groups/"+gid
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		kind               string
	}{
		"no schemas (3.1)":              {"POST", "/Users", `{"userName":"x@example.com"}`, 400, "invalidValue"},
		"another schema":                {"POST", "/Users", `{"schemas":["urn:x"],"userName":"x@example.com"}`, 400, "invalidValue"},
		"no JSON (3.12)":                {"POST", "/Users", `{`, 400, "invalidSyntax"},
		"an array":                      {"POST", "/Users", `[]`, 400, "invalidSyntax"},
		"a name twice":                  {"POST", "/Users", userOf("x@example.com", `,"userName":"y@example.com"`), 400, "invalidSyntax"},
		"a name twice in another case":  {"POST", "/Users", userOf("x@example.com", `,"UserName":"y@example.com"`), 400, "invalidSyntax"},
		"no userName":                   {"POST", "/Users", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"]}`, 400, "invalidValue"},
		"a userName of another type":    {"POST", "/Users", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":7}`, 400, "invalidValue"},
		"no address":                    {"POST", "/Users", userOf("ana", ""), 400, "invalidValue"},
		"active that is neither":        {"POST", "/Users", userOf("x@example.com", `,"active":"maybe"`), 400, "invalidValue"},
		"uniqueness (3.3)":              {"POST", "/Users", userOf("ana@example.com", ""), 409, "uniqueness"},
		"an address of another domain":  {"POST", "/Users", userOf("x@example.net", ""), 403, ""},
		"a group's name twice":          {"POST", "/Groups", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"g"}`, 409, "uniqueness"},
		"a group without a name":        {"POST", "/Groups", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"]}`, 400, "invalidValue"},
		"a member that is not":          {"POST", "/Groups", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"h","members":[{"value":"usr_none"}]}`, 400, "invalidValue"},
		"a group in a group":            {"PATCH", g, patchOf(`{"op":"add","path":"members","value":[{"value":"` + gid + `","type":"Group"}]}`), 400, "invalidValue"},
		"nothing there":                 {"GET", "/Users/usr_none", "", 404, ""},
		"a group's id among users":      {"GET", "/Users/" + gid, "", 404, ""},
		"no such address":               {"GET", "/Bulk", "", 404, ""},
		"a filter of nonsense (3.4.2)":  {"GET", "/Users" + query(`userName is "x"`), "", 400, "invalidFilter"},
		"a filter of what is not kept":  {"GET", "/Users" + query(`nickName eq "x"`), "", 400, "invalidFilter"},
		"a filter by order":             {"GET", "/Users" + query(`userName gt "x"`), "", 400, "invalidFilter"},
		"a filter that is too long":     {"GET", "/Users" + query(`userName eq "`+strings.Repeat("x", 3000)+`"`), "", 400, "invalidFilter"},
		"a filter that is too deep":     {"GET", "/Users" + query(strings.Repeat("(", 60)+`userName pr`+strings.Repeat(")", 60)), "", 400, "invalidFilter"},
		"a filter of many comparisons":  {"GET", "/Users" + query(strings.Repeat("userName pr or ", 99)+"userName pr"), "", 400, "invalidFilter"},
		"a count that is no number":     {"GET", "/Users?count=x", "", 400, "invalidValue"},
		"a PATCH without its schema":    {"PATCH", u, `{"Operations":[{"op":"replace","path":"active","value":false}]}`, 400, "invalidValue"},
		"a PATCH of nothing":            {"PATCH", u, patchOf(""), 400, "invalidSyntax"},
		"an operation that is none":     {"PATCH", u, patchOf(`{"op":"move","path":"active","value":true}`), 400, "invalidSyntax"},
		"a path of nonsense":            {"PATCH", u, patchOf(`{"op":"replace","path":"emails[","value":"x"}`), 400, "invalidPath"},
		"a choice among one":            {"PATCH", u, patchOf(`{"op":"replace","path":"userName[value eq \"x\"]","value":"x"}`), 400, "invalidPath"},
		"a remove without a path":       {"PATCH", u, patchOf(`{"op":"remove","value":{"active":true}}`), 400, "noTarget"},
		"a choice of nothing":           {"PATCH", u, patchOf(`{"op":"replace","path":"emails[type co \"zz\"]","value":{"value":"x@example.com"}}`), 400, "noTarget"},
		"the id cannot be changed":      {"PATCH", u, patchOf(`{"op":"remove","path":"id"}`), 400, "mutability"},
		"groups are read-only":          {"PATCH", u, patchOf(`{"op":"add","path":"groups","value":[{"value":"` + gid + `"}]}`), 400, "mutability"},
		"userName cannot be taken away": {"PATCH", u, patchOf(`{"op":"remove","path":"userName"}`), 400, "invalidValue"},
	} {
		status, out, _ := p.say(c.method, c.path, c.body)
		require.Equal(t, c.status, status, "%s: %v", name, out)
		require.Equal(t, []any{"urn:ietf:params:scim:api:messages:2.0:Error"}, out["schemas"], name)
		require.Equal(t, fmt.Sprint(c.status), out["status"], name)
		if c.kind != "" {
			require.Equal(t, c.kind, out["scimType"], name)
		}
		require.NotEmpty(t, out["detail"], name)
	}
	p.ok(415, "POST", "/Users", userOf("x@example.com", ""), "Content-Type", "text/plain")
	p.ok(413, "POST", "/Users", userOf("x@example.com", `,"title":"`+strings.Repeat("x", 3<<20)+`"`))
	p.ok(413, "POST", "/Users", userOf("x@example.com", `,"title":"`+strings.Repeat("x", 1<<17)+`"`))

	// Versions (3.14).
	status, _, h := p.say("GET", u, "")
	require.Equal(t, 200, status)
	tag := h.Get("ETag")
	require.Regexp(t, `^W/"\d+"$`, tag)
	p.ok(304, "GET", u, "", "If-None-Match", tag)
	p.ok(412, "PUT", u, userOf("ana@example.com", ""), "If-Match", `W/"1"`)
	p.ok(412, "PATCH", u, patchOf(`{"op":"replace","path":"title","value":"x"}`), "If-Match", `W/"1"`)
	p.ok(412, "DELETE", u, "", "If-Match", `W/"1"`)
	p.ok(200, "PATCH", u, patchOf(`{"op":"replace","path":"title","value":"x"}`), "If-Match", tag)
	p.ok(412, "PATCH", u, patchOf(`{"op":"replace","path":"title","value":"y"}`), "If-Match", tag)

	// Paging (3.4.2.4) and attributes (3.9).
	for n := range 4 {
		p.ok(201, "POST", "/Users", userOf(fmt.Sprintf("u%d@example.com", n), ""))
	}
	page := p.ok(200, "GET", "/Users?startIndex=3&count=2", "")
	require.EqualValues(t, 5, page["totalResults"])
	require.EqualValues(t, 3, page["startIndex"])
	require.EqualValues(t, 2, page["itemsPerPage"])
	require.Len(t, page["Resources"], 2)
	require.Empty(t, p.ok(200, "GET", "/Users?count=0", "")["Resources"])
	require.EqualValues(t, 1, p.ok(200, "GET", "/Users?startIndex=-5&count=1", "")["startIndex"])
	some := p.ok(200, "GET", u+"?attributes=userName", "")
	require.Contains(t, some, "userName")
	require.Contains(t, some, "id")
	require.NotContains(t, some, "emails")

	// Discovery (4).
	require.Equal(t, true, p.ok(200, "GET", "/ServiceProviderConfig", "")["patch"].(map[string]any)["supported"])
	for _, schema := range p.ok(200, "GET", "/Schemas", "")["Resources"].([]any) {
		p.ok(200, "GET", "/Schemas/"+schema.(map[string]any)["id"].(string), "")
	}
	for _, kind := range p.ok(200, "GET", "/ResourceTypes", "")["Resources"].([]any) {
		p.ok(200, "GET", kind.(map[string]any)["endpoint"].(string), "")
	}
}

// TestEscalationBySCIM: whoever holds a directory's token gets no further than its own accounts.
func TestEscalationBySCIM(t *testing.T) {
	p := newProvisioner(t)
	ctx, s := t.Context(), p.app.stores.keys
	root, err := s.CreateUser(ctx, stage, policy.User{Email: "root@example.com", State: policy.UserActive, BreakGlass: true, Operator: true})
	require.NoError(t, err)
	op, err := s.CreateUser(ctx, stage, policy.User{Email: "op@example.com", State: policy.UserActive, Operator: true})
	require.NoError(t, err)
	foreign, err := s.CreateUser(ctx, stage, policy.User{Email: "eve@example.net", State: policy.UserActive})
	require.NoError(t, err)
	admins, err := s.CreateGroup(ctx, stage, policy.PeopleGroup{Name: "admins"})
	require.NoError(t, err)
	id := p.ok(201, "POST", "/Users", userOf("mallory@example.com", `,"operator":true,"breakGlass":true,"roles":[{"value":"operator"}],"groups":[{"value":"`+admins.ID+`"}]`))["id"].(string)
	a, err := s.Account(ctx, id)
	require.NoError(t, err)
	require.False(t, a.Operator || a.BreakGlass)
	require.Empty(t, a.Groups)
	for name, at := range map[string]string{"break-glass": root.ID, "of another domain": foreign.ID} {
		p.ok(404, "GET", "/Users/"+at, "")
		p.ok(404, "PUT", "/Users/"+at, userOf("mallory2@example.com", ""))
		p.ok(404, "PATCH", "/Users/"+at, patchOf(`{"op":"replace","path":"active","value":false}`))
		p.ok(404, "DELETE", "/Users/"+at, "")
		_ = name
	}
	p.ok(409, "POST", "/Users", userOf("root@example.com", ""))
	p.ok(403, "PATCH", "/Users/"+op.ID, patchOf(`{"op":"replace","path":"userName","value":"x"},{"op":"replace","path":"emails","value":[{"value":"mallory3@example.com"}]}`))
	p.ok(409, "PATCH", "/Users/"+id, patchOf(`{"op":"replace","path":"emails","value":[{"value":"root@example.com"}]}`))
	p.ok(403, "PATCH", "/Users/"+id, patchOf(`{"op":"replace","path":"emails","value":[{"value":"ceo@example.net"}]}`))
	p.ok(404, "PATCH", "/Groups/"+admins.ID, patchOf(`{"op":"add","path":"members","value":[{"value":"`+id+`"}]}`))
	p.ok(409, "POST", "/Groups", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"admins","members":[{"value":"`+id+`"}]}`)
	gid := p.ok(201, "POST", "/Groups", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"mine"}`)["id"].(string)
	p.ok(409, "PATCH", "/Groups/"+gid, patchOf(`{"op":"replace","path":"displayName","value":"admins"}`))
	p.ok(400, "PATCH", "/Groups/"+gid, patchOf(`{"op":"add","path":"members","value":[{"value":"`+root.ID+`"}]}`))
	listed := fmt.Sprint(p.ok(200, "GET", "/Users?count=200", ""))
	require.NotContains(t, listed, root.ID)
	require.NotContains(t, listed, foreign.ID)
	other := p.token[:len(p.token)-8] // its checksum is another's
	for _, token := range []string{"", "x", "scim_", other, other + "_0000000", p.token + "x", strings.ToUpper(p.token)} {
		mallory := &provisioner{p.house, token}
		mallory.ok(401, "GET", "/Users", "")
	}
	list, _, err := s.ListSCIMTokens(ctx, policy.Page{})
	require.NoError(t, err)
	require.False(t, list[0].UsedAt.IsZero())
	_, err = s.RevokeSCIMToken(ctx, stage, list[0].ID)
	require.NoError(t, err)
	p.ok(401, "GET", "/Users", "")
	events, err := s.Account(ctx, root.ID)
	require.NoError(t, err)
	require.Equal(t, root, events.User)
}

// TestDeactivatedBySCIM: what a directory deactivates, or takes out of a group, may do nothing any more within a second, on other replicas as well.
func TestDeactivatedBySCIM(t *testing.T) {
	url := testenv.Postgres(t)
	one := installation(t, url, t.TempDir(), "shop")
	others := []*house{installation(t, url, t.TempDir(), "shop"), installation(t, url, t.TempDir(), "shop")}
	p := &provisioner{one, one.directory("okta", "example.com")}
	ctx, s := t.Context(), one.app.stores
	project, err := s.service.Project(ctx, "shop")
	require.NoError(t, err)
	_, err = s.service.CreatePrompt(ctx, stage, registry.PromptInput{Project: project.ID, Name: "hello", First: content("hi")})
	require.NoError(t, err)
	id := p.ok(201, "POST", "/Users", userOf("ana@example.com", ""))["id"].(string)
	a, err := s.keys.Account(ctx, id)
	require.NoError(t, err)
	a.State = policy.UserActive
	_, err = s.keys.UpdateUser(ctx, stage, a.User)
	require.NoError(t, err)
	gid := p.ok(201, "POST", "/Groups", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"displayName":"callers","members":[{"value":"`+id+`"}]}`)["id"].(string)
	system := &policy.Principal{ID: "test", Kind: policy.KindSystem, Project: project.ID}
	_, err = s.keys.Bind(ctx, stage, system, policy.Binding{Project: project.ID, Subject: gid, Role: policy.RoleViewer})
	require.NoError(t, err)
	secret, _, err := s.createKey(ctx, stage, project.ID, admin.KeyCreate{Name: "ana's", Owner: id, Inherits: true})
	require.NoError(t, err)

	all := append([]*house{one}, others...)
	// Each replica is asked by itself, so that the slowest is what is measured and not their sum.
	within := func(what string, want int) {
		t.Helper()
		since := time.Now()
		took := make([]time.Duration, len(all))
		var asked sync.WaitGroup
		for n, h := range all {
			asked.Go(func() {
				for took[n] = time.Since(since); took[n] < 5*time.Second && h.do(secret, "GET", "/api/v1/prompts/hello", "").status != want; took[n] = time.Since(since) {
					time.Sleep(5 * time.Millisecond)
				}
			})
		}
		asked.Wait()
		require.Less(t, slices.Max(took), time.Second, "%s: each replica's time until it says %d: %v", what, want, took)
	}
	within("a member", 200)
	p.ok(200, "PATCH", "/Groups/"+gid, patchOf(`{"op":"remove","path":"members[value eq \"`+id+`\"]"}`))
	within("taken out of the group", 401)
	p.ok(200, "PATCH", "/Groups/"+gid, patchOf(`{"op":"add","path":"members","value":[{"value":"`+id+`"}]}`))
	within("in the group again", 200)
	p.ok(200, "PATCH", "/Users/"+id, patchOf(`{"op":"replace","value":{"active":false}}`))
	within("deactivated", 401)
	p.ok(200, "PATCH", "/Users/"+id, patchOf(`{"op":"replace","value":{"active":true}}`))
	within("active again", 200)
	p.ok(204, "DELETE", "/Users/"+id, "")
	within("deleted", 401)
}
