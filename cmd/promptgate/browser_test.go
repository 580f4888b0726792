package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/policy"
)

// browse runs one flow of testdata/browser (file and name, such as "signin setUp") in a real Chromium and reads what it returns into out, which may be nil.
// What the browser's console or a page's content security policy complains of, but where the flow expects it, fails the test.
func browse(t *testing.T, flow string, in map[string]any, out any) {
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	require.NoError(t, err, "run `make tools`: it installs Chromium")
	root, err := filepath.Abs("../../.cache/browser")
	require.NoError(t, err)
	given, err := json.Marshal(in)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", append([]string{"testdata/browser/run.mjs"}, strings.Fields(flow)...)...)
	cmd.Env = cleanEnv("BROWSER_ROOT="+root, "CHROMIUM="+chromium)
	cmd.Stdin = bytes.NewReader(given)
	var told, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &told, &errOut
	require.NoError(t, cmd.Run(), "%s (run `make tools` when something is missing)\n%s", flow, &errOut)
	var said struct {
		Result     json.RawMessage
		Complaints []string
	}
	require.NoError(t, json.Unmarshal(told.Bytes(), &said), "%s", &told)
	require.Empty(t, said.Complaints, "what Chromium complains of")
	if out != nil {
		require.NoError(t, json.Unmarshal(said.Result, out), "%s", said.Result)
	}
}

// named is where a browser reaches a gateway on this machine: by the name that passkeys are for.
func named(url string) string { return strings.Replace(url, "127.0.0.1", "localhost", 1) }

// printedLink is the sign-in link that a gateway printed for whoever started it.
func (p *process) printedLink() string {
	p.t.Helper()
	link := regexp.MustCompile(`http://localhost:\d+/signin/link/[-_A-Za-z0-9]{43}`)
	require.Eventually(p.t, func() bool { return link.MatchString(p.log.String() + p.out.String()) }, 10*time.Second, 10*time.Millisecond)
	return link.FindString(p.log.String() + p.out.String())
}

// TestBrowserSetsUp: from the link on the terminal to an account that signs in by its password.
func TestBrowserSetsUp(t *testing.T) {
	p := startGateway(t, t.TempDir(), nil)
	var cookies []struct {
		Name, SameSite   string
		HTTPOnly, Secure bool
	}
	browse(t, "signin setUp", map[string]any{"link": p.printedLink(), "site": named(p.url)}, &cookies)
	require.NotEmpty(t, cookies)
	for _, c := range cookies {
		require.True(t, c.HTTPOnly, c.Name)
		require.Equal(t, "Lax", c.SameSite, c.Name)
	}
}

// TestBrowserSignsInToTheDemo: the link that `make run` prints works, once.
func TestBrowserSignsInToTheDemo(t *testing.T) {
	p := startGateway(t, t.TempDir(), nil, "--demo")
	browse(t, "signin demo", map[string]any{"link": p.printedLink()}, nil)
}

// browsed runs a flow that begins with the sign-in link of a new member.
func (h *house) browsed(flow, name string) {
	h.t.Helper()
	at := named(h.url)
	browse(h.t, flow, map[string]any{"site": at, "link": at + h.link(policy.ToSignIn, h.member(name))}, nil)
}

// member is a new member of the house's own project.
func (h *house) member(name string) string {
	h.t.Helper()
	ctx, s := h.t.Context(), h.app.stores.keys
	u, err := s.CreateUser(ctx, stage, policy.User{Email: name + "@people.example", Name: "Ana Person", State: policy.UserActive})
	require.NoError(h.t, err)
	_, err = s.Bind(ctx, stage, &policy.Principal{Kind: policy.KindSystem}, policy.Binding{Project: h.ownProject(), Subject: u.ID, Role: policy.RoleEditor})
	require.NoError(h.t, err)
	return u.ID
}

// TestBrowserPasskeys: a passkey signs in and is not taken away while it is the only way; a copy of it and an answer that is sent again are refused.
func TestBrowserPasskeys(t *testing.T) {
	h := newHouse(t)
	for _, flow := range []string{"passkey", "clone", "replay"} {
		h.browsed("signin "+flow, flow)
	}
}

// TestBrowserKeyboard: who has no mouse signs in by a link, a password and a passkey, sees where the focus is, and signs out.
func TestBrowserKeyboard(t *testing.T) {
	newHouse(t).browsed("signin keyboard", "kay")
}

// TestBrowserPages: no page has a barrier that axe knows of, none is wider than a telephone, and buttons can be hit there; light and dark. With
// PROMPTGATE_PICTURES, a folder, it leaves a picture of each there: `make screenshots`.
func TestBrowserPages(t *testing.T) {
	h, _ := mailedHouse(t)
	at := named(h.url)
	invited, err := h.app.stores.keys.CreateUser(t.Context(), stage, policy.User{Email: "invited@people.example", State: policy.UserInvited})
	require.NoError(t, err)
	links := map[string]string{
		"setup": at + h.link(policy.ToSetUp, ""), "invite": at + h.link(policy.ToJoin, invited.ID),
		"reset": at + h.link(policy.ToReset, h.member("reset")), "signin": at + h.link(policy.ToSignIn, h.member("ana.of.a.rather.long.address")),
	}
	found := map[string][]string{}
	browse(t, "pages all", map[string]any{"site": at, "links": links, "pictures": os.Getenv("PROMPTGATE_PICTURES")}, &found)
	require.Len(t, found, 13*4)
	for state, barriers := range found {
		require.Empty(t, barriers, state)
	}
}
