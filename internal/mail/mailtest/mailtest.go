// Package mailtest is a mail server for tests: it keeps what it takes.
package mailtest

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"
)

// Username and Password are the ones that a Server takes, where it asks for any.
const (
	Username = "mailer"
	Password = "a-mail-password"
)

// Message is one that was taken.
type Message struct {
	From, To, Subject, Text string
	Encrypted               bool // it came over TLS
}

// Server keeps what it takes. It is safe for concurrent use.
type Server struct {
	Addr  string
	Roots *x509.CertPool // who vouches for it

	mu    sync.Mutex
	taken []Message
	down  bool
	auth  bool
}

// Options are how a Server is talked to.
type Options struct {
	Implicit bool // TLS from the first byte
	Plain    bool // no TLS is offered
	Auth     bool // Username and Password are asked for
}

// New starts a server, which ends with the test.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	s := &Server{Roots: x509.NewCertPool(), auth: o.Auth}
	s.Roots.AddCert(certified.Certificate())
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &session{server: s, conn: c, known: !o.Auth}, nil }))
	server.Domain, server.ReadTimeout, server.WriteTimeout = "mail.test", 10*time.Second, 10*time.Second
	server.AllowInsecureAuth = o.Plain
	if !o.Plain {
		server.TLSConfig = certified.TLS.Clone()
		server.TLSConfig.NextProtos = nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.Addr = l.Addr().String()
	var done sync.WaitGroup
	done.Go(func() {
		if o.Implicit {
			_ = server.Serve(tls.NewListener(l, server.TLSConfig))
			return
		}
		_ = server.Serve(l)
	})
	t.Cleanup(func() {
		_ = server.Close()
		done.Wait()
	})
	return s
}

// Down has the server refuse what comes, or take it again.
func (s *Server) Down(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Taken are the messages that it took so far, the oldest first.
func (s *Server) Taken() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message(nil), s.taken...)
}

// Wait waits for the message that comes after so many others.
func (s *Server) Wait(t testing.TB, after int) Message {
	t.Helper()
	require.Eventually(t, func() bool { return len(s.Taken()) > after }, 20*time.Second, 5*time.Millisecond, "no message came")
	return s.Taken()[after]
}

type session struct {
	server *Server
	conn   *smtp.Conn
	known  bool
	now    Message
}

func (s *session) AuthMechanisms() []string {
	if !s.server.auth {
		return nil
	}
	return []string{sasl.Plain}
}

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, username, password string) error {
		if username != Username || password != Password {
			return errors.New("wrong password")
		}
		s.known = true
		return nil
	}), nil
}

func (s *session) Reset() { s.now = Message{} }

func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if !s.known {
		return smtp.ErrAuthRequired
	}
	s.now.From = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.now.To = to
	return nil
}

func (s *session) Data(r io.Reader) error {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(m.Body)
	if err != nil {
		return err
	}
	s.now.Subject = m.Header.Get("Subject")
	s.now.Text = strings.ReplaceAll(string(raw), "\r\n", "\n")
	_, s.now.Encrypted = s.conn.TLSConnectionState()
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if s.server.down {
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "try later"}
	}
	s.server.taken = append(s.server.taken, s.now)
	return nil
}
