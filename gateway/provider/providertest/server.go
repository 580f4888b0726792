package providertest

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
)

// serve runs play on every connection once its first request has been read whole, then closes the connection.
func serve(t *testing.T, play func(*side)) (url string) {
	t.Helper()
	return accept(t, func(s *side) {
		r, err := http.ReadRequest(bufio.NewReader(s))
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		watched, gone := context.WithCancelCause(s.left)
		defer gone(nil)
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = s.Read(make([]byte, 1)) // returns when the provider leaves, or the connection is closed below
			gone(errGone)
		})
		play(&side{s.Conn, watched})
		_ = s.Close()
		wg.Wait()
	})
}

// accept runs play on every connection, then closes it. The test's end waits for all of them.
func accept(t *testing.T, play func(*side)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	over, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer context.AfterFunc(over, func() { _ = c.Close() })()
				play(&side{c, over})
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		wg.Wait()
	})
	return "http://" + l.Addr().String()
}

// cancels checks that the caller's leaving reaches the upstream at every stage.
func cancels(t *testing.T, newProvider func(*testing.T, Settings) provider.Provider) {
	stages := map[string]func(*side){
		"before the first byte": func(*side) {},
		"within the head":       func(s *side) { s.say(ok + "\r\nX-") },
		"mid-stream":            func(s *side) { s.head(ok, sse, chk); s.say(chunk("data: 1\n\n")) },
	}
	for name, begin := range stages {
		t.Run(name, func(t *testing.T) {
			NoLeaks(t)
			begun, saw := make(chan struct{}), make(chan error, 1)
			url := serve(t, func(s *side) {
				begin(s)
				close(begun)
				s.hang()
				saw <- context.Cause(s.left)
			})
			gone, cancel := context.WithCancel(ctx(t))
			p := newProvider(t, settings(url))
			go func() { <-begun; cancel() }()
			resp, err := p.Do(gone, Chat(Streaming))
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			wantKind(t, err, provider.KindCancelled)
			require.ErrorIs(t, <-saw, errGone, "the upstream must see it")
		})
	}
	t.Run("while the request is sent", func(t *testing.T) {
		NoLeaks(t)
		begun := make(chan struct{})
		url := accept(t, func(s *side) {
			_, _ = s.Read(make([]byte, 1))
			close(begun)
			s.hang() // reads no further, so the request gets stuck
		})
		gone, cancel := context.WithCancel(ctx(t))
		go func() { <-begun; cancel() }()
		big := Chat(Plain)
		big.Body = bytes.Repeat([]byte(" "), 32<<20)
		_, err := newProvider(t, settings(url)).Do(gone, big)
		wantKind(t, err, provider.KindCancelled)
	})
}

// buffer checks that the request's body is not touched once Do has failed, the answer's body is closed, or the answer says that it was sent,
// though an upstream that answers early leaves the transport in the middle of sending it. The race detector is what fails here, and a peek.
func buffer(t *testing.T, newProvider func(*testing.T, Settings) provider.Provider) {
	NoLeaks(t)
	leaked := make(chan bool, 16)
	url := accept(t, func(s *side) {
		in := bufio.NewReader(s)
		_, _ = in.ReadString('\n')
		s.head("HTTP/1.1 400 Bad Request", js, "Content-Length: 2")
		s.say("{}")
		rest, _ := io.ReadAll(in)
		leaked <- bytes.ContainsRune(rest, 'S')
	})
	p := newProvider(t, settings(url))
	most, theirs := make([]byte, 32<<20), bytes.Repeat([]byte("S"), 32<<20)
	for i := range 8 {
		body := most
		if i%2 == 0 {
			body = most[:8<<10]
		}
		clear(body)
		r := Chat(Plain)
		r.Body = body
		resp, err := p.Do(ctx(t), r)
		if err == nil && !resp.Sent {
			_ = resp.Body.Close()
		}
		copy(body, theirs) // another caller's secret
		if err == nil {
			_ = resp.Body.Close()
			require.False(t, <-leaked, "bytes of the buffer's next user were sent")
		}
	}
}

// abandoned checks that streams that are closed in the middle leave nothing behind and the provider usable.
func abandoned(t *testing.T, newProvider func(*testing.T, Settings) provider.Provider) {
	NoLeaks(t)
	const streams = 200
	var cancelled sync.WaitGroup
	cancelled.Add(streams)
	url := serve(t, func(s *side) {
		s.head(ok, sse, chk)
		s.say(chunk("data: 1\n\n"))
		s.hang()
		cancelled.Done()
	})
	p := newProvider(t, settings(url))
	var wg sync.WaitGroup
	for i := range streams {
		wg.Go(func() {
			resp, err := p.Do(ctx(t), Chat(Streaming))
			if err != nil {
				t.Errorf("stream %d: %v", i, err)
				return
			}
			if _, err := io.ReadFull(resp.Body, make([]byte, 9)); err != nil {
				t.Errorf("stream %d: %v", i, err)
			}
			_ = resp.Body.Close()
		})
	}
	wg.Wait()
	cancelled.Wait()
}
