package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
)

const (
	// attempts bounds how often a change is run again after PostgreSQL broke a deadlock or a conflict.
	attempts = 5
	// finishTimeout bounds what follows fn. The caller's context no longer counts by then: a caller who leaves during the commit
	// must not leave the outcome to chance.
	finishTimeout = 10 * time.Second
	// settleTimeout bounds the question whether a commit took place.
	settleTimeout = 5 * time.Second
	// afterTimeout bounds what follows the commit: telling subscribers of changes that came between.
	afterTimeout = 2 * time.Second
	// publishTimeout bounds the word to other replicas; they poll anyway.
	publishTimeout = 100 * time.Millisecond
)

// Change runs fn in a write transaction, appends ev to the chain and commits both, or neither. It is the only way to open a
// write transaction on domain tables.
//
// fn may fill ev in (Object, Before, After, Touches, Stamp); it must use ctx and tx it is given and may run several times, each
// time with ev as the caller passed it. On PostgreSQL changes run side by side, each statement seeing what is committed
// (READ COMMITTED): fn must lock the rows that its checks rest on, compare and set, or rely on a unique key.
//
// When Change returns, every subscriber here has been told, unless the database failed in that moment. Its errors are fn's own
// or classified by sqldb.Classify, and mean that nothing has changed, but for one: when the connection breaks during the commit
// and the database stays away, RegistryUnavailable says that the outcome is not known.
func (j *Journal) Change(
	ctx context.Context, ev *Event, fn func(ctx context.Context, tx bun.Tx) error,
) (revision int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, j.timeout)
	defer cancel()
	given := *ev
	given.Touches, given.rows = slices.Clone(ev.Touches), slices.Clone(ev.rows)
	for attempt := 1; ; attempt++ {
		change, err := j.attempt(ctx, ev, fn)
		switch {
		case err == nil:
			j.after(ctx, change)
			return change.Revision, nil
		case attempt == attempts || !sqldb.IsRetryable(err) || ctx.Err() != nil:
			return 0, sqldb.Classify(err)
		}
		*ev = given
		ev.Touches, ev.rows = slices.Clone(given.Touches), slices.Clone(given.rows)
	}
}

// committed is a change and when the database was asked to commit it.
type committed struct {
	Change
	row   *eventRow
	asked time.Time
}

func (j *Journal) attempt(ctx context.Context, ev *Event, fn func(context.Context, bun.Tx) error) (committed, error) {
	if !j.rows.once.Load() { // before there is a transaction, which would hold others up
		if err := j.fold(ctx, j.db.DB); err != nil {
			return committed{}, unbelievable(err)
		}
	}
	unlock, err := j.db.LockWriter(ctx)
	if err != nil {
		return committed{}, err
	}
	defer unlock()

	// The transaction follows the caller's context until fn is done, then a deadline of its own.
	txCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	detach := context.AfterFunc(ctx, cancel)
	tx, err := j.db.BeginTx(txCtx, nil)
	if err != nil {
		return committed{}, because(ctx, err)
	}
	defer func() { _ = tx.Rollback() }() // after the commit it does nothing
	if err := fn(context.WithValue(ctx, txKey{}, tx), tx); err != nil {
		return committed{}, because(ctx, err)
	}
	if !detach() {
		return committed{}, ctx.Err()
	}
	defer time.AfterFunc(finishTimeout, cancel).Stop()
	row, err := j.append(txCtx, tx, ev)
	if err != nil {
		return committed{}, late(txCtx, err)
	}
	change, err := row.change()
	if err != nil {
		return committed{}, err
	}
	asked := j.clock()
	if err = tx.Commit(); err != nil {
		err = j.settle(txCtx, row, err)
	}
	return committed{change, row, asked}, err
}

// Transaction is a change's own: what is read in it, under the locks that it holds, is what it commits.
type Transaction = bun.Tx

type txKey struct{}

// Tx is the transaction of the change that ctx belongs to, for those whom fn asks and hands its ctx; ok is false outside a change.
func Tx(ctx context.Context) (tx bun.Tx, ok bool) {
	tx, ok = ctx.Value(txKey{}).(bun.Tx)
	return tx, ok
}

// late tells a deadline of ours, which ends the transaction by cancelling it, from a caller who left.
func late(txCtx context.Context, err error) error {
	if txCtx.Err() == nil {
		return err
	}
	return fault.Wrap(err, fault.RegistryUnavailable, "The database is too slow now: try again shortly.")
}

// settle finds out whether a commit took place whose answer was lost on the way; nil when it did. PostgreSQL only: SQLite's
// answer cannot be lost.
func (j *Journal) settle(txCtx context.Context, row *eventRow, cause error) error {
	cause = fmt.Errorf("journal: commit: %w", cause)
	definite := !sqldb.IsUnavailable(cause) && !errors.Is(cause, context.Canceled) && !errors.Is(cause, sql.ErrTxDone)
	if j.db.Dialect != sqldb.Postgres || definite {
		return late(txCtx, cause)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(txCtx), settleTimeout)
	defer cancel()
	var found int64
	err := j.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) (err error) {
		// The transaction in doubt holds the head until it has ended either way, so this waits for it.
		if _, err = j.lockHead(ctx, tx); err != nil {
			return err
		}
		found, err = tx.NewSelect().Model((*eventRow)(nil)).Where("revision = ? AND hash = ?", row.Revision, row.Hash).Count(ctx)
		return err
	})
	switch {
	case err != nil:
		return fault.Wrap(errors.Join(cause, err), fault.RegistryUnavailable,
			"The database was lost while it saved the change, which may have been made or not: look before trying again.")
	case found == 0:
		return late(txCtx, cause)
	}
	return nil
}

// because says that the caller left or was out of time instead of what the driver makes of it: an interruption, or a cancellation
// that was ours.
func because(ctx context.Context, err error) error {
	var f *fault.Error
	if ctx.Err() == nil || errors.As(err, &f) {
		return err
	}
	return fmt.Errorf("%w: %v", ctx.Err(), err) //nolint:errorlint // what the driver made of a passed deadline must not be taken for the caller having left
}

// append locks the head, links ev behind it and moves it. A failure is RegistryUnavailable (or StorageFull): no audit, no action.
func (j *Journal) append(ctx context.Context, tx bun.Tx, ev *Event) (*eventRow, error) {
	head, err := j.lockHead(ctx, tx)
	if err != nil {
		return nil, noAudit(err)
	}
	if err := j.rows.grown(head); err != nil {
		return nil, unbelievable(err)
	}
	if ev.Stamp != nil {
		if err := ev.Stamp(context.WithValue(ctx, txKey{}, tx), tx, head.Revision+1); err != nil {
			return nil, err
		}
	}
	row, err := newEventRow(ev)
	if err != nil {
		return nil, err
	}
	row.Revision, row.PrevHash, row.At = head.Revision+1, head.Hash, j.clock().UnixMicro()
	if row.Written, err = j.writes(ctx, tx, ev); err != nil {
		return nil, err
	}
	payload, err := j.payload(row, ev)
	if err != nil {
		return nil, err
	}
	row.Hash = j.chain.hash(row)
	if err := insert(ctx, tx, row, payload); err != nil {
		return nil, noAudit(err)
	}
	return row, nil
}

func (j *Journal) lockHead(ctx context.Context, tx bun.Tx) (headRow, error) {
	var h headRow
	q := tx.NewSelect().Model(&h).Where("id = 1")
	if j.db.Dialect == sqldb.Postgres {
		q = q.For("UPDATE") // SQLite's transaction has the whole file
	}
	err := q.Scan(ctx)
	return h, err
}

// payload seals both sides for row and sets its commitments; nil when the event has neither side.
func (j *Journal) payload(row *eventRow, ev *Event) (*payloadRow, error) {
	if ev.Before == nil && ev.After == nil {
		return nil, nil
	}
	p := &payloadRow{Revision: row.Revision, BeforeSealed: []byte{}, AfterSealed: []byte{}}
	for _, side := range []struct {
		name           string
		value          any
		sealed, commit *[]byte
	}{
		{sideBefore, ev.Before, &p.BeforeSealed, &row.BeforeCommit},
		{sideAfter, ev.After, &p.AfterSealed, &row.AfterCommit},
	} {
		plain, commit, err := salted(side.value, side.name)
		if err != nil {
			return nil, err
		}
		if len(plain) == 0 {
			continue
		}
		*side.commit = commit
		*side.sealed, err = j.sealer.Seal(plain, place(row, side.name))
		if errors.Is(err, seal.ErrShredded) {
			// A project without keys can still be tidied up, such as its API keys revoked: the event says so without its payload.
			row.BeforeCommit, row.AfterCommit = []byte{}, []byte{}
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

// insert writes event, payload and head in one round trip: everybody else waits for the head meanwhile.
func insert(ctx context.Context, tx bun.Tx, row *eventRow, payload *payloadRow) error {
	statements := []fmt.Stringer{tx.NewInsert().Model(row)}
	if payload != nil {
		statements = append(statements, tx.NewInsert().Model(payload))
	}
	statements = append(statements, tx.NewUpdate().Model((*headRow)(nil)).
		Set("revision = ?", row.Revision).Set("hash = ?", row.Hash).Where("id = 1 AND revision = ?", row.Revision-1))
	var text strings.Builder
	for _, s := range statements {
		text.WriteString(s.String())
		text.WriteString(";\n")
	}
	res, err := tx.Tx.ExecContext(ctx, text.String()) // past bun, which has put the arguments in already
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 { // the last statement's: the head's
		return fmt.Errorf("head: %d rows moved: %w", n, err)
	}
	return nil
}

// noAudit says that the journal could not be written, unless the reason is one that callers act on differently.
func noAudit(err error) error {
	classified := sqldb.Classify(err)
	if sqldb.IsRetryable(err) || fault.Is(classified, fault.StorageFull) {
		return err
	}
	return fault.Wrap(fmt.Errorf("journal: %w", err), fault.RegistryUnavailable,
		"The change could not be recorded, so it was not made: try again shortly.")
}

// after tells the subscribers here and the other replicas. The change is committed: nothing that fails here undoes it, and the
// next poll makes up for it.
func (j *Journal) after(ctx context.Context, c committed) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterTimeout)
	defer cancel()
	if err := j.applyCommitted(ctx, c); err != nil {
		j.log.Warn("subscribers will hear of a change at the next poll", "revision", c.Revision, "error", err)
		j.wake()
	}
	if j.notify != nil {
		ctx, cancel := context.WithTimeout(ctx, publishTimeout)
		defer cancel()
		j.notify.Publish(ctx, c.Revision)
	}
}
