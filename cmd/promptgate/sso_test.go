package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/policy"
)

const clientSecret = "a client secret of a test"

// identityProvider is a real one: npm's oidc-provider, whose people, keys, clock and faults tests choose.
type identityProvider struct {
	t      *testing.T
	issuer string
}

func startIdentityProvider(t *testing.T, site string) *identityProvider {
	t.Helper()
	root, err := filepath.Abs("../../.cache/idp")
	require.NoError(t, err)
	settings, err := json.Marshal(map[string]string{"secret": clientSecret, "redirect": site + "/signin/sso/callback", "logout": site + "/signin/sso/logout"})
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), "node", "testdata/idp/idp.mjs")
	cmd.Env = cleanEnv("IDP_ROOT="+root, "IDP="+string(settings))
	var log bytes.Buffer
	cmd.Stderr = &log
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the provider says: %s", &log)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	require.NoError(t, err, "run `make tools`: it installs oidc-provider\n%s", &log)
	p := &identityProvider{t: t}
	var said struct{ Issuer string }
	require.NoError(t, json.Unmarshal(line, &said))
	p.issuer = said.Issuer
	return p
}

// be changes what the provider is.
func (p *identityProvider) be(change map[string]any) (token string) {
	p.t.Helper()
	b, err := json.Marshal(change)
	require.NoError(p.t, err)
	resp, err := http.Post(p.issuer+"/control", "application/json", bytes.NewReader(b))
	require.NoError(p.t, err)
	defer resp.Body.Close()
	var out struct{ Token string }
	require.NoError(p.t, json.NewDecoder(resp.Body).Decode(&out))
	return out.Token
}

// knows has the provider know one person; more are claims beside the verified address.
func (p *identityProvider) knows(login, email string, more map[string]any) {
	claims := map[string]any{"email": email, "email_verified": true, "name": strings.ToUpper(login[:1]) + login[1:]}
	for name, v := range more {
		claims[name] = v
	}
	p.be(map[string]any{"people": map[string]any{login: claims}})
}

// office is an installation and the identity provider of its people, who are of example.com.
type office struct {
	*house
	idp      *identityProvider
	provider policy.Issuer
	site     string
}

func newOffice(t *testing.T, change func(*policy.Issuer), set ...func(*configs.Config)) *office {
	t.Helper()
	h := newHouse(t, append([]func(*configs.Config){func(c *configs.Config) { c.SSO.AllowPrivate = true }}, set...)...)
	o := &office{house: h, site: siteURL(h.app.cfg, h.app.addr())}
	o.idp = startIdentityProvider(t, o.site)
	o.add(change)
	return o
}

func (o *office) add(change func(*policy.Issuer)) {
	o.t.Helper()
	i := policy.Issuer{
		Name: "Okta", URL: o.idp.issuer, ClientID: "promptgate", Domains: []policy.Domain{{Domain: "example.com"}}, Creates: true,
		Scopes: []string{"openid", "profile", "email", "groups"},
	}
	if change != nil {
		change(&i)
	}
	var err error
	o.provider, err = o.app.signing.AddProvider(o.t.Context(), stage, i, clientSecret)
	require.NoError(o.t, err)
}

// visitor is somebody whose browser knows this site by its name.
func (o *office) visitor() *person {
	p := o.stranger()
	p.url = o.site
	return p
}

var mark = regexp.MustCompile(`role="alert"[^>]*>([^<]+)<`)

// told is what went wrong, as a page says it.
func told(page string) string {
	if m := mark.FindStringSubmatch(page); m != nil {
		return m[1]
	}
	return ""
}

// toProvider goes to the provider and signs in on its pages, as far as its answer to us: an address that nobody has opened yet.
func (o *office) toProvider(p *person, login string) (callback string) {
	o.t.Helper()
	at, posts := o.site+"/signin/sso/"+o.provider.ID, 0
	var form url.Values
	for range 20 {
		method, body := http.MethodGet, io.Reader(nil)
		if form != nil {
			method, body = http.MethodPost, strings.NewReader(form.Encode())
		}
		req, err := http.NewRequestWithContext(o.t.Context(), method, at, body)
		require.NoError(o.t, err)
		if form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := p.client.Do(req)
		require.NoError(o.t, err)
		page, err := io.ReadAll(resp.Body)
		require.NoError(o.t, err)
		_ = resp.Body.Close()
		form = nil
		if to, err := resp.Location(); err == nil {
			if strings.HasPrefix(to.String(), o.site+"/signin/sso/callback?") {
				return to.String()
			}
			at = to.String()
			continue
		}
		require.Equal(o.t, 200, resp.StatusCode, "%s: %s", at, page)
		require.Less(o.t, posts, 3, "the provider asks again: %s", page)
		posts++
		form = url.Values{"prompt": {"consent"}}
		if bytes.Contains(page, []byte(`value="login"`)) {
			form = url.Values{"prompt": {"login"}, "login": {login}, "password": {"anything"}}
		}
	}
	require.Fail(o.t, "the provider sends around in circles")
	return ""
}

// signsIn goes the whole way and returns what our side answered.
func (o *office) signsIn(p *person, login string) seen {
	o.t.Helper()
	return p.get(strings.TrimPrefix(o.toProvider(p, login), o.site))
}

// TestSingleSignOn: from the button to a session, with an account that is made on the way and rights that follow the provider's groups.
func TestSingleSignOn(t *testing.T) {
	var group policy.PeopleGroup
	o := newOffice(t, nil)
	ctx, s := t.Context(), o.app.stores.keys
	group, err := s.CreateGroup(ctx, stage, policy.PeopleGroup{Name: "prompt editors"})
	require.NoError(t, err)
	project := o.ownProject()
	_, err = s.Bind(ctx, stage, &policy.Principal{Kind: policy.KindSystem}, policy.Binding{Project: project, Subject: group.ID, Role: policy.RoleViewer})
	require.NoError(t, err)
	o.provider.GroupClaim, o.provider.Groups = "groups", map[string]string{"editors": group.ID}
	o.provider, err = o.app.signing.ChangeProvider(ctx, stage, o.provider, nil)
	require.NoError(t, err)

	ana := o.visitor()
	page := ana.get("/signin")
	require.Contains(t, page.body, `href="/signin/sso/`+o.provider.ID+`"`)
	require.Contains(t, page.body, "Sign in with Okta")
	o.idp.knows("ana", "Ana@Example.com", map[string]any{"groups": []string{"editors", "unmapped", "admin"}})
	got := o.signsIn(ana, "ana")
	require.Equal(t, http.StatusSeeOther, got.status, told(got.body))
	require.Equal(t, "/account", got.header.Get("Location"))
	require.True(t, ana.in())
	u, err := s.UserByEmail(ctx, "ana@example.com")
	require.NoError(t, err)
	require.Equal(t, policy.UserActive, u.State)
	require.Equal(t, "Ana", u.Name)
	require.False(t, u.Operator || u.BreakGlass, "no provider makes operators")
	sessions, err := s.SessionsOf(ctx, u.ID)
	require.NoError(t, err)
	require.Len(t, sessions, 1)
	require.Equal(t, policy.BySSO, sessions[0].Method)
	a, err := s.Account(ctx, u.ID)
	require.NoError(t, err)
	require.Len(t, a.Groups, 1, "the mapped group and no other")
	require.Equal(t, 200, ana.get("/api/v1/prompts", "X-Promptgate-Project", project).status)
	require.Contains(t, o.do("", "GET", "/metrics", "").body, `promptgate_sign_ins_total{method="sso",outcome="ok"} 1`)

	// The provider takes the group away: the next sign-in does, too, also for a browser that was signed in before.
	o.idp.knows("ana", "ana@example.com", map[string]any{"groups": []string{"unmapped"}})
	other := o.visitor()
	require.Equal(t, http.StatusSeeOther, o.signsIn(other, "ana").status)
	require.Equal(t, http.StatusForbidden, other.get("/api/v1/prompts", "X-Promptgate-Project", project).status)
	require.Equal(t, http.StatusForbidden, ana.get("/api/v1/prompts", "X-Promptgate-Project", project).status)
	again, err := s.UserByEmail(ctx, "ana@example.com")
	require.NoError(t, err)
	require.Equal(t, u.ID, again.ID)

	// The same person under another address is the same account: issuer and subject are the identity.
	o.idp.knows("ana", "ana.new@example.com", nil)
	require.Equal(t, http.StatusSeeOther, o.signsIn(o.visitor(), "ana").status)
	_, err = s.UserByEmail(ctx, "ana.new@example.com")
	require.Error(t, err)

	// The provider's keys change between two sign-ins.
	o.idp.be(map[string]any{"rotate": true})
	got = o.signsIn(o.visitor(), "ana")
	require.Equal(t, http.StatusSeeOther, got.status, told(got.body))

	// A project can demand it.
	require.Equal(t, 200, o.do(o.keys["admin"], "PUT", "/api/v1/sign-in-policy", `{"require":"sso"}`).status)
}

// TestWhoComesInBySSO: an address only links when it is verified and its domain claimed; what is not for the provider to decide stays.
func TestWhoComesInBySSO(t *testing.T) {
	o := newOffice(t, func(i *policy.Issuer) { i.Creates = false })
	ctx, s := t.Context(), o.app.stores.keys
	for email, u := range map[string]policy.User{
		"bo@example.com":    {State: policy.UserActive},
		"cy@example.com":    {State: policy.UserInvited},
		"root@example.com":  {State: policy.UserActive, BreakGlass: true, Operator: true},
		"eve@elsewhere.org": {State: policy.UserActive},
	} {
		u.Email = email
		_, err := s.CreateUser(ctx, stage, u)
		require.NoError(t, err)
	}
	gone, err := s.CreateUser(ctx, stage, policy.User{Email: "dee@example.com", State: policy.UserActive})
	require.NoError(t, err)
	gone.State = policy.UserDeactivated
	_, err = s.UpdateUser(ctx, stage, gone)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		email string
		more  map[string]any
		says  string // "" for who comes in
	}{
		"an account":             {"bo@example.com", nil, ""},
		"who was invited":        {"cy@example.com", nil, ""},
		"not verified":           {"bo2@example.com", map[string]any{"email_verified": false}, "does not vouch for your e-mail address"},
		"verified as a word":     {"bo3@example.com", map[string]any{"email_verified": "no"}, "does not vouch"},
		"no word about it":       {"bo4@example.com", map[string]any{"email_verified": nil}, "does not vouch"},
		"another's domain":       {"eve@elsewhere.org", nil, "an operator has to claim the domain"},
		"a domain below it":      {"eve@sub.example.com", nil, "an operator has to claim the domain"},
		"two addresses in one":   {"eve@elsewhere.org,x@example.com", nil, "does not vouch"},
		"who has no account":     {"nobody@example.com", nil, "ask for an invitation"},
		"a break-glass account":  {"root@example.com", nil, "break-glass account"},
		"who was deactivated":    {"dee@example.com", nil, "deactivated"},
		"without an address":     {"", nil, "does not vouch"},
		"an address as a number": {"bo@example.com", map[string]any{"email": 7}, "was not accepted"},
	} {
		login := strings.ReplaceAll(name, " ", "-")
		o.idp.knows(login, c.email, c.more)
		p := o.visitor()
		got := o.signsIn(p, login)
		if c.says == "" {
			require.Equal(t, http.StatusSeeOther, got.status, "%s: %s", name, told(got.body))
			require.True(t, p.in(), name)
			continue
		}
		require.Equal(t, http.StatusForbidden, got.status, name)
		require.Contains(t, told(got.body), c.says, name)
		require.Empty(t, p.cookie(), name)
	}
	root, err := s.UserByEmail(ctx, "root@example.com")
	require.NoError(t, err)
	require.True(t, root.Active() && root.BreakGlass && root.Operator)
}

// TestBrokenTokensSignNobodyIn: a real provider's tokens, broken in each way.
func TestBrokenTokensSignNobodyIn(t *testing.T) {
	o := newOffice(t, nil)
	o.idp.knows("ana", "ana@example.com", nil)
	for _, how := range []string{
		"aud", "azp", "iss", "nonce", "no nonce", "no sub", "expired", "clock +120s", "at_hash", "unknown kid", "foreign key", "signature", "none", "HS256",
	} {
		o.idp.be(map[string]any{"break": how})
		p := o.visitor()
		got := o.signsIn(p, "ana")
		require.Equal(t, http.StatusForbidden, got.status, how)
		require.Contains(t, told(got.body), "was not accepted: start again", how)
		require.Empty(t, p.cookie(), how)
	}
	_, err := o.app.stores.keys.UserByEmail(t.Context(), "ana@example.com")
	require.Error(t, err, "no account was made")
	for _, how := range []string{"clock -50s", "clock +50s", ""} {
		o.idp.be(map[string]any{"break": how})
		got := o.signsIn(o.visitor(), "ana")
		require.Equal(t, http.StatusSeeOther, got.status, "%s: %s", how, told(got.body))
	}
}

// TestAnswersOfProvidersAreTakenOnce, and by the browser that left alone.
func TestAnswersOfProvidersAreTakenOnce(t *testing.T) {
	o := newOffice(t, nil)
	o.idp.knows("ana", "ana@example.com", nil)
	ana, mallory := o.visitor(), o.visitor()
	callback := strings.TrimPrefix(o.toProvider(ana, "ana"), o.site)
	got := mallory.get(callback)
	require.Equal(t, http.StatusForbidden, got.status, "whose browser did not leave")
	require.Contains(t, told(got.body), "did not bring back what it left with")
	o.toProvider(mallory, "ana")
	require.Equal(t, http.StatusForbidden, mallory.get(callback).status, "whose browser left with another state")
	site, err := url.Parse(o.site)
	require.NoError(t, err)
	var flow *http.Cookie
	for _, c := range ana.client.Jar.Cookies(site) {
		if c.Name == "promptgate-sso" {
			flow = c
		}
	}
	require.NotNil(t, flow)

	// Mallory's code with Ana's state: PKCE ties the code to who asked for it.
	theirs, err := url.Parse(o.toProvider(mallory, "ana"))
	require.NoError(t, err)
	ours, err := url.Parse(callback)
	require.NoError(t, err)
	mixed := ours.Query()
	mixed.Set("code", theirs.Query().Get("code"))
	got = ana.get("/signin/sso/callback?" + mixed.Encode())
	require.Equal(t, http.StatusForbidden, got.status)
	require.Empty(t, ana.cookie())

	callback = strings.TrimPrefix(o.toProvider(ana, "ana"), o.site)
	for _, c := range ana.client.Jar.Cookies(site) {
		if c.Name == "promptgate-sso" {
			flow = c
		}
	}
	require.Equal(t, http.StatusSeeOther, ana.get(callback).status)
	require.Equal(t, http.StatusForbidden, ana.get(callback).status, "what it left with is used up")
	// Somebody who kept it, at a provider that takes a code twice.
	o.idp.be(map[string]any{"mode": "replay"})
	thief := o.visitor()
	thief.client.Jar.SetCookies(site, []*http.Cookie{{Name: flow.Name, Value: flow.Value, Path: "/"}})
	got = thief.get(callback)
	require.Equal(t, http.StatusForbidden, got.status)
	require.Contains(t, told(got.body), "was used already")
	require.Empty(t, thief.cookie())
	o.idp.be(map[string]any{"mode": ""})

	other, err := url.Parse(o.toProvider(ana, "ana"))
	require.NoError(t, err)
	q := other.Query()
	q.Set("iss", "https://evil.example.com")
	require.Equal(t, http.StatusForbidden, ana.get("/signin/sso/callback?"+q.Encode()).status, "an answer in another issuer's name")
	o.toProvider(ana, "ana")
	require.Equal(t, http.StatusForbidden, ana.get("/signin/sso/callback?error=access_denied&state=x").status)
}

// TestProvidersInTrouble: a clear page, in time, and a way in for who breaks the glass.
func TestProvidersInTrouble(t *testing.T) {
	o := newOffice(t, func(i *policy.Issuer) { i.Domains[0].Enforced = true })
	o.idp.knows("ana", "ana@example.com", nil)
	root := o.rootOf("root@example.com")
	for _, c := range []struct{ mode, to string }{
		{"down", ""}, {"huge", ""}, {"redirect", "http://169.254.169.254/latest/meta-data"}, {"redirect", "file:///etc/passwd"}, {"redirect", o.idp.issuer + "/.well-known/openid-configuration"}, {"slow", ""},
	} {
		o.idp.be(map[string]any{"mode": c.mode, "to": c.to})
		time.Sleep(2100 * time.Millisecond) // what failed is not asked again at once
		since := time.Now()
		done := make(chan seen, 1)
		p := o.visitor()
		go func() { done <- p.get("/signin/sso/" + o.provider.ID) }()
		require.Equal(t, http.StatusSeeOther, root().status, "%s: the break-glass account signs in meanwhile", c.mode)
		got := <-done
		require.Equal(t, http.StatusServiceUnavailable, got.status, "%s: %s", c.mode, told(got.body))
		require.Contains(t, told(got.body), "cannot be reached", c.mode)
		require.Contains(t, got.body, `name="password"`, "there are other ways in")
		require.Less(t, time.Since(since), 15*time.Second, c.mode)
		problem, err := o.app.signing.TryProvider(t.Context(), o.provider.ID)
		require.NoError(t, err)
		require.NotEmpty(t, problem, c.mode)
	}
	require.Contains(t, o.do("", "GET", "/metrics", "").body, `promptgate_sign_ins_total{method="sso",outcome="unavailable"} 6`)

	o.idp.be(map[string]any{"mode": ""})
	time.Sleep(2100 * time.Millisecond)
	problem, err := o.app.signing.TryProvider(t.Context(), o.provider.ID)
	require.NoError(t, err)
	require.Empty(t, problem)
	ana := o.visitor()
	callback := strings.TrimPrefix(o.toProvider(ana, "ana"), o.site)
	o.idp.be(map[string]any{"mode": "down"})
	got := ana.get(callback)
	require.Equal(t, http.StatusServiceUnavailable, got.status, "it goes down while somebody is there")
	require.Contains(t, told(got.body), "cannot be reached")
	o.idp.be(map[string]any{"mode": ""})
	require.Equal(t, http.StatusSeeOther, o.signsIn(ana, "ana").status)

	late := o.visitor()
	callback = strings.TrimPrefix(o.toProvider(late, "ana"), o.site)
	require.NoError(t, o.app.stores.db.Close())
	require.Equal(t, http.StatusServiceUnavailable, o.visitor().get("/signin/sso/"+o.provider.ID).status, "without a database nobody signs in")
	require.Equal(t, http.StatusServiceUnavailable, late.get(callback).status)
	require.Equal(t, http.StatusServiceUnavailable, o.visitor().post("/signin/sso/logout", url.Values{"logout_token": {"x.e30.x"}}).status)
}

// rootOf makes a break-glass admin with a password, and returns how it signs in from a browser of its own.
func (o *office) rootOf(email string) func() seen {
	o.t.Helper()
	u, err := o.app.stores.keys.CreateUser(o.t.Context(), stage, policy.User{Email: email, State: policy.UserActive, BreakGlass: true, Operator: true})
	require.NoError(o.t, err)
	o.withPassword(u)
	return func() seen {
		return o.visitor().post("/signin", url.Values{"email": {email}, "password": {goodPassword}})
	}
}

// withPassword gives somebody a password, by a link that was made on the machine.
func (o *office) withPassword(u policy.User) {
	o.t.Helper()
	p := o.visitor()
	p.follow(o.machineLink(policy.ToSignIn, u.ID))
	require.Equal(o.t, http.StatusSeeOther, p.post("/signin/link", nil).status)
	require.Equal(o.t, http.StatusSeeOther, p.setPassword("", goodPassword).status)
}

func (o *office) machineLink(p policy.Purpose, user string) string {
	o.t.Helper()
	link, err := o.app.signing.Link(o.t.Context(), localOrigin("test"), p, user, false)
	require.NoError(o.t, err)
	return strings.TrimPrefix(link, o.site)
}
