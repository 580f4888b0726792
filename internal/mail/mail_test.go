package mail_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/mail"
	"github.com/promptgate/promptgate/internal/mail/mailtest"
)

func TestMessagesArrive(t *testing.T) {
	for name, c := range map[string]struct {
		server mailtest.Options
		how    mail.Encryption
	}{
		"starttls with a password": {mailtest.Options{Auth: true}, mail.StartTLS},
		"implicit with a password": {mailtest.Options{Auth: true, Implicit: true}, mail.Implicit},
		"starttls":                 {mailtest.Options{}, mail.StartTLS},
		"plain":                    {mailtest.Options{Plain: true}, mail.None},
	} {
		t.Run(name, func(t *testing.T) {
			server := mailtest.New(t, c.server)
			o := mail.Options{Addr: server.Addr, From: "promptgate@example.com", Encryption: c.how, Roots: server.Roots}
			if c.server.Auth {
				o.Username, o.Password = mailtest.Username, mailtest.Password
			}
			s, err := mail.New(o)
			require.NoError(t, err)
			const text = "Join:\n\nhttps://promptgate.example.com/signin/link/abcdefghijklmnopqrstuvwxyz0123456789-_=AB\n.\nGrüße\n"
			require.NoError(t, s.Send(t.Context(), "ana@example.com", "Your account", text))
			got := server.Wait(t, 0)
			require.Equal(t, "ana@example.com", got.To)
			require.Equal(t, "promptgate@example.com", got.From)
			require.Equal(t, "Your account", got.Subject)
			require.Equal(t, !c.server.Plain, got.Encrypted)
			require.Contains(t, unfolded(got.Text), "/signin/link/abcdefghijklmnopqrstuvwxyz0123456789-_=AB")
		})
	}
}

// unfolded takes quoted-printable's soft breaks and escapes of = away, enough to find an address in it.
func unfolded(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "=\n", ""), "=3D", "=")
}

func TestNothingIsSentInPlaintextOrToStrangers(t *testing.T) {
	plain, encrypted, implicit := mailtest.New(t, mailtest.Options{Plain: true}), mailtest.New(t, mailtest.Options{Auth: true}), mailtest.New(t, mailtest.Options{Implicit: true})
	naked := mailtest.New(t, mailtest.Options{Plain: true, Auth: true})
	const from = "promptgate@example.com"
	for name, o := range map[string]mail.Options{
		"a server without STARTTLS": {Addr: plain.Addr, From: from, Roots: plain.Roots},
		"nobody vouches for it":     {Addr: encrypted.Addr, From: from, Username: mailtest.Username, Password: mailtest.Password},
		"nobody, implicit":          {Addr: implicit.Addr, From: from, Encryption: mail.Implicit},
		"a wrong password":          {Addr: encrypted.Addr, From: from, Roots: encrypted.Roots, Username: mailtest.Username, Password: "wrong"},
		"no password":               {Addr: encrypted.Addr, From: from, Roots: encrypted.Roots},
		"a password in plaintext":   {Addr: naked.Addr, From: from, Encryption: mail.None, Username: mailtest.Username, Password: mailtest.Password},
		"nobody listens":            {Addr: closed(t), From: from},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := mail.New(o)
			require.NoError(t, err)
			require.Error(t, s.Send(t.Context(), "ana@example.com", "Your account", "text"))
		})
	}
	require.Empty(t, append(append(plain.Taken(), encrypted.Taken()...), append(implicit.Taken(), naked.Taken()...)...))
}

func TestAnAddressAddsNoHeader(t *testing.T) {
	server := mailtest.New(t, mailtest.Options{Plain: true})
	s, err := mail.New(mail.Options{Addr: server.Addr, From: "promptgate@example.com", Encryption: mail.None})
	require.NoError(t, err)
	for _, to := range []string{"ana@example.com\r\nBcc: eve@example.com", "ana@example.com>\r\nDATA", "ana@example.com, eve@example.com", ""} {
		require.Error(t, s.Send(t.Context(), to, "Your account", "text"), to)
	}
	require.NoError(t, s.Send(t.Context(), "ana@example.com", "Your account\r\nBcc: eve@example.com", "text"))
	require.Len(t, server.Taken(), 1)
	require.Equal(t, "ana@example.com", server.Taken()[0].To)
	require.NotContains(t, server.Taken()[0].Text, "Bcc")
}

// TestASilentServerIsNotWaitedForLong uses the caller's context, as the package's own bound is too long for a test.
func TestASilentServerIsNotWaitedForLong(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	s, err := mail.New(mail.Options{Addr: l.Addr().String(), From: "promptgate@example.com"})
	require.NoError(t, err)
	over := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	go func() { over <- s.Send(ctx, "ana@example.com", "Your account", "text") }()
	select {
	case err := <-over:
		require.Error(t, err)
	case <-time.After(mail.Timeout * 2):
		t.Fatal("still waiting")
	}
}

func closed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}
