package main

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/sessions"
	"github.com/promptgate/promptgate/policy/signin"
)

// later is how people sign in, so long from now.
func (h *house) later(d time.Duration) *signin.Service {
	s := *h.app.signing.Service
	s.Clock = func() time.Time { return time.Now().Add(d) }
	return &s
}

// held is what the gateway knows of a browser's session.
func (p *person) held(h *house) sessions.Held {
	p.t.Helper()
	held, err := h.app.signing.keeper.Session(p.t.Context(), p.cookie())
	require.NoError(p.t, err)
	return held
}

// refusedAs demands a refusal of a kind.
func refusedAs(t *testing.T, code fault.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, fault.CodeOf(err), "%v", err)
}

// A session ends when it is not used, and when it is old however much it is used.
func TestSessionsEndByThemselves(t *testing.T) {
	h := newHouse(t)
	s := h.app.stores
	hasher, err := sessions.NewHasher(s.sealer.DeriveKey(sessions.Purpose))
	require.NoError(t, err)
	ahead := time.Duration(0)
	keeper, err := sessions.New(sessions.Deps{Source: s.keys, People: storedPeople{s.keys}, Hasher: hasher, Sealer: s.sealer, Feed: s.feed}, sessions.Options{
		Clock: func() time.Time { return time.Now().Add(ahead) }, Idle: 12 * time.Hour, Max: 7 * 24 * time.Hour, StaleAfter: 1000 * time.Hour,
	})
	require.NoError(t, err)
	user := h.member("ana")
	begin := func() string {
		fresh, token, err := keeper.Fresh(policy.ByPassword, sessions.Browser{Address: "192.0.2.1"})
		require.NoError(t, err)
		fresh.UserID = user
		_, err = s.keys.BeginSession(t.Context(), stage, fresh, nil)
		require.NoError(t, err)
		return token
	}
	good := func(token string) bool {
		_, err := keeper.Session(t.Context(), token)
		if err != nil {
			refusedAs(t, fault.InvalidAPIKey, err)
		}
		return err == nil
	}
	unused := begin()
	require.True(t, good(unused))
	ahead += 12*time.Hour - time.Minute
	require.True(t, good(unused), "just used in time")
	ahead += 12*time.Hour - time.Minute
	require.True(t, good(unused), "each use counts")
	ahead += 12*time.Hour + time.Minute
	require.False(t, good(unused))
	used := begin()
	for range 7*24 - 1 {
		ahead += time.Hour
		require.True(t, good(used))
	}
	ahead += time.Hour + time.Minute
	require.False(t, good(used), "old, though it was used an hour ago")
}

// A browser that was left open is not enough to stay in for good: how to sign in is changed soon after signing in only. What goes on after a change lasts no
// longer than what was there before.
func TestFactorsNeedARecentSignIn(t *testing.T) {
	h := newHouse(t)
	ana := h.signedIn("ana", h.ownProject(), policy.RoleViewer)
	held, ctx, from := ana.held(h), t.Context(), sessions.Browser{}
	late := h.later(16 * time.Minute)
	_, err := late.SetPassword(ctx, held, "", goodPassword, from)
	refusedAs(t, fault.PermissionDenied, err)
	_, _, err = late.BeginRegister(ctx, held)
	refusedAs(t, fault.PermissionDenied, err)
	_, err = late.Register(ctx, held, "", nil, "", from)
	refusedAs(t, fault.PermissionDenied, err)
	_, err = late.RemovePasskey(ctx, held, "k", from)
	refusedAs(t, fault.PermissionDenied, err)

	_, err = h.later(14*time.Minute).SetPassword(ctx, held, "", goodPassword, from)
	require.NoError(t, err)
	list, err := h.app.stores.keys.SessionsOf(ctx, ana.user.ID)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.True(t, held.EndsAt.Equal(list[0].EndsAt), "%s %s", held.EndsAt, list[0].EndsAt)
	require.True(t, held.CreatedAt.Equal(list[0].CreatedAt), "and is no newer")
}

// A challenge is answered soon, by whom and for what it was made.
func TestCeremonies(t *testing.T) {
	h := newHouse(t)
	ana, bo := h.signedIn("ana", h.ownProject(), policy.RoleViewer), h.signedIn("bo", h.ownProject(), policy.RoleViewer)
	ctx, from, now := t.Context(), sessions.Browser{}, h.later(0)
	_, state, err := now.BeginPasskey()
	require.NoError(t, err)
	_, err = now.Passkey(ctx, state, []byte("{}"), from)
	refusedAs(t, fault.InvalidAPIKey, err) // it is looked at
	_, err = h.later(6*time.Minute).Passkey(ctx, state, []byte("{}"), from)
	refusedAs(t, fault.InvalidRequest, err)
	require.ErrorContains(t, err, "too long")
	_, registering, err := now.BeginRegister(ctx, ana.held(h))
	require.NoError(t, err)
	_, err = now.Register(ctx, ana.held(h), registering, []byte("{}"), "", from)
	require.ErrorContains(t, err, "could not be registered", "it is looked at")
	_, err = now.Register(ctx, bo.held(h), registering, []byte("{}"), "", from)
	require.ErrorContains(t, err, "another browser")
	_, err = now.Register(ctx, ana.held(h), state, []byte("{}"), "", from)
	require.ErrorContains(t, err, "another browser", "a challenge to sign in registers nothing")
	for _, made := range []string{registering, "", "AAAA", state[:len(state)-4] + "AAAA"} {
		_, err = now.Passkey(ctx, made, []byte("{}"), from)
		require.ErrorContains(t, err, "another browser")
	}
}

// What spares a browser the wait is of one account, and nobody makes it.
func TestDeviceCookieIsOfOneAccount(t *testing.T) {
	h := newHouse(t)
	ana, bo := h.signedIn("ana", h.ownProject(), policy.RoleViewer), h.signedIn("bo", h.ownProject(), policy.RoleViewer)
	for _, p := range []*person{ana, bo} {
		require.Equal(t, http.StatusSeeOther, p.setPassword("", goodPassword).status)
	}
	sign := func(p *person) int {
		return p.post("/signin", url.Values{"email": {ana.user.Email}, "password": {goodPassword}}).status
	}
	for range 12 {
		h.stranger().post("/signin", url.Values{"email": {ana.user.Email}, "password": {"a wrong password"}})
	}
	at, err := url.Parse(h.url)
	require.NoError(t, err)
	device := func(of *person) string {
		for _, c := range of.client.Jar.Cookies(at) {
			if c.Name == "promptgate-device" {
				return c.Value
			}
		}
		return ""
	}
	own := device(ana)
	require.NotEmpty(t, own)
	with := func(value string) *person {
		p := h.stranger()
		p.client.Jar, err = cookiejar.New(nil)
		require.NoError(t, err)
		p.client.Jar.SetCookies(at, []*http.Cookie{{Name: "promptgate-device", Value: value, Path: "/"}})
		return p
	}
	flipped := own[:30] + strings.Map(func(r rune) rune { return map[bool]rune{true: 'B', false: 'A'}[r == 'A'] }, own[30:31]) + own[31:]
	for name, value := range map[string]string{"none": "", "of another account": device(bo), "made up": strings.Repeat("A", len(own)), "changed": flipped} {
		require.Equal(t, http.StatusTooManyRequests, sign(with(value)), name)
	}
	require.Equal(t, http.StatusSeeOther, sign(with(own)))
}

// Nobody but itself, and whoever has the machine, resets a break-glass account: an operator who is taken over does not take it over.
func TestBreakGlassIsResetByItself(t *testing.T) {
	h := newHouse(t)
	s := h.app.stores.keys
	root, err := s.CreateUser(t.Context(), stage, policy.User{Email: "root@people.example", State: policy.UserActive, BreakGlass: true, Operator: true})
	require.NoError(t, err)
	operator := h.signedIn("op", h.ownProject(), policy.RoleOperator)
	itself := h.stranger()
	itself.follow(h.link(policy.ToSignIn, root.ID))
	require.Equal(t, http.StatusSeeOther, itself.post("/signin/link", nil).status)
	got := operator.send("POST", "/api/v1/users/"+root.ID+"/reset", nil)
	require.Equal(t, http.StatusForbidden, got.status, got.body)
	require.NotContains(t, got.body, "/signin/link/")
	require.Equal(t, http.StatusOK, itself.send("POST", "/api/v1/users/"+root.ID+"/reset", nil).status)
	sent, err := h.app.signing.Reset(t.Context(), stage, root.ID, true)
	require.NoError(t, err)
	require.NotEmpty(t, sent.URL)
	require.Equal(t, http.StatusOK, operator.send("POST", "/api/v1/users/"+operator.user.ID+"/reset", nil).status, "others are reset by operators")
}

// Every page tells browsers that nothing of others runs in it, frames it or is kept of it.
func TestPagesAreTheirOwn(t *testing.T) {
	h, _ := mailedHouse(t)
	ana := h.signedIn("ana", h.ownProject(), policy.RoleViewer)
	for _, path := range []string{"/signin", "/signin/forgot", "/signin/link", "/signin/link/" + strings.Repeat("A", 43), "/account", "/signin/assets/style.css", "/signin/assets/none"} {
		got := ana.get(path)
		policy := got.header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"} {
			require.Contains(t, policy, part, path)
		}
		require.NotContains(t, policy, "unsafe", path)
		require.Equal(t, "no-store", got.header.Get("Cache-Control"), path)
		require.Equal(t, "DENY", got.header.Get("X-Frame-Options"), path)
		require.Equal(t, "nosniff", got.header.Get("X-Content-Type-Options"), path)
		require.Contains(t, []string{"same-origin", "no-referrer"}, got.header.Get("Referrer-Policy"), path)
	}
	require.Equal(t, "no-referrer", ana.get("/signin/link/"+strings.Repeat("A", 43)).header.Get("Referrer-Policy"), "the address that has a token")
}
