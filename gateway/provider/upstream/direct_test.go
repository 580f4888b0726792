//go:build unix

package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
)

const answerOK = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

// script serves one connection after the other with play, and counts them.
func script(t *testing.T, play func(c net.Conn, in *bufio.Reader)) (url string, connections *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	connections = new(atomic.Int32)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			go func() {
				defer c.Close()
				play(c, bufio.NewReader(c))
			}()
		}
	}()
	return "http://" + l.Addr().String() + "/v1", connections
}

func plain(t *testing.T, o Options) *Client {
	t.Helper()
	o.Name, o.AllowPrivate, o.APIs = "p", true, []string{provider.APIChat}
	p, err := New(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func usual() *provider.Request {
	return &provider.Request{API: provider.APIChat, Endpoint: "chat/completions", Body: []byte(`{"model":"m"}`), CallID: "call_1"}
}

// fetch makes a usual call and reads its answer.
func fetch(t *testing.T, p *Client) string {
	t.Helper()
	resp, err := p.Do(t.Context(), usual())
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return string(body)
}

func (s *lines) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.idle)
}

// Head and body leave in one write, so that the upstream wakes up once.
func TestARequestIsOneWrite(t *testing.T) {
	got := make(chan string, 1)
	url, _ := script(t, func(c net.Conn, _ *bufio.Reader) {
		buf := make([]byte, 64<<10)
		n, _ := c.Read(buf)
		got <- string(buf[:n])
		_, _ = io.WriteString(c, answerOK)
	})
	p := plain(t, Options{BaseURL: url + "?api-version=7", Secrets: map[string]provider.Secret{"authorization": provider.NewSecret("Bearer sk")},
		Header: http.Header{"X-Org": {"org"}}})
	require.Equal(t, "{}", fetch(t, p))
	host := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/v1")
	require.Equal(t, "POST /v1/chat/completions?api-version=7 HTTP/1.1\r\nHost: "+host+"\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n"+
		"Authorization: Bearer sk\r\nContent-Type: application/json\r\nUser-Agent: promptgate\r\n"+
		"X-Org: org\r\nX-Client-Request-Id: call_1\r\nContent-Length: 13\r\n\r\n"+`{"model":"m"}`, <-got)
}

// What is not usual goes by the Transport, whose rules for it are better than ours.
func TestWhatGoesDirect(t *testing.T) {
	p := plain(t, Options{BaseURL: "http://127.0.0.1:1/v1"})
	require.True(t, p.direct.takes(usual()))
	for name, change := range map[string]func(*provider.Request){
		"headers":    func(r *provider.Request) { r.Header = http.Header{"Openai-Beta": {"x"}} },
		"large body": func(r *provider.Request) { r.Body = make([]byte, oneWrite+1) },
		"no body":    func(r *provider.Request) { r.Body = nil },
		"method":     func(r *provider.Request) { r.Method = http.MethodDelete },
		"query":      func(r *provider.Request) { r.Query = "a=1" },
		"accept":     func(r *provider.Request) { r.Accept = "audio/*" },
		"call id":    func(r *provider.Request) { r.CallID = "call\r\nX: 1" },
		"its last":   func(r *provider.Request) { r.CallID = "call\x7f" },
		"its letter": func(r *provider.Request) { r.CallID = "cäll" },
	} {
		r := usual()
		change(r)
		require.False(t, p.direct.takes(r), name)
	}
	require.Nil(t, plain(t, Options{BaseURL: "https://example.com/v1", HTTP2: true}).direct)
	require.Nil(t, plain(t, Options{BaseURL: "https://bücher.example/v1"}).direct)
}

// Other methods, queries and answers go out as they are asked for, and a method without a body names no type of one.
func TestOtherRequests(t *testing.T) {
	got := make(chan string, 1)
	url, _ := script(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err == nil {
			body, _ := io.ReadAll(req.Body)
			got <- req.Method + " " + req.RequestURI + " " + string(body) + " " + req.Header.Get("Content-Type") + " " + req.Header.Get("Accept")
		}
		_, _ = io.WriteString(c, answerOK)
	})
	p := plain(t, Options{BaseURL: url + "?v=7"})
	for want, r := range map[string]*provider.Request{
		"GET /v1/responses/resp_1?v=7&limit=2   application/json":            {Method: http.MethodGet, Endpoint: "responses/resp_1", Query: "limit=2&v=8"},
		"GET /v1/responses/resp_1?v=7&stream=true   text/event-stream":       {Method: http.MethodGet, Endpoint: "responses/resp_1", Query: "stream=true", Stream: true},
		"DELETE /v1/files/f?v=7   application/json":                          {Method: http.MethodDelete, Endpoint: "files/f"},
		"POST /v1/responses/r/cancel?v=7  application/json application/json": {Endpoint: "responses/r/cancel"},
		"POST /v1/audio/speech?v=7 {} application/json audio/*":              {Endpoint: "audio/speech", Body: []byte("{}"), Accept: "audio/*"},
	} {
		r.API = provider.APIChat
		resp, err := p.Do(t.Context(), r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, want, <-got)
	}
}

func TestDirectOverTLS(t *testing.T) {
	var name string
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name = r.TLS.ServerName
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, "{}")
	}))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	p := plain(t, Options{BaseURL: s.URL + "/v1", TLS: &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12}})
	for range 3 {
		require.Equal(t, "{}", fetch(t, p))
	}
	require.Equal(t, 1, p.direct.lines.count(), "one connection, used again")
	require.Equal(t, "example.com", name)

	stranger := plain(t, Options{BaseURL: s.URL + "/v1"})
	_, err := stranger.Do(t.Context(), usual())
	var e *provider.Error
	require.ErrorAs(t, err, &e, "its certificate is nobody's")
	require.Equal(t, provider.KindConnect, e.Kind)
}

// Only a connection whose answer was read to its end, and over which nothing else came, serves another request.
func TestWhichConnectionsAreKept(t *testing.T) {
	answers := map[string]string{
		"kept":              answerOK,
		"provisional":       "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + answerOK,
		"chunked":           "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"asked to close":    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
		"old":               "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
		"more than it said": answerOK + "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanother",
	}
	kept := map[string]bool{"kept": true, "provisional": true, "chunked": true}
	for name, text := range answers {
		t.Run(name, func(t *testing.T) {
			url, connections := script(t, func(c net.Conn, in *bufio.Reader) {
				for {
					if _, err := http.ReadRequest(in); err != nil {
						return
					}
					_, _ = in.Discard(len(`{"model":"m"}`))
					_, _ = io.WriteString(c, text)
				}
			})
			p := plain(t, Options{BaseURL: url})
			for range 3 {
				require.Equal(t, "{}", fetch(t, p))
			}
			require.Equal(t, map[bool]int32{true: 1, false: 3}[kept[name]], connections.Load())
		})
	}
}

// A body that is left alone is not read to its end, which may never come.
func TestClosedEarly(t *testing.T) {
	gone := make(chan struct{})
	url, _ := script(t, func(c net.Conn, in *bufio.Reader) {
		defer close(gone)
		_, _ = http.ReadRequest(in)
		for {
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n: \n\n\r\n"); err != nil {
				return
			}
		}
	})
	p := plain(t, Options{BaseURL: url})
	r := usual()
	r.Stream = true
	resp, err := p.Do(t.Context(), r)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Zero(t, p.direct.lines.count())
	<-gone
}

// Idle connections end after a while, and when the provider is closed.
func TestIdleConnectionsEnd(t *testing.T) {
	url, _ := script(t, func(c net.Conn, in *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			_, _ = in.Discard(len(`{"model":"m"}`))
			_, _ = io.WriteString(c, answerOK)
		}
	})
	p := plain(t, Options{BaseURL: url})
	s := &p.direct.lines
	fetch(t, p)
	require.Equal(t, 1, s.count())
	s.reap()
	require.Equal(t, 1, s.count(), "not yet")
	s.idle[0].idleFrom = time.Now().Add(-lineIdle)
	s.reap()
	require.Zero(t, s.count())

	fetch(t, p)
	s.idle[0].idleFrom = time.Now().Add(-lineIdle)
	require.Nil(t, s.kept(time.Now()), "too old, though nobody has reaped it")

	fetch(t, p)
	require.NoError(t, p.Close())
	require.Zero(t, s.count())
	resp, err := p.Do(t.Context(), usual())
	require.NoError(t, err, "a closed provider still serves, as the Transport does")
	require.NoError(t, p.Close())
	_, err = io.ReadAll(resp.Body)
	require.NoError(t, err, "calls in flight go on")
	require.Zero(t, s.count(), "but their connections are not kept")
	require.Nil(t, s.reaper)
}

// An exchange that has been ended takes no connection any more, and gives none back.
func TestStoppedExchange(t *testing.T) {
	url, _ := script(t, func(_ net.Conn, in *bufio.Reader) { _, _ = in.ReadByte() })
	p := plain(t, Options{BaseURL: url})
	l, err := p.direct.lines.dial(t.Context())
	require.NoError(t, err)
	e := newExchange(t.Context(), p, usual())
	defer e.end()
	e.stop(errHeadTimeout)
	require.False(t, e.hold(l))
	_, err = l.Write([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
	require.False(t, e.abortBy(func(error) {}))

	ctx, leave := context.WithCancel(t.Context())
	e = newExchange(ctx, p, usual())
	defer e.end()
	l, err = p.direct.lines.dial(t.Context())
	require.NoError(t, err)
	e.keep = true
	require.True(t, e.hold(l))
	leave()
	require.Eventually(t, func() bool { return e.stopped() != nil }, time.Minute, time.Millisecond)
	e.release()
	require.Zero(t, p.direct.lines.count())
}

// An upstream that hangs up on an idle connection, without having said so, costs no call.
func TestHungUpWhileIdle(t *testing.T) {
	url, connections := script(t, func(c net.Conn, in *bufio.Reader) {
		_, _ = http.ReadRequest(in)
		_, _ = in.Discard(len(`{"model":"m"}`))
		_, _ = io.WriteString(c, answerOK)
	})
	p := plain(t, Options{BaseURL: url})
	for range 3 {
		require.Equal(t, "{}", fetch(t, p))
		require.Eventually(t, func() bool { return !p.direct.lines.idle[0].quiet() }, time.Minute, time.Millisecond)
	}
	require.EqualValues(t, 3, connections.Load())
}
