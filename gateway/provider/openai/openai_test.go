package openai_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/openai"
	"github.com/promptgate/promptgate/gateway/provider/providertest"
	"github.com/promptgate/promptgate/gateway/provider/upstream"
)

func make1(t testing.TB, o openai.Options) *openai.Provider {
	t.Helper()
	if o.Name == "" {
		o.Name = "up"
	}
	p, err := openai.New(o)
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
			fmt.Fprint(w, "data: {\"object\":\"chat.completion.chunk\"}\n\n")
			w.(http.Flusher).Flush()
		}
		fmt.Fprint(w, "data: [DONE]\n\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, `{"object":"chat.completion"}`)
}

// ways are the two that a request can take: over a connection of ours and by http.Transport, which has all of them where HTTP/2 is offered.
func ways(t *testing.T, f func(t *testing.T, transport bool)) {
	t.Run("direct", func(t *testing.T) { f(t, false) })
	t.Run("transport", func(t *testing.T) { f(t, true) })
}

func TestContract(t *testing.T) {
	ways(t, func(t *testing.T, transport bool) {
		providertest.Contract(t, func(t *testing.T) provider.Provider {
			providertest.NoLeaks(t)
			return make1(t, openai.Options{Options: upstream.Options{BaseURL: serve(t, polite), AllowPrivate: true, HTTP2: transport}})
		})
	})
}

func TestMisbehavingUpstream(t *testing.T) {
	ways(t, func(t *testing.T, transport bool) {
		providertest.Upstream(t, func(t *testing.T, s providertest.Settings) provider.Provider {
			return make1(t, openai.Options{Options: upstream.Options{
				BaseURL: s.BaseURL, AllowPrivate: true, HeadTimeout: s.HeadTimeout, IdleTimeout: s.IdleTimeout, HTTP2: transport,
				DialTimeout: s.DialTimeout, TLSTimeout: s.TLSTimeout, MaxBody: s.MaxBody, MaxHead: s.MaxHead,
			}})
		})
	})
}

func TestWhatIsSent(t *testing.T) {
	var got *http.Request
	var body string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body = r, string(b)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, "{}")
	})
	p := make1(t, openai.Options{
		Options: upstream.Options{BaseURL: url + "/v1/?api-version=7", AllowPrivate: true}, Credential: provider.NewSecret("sk-canary"),
		Organization: "org-ours", Project: "proj-ours",
	})
	const exact = "{\"model\":\"m\",  \"temperature\":0,\"x\":\"\\u00e9é\"}\n"
	resp, err := p.Do(t.Context(), &provider.Request{
		API: provider.APIChat, Endpoint: "chat/completions", Body: []byte(exact), CallID: "call_1",
		Header: http.Header{
			"OpenAI-Beta": {"assistants=v2"}, "Idempotency-Key": {"k"}, "User-Agent": {"their-sdk/1"},
			"Authorization": {"Bearer theirs"}, "Cookie": {"c=1"}, "OpenAI-Organization": {"org-theirs"}, "Openai-Project": {"theirs"},
			"Connection": {"x-hop"}, "X-Hop": {"1"}, "Transfer-Encoding": {"chunked"}, "Te": {"trailers"}, "Host": {"evil"},
			"X-Forwarded-For": {"10.0.0.1"}, "Forwarded": {"for=1"}, "Accept-Encoding": {"gzip"}, "Content-Length": {"1"},
			"Proxy-Authorization": {"p"}, "X-Promptgate-Prompt": {"p"}, "Expect": {"100-continue"}, "Traceparent": {"00-1"},
		},
	})
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, exact, body)
	require.Equal(t, "/v1/chat/completions?api-version=7", got.RequestURI)
	require.Equal(t, strings.TrimPrefix(url, "http://"), got.Host)
	require.EqualValues(t, len(exact), got.ContentLength)
	require.Empty(t, got.TransferEncoding)
	require.Equal(t, http.Header{
		"Authorization": {"Bearer sk-canary"}, "Openai-Organization": {"org-ours"}, "Openai-Project": {"proj-ours"},
		"Openai-Beta": {"assistants=v2"}, "Idempotency-Key": {"k"}, "User-Agent": {"their-sdk/1"},
		"Content-Type": {"application/json"}, "Accept": {"application/json"}, "Accept-Encoding": {"identity"},
		"Content-Length": {fmt.Sprint(len(exact))}, "X-Client-Request-Id": {"call_1"},
	}, got.Header)
}

func TestTheCredentialIsNotPrinted(t *testing.T) {
	o := openai.Options{Options: upstream.Options{Name: "p", BaseURL: "https://example.com"}, Credential: provider.NewSecret("sk-canary")}
	o.Secrets = map[string]provider.Secret{"X-Api-Key": provider.NewSecret("sk-canary")}
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", o, o, o, o.Credential), "canary")
	o.Credential = provider.NewSecret("sk-canary\r\nX: 1")
	_, err := openai.New(o)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "canary")
}

func TestPrivateAddressesAreRefusedWhenSaved(t *testing.T) {
	for _, url := range []string{"http://example.com", "https://127.0.0.1/v1", "https://[::1]", "https://localhost", "https://10.1.2.3"} {
		_, err := openai.New(openai.Options{Options: upstream.Options{BaseURL: url}})
		require.Error(t, err, url)
	}
}

func TestEndpointsStayBelowTheBase(t *testing.T) {
	p := make1(t, openai.Options{Options: upstream.Options{BaseURL: "http://127.0.0.1:1/v1", AllowPrivate: true}})
	for _, endpoint := range []string{"", "/x", "../admin", "a/../b", "a//b", "a?b", "a#b", "a%2fb", "a b", "a\r\nb", "./a", "a/"} {
		_, err := p.Do(t.Context(), &provider.Request{API: provider.APIChat, Endpoint: endpoint})
		var e *provider.Error
		require.ErrorAs(t, err, &e, endpoint)
		require.Equal(t, provider.KindRefused, e.Kind, endpoint)
	}
}

// A request in a shape that the upstream does not speak is refused by name, and nothing is sent.
func TestShapesThatItDoesNotSpeak(t *testing.T) {
	asked := 0
	url := serve(t, func(w http.ResponseWriter, r *http.Request) { asked++; polite(w, r) })
	p := make1(t, openai.Options{Options: upstream.Options{BaseURL: url, AllowPrivate: true, APIs: []string{"chat", "toy"}}})
	r := providertest.Chat(providertest.Plain)
	for _, api := range []string{"toy", "responses"} {
		r.API = api
		resp, err := p.Do(t.Context(), r)
		if api == "toy" {
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			continue
		}
		require.ErrorContains(t, err, `"responses"`)
	}
	require.Equal(t, 1, asked)
}

// A connection that the upstream closed while it was idle must not fail the next request.
func TestStaleConnection(t *testing.T) { ways(t, staleConnection) }

func staleConnection(t *testing.T, transport bool) {
	s := httptest.NewServer(http.HandlerFunc(polite))
	defer s.Close()
	p := make1(t, openai.Options{Options: upstream.Options{BaseURL: s.URL, AllowPrivate: true, HTTP2: transport}})
	answered := 0
	for range 50 {
		resp, err := p.Do(t.Context(), providertest.Chat(providertest.Plain))
		if err != nil {
			// Written before the close was seen: honest about it, and for the retry above to repeat.
			var e *provider.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, provider.KindConnect, e.Kind)
			continue
		}
		_, err = io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		answered++
		s.CloseClientConnections()
	}
	require.Greater(t, answered, 10)
}

// Connections are kept and used again, after streams too.
func TestConnectionsAreReused(t *testing.T) { ways(t, connectionsAreReused) }

func connectionsAreReused(t *testing.T, transport bool) {
	seen := map[string]bool{} // the calls come one after the other
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen[r.RemoteAddr] = true
		polite(w, r)
	})
	p := make1(t, openai.Options{Options: upstream.Options{BaseURL: url, AllowPrivate: true, HTTP2: transport}})
	for i := range 20 {
		body := providertest.Plain
		if i%2 == 0 {
			body = providertest.Streaming
		}
		resp, err := p.Do(t.Context(), providertest.Chat(body))
		require.NoError(t, err)
		_, err = io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	require.Len(t, seen, 1)
}
