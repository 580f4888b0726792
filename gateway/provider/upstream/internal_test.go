package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/provider/egress"
)

// A name whose owner lets it resolve to loopback passes when it is saved; the dial is what refuses it.
func TestANameThatResolvesToLoopback(t *testing.T) {
	reached := false
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer s.Close()
	p, err := New(Options{Name: "p", APIs: []string{provider.APIChat}, BaseURL: "https://innocent.example/v1"})
	require.NoError(t, err)
	p.direct = nil // whose dialler is the same
	real := p.transport.DialContext
	p.transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return real(ctx, network, strings.TrimPrefix(s.URL, "http://")) // what the resolver would say
	}
	_, err = p.Do(t.Context(), &provider.Request{API: provider.APIChat, Endpoint: "chat/completions"})
	var e *provider.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, provider.KindRefused, e.Kind)
	require.ErrorIs(t, err, egress.ErrBlocked)
	require.False(t, reached)
}

// What ends an exchange before its time, and what does not: a reader that is slow to ask is not an upstream that is slow to answer.
func TestOverdue(t *testing.T) {
	p, err := New(Options{Name: "p", APIs: []string{provider.APIChat}, BaseURL: "https://example.com", HeadTimeout: time.Minute, IdleTimeout: time.Hour})
	require.NoError(t, err)
	ctx, leave := context.WithCancelCause(t.Context())
	e := newExchange(ctx, p, &provider.Request{})
	defer e.end()
	after := func(d time.Duration) error { return e.overdue(e.began.Add(d)) }
	require.NoError(t, after(time.Minute-1))
	require.ErrorIs(t, after(time.Minute), errHeadTimeout)
	e.headed.Store(true)
	require.NoError(t, after(1000*time.Hour), "nobody reads")
	e.reading.Store(int64(2*time.Hour) + 1)
	require.NoError(t, after(3*time.Hour-1))
	require.ErrorIs(t, after(3*time.Hour), errIdleTimeout)
	e.reading.Store(0)
	gone := errors.New("gone")
	leave(gone)
	require.ErrorIs(t, after(0), gone)
	require.Eventually(t, func() bool { return errors.Is(e.stopped(), gone) }, time.Minute, time.Millisecond, "the watch looks")
}

// The watch knows who is under way, in whatever order they end, rests when nobody is, and begins again.
func TestWatch(t *testing.T) {
	p, err := New(Options{Name: "p", APIs: []string{provider.APIChat}, BaseURL: "https://example.com"})
	require.NoError(t, err)
	for range 2 {
		var all []*exchange
		for range 10 {
			all = append(all, newExchange(t.Context(), p, &provider.Request{}))
		}
		listed := func() (n int) {
			p.watch.mu.Lock()
			defer p.watch.mu.Unlock()
			require.True(t, p.watch.running)
			for e := p.watch.first; e != nil; e = e.after {
				n++
			}
			require.Equal(t, n, p.watch.count)
			return n
		}
		for i, at := range []int{0, 9, 4, 5, 1, 8, 2, 3, 7, 6} {
			require.Equal(t, 10-i, listed())
			all[at].end()
			all[at].end()
		}
		require.Zero(t, listed())
		require.Eventually(t, func() bool {
			p.watch.mu.Lock()
			defer p.watch.mu.Unlock()
			return !p.watch.running
		}, time.Minute, time.Millisecond)
	}
}

func TestEndings(t *testing.T) {
	for text, want := range map[string]bool{
		`{}`: true, ` {"a":[1,{"b":"}"}]} ` + "\n": true, `"x"`: true, `1`: true, `{"a":"\""}`: true,
		``: false, ` `: false, `{`: false, `{"a":"}`: false, `{"a":"\"}`: false, `[[]`: false, `"x`: false, `{}}`: false,
	} {
		for _, step := range []int{1, 3, 1000} {
			e := newEnding(http.Header{"Content-Type": {"application/json"}}, "")
			for rest := text; rest != ""; {
				n := min(step, len(rest))
				e.saw([]byte(rest[:n]))
				rest = rest[n:]
			}
			require.Equal(t, want, e.complete(), "%q by %d", text, step)
		}
	}
}

// A stream whose connection ends with it ends with an empty line, or with the last event of its shape.
func TestEndingsOfStreams(t *testing.T) {
	for _, c := range []struct {
		text, last string
		want       bool
	}{
		{"data: 1\n\n", "", true}, {"data: 1\r\n\r\n", "", true}, {"data: 1\n", "", false}, {"data: [DONE]", "[DONE]", true},
		{"data: [DONE]", "", false}, {"data: [DON", "[DONE]", false}, {"", "[DONE]", false}, {"", "", false},
	} {
		e := newEnding(http.Header{"Content-Type": {"text/event-stream"}}, c.last)
		e.saw([]byte(c.text))
		require.Equal(t, c.want, e.complete(), "%+v", c)
	}
}

// Whatever the transport still holds of a request, the buffer is out of its reach once the exchange has ended.
func TestTheBufferIsLetGo(t *testing.T) {
	p, err := New(Options{Name: "p", APIs: []string{provider.APIChat}, BaseURL: "https://example.com"})
	require.NoError(t, err)
	e := newExchange(t.Context(), p, &provider.Request{Body: []byte("hello")})
	held := e.sent.reader()
	got := make([]byte, 2)
	n, err := held.Read(got)
	require.NoError(t, err)
	require.Equal(t, "he", string(got[:n]))
	replay, err := e.sent.again()
	require.NoError(t, err)
	whole, err := io.ReadAll(replay)
	require.NoError(t, err)
	require.Equal(t, "hello", string(whole), "a second reader begins again")
	e.end()
	for _, r := range []io.Reader{held, e.sent.reader()} {
		_, err = r.Read(got)
		require.ErrorIs(t, err, io.ErrClosedPipe)
	}
	_, err = replay.Read(got)
	require.ErrorIs(t, err, io.EOF, "it had come to its end")
	_, straight := held.(io.WriterTo)
	require.False(t, straight, "a WriterTo hands the buffer itself to the connection")
}

// What an answer says about its request: a large one is sent once it was read to its end, and not before.
func TestSent(t *testing.T) {
	early := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 1<<20 {
			_, _ = io.Copy(io.Discard, r.Body)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		if r.ContentLength < 1<<20 {
			<-early
		}
		_, _ = io.WriteString(w, "data: 2\n\n")
	}))
	defer s.Close()
	defer close(early) // a server that closes waits for its handlers
	p, err := New(Options{Name: "p", APIs: []string{provider.APIChat}, BaseURL: s.URL, AllowPrivate: true})
	require.NoError(t, err)
	defer func() { _ = p.Close() }()
	for range 2 { // without, and then with a line of its own
		for size, sent := range map[int]bool{10: true, oneWrite: true, oneWrite + 1: true, 1 << 19: true, 64 << 20: false} {
			body := make([]byte, size)
			resp, err := p.Do(t.Context(), &provider.Request{API: provider.APIChat, Endpoint: "chat/completions", Stream: true, Body: body})
			require.NoError(t, err)
			require.Equal(t, sent, resp.Sent, size)
			if sent {
				clear(body) // somebody else's now; under the race detector, a read of it shows
				early <- struct{}{}
				text, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.Equal(t, "data: 1\n\ndata: 2\n\n", string(text))
			}
			require.NoError(t, resp.Body.Close())
		}
		p.direct = nil
	}
}
