package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
