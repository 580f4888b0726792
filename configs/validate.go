package configs

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var providerName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)

// Validate reports every fault at once, one a line.
func (c Config) Validate() error {
	v := &validation{}
	v.hostPort("addr", c.Addr)
	if c.OpsAddr != "" {
		v.hostPort("ops_addr", c.OpsAddr)
	}
	v.check(!c.Profiling || c.OpsAddr != "", "profiling", "needs ops_addr: profiles are not served beside the data plane")
	v.check(c.Data != "", "data", "is empty; name the folder that holds the data, such as ./data")
	v.oneOf("log_level", c.LogLevel, "debug", "info", "warn", "error")
	v.oneOf("log_format", c.LogFormat, "text", "json")
	v.server(c.Server)
	v.plaintext(c)
	v.database(c)
	v.redis(c.Redis)
	v.encryption(c)
	v.console(c.Console)
	v.smtp(c.SMTP)
	v.atLeast("cache.prompts", int64(c.Cache.Prompts), 1)
	v.atLeast("cache.keys", int64(c.Cache.Keys), 1)
	v.atLeast("cache.decisions", int64(c.Cache.Decisions), 1)
	v.positive("stale.after", c.Stale.After)
	v.positive("stale.prompts", c.Stale.Prompts)
	v.positive("stale.keys", c.Stale.Keys)
	v.origins("feedback.allowed_origins", c.Feedback.AllowedOrigins)
	v.atLeast("spool.max_bytes", c.Spool.MaxBytes, 1<<20)
	v.atLeast("breaker.min_calls", int64(c.Breaker.MinCalls), 1)
	v.atLeast("breaker.min_callers", int64(c.Breaker.MinCallers), 1)
	v.limits(c.Limits)
	v.webhook(c.Webhook)
	v.access(c.Access)
	v.providers(c.Providers)
	return errors.Join(v.faults...)
}

type validation struct{ faults []error }

func (v *validation) check(ok bool, path, format string, args ...any) {
	if !ok {
		v.faults = append(v.faults, fmt.Errorf("%s: "+format, append([]any{path}, args...)...))
	}
}

func (v *validation) positive(path string, d time.Duration) {
	v.check(d > 0, path, "is %s; it must be more than 0, such as 30s", d)
}

func (v *validation) atLeast(path string, n, least int64) {
	v.check(n >= least, path, "is %d; it must be at least %d", n, least)
}

func (v *validation) oneOf(path, s string, allowed ...string) {
	v.check(slices.Contains(allowed, s), path, "is %q; use one of %s", s, strings.Join(allowed, ", "))
}

func (v *validation) hostPort(path, s string) {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	v.check(err == nil, path, "%q is no address; write host:port, such as 127.0.0.1:8080", s)
}

func (v *validation) origins(path string, list []string) {
	for i, s := range list {
		if s == "*" {
			v.check(len(list) == 1, path, "has \"*\", which is every origin, beside others; keep one or the other")
			continue
		}
		u, err := url.Parse(s)
		ok := err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && !strings.Contains(u.Host, "*") && s == u.Scheme+"://"+strings.ToLower(u.Host)
		v.check(ok, fmt.Sprintf("%s[%d]", path, i), "%q is no origin as browsers send it; write https://app.example.com, without a path, or \"*\"", s)
	}
}

func (v *validation) server(s Server) {
	v.atLeast("server.max_body_bytes", s.MaxBodyBytes, 1024)
	v.atLeast("server.max_in_flight", int64(s.MaxInFlight), 1)
	v.positive("server.read_header_timeout", s.ReadHeaderTimeout)
	v.positive("server.read_timeout", s.ReadTimeout)
	v.positive("server.write_timeout", s.WriteTimeout)
	v.positive("server.idle_timeout", s.IdleTimeout)
	v.positive("server.drain_grace", s.DrainGrace)
	for _, text := range s.TrustedProxies {
		n, err := netip.ParsePrefix(text)
		v.check(err == nil && n.Bits() > 0, "server.trusted_proxies", "%q is no network of proxies; write 10.0.0.0/8, or 192.0.2.7/32 for one address: whoever is in it can say to be anybody", text)
	}
	v.check(s.PingInterval >= 0, "server.ping_interval", "is %s; use 0 for none", s.PingInterval)
}

var anchorPattern = regexp.MustCompile(`^[1-9][0-9]{0,18}:[0-9a-f]{64}$`)

func (v *validation) database(c Config) {
	u := c.Database.URL
	known := u == "" || c.Postgres() || strings.HasPrefix(u, "sqlite:")
	v.check(known, "database.url", "has an unknown scheme; write postgres://user:password@host/db or sqlite:<file>, or leave it empty")
	if c.Postgres() {
		_, err := url.Parse(u)
		v.check(err == nil, "database.url", "is no URL; percent-encode special characters in the password")
	}
	v.check(c.Database.Anchor == "" || anchorPattern.MatchString(c.Database.Anchor), "database.anchor",
		"is %q; write REVISION:HASH, as `promptgate audit verify` prints it", c.Database.Anchor)
	v.atLeast("database.max_open_conns", int64(c.Database.MaxOpenConns), 2)
}

func (v *validation) redis(r Redis) {
	for i, a := range r.Addrs {
		v.hostPort(fmt.Sprintf("redis.addrs[%d]", i), a)
	}
	v.check(r.Budget > 0 && r.Budget <= time.Second, "redis.budget", "is %s; it must be more than 0 and at most 1s", r.Budget)
	v.check(r.Prefix != "" && !strings.ContainsAny(r.Prefix, "{}: "), "redis.prefix", "is %q; use letters, digits and dashes", r.Prefix)
	v.check(!r.Cluster || r.MasterName == "", "redis.cluster", "excludes redis.master_name; choose a cluster or Sentinel")
	const unused = "is set without a password, so it would not be used; set %s or %s_file"
	v.check(r.Username == "" || r.Password+r.PasswordFile != "", "redis.username", unused, "password", "password")
	v.check(r.SentinelUsername == "" || r.SentinelPassword+r.SentinelPasswordFile != "", "redis.sentinel_username", unused, "sentinel_password", "sentinel_password")
	v.check(!r.Cluster || r.DB == 0, "redis.db", "is %d; a cluster has database 0 only", r.DB)
	v.check(r.Password == "" || r.PasswordFile == "", "redis", "sets password and password_file; set one")
	v.check(r.SentinelPassword == "" || r.SentinelPasswordFile == "", "redis", "sets sentinel_password and sentinel_password_file; set one")
	sentinel := r.SentinelUsername + r.SentinelPassword + r.SentinelPasswordFile
	v.check(sentinel == "" || r.MasterName != "", "redis", "sets sentinel_username or a Sentinel's password without redis.master_name, so there are no Sentinels")
	v.check(r.CAFile == "" || r.TLS, "redis.ca_file", "is set without redis.tls: true")
	v.check(r.CertFile == "" || r.TLS, "redis.cert_file", "is set without redis.tls: true")
	v.check((r.CertFile == "") == (r.KeyFile == ""), "redis", "sets one of cert_file and key_file; set both or neither")
}

func (v *validation) limits(l Limits) {
	v.check(l.AssumedOutput >= 1 && l.AssumedOutput <= 10_000_000, "limits.assumed_output", "is %d; it must be 1 to 10000000", l.AssumedOutput)
}

func (v *validation) webhook(w Webhook) {
	if w.URL == "" {
		v.check(w.Secret+w.SecretFile == "", "webhook.url", "is empty, and a secret is set; set both or neither")
		return
	}
	u, err := url.Parse(w.URL)
	ok := err == nil && u.Host != "" && u.User == nil && (u.Scheme == "https" || u.Scheme == "http" && w.AllowPrivate)
	v.check(ok, "webhook.url", "is no address to send notices to; write https://host/path, or set webhook.allow_private for http://")
	v.check((w.Secret == "") != (w.SecretFile == ""), "webhook", "needs one of secret and secret_file: receivers check signatures")
	if w.Secret != "" {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(w.Secret, "whsec_"))
		v.check(err == nil && len(key) >= 24 && len(key) <= 64, "webhook.secret", "is not whsec_ and the base64 of 24 to 64 bytes; make one with `openssl rand -base64 32`")
	}
}

func (v *validation) access(a Access) {
	ok := len(a.ExpiryDays) <= 5 && !slices.ContainsFunc(a.ExpiryDays, func(d int) bool { return d < 1 || d > 90 })
	v.check(ok, "access.expiry_days", "is %v; write at most 5 numbers of days, each 1 to 90, or [] for none", a.ExpiryDays)
}

func (v *validation) encryption(c Config) {
	e := c.Encryption
	v.check(e.MasterKey == "" || e.MasterKeyFile == "", "encryption", "sets master_key and master_key_file; set one")
	if e.MasterKey != "" {
		b, err := base64.StdEncoding.DecodeString(e.MasterKey)
		v.check(err == nil && len(b) == 32, "encryption.master_key", "is not the base64 of 32 bytes; make one with `openssl rand -base64 32`")
	}
	needs := c.Postgres() && e.MasterKey == "" && e.MasterKeyFile == "" && e.KMS == ""
	v.check(!needs, "encryption", "has no master key, which PostgreSQL needs so that every replica has the same; set encryption.master_key_file, or encryption.kms")
	v.kms(e)
}

func (v *validation) kms(e Encryption) {
	v.oneOf("encryption.kms", e.KMS, "", "aws", "vault")
	v.check(e.KMS == "" || e.MasterKey == "" && e.MasterKeyFile == "", "encryption", "sets kms and a master key; set one (`promptgate seal rewrap` goes from one to the other)")
	v.check(e.RecoveryFile == "" || e.KMS != "", "encryption.recovery_key_file", "is set without encryption.kms, so it would not be used")
	v.check(e.KMSTimeout > 0 && e.KMSTimeout <= 5*time.Minute, "encryption.kms_timeout", "is %s; it must be more than 0 and at most 5m", e.KMSTimeout)
	if e.KMS == "aws" {
		v.check(e.AWS.KeyID != "", "encryption.aws.key_id", "is empty; write the id, ARN or alias of a symmetric key")
	}
	if e.KMS != "vault" {
		return
	}
	t := e.Vault
	v.check(strings.HasPrefix(t.Addr, "https://") || strings.HasPrefix(t.Addr, "http://"), "encryption.vault.addr", "%q is no address; write https://vault.example.com:8200", t.Addr)
	v.check(t.Key != "" && t.Mount != "", "encryption.vault", "names no key or no mount; set key to the transit key's name")
	v.check((t.Token == "") != (t.TokenFile == ""), "encryption.vault", "needs token or token_file, one of them; ${VAULT_TOKEN} takes it from the environment")
}

func (v *validation) providers(list []Provider) {
	seen := map[string]bool{}
	for i, p := range list {
		at := fmt.Sprintf("providers[%d]", i)
		v.check(providerName.MatchString(p.Name), at+".name", "is %q; use lowercase letters, digits, '_', '.', '-'", p.Name)
		v.check(!seen[p.Name], at+".name", "%q is there twice", p.Name)
		seen[p.Name] = true
		v.oneOf(at+".kind", p.Kind, "openai", "anthropic", "echo")
		for d, s := range map[string]time.Duration{"timeout": p.Timeout, "latency": p.Latency, "chunk_delay": p.ChunkDelay} {
			v.check(s >= 0, at+"."+d, "is negative")
		}
		for j, price := range p.PriceList.Prices {
			for field, day := range map[string]Moment{"from": price.From, "until": price.Until} {
				_, err := day.Time()
				v.check(err == nil, fmt.Sprintf("%s.price_list.prices[%d].%s", at, j, field), "is %q; write a day such as 2026-01-31, or a moment such as 2026-01-31T08:00:00Z", day)
			}
		}
		v.check(len(p.APIs) == 0 || p.Kind == "openai", at+".apis", "is for providers of the kind openai")
		if p.Kind != "openai" && p.Kind != "anthropic" {
			continue
		}
		u, err := url.Parse(p.BaseURL)
		ok := err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http" && p.AllowPrivate) && u.User == nil
		v.check(ok, at+".base_url", "%q is no address to send a credential to; write https://host/v1, or set allow_private for http://", p.BaseURL)
		v.check(p.APIKey != "", at+".api_key", "is empty; write ${%s_API_KEY} to take it from the environment", strings.ToUpper(p.Kind))
	}
}
