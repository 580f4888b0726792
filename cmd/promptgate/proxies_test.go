package main

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

func TestTrustedProxiesSayWhoAsks(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for name, c := range map[string]struct {
		peer    string
		headers []string
		want    string
	}{
		"somebody":                       {"198.51.100.7:4711", nil, "198.51.100.7:4711"},
		"somebody who lies":              {"198.51.100.7:4711", []string{"10.1.1.1"}, "198.51.100.7:4711"},
		"by a proxy":                     {"10.0.0.1:4711", []string{"203.0.113.9"}, "203.0.113.9:0"},
		"a liar by a proxy":              {"10.0.0.1:4711", []string{"192.0.2.1, 203.0.113.9"}, "203.0.113.9:0"},
		"garbage of a liar by a proxy":   {"10.0.0.1:4711", []string{"\x00<script>, 203.0.113.9"}, "203.0.113.9:0"},
		"by two proxies":                 {"10.0.0.1:4711", []string{"203.0.113.9, 10.0.0.2"}, "203.0.113.9:0"},
		"in two lines":                   {"10.0.0.1:4711", []string{"192.0.2.1", "203.0.113.9, 10.0.0.2"}, "203.0.113.9:0"},
		"with a port":                    {"10.0.0.1:4711", []string{"203.0.113.9:55"}, "203.0.113.9:0"},
		"IPv6":                           {"[fd00::1]:4711", []string{"2001:db8::5"}, "[2001:db8::5]:0"},
		"IPv6 in brackets with its port": {"[fd00::1]:4711", []string{"[2001:db8::5]:55"}, "[2001:db8::5]:0"},
		"IPv4 in IPv6":                   {"[::ffff:10.0.0.1]:4711", []string{"::ffff:203.0.113.9"}, "203.0.113.9:0"},
		"a proxy itself":                 {"10.0.0.1:4711", nil, "10.0.0.1:4711"},
		"an empty header":                {"10.0.0.1:4711", []string{""}, "10.0.0.1:4711"},
		"from inside":                    {"10.0.0.1:4711", []string{"10.9.9.9"}, "10.9.9.9:0"},
		"a proxy that does not know":     {"10.0.0.1:4711", []string{"unknown"}, unreadable},
		"a proxy's own garbage":          {"10.0.0.1:4711", []string{"203.0.113.9, _hidden"}, unreadable},
		"a zone":                         {"10.0.0.1:4711", []string{"fe80::1%eth0"}, "[fe80::1]:0"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr, r.Header[forwarded] = c.peer, c.headers
			behind(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr }), trusted).ServeHTTP(httptest.NewRecorder(), r)
			require.Equal(t, c.want, got)
		})
	}
}

// TestKeysOfANetworkBehindAProxy: a key that is bound to a network is judged by who asks, in calls and in the management API; and by nobody's word where no
// proxy is trusted.
func TestKeysOfANetworkBehindAProxy(t *testing.T) {
	ask := func(h *house, secret, forwardedFor string) (api, call int) {
		for path, status := range map[string]*int{"/api/v1/me": &api, "/v1/models": &call} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.url+path, nil)
			require.NoError(t, err)
			r.Header.Set("Authorization", "Bearer "+secret)
			r.Header.Set(forwarded, forwardedFor)
			res, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			*status = res.StatusCode
		}
		return api, call
	}
	key := func(h *house) string {
		secret, _, err := h.app.stores.createKey(t.Context(), stage, h.ownProject(), admin.KeyCreate{Name: "office", Networks: []string{"203.0.113.0/24"}, Grants: []policy.Grant{
			{Actions: []policy.Action{policy.ActionCall}, Prompts: []string{"**"}, Labels: []string{registry.DefaultLabel}},
		}})
		require.NoError(t, err)
		return secret
	}
	trusting := newHouse(t, func(c *configs.Config) { c.Server.TrustedProxies = []string{"127.0.0.0/8"} })
	secret := key(trusting)
	for from, want := range map[string]int{"203.0.113.9": 200, "198.51.100.7": 403, "203.0.113.9, 198.51.100.7": 403, "unknown": 403} {
		api, call := ask(trusting, secret, from)
		require.Equal(t, []int{want, want}, []int{api, call}, from)
	}
	trustless := newHouse(t)
	api, call := ask(trustless, key(trustless), "203.0.113.9")
	require.Equal(t, []int{403, 403}, []int{api, call})
}

// TestSignInsAreLimitedByWhoAsks: one who guesses behind the proxy keeps nobody else behind it waiting.
func TestSignInsAreLimitedByWhoAsks(t *testing.T) {
	h := newHouse(t, func(c *configs.Config) { c.Server.TrustedProxies = []string{"127.0.0.1/32"} })
	try := func(email, from string) int {
		return h.stranger().post("/signin", map[string][]string{"email": {email}, "password": {"a wrong password"}}, forwarded, from).status
	}
	limited := false
	for i := range 80 {
		limited = limited || try(strings.Repeat("a", i+1)+"@people.example", "198.51.100.7") == http.StatusTooManyRequests
	}
	require.True(t, limited)
	require.Equal(t, http.StatusUnauthorized, try("b@people.example", "203.0.113.9"))
}
