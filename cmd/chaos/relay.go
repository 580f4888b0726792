package main

import (
	"bufio"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// mood is how a relay treats what passes.
type mood int32

const (
	honest   mood = iota
	nonsense      // every command is answered with bytes that are no answer
	fullUp        // every command is answered with -OOM
	muted         // publications do not reach their subscribers; all else does
)

var (
	nonsenseAnswer = []byte("\x16\x03\x01\xff HTTP/1.1 418 no redis here\r\n\x00\x00?\r\n")
	oomAnswer      = []byte("-OOM command not allowed when used memory > 'maxmemory'.\r\n")
)

// relay stands between the proxies and redis-server and understands the protocol well enough to lie in it. Its mood changes what
// happens on connections that are open, too.
type relay struct {
	listener net.Listener
	upstream string
	mood     atomic.Int32
	all      sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

func newRelay(ctx context.Context, upstream string) (*relay, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{listener: l, upstream: upstream, open: map[net.Conn]struct{}{}}
	r.all.Go(func() { r.accept(ctx) })
	return r, nil
}

func (r *relay) addr() string   { return r.listener.Addr().String() }
func (r *relay) become(m mood)  { r.mood.Store(int32(m)) }
func (r *relay) is(m mood) bool { return mood(r.mood.Load()) == m }

func (r *relay) accept(ctx context.Context) {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.all.Go(func() { r.serve(ctx, c) })
	}
}

// keep remembers a connection for close; false once closed.
func (r *relay) keep(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		_ = c.Close()
		return false
	}
	r.open[c] = struct{}{}
	return true
}

func (r *relay) drop(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
	_ = c.Close()
}

func (r *relay) serve(ctx context.Context, client net.Conn) {
	if !r.keep(client) {
		return
	}
	defer r.drop(client)
	dialer := net.Dialer{Timeout: time.Second}
	server, err := dialer.DialContext(ctx, "tcp", r.upstream)
	if err != nil || !r.keep(server) {
		return // a server that is gone is gone for the client too
	}
	defer r.drop(server)
	out := &guardedConn{Conn: client}
	var back sync.WaitGroup
	defer back.Wait()
	back.Go(func() {
		defer client.Close()
		r.answers(out, server)
	})
	defer server.Close()
	r.commands(out, client, server)
}

// guardedConn lets both directions write to the client.
type guardedConn struct {
	net.Conn
	mu sync.Mutex
}

func (g *guardedConn) send(b []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, err := g.Write(b)
	return err
}

func (r *relay) commands(out *guardedConn, client, server net.Conn) {
	in := bufio.NewReaderSize(client, 64<<10)
	var frame []byte
	for {
		var err error
		if frame, err = readFrame(in, frame[:0]); err != nil {
			return
		}
		switch {
		case r.is(nonsense):
			err = out.send(nonsenseAnswer)
		case r.is(fullUp):
			err = out.send(oomAnswer)
		default:
			_, err = server.Write(frame)
		}
		if err != nil {
			return
		}
	}
}

func (r *relay) answers(out *guardedConn, server net.Conn) {
	in := bufio.NewReaderSize(server, 64<<10)
	var frame []byte
	for {
		var err error
		if frame, err = readFrame(in, frame[:0]); err != nil {
			return
		}
		if r.is(nonsense) || r.is(fullUp) || r.is(muted) && isMessage(frame) {
			continue
		}
		if out.send(frame) != nil {
			return
		}
	}
}

func (r *relay) close() {
	_ = r.listener.Close()
	r.mu.Lock()
	r.closed = true
	for c := range r.open {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.all.Wait()
}
