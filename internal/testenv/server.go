// Package testenv starts the real servers that tests talk to, on free loopback ports, and sees that none outlives the test
// process, however that ends. A missing binary fails the test, naming the package that has it; with
// PROMPTGATE_TEST_ALLOW_SKIP=1 it skips instead.
package testenv

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// supervise runs a server and ends it with the test process. Its standard input is a pipe that only the test process holds: when
// that process ends, by whatever signal, read fails, and the server and its files go. A line in the pipe means: stop, but leave
// the files, there will be a restart.
const supervise = `
dir=$1; sig=$2; shift 2
"$@" >>"$dir/log" 2>&1 </dev/null &
pid=$!
echo $pid
if read -r line; then keep=1; fi
kill -CONT $pid 2>/dev/null
kill -$sig $pid 2>/dev/null
wait $pid
[ -n "$keep" ] || rm -rf "$dir"
`

const (
	startTimeout = 60 * time.Second
	stopTimeout  = 30 * time.Second
)

// spec is how to run one server.
type spec struct {
	dir  string              // its files and its log; removed at the end
	sig  string              // the signal that ends it, such as "TERM"
	args []string            // command line
	cred *syscall.Credential // nil for the test's own user
	up   func() error        // nil once the server answers
}

// server is one supervised process.
type server struct {
	spec
	supervisor *exec.Cmd
	hold       io.WriteCloser
	pid        int
}

func start(s spec) (*server, error) {
	p := &server{spec: s}
	return p, p.launch()
}

func (p *server) launch() error {
	cmd := exec.Command("/bin/sh", append([]string{"-c", supervise, "testenv", p.dir, p.sig}, p.args...)...)
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: p.cred} // an interrupt at the terminal is not for it
	hold, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.supervisor, p.hold = cmd, hold
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("start %s: %w\n%s", p.args[0], err, p.logTail())
	}
	if p.pid, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		return err
	}
	return p.await()
}

// await waits until the server answers, or is gone.
func (p *server) await() error {
	deadline := time.Now().Add(startTimeout)
	for {
		err := p.up()
		if err == nil {
			return nil
		}
		if !p.running() {
			return fmt.Errorf("%s ended at once: %w\n%s", p.args[0], err, p.logTail())
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer: %w\n%s", p.args[0], err, p.logTail())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// running reports whether the server's process runs; one that has ended and waits to be reaped does not.
func (p *server) running() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return syscall.Kill(p.pid, 0) == nil // no /proc here
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return len(rest) > 0 && rest[0] != 'Z' && rest[0] != 'X'
}

func (p *server) signal(sig syscall.Signal) { _ = syscall.Kill(p.pid, sig) }

// end stops the server, and removes its files unless keep.
func (p *server) end(keep bool) error {
	if p.supervisor == nil {
		if !keep {
			return os.RemoveAll(p.dir)
		}
		return nil
	}
	if keep {
		_, _ = io.WriteString(p.hold, "stop\n")
	}
	p.signalTree(syscall.SIGCONT) // a frozen one would not end
	_ = p.hold.Close()
	hard := time.AfterFunc(stopTimeout, func() { p.signal(syscall.SIGKILL) })
	defer hard.Stop()
	err := p.supervisor.Wait()
	p.supervisor = nil
	return err
}

func (p *server) logTail() string {
	text, _ := os.ReadFile(filepath.Join(p.dir, "log"))
	if len(text) > 4000 {
		text = text[len(text)-4000:]
	}
	return string(text)
}

// freePort returns a loopback port below limit that nobody listens on now.
func freePort(limit int) (int, error) {
	for range 1000 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		if port < limit {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port below %d", limit)
}

// binary finds a program in PATH or in one of the folders that match the patterns, or ends the test.
func binary(t testing.TB, name, pkg string, patterns ...string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, pattern := range patterns {
		found, _ := filepath.Glob(filepath.Join(pattern, name))
		if len(found) > 0 {
			return found[len(found)-1] // the newest version sorts last
		}
	}
	missing := fmt.Sprintf("%s is not installed: apt-get install -y %s", name, pkg)
	if os.Getenv("PROMPTGATE_TEST_ALLOW_SKIP") == "1" {
		t.Skip(missing)
	}
	t.Fatal(missing)
	return ""
}

// check ends the test for an error of the environment.
func check(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// signalTree signals the server and its children: PostgreSQL answers from those.
func (p *server) signalTree(sig syscall.Signal) {
	p.signal(sig)
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.pid, p.pid))
	for _, f := range strings.Fields(string(children)) {
		if pid, err := strconv.Atoi(f); err == nil {
			_ = syscall.Kill(pid, sig)
		}
	}
}
