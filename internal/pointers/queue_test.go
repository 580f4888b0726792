package pointers

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a queue that is being read; each reading that has begun goes on when it is let.
type running struct {
	*Queue[int]
	begun []int
	let   chan struct{}
	stop  context.CancelFunc
	done  chan struct{}
}

func run(t *testing.T, q *Queue[int]) *running {
	ctx, stop := context.WithCancel(t.Context())
	r := &running{Queue: q, let: make(chan struct{}), stop: stop, done: make(chan struct{})}
	begun := make(chan int)
	go func() {
		defer close(r.done)
		q.Run(ctx, func(_ context.Context, v int) {
			begun <- v
			<-r.let
		})
		close(begun)
	}()
	go func() {
		for v := range begun {
			r.begun = append(r.begun, v)
		}
	}()
	return r
}

// next are the readings that have begun since it was asked last, when none can begin any more until one goes on.
func (r *running) next() []int {
	synctest.Wait()
	got := r.begun
	r.begun = nil
	slices.Sort(got)
	return got
}

func (r *running) end() {
	r.stop()
	close(r.let)
	<-r.done
}

// Nobody waits for room: what does not fit is counted, and nothing that was there before it is lost.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue[int]()
		for i := range maxWaiting + 3 {
			q.Add(i)
		}
		require.EqualValues(t, 3, q.Dropped())
		r := run(t, q)
		defer r.end()
		var read []int
		for len(read) < maxWaiting {
			got := r.next()
			require.NotEmpty(t, got)
			read = append(read, got...)
			for range got {
				r.let <- struct{}{}
			}
		}
		require.Empty(t, r.next(), "what did not fit")
		q.Add(-1)
		require.Equal(t, []int{-1}, r.next(), "there is room again")
		require.EqualValues(t, 3, q.Dropped())
	})
}

// What has waited longest is read first, a few at a time.
func TestQueueKeepsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue[int]()
		for i := range workers + 3 {
			q.Add(i)
		}
		r := run(t, q)
		defer r.end()
		require.Equal(t, []int{0, 1, 2, 3}, r.next(), "at once")
		for i := range 3 {
			r.let <- struct{}{}
			require.Equal(t, []int{workers + i}, r.next())
		}
	})
}

// What changes again while it is read is read again: the first reading may have come before the change.
func TestWhatChangesMeanwhileIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, NewQueue[int]())
		defer r.end()
		r.Add(7)
		require.Equal(t, []int{7}, r.next())
		r.Add(7)
		require.Equal(t, []int{7}, r.next())
	})
}

// Run ends with its context: nothing more is begun, and what is under way is waited for.
func TestRunWaitsForItsReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue[int]()
		for i := range workers {
			q.Add(i)
		}
		r := run(t, q)
		require.Len(t, r.next(), workers)
		r.stop()
		synctest.Wait()
		select {
		case <-r.done:
			t.Fatal("Run has left its readings behind")
		default:
		}
		r.end()
	})
}
