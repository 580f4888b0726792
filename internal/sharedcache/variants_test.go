package sharedcache

import (
	"bufio"
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/testenv"
)

// replica is one process's share: a cache and a bus.
type replica struct {
	*fixture
	bus   *Bus
	heard chan int64
}

func newReplica(t *testing.T, c Config, sealer *seal.Sealer) *replica {
	t.Helper()
	c.Budget = time.Second // a busy machine is no fault
	r := &replica{fixture: &fixture{}, heard: make(chan int64, 100)}
	var err error
	r.client, err = NewClient(c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.client.Close() })
	subscriber, err := NewClient(c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = subscriber.Close() })
	r.Cache, err = New(Options{Client: r.client, Sealer: sealer, Revision: r.revision.Load, Budget: c.Budget})
	require.NoError(t, err)
	r.bus = NewBus(r.Cache, subscriber, c.Cluster, nil)
	return r
}

// listen subscribes again and again, as the journal does.
func (r *replica) listen(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = r.bus.Subscribe(ctx, func(revision int64) { r.heard <- revision })
		}
	}()
	t.Cleanup(func() { stop(); <-done })
}

// says publishes revisions from a first one until the other has heard one of them, which is returned.
func (r *replica) says(t *testing.T, first int64, other *replica) int64 {
	t.Helper()
	var got int64
	require.Eventually(t, func() bool {
		first++
		r.bus.Publish(t.Context(), first)
		select {
		case got = <-other.heard:
			return true
		default:
			return false
		}
	}, 20*time.Second, 20*time.Millisecond, "word of a change never came")
	return got
}

// requireShared holds for every way to reach Redis: what one replica has read the other one has, until a change, of which it hears.
func requireShared(t *testing.T, c Config) {
	t.Helper()
	sealer := sealerFor(t)
	one, two := newReplica(t, c, sealer), newReplica(t, c, sealer)
	two.listen(t)
	b := &below{value: "<1>"}
	require.Equal(t, "<1>", read(t, one.fixture, label, b))
	require.Equal(t, "<1>", read(t, two.fixture, label, b))
	require.Equal(t, 1, b.asked, "the second replica had to ask the database")
	require.NoError(t, one.once(t.Context(), one.probe))

	one.revision.Store(7)
	one.Apply(touch(7, label))
	b.value = "<2>"
	require.Equal(t, "<2>", read(t, two.fixture, label, b), "the change did not end what was shared")
	one.says(t, 7, two)
	require.False(t, one.Down() || two.Down())
}

func TestSharedOverTLS(t *testing.T) {
	t.Parallel()
	server := testenv.RedisTLS(t, "--tls-auth-clients", "no")
	requireShared(t, Config{Addrs: []string{server.Addr}, TLS: true, CAFile: server.CAFile})

	// Neither a server that nobody vouches for is believed, nor one that does not speak TLS.
	for name, c := range map[string]Config{
		"unknown authority": {Addrs: []string{server.Addr}, TLS: true},
		"another name":      {Addrs: []string{strings.Replace(server.Addr, "127.0.0.1", "localhost", 1)}, TLS: true, CAFile: server.CAFile},
		"no TLS here":       {Addrs: []string{server.Addr}},
		"no TLS there":      {Addrs: []string{testenv.Redis(t).Addr}, TLS: true, CAFile: server.CAFile},
	} {
		r := newReplica(t, c, sealerFor(t))
		require.Error(t, r.once(t.Context(), r.probe), name)
		require.Equal(t, "truth", read(t, r.fixture, label, &below{value: "truth"}), name)
	}
}

// A certificate that was renewed where it lies is the one that the next connection shows.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	server, other := testenv.RedisTLS(t), testenv.RedisTLS(t)
	mine := func(name, from string) string {
		t.Helper()
		text, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(name, text, 0o600))
		return name
	}
	cert, key := filepath.Join(t.TempDir(), "cert"), filepath.Join(t.TempDir(), "key")
	c := Config{Addrs: []string{server.Addr}, TLS: true, CAFile: server.CAFile}
	anonymous := newReplica(t, c, sealerFor(t))
	require.Error(t, anonymous.once(t.Context(), anonymous.probe))

	c.CertFile, c.KeyFile = mine(cert, other.CertFile), mine(key, other.KeyFile)
	r := newReplica(t, c, sealerFor(t))
	require.Error(t, r.once(t.Context(), r.probe), "a stranger's certificate")
	mine(cert, server.CertFile)
	mine(key, server.KeyFile)
	require.NoError(t, r.once(t.Context(), r.probe))
	requireShared(t, c)
}

func TestClientRefusesFilesThatSayNothing(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, []byte("\n"), 0o600))
	for _, c := range []Config{
		{TLS: true, CAFile: empty}, {TLS: true, CAFile: empty + "not there"}, {PasswordFile: empty}, {PasswordFile: empty + "not there"},
		{SentinelPasswordFile: empty}, {TLS: true, CertFile: empty, KeyFile: empty}, {TLS: true, CertFile: empty + "not there", KeyFile: empty},
	} {
		_, err := NewClient(c)
		require.ErrorContains(t, err, "redis: ")
		require.ErrorContains(t, err, empty)
	}
}

// documentedRights are what configs/example.yaml tells operators to give Redis' user.
func documentedRights(t *testing.T, cluster bool) []string {
	t.Helper()
	text, err := os.ReadFile("../../configs/example.yaml")
	require.NoError(t, err)
	found := regexp.MustCompile(`ACL SETUSER promptgate (.*)\n.*instead of (\S+) (\S+): (.*)\n`).FindStringSubmatch(string(text))
	require.NotNil(t, found, "configs/example.yaml does not say which rights are needed")
	rights := strings.Fields(found[1])
	if cluster {
		rights = slices.DeleteFunc(rights, func(r string) bool { return r == found[2] || r == found[3] })
		rights = append(rights, strings.Fields(found[4])...)
	}
	return rights
}

func grant(t *testing.T, s *testenv.RedisServer, rights []string) {
	t.Helper()
	args := []any{"ACL", "SETUSER", "promptgate", "reset"}
	for _, r := range rights {
		args = append(args, r)
	}
	s.Do(t, args...)
}

func TestSharedAsUser(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("PASSWORD\n"), 0o600))
	t.Run("standalone", func(t *testing.T) {
		server := testenv.Redis(t)
		grant(t, server, documentedRights(t, false))
		c := Config{Addrs: []string{server.Addr}, Username: "promptgate", PasswordFile: file}
		requireShared(t, c)
		require.NotContains(t, server.Do(t, "ACL", "LOG"), "reason", "something was tried that is not allowed")
		r := newReplica(t, c, sealerFor(t))
		require.ErrorContains(t, r.client.FlushAll(t.Context()).Err(), "NOPERM")
		require.ErrorContains(t, r.client.Get(t.Context(), "others:key").Err(), "NOPERM")
		c.PasswordFile, c.Password = "", "wrong"
		r = newReplica(t, c, sealerFor(t))
		require.ErrorContains(t, r.once(t.Context(), r.probe), "WRONGPASS")
	})
	t.Run("cluster", func(t *testing.T) {
		nodes := testenv.RedisCluster(t)
		for _, n := range nodes.Nodes {
			grant(t, n, documentedRights(t, true))
		}
		requireShared(t, Config{Addrs: nodes.Addrs, Cluster: true, Username: "promptgate", PasswordFile: file})
		for _, n := range nodes.Nodes {
			require.NotContains(t, n.Do(t, "ACL", "LOG"), "reason", "something was tried that is not allowed")
		}
	})
}

// None of the rights is one too many: without it something does not work. The subscription's is told of in the log, once.
func TestEachRightIsNeeded(t *testing.T) {
	t.Parallel()
	server, sealer := testenv.Redis(t), sealerFor(t)
	rights := documentedRights(t, false)
	for i, right := range rights {
		if !strings.HasPrefix(right, "+") {
			continue
		}
		grant(t, server, append(append([]string{}, rights[:i]...), rights[i+1:]...))
		server.Do(t, "FLUSHALL")
		server.Do(t, "SCRIPT", "FLUSH")
		server.Do(t, "ACL", "LOG", "RESET")
		r := newReplica(t, Config{Addrs: []string{server.Addr}, Username: "promptgate", Password: "PASSWORD"}, sealer)
		var log bytes.Buffer
		r.o.Log = slog.New(slog.NewTextHandler(&log, nil))
		read(t, r.fixture, label, &below{value: "v"})
		r.Apply(touch(1, label))
		_ = r.once(t.Context(), r.probe)
		r.bus.Publish(t.Context(), 1)
		switch right {
		case "+subscribe":
			for range 3 {
				require.Error(t, r.bus.Subscribe(t.Context(), func(int64) {}))
			}
			require.Equal(t, 1, strings.Count(log.String(), "level=WARN"), "%s", &log)
		case "+ping": // of a subscription that has been silent for a while
			r.listen(t)
		}
		require.Eventually(t, func() bool { return strings.Contains(server.Do(t, "ACL", "LOG"), "reason") },
			10*time.Second, 50*time.Millisecond, "nothing needs %s", right)
	}
}

// A server that takes the connection and then says nothing does not hold a subscription for ever.
func TestSubscribingToAHungServerEnds(t *testing.T) {
	t.Parallel()
	r := newReplica(t, Config{Addrs: []string{mute(t)}}, sealerFor(t))
	ended := make(chan error, 1)
	go func() { ended <- r.bus.Subscribe(t.Context(), func(int64) {}) }()
	select {
	case err := <-ended:
		require.Error(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("the subscription waits for ever")
	}
}

// mute listens, lets clients connect, and does not answer their subscription.
func mute(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var all sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					switch lines.Text() { // of what a client says before it subscribes
					case "hello", "client":
						_, _ = c.Write([]byte("-ERR unknown command\r\n"))
					}
				}
			})
		}
	})
	return l.Addr().String()
}

func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	s := testenv.RedisSentinel(t)
	requireFailover(t, s, Config{Addrs: []string{s.Addr}, MasterName: s.MasterName})
}

// The Sentinel asks for another password than the servers, over TLS, of clients that show a certificate.
func TestSecuredSentinelFailover(t *testing.T) {
	t.Parallel()
	s := testenv.RedisSentinelSecured(t)
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte(testenv.SentinelPassword+"\n"), 0o600))
	c := Config{
		Addrs: []string{s.Addr}, MasterName: s.MasterName, Password: testenv.RedisPassword, SentinelPasswordFile: file,
		TLS: true, CAFile: s.Master.CAFile, CertFile: s.Master.CertFile, KeyFile: s.Master.KeyFile,
	}
	for name, change := range map[string]func(*Config){
		"no password of the Sentinel":     func(c *Config) { c.SentinelPasswordFile = "" },
		"the server's for the Sentinel":   func(c *Config) { c.SentinelPasswordFile, c.SentinelPassword = "", testenv.RedisPassword },
		"an unknown user of the Sentinel": func(c *Config) { c.SentinelUsername = "nobody" },
		"the Sentinel's for the server":   func(c *Config) { c.Password = testenv.SentinelPassword },
		"no certificate":                  func(c *Config) { c.CertFile, c.KeyFile = "", "" },
		"no TLS":                          func(c *Config) { c.TLS = false },
	} {
		wrong := c
		change(&wrong)
		r := newReplica(t, wrong, sealerFor(t))
		require.Error(t, r.once(t.Context(), r.probe), name)
	}
	inline := c
	inline.SentinelPasswordFile, inline.SentinelPassword = "", testenv.SentinelPassword
	r := newReplica(t, inline, sealerFor(t))
	require.NoError(t, r.once(t.Context(), r.probe))
	requireFailover(t, s, c)
}

// requireFailover kills the master: its replica is promoted, the clients find it by themselves, and no read fails meanwhile.
func requireFailover(t *testing.T, s *testenv.RedisSentinelServers, c Config) {
	t.Helper()
	requireShared(t, c)

	sealer := sealerFor(t)
	one, two := newReplica(t, c, sealer), newReplica(t, c, sealer)
	two.listen(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for _, r := range []*replica{one, two} {
		go func() { ended <- r.Run(ctx) }()
	}
	heard := one.says(t, 100, two)
	b := &below{value: "v"}
	read(t, one.fixture, label, b)

	s.Master.Kill(t)
	promoted := make(chan struct{})
	go func() { s.AwaitPromotion(t); close(promoted) }()
	for over := false; !over; {
		select {
		case <-promoted:
			over = true
		default:
		}
		require.Equal(t, "v", read(t, one.fixture, label, b)) // require: never an error
	}
	sharing := func() bool {
		fresh := Key{"label", "prj_1", time.Now().String()}
		asked := b.asked
		read(t, one.fixture, fresh, b)
		read(t, two.fixture, fresh, b)
		return b.asked == asked+1
	}
	require.Eventually(t, sharing, 20*time.Second, 20*time.Millisecond, "the new master is not used")
	require.Contains(t, s.Replica.Do(t, "INFO", "replication"), "role:master")
	require.Greater(t, one.says(t, heard, two), heard, "the subscription did not follow")
	stop()
	require.NoError(t, <-ended)
	require.NoError(t, <-ended)
}
