package journal

import (
	"bytes"
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/sqldb"
)

const (
	// page bounds the events read at a time while catching up.
	page = 500
	// pollTimeout bounds one question to a database that hangs.
	pollTimeout = 2 * time.Second
	// resubscribeAfter is the pause after a notifier's subscription broke.
	resubscribeAfter = time.Second
)

// Run keeps subscribers up to date with other replicas until ctx is done, and returns nil then. It logs one line when the
// database is lost and one when it is back.
func (j *Journal) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	if j.notify != nil {
		wg.Go(func() { j.listen(ctx) })
	}
	tick := time.NewTicker(j.every)
	defer tick.Stop()
	for {
		j.poll(ctx)
		j.keepSeen()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-j.nudge:
		}
	}
}

func (j *Journal) listen(ctx context.Context) {
	for ctx.Err() == nil {
		_ = j.notify.Subscribe(ctx, func(revision int64) { // polling covers for it; the notifier logs its own state
			if revision > j.applied.Load() {
				j.wake()
			}
		})
		select {
		case <-ctx.Done():
		case <-time.After(resubscribeAfter):
		}
	}
}

// wake makes Run poll now; one pending wake is enough.
func (j *Journal) wake() {
	select {
	case j.nudge <- struct{}{}:
	default:
	}
}

func (j *Journal) poll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	if err := j.lockApplying(ctx); err != nil {
		return // somebody else is catching up, or we are stopping
	}
	defer func() { <-j.applying }()
	_ = j.catchUpLocked(ctx) // it has logged a change of state
}

// applyCommitted tells subscribers of a change made here, and first of those that other replicas made before it.
func (j *Journal) applyCommitted(ctx context.Context, c committed) error {
	if err := j.lockApplying(ctx); err != nil {
		return err
	}
	defer func() { <-j.applying }()
	switch applied := j.applied.Load(); {
	case applied >= c.Revision:
		return nil
	case applied == c.Revision-1 && j.follows(c.row.PrevHash):
		j.deliver(c.Change, c.row)
		j.confirm(c.asked)
		return nil
	}
	return j.catchUpLocked(ctx)
}

// catchUpLocked asks for the head and delivers everything up to it. The caller holds applying.
func (j *Journal) catchUpLocked(ctx context.Context) error {
	asked := j.clock()
	err := j.follow(ctx)
	if err == nil {
		j.confirm(asked)
	} else if ctx.Err() == context.Canceled {
		return err // we are stopping, or the caller left: that says nothing about the database
	}
	j.note(err)
	return err
}

func (j *Journal) follow(ctx context.Context) error {
	if j.health == older {
		return errOlder // for good, even when it has grown past what was seen here
	}
	head, err := readHead(ctx, j.db.DB)
	if err != nil {
		return err
	}
	applied := j.applied.Load()
	if head.Revision < applied || head.Revision == applied && !j.follows(head.Hash) {
		return fmt.Errorf("%w: it is at revision %d, and %d has been seen here", errOlder, head.Revision, applied)
	}
	for j.applied.Load() < head.Revision {
		if err := j.followPage(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (j *Journal) followPage(ctx context.Context) error {
	var rows []eventRow
	err := j.db.NewSelect().Model(&rows).Where("revision > ?", j.applied.Load()).Order("revision").Limit(page).Scan(ctx)
	if err != nil {
		return fmt.Errorf("journal: read events: %w", sqldb.Classify(err))
	}
	if len(rows) == 0 {
		return fmt.Errorf("journal: events after revision %d are missing", j.applied.Load())
	}
	for i := range rows {
		if want := j.applied.Load() + 1; rows[i].Revision != want {
			return fmt.Errorf("journal: revision %d is missing", want)
		}
		if !j.follows(rows[i].PrevHash) {
			return fmt.Errorf("%w: revision %d follows another one than was seen here", errOlder, rows[i].Revision)
		}
		if !hmac.Equal(rows[i].Hash, j.chain.hash(&rows[i])) {
			return fmt.Errorf("%w (revision %d was altered)", errForged, rows[i].Revision)
		}
		change, err := rows[i].change()
		if err != nil {
			return err
		}
		j.deliver(change, &rows[i])
	}
	return nil
}

// follows reports whether an event that names prev as the one before it continues what subscribers have been told. After Resume
// the first one does.
func (j *Journal) follows(prev []byte) bool { return j.tip == nil || bytes.Equal(j.tip, prev) }

func (j *Journal) deliver(c Change, row *eventRow) {
	j.foldNext(row)
	j.noteTouches(c)
	for _, fn := range j.subscribers {
		fn(c)
	}
	j.tip = row.Hash
	j.advance(c.Revision)
}

// errOlder says that the database was put back to an older state under us. What is cached here is from a future that is gone:
// nothing is confirmed any more, and only a restart helps.
var errOlder = errors.New("the database was put back to an older state: restart this replica")

// health is how the database was when it was asked last.
type health int

const (
	healthy health = iota
	lost
	older
)

// note logs one line for each change of health.
func (j *Journal) note(err error) {
	now := healthy
	switch {
	case errors.Is(err, errOlder):
		now = older
	case err != nil:
		now = lost
	}
	if now == j.health {
		return
	}
	switch now {
	case healthy:
		j.log.Info("database back", "revision", j.applied.Load(), "after", j.clock().Sub(j.since))
	case lost:
		j.log.Error("database lost: serving from caches", "revision", j.applied.Load(), "error", err)
	case older:
		j.log.Error("database unusable: serving from caches", "revision", j.applied.Load(), "error", err)
	}
	if j.health == healthy {
		j.since = j.clock()
	}
	j.health = now
}

func readHead(ctx context.Context, db bun.IDB) (headRow, error) {
	var h headRow
	if err := db.NewSelect().Model(&h).Where("id = 1").Scan(ctx); err != nil {
		return h, fmt.Errorf("journal: read head: %w", sqldb.Classify(err))
	}
	return h, nil
}
