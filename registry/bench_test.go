package registry_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/registrytest"
)

// BenchmarkResolveWarm is what each call pays: a prompt by its name, a version by the project's default label, all from memory.
func BenchmarkResolveWarm(b *testing.B) {
	for _, n := range []int{10, 1_000, 100_000, 1_000_000} {
		warm := sync.OnceValue(func() warmed { return warmUp(b, n) }) // a benchmark's function runs several times
		b.Run(fmt.Sprintf("prompts=%d", n), func(b *testing.B) {
			if testing.Short() && n > 100_000 {
				b.Skip("-short")
			}
			benchmarkWarm(b, warm())
		})
	}
}

type warmed struct {
	src     *endlessSource
	r       *registry.Resolver
	prompts int
}

// appendHandle writes the name of a prompt.
func appendHandle(b []byte, prompt int) []byte {
	return strconv.AppendInt(append(b, "folder/prompt-"...), int64(prompt), 10)
}

func warmUp(b *testing.B, n int) warmed {
	w := warmed{src: &endlessSource{Version: registrytest.Version("prj_bench", "", "Sort this ticket.")}, prompts: n}
	feed := &fakeFeed{}
	feed.confirm(epoch)
	var err error
	w.r, err = registry.NewResolver(w.src, feed, registry.ResolverOptions{
		// Room for all: what is measured is the size, not eviction.
		Handles: 4 * n, PointerBytes: uint64(n+100) << 14, LoadTimeout: time.Minute, Clock: func() time.Time { return epoch },
	})
	require.NoError(b, err)
	for i := range 2 * n { // the second time round nothing is new any more
		if _, err := resolveDefault(b, w.r, string(appendHandle(nil, i%n))); err != nil {
			b.Fatal(err)
		}
	}
	return w
}

func benchmarkWarm(b *testing.B, w warmed) {
	reads := w.src.reads.Load()
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime(b)
	b.RunParallel(func(pb *testing.PB) {
		rng := rand.New(rand.NewPCG(1, 2))
		var name []byte
		for pb.Next() {
			// A caller's handle was just read from its request: it is not one of a million texts that lie anywhere.
			name = appendHandle(name[:0], rng.IntN(w.prompts))
			handle := unsafe.String(unsafe.SliceData(name), len(name)) //nolint:gosec // nobody keeps what is found
			if _, err := resolveDefault(b, w.r, handle); err != nil {
				b.Error(err)
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/op") // what it costs on a machine that does other things too
	b.ReportMetric(float64(w.src.reads.Load()-reads)/float64(b.N), "reads/op")
}

// cpuTime is what this process has used of the processors.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func resolveDefault(b *testing.B, r *registry.Resolver, handle string) (*registry.Resolved, error) {
	p, err := r.Identify(b.Context(), "prj_bench", handle)
	if err != nil {
		return nil, err
	}
	return r.Resolve(b.Context(), p, registry.Selector{})
}
