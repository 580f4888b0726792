package main

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/internal/mail/mailtest"
	"github.com/promptgate/promptgate/policy"
)

// mailedHouse is one that sends its messages to a real mail server.
func mailedHouse(t *testing.T) (*house, *mailtest.Server) {
	t.Helper()
	server := mailtest.New(t, mailtest.Options{Plain: true})
	return newHouse(t, func(c *configs.Config) {
		c.SMTP.Addr, c.SMTP.From, c.SMTP.TLS = server.Addr, "promptgate@example.com", configs.SMTPNone
	}), server
}

// linkIn is the path of the link in a message.
func linkIn(t *testing.T, m mailtest.Message) string {
	t.Helper()
	text := strings.ReplaceAll(strings.ReplaceAll(m.Text, "=\n", ""), "=3D", "=")
	found := regexp.MustCompile(`/signin/link/[-_A-Za-z0-9]{43}`).FindString(text)
	require.NotEmpty(t, found, text)
	return found
}

func TestInvitationsAndResetsAreMailed(t *testing.T) {
	h, server := mailedHouse(t)
	admin := h.signedIn("admin", h.ownProject(), policy.RoleAdmin)
	in := admin.send("POST", "/api/v1/invitations", strings.NewReader(`{"email":"ana@people.example","bindings":[{"role":"viewer"}]}`),
		"X-Promptgate-Project", "own", "Content-Type", "application/json", "Sec-Fetch-Site", "same-origin")
	require.Equal(t, http.StatusCreated, in.status, in.body)
	require.Contains(t, in.body, `"sent":true`)
	require.NotContains(t, in.body, "/signin/link", "who invites sees the link")
	m := server.Wait(t, 0)
	require.Equal(t, "ana@people.example", m.To)
	ana := h.stranger()
	ana.follow(linkIn(t, m))
	require.Equal(t, http.StatusSeeOther, ana.post("/signin/link", nil).status)
	require.Contains(t, ana.get("/account").body, "ana@people.example")

	server.Down(true)
	operator := h.signedIn("operator", "", policy.RoleOperator)
	u, err := h.app.stores.keys.UserByEmail(t.Context(), "ana@people.example")
	require.NoError(t, err)
	failed := operator.send("POST", "/api/v1/users/"+u.ID+"/reset", nil, "Sec-Fetch-Site", "same-origin")
	require.Equal(t, http.StatusServiceUnavailable, failed.status, failed.body)
	server.Down(false)
	done := operator.send("POST", "/api/v1/users/"+u.ID+"/reset", nil, "Sec-Fetch-Site", "same-origin")
	require.Contains(t, done.body, `"sent":true`)
	again := h.stranger()
	again.follow(linkIn(t, server.Wait(t, 1)))
	require.Equal(t, http.StatusSeeOther, again.post("/signin/link", nil).status)
	require.Equal(t, http.StatusSeeOther, ana.get("/account").status, "the reset ended her session")
}

// TestForgottenPassword: the answer tells nobody who has an account here; who asks again and again sends one message.
func TestForgottenPassword(t *testing.T) {
	h, server := mailedHouse(t)
	ctx, s := t.Context(), h.app.stores.keys
	for email, state := range map[string]policy.UserState{"active": policy.UserActive, "invited": policy.UserInvited, "gone": policy.UserDeactivated} {
		_, err := s.CreateUser(ctx, stage, policy.User{Email: email + "@people.example", State: state})
		require.NoError(t, err)
	}
	stranger := h.stranger()
	require.Contains(t, stranger.get("/signin").body, "/signin/forgot")
	require.Equal(t, http.StatusOK, stranger.get("/signin/forgot").status)
	ask := func(email string) seen {
		return stranger.post("/signin/forgot", url.Values{"email": {email}})
	}
	first := ask("active@people.example")
	require.Equal(t, http.StatusOK, first.status, first.body)
	for _, other := range []string{"gone@people.example", "nobody@people.example", "ACTIVE@people.example", "active@people.example"} {
		got := ask(other)
		require.Equal(t, first.body, got.body, other)
		require.Equal(t, first.status, got.status, other)
	}
	require.Equal(t, first.body, ask("invited@people.example").body) // the last: the queue is first come, first served
	m, n := server.Wait(t, 0), server.Wait(t, 1)
	require.Len(t, server.Taken(), 2)
	require.Equal(t, []string{"active@people.example", "invited@people.example"}, []string{m.To, n.To})
	require.Contains(t, n.Text, "Join")

	back := h.stranger()
	back.follow(linkIn(t, m))
	require.Equal(t, http.StatusSeeOther, back.post("/signin/link", nil).status)
	require.Contains(t, back.get("/account").body, "active@people.example")
	late := h.stranger()
	require.Equal(t, http.StatusSeeOther, late.get(linkIn(t, m)).status)
	require.Equal(t, http.StatusNotFound, late.get("/signin/link").status, "the link was used")

	require.Equal(t, http.StatusBadRequest, ask("no address").status)
	limited := 0
	for range 20 {
		if ask("flood@people.example").status == http.StatusTooManyRequests {
			limited++
		}
	}
	require.Positive(t, limited)
	require.Equal(t, http.StatusForbidden, stranger.post("/signin/forgot", url.Values{"email": {"active@people.example"}}, "Sec-Fetch-Site", "cross-site").status)
}

// TestForgottenPasswordIsTriedAgain: a mail server that is down for a moment loses nobody's way back.
func TestForgottenPasswordIsTriedAgain(t *testing.T) {
	h, server := mailedHouse(t)
	_, err := h.app.stores.keys.CreateUser(t.Context(), stage, policy.User{Email: "active@people.example", State: policy.UserActive})
	require.NoError(t, err)
	server.Down(true)
	require.Equal(t, http.StatusOK, h.stranger().post("/signin/forgot", url.Values{"email": {"active@people.example"}}).status)
	time.Sleep(time.Second)
	server.Down(false)
	require.Equal(t, "active@people.example", server.Wait(t, 0).To)
}
