package registry

import (
	"context"
	"sync"
	"sync/atomic"
)

const (
	// maxRefreshes bounds what waits to be read again. What does not fit is read by the next call that needs it.
	maxRefreshes = 4096
	refreshers   = 4
)

// refreshes are pointers that were in use when a change ended them. They are read again at once, by Run, and not by the next call: that call
// does not wait, and, what weighs more, may come after the database was lost, when nobody can say any more where the label points.
type refreshes struct {
	queue   chan refresh
	dropped atomic.Int64
}

// refresh is a label of a prompt, or a handle when of is nil.
type refresh struct {
	project, name string
	of            *Prompt
}

func newRefreshes() *refreshes { return &refreshes{queue: make(chan refresh, maxRefreshes)} }

func (q *refreshes) add(r refresh) {
	select {
	case q.queue <- r:
	default:
		q.dropped.Add(1)
	}
}

// Run reads again what changes end, until ctx is done. Without it a Resolver works as well, but for what refreshes are for.
func (r *Resolver) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for range refreshers {
		all.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case next := <-r.refreshes.queue:
					r.refresh(ctx, next)
				}
			}
		})
	}
	all.Wait()
	return nil
}

// refresh leaves errors to the call that needs the answer.
func (r *Resolver) refresh(ctx context.Context, next refresh) {
	if next.of == nil {
		_, _ = r.Identify(ctx, next.project, next.name)
		return
	}
	_, _ = r.Resolve(ctx, next.of, Selector{Kind: SelectLabel, Label: next.name})
}

// RefreshesDropped counts the pointers that there was no room for.
func (r *Resolver) RefreshesDropped() int64 { return r.refreshes.dropped.Load() }
