package sharedcache

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	tolerated  = 3 // failures in a row; then Redis is left alone
	convinced  = 3 // probes in a row that were answered; then it is used again. One alone may have been luck
	probeEvery = 250 * time.Millisecond
	probeTTL   = time.Minute

	// A Redis that comes and goes is left alone for longer each time.
	relapseWithin = 5 * time.Second
	leaveAtLeast  = 500 * time.Millisecond
	leaveAtMost   = 4 * time.Second
)

var errOpen = errors.New("sharedcache: circuit open")

// Within runs one round trip of somebody else's inside the budget: Redis is one, and what is heard of it here counts for all.
func (c *Cache) Within(ctx context.Context, do func(context.Context) error) error {
	return c.within(ctx, do)
}

// within runs one round trip inside the budget and lets health judge it. That a key is not there is an answer; that the caller left says
// nothing.
func (c *Cache) within(ctx context.Context, do func(context.Context) error) error {
	if c.down.Load() {
		return errOpen
	}
	err := c.once(ctx, do)
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		c.failures.Store(0)
	case ctx.Err() != nil:
	case c.failures.Add(1) >= tolerated:
		c.changed(true, err)
	}
	return err
}

func (c *Cache) once(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.o.Budget)
	defer cancel()
	return do(ctx)
}

// changed logs a change of state, once.
func (c *Cache) changed(down bool, why error) {
	if !down {
		c.failures.Store(0) // before anybody asks again: those of the past are not counted with theirs
	}
	if c.down.Swap(down) == down {
		return
	}
	if down {
		c.meter.open.Set(1)
		c.o.Log.Warn("redis does not answer as it should: reading from the database", "error", why)
		return
	}
	c.meter.open.Set(0)
	c.o.Log.Info("redis answers again")
}

// Down reports whether Redis is left alone.
func (c *Cache) Down() bool { return c.down.Load() }

// Run asks Redis now and then, until ctx is done: so that its loss is noticed before callers pay for it, and its return without any of
// them trying it. Without Run, a Redis that was left alone stays so.
func (c *Cache) Run(ctx context.Context) error {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	leave, answered := leaveAtLeast, 0
	var wasDown bool
	var since, back time.Time // of the last loss, of the last return
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := c.o.Clock()
		if down := c.down.Load(); down != wasDown {
			wasDown, since, answered = down, now, 0
			if down && !back.IsZero() && now.Sub(back) < relapseWithin {
				leave = min(2*leave, leaveAtMost)
			} else if down {
				leave = leaveAtLeast
			}
		}
		switch {
		case !wasDown:
			_ = c.within(ctx, c.probe)
		case now.Sub(since) < leave:
		case c.once(ctx, c.probe) != nil:
			answered = 0
		default:
			if answered++; answered >= convinced {
				back = now
				c.changed(false, nil)
			}
		}
	}
}

// probe writes: a Redis that only reads is of no use, and would come and go.
func (c *Cache) probe(ctx context.Context) error {
	return c.o.Client.Set(ctx, c.o.Prefix+":probe", "", probeTTL).Err()
}
