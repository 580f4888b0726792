package main

import (
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What is measured here is many callers at once, with the real binary before one upstream, over loopback.

// BenchmarkManyStreams holds 10,000 streams open, each with an event every 5 s, at the bare proxy and at the gateway. Both files of a
// stream count against the limit of open files: where that is too low, and may not be raised, there are fewer.
//
//	streams         that were open at once
//	KiB/stream      resident memory that they added, by their number; to be at most 40
//	worst_late_ms   the longest that an event came after it was due, upstream and client on the same processors: none is to stall
//	failed          streams that did not come to their end; the bare proxy cuts a few, of those whose answer begins while it still sends
func BenchmarkManyStreams(b *testing.B) {
	const (
		gap    = 5 * time.Second
		chunks = "14"
	)
	n := min(10_000, (openFiles(b, 1<<15)-1_000)/2)
	require.Positive(b, n, "raise the limit of open files: ulimit -n")
	for _, name := range []string{"proxy", "gateway"} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				rig := newRig(b, benchGap+"="+gap.String(), benchChunks+"="+chunks) // anew: memory that streams before have left is none that these add
				l := rig.proxy
				if name == "gateway" {
					l = rig.gateway(b, seeded(b, 1, 1))
				}
				before := l.proc.rss()
				late, peak, failed := l.holdStreams(b, n, gap, 3*gap)
				if name == "gateway" {
					require.Empty(b, failed)
				}
				b.ReportMetric(float64(n), "streams")
				b.ReportMetric(float64(peak-before)/float64(n)/1024, "KiB/stream")
				b.ReportMetric(late.Seconds()*1000, "worst_late_ms")
				b.ReportMetric(float64(len(failed)), "failed")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkLongStreams holds 1,000 streams of each shape open for ten minutes, with an event each 5 s: `PROMPTGATE_TEST_LONG=1`, half an hour.
//
//	KiB/stream  resident memory that they added, by their number, when they had been open for ten minutes; to be at most 40
//	failed      streams that did not come to their end
func BenchmarkLongStreams(b *testing.B) {
	const (
		n   = 1_000
		gap = 5 * time.Second
	)
	if !long() {
		b.Skip(longTests + " is not set")
	}
	for _, shape := range []string{"chat", "responses", "messages"} {
		b.Run(shape, func(b *testing.B) {
			for range b.N {
				rig := newRig(b, benchShapeName+"="+shape, benchGap+"="+gap.String(), benchChunks+"=124")
				l := rig.gateway(b, seeded(b, 1, 1))
				before := l.proc.rss()
				_, peak, failed := l.holdStreams(b, n, gap, 10*time.Minute)
				require.Empty(b, failed)
				b.ReportMetric(float64(peak-before)/float64(n)/1024, "KiB/stream")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// openFiles is how many files a process started from here may have open, raised to want where this user may.
func openFiles(b *testing.B, want uint64) int {
	b.Helper()
	var limit syscall.Rlimit
	require.NoError(b, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	for _, most := range []uint64{want, min(want, limit.Max)} {
		raised := syscall.Rlimit{Cur: most, Max: max(most, limit.Max)}
		if most > limit.Cur && syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
			return int(most)
		}
	}
	return int(limit.Cur)
}

// holdStreams opens n streams and reads them to their ends. late is the longest that any event came after it was due, peak the memory of the
// lane's process after all of them were open for so long, failed what became of those that did not end as they should.
func (l *lane) holdStreams(b *testing.B, n int, gap, hold time.Duration) (late time.Duration, peak int64, failed []error) {
	b.Helper()
	var open, worst atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex // over failed
	for i := range n {
		wg.Go(func() {
			var last time.Time
			c := &benchConn{addr: l.addr, within: hold + 5*time.Minute}
			c.chunk = func() {
				now := time.Now()
				if last.IsZero() {
					open.Add(1)
				} else if d := int64(now.Sub(last) - gap); d > worst.Load() {
					worst.Store(d) // near enough: nobody needs the exact worst of two at the same moment
				}
				last = now
			}
			defer c.close()
			if err := c.do(l.sse[i%len(l.sse)], l.end); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, err)
			}
		})
		if i%10 == 9 {
			time.Sleep(10 * time.Millisecond) // 1,000 a second
		}
	}
	time.Sleep(hold) // all have had a few events
	mu.Lock()
	require.GreaterOrEqual(b, open.Load()+int64(len(failed)), int64(n), "not all were open at once")
	mu.Unlock()
	peak = l.proc.rss()
	wg.Wait()
	return time.Duration(worst.Load()), peak, failed
}

// BenchmarkSlowReaders has 1,000 callers that read a byte a second of streams of 8 MiB, and others that read answers of 1 KiB as they come.
//
//	p99_ratio   of the others, with the slow ones by without them; to be at most 1.1
//	cut_s       when the last of the slow ones was cut; the gateway's write timeout is 12 s
//	KiB/reader  resident memory of the process that they added, by their number; the sockets' is the kernel's
func BenchmarkSlowReaders(b *testing.B) {
	const (
		slow    = 1_000
		timeout = 12 * time.Second
	)
	openFiles(b, 1<<15)
	rig := newRig(b, benchGap+"=0s", benchChunks+"=1024", benchEvent+"=8000")
	gw := rig.gateway(b, seeded(b, 1, 1), "PROMPTGATE_SERVER_WRITE_TIMEOUT="+timeout.String())
	for range b.N {
		gw.paced(b, 16, 0, time.Second, nil)
		alone := gw.paced(b, 16, 0, 5*time.Second, nil)
		cut := func() float64 {
			return number(b, gw.addr, "/metrics", `promptgate_gateway_events_total{event="slow_client"} `)
		}
		before, cutBefore, began := gw.proc.rss(), cut(), time.Now()
		over := make(chan struct{})
		var dawdling sync.WaitGroup
		for i := range slow {
			dawdling.Go(func() { gw.dawdle(b, gw.sse[i%len(gw.sse)], over) })
		}
		time.Sleep(3 * time.Second) // until all that lies between has filled up
		beside := gw.paced(b, 16, 0, 5*time.Second, nil)
		rss := gw.proc.rss()
		require.Equal(b, cutBefore, cut(), "they were to be there meanwhile") //nolint:testifylint // counts
		for cut() < cutBefore+slow {
			require.Less(b, time.Since(began), 6*timeout, "slow readers were not cut")
			time.Sleep(100 * time.Millisecond)
		}
		took := time.Since(began)
		close(over)
		dawdling.Wait()
		b.ReportMetric(float64(quantile(beside.took, .99))/float64(quantile(alone.took, .99)), "p99_ratio")
		b.ReportMetric(took.Seconds(), "cut_s")
		b.ReportMetric(float64(rss-before)/slow/1024, "KiB/reader")
	}
	b.ReportMetric(0, "ns/op")
}

// dawdle asks, and reads a byte a second until it is over. That it was cut, it learns only behind all that was sent before.
func (l *lane) dawdle(b *testing.B, request []byte, over <-chan struct{}) {
	small := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	conn, err := small.Dial("tcp", l.addr)
	if err != nil {
		b.Error(err)
		return
	}
	defer conn.Close()
	if _, err := conn.Write(request); err != nil {
		b.Error(err)
		return
	}
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		select {
		case <-over:
			return
		case <-second.C:
			_, _ = conn.Read(make([]byte, 1))
		}
	}
}

// BenchmarkOverload offers five times the calls that the gateway takes at once.
//
//	goodput_ratio   answered calls a second, by those at just its capacity; to be at least 0.9
//	shed_p99_ms     until a refused caller knows
//	answered_p99_ms, unloaded_p99_ms  of the calls that were answered, under that load and at capacity
//	rss_MiB         resident memory under that load
func BenchmarkOverload(b *testing.B) {
	const (
		capacity = 64
		delay    = 50 * time.Millisecond
		length   = 5 * time.Second
	)
	rig := newRig(b, benchDelay+"="+delay.String())
	gw := rig.gateway(b, seeded(b, 1, 1), "PROMPTGATE_SERVER_MAX_IN_FLIGHT=64")
	for range b.N {
		gw.paced(b, capacity, delay, time.Second, nil)
		peak := gw.paced(b, capacity, delay, length, nil)
		over := gw.paced(b, 5*capacity, delay, length, []string{"429", "503"})
		require.NotEmpty(b, over.refused)
		b.ReportMetric(float64(len(over.took))/float64(len(peak.took)), "goodput_ratio")
		b.ReportMetric(quantile(over.refused, .99).Seconds()*1000, "shed_p99_ms")
		b.ReportMetric(quantile(over.took, .99).Seconds()*1000, "answered_p99_ms")
		b.ReportMetric(quantile(peak.took, .99).Seconds()*1000, "unloaded_p99_ms")
		b.ReportMetric(float64(len(over.refused))/length.Seconds(), "shed/s")
		b.ReportMetric(float64(gw.proc.rss())/(1<<20), "rss_MiB")
	}
	b.ReportMetric(0, "ns/op")
}

// answers are how long calls took.
type answers struct{ took, refused []time.Duration }

// paced has so many callers, each of which asks, and asks again when it was answered, but not before the pace since it asked last. Only
// refusals with these statuses are none of the gateway's failures.
func (l *lane) paced(b *testing.B, callers int, pace, length time.Duration, refusals []string) answers {
	b.Helper()
	var mu sync.Mutex
	var all answers
	var wg sync.WaitGroup
	end := time.Now().Add(length)
	for i := range callers {
		wg.Go(func() {
			var own answers
			c := &benchConn{addr: l.addr}
			defer c.close()
			time.Sleep(pace * time.Duration(i) / time.Duration(callers)) // not all at once
			for time.Now().Before(end) {
				began := time.Now()
				err := c.do(l.json[i%len(l.json)], []byte(`"usage"`))
				took := time.Since(began)
				var refused *refusal
				switch {
				case err == nil:
					own.took = append(own.took, took)
				case errors.As(err, &refused) && slices.Contains(refusals, refused.status):
					own.refused = append(own.refused, took)
				default:
					b.Error(err)
					return
				}
				time.Sleep(pace - took)
			}
			mu.Lock()
			defer mu.Unlock()
			all.took, all.refused = append(all.took, own.took...), append(all.refused, own.refused...)
		})
	}
	wg.Wait()
	return all
}

// quantile of xs, q from 0 to 1; 0 without any.
func quantile(xs []time.Duration, q float64) time.Duration {
	if len(xs) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(xs))[int(q*float64(len(xs)-1))]
}
