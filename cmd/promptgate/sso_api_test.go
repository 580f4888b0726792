package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestIdentityProvidersByCommand: an operator adds, looks at, changes, tests and removes one; its secret is shown to nobody and kept sealed.
func TestIdentityProvidersByCommand(t *testing.T) {
	p := startGateway(t, t.TempDir(), []string{"PROMPTGATE_SSO_ALLOW_PRIVATE=true"}, "--demo")
	idp := startIdentityProvider(t, named(p.url))
	p.key = strings.TrimSpace(p.cli("key", "create", "ops", "--operator", "--local", "--project", "demo", "--data", p.data))
	run, do := p.cli, func(method, path, body, etag string) seen {
		status, header, text := p.do(method, path, body, "If-Match", etag)
		return seen{status, text, header}
	}
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte(clientSecret+"\n"), 0o600))
	group := strings.TrimSpace(run("group", "create", "editors"))
	shown := run("sso", "add", "Okta", "--issuer", idp.issuer, "--client-id", "promptgate", "--secret-file", secret, "--domain", "example.com", "--group-claim", "groups",
		"--group", "e="+group, "--creates-accounts")
	id := regexp.MustCompile(`idp_[a-z0-9]+`).FindString(shown)
	require.NotEmpty(t, id, shown)
	require.Contains(t, shown, named(p.url)+"/signin/sso/callback")
	require.Contains(t, shown, named(p.url)+"/signin/sso/logout")
	require.Contains(t, run("sso", "list"), id)
	require.Contains(t, run("sso", "test", id), "answers as it should")
	changed := run("sso", "change", id, "--enforce", "example.com", "--name", "Okta of ours")
	require.Contains(t, changed, "example.com (enforced)")
	require.Contains(t, changed, "Okta of ours")
	require.Contains(t, changed, "e = "+group, "what is not given stays")
	require.Contains(t, changed, "its secret is set")
	idp.be(map[string]any{"mode": "down"})
	_, said, code := runCLI(t, []string{"PROMPTGATE_URL=" + p.url, "PROMPTGATE_KEY=" + p.key}, "sso", "test", id)
	require.NotZero(t, code)
	require.Contains(t, said, "nobody can sign in through it")
	idp.be(map[string]any{"mode": ""})

	at := "/api/v1/identity-providers/" + id
	got := do(http.MethodGet, at, "", "")
	require.Equal(t, 200, got.status, got.body)
	var body map[string]any
	require.NoError(t, json.Unmarshal([]byte(got.body), &body))
	require.Equal(t, true, body["has_secret"])
	require.NotContains(t, got.body, clientSecret)
	require.Equal(t, http.StatusPreconditionFailed, do(http.MethodPatch, at, `{"name":"x"}`, "").status, "without an ETag")
	require.Equal(t, http.StatusPreconditionFailed, do(http.MethodPatch, at, `{"name":"x"}`, `"1"`).status)
	require.Equal(t, 200, do(http.MethodPatch, at, `{"name":"x"}`, got.header.Get("ETag")).status)
	for _, body := range []string{
		`{"name":"y","issuer":"http://169.254.169.254","client_id":"c"}`, `{"name":"y","issuer":"ftp://idp.example.com","client_id":"c"}`,
		`{"name":"y","issuer":"https://user:pass@idp.example.com","client_id":"c"}`, `{"name":"y","issuer":"https://idp.example.com?x=1","client_id":"c"}`,
		`{"name":"y","issuer":"https://idp.example.com","client_id":"c","groups":{"e":"` + group + `"}}`,
		`{"name":"y","issuer":"https://idp.example.com","client_id":"c","group_claim":"g","groups":{"e":"grp_none"}}`,
		`{"name":"y","issuer":"https://idp.example.com","client_id":"c","domains":[{"domain":"no domain"}]}`,
	} {
		require.Equal(t, http.StatusBadRequest, do(http.MethodPost, "/api/v1/identity-providers", body, "").status, body)
	}
	require.Equal(t, http.StatusConflict, do(http.MethodPost, "/api/v1/identity-providers",
		`{"name":"y","issuer":"https://idp.example.com","client_id":"c","domains":[{"domain":"Example.COM"}]}`, "").status, "a domain is one provider's")
	require.Contains(t, run("sso", "remove", id), "removed")
	require.Equal(t, http.StatusNotFound, do(http.MethodGet, at, "", "").status)
	files, err := filepath.Glob(filepath.Join(p.data, "*"))
	require.NoError(t, err)
	for _, name := range files {
		if b, err := os.ReadFile(name); err == nil {
			require.NotContains(t, string(b), clientSecret, "%s holds the secret in plaintext", name)
		}
	}
}

// TestProvidersAtPrivateAddresses are refused where the configuration does not allow them.
func TestProvidersAtPrivateAddresses(t *testing.T) {
	h := newHouse(t)
	for _, issuer := range []string{"http://localhost:8080", "https://localhost", "https://127.0.0.1", "https://10.0.0.1", "https://[::1]", "https://192.168.1.1/realms/x", "http://idp.example.com"} {
		got := h.do(h.keys["operator"], "POST", "/api/v1/identity-providers", `{"name":"x","issuer":"`+issuer+`","client_id":"c"}`)
		require.Equal(t, http.StatusBadRequest, got.status, "%s: %s", issuer, got.body)
		require.Contains(t, got.body, "issuer")
	}
}
