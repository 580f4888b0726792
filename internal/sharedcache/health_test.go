package sharedcache

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/testenv"
)

// fickle fails commands as a test says, by their number.
type fickle struct {
	redis.Hook
	asked atomic.Int64
	fails atomic.Pointer[func(n int64) bool]
}

func (f *fickle) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if n := f.asked.Add(1); (*f.fails.Load())(n) {
			return errors.New("no")
		}
		return next(ctx, cmd)
	}
}
func (f *fickle) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *fickle) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A Redis that answers now and then is left alone all the while: one line when it is lost, one when it is back.
func TestFickleRedisIsOneChangeOfState(t *testing.T) {
	t.Parallel()
	f := newFixture(t, testenv.Redis(t).Addr, sealerFor(t))
	var log bytes.Buffer
	f.o.Log = slog.New(slog.NewTextHandler(&log, nil))
	hook := &fickle{}
	says := func(fails func(int64) bool) { hook.fails.Store(&fails) }
	says(func(int64) bool { return true })
	f.client.AddHook(hook)
	for range tolerated {
		read(t, f, label, &below{value: "v"})
	}
	require.True(t, f.Down())

	says(func(n int64) bool { return n%3 == 0 })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	asked := hook.asked.Load()
	require.Eventually(t, func() bool { return hook.asked.Load() >= asked+7 }, 20*time.Second, 5*time.Millisecond)
	require.True(t, f.Down(), "used again, although every third command fails")
	says(func(int64) bool { return false })
	require.Eventually(t, func() bool { return !f.Down() }, 20*time.Second, 5*time.Millisecond)
	stop()
	require.NoError(t, <-done)
	require.Equal(t, 2, strings.Count(log.String(), "\n"), "%s", &log)
}
