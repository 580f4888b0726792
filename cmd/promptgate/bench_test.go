package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What is measured here is the real binary with everything on (key, policy, resolving, rendering, recording, metrics), beside a bare
// httputil.ReverseProxy with a tuned transport, before one upstream: each a process of its own, in one run, in turns, over loopback.
// Ratios are medians over the rounds. What the gateway puts off (committing calls to its database) is waited for and counted.

const (
	benchClients = 64 // connections that ask again as soon as they were answered
	benchRounds  = 7
	benchCell    = 3 * time.Second
	hotPrompts   = 1_000 // of the prompts in the database, these are called
	hotKeys      = 10_000
)

// BenchmarkGatewayVsReverseProxy compares the two in each shape of requests: throughput_ratio is to be at least 0.8, cpu_ratio at most 1.15.
//
//	throughput_ratio  calls per second of the gateway by those of the proxy, client and upstream being on the same processors
//	cpu_ratio         user and system time per call of the gateway's process by that of the proxy's
//	allocs/call       of the gateway's process, HTTP server and client, recording and committing included; proxy_allocs/call beside it
func BenchmarkGatewayVsReverseProxy(b *testing.B) {
	for _, shape := range []string{"chat", "responses", "messages"} {
		b.Run(shape, func(b *testing.B) {
			rig := newRig(b, benchShapeName+"="+shape)
			gw := rig.gateway(b, seeded(b, 1, 1))
			for _, c := range []struct {
				name   string
				stream bool
			}{{"json_1KB", false}, {"sse_100", true}} {
				b.Run(c.name, func(b *testing.B) {
					for range b.N {
						rig.compare(b, []string{""}, []*lane{gw}, c.stream, benchRounds)
					}
				})
			}
		})
	}
}

// BenchmarkProfile loads the gateway and writes its CPU profile to the file that PROMPTGATE_PGO names: make pgo.
func BenchmarkProfile(b *testing.B) {
	out := os.Getenv("PROMPTGATE_PGO")
	if out == "" {
		b.Skip("PROMPTGATE_PGO names no file")
	}
	const length = 30 * time.Second
	rig, ops := newRig(b), freeAddr(b)
	gw := rig.gateway(b, seeded(b, 100, 100), "PROMPTGATE_OPS_ADDR="+ops, "PROMPTGATE_PROFILING=true")
	var profile []byte
	var failed error
	var fetching sync.WaitGroup
	fetching.Go(func() {
		profile, failed = fetch(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", ops, length/time.Second))
	})
	gw.count, gw.quiet = func(testing.TB) float64 { return 0 }, func(testing.TB) bool { return true } // they read /metrics, which is elsewhere now
	gw.measure(b, false, length*2/3)
	gw.measure(b, true, length/3)
	fetching.Wait()
	require.NoError(b, failed)
	require.NoError(b, os.WriteFile(out, profile, 0o600))
	b.ReportMetric(0, "ns/op")
}

func fetch(url string) ([]byte, error) {
	res, err := http.Get(url) //nolint:gosec,noctx // loopback
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, res.Status)
	}
	return io.ReadAll(res.Body)
}

// BenchmarkScale is the same with 10 to 100,000 prompts, and with 10 to 100,000 keys, in the database: the ratios are to stay the same.
// Calls go to 1,000 of the prompts, or come with 10,000 of the keys, in turn.
func BenchmarkScale(b *testing.B) {
	rig := newRig(b)
	for _, what := range []string{"prompts", "keys"} {
		b.Run(what, func(b *testing.B) {
			var names []string
			var gateways []*lane
			for _, n := range []int{10, 1_000, 100_000} {
				prompts, keys := n, 1
				if what == "keys" {
					prompts, keys = 1, n
				}
				names, gateways = append(names, fmt.Sprintf("_%d", n)), append(gateways, rig.gateway(b, seeded(b, prompts, keys)))
			}
			for range b.N {
				rig.compare(b, names, gateways, false, benchRounds)
			}
			for i, gw := range gateways {
				b.ReportMetric(float64(gw.proc.rss())/(1<<20), "rss_MiB"+names[i])
			}
		})
	}
}

// BenchmarkColdStart is the time from starting the process, with the demo project in its data, to the first answer of a prompt (ms; to be under
// 300), and the resident memory half a second after it (MiB; to be under 60). first_run_ms is the same on an empty folder, migrations and
// seeding included.
func BenchmarkColdStart(b *testing.B) {
	data := b.TempDir()
	first, _, _ := coldStart(b, data)
	var took, rss []float64
	for range b.N {
		took, rss = nil, nil
		for range 9 {
			ms, mib, _ := coldStart(b, data)
			took, rss = append(took, ms), append(rss, mib)
		}
	}
	b.ReportMetric(first, "first_run_ms")
	b.ReportMetric(median(took), "first_answer_ms")
	b.ReportMetric(slices.Max(took), "worst_ms")
	b.ReportMetric(median(rss), "idle_rss_MiB")
	b.ReportMetric(0, "ns/op")
}

// coldStart starts the gateway on its demo data and asks until a prompt is answered.
func coldStart(b *testing.B, data string) (ms, rssMiB float64, key string) {
	b.Helper()
	addr := freeAddr(b)
	began := time.Now()
	p := startProcess(b, mustBinary(b), nil, "serve", "--demo", "--addr", addr, "--data", data)
	body := `{"prompt":{"id":"support/triage","label":"production","variables":{"ticket":"My card was charged twice"}}}`
	for {
		if key == "" {
			text, _ := os.ReadFile(data + "/demo.key") // written by the first run
			key = strings.TrimSpace(string(text))
		}
		status, err := post("http://"+addr+"/v1/chat/completions", key, body)
		if err == nil && status == http.StatusOK {
			break
		}
		if time.Since(began) > 30*time.Second {
			b.Fatalf("no answer in 30 s: status %d, %v\n%s", status, err, p.log)
		}
		time.Sleep(time.Millisecond)
	}
	ms = float64(time.Since(began).Microseconds()) / 1000
	time.Sleep(500 * time.Millisecond)
	rssMiB = float64(p.rss()) / (1 << 20)
	p.end(b)
	return ms, rssMiB, key
}

// median of xs, 0 without any.
func median[T cmp.Ordered](xs []T) (m T) {
	if len(xs) == 0 {
		return m
	}
	s := slices.Sorted(slices.Values(xs))
	return s[len(s)/2]
}
