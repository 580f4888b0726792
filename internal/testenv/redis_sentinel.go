package testenv

import (
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// RedisSentinelServers are a master, its replica, and one Sentinel that alone may decide to promote it.
type RedisSentinelServers struct {
	Addr       string // host:port of the Sentinel
	MasterName string
	Master     *RedisServer // as it was at the start
	Replica    *RedisServer
	sentinel   *RedisServer
}

// The passwords of secured servers.
const (
	RedisPassword    = "server-password"
	SentinelPassword = "sentinel-password"
)

// RedisSentinel starts them for this test and waits until the Sentinel knows of both.
func RedisSentinel(t testing.TB) *RedisSentinelServers {
	t.Helper()
	return startSentinel(t, func(_ *RedisServer, _ string) {})
}

// RedisSentinelSecured is RedisSentinel with servers that speak TLS alone, to clients with a certificate of Master's authority, and ask for
// RedisPassword; the Sentinel asks for SentinelPassword.
func RedisSentinelSecured(t testing.TB) *RedisSentinelServers {
	t.Helper()
	files := newTLSFiles(t, t.TempDir())
	return startSentinel(t, func(s *RedisServer, password string) { s.TLSFiles, s.password = files, password })
}

func startSentinel(t testing.TB, secure func(s *RedisServer, password string)) *RedisSentinelServers {
	t.Helper()
	s := &RedisSentinelServers{
		MasterName: "test", Master: newRedis(t, math.MaxUint16), Replica: newRedis(t, math.MaxUint16), sentinel: newRedis(t, math.MaxUint16),
	}
	s.Addr = s.sentinel.Addr
	secure(s.Master, RedisPassword)
	secure(s.Replica, RedisPassword)
	secure(s.sentinel, SentinelPassword)
	host, port, err := net.SplitHostPort(s.Master.Addr)
	check(t, "read the address", err)
	s.Master.run(t, redisFolder(t))
	s.Replica.run(t, redisFolder(t), "--replicaof", host, port, "--repl-diskless-sync-delay", "0")
	// In step before the Sentinel looks at it: it looks again only every ten seconds.
	s.await(t, "the replica does not follow", func() bool {
		state, err := s.Replica.do("INFO", "replication")
		return err == nil && strings.Contains(state, "master_link_status:up")
	})
	dir := redisFolder(t)
	// A Sentinel writes what it learns into its configuration, so it needs a file.
	file := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("sentinel monitor %s %s %s 1\nsentinel down-after-milliseconds %[1]s 500\nsentinel failover-timeout %[1]s 5000\n",
		s.MasterName, host, port)
	if s.Master.password != "" {
		text += fmt.Sprintf("sentinel auth-pass %s %s\n", s.MasterName, s.Master.password)
	}
	check(t, "write sentinel.conf", os.WriteFile(file, []byte(text), 0o600))
	s.sentinel.run(t, dir, file, "--sentinel")
	s.await(t, "the Sentinel does not find the replica", func() bool {
		state, err := s.sentinel.do("SENTINEL", "REPLICAS", s.MasterName)
		return err == nil && strings.Contains(state, "master-link-status:ok")
	})
	return s
}

// AwaitPromotion waits until the Sentinel names the replica as the master.
func (s *RedisSentinelServers) AwaitPromotion(t testing.TB) {
	t.Helper()
	_, port, _ := net.SplitHostPort(s.Replica.Addr)
	s.await(t, "the replica was not promoted", func() bool {
		addr, err := s.sentinel.do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.MasterName)
		return err == nil && strings.Contains(addr, port)
	})
}

func (s *RedisSentinelServers) await(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(startTimeout); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}
