package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/internal/mail"
	"github.com/promptgate/promptgate/policy/signin"
)

// mailer is what sends invitations and resets; nil where no server is configured.
func mailer(c configs.SMTP) (signin.Mailer, error) {
	if c.Addr == "" {
		return nil, nil //nolint:nilnil // no e-mail is what is asked for
	}
	o := mail.Options{
		Addr: c.Addr, From: c.From, Username: c.Username, Password: c.Password,
		Encryption: map[string]mail.Encryption{configs.SMTPStartTLS: mail.StartTLS, configs.SMTPImplicit: mail.Implicit, configs.SMTPNone: mail.None}[c.TLS],
	}
	if c.PasswordFile != "" {
		text, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("smtp.password_file: %w", err)
		}
		o.Password = strings.TrimRight(string(text), "\r\n")
	}
	if c.CAFile != "" {
		text, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("smtp.ca_file: %w", err)
		}
		o.Roots = x509.NewCertPool()
		if !o.Roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("smtp.ca_file: there is no certificate in %s", c.CAFile)
		}
	}
	return mail.New(o)
}
