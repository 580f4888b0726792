package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// proc is a child process whose processor time is measured.
type proc struct {
	cmd *exec.Cmd
	log *syncBuffer
}

// startProcess starts a child that dies with this process and with b.
func startProcess(b testing.TB, name string, env []string, args ...string) *proc {
	b.Helper()
	p := &proc{cmd: exec.Command(name, args...), log: &syncBuffer{}}
	p.cmd.Env, p.cmd.Stderr = cleanEnv(env...), p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(b, p.cmd.Start())
	b.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	return p
}

// end stops the child as an orchestrator does.
func (p *proc) end(b testing.TB) {
	b.Helper()
	require.NoError(b, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(b, p.cmd.Wait(), "%s", p.log)
}

// cpu is the user and system time that the process has used so far.
func (p *proc) cpu(b testing.TB) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		b.Skip("processor time of another process is read from /proc: ", err)
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	ticks := 0
	for _, field := range f[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.Atoi(field)
		require.NoError(b, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// rss is the process's resident memory in bytes, 0 where it cannot be told.
func (p *proc) rss() int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	kib, _ := strconv.ParseInt(strings.Fields(after + " 0")[0], 10, 64)
	return kib << 10
}

// lane is one way to the upstream.
type lane struct {
	proc  *proc
	addr  string
	json  [][]byte // whole requests, sent in turn
	sse   [][]byte
	end   []byte                               // of a stream
	count func(b testing.TB) (mallocs float64) // allocations so far
	quiet func(b testing.TB) bool              // nothing is put off any more; asking costs the process something
}

// rig is the upstream and the bare proxy before it.
type rig struct {
	upstream string
	shape    benchShape
	proxy    *lane
}

// newRig starts both; env is the upstream's.
func newRig(b testing.TB, env ...string) *rig {
	b.Helper()
	exe, err := os.Executable()
	require.NoError(b, err)
	r := &rig{upstream: freeAddr(b), shape: benchShapes()["chat"]}
	for _, set := range env {
		if name, ok := strings.CutPrefix(set, benchShapeName+"="); ok {
			r.shape = benchShapes()[name]
		}
	}
	startProcess(b, exe, append(env, benchRole+"=upstream", benchAddr+"="+r.upstream))
	at := freeAddr(b)
	p := startProcess(b, exe, []string{benchRole + "=proxy", benchAddr + "=" + at, benchTarget + "=" + r.upstream})
	listens(b, r.upstream)
	listens(b, at)
	r.proxy = &lane{
		proc: p, addr: at, quiet: func(testing.TB) bool { return true },
		json:  [][]byte{r.shape.request(at, "sk-upstream", `"model":"gpt-4o-mini"`, false)},
		sse:   [][]byte{r.shape.request(at, "sk-upstream", `"model":"gpt-4o-mini"`, true)},
		end:   []byte(r.shape.end),
		count: func(b testing.TB) float64 { return number(b, at, mallocsPath, "mallocs ") },
	}
	return r
}

// gateway starts the real binary on seeded data.
func (r *rig) gateway(b testing.TB, s *seed, env ...string) *lane {
	b.Helper()
	at := freeAddr(b)
	config := filepath.Join(s.data, "bench.yaml")
	require.NoError(b, os.WriteFile(config, []byte(fmt.Sprintf(`
addr: %s
data: %s
providers: [{name: upstream, kind: %s, base_url: "http://%s/v1", api_key: sk-upstream, allow_private: true}]
`, at, s.data, r.shape.kind, r.upstream)), 0o600))
	l := &lane{proc: startProcess(b, mustBinary(b), env, "serve", "--config", config), addr: at, end: []byte(r.shape.end)}
	listens(b, at)
	for i := range max(len(s.prompts), len(s.keys)) {
		prompt := fmt.Sprintf(`"prompt":{"id":%q,"label":"production","variables":{"shop":"Acme"}}`, s.prompts[i%len(s.prompts)])
		key := s.keys[i%len(s.keys)]
		l.json = append(l.json, r.shape.request(at, key, prompt, false))
		l.sse = append(l.sse, r.shape.request(at, key, prompt, true))
	}
	l.count = func(b testing.TB) float64 { return number(b, at, "/metrics", "\ngo_memstats_mallocs_total ") }
	l.quiet = func(b testing.TB) bool { return number(b, at, "/metrics", "\npromptgate_spool_bytes ") == 0 }
	l.warm(b)
	return l
}

// warm sends every request once.
func (l *lane) warm(b testing.TB) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c := &benchConn{addr: l.addr}
			defer c.close()
			for {
				i := int(next.Add(1)) - 1
				if i >= len(l.json) {
					return
				}
				if err := c.do(l.json[i], []byte(`"usage"`)); err != nil {
					b.Errorf("call %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// load is what a lane did in one cell.
type load struct {
	calls    int64
	rate     float64 // calls a second
	cpu      float64 // seconds a call
	mallocs  float64 // a call
	failures int64
}

func (l *lane) measure(b testing.TB, stream bool, length time.Duration) load {
	b.Helper()
	requests, mark := l.json, []byte(`"usage"`)
	if stream {
		requests, mark = l.sse, l.end
	}
	mallocs, cpu, began := l.count(b), l.proc.cpu(b), time.Now()
	var next, calls, failures atomic.Int64
	var wg sync.WaitGroup
	for range benchClients {
		wg.Go(func() {
			c := &benchConn{addr: l.addr}
			defer c.close()
			for time.Since(began) < length {
				if err := c.do(requests[int(next.Add(1))%len(requests)], mark); err != nil {
					failures.Add(1)
					continue
				}
				calls.Add(1)
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	spent := l.settled(b) - cpu
	n, after := float64(max(calls.Load(), 1)), l.count(b)
	asking := l.count(b) - after
	return load{
		calls: calls.Load(), failures: failures.Load(), rate: n / took.Seconds(),
		cpu: spent.Seconds() / n, mallocs: (after - mallocs - 2*asking) / n, // settled asked, too
	}
}

// settled waits until nothing is put off any more and returns the processor time up to then: before it asked, since a page of the metrics
// of a thousand prompts costs as much as a thousand calls.
func (l *lane) settled(b testing.TB) time.Duration {
	for end := time.Now().Add(30 * time.Second); ; {
		time.Sleep(5200 * time.Millisecond) // longer than the longest pause between two commits
		cpu := l.proc.cpu(b)
		if l.quiet(b) {
			return cpu
		}
		require.True(b, time.Now().Before(end), "calls are not committed in 30 s")
	}
}

// compare measures the proxy and gateways in turns, so that what else the machine does falls on all of them, and reports medians.
// Each gateway's metrics end in its name; cpu<name>_by<first> is its processor time per call by the first one's.
func (r *rig) compare(b *testing.B, names []string, gateways []*lane, stream bool, rounds int) {
	b.Helper()
	for _, gw := range gateways {
		gw.settled(b)
	}
	lanes := append([]*lane{r.proxy}, gateways...)
	got := make([][]load, len(lanes)) // by lane and round
	for round := range rounds {
		for i := range lanes { // whoever goes first differs
			at := (i + round) % len(lanes)
			got[at] = append(got[at], lanes[at].measure(b, stream, benchCell))
		}
	}
	report := func(metric string, at, by int, value func(own, other load) float64) {
		var all []float64
		for round := range rounds {
			all = append(all, value(got[at][round], got[by][round]))
		}
		b.ReportMetric(median(all), metric)
	}
	rate := func(own, other load) float64 { return own.rate / other.rate }
	cpu := func(own, other load) float64 { return own.cpu / other.cpu }
	micros := func(own, _ load) float64 { return own.cpu * 1e6 }
	mallocs := func(own, _ load) float64 { return own.mallocs }
	for i, name := range names {
		at := i + 1
		for _, l := range got[at] {
			require.Zero(b, l.failures, "the gateway failed calls")
		}
		report("throughput_ratio"+name, at, 0, rate)
		report("cpu_ratio"+name, at, 0, cpu)
		report("cpu-µs/call"+name, at, 0, micros)
		report("allocs/call"+name, at, 0, mallocs)
		if i > 0 {
			report("cpu"+name+"_by"+names[0], at, 1, cpu)
		}
	}
	report("proxy-cpu-µs/call", 0, 0, micros)
	report("proxy_allocs/call", 0, 0, mallocs)
	b.ReportMetric(0, "ns/op") // the cell's length, which says nothing
}

// benchConn is one kept connection. It does as little as it can: its time is taken from those that are measured.
type benchConn struct {
	addr   string
	conn   net.Conn
	in     *bufio.Reader
	body   []byte
	within time.Duration // of an answer; 20 s when it is 0
	chunk  func()        // called with each chunk of a body, unless it is nil
}

// refusal is a whole answer that is not the one that was asked for. The connection is kept.
type refusal struct {
	status string // such as "503"
	text   string
}

func (r *refusal) Error() string { return r.text }

func (c *benchConn) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// do sends a request and reads its answer, which must be a 200 that holds mark.
func (c *benchConn) do(request, mark []byte) error {
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.addr)
		if err != nil {
			return err
		}
		c.conn, c.in = conn, bufio.NewReaderSize(conn, 16<<10)
	}
	_ = c.conn.SetDeadline(time.Now().Add(cmp.Or(c.within, 20*time.Second)))
	_, err := c.conn.Write(request)
	if err == nil {
		err = c.read(mark)
	}
	var whole *refusal
	if err != nil && !errors.As(err, &whole) {
		c.close()
	}
	return err
}

func (c *benchConn) read(mark []byte) error {
	status, err := c.in.ReadSlice('\n')
	if err != nil {
		return err
	}
	status = bytes.Clone(status)
	length := -1
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(": ")); bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	if err := c.readBody(length); err != nil {
		return err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) || !bytes.Contains(c.body, mark) {
		return &refusal{status: string(status[9:12]), text: fmt.Sprintf("%s: %.300s", bytes.TrimSpace(status), c.body)}
	}
	return nil
}

// readBody reads a body of a known length, or a chunked one.
func (c *benchConn) readBody(length int) error {
	c.body = c.body[:0]
	take := func(n int) error {
		at := len(c.body)
		c.body = append(c.body, make([]byte, n)...)
		_, err := io.ReadFull(c.in, c.body[at:])
		return err
	}
	if length >= 0 {
		return take(length)
	}
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 24)
		if err != nil {
			return err
		}
		if err := take(int(n) + 2); err != nil { // with the line end behind it
			return err
		}
		c.body = c.body[:len(c.body)-2]
		if n == 0 {
			return nil
		}
		if c.chunk != nil {
			c.chunk()
		}
	}
}

// number is the value behind a name in a page of text.
func number(b testing.TB, addr, path, name string) float64 {
	b.Helper()
	resp, err := http.Get("http://" + addr + path)
	require.NoError(b, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(b, err)
	_, after, found := strings.Cut("\n"+string(text), name)
	require.True(b, found, "%s has no %q", path, name)
	line, _, _ := strings.Cut(after, "\n")
	n, err := strconv.ParseFloat(line, 64)
	require.NoError(b, err)
	return n
}

func post(url, key, body string) (status int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

// freeAddr is an address that nobody listens on at the moment.
func freeAddr(b testing.TB) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer l.Close()
	return l.Addr().String()
}

// listens waits until somebody does.
func listens(b testing.TB, addr string) {
	b.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
			return
		}
		require.True(b, time.Now().Before(end), "nothing listens on %s in 30 s", addr)
		time.Sleep(5 * time.Millisecond)
	}
}

func mustBinary(b testing.TB) string {
	b.Helper()
	name, err := binary()
	require.NoError(b, err)
	return name
}
