package main

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/signin"
)

func (o *office) enforce(on bool) {
	o.t.Helper()
	i := o.provider
	i.Domains = []policy.Domain{{Domain: "example.com", Enforced: on}}
	var err error
	o.provider, err = o.app.signing.ChangeProvider(o.t.Context(), stage, i, nil)
	require.NoError(o.t, err)
}

// TestEnforcedSignOn: who has an address of an enforced domain gets in through its provider alone; who breaks the glass, and who has the machine, does not need it.
func TestEnforcedSignOn(t *testing.T) {
	o := newOffice(t, nil)
	ctx, s := t.Context(), o.app.stores.keys
	bo, err := s.CreateUser(ctx, stage, policy.User{Email: "bo@example.com", State: policy.UserActive})
	require.NoError(t, err)
	eve, err := s.CreateUser(ctx, stage, policy.User{Email: "eve@elsewhere.org", State: policy.UserActive})
	require.NoError(t, err)
	o.withPassword(bo)
	o.withPassword(eve)
	root := o.rootOf("root@example.com")
	by := func(email, password string) seen {
		return o.visitor().post("/signin", url.Values{"email": {email}, "password": {password}})
	}
	require.Equal(t, http.StatusSeeOther, by("bo@example.com", goodPassword).status, "claimed and not enforced: a password is good")
	link := func(p policy.Purpose) string {
		made, err := o.app.signing.Link(ctx, stage, p, bo.ID, false)
		require.NoError(t, err)
		return strings.TrimPrefix(made, o.site)
	}
	reset, signIn := link(policy.ToReset), link(policy.ToSignIn)
	half := o.visitor()
	half.follow(signIn)

	o.enforce(true)
	got := by("bo@example.com", goodPassword)
	require.Equal(t, http.StatusForbidden, got.status)
	require.Contains(t, told(got.body), "People of example.com sign in with Okta alone")
	unknown, wrong, glass := by("nobody@example.com", "vexing quartz gnome"), by("bo@example.com", "vexing quartz gnome"), by("root@example.com", "vexing quartz gnome")
	require.Contains(t, told(wrong.body), "is wrong. People of example.com sign in with Okta.")
	require.Equal(t, told(unknown.body), told(wrong.body), "who has an account is not told")
	require.Equal(t, told(glass.body), told(wrong.body), "nor who breaks the glass")
	require.NotContains(t, told(by("eve@elsewhere.org", "vexing quartz gnome").body), "Okta")
	require.Equal(t, http.StatusSeeOther, by("eve@elsewhere.org", goodPassword).status)
	require.Equal(t, http.StatusSeeOther, root().status)

	// Links that were made before, or by an operator, do not open what the provider is to open.
	require.Equal(t, http.StatusForbidden, half.post("/signin/link", nil).status, "also for who had opened one")
	for _, at := range []string{reset, signIn} {
		p := o.visitor()
		require.Equal(t, http.StatusSeeOther, p.get(at).status)
		got := p.get("/signin/link")
		require.Equal(t, http.StatusForbidden, got.status)
		require.Contains(t, told(got.body), "sign in with Okta alone")
		require.Equal(t, http.StatusForbidden, p.post("/signin/link", nil).status)
		require.Empty(t, p.cookie())
	}
	_, err = o.app.signing.Reset(ctx, stage, bo.ID, false)
	require.Error(t, err)
	system := &policy.Principal{Kind: policy.KindSystem, Project: o.ownProject()}
	sent, err := o.app.signing.Invite(ctx, stage, system, signin.Invitation{
		Email: "new@example.com", Bindings: []policy.Binding{{Project: o.ownProject(), Role: policy.RoleViewer}},
	})
	require.NoError(t, err)
	require.Empty(t, sent.URL, "its provider lets it in")
	o.idp.knows("new", "new@example.com", nil)
	fresh := o.visitor()
	require.Equal(t, http.StatusSeeOther, o.signsIn(fresh, "new").status)
	require.Equal(t, 200, fresh.get("/api/v1/prompts", "X-Promptgate-Project", o.ownProject()).status)

	p := o.visitor()
	p.follow(o.machineLink(policy.ToSignIn, bo.ID))
	require.Equal(t, http.StatusSeeOther, p.post("/signin/link", nil).status, "who has the machine lets in whom they want")

	o.enforce(false)
	require.Equal(t, http.StatusSeeOther, by("bo@example.com", goodPassword).status)
	o.enforce(true)
	require.NoError(t, o.app.signing.RemoveProvider(ctx, stage, o.provider.ID, 0))
	require.Equal(t, http.StatusSeeOther, by("bo@example.com", goodPassword).status, "without a provider its rules are gone")
	require.False(t, fresh.in(), "who signed in by it has to sign in again")
}

// TestSigningOutAtTheProvider ends the sessions here: sent by the provider itself when somebody signs out there, and refused in every other form.
func TestSigningOutAtTheProvider(t *testing.T) {
	o := newOffice(t, nil)
	ctx, s := t.Context(), o.app.stores.keys
	o.idp.knows("ana", "ana@example.com", nil)
	ana := o.visitor()
	require.Equal(t, http.StatusSeeOther, o.signsIn(ana, "ana").status)
	require.True(t, ana.in())

	// On the provider's own page.
	client := &http.Client{Jar: ana.client.Jar}
	resp, err := client.Get(o.idp.issuer + "/session/end")
	require.NoError(t, err)
	page := body(t, resp)
	_, after, found := strings.Cut(page, `name="xsrf" value="`)
	require.True(t, found, page)
	xsrf, _, _ := strings.Cut(after, `"`)
	resp, err = client.PostForm(o.idp.issuer+"/session/end/confirm", url.Values{"xsrf": {xsrf}, "logout": {"yes"}})
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode, body(t, resp))
	require.Eventually(t, func() bool { return !ana.in() }, 5*time.Second, 10*time.Millisecond, "the provider tells it to us")

	// By tokens that it may or may not send.
	says := func(token string) int {
		return o.visitor().post("/signin/sso/logout", url.Values{"logout_token": {token}}).status
	}
	logout := func(claims map[string]any, foreign bool) string {
		return o.idp.be(map[string]any{"logout": claims, "foreign": foreign})
	}
	require.Equal(t, http.StatusSeeOther, o.signsIn(ana, "ana").status)
	for name, claims := range map[string]map[string]any{
		"for another":        {"sub": "ana", "aud": "another"},
		"of another":         {"sub": "ana", "iss": "https://evil.example.com"},
		"expired":            {"sub": "ana", "exp": 1, "iat": 1},
		"no event":           {"sub": "ana", "events": map[string]any{}},
		"an ID token's form": {"sub": "ana", "nonce": "x"},
		"no id":              {"sub": "ana", "jti": nil},
		"nobody":             {},
	} {
		require.Equal(t, http.StatusBadRequest, says(logout(claims, false)), name)
	}
	require.Equal(t, http.StatusBadRequest, says(logout(map[string]any{"sub": "ana"}, true)), "by another key")
	for _, token := range []string{"", "x", "x.y.z", strings.Repeat("x", 10<<10)} {
		require.Equal(t, http.StatusBadRequest, says(token))
	}
	require.Equal(t, 200, says(logout(map[string]any{"sub": "somebody else"}, false)), "nobody is signed in by it")
	require.Equal(t, 200, says(logout(map[string]any{"sid": "unknown"}, false)))
	require.True(t, ana.in(), "nothing of that signed her out")

	good := logout(map[string]any{"sub": "ana"}, false)
	require.Equal(t, 200, says(good))
	require.False(t, ana.in())
	require.Equal(t, http.StatusSeeOther, o.signsIn(ana, "ana").status)
	require.Equal(t, http.StatusBadRequest, says(good), "it is taken once")
	require.True(t, ana.in())

	// By the provider's session alone.
	notes := o.sids(t)
	require.NotEmpty(t, notes)
	for _, sid := range notes {
		require.Equal(t, 200, says(logout(map[string]any{"sid": sid}, false)))
	}
	require.False(t, ana.in())

	// A break-glass account is nobody's to sign out.
	require.Equal(t, http.StatusSeeOther, o.signsIn(ana, "ana").status)
	u, err := s.UserByEmail(ctx, "ana@example.com")
	require.NoError(t, err)
	u.BreakGlass = true
	u, err = s.UpdateUser(ctx, stage, u)
	require.NoError(t, err)
	p := o.visitor()
	p.follow(o.machineLink(policy.ToSignIn, u.ID))
	require.Equal(t, http.StatusSeeOther, p.post("/signin/link", nil).status)
	require.Equal(t, 200, says(logout(map[string]any{"sub": "ana"}, false)))
	require.True(t, p.in())
}

func body(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(b)
}

// sids are the provider's sessions that were noted.
func (o *office) sids(t *testing.T) []string {
	t.Helper()
	rows, err := o.app.stores.db.QueryContext(t.Context(), "SELECT id FROM policy_sso_notes WHERE kind = 'sid'")
	require.NoError(t, err)
	defer rows.Close()
	var out []string
	for rows.Next() {
		var id string
		require.NoError(t, rows.Scan(&id))
		_, sid, _ := strings.Cut(id, "|")
		out = append(out, sid)
	}
	require.NoError(t, rows.Err())
	return out
}
