package configs

import (
	"net"
	"net/mail"
	"net/url"
)

// console refuses an address at which a browser would send its session unencrypted.
func (v *validation) console(c Console) {
	v.positive("console.session_idle", c.SessionIdle)
	v.positive("console.session_max", c.SessionMax)
	v.check(c.SessionIdle <= c.SessionMax, "console.session_idle", "is longer than console.session_max, so it would never count")
	if c.URL == "" {
		return
	}
	u, err := url.Parse(c.URL)
	ok := err == nil && u.Host != "" && u.User == nil && (u.Path == "" || u.Path == "/") && u.RawQuery == "" && u.Fragment == ""
	v.check(ok && (u.Scheme == "https" || u.Scheme == "http"), "console.url", "%q is no address of a site; write https://promptgate.example.com", c.URL)
	if ok && u.Scheme == "http" {
		v.check(loopback(net.JoinHostPort(u.Hostname(), "1")), "console.url", "%q would have browsers send sessions unencrypted; write https://, also where a proxy in front encrypts", c.URL)
	}
}

func (v *validation) smtp(s SMTP) {
	v.oneOf("smtp.tls", s.TLS, SMTPStartTLS, SMTPImplicit, SMTPNone)
	v.check(s.Password == "" || s.PasswordFile == "", "smtp", "sets password and password_file; set one")
	if s.Addr == "" {
		v.check(s.From+s.Username+s.Password+s.PasswordFile == "", "smtp.addr", "is empty, so no e-mail is sent; write host:port, such as smtp.example.com:587")
		return
	}
	v.hostPort("smtp.addr", s.Addr)
	from, err := mail.ParseAddress(s.From)
	v.check(err == nil && from.Address == s.From, "smtp.from", "is %q; write the address that messages come from, such as promptgate@example.com", s.From)
	v.check((s.Username == "") == (s.Password+s.PasswordFile == ""), "smtp", "sets one of username and password; set both or neither")
	v.check(s.TLS != SMTPNone || loopback(s.Addr), "smtp.tls", "is none, and %s is not this machine: links would cross the network in plaintext; use starttls or implicit", s.Addr)
}
