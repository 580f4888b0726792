package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/policy"
)

// system is who may give anything.
var system = &policy.Principal{Kind: policy.KindSystem}

// gives binds a role to somebody, over prompts of the house's own project.
func (h *house) gives(subject, role string, prompts ...string) policy.Binding {
	h.t.Helper()
	b, err := h.app.stores.keys.Bind(h.t.Context(), stage, system, policy.Binding{Project: h.ownProject(), Subject: subject, Role: role, Prompts: prompts})
	require.NoError(h.t, err)
	return b
}

// group is a new group with these people.
func (h *house) group(name string, users ...string) string {
	h.t.Helper()
	g, err := h.app.stores.keys.CreateGroup(h.t.Context(), stage, policy.PeopleGroup{Name: name})
	require.NoError(h.t, err)
	for _, u := range users {
		_, err = h.app.stores.keys.Join(h.t.Context(), stage, g.ID, policy.ByHand, u)
		require.NoError(h.t, err)
	}
	return g.ID
}

// role is a role of the house's own project.
func (h *house) role(name string, actions ...policy.Action) {
	h.t.Helper()
	_, err := h.app.stores.keys.PutRole(h.t.Context(), stage, system, policy.Role{Project: h.ownProject(), Name: name, Actions: actions})
	require.NoError(h.t, err)
}

// asks sends JSON to the management API from a browser, in the house's own project.
func (p *person) asks(h *house, method, path, body string) seen {
	p.t.Helper()
	return p.send(method, "/api/v1"+path, strings.NewReader(body), "Content-Type", "application/json", "X-Promptgate-Project", h.ownProject())
}

// Of several who use a reset link at once, from two browsers each, one gets in; whoever guessed the old password meanwhile does not stay in.
func TestPasswordResetRaces(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, database string) {
		h := newHouse(t, func(c *configs.Config) {
			c.Database.URL, c.Encryption.MasterKey = database, strings.Repeat("A", 43)+"="
		})
		ana := h.signedIn("ana", h.ownProject(), policy.RoleViewer)
		require.Equal(t, http.StatusSeeOther, ana.setPassword("", goodPassword).status)
		for round := range 3 {
			link := h.link(policy.ToReset, ana.user.ID)
			browsers := []*person{h.stranger(), h.stranger(), h.stranger(), h.stranger()}
			for _, b := range browsers {
				b.follow(link)
			}
			thief := h.stranger()
			var in, gone atomic.Int64
			var all sync.WaitGroup
			for _, b := range browsers {
				all.Go(func() {
					switch got := b.post("/signin/link", nil); got.status {
					case http.StatusSeeOther:
						in.Add(1)
					case http.StatusNotFound:
						gone.Add(1)
					default:
						t.Errorf("%d: %s", got.status, got.body)
					}
				})
			}
			if round == 0 {
				all.Go(func() { thief.post("/signin", url.Values{"email": {ana.user.Email}, "password": {goodPassword}}) })
			}
			all.Wait()
			require.EqualValues(t, 1, in.Load())
			require.EqualValues(t, 3, gone.Load())
			require.False(t, thief.in(), "by the old password, before the reset or after it")
			require.False(t, ana.in())
			signedIn := 0
			for _, b := range browsers {
				if b.in() {
					signedIn++
				}
			}
			require.Equal(t, 1, signedIn)
			require.Equal(t, http.StatusUnauthorized, thief.post("/signin", url.Values{"email": {ana.user.Email}, "password": {goodPassword}}).status, "the old password is gone")
		}
		// Of two links of the same kind, the newer counts.
		older, newer := h.link(policy.ToReset, ana.user.ID), h.link(policy.ToReset, ana.user.ID)
		require.Equal(t, http.StatusSeeOther, h.stranger().get(older).status)
		late := h.stranger()
		late.get(older)
		require.Equal(t, http.StatusNotFound, late.post("/signin/link", nil).status)
		late.follow(newer)
	})
}

// Who is taken out of a group loses what it gave with the next request, whatever is still under way: a stream that was allowed goes on to its end, and nothing
// begins after it.
func TestGroupRemovalDuringAStream(t *testing.T) {
	h := newHouse(t, func(c *configs.Config) {
		c.Providers = []configs.Provider{{Name: "echo", Kind: "echo", ChunkDelay: 50 * time.Millisecond}}
	})
	project, s := h.ownProject(), h.app.stores.keys
	ana := h.signedIn("ana", project, policy.RoleViewer)
	h.role("caller", policy.ActionCall)
	group := h.group("callers", ana.user.ID)
	h.gives(group, "caller", "support/**")
	h.gives(group, policy.RoleAdmin)
	made := ana.asks(h, "POST", "/me/keys", `{"name":"mine","inherits":true}`)
	require.Equal(t, http.StatusCreated, made.status, made.body)
	var key struct{ Key string }
	require.NoError(t, json.Unmarshal([]byte(made.body), &key))
	const call = `{"stream":true,"prompt":{"id":"support/triage","label":"production"}}`

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/v1/chat/completions", strings.NewReader(call))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+key.Key)
	req.Header.Set("Content-Type", "application/json")
	stream, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer stream.Body.Close()
	require.Equal(t, http.StatusOK, stream.StatusCode)
	lines := bufio.NewScanner(stream.Body)
	require.True(t, lines.Scan(), "it has begun")
	require.Equal(t, http.StatusOK, ana.asks(h, "GET", "/keys", "").status)

	_, err = s.Leave(t.Context(), stage, group, ana.user.ID)
	require.NoError(t, err)
	require.Contains(t, []int{http.StatusForbidden, http.StatusNotFound}, h.do(key.Key, "POST", "/v1/chat/completions", call).status, "the key, while its stream runs")
	require.Equal(t, http.StatusForbidden, ana.asks(h, "GET", "/keys", "").status, "the session")
	rest := ""
	for lines.Scan() {
		rest += lines.Text() + "\n"
	}
	require.NoError(t, lines.Err())
	require.Contains(t, rest, "[DONE]")
	require.Greater(t, strings.Count(rest, "data: "), 1, "it still ran when the group was left")
}

// Nobody gets more by way of a group: neither puts itself into one, nor gives one that it is in more than it holds, nor takes a denial off it.
func TestEscalationByGroup(t *testing.T) {
	h := newHouse(t)
	project := h.ownProject()
	ana, admin := h.signedIn("ana", project, policy.RoleViewer), h.signedIn("ad", project, policy.RoleAdmin)
	h.role("people", policy.ActionRead, policy.ActionManageUsers)
	mine, admins, denied := h.group("mine", ana.user.ID), h.group("admins"), h.group("denied", ana.user.ID)
	h.gives(mine, "people")
	h.gives(admins, policy.RoleAdmin)
	denial, err := h.app.stores.keys.Bind(t.Context(), stage, system, policy.Binding{Project: project, Subject: denied, Role: policy.RoleViewer, Effect: policy.EffectDeny, Prompts: []string{"finance/**"}})
	require.NoError(t, err)
	refused := func(who *person, method, path, body string) {
		t.Helper()
		got := who.asks(h, method, path, body)
		require.Equal(t, http.StatusForbidden, got.status, "%s %s: %s", method, path, got.body)
	}
	for _, who := range []*person{ana, admin} { // groups are the installation's: an admin of a project does not look after them
		refused(who, "PUT", "/groups/"+admins+"/members/"+ana.user.ID, "")
		refused(who, "POST", "/groups", `{"name":"new"}`)
	}
	for _, role := range []string{policy.RoleAdmin, policy.RoleEditor} {
		for _, subject := range []string{mine, admins, ana.user.ID} {
			refused(ana, "POST", "/bindings", fmt.Sprintf(`{"subject":%q,"role":%q}`, subject, role))
		}
	}
	refused(ana, "DELETE", "/bindings/"+denial.ID, "")
	refused(ana, "POST", "/bindings", fmt.Sprintf(`{"subject":%q,"role":"viewer","prompts":["finance/**"]}`, mine))
	require.Equal(t, http.StatusCreated, ana.asks(h, "POST", "/bindings", fmt.Sprintf(`{"subject":%q,"role":"people","prompts":["support/**"]}`, mine)).status, "what it holds it may give")
	refused(ana, "GET", "/keys", "")
}

// Nobody gets more by way of a role that it makes, changes or invites somebody to.
func TestEscalationByCustomRole(t *testing.T) {
	h := newHouse(t)
	project := h.ownProject()
	ana := h.signedIn("ana", project, policy.RoleViewer)
	h.role("people", policy.ActionRead, policy.ActionManageUsers)
	h.role("strong", policy.ActionRead, policy.ActionManageKeys)
	h.gives(ana.user.ID, "people")
	refused := func(method, path, body string) {
		t.Helper()
		got := ana.asks(h, method, path, body)
		require.Equal(t, http.StatusForbidden, got.status, "%s %s %s: %s", method, path, body, got.body)
	}
	for _, actions := range []string{`["read","manage_keys"]`, `["call"]`, `["manage_project"]`, `["move_label"]`} {
		refused("PUT", "/roles/new", `{"actions":`+actions+`}`)
	}
	role := ana.asks(h, "GET", "/roles", "")
	require.Contains(t, role.body, `"people"`)
	got := ana.send("PUT", "/api/v1/roles/people", strings.NewReader(`{"actions":["read","manage_users","manage_keys"]}`),
		"Content-Type", "application/json", "X-Promptgate-Project", project, "If-Match", h.revisionOf("people"))
	require.Equal(t, http.StatusForbidden, got.status, "its own role: %s", got.body)
	for _, given := range []string{"strong", policy.RoleAdmin} {
		refused("POST", "/bindings", fmt.Sprintf(`{"subject":%q,"role":%q}`, ana.user.ID, given))
		refused("POST", "/invitations", fmt.Sprintf(`{"email":"friend@people.example","bindings":[{"role":%q}]}`, given))
	}
	refused("POST", "/me/keys", `{"name":"mine","roles":["admin"]}`)
	_, err := h.app.stores.keys.UserByEmail(t.Context(), "friend@people.example")
	require.Error(t, err, "no account of a refused invitation")
	require.Equal(t, http.StatusCreated, ana.asks(h, "POST", "/invitations", `{"email":"friend@people.example","bindings":[{"role":"people"}]}`).status, "what it holds it may give")
	refused("GET", "/keys", "")
}

// revisionOf is the ETag of a role.
func (h *house) revisionOf(role string) string {
	r, err := h.app.stores.keys.Role(h.t.Context(), h.ownProject(), role)
	require.NoError(h.t, err)
	return fmt.Sprintf("%q", fmt.Sprint(r.Revision))
}
