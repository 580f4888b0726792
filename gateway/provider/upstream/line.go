package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/promptgate/promptgate/gateway/provider/egress"
)

const (
	lineIdle   = 90 * time.Second // an idle connection is closed after this
	readBuffer = 4 << 10          // bytes, for each connection
)

// line is one kept connection to the upstream. One exchange has it at a time, and reads and writes from its own goroutine:
// http.Transport has two more for each connection, and a call is handed from one to the other five times.
type line struct {
	net.Conn              // the socket, or TLS over it
	socket   *net.TCPConn // closing it ends whatever waits, and waits for nothing itself
	raw      syscall.RawConn
	wire     *wire         // what TLS reads from; nil without
	in       *bufio.Reader // reads the line
	left     int64         // bytes that an answer's head may still have; negative: no bound
	heard    bool          // of the answer that is awaited, a byte has come
	idleFrom time.Time
	probe    [1]byte // where spent and silentAt read to
	sending  sending
}

// wire is the socket as TLS reads it.
type wire struct {
	*net.TCPConn
	dry bool // nothing more is read: TLS has what it has
}

// Read implements io.Reader.
func (w *wire) Read(p []byte) (int, error) {
	if w.dry {
		return 0, os.ErrDeadlineExceeded // an error that TLS can go on after
	}
	return w.TCPConn.Read(p)
}

// spent reports whether nothing was read beyond the answer. TLS reads ahead, too: whole records, which neither in nor the kernel knows of.
func (l *line) spent() bool {
	if l.in.Buffered() > 0 || l.wire == nil {
		return l.in.Buffered() == 0
	}
	l.wire.dry = true
	_, err := l.Conn.Read(l.probe[:])
	l.wire.dry = false
	return errors.Is(err, os.ErrDeadlineExceeded)
}

var errHeadTooLarge = errors.New("the answer's head is larger than is allowed")

// Read implements io.Reader for in.
func (l *line) Read(p []byte) (int, error) {
	if l.left >= 0 {
		if l.left == 0 {
			return 0, errHeadTooLarge
		}
		p = p[:min(int64(len(p)), l.left)]
	}
	n, err := l.Conn.Read(p)
	if l.left >= 0 {
		l.left -= int64(n)
	}
	l.heard = l.heard || n > 0
	return n, err
}

// lines keeps the idle connections to one upstream, the one that was used last on top.
type lines struct {
	o       *Options
	addr    string // host:port
	tls     *tls.Config
	secure  bool
	mu      sync.Mutex
	idle    []*line
	reaper  *time.Timer // runs while there are any
	closing bool        // from Close to the next request: what comes back is closed
}

// errStale: the upstream has closed an idle connection, or has sent something over it. The kernel is asked about each before a request is
// sent, however short it was idle: what came unasked, such as the rest of a body longer than it said, would be read as the answer to the
// next call, which is somebody else's.
var errStale = errors.New("the connection is not as it was left")

// kept takes an idle connection; nil when there is none.
func (s *lines) kept(now time.Time) *line {
	for {
		l := s.pop()
		if l == nil || now.Sub(l.idleFrom) < lineIdle {
			return l
		}
		_ = l.socket.Close()
	}
}

func (s *lines) pop() *line {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = false
	n := len(s.idle)
	if n == 0 {
		return nil
	}
	l := s.idle[n-1]
	s.idle[n-1] = nil
	s.idle = s.idle[:n-1]
	return l
}

// keep takes a connection back whose last answer was read to its end.
func (s *lines) keep(l *line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || len(s.idle) >= s.o.IdleConns {
		_ = l.socket.Close()
		return
	}
	l.idleFrom = time.Now()
	s.idle = append(s.idle, l)
	if s.reaper == nil {
		s.reaper = time.AfterFunc(lineIdle, s.reap)
	}
}

// reap closes what has been idle for too long: it lies at the bottom.
func (s *lines) reap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reaper == nil {
		return
	}
	old := 0
	for old < len(s.idle) && time.Since(s.idle[old].idleFrom) >= lineIdle {
		_ = s.idle[old].socket.Close()
		old++
	}
	rest := copy(s.idle, s.idle[old:])
	clear(s.idle[rest:])
	if s.idle = s.idle[:rest]; rest == 0 {
		s.reaper = nil
		return
	}
	s.reaper.Reset(lineIdle - time.Since(s.idle[0].idleFrom))
}

// close lets go of idle connections; those in use are closed when they come back.
func (s *lines) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	for _, l := range s.idle {
		_ = l.socket.Close()
	}
	s.idle = nil
	if s.reaper != nil {
		s.reaper.Stop()
		s.reaper = nil
	}
}

// dial makes a new connection; ctx bounds it beside the provider's own timeouts.
func (s *lines) dial(ctx context.Context) (*line, error) {
	conn, err := egress.Dialer(s.o.DialTimeout, s.o.AllowPrivate).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return nil, err
	}
	socket, ok := conn.(*net.TCPConn)
	if !ok {
		_ = conn.Close()
		return nil, errors.New("the dialer made something else than a TCP connection")
	}
	l := &line{Conn: socket, socket: socket}
	if l.raw, err = socket.SyscallConn(); err == nil && s.secure {
		err = l.encrypt(ctx, s.tls, s.o.TLSTimeout)
	}
	if err != nil {
		_ = socket.Close()
		return nil, err
	}
	l.in = bufio.NewReaderSize(l, readBuffer)
	return l, nil
}

func (l *line) encrypt(ctx context.Context, config *tls.Config, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	l.wire = &wire{TCPConn: l.socket}
	secure := tls.Client(l.wire, config)
	l.Conn = secure
	return secure.HandshakeContext(ctx)
}
