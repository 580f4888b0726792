package pointers

import (
	"context"
	"sync"
	"sync/atomic"
)

const (
	// maxWaiting bounds what waits to be read again. What does not fit is read by the next call that needs it.
	maxWaiting = 4096
	workers    = 4
)

// Queue is what waits to be read again: what was in use when a change ended it. The next call then does not wait, and, what weighs more, does not
// find that the database was lost in between, when nobody can say any more what is true. It is safe for concurrent use.
type Queue[T any] struct {
	waiting chan T
	dropped atomic.Int64
}

// NewQueue makes an empty one. Nothing is read before Run.
func NewQueue[T any]() *Queue[T] { return &Queue[T]{waiting: make(chan T, maxWaiting)} }

// Add never waits.
func (q *Queue[T]) Add(v T) {
	select {
	case q.waiting <- v:
	default:
		q.dropped.Add(1)
	}
}

// Dropped counts what there was no room for.
func (q *Queue[T]) Dropped() int64 { return q.dropped.Load() }

// Run reads until ctx is done, a few at a time, and returns when the last reading has ended.
func (q *Queue[T]) Run(ctx context.Context, read func(context.Context, T)) {
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case v := <-q.waiting:
					read(ctx, v)
				}
			}
		})
	}
	all.Wait()
}
