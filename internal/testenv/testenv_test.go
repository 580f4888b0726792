package testenv_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/testenv"
)

func TestSchemasAreApart(t *testing.T) {
	a, b := connect(t, testenv.Postgres(t)), connect(t, testenv.Postgres(t))
	_, err := a.Exec(t.Context(), "CREATE TABLE only_in_a (id INT)")
	require.NoError(t, err)
	_, err = b.Exec(t.Context(), "SELECT * FROM only_in_a")
	require.ErrorContains(t, err, "does not exist")
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func TestOwnPostgresStopsFreezesAndComesBack(t *testing.T) {
	s := testenv.OwnPostgres(t)
	url := s.Schema(t)
	query := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		c, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close(ctx) }()
		_, err = c.Exec(ctx, "CREATE TABLE IF NOT EXISTS kept (id INT)")
		return err
	}
	require.NoError(t, query())
	s.Pause()
	require.Error(t, query())
	s.Resume()
	require.Eventually(t, func() bool { return query() == nil }, 10*time.Second, 10*time.Millisecond)
	for _, end := range []func(testing.TB){s.Stop, s.Kill} {
		end(t)
		require.Error(t, query())
		s.Restart(t)
		require.NoError(t, query())
	}
}

func TestRedisStopsFreezesAndComesBack(t *testing.T) {
	s := testenv.Redis(t)
	c := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1, ReadTimeout: 200 * time.Millisecond})
	defer c.Close()
	ping := func() error { return c.Ping(t.Context()).Err() }
	require.NoError(t, ping())
	s.Pause()
	require.Error(t, ping())
	s.Resume()
	require.Eventually(t, func() bool { return ping() == nil }, 10*time.Second, 10*time.Millisecond)
	for _, end := range []func(testing.TB){s.Stop, s.Kill} {
		end(t)
		require.Error(t, ping())
		s.Restart(t)
		require.Eventually(t, func() bool { return ping() == nil }, 10*time.Second, 10*time.Millisecond)
	}
}

func TestRedisClusterServesEverySlot(t *testing.T) {
	s := testenv.RedisCluster(t)
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: s.Addrs})
	defer c.Close()
	for i := range 100 {
		require.NoError(t, c.Set(t.Context(), fmt.Sprint("key", i), i, 0).Err())
	}
	for _, n := range s.Nodes {
		one := redis.NewClient(&redis.Options{Addr: n.Addr})
		size, err := one.DBSize(t.Context()).Result()
		require.NoError(t, err)
		assert.Positive(t, size, "every node has a share")
		require.NoError(t, one.Close())
	}
}

// TestServersEndWithAKilledTest runs this test binary again as a test that starts servers, kills it, and looks for what is left.
func TestServersEndWithAKilledTest(t *testing.T) {
	const child = "PROMPTGATE_TESTENV_CHILD"
	if os.Getenv(child) != "" {
		redis := testenv.Redis(t)
		url := testenv.Postgres(t)
		_, rest, _ := strings.Cut(url, "@")
		addr, _, _ := strings.Cut(rest, "/")
		fmt.Printf("ready %s %s\n", redis.Addr, addr)
		select {}
	}
	tmp, err := os.MkdirTemp("/tmp", "testenv-") // t.TempDir is not open to the user that postgres runs as
	require.NoError(t, err)
	require.NoError(t, os.Chmod(tmp, 0o777))
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	cmd := exec.Command(os.Args[0], "-test.run=^TestServersEndWithAKilledTest$")
	cmd.Env = append(os.Environ(), child+"=1", "TMPDIR="+tmp)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var addrs []string
	for lines := bufio.NewScanner(out); addrs == nil && lines.Scan(); {
		if after, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
			addrs = strings.Fields(after)
		}
	}
	require.Len(t, addrs, 2)
	for _, a := range addrs {
		require.True(t, listening(a), a)
	}
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.Eventually(t, func() bool {
		left, err := filepath.Glob(filepath.Join(tmp, "*"))
		return err == nil && len(left) == 0 && !listening(addrs[0]) && !listening(addrs[1])
	}, 20*time.Second, 20*time.Millisecond)
}

func listening(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}
