package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// line is one line that a replica logged.
type line struct {
	at   time.Time
	text string
}

// replica is one process of the real binary, always on the same port and in the same folder.
type replica struct {
	n     int
	name  string // of the binary
	dir   string
	addr  string
	env   []string
	extra []string // of one fault
	url   string

	out atomic.Bool // taken out of service, as a load balancer does with one that is gone

	cmd  *exec.Cmd
	done chan struct{} // closed when the process and its log have ended

	mu  sync.Mutex
	log []line
}

const startTimeout = 40 * time.Second

// start runs the process and waits until it listens.
func (r *replica) start(ctx context.Context) error {
	ready := filepath.Join(r.dir, "ready.json")
	_ = os.Remove(ready)
	args := []string{
		"serve", "--addr", r.addr, "--data", filepath.Join(r.dir, "data"), "--config", filepath.Join(r.dir, "config.yaml"), "--ready-file", ready,
	}
	cmd := exec.Command(r.name, args...) //nolint:gosec,noctx // our own binary; it ends when it is told to
	cmd.Env = append(slices.Clone(r.env), r.extra...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	r.cmd, r.done = cmd, make(chan struct{})
	go func(done chan struct{}) { // ends with the process, which stop and kill wait for
		defer close(done)
		r.read(stderr)
		_ = cmd.Wait()
	}(r.done)
	return r.await(ctx, ready)
}

func (r *replica) await(ctx context.Context, file string) error {
	deadline := time.After(startTimeout)
	for {
		text, err := os.ReadFile(file)
		if err == nil && json.Valid(text) {
			r.out.Store(false)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.done:
			return fmt.Errorf("replica %d ended before it was ready:\n%s", r.n, r.tail(20))
		case <-deadline:
			return fmt.Errorf("replica %d was not ready in %s:\n%s", r.n, startTimeout, r.tail(20))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (r *replica) read(stderr io.Reader) {
	in := bufio.NewScanner(stderr)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		r.mu.Lock()
		r.log = append(r.log, line{time.Now(), in.Text()})
		r.mu.Unlock()
	}
}

// logged is what was logged from one moment to another.
func (r *replica) logged(from, to time.Time) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []string
	for _, l := range r.log {
		if !l.at.Before(from) && l.at.Before(to) {
			found = append(found, l.text)
		}
	}
	return found
}

func (r *replica) tail(n int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := ""
	for _, l := range r.log[max(0, len(r.log)-n):] {
		text += "  " + l.text + "\n"
	}
	return text
}

// kill ends the process without warning. What runs on it is cut.
func (r *replica) kill() error {
	r.out.Store(true)
	if err := r.cmd.Process.Kill(); err != nil {
		return err
	}
	<-r.done
	return nil
}

// stop ends the process as an orchestrator does: out of service, then told to end.
func (r *replica) stop() error {
	r.out.Store(true)
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-r.done:
		return nil
	case <-time.After(60 * time.Second):
		_ = r.cmd.Process.Kill()
		<-r.done
		return fmt.Errorf("replica %d did not end in a minute:\n%s", r.n, r.tail(20))
	}
}

// end is for clean-up: it does not mind one that has ended.
func (r *replica) end() {
	if r.cmd != nil && r.cmd.Process != nil {
		_ = r.cmd.Process.Kill()
		<-r.done
	}
}

// status is what /readyz says, "" when nobody answers.
func (r *replica) status(ctx context.Context, client *http.Client) string {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/readyz?verbose", nil)
	if err != nil {
		return ""
	}
	resp, err := client.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var report struct{ Status string }
	if json.NewDecoder(resp.Body).Decode(&report) != nil {
		return ""
	}
	return report.Status
}

var errNoReplica = errors.New("no replica is in service")
