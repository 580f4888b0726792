// Package mail sends e-mail through an SMTP server.
package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// Timeout bounds one message, from dialing to the server's word that it took it.
const Timeout = 15 * time.Second

// Encryption is how a connection is encrypted.
type Encryption int

// The ways: StartTLS and Implicit refuse a server that does not encrypt or that nobody vouches for.
const (
	StartTLS Encryption = iota // asked for on a plain connection, as on port 587
	Implicit                   // from the first byte, as on port 465
	None                       // for a server on the same machine
)

// Options are a server and how it is talked to.
type Options struct {
	Addr       string // host:port
	From       string // the address that messages come from
	Username   string // "" for no authentication
	Password   string // sent encrypted only, or as a proof of it
	Encryption Encryption
	Roots      *x509.CertPool // who vouches for the server; nil: the system's authorities
}

// Sender sends messages, each on a connection of its own: they are few. It is safe for concurrent use.
type Sender struct {
	options Options
	host    string
	port    int
}

// New checks the options. It does not dial.
func New(o Options) (*Sender, error) {
	host, at, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	port, err := strconv.Atoi(at)
	if err != nil {
		return nil, fmt.Errorf("mail: the port of %s is no number", o.Addr)
	}
	s := &Sender{o, host, port}
	if _, err := s.client(Timeout); err != nil {
		return nil, err
	}
	return s, gomail.NewMsg().From(o.From)
}

func (s *Sender) client(timeout time.Duration) (*gomail.Client, error) {
	o := []gomail.Option{
		gomail.WithPort(s.port), gomail.WithTimeout(timeout),
		gomail.WithTLSConfig(&tls.Config{ServerName: s.host, RootCAs: s.options.Roots, MinVersion: tls.VersionTLS12}),
	}
	switch s.options.Encryption {
	case StartTLS:
		o = append(o, gomail.WithTLSPolicy(gomail.TLSMandatory))
	case Implicit:
		o = append(o, gomail.WithSSL())
	case None:
		o = append(o, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		return nil, errors.New("mail: unknown encryption")
	}
	if s.options.Username != "" {
		o = append(o, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(s.options.Username), gomail.WithPassword(s.options.Password))
	}
	return gomail.NewClient(s.host, o...)
}

// Send gives the server one message of plain text for one address. An error says that it did not take it, or that nobody knows.
func (s *Sender) Send(ctx context.Context, to, subject, text string) error {
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	if err := m.From(s.options.From); err != nil {
		return err
	}
	if err := m.To(to); err != nil {
		return err
	}
	m.Subject(subject)
	m.SetDate()
	m.SetMessageID()
	m.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no holiday notes in return
	m.SetBodyString(gomail.TypeTextPlain, text)
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	end, _ := ctx.Deadline()
	c, err := s.client(max(time.Until(end), time.Millisecond)) // once it is connected, the library minds no context
	if err != nil {
		return err
	}
	return c.DialAndSendWithContext(ctx, m)
}
