package testenv

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// shared is the server that all tests of this process use; its supervisor ends it with the process.
var shared struct {
	sync.Mutex
	server *PostgresServer
}

// Postgres returns the URL of a schema of its own for this test, in a server that all tests of this process share. The schema
// goes when the test ends.
func Postgres(t testing.TB) (url string) {
	t.Helper()
	bin := postgresBinaries(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		s, err := startPostgres(bin)
		check(t, "start postgres", err)
		shared.server = s
	}
	return shared.server.Schema(t)
}

// PostgresServer is a server that one test has for itself, to stop, freeze and start again.
type PostgresServer struct {
	URL    string // of the database, with the default schema
	server *server
}

// OwnPostgres starts a server for this test alone. What it has committed survives Stop and Kill.
func OwnPostgres(t testing.TB) *PostgresServer {
	t.Helper()
	s, err := startPostgres(postgresBinaries(t))
	check(t, "start postgres", err)
	t.Cleanup(func() { _ = s.server.end(false) })
	return s
}

// Schema makes a schema for this test and returns the URL whose search_path names it.
func (s *PostgresServer) Schema(t testing.TB) (url string) {
	t.Helper()
	name := "t_" + strings.ToLower(rand.Text()[:16])
	check(t, "create schema", s.exec("CREATE SCHEMA "+name))
	t.Cleanup(func() { _ = s.exec("DROP SCHEMA " + name + " CASCADE") }) // a stopped server takes it along anyway
	return s.URL + "&search_path=" + name
}

// Stop shuts the server down, dropping its clients; Restart starts it again on the same port with the same data.
func (s *PostgresServer) Stop(t testing.TB) {
	t.Helper()
	check(t, "stop postgres", s.server.end(true))
}

// Kill ends the server and all its processes without warning.
func (s *PostgresServer) Kill(t testing.TB) {
	t.Helper()
	s.server.signalTree(syscall.SIGKILL) // backends too, or they would hold the shared memory for a moment
	check(t, "kill postgres", s.server.end(true))
}

// Restart starts a stopped or killed server and waits until it answers.
func (s *PostgresServer) Restart(t testing.TB) {
	t.Helper()
	check(t, "restart postgres", s.server.launch())
}

// Pause freezes the whole server: connections stay open and nothing answers. Resume thaws it.
func (s *PostgresServer) Pause() { s.server.signalTree(syscall.SIGSTOP) }

// Resume thaws a paused server.
func (s *PostgresServer) Resume() { s.server.signalTree(syscall.SIGCONT) }

func (s *PostgresServer) exec(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

type postgresBins struct{ initdb, postgres string }

func postgresBinaries(t testing.TB) postgresBins {
	t.Helper()
	const debian = "/usr/lib/postgresql/*/bin"
	return postgresBins{
		initdb:   binary(t, "initdb", "postgresql", debian),
		postgres: binary(t, "postgres", "postgresql", debian),
	}
}

func startPostgres(bin postgresBins) (*PostgresServer, error) {
	cred, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "promptgate-postgres-")
	if err != nil {
		return nil, err
	}
	if cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return nil, err
		}
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(bin.initdb, "--pgdata="+data, "--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8",
		"--locale=C", "--no-instructions")
	initdb.Dir = dir
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	if out, err := initdb.CombinedOutput(); err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	port, err := freePort(math.MaxUint16)
	if err != nil {
		return nil, err
	}
	s := &PostgresServer{URL: fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)}
	s.server, err = start(spec{
		dir: dir, sig: "QUIT", cred: cred, // immediate: nothing here is worth a checkpoint
		args: []string{
			bin.postgres, "-D", data, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1",
			"-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "full_page_writes=off", // commits survive a kill, not a power cut
			"-c", "max_connections=300", "-c", "shared_buffers=32MB", "-c", "autovacuum=off",
		},
		up: func() error { return s.exec("SELECT 1") },
	})
	if err != nil {
		_ = s.server.end(false)
		return nil, err
	}
	return s, nil
}

// unprivileged is whom to run as when the tests run as root, which PostgreSQL refuses; nil when they do not.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, fmt.Errorf("postgres refuses to run as root, and there is no other user: %w", err)
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{}}, nil
}
