package gateway_test

import (
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
)

// BenchmarkAgainstBareProxy sends the same calls through the gateway, with everything of this package on, through a bare
// httputil.ReverseProxy, and straight to the upstream; in turns, in one process. What the client and the upstream cost is in all
// three and is taken out by the third: cpu-x is (gateway - direct) / (proxy - direct), to be at most 1.25. reqs-x compares calls per second
// of the whole machine, client and upstream included. allocs and the bytes are the gateway's own, per call, with its HTTP client and server.
func BenchmarkAgainstBareProxy(b *testing.B) {
	events := strings.Repeat(delta("token"), 98) + finishEvent
	for _, c := range []struct {
		name  string
		body  string
		serve http.HandlerFunc
	}{
		{"json/managed", `{"prompt":{"id":"support/triage","label":"production","variables":{"ticket":"` + strings.Repeat("x", 900) + `"}}}`, respondJSON(200, okJSON)},
		{"json/bare", `{"model":"gpt-test","messages":[{"role":"user","content":"` + strings.Repeat("x", 950) + `"}]}`, respondJSON(200, okJSON)},
		{"sse/managed", `{"prompt":{"id":"support/triage","variables":{"ticket":"` + strings.Repeat("x", 900) + `"}},"stream":true}`,
			respondEvents(append(strings.SplitAfter(events, "\n\n"), usageEvent, doneEvent)...)},
	} {
		b.Run(c.name, func(b *testing.B) { compare(b, c.body, c.serve) })
	}
}

// lane is one way to the upstream, and what it cost.
type lane struct {
	url            string
	client         *http.Client
	lossy          bool // ReverseProxy hands the client's body to Transport, which loses an answer now and then
	cpu, wall      time.Duration
	mallocs, bytes uint64
}

func compare(b *testing.B, body string, serve http.HandlerFunc) {
	quiet := func(s *setup) {
		s.deps.Log = slog.New(slog.DiscardHandler)
		s.deps.Recorder, s.deps.Checker = nopRecorder{}, allowAll{}
	}
	e := newEnv(b, quiet)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		serve(w, r)
	}))
	defer plain.Close()
	e.useUpstream(b, plain.URL)
	target, _ := url.Parse(plain.URL)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 1024}
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	bare := httptest.NewServer(proxy)
	defer bare.Close()

	lanes := [3]*lane{{url: plain.URL}, {url: bare.URL, lossy: true}, {url: e.server.URL}}
	for _, l := range lanes {
		l.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1024}}
		l.run(b, body, 200) // warm
		l.cpu, l.wall, l.mallocs, l.bytes = 0, 0, 0, 0
	}
	const batch = 250
	done := 0
	b.ResetTimer()
	for done < b.N {
		n := min(batch, b.N-done)
		for i := range lanes { // whoever runs first differs
			lanes[(i+done/batch)%3].run(b, body, n)
		}
		done += n
	}
	b.StopTimer()
	direct, rp, gw := lanes[0], lanes[1], lanes[2]
	b.ReportMetric(float64(gw.cpu-direct.cpu)/float64(max(1, rp.cpu-direct.cpu)), "cpu-x")
	b.ReportMetric(float64(rp.wall)/float64(gw.wall), "reqs-x")
	b.ReportMetric(float64((gw.cpu-direct.cpu).Microseconds())/float64(done), "gateway-cpu-µs")
	b.ReportMetric(float64((rp.cpu-direct.cpu).Microseconds())/float64(done), "proxy-cpu-µs")
	b.ReportMetric(float64(gw.mallocs-direct.mallocs)/float64(done), "gateway-allocs")
	b.ReportMetric(float64(rp.mallocs-direct.mallocs)/float64(done), "proxy-allocs")
	b.ReportMetric(float64(gw.bytes-direct.bytes)/float64(done), "gateway-B")
	b.ReportMetric(float64(rp.bytes-direct.bytes)/float64(done), "proxy-B")
}

// run sends n calls from 8 workers.
func (l *lane) run(b *testing.B, body string, n int) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, start := cpuTime(), time.Now()
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				err := l.call(body)
				for again := 0; err != nil && l.lossy && again < 3; again++ {
					err = l.call(body)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	l.wall += time.Since(start)
	l.cpu += cpuTime() - cpu
	runtime.ReadMemStats(&after)
	l.mallocs += after.Mallocs - before.Mallocs
	l.bytes += after.TotalAlloc - before.TotalAlloc
}

func (l *lane) call(body string) error {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, l.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer caller")
	req.Header.Set("Content-Type", "application/json")
	res, err := l.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != 200 || !bytes.Contains(got, []byte("choices"))) {
		return errBroken
	}
	return err
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

type nopRecorder struct{}

func (nopRecorder) Reserve() error                                          { return nil }
func (nopRecorder) Release()                                                {}
func (nopRecorder) RecordCall(context.Context, *metrics.Call) error         { return nil }
func (nopRecorder) RecordFeedback(context.Context, *metrics.Feedback) error { return nil }

type allowAll struct{}

func (allowAll) Check(context.Context, *policy.Principal, policy.Permission) (policy.Decision, error) {
	return policy.Decision{Allowed: true, Holds: true}, nil
}

// BenchmarkCallIDs is what the id and the token of one call cost.
func BenchmarkCallIDs(b *testing.B) {
	e := newEnv(b)
	b.ReportAllocs()
	for b.Loop() {
		id, _ := e.ids.Mint(project, "key_1")
		_ = e.ids.Token(project, id, time.Hour)
	}
}
