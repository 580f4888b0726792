package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The tests of this folder run the real binary. It is built once for all of them.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "promptgate-test-")
	if err != nil {
		return "", err
	}
	binaryDir.Store(&dir)
	name := filepath.Join(dir, "promptgate")
	out, err := exec.Command("go", "build", "-pgo="+profileOf(os.Args), "-o", name, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return name, nil
})

// profileOf is the profile that the compiler goes by: none for tests, which have most of the program compiled without one already.
func profileOf(args []string) string {
	for _, a := range args {
		if strings.HasPrefix(a, "-test.bench=") {
			return "auto"
		}
	}
	return "off"
}

// binaryDir is where the binary was built; nil while it was not.
var binaryDir atomic.Pointer[string]

func TestMain(m *testing.M) {
	playRole() // does not return in a process that a benchmark started
	code := m.Run()
	if dir := binaryDir.Load(); dir != nil { // no test may have needed it
		_ = os.RemoveAll(*dir)
	}
	os.Exit(code)
}

// process is a running gateway.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	url    string
	key    string // of the demo project
	data   string
	log    *syncBuffer
	out    *syncBuffer
	exited chan error

	readyFile string
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// cleanEnv is the environment without anything that would configure the gateway.
func cleanEnv(more ...string) []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PROMPTGATE_") && !strings.HasPrefix(kv, "OPENAI_") {
			env = append(env, kv)
		}
	}
	return append(env, more...)
}

// startGateway runs `promptgate serve` on a free port and waits until it listens.
func startGateway(t *testing.T, data string, env []string, args ...string) *process {
	t.Helper()
	p := launchGateway(t, data, env, args...)
	p.await()
	return p
}

// launchGateway runs `promptgate serve` on a free port and does not wait.
func launchGateway(t *testing.T, data string, env []string, args ...string) *process {
	t.Helper()
	name, err := binary()
	require.NoError(t, err)
	readyFile := filepath.Join(t.TempDir(), "ready.json")
	args = append([]string{"serve", "--addr", "127.0.0.1:0", "--data", data, "--ready-file", readyFile}, args...)
	p := &process{t: t, data: data, log: &syncBuffer{}, out: &syncBuffer{}, exited: make(chan error, 1), readyFile: readyFile}
	p.cmd = exec.Command(name, args...)
	p.cmd.Env = cleanEnv(env...)
	p.cmd.Stderr, p.cmd.Stdout = p.log, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, p.cmd.Start())
	go func() { p.exited <- p.cmd.Wait() }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		select {
		case <-p.exited:
		case <-time.After(10 * time.Second):
		}
		if t.Failed() {
			t.Logf("gateway's log:\n%s", p.log)
		}
	})
	return p
}

// await returns once the gateway listens; one that ends instead fails the test.
func (p *process) await() {
	t := p.t
	t.Helper()
	var r ready
	deadline := time.Now().Add(30 * time.Second)
	for {
		text, err := os.ReadFile(p.readyFile)
		if err == nil && json.Unmarshal(text, &r) == nil {
			break
		}
		select {
		case err := <-p.exited:
			p.exited <- err
			require.FailNow(t, "the gateway ended before it was ready", "%v\n%s", err, p.log)
		case <-time.After(5 * time.Millisecond):
		}
		require.True(t, time.Now().Before(deadline), "not ready in 30 s\n%s", p.log)
	}
	require.Equal(t, p.cmd.Process.Pid, r.PID)
	p.url, p.key = "http://"+r.Addr, r.Key
}

// kill ends the gateway as a power cut would.
func (p *process) kill() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Kill())
	err := <-p.exited
	p.exited <- err
}

// ended waits for a gateway that must end by itself and returns its exit code.
func (p *process) ended(within time.Duration) int {
	p.t.Helper()
	select {
	case err := <-p.exited:
		p.exited <- err
	case <-time.After(within):
		require.FailNow(p.t, "the gateway did not end", "%s", p.log)
	}
	return p.cmd.ProcessState.ExitCode()
}

// stop ends the gateway as an orchestrator does and waits for it.
func (p *process) stop() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-p.exited:
		p.exited <- err
		require.NoError(p.t, err, "exit code\n%s", p.log)
	case <-time.After(45 * time.Second):
		require.FailNow(p.t, "the gateway did not end", "%s", p.log)
	}
}

// do is one request with the demo key, or with another after it.
func (p *process) do(method, path, body string, header ...string) (int, http.Header, string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, strings.NewReader(body))
	require.NoError(p.t, err)
	req.Header.Set("Authorization", "Bearer "+p.key)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	return resp.StatusCode, resp.Header, string(text)
}

// cli runs a command of the command line against this gateway and returns its output; it must succeed.
func (p *process) cli(args ...string) string {
	p.t.Helper()
	out, errOut, code := runCLI(p.t, []string{"PROMPTGATE_URL=" + p.url, "PROMPTGATE_KEY=" + p.key}, args...)
	require.Zero(p.t, code, "promptgate %s\n%s%s", strings.Join(args, " "), out, errOut)
	return out
}

func runCLI(t *testing.T, env []string, args ...string) (out, errOut string, code int) {
	t.Helper()
	name, err := binary()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = cleanEnv(env...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		require.NoError(t, err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}
