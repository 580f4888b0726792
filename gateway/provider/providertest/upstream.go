package providertest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
)

// Settings are what a provider under test is made with.
type Settings struct {
	BaseURL     string // of the upstream, on loopback
	HeadTimeout time.Duration
	IdleTimeout time.Duration
	DialTimeout time.Duration
	TLSTimeout  time.Duration
	MaxBody     int64
	MaxHead     int64
}

// settings has timeouts that do not fire in a test that does not wait for them.
func settings(url string) Settings {
	return Settings{
		BaseURL: url, HeadTimeout: patience, IdleTimeout: patience, DialTimeout: patience, TLSTimeout: patience, MaxBody: 1 << 20, MaxHead: 64 << 10,
	}
}

const short = 60 * time.Millisecond

// scene is one way for an upstream to misbehave.
type scene struct {
	name   string
	play   func(s *side) // what the upstream does with one connection, whose request it has read
	tune   func(s *Settings)
	stream bool

	status int           // of the answer; 0: none is expected
	body   []byte        // exact bytes that must arrive, all of them
	head   provider.Kind // of Do's error
	read   provider.Kind // of the body's error
	check  func(t *testing.T, r *provider.Response)
}

// side is the upstream's side of a connection.
type side struct {
	net.Conn
	left context.Context // done when the provider has gone, or the test is over
}

func (s *side) say(text string) { _, _ = io.WriteString(s, text) }

func (s *side) head(lines ...string) { s.say(strings.Join(lines, "\r\n") + "\r\n\r\n") }

// hang keeps the connection open and silent until the other side leaves.
func (s *side) hang() { <-s.left.Done() }

// reset closes with RST instead of FIN.
func (s *side) reset() {
	if tcp, ok := s.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = s.Close()
}

const (
	ok   = "HTTP/1.1 200 OK"
	js   = "Content-Type: application/json"
	sse  = "Content-Type: text/event-stream"
	chk  = "Transfer-Encoding: chunked"
	shut = "Connection: close"
)

func chunk(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }

// Upstream runs a provider against an upstream that misbehaves in every way of the list: each time there must be a typed error
// or the exact bytes, and nothing left behind.
func Upstream(t *testing.T, newProvider func(t *testing.T, s Settings) provider.Provider) {
	scenes := append(append(statuses(), cuts()...), excesses()...)
	for _, sc := range scenes {
		t.Run(sc.name, func(t *testing.T) {
			NoLeaks(t)
			url := serve(t, sc.play)
			set := settings(url)
			if sc.tune != nil {
				sc.tune(&set)
			}
			run(t, newProvider(t, set), sc)
		})
	}
	t.Run("hang in the TLS handshake", func(t *testing.T) {
		NoLeaks(t)
		url := accept(t, func(s *side) { s.hang() })
		set := settings(strings.Replace(url, "http://", "https://", 1))
		set.TLSTimeout = short
		_, err := newProvider(t, set).Do(ctx(t), Chat(Plain))
		require.False(t, wantKind(t, err, provider.KindConnect).Asked, "it never got the request")
	})
	t.Run("hang at connect", func(t *testing.T) {
		NoLeaks(t)
		set := settings(fullBacklog(t))
		set.DialTimeout = short
		_, err := newProvider(t, set).Do(ctx(t), Chat(Plain))
		require.False(t, wantKind(t, err, provider.KindConnect).Asked, "it never got the request")
	})
	t.Run("cancelled while it connects", func(t *testing.T) {
		NoLeaks(t)
		url := fullBacklog(t)
		gone, cancel := context.WithTimeoutCause(ctx(t), short, errGone)
		defer cancel()
		_, err := newProvider(t, settings(url)).Do(gone, Chat(Plain))
		require.False(t, wantKind(t, err, provider.KindTimeout).Asked, "it never got the request")
	})
	t.Run("nobody listens", func(t *testing.T) {
		NoLeaks(t)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, l.Close())
		_, err = newProvider(t, settings("http://"+l.Addr().String())).Do(ctx(t), Chat(Plain))
		require.False(t, wantKind(t, err, provider.KindConnect).Asked, "it never got the request")
	})
	t.Run("cancel", func(t *testing.T) { cancels(t, newProvider) })
	t.Run("the buffer is the caller's again", func(t *testing.T) { buffer(t, newProvider) })
	t.Run("abandoned streams", func(t *testing.T) { abandoned(t, newProvider) })
}

func run(t *testing.T, p provider.Provider, sc scene) {
	request := Chat(Plain)
	if sc.stream {
		request = Chat(Streaming)
	}
	c := ctx(t)
	defer func() { require.NoError(t, c.Err(), "the provider's own timeouts must fire, not the test's") }()
	resp, err := p.Do(c, request)
	if sc.head != "" {
		e := wantKind(t, err, sc.head)
		if sc.head == provider.KindTimeout || sc.head == provider.KindTruncated {
			require.True(t, e.Asked, "it has the request, and may charge for it")
		}
		return
	}
	require.NoError(t, err)
	if sc.status != 0 {
		require.Equal(t, sc.status, resp.Status)
	}
	if sc.check != nil {
		sc.check(t, resp)
	}
	body, err := io.ReadAll(resp.Body)
	if sc.read != "" {
		wantKind(t, err, sc.read)
		_, again := resp.Body.Read(make([]byte, 8))
		require.Equal(t, err, again, "an error stays")
	} else {
		require.NoError(t, err)
	}
	if sc.body != nil {
		require.True(t, bytes.Equal(sc.body, body), "%d bytes instead of %d", len(body), len(sc.body))
	}
	require.NoError(t, resp.Body.Close())
}

func statuses() []scene {
	answer := func(status, more string) func(*side) {
		return func(s *side) {
			s.head("HTTP/1.1 "+status, js, "Content-Length: 12"+more)
			s.say(`{"error":{}}`)
		}
	}
	after := func(want time.Duration) func(*testing.T, *provider.Response) {
		return func(t *testing.T, r *provider.Response) {
			d, ok := provider.RetryAfter(r.Header, time.Date(2026, 10, 21, 7, 28, 0, 0, time.UTC))
			require.True(t, ok)
			require.Equal(t, want, d)
		}
	}
	body := []byte(`{"error":{}}`)
	return []scene{
		{name: "500", play: answer("500 Internal Server Error", ""), status: 500, body: body},
		{name: "429, seconds", play: answer("429 Too Many Requests", "\r\nRetry-After: 7"), status: 429, body: body, check: after(7 * time.Second)},
		{name: "429, date", play: answer("429 Too Many Requests", "\r\nRetry-After: Wed, 21 Oct 2026 07:28:30 GMT"), status: 429, body: body, check: after(30 * time.Second)},
		{name: "redirect", play: answer("302 Found", "\r\nLocation: http://127.0.0.1:1/steal"), head: provider.KindProtocol},
		{name: "permanent redirect", play: answer("308 Permanent Redirect", "\r\nLocation: /elsewhere"), head: provider.KindProtocol},
		{name: "switched protocols", play: func(s *side) {
			s.head("HTTP/1.1 101 Switching Protocols", "Upgrade: x", "Connection: upgrade")
			s.hang()
		}, head: provider.KindProtocol},
		{name: "HTML with 200", play: func(s *side) {
			s.head(ok, "Content-Type: text/html; charset=utf-8", "Content-Length: 6")
			s.say("<html>")
		}, head: provider.KindProtocol},
		{name: "stream instead of JSON", play: func(s *side) {
			s.head(ok, sse, chk)
			s.say(chunk("data: [DONE]\n\n") + "0\r\n\r\n")
		}, head: provider.KindProtocol},
		{name: "not HTTP", play: func(s *side) { s.say("SSH-2.0-OpenSSH_9.2\r\n\r\n") }, head: provider.KindProtocol},
		{name: "two lengths", play: func(s *side) {
			s.head(ok, js, "Content-Length: 2", "Content-Length: 3")
			s.say("{} ")
		}, head: provider.KindProtocol},
	}
}

func cuts() []scene {
	events := "data: {\"a\":1}\n\n"
	soon := func(s *Settings) { s.HeadTimeout, s.IdleTimeout = short, short }
	return []scene{
		{name: "hang before the first byte", play: (*side).hang, tune: soon, head: provider.KindTimeout},
		{name: "hang within the head", play: func(s *side) { s.say("HTTP/1.1 200 OK\r\nContent-"); s.hang() }, tune: soon, head: provider.KindTimeout},
		{name: "hang mid-stream", play: func(s *side) { s.head(ok, sse, chk); s.say(chunk(events)); s.hang() }, stream: true,
			tune: func(s *Settings) { s.IdleTimeout = short }, read: provider.KindTimeout, body: []byte(events)},
		{name: "hang mid-JSON", play: func(s *side) { s.head(ok, js, "Content-Length: 10"); s.say("{"); s.hang() },
			tune: func(s *Settings) { s.IdleTimeout = short }, read: provider.KindTimeout, body: []byte("{")},
		{name: "closed before the first byte", play: func(*side) {}, head: provider.KindConnect},
		{name: "reset before the first byte", play: (*side).reset, head: provider.KindConnect},
		{name: "cut within the head", play: func(s *side) { s.say(ok + "\r\n" + js + "\r\n") }, head: provider.KindTruncated},
		{name: "reset mid-stream", play: func(s *side) { s.head(ok, sse, chk); s.say(chunk(events)); s.reset() }, stream: true, read: provider.KindTruncated},
		{name: "half close mid-stream", play: func(s *side) {
			s.head(ok, sse, chk)
			s.say(chunk(events))
			_ = s.Conn.(*net.TCPConn).CloseWrite()
			s.hang()
		}, stream: true, read: provider.KindTruncated, body: []byte(events)},
		{name: "shorter than its length", play: func(s *side) { s.head(ok, js, "Content-Length: 100"); s.say(`{"id":1}`) }, read: provider.KindTruncated},
		{name: "longer than its length", play: func(s *side) { s.head(ok, js, "Content-Length: 2"); s.say(`{}{"smuggled":1}`) }, body: []byte("{}")},
		{name: "bad chunk size", play: func(s *side) { s.head(ok, sse, chk); s.say(chunk(events) + "zz\r\nrest\r\n") }, stream: true, read: provider.KindProtocol, body: []byte(events)},
		{name: "chunk cut", play: func(s *side) { s.head(ok, sse, chk); s.say("64\r\ndata: half") }, stream: true, read: provider.KindTruncated},
		{name: "JSON that ends with the connection", play: func(s *side) { s.head(ok, js, shut); s.say(`{"a":["}"]}`) }, body: []byte(`{"a":["}"]}`)},
		{name: "JSON cut with the connection", play: func(s *side) { s.head(ok, js, shut); s.say(`{"a":["}"]`) }, read: provider.KindTruncated, body: []byte(`{"a":["}"]`)},
		{name: "JSON of no byte", play: func(s *side) { s.head(ok, js, shut) }, read: provider.KindTruncated},
		{name: "stream that ends with the connection", play: func(s *side) { s.head(ok, sse, shut); s.say(events + "data: [DONE]\n\n") }, stream: true, body: []byte(events + "data: [DONE]\n\n")},
		{name: "stream cut with the connection", play: func(s *side) { s.head(ok, sse, shut); s.say(events + "data: {\"a\"") }, stream: true, read: provider.KindTruncated},
	}
}

func excesses() []scene {
	line := []byte("data: " + strings.Repeat("x", 16<<20) + "\n\ndata: [DONE]\r\n\r\n: comment\n\n")
	slow := []byte("event: a\r\ndata: 1\r\n\r\n: ping\n\ndata: [DONE]\n\n")
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(make([]byte, 8<<20))
	_ = z.Close()
	return []scene{
		{name: "16 MiB event", stream: true, body: line, play: func(s *side) {
			s.head(ok, sse, chk)
			fmt.Fprintf(s, "%x\r\n", len(line))
			_, _ = s.Write(line)
			s.say("\r\n0\r\n\r\n")
		}},
		{name: "one byte per chunk", stream: true, body: slow, play: func(s *side) {
			s.head(ok, sse, chk)
			for _, c := range slow {
				s.say(chunk(string([]byte{c})))
			}
			s.say("0\r\n\r\n")
		}},
		{name: "gzip bomb", head: provider.KindProtocol, play: func(s *side) {
			s.head(ok, js, "Content-Encoding: gzip", fmt.Sprintf("Content-Length: %d", bomb.Len()))
			_, _ = s.Write(bomb.Bytes())
		}},
		{name: "huge head", head: provider.KindProtocol, play: func(s *side) {
			s.head(ok, js, "X-Huge: "+strings.Repeat("h", 256<<10), "Content-Length: 2")
			s.say("{}")
		}},
		{name: "head without end", head: provider.KindProtocol, play: func(s *side) {
			s.say(ok + "\r\n")
			for s.left.Err() == nil {
				if _, err := io.WriteString(s, "X-More: "+strings.Repeat("m", 4000)+"\r\n"); err != nil {
					return
				}
			}
		}},
		{name: "declared too large", tune: func(s *Settings) { s.MaxBody = 10 }, head: provider.KindRefused, play: func(s *side) {
			s.head(ok, js, "Content-Length: 11")
			s.say(`"123456789"`)
		}},
		{name: "grows too large", tune: func(s *Settings) { s.MaxBody = 10 }, read: provider.KindRefused, body: []byte(`"123456789`), play: func(s *side) {
			s.head(ok, js, chk)
			s.say(chunk(`"123456789"`) + "0\r\n\r\n")
		}},
		{name: "as large as allowed", tune: func(s *Settings) { s.MaxBody = 11 }, body: []byte(`"123456789"`), play: func(s *side) {
			s.head(ok, js, chk)
			s.say(chunk(`"123456789"`) + "0\r\n\r\n")
		}},
		{name: "stream larger than a body may be", tune: func(s *Settings) { s.MaxBody = 10 }, stream: true, body: slow, play: func(s *side) {
			s.head(ok, sse, chk)
			s.say(chunk(string(slow)) + "0\r\n\r\n")
		}},
	}
}

var errGone = errors.New("the other side is gone")
