package configs

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// What AllowPlaintext can name.
const (
	PlaintextListener = "listener" // addr and ops_addr
	PlaintextPostgres = "postgres"
	PlaintextRedis    = "redis"
)

// plaintext refuses what would cross a network unencrypted, unless it is allowed by name: keys, prompts and what the database is asked.
func (v *validation) plaintext(c Config) {
	for i, name := range c.AllowPlaintext {
		v.oneOf(fmt.Sprintf("allow_plaintext[%d]", i), name, PlaintextListener, PlaintextPostgres, PlaintextRedis)
	}
	t := c.TLS
	v.check((t.CertFile == "") == (t.KeyFile == ""), "tls", "sets one of cert_file and key_file; set both or neither")
	for _, l := range [][2]string{{"addr", c.Addr}, {"ops_addr", c.OpsAddr}} {
		path, addr := l[0], l[1]
		bad := addr != "" && t.CertFile == "" && !loopback(addr) && !slices.Contains(c.AllowPlaintext, PlaintextListener)
		v.check(!bad, path, "%s can be reached from other machines, in plaintext: set tls.cert_file and tls.key_file; where something in front of it "+
			"encrypts (a proxy, a mesh), or on a private network, allow it with allow_plaintext: [listener]", addr)
	}
	if host, bad := plainPostgres(c); bad && !slices.Contains(c.AllowPlaintext, PlaintextPostgres) {
		v.check(false, "database.url", "would talk to %s in plaintext, now or when TLS fails: add sslmode=verify-full (and sslrootcert=FILE); on a private network "+
			"allow it with allow_plaintext: [postgres]", host)
	}
	if c.Redis.TLS || slices.Contains(c.AllowPlaintext, PlaintextRedis) {
		return
	}
	for i, addr := range c.Redis.Addrs {
		v.check(loopback(addr), fmt.Sprintf("redis.addrs[%d]", i), "%s would be talked to in plaintext, the password too: set redis.tls: true; on a private network "+
			"allow it with allow_plaintext: [redis]", addr)
	}
}

// loopback reports whether an address is this machine's alone. What is no address is told of elsewhere.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil || strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// plainPostgres finds a server that the driver would talk to without TLS, at once or as the second try that sslmode=prefer is. It reads the URL as the
// driver does, with the PG… variables. A socket in the file system is no network.
func plainPostgres(c Config) (host string, bad bool) {
	if !c.Postgres() {
		return "", false
	}
	p, err := pgconn.ParseConfig(c.Database.URL)
	if err != nil {
		return "", false // the driver refuses it as well
	}
	tries := []*pgconn.FallbackConfig{{Host: p.Host, Port: p.Port, TLSConfig: p.TLSConfig}}
	for _, try := range append(tries, p.Fallbacks...) {
		socket, _ := pgconn.NetworkAddress(try.Host, try.Port)
		if try.TLSConfig == nil && socket != "unix" && !loopback(net.JoinHostPort(try.Host, "1")) {
			return try.Host, true
		}
	}
	return "", false
}
