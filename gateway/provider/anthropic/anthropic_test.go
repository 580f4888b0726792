package anthropic_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/anthropic"
	"github.com/promptgate/promptgate/gateway/provider/providertest"
	"github.com/promptgate/promptgate/gateway/provider/upstream"
)

func make1(t testing.TB, o anthropic.Options) *anthropic.Provider {
	t.Helper()
	if o.Name == "" {
		o.Name = "up"
	}
	p, err := anthropic.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func polite(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if strings.Contains(string(body), `"stream":true`) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range 5 {
			fmt.Fprint(w, "event: ping\ndata: {\"type\":\"ping\"}\n\n")
			w.(http.Flusher).Flush()
		}
		fmt.Fprint(w, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, `{"id":"msg_1","type":"message"}`)
}

// ways are the two that a request can take: over a connection of ours and by http.Transport.
func ways(t *testing.T, f func(t *testing.T, transport bool)) {
	t.Run("direct", func(t *testing.T) { f(t, false) })
	t.Run("transport", func(t *testing.T) { f(t, true) })
}

func TestContract(t *testing.T) {
	ways(t, func(t *testing.T, transport bool) {
		providertest.ContractIn(t, providertest.Messages(), func(t *testing.T) provider.Provider {
			providertest.NoLeaks(t)
			return make1(t, anthropic.Options{Options: upstream.Options{BaseURL: serve(t, polite), AllowPrivate: true, HTTP2: transport}})
		})
	})
}

// speaking takes the suite's requests, which are of chats, as messages.
type speaking struct{ *anthropic.Provider }

func (s speaking) Do(ctx context.Context, r *provider.Request) (*provider.Response, error) {
	as := *r
	as.API, as.Endpoint = provider.APIMessages, "messages"
	return s.Provider.Do(ctx, &as)
}

func TestMisbehavingUpstream(t *testing.T) {
	providertest.Upstream(t, func(t *testing.T, s providertest.Settings) provider.Provider {
		return speaking{make1(t, anthropic.Options{Options: upstream.Options{
			BaseURL: s.BaseURL, AllowPrivate: true, HeadTimeout: s.HeadTimeout, IdleTimeout: s.IdleTimeout,
			DialTimeout: s.DialTimeout, TLSTimeout: s.TLSTimeout, MaxBody: s.MaxBody, MaxHead: s.MaxHead,
		}})}
	})
}

// TestWhatIsSent: the credential, the version and the betas, and nothing else of the caller's, however the request goes.
func TestWhatIsSent(t *testing.T) {
	var got *http.Request
	var body string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body = r, string(b)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, "{}")
	})
	p := make1(t, anthropic.Options{Options: upstream.Options{BaseURL: url + "/v1", AllowPrivate: true}, Credential: provider.NewSecret("sk-ant-canary")})
	const exact = "{\"model\":\"m\",  \"temperature\":0,\"x\":\"\\u00e9é\"}\n"
	for name, c := range map[string]struct{ header, want http.Header }{
		"the usual request": {nil, http.Header{"Anthropic-Version": {"2023-06-01"}}},
		"betas": {
			http.Header{
				"Anthropic-Version": {"2024-01-01"}, "Anthropic-Beta": {"a-1,b-2"}, "X-Api-Key": {"theirs"}, "Authorization": {"Bearer theirs"}, "Cookie": {"c=1"},
				"Anthropic-Dangerous-Direct-Browser-Access": {"true"}, "Connection": {"x-hop"}, "Host": {"evil"}, "X-Forwarded-For": {"10.0.0.1"}, "Content-Length": {"1"},
			},
			http.Header{"Anthropic-Version": {"2024-01-01"}, "Anthropic-Beta": {"a-1,b-2"}},
		},
	} {
		resp, err := p.Do(t.Context(), &provider.Request{API: provider.APIMessages, Endpoint: "messages/count_tokens", Body: []byte(exact), CallID: "call_1", Header: c.header})
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, exact, body, name)
		require.Equal(t, "/v1/messages/count_tokens", got.RequestURI)
		want := http.Header{
			"X-Api-Key": {"sk-ant-canary"}, "User-Agent": {"promptgate"}, "Content-Type": {"application/json"}, "Accept": {"application/json"},
			"Accept-Encoding": {"identity"}, "Content-Length": {fmt.Sprint(len(exact))}, "X-Client-Request-Id": {"call_1"},
		}
		for key, v := range c.want {
			want[key] = v
		}
		require.Equal(t, want, got.Header, name)
	}
}

func TestTheCredentialIsNotPrinted(t *testing.T) {
	o := anthropic.Options{Options: upstream.Options{Name: "p", BaseURL: "https://example.com"}, Credential: provider.NewSecret("sk-canary")}
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", o, o, o, o.Credential), "canary")
	o.Credential = provider.NewSecret("sk-canary\r\nX: 1")
	_, err := anthropic.New(o)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "canary")
}
