package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/policy"
)

// person is somebody with a browser.
type person struct {
	t      *testing.T
	url    string
	client *http.Client
	user   policy.User
}

func (h *house) stranger() *person {
	jar, err := cookiejar.New(nil)
	require.NoError(h.t, err)
	return &person{t: h.t, url: "http://" + h.app.addr(), client: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// signedIn is somebody with a role in a project, signed in by a one-time link.
func (h *house) signedIn(name, project, role string) *person {
	h.t.Helper()
	ctx, s := h.t.Context(), h.app.stores.keys
	p := h.stranger()
	u, err := s.UserByEmail(ctx, name+"@people.example")
	if err != nil {
		u, err = s.CreateUser(ctx, stage, policy.User{Email: name + "@people.example", State: policy.UserActive, Operator: role == policy.RoleOperator})
		require.NoError(h.t, err)
		if role != policy.RoleOperator {
			_, err = s.Bind(ctx, stage, &policy.Principal{Kind: policy.KindSystem}, policy.Binding{Project: project, Subject: u.ID, Role: role})
			require.NoError(h.t, err)
		}
	}
	p.user = u
	p.follow(h.link(policy.ToSignIn, u.ID))
	require.Equal(h.t, http.StatusSeeOther, p.post("/signin/link", nil).status)
	return p
}

// ownProject is the id of the house's own project.
func (h *house) ownProject() string {
	p, err := h.app.stores.service.Project(h.t.Context(), "own")
	require.NoError(h.t, err)
	return p.ID
}

// link is a new link's path.
func (h *house) link(p policy.Purpose, user string) string {
	h.t.Helper()
	link, err := h.app.signing.Link(h.t.Context(), stage, p, user, false)
	require.NoError(h.t, err)
	u, err := url.Parse(link)
	require.NoError(h.t, err)
	return u.Path
}

func (p *person) send(method, path string, body io.Reader, headers ...string) seen {
	p.t.Helper()
	req, err := http.NewRequest(method, p.url+path, body)
	require.NoError(p.t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := p.client.Do(req)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	return seen{resp.StatusCode, string(b), resp.Header}
}

func (p *person) get(path string, headers ...string) seen {
	return p.send("GET", path, nil, headers...)
}

func (p *person) post(path string, form url.Values, headers ...string) seen {
	return p.send("POST", path, strings.NewReader(form.Encode()), append([]string{"Content-Type", "application/x-www-form-urlencoded"}, headers...)...)
}

// follow opens a link as far as its page.
func (p *person) follow(path string) {
	p.t.Helper()
	require.Equal(p.t, http.StatusSeeOther, p.get(path).status)
	page := p.get("/signin/link")
	require.Equal(p.t, http.StatusOK, page.status, page.body)
}

// cookie is the session's token.
func (p *person) cookie() string {
	at, err := url.Parse(p.url)
	require.NoError(p.t, err)
	for _, c := range p.client.Jar.Cookies(at) {
		if c.Name == "promptgate" {
			return c.Value
		}
	}
	return ""
}

// hold puts a token where the session's is.
func (p *person) hold(token string) {
	at, err := url.Parse(p.url)
	require.NoError(p.t, err)
	p.client.Jar.SetCookies(at, []*http.Cookie{{Name: "promptgate", Value: token, Path: "/"}})
}

// in reports whether the browser is signed in.
func (p *person) in() bool {
	p.t.Helper()
	got := p.get("/api/v1/me/sessions")
	require.Contains(p.t, []int{http.StatusOK, http.StatusUnauthorized}, got.status, got.body)
	return got.status == http.StatusOK
}

func (p *person) setPassword(present, next string) seen {
	return p.post("/account/password", url.Values{"present": {present}, "next": {next}})
}

const goodPassword = "vexing quartz gnomes"

// A page in a browser cannot spend money with a session: no address of the data plane takes a cookie.
func TestTheDataPlaneTakesNoCookie(t *testing.T) {
	h := newHouse(t)
	project := h.ownProject()
	ana := h.signedIn("ana", project, policy.RoleAdmin)
	require.Equal(t, http.StatusOK, ana.get("/api/v1/prompts", "X-Promptgate-Project", project).status, "the session is good")
	tried := 0
	for _, r := range routes {
		if strings.HasPrefix(r.path, "/api/") || r.needs == "open" || r.path == "/v1/feedback" && strings.Contains(r.body, "token") {
			continue
		}
		path := r.send
		if path == "" {
			path = r.path
		}
		for name, object := range h.own {
			path = strings.NewReplacer(":"+name, url.PathEscape(object), "{"+name+"}", url.PathEscape(object)).Replace(path)
		}
		got := ana.send(r.method, path, strings.NewReader(r.body), "Content-Type", "application/json", "X-Promptgate-Project", project)
		require.Equal(t, http.StatusUnauthorized, got.status, "%s %s: %s", r.method, path, got.body)
		tried++
	}
	require.Greater(t, tried, 30)
}

// A session may do what its person may in the project that the request names: nothing elsewhere, nothing without naming one.
func TestSessionsInTheManagementAPI(t *testing.T) {
	h := newHouse(t)
	project := h.ownProject()
	viewer, admin, operator := h.signedIn("vi", project, policy.RoleViewer), h.signedIn("ad", project, policy.RoleAdmin), h.signedIn("op", project, policy.RoleOperator)
	in := func(p *person, method, path, project string) int {
		if project == "" {
			return p.send(method, path, nil).status
		}
		return p.send(method, path, nil, "X-Promptgate-Project", project).status
	}
	for _, c := range []struct {
		who     *person
		path    string
		project string
		want    int
	}{
		{viewer, "/api/v1/prompts", project, 200}, {viewer, "/api/v1/prompts", "own", 200}, {viewer, "/api/v1/prompts", "", 400}, {viewer, "/api/v1/prompts", h.foreignProject, 403},
		{viewer, "/api/v1/prompts", "foreign", 403}, {viewer, "/api/v1/prompts", "nowhere", 403}, {viewer, "/api/v1/keys", project, 403}, {viewer, "/api/v1/users", "", 403},
		{viewer, "/api/v1/me", "", 200}, {viewer, "/api/v1/projects", "", 200}, {viewer, "/api/v1/me/sessions", "", 200},
		{admin, "/api/v1/keys", project, 200}, {admin, "/api/v1/keys", h.foreignProject, 403}, {admin, "/api/v1/users", "", 403}, {admin, "/api/v1/users", project, 403},
		{operator, "/api/v1/users", "", 200}, {operator, "/api/v1/keys", project, 403}, {operator, "/api/v1/projects", "", 200},
	} {
		require.Equal(t, c.want, in(c.who, "GET", c.path, c.project), "%s %s %q", c.who.user.Email, c.path, c.project)
	}
	foreign, none := viewer.get("/api/v1/prompts", "X-Promptgate-Project", "foreign"), viewer.get("/api/v1/prompts", "X-Promptgate-Project", "nowhere")
	require.Equal(t, none.body, foreign.body, "whether there is such a project is not told")
	require.NotContains(t, viewer.get("/api/v1/projects").body, "foreign")
	both := viewer.get("/api/v1/me", "Authorization", "Bearer "+h.keys["admin"])
	require.Equal(t, http.StatusBadRequest, both.status, "a key and a cookie: %s", both.body)
	require.Equal(t, http.StatusForbidden, h.do(h.keys["admin"], "GET", "/api/v1/me/sessions", "").status)

	var list struct {
		Sessions []struct {
			ID      string
			Current bool
		}
	}
	require.NoError(t, json.Unmarshal([]byte(viewer.get("/api/v1/me/sessions").body), &list))
	require.Len(t, list.Sessions, 1)
	require.True(t, list.Sessions[0].Current)
	require.Equal(t, http.StatusNotFound, admin.send("DELETE", "/api/v1/me/sessions/"+list.Sessions[0].ID, nil).status, "another's session is not there")
	require.True(t, viewer.in())
	require.Equal(t, http.StatusNoContent, operator.send("DELETE", "/api/v1/users/"+viewer.user.ID+"/sessions/"+list.Sessions[0].ID, nil).status)
	require.False(t, viewer.in())
}

func TestCSRF(t *testing.T) {
	h := newHouse(t)
	ana := h.signedIn("ana", h.ownProject(), policy.RoleAdmin)
	for _, from := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
		for _, path := range []string{"/account/sign-out", "/account/sign-out-everywhere", "/account/password", "/account/passkeys/begin", "/signin/link", "/signin"} {
			require.Equal(t, http.StatusForbidden, ana.post(path, url.Values{"next": {goodPassword}}, from...).status, "%s %v", path, from)
		}
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
			got := ana.send(method, "/api/v1/me/sessions", nil, from...)
			if method == "DELETE" {
				require.Equal(t, http.StatusForbidden, got.status, "%v", from)
			}
		}
		got := ana.send("POST", "/api/v1/keys", strings.NewReader(`{"name":"x","roles":["admin"]}`), append(from, "Content-Type", "application/json", "X-Promptgate-Project", h.ownProject())...)
		require.Equal(t, http.StatusForbidden, got.status, "%v: %s", from, got.body)
	}
	require.True(t, ana.in())
	require.Equal(t, http.StatusSeeOther, ana.post("/account/sign-out", nil, "Sec-Fetch-Site", "same-origin").status)
	require.False(t, ana.in())
}

// Whoever plants a token in somebody's browser does not get to be that one when it signs in: the token is another then, and the planted one opens nothing.
func TestSessionFixation(t *testing.T) {
	h := newHouse(t)
	project := h.ownProject()
	for name, planted := range map[string]string{"made up": strings.Repeat("A", 43), "of the attacker": h.signedIn("eve", project, policy.RoleViewer).cookie()} {
		victim := h.stranger()
		victim.hold(planted)
		u, err := h.app.stores.keys.CreateUser(t.Context(), stage, policy.User{Email: strings.ReplaceAll(name, " ", "") + "@victim.example", State: policy.UserActive})
		require.NoError(t, err)
		victim.follow(h.link(policy.ToSignIn, u.ID))
		require.Equal(t, http.StatusSeeOther, victim.post("/signin/link", nil).status)
		require.NotEqual(t, planted, victim.cookie(), name)
		attacker := h.stranger()
		attacker.hold(planted)
		require.NotContains(t, attacker.get("/account").body, u.Email, name)
		require.Contains(t, victim.get("/account").body, u.Email, name)
	}
}

// Nobody learns from an answer, nor from the work that it took, whether there is an account, and whether it may sign in.
func TestLoginTiming(t *testing.T) {
	h := newHouse(t)
	project := h.ownProject()
	for name, state := range map[string]policy.UserState{"active": policy.UserActive, "gone": policy.UserDeactivated, "bare": policy.UserActive} {
		p := h.signedIn(name, project, policy.RoleViewer)
		if name != "bare" {
			require.Equal(t, http.StatusSeeOther, p.setPassword("", goodPassword).status)
		}
		a, err := h.app.stores.keys.Account(t.Context(), p.user.ID)
		require.NoError(t, err)
		a.State = state
		_, err = h.app.stores.keys.UpdateUser(t.Context(), stage, a.User)
		require.NoError(t, err)
	}
	var answers []string
	for _, try := range [][2]string{{"active@people.example", "a wrong password"}, {"gone@people.example", goodPassword}, {"bare@people.example", goodPassword}, {"nobody@people.example", goodPassword}} {
		before := h.app.signing.Hasher.Work()
		got := h.stranger().post("/signin", url.Values{"email": {try[0]}, "password": {try[1]}})
		require.Equal(t, before+1, h.app.signing.Hasher.Work(), "one hash for %s", try[0])
		require.Equal(t, http.StatusUnauthorized, got.status)
		require.Empty(t, got.header.Values("Set-Cookie"))
		answers = append(answers, strings.ReplaceAll(got.body, try[0], "…"))
	}
	for _, a := range answers[1:] {
		require.Equal(t, answers[0], a)
	}
	right := h.stranger()
	require.Equal(t, http.StatusSeeOther, right.post("/signin", url.Values{"email": {"ACTIVE@people.example"}, "password": {goodPassword}}).status)
	require.True(t, right.in())
}

// Guessing is slowed down; a browser that somebody signed in with before is not kept out by it.
func TestGuessingDoesNotLockOut(t *testing.T) {
	h := newHouse(t)
	ana := h.signedIn("ana", h.ownProject(), policy.RoleViewer)
	require.Equal(t, http.StatusSeeOther, ana.setPassword("", goodPassword).status)
	require.Equal(t, http.StatusSeeOther, ana.post("/account/sign-out", nil).status)
	guess := func(p *person, password string) int {
		return p.post("/signin", url.Values{"email": {ana.user.Email}, "password": {password}}).status
	}
	limited := 0
	for i := range 12 {
		if guess(h.stranger(), fmt.Sprint("guess number ", i)) == http.StatusTooManyRequests {
			limited++
		}
	}
	require.Positive(t, limited)
	require.Equal(t, http.StatusTooManyRequests, guess(h.stranger(), goodPassword), "from another browser even the right one has to wait")
	require.Equal(t, http.StatusSeeOther, guess(ana, goodPassword))
	require.True(t, ana.in())
}

// A link that was looked at is not used up; one that was used is, for everybody.
func TestInviteReplay(t *testing.T) {
	h := newHouse(t)
	admin := h.signedIn("ad", h.ownProject(), policy.RoleAdmin)
	got := admin.send("POST", "/api/v1/invitations", strings.NewReader(`{"email":"new@people.example","bindings":[{"role":"editor"}]}`),
		"Content-Type", "application/json", "X-Promptgate-Project", h.ownProject())
	require.Equal(t, http.StatusCreated, got.status, got.body)
	var made struct{ URL, User string }
	require.NoError(t, json.Unmarshal([]byte(got.body), &made))
	path := made.URL[strings.Index(made.URL, "/signin/"):]
	for range 3 { // scanners of messages
		h.stranger().follow(path)
	}
	one, two := h.stranger(), h.stranger()
	one.follow(path)
	two.follow(path)
	require.Equal(t, http.StatusSeeOther, one.post("/signin/link", nil).status)
	require.Equal(t, http.StatusNotFound, two.post("/signin/link", nil).status)
	require.False(t, two.in())
	require.Equal(t, http.StatusOK, one.get("/api/v1/prompts", "X-Promptgate-Project", h.ownProject()).status)
	// Nobody gives by an invitation what it does not hold.
	editor := h.signedIn("ed", h.ownProject(), policy.RoleEditor)
	for _, p := range []*person{editor, one} {
		got = p.send("POST", "/api/v1/invitations", strings.NewReader(`{"email":"friend@people.example","bindings":[{"role":"admin"}]}`),
			"Content-Type", "application/json", "X-Promptgate-Project", h.ownProject())
		require.Equal(t, http.StatusForbidden, got.status, got.body)
	}
	_, err := h.app.stores.keys.UserByEmail(t.Context(), "friend@people.example")
	require.Error(t, err, "and there is no account that nobody may make")
}

// An invitation's link is nobody's way to what others gave.
func TestEscalationByInvitation(t *testing.T) {
	h := newHouse(t)
	invite := func(p *person, project, role string) seen {
		return p.send("POST", "/api/v1/invitations", strings.NewReader(`{"email":"new@people.example","bindings":[{"role":"`+role+`"}]}`),
			"Content-Type", "application/json", "X-Promptgate-Project", project)
	}
	here, there := h.signedIn("here", h.ownProject(), policy.RoleAdmin), h.signedIn("there", h.foreignProject, policy.RoleAdmin)
	require.Equal(t, http.StatusCreated, invite(here, h.ownProject(), "admin").status)
	got := invite(there, h.foreignProject, "viewer")
	require.Equal(t, http.StatusForbidden, got.status, "whose link would be an admin's of another project")
	require.NotContains(t, got.body, "/signin/link")
	require.Equal(t, http.StatusCreated, invite(here, h.ownProject(), "viewer").status)
}

// What a person may do is asked at each request; when it has changed, the token changes, and the old one is void at once.
func TestRoleChangeDuringASession(t *testing.T) {
	h := newHouse(t)
	project := h.ownProject()
	ana := h.signedIn("ana", project, policy.RoleEditor)
	keys := func() int { return ana.get("/api/v1/keys", "X-Promptgate-Project", project).status }
	require.Equal(t, http.StatusForbidden, keys())
	old := ana.cookie()
	require.Equal(t, http.StatusForbidden, keys())
	require.Equal(t, old, ana.cookie(), "nothing has changed")
	system := &policy.Principal{Kind: policy.KindSystem}
	b, err := h.app.stores.keys.Bind(t.Context(), stage, system, policy.Binding{Project: project, Subject: ana.user.ID, Role: policy.RoleAdmin})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, keys())
	raised := ana.cookie()
	require.NotEqual(t, old, raised)
	thief := h.stranger()
	thief.hold(old)
	require.False(t, thief.in(), "the old token is void")
	_, err = h.app.stores.keys.Unbind(t.Context(), stage, system, project, b.ID, true)
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, keys())
	require.NotEqual(t, raised, ana.cookie())
	require.True(t, ana.in())
}

// A new password, another factor, a reset and a deactivation end every session; so does signing out everywhere.
func TestWhatEndsSessions(t *testing.T) {
	h := newHouse(t)
	project, s := h.ownProject(), h.app.stores.keys
	for name, end := range map[string]func(p *person){
		"password": func(p *person) { require.Equal(t, http.StatusSeeOther, p.setPassword("", goodPassword).status) },
		"everywhere": func(p *person) {
			require.Equal(t, http.StatusSeeOther, p.post("/account/sign-out-everywhere", nil).status)
		},
		"deactivation": func(p *person) {
			a, err := s.Account(t.Context(), p.user.ID)
			require.NoError(t, err)
			a.State = policy.UserDeactivated
			_, err = s.UpdateUser(t.Context(), stage, a.User)
			require.NoError(t, err)
		},
		"reset": func(p *person) {
			r := h.stranger()
			r.follow(h.link(policy.ToReset, p.user.ID))
			require.Equal(t, http.StatusSeeOther, r.post("/signin/link", nil).status)
			require.True(t, r.in())
		},
		"api": func(p *person) {
			require.Equal(t, http.StatusNoContent, p.send("DELETE", "/api/v1/me/sessions", nil).status)
		},
	} {
		here, other := h.signedIn(name, project, policy.RoleViewer), h.signedIn(name, project, policy.RoleViewer)
		require.True(t, other.in(), name)
		end(here)
		require.False(t, other.in(), name)
		require.Equal(t, name == "password", here.in(), "%s: this browser goes on after a new password only", name)
	}
}

// A personal key of somebody who is deactivated is refused.
func TestKeyOfADeactivatedPerson(t *testing.T) {
	h := newHouse(t)
	project, s := h.ownProject(), h.app.stores.keys
	ana := h.signedIn("ana", project, policy.RoleAdmin)
	got := ana.send("POST", "/api/v1/me/keys", strings.NewReader(`{"name":"mine","inherits":true}`), "Content-Type", "application/json", "X-Promptgate-Project", project)
	require.Equal(t, http.StatusCreated, got.status, got.body)
	var key struct{ Key string }
	require.NoError(t, json.Unmarshal([]byte(got.body), &key))
	require.Equal(t, http.StatusOK, h.do(key.Key, "GET", "/v1/models", "").status)
	a, err := s.Account(t.Context(), ana.user.ID)
	require.NoError(t, err)
	a.State = policy.UserDeactivated
	_, err = s.UpdateUser(t.Context(), stage, a.User)
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, h.do(key.Key, "GET", "/v1/models", "").status)
	require.False(t, ana.in())
}

func TestPasswordsAreChecked(t *testing.T) {
	h := newHouse(t)
	ana := h.signedIn("ana", h.ownProject(), policy.RoleViewer)
	for _, bad := range []string{"short", "password1234", "ana.people.example", "iloveyou2024!"} {
		got := ana.setPassword("", bad)
		require.Equal(t, http.StatusBadRequest, got.status, bad)
		require.NotContains(t, got.body, `value="`+bad)
	}
	require.Equal(t, http.StatusSeeOther, ana.setPassword("", goodPassword).status)
	require.Equal(t, http.StatusBadRequest, ana.setPassword("wrong present one", "another good pebble").status)
	require.Equal(t, http.StatusSeeOther, ana.setPassword(goodPassword, "another good pebble").status)
	require.Equal(t, http.StatusUnauthorized, h.stranger().post("/signin", url.Values{"email": {ana.user.Email}, "password": {goodPassword}}).status)
}

// A project can require a passkey: who signed in otherwise is told so, and may do everything else.
func TestRequiredPasskey(t *testing.T) {
	h := newHouse(t)
	project := h.ownProject()
	ana := h.signedIn("ana", project, policy.RoleAdmin)
	got := ana.send("PUT", "/api/v1/sign-in-policy", bytes.NewReader([]byte(`{"require":"passkey"}`)), "Content-Type", "application/json", "X-Promptgate-Project", project)
	require.Equal(t, http.StatusConflict, got.status, "it would shut out who asks: %s", got.body)
	require.Equal(t, 200, h.do(h.keys["admin"], "PUT", "/api/v1/sign-in-policy", `{"require":"passkey"}`).status)
	got = ana.get("/api/v1/prompts", "X-Promptgate-Project", project)
	require.Equal(t, http.StatusForbidden, got.status)
	require.Contains(t, got.body, "passkey")
	require.True(t, ana.in())
	require.Equal(t, 200, h.do(h.keys["admin"], "GET", "/api/v1/prompts", "").status, "keys are not concerned")
	require.Equal(t, 200, h.do(h.keys["admin"], "PUT", "/api/v1/sign-in-policy", `{"require":""}`).status)
	require.Equal(t, 200, ana.get("/api/v1/prompts", "X-Promptgate-Project", project).status)
}

// What warm requests of a session ask, memory answers.
func TestWarmSessionsNeedNoDatabase(t *testing.T) {
	h := newHouse(t)
	ana := h.signedIn("ana", h.ownProject(), policy.RoleViewer)
	require.Equal(t, 200, ana.get("/api/v1/me", "X-Promptgate-Project", h.ownProject()).status)
	time.Sleep(50 * time.Millisecond) // its first use is noted
	project := h.ownProject()
	require.NoError(t, h.app.stores.db.Close())
	require.Equal(t, 200, ana.get("/api/v1/me", "X-Promptgate-Project", project).status)
	require.Equal(t, http.StatusServiceUnavailable, h.stranger().post("/signin", url.Values{"email": {"ana@people.example"}, "password": {goodPassword}}).status, "nobody signs in")
	cold := h.stranger()
	cold.hold(strings.Repeat("A", 43))
	require.Equal(t, http.StatusServiceUnavailable, cold.get("/api/v1/me/sessions").status, "who is not known here is not refused for good")
}
