//go:build unix

package upstream

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
)

// request reads a usual one; false when there is none any more.
func request(in *bufio.Reader) bool {
	if _, err := http.ReadRequest(in); err != nil {
		return false
	}
	_, err := in.Discard(len(`{"model":"m"}`))
	return err == nil
}

// guard closes a line that waits for what will not come: the test fails then, instead of hanging.
func guard(t *testing.T, l *line) {
	t.Helper()
	timer := time.AfterFunc(10*time.Second, func() {
		t.Error("nothing came")
		_ = l.socket.Close()
	})
	t.Cleanup(func() { timer.Stop(); _ = l.socket.Close() })
}

// idle is the one line that p keeps. It stays in the list.
func idle(t *testing.T, p *Client) *line {
	t.Helper()
	p.direct.lines.mu.Lock()
	defer p.direct.lines.mu.Unlock()
	require.Len(t, p.direct.lines.idle, 1)
	return p.direct.lines.idle[0]
}

// quiet reports whether an idle connection is open and nothing has come over it.
func (l *line) quiet() bool {
	silent := false
	err := l.raw.Read(func(fd uintptr) bool {
		silent = l.silentAt(fd)
		return true
	})
	return err == nil && silent
}

// arrives returns when what is said is there to be read.
func (l *line) arrives(fd uintptr) {
	for l.silentAt(fd) {
		runtime.Gosched()
	}
}

// An answer that is there before anybody waits for it is read all the same, and the request's buffer is free while it is awaited.
func TestAnswerBeforeTheWait(t *testing.T) {
	url, connections := script(t, func(c net.Conn, in *bufio.Reader) {
		for request(in) {
			_, _ = io.WriteString(c, answerOK)
		}
	})
	p := plain(t, Options{BaseURL: url})
	require.Equal(t, "{}", fetch(t, p))
	l := idle(t, p)
	guard(t, l)
	turns := 0
	l.sending.turn = func(fd uintptr) bool {
		turns++
		done := l.sendAt(fd)
		l.arrives(fd)
		if !done {
			require.Nil(t, l.sending.data)
		}
		return done
	}
	for range 3 {
		require.Equal(t, "{}", fetch(t, p))
	}
	require.Equal(t, 6, turns, "one to send, one to wake up")
	require.EqualValues(t, 1, connections.Load())
}

// An upstream that answers a new connection before it is asked is heard: what had come already wakes nobody.
func TestAnswerBeforeTheRequest(t *testing.T) {
	speak, over := make(chan struct{}), make(chan struct{})
	defer close(over)
	url, _ := script(t, func(c net.Conn, _ *bufio.Reader) {
		<-speak
		_, _ = io.WriteString(c, answerOK)
		<-over
	})
	p := plain(t, Options{BaseURL: url})
	l, err := p.direct.lines.dial(t.Context())
	require.NoError(t, err)
	guard(t, l)
	spoken := false
	require.NoError(t, l.raw.Read(func(uintptr) bool { // until the poller has noted it
		if !spoken {
			close(speak)
			spoken = true
			return false
		}
		return true
	}))
	l.left = p.o.MaxHead
	n, err := p.direct.send(l, false, usual())
	require.NoError(t, err)
	require.Positive(t, n)
	resp, err := readHead(l)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

// What the socket has no room for follows as there is room.
func TestRequestLargerThanTheSocket(t *testing.T) {
	data := make([]byte, 16<<20)
	for i := range data {
		data[i] = byte(i / 251)
	}
	read, got := make(chan struct{}), make(chan []byte, 1)
	url, _ := script(t, func(c net.Conn, in *bufio.Reader) {
		<-read
		all, _ := io.ReadAll(io.LimitReader(in, int64(len(data))))
		got <- all
		_, _ = io.WriteString(c, answerOK)
	})
	p := plain(t, Options{BaseURL: url})
	for _, kept := range []bool{false, true} {
		l, err := p.direct.lines.dial(t.Context())
		require.NoError(t, err)
		guard(t, l)
		first := 0
		l.sending.turn = func(fd uintptr) bool {
			done := l.sendAt(fd)
			require.True(t, done, "there is more to send")
			first = l.sending.left
			read <- struct{}{}
			return done
		}
		back := sync.Pool{New: func() any { return nil }}
		n, err := l.send(&data, &back, kept)
		require.NoError(t, err)
		require.Equal(t, len(data), n)
		require.Positive(t, first)
		require.Less(t, first, n)
		require.True(t, bytes.Equal(data, <-got))
		l.left = p.o.MaxHead
		resp, err := readHead(l)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
	}
}

// The upstream hangs up when it has been asked whether the line is quiet: where nothing could be sent another connection is taken, and
// where something was the call fails, because it may have been served.
func TestHungUpAfterTheQuestion(t *testing.T) {
	for name, reset := range map[string]bool{"reset": true, "closed": false} {
		t.Run(name, func(t *testing.T) {
			hangUp := make(chan struct{})
			var calls atomic.Int32
			url, connections := script(t, func(c net.Conn, in *bufio.Reader) {
				request(in)
				calls.Add(1)
				_, _ = io.WriteString(c, answerOK)
				<-hangUp
				if tcp, ok := c.(*net.TCPConn); ok && reset {
					_ = tcp.SetLinger(0)
				}
			})
			p := plain(t, Options{BaseURL: url})
			require.Equal(t, "{}", fetch(t, p))
			l := idle(t, p)
			guard(t, l)
			l.sending.turn = func(fd uintptr) bool {
				if l.sending.waits {
					return true
				}
				require.True(t, l.silentAt(fd))
				close(hangUp)
				l.arrives(fd)
				return l.writeAt(fd)
			}
			resp, err := p.Do(t.Context(), usual())
			if reset {
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
				require.EqualValues(t, 2, connections.Load())
				return
			}
			var e *provider.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, provider.KindConnect, e.Kind)
			require.EqualValues(t, 1, connections.Load())
		})
	}
}

// A caller who leaves, or a head that takes too long, ends the wait on a line that was kept.
func TestStopEndsTheWait(t *testing.T) {
	asked, over := make(chan struct{}), make(chan struct{})
	url, connections := script(t, func(c net.Conn, in *bufio.Reader) {
		request(in)
		_, _ = io.WriteString(c, answerOK)
		request(in)
		asked <- struct{}{}
		<-over
	})
	defer close(over)
	p := plain(t, Options{BaseURL: url})
	require.Equal(t, "{}", fetch(t, p))
	guard(t, idle(t, p))
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		<-asked
		leave()
	}()
	_, err := p.Do(ctx, usual())
	var e *provider.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, provider.KindCancelled, e.Kind)
	require.Zero(t, p.direct.lines.count())

	p.o.HeadTimeout = 50 * time.Millisecond
	require.Equal(t, "{}", fetch(t, p))
	guard(t, idle(t, p))
	go func() { <-asked }()
	_, err = p.Do(t.Context(), usual())
	require.ErrorAs(t, err, &e)
	require.Equal(t, provider.KindTimeout, e.Kind)
	require.EqualValues(t, 2, connections.Load())
}
