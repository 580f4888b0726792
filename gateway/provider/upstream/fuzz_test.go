//go:build unix

package upstream

import (
	"bufio"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
)

// stranger is an upstream that says whatever it was given to a first request, and answerNext to every other.
type stranger struct {
	url  string
	says atomic.Pointer[saying]
	got  chan struct{} // the caller has its answer: what is sent from then on is left over
	said chan struct{} // all of it was sent: what is sent later than the next request cannot be told from its answer, by anybody
}

type saying struct {
	raw []byte
	cut int // raw is sent in two parts: before and after
}

const answerNext = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 6\r\n\r\n\"next\""

func newStranger(t testing.TB) *stranger {
	s := &stranger{got: make(chan struct{}), said: make(chan struct{}, 1)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	s.url = "http://" + l.Addr().String() + "/v1"
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.talk(c)
		}
	}()
	return s
}

// talk answers until its client has nothing more to ask. Whoever waits for the rest of an answer sees the connection end.
func (s *stranger) talk(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if r.Header.Get("X-Client-Request-Id") != "first" {
			_, _ = io.WriteString(c, answerNext)
			continue
		}
		say := s.says.Load()
		_, _ = c.Write(say.raw[:say.cut])
		select {
		case <-s.got:
		case <-time.After(5 * time.Millisecond): // it waits for more
		}
		_, _ = c.Write(say.raw[say.cut:])
		s.said <- struct{}{}
	}
}

// first makes a first request and returns when the stranger has said all that it says to it.
func (s *stranger) first(t *testing.T, c *Client) told {
	out := tell(t, c, "first")
	select {
	case s.got <- struct{}{}:
		<-s.said
	case <-s.said:
	}
	return out
}

// told is what a caller gets.
type told struct {
	Status int
	Header http.Header
	Length int64
	Body   string
	Kind   provider.Kind // of the error that ended it; "" for none
}

func tell(t *testing.T, c *Client, id string) (out told) {
	resp, err := c.Do(t.Context(), &provider.Request{API: provider.APIChat, Endpoint: "chat/completions", Body: []byte(`{"model":"m"}`), CallID: id})
	if err == nil {
		var body []byte
		body, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		out = told{Status: resp.Status, Header: resp.Header, Length: resp.ContentLength, Body: string(body)}
	}
	var e *provider.Error
	if errors.As(err, &e) {
		out.Kind = e.Kind
	} else {
		require.NoError(t, err, "every failure is a *provider.Error")
	}
	return out
}

// FuzzExchange lets an upstream say anything. A caller gets the same by a connection of ours as by http.Transport, and the next caller gets the
// answer to its own request or a failed connection, whatever was left over.
func FuzzExchange(f *testing.F) {
	plain, others := plainHeads()
	for _, text := range append(plain, others...) {
		f.Add([]byte(text+"{}"), uint16(len(text)))
		f.Add([]byte(text+"{}"+answerStray), uint16(len(text)/2))
	}
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	for _, text := range []string{
		ok + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", ok + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: y\r\n\r\n",
		ok + "Transfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\n", ok + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
		ok + "\r\n{}", ok + "\r\n{", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n",
		"HTTP/1.1 204 No Content\r\n\r\n" + answerStray, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx",
		"HTTP/1.1 000 Nothing\r\n\r\n" + answerOK, "HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\n" + answerOK, "HTTP/1.1 429 Too Many\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}",
	} {
		f.Add([]byte(text), uint16(7))
		f.Add([]byte(text+answerStray), uint16(len(text)))
	}
	log.SetOutput(io.Discard) // Transport tells of what comes unasked
	s := newStranger(f)
	ours, std := fuzzClient(f, s.url), fuzzClient(f, s.url)
	require.NotNil(f, ours.direct)
	std.direct = nil
	f.Fuzz(func(t *testing.T, raw []byte, cut uint16) {
		if len(raw) > 4<<10 {
			return
		}
		s.says.Store(&saying{raw, min(int(cut), len(raw))})
		got := s.first(t, ours)
		next := tell(t, ours, "next")
		want := s.first(t, std)
		_, _ = ours.Close(), std.Close() // the first request goes over a new connection
		require.Equal(t, want, got, "%q", raw)
		if next.Kind != provider.KindConnect {
			require.Equal(t, `"next"`, next.Body, "%q", raw)
		}
	})
}

func fuzzClient(f *testing.F, url string) *Client {
	c, err := New(Options{Name: "p", BaseURL: url, AllowPrivate: true, APIs: []string{provider.APIChat}})
	require.NoError(f, err)
	f.Cleanup(func() { _ = c.Close() })
	return c
}
