package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// runHere is the command line in this process.
func runHere(t *testing.T, args ...string) (out, errOut string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, &streams{in: strings.NewReader(""), out: &o, err: &e})
	return o.String(), e.String(), code
}

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}} {
		out, errOut, code := runHere(t, args...)
		require.Zero(t, code)
		require.Equal(t, "promptgate "+version+"\n", out)
		require.Empty(t, errOut)
	}
}

func TestWrongConfigurationExitsWithTwo(t *testing.T) {
	name := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(name, []byte("adr: x\nlog_level: loud\n"), 0o600))
	_, errOut, code := runHere(t, "serve", "--config", name, "--data", t.TempDir())
	require.Equal(t, exitUsage, code)
	require.Contains(t, errOut, `unknown setting "adr" (did you mean "addr"?)`)
	require.Contains(t, errOut, `log_level: is "loud"`)
}

// Whoever asks for what is not there is answered in the shape of the API that it asked.
func TestUnknownAddressesHaveTheirOwnShape(t *testing.T) {
	h := newHouse(t)
	for _, c := range []struct {
		method, path string
		status       int
		kind, holds  string
	}{
		{"GET", "/api/v1/nothing", 404, "application/problem+json", `"code":"not_found"`},
		{"DELETE", "/api/v1/me", 405, "application/problem+json", `"status":405`},
		{"GET", "/v1/nothing", 404, "application/json", `"error":{`},
		{"DELETE", "/v1/models", 405, "application/json", `"error":{`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, h.url+c.path, http.NoBody)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, c.status, resp.StatusCode, c.path)
		require.True(t, strings.HasPrefix(resp.Header.Get("Content-Type"), c.kind), resp.Header)
		require.Contains(t, string(body), c.holds)
		if c.status == 405 {
			require.Equal(t, "GET", resp.Header.Get("Allow"))
		}
	}
}
