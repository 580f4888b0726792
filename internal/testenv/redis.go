package testenv

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisServer is a redis-server without persistence that one test has for itself.
type RedisServer struct {
	Addr     string // host:port
	TLSFiles        // when it speaks TLS
	port     int
	password string // of the default user, and of the master that it follows; "": none is asked for
	server   *server
}

// Redis starts a server for this test.
func Redis(t testing.TB, extraArgs ...string) *RedisServer {
	t.Helper()
	s := newRedis(t, math.MaxUint16)
	s.run(t, redisFolder(t), extraArgs...)
	return s
}

// newRedis is a server that does not run yet, on a port below a bound.
func newRedis(t testing.TB, below int) *RedisServer {
	t.Helper()
	port, err := freePort(below)
	check(t, "find a port", err)
	return &RedisServer{Addr: "127.0.0.1:" + strconv.Itoa(port), port: port}
}

func redisFolder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "promptgate-redis-")
	check(t, "make a folder", err)
	return dir
}

// run starts the process in its folder, which goes with it.
func (s *RedisServer) run(t testing.TB, dir string, extraArgs ...string) {
	t.Helper()
	args := append([]string{binary(t, "redis-server", "redis-server")}, extraArgs...) // a Sentinel's file is the first
	args = append(args, "--bind", "127.0.0.1", "--dir", dir)
	if s.config == nil {
		args = append(args, "--port", strconv.Itoa(s.port))
	} else {
		args = append(args, "--port", "0", "--tls-port", strconv.Itoa(s.port), "--tls-replication", "yes",
			"--tls-cert-file", s.CertFile, "--tls-key-file", s.KeyFile, "--tls-ca-cert-file", s.CAFile)
	}
	if s.password != "" {
		args = append(args, "--requirepass", s.password, "--masterauth", s.password)
	}
	if !slices.Contains(args, "--sentinel") {
		args = append(args, "--save", "", "--appendonly", "no")
	}
	var err error
	s.server, err = start(spec{dir: dir, sig: "KILL", args: args, up: s.ping})
	t.Cleanup(func() { _ = s.server.end(false) })
	check(t, "start redis-server", err)
}

// Stop shuts the server down; what it held is lost.
func (s *RedisServer) Stop(t testing.TB) {
	t.Helper()
	s.server.signal(syscall.SIGTERM)
	check(t, "stop redis-server", s.server.end(true))
}

// Kill ends the server without warning.
func (s *RedisServer) Kill(t testing.TB) {
	t.Helper()
	s.server.signal(syscall.SIGKILL)
	check(t, "kill redis-server", s.server.end(true))
}

// Restart starts a stopped or killed server again, empty, on the same port, and waits until it answers.
func (s *RedisServer) Restart(t testing.TB) {
	t.Helper()
	check(t, "restart redis-server", s.server.launch())
}

// Pause freezes the server: connections stay open and nothing answers.
func (s *RedisServer) Pause() { s.server.signal(syscall.SIGSTOP) }

// Resume thaws a paused server.
func (s *RedisServer) Resume() { s.server.signal(syscall.SIGCONT) }

// do sends one command and returns the answer, whatever its type.
func (s *RedisServer) do(args ...any) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c := redis.NewClient(&redis.Options{Addr: s.Addr, Password: s.password, TLSConfig: s.config, MaxRetries: -1, DisableIdentity: true})
	defer func() { _ = c.Close() }()
	v, err := c.Do(ctx, args...).Result()
	return fmt.Sprint(v), err
}

// Do runs one command as the default user and returns the answer, whatever its type.
func (s *RedisServer) Do(t testing.TB, args ...any) string {
	t.Helper()
	answer, err := s.do(args...)
	check(t, fmt.Sprint(args[0]), err)
	return answer
}

func (s *RedisServer) ping() error {
	_, err := s.do("PING")
	return err
}

// RedisClusterServers are the nodes of a cluster: three masters that share the slots, no replicas.
type RedisClusterServers struct {
	Addrs []string // host:port of each node
	Nodes []*RedisServer
}

const (
	clusterNodes = 3
	clusterSlots = 16384
	// clusterPorts keeps a node's bus port, 10,000 above its own, a port.
	clusterPorts = 55000
)

// RedisCluster starts a cluster for this test and waits until all its nodes say that it is whole.
func RedisCluster(t testing.TB) *RedisClusterServers {
	t.Helper()
	c := &RedisClusterServers{}
	for range clusterNodes {
		n := newRedis(t, clusterPorts)
		n.run(t, redisFolder(t), "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
		c.Nodes = append(c.Nodes, n)
		c.Addrs = append(c.Addrs, n.Addr)
	}
	for i, n := range c.Nodes {
		_, err := n.do("CLUSTER", "ADDSLOTSRANGE", i*clusterSlots/clusterNodes, (i+1)*clusterSlots/clusterNodes-1)
		check(t, "share the slots", err)
		_, err = n.do("CLUSTER", "SET-CONFIG-EPOCH", i+1)
		check(t, "set the epoch", err)
		host, port, _ := strings.Cut(c.Addrs[0], ":")
		if i > 0 {
			_, err = n.do("CLUSTER", "MEET", host, port)
			check(t, "meet", err)
		}
	}
	deadline := time.Now().Add(startTimeout)
	for _, n := range c.Nodes {
		for !n.clusterWhole() {
			if time.Now().After(deadline) {
				info, err := n.do("CLUSTER", "INFO")
				t.Fatalf("the cluster does not come together: %v\n%s", err, info)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return c
}

func (s *RedisServer) clusterWhole() bool {
	info, err := s.do("CLUSTER", "INFO")
	return err == nil && strings.Contains(info, "cluster_state:ok") &&
		strings.Contains(info, "cluster_known_nodes:"+strconv.Itoa(clusterNodes))
}
