package reseal

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
)

// worker does one job.
type worker struct {
	r    *Runner
	job  *Job
	told func(*Job)
}

// save notes progress and keeps the lease; errLost when another one has it.
func (w *worker) save(ctx context.Context) error {
	j := w.job
	j.UpdatedAt = w.r.now()
	if j.State == Running {
		j.LeaseUntil = j.UpdatedAt + lease.Microseconds()
	}
	res, err := w.r.o.DB.NewUpdate().Model(j).Column("state", "phase", "done", "total", "updated_at", "finished_at", "lease_until", "failure").
		Where("id = ? AND lease_by = ?", j.ID, w.r.me).Exec(ctx)
	if err != nil {
		return sqldb.Classify(err)
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return errLost
	}
	copied := *j
	w.r.seen.Store(&copied)
	w.told(&copied)
	return nil
}

func (w *worker) phase(ctx context.Context, name string, total int64) error {
	w.job.Phase, w.job.Done, w.job.Total = name, 0, total
	return w.save(ctx)
}

func (w *worker) progress(ctx context.Context, n int64) error {
	w.job.Done += n
	w.job.Total = max(w.job.Total, w.job.Done)
	return w.save(ctx)
}

func (w *worker) do(ctx context.Context) error {
	if err := w.r.o.Sealer.Reload(ctx); err != nil {
		return err
	}
	switch w.job.Kind {
	case Rotate:
		return w.rotate(ctx)
	case Reencrypt:
		return w.reencrypt(ctx)
	}
	return fault.New(fault.Internal, "reseal: a job of the kind %q", w.job.Kind)
}

// change edits keys of several projects in one journalled transaction.
func (w *worker) change(ctx context.Context, action string, projects []string, edit func(ctx context.Context, tx bun.Tx, project string) error) error {
	for len(projects) > 0 {
		some := projects[:min(len(projects), w.r.o.Batch)]
		projects = projects[len(some):]
		ev := &journal.Event{Origin: w.job.origin(), Action: action, Object: "seal-job:" + w.job.ID}
		for _, p := range some {
			ev.Touches = append(ev.Touches, journal.Touch{Kind: seal.TouchKeys, Project: p})
		}
		_, err := w.r.o.Journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
			for _, p := range some {
				if err := edit(ctx, tx, p); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := w.progress(ctx, int64(len(some))); err != nil {
			return err
		}
	}
	return nil
}

// rotate gives every set of keys a new one, waits until every replica has read it, and only then lets it seal.
func (w *worker) rotate(ctx context.Context) error {
	held, err := w.r.o.Sealer.Holdings(ctx)
	if err != nil {
		return err
	}
	var add []string
	for _, h := range held {
		if _, waits := h.Pending(); h.Shredded.IsZero() && !waits && !w.fresh(h) {
			add = append(add, h.Project)
		}
	}
	if err := w.phase(ctx, "adding keys", int64(len(add))); err != nil {
		return err
	}
	err = w.change(ctx, "seal.add_key", add, func(ctx context.Context, tx bun.Tx, project string) error {
		_, err := w.r.o.Sealer.AddKey(ctx, tx, project)
		return err
	})
	if err != nil {
		return err
	}
	if held, err = w.settle(ctx); err != nil {
		return err
	}
	var promote []string
	id := map[string]uint32{}
	for _, h := range held {
		if f, waits := h.Pending(); waits {
			promote, id[h.Project] = append(promote, h.Project), f.ID
		}
	}
	if err := w.phase(ctx, "sealing by the new keys", int64(len(promote))); err != nil {
		return err
	}
	err = w.change(ctx, "seal.promote_key", promote, func(ctx context.Context, tx bun.Tx, project string) error {
		return w.r.o.Sealer.Promote(ctx, tx, project, id[project])
	})
	if err != nil {
		return err
	}
	return w.r.o.Sealer.Reload(ctx)
}

// fresh reports whether the key that seals was made by this job, before it was interrupted.
func (w *worker) fresh(h seal.Held) bool {
	for _, f := range h.Keys {
		if f.ID == h.Primary {
			return f.MadeAt >= w.job.StartedAt
		}
	}
	return false
}

// settle waits until the newest pending key has been there long enough.
func (w *worker) settle(ctx context.Context) ([]seal.Held, error) {
	if err := w.phase(ctx, "waiting for replicas to read the new keys", 0); err != nil {
		return nil, err
	}
	for {
		held, err := w.r.o.Sealer.Holdings(ctx)
		if err != nil {
			return nil, err
		}
		var newest int64
		for _, h := range held {
			if f, waits := h.Pending(); waits {
				newest = max(newest, f.MadeAt)
			}
		}
		left := time.Duration(newest+w.r.o.Settle.Microseconds()-w.r.now()) * time.Microsecond
		if left <= 0 {
			return held, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(min(left, time.Second)):
		}
		if err := w.save(ctx); err != nil {
			return nil, err
		}
	}
}

// reencrypt seals everything by the keys that seal now, then destroys those that nothing needs.
func (w *worker) reencrypt(ctx context.Context) error {
	if err := w.ownKeys(ctx); err != nil {
		return err
	}
	held, err := w.r.o.Sealer.Holdings(ctx)
	if err != nil {
		return err
	}
	var again []string
	for _, h := range held[1:] {
		if h.Shredded.IsZero() && h.SealedBy != held[0].Primary {
			again = append(again, h.Project)
		}
	}
	if err := w.phase(ctx, "sealing the projects' keys", int64(len(again))); err != nil {
		return err
	}
	if err := w.change(ctx, "seal.reencrypt", again, w.resealKeys); err != nil {
		return err
	}
	const passes = 5 // rows are written meanwhile; a replica that lagged sealed some by an old key
	for pass := 1; ; pass++ {
		use, err := w.r.Use(ctx)
		if err != nil {
			return err
		}
		left := use.Stale()
		if left == 0 {
			break
		}
		if pass > passes {
			return fault.New(fault.Conflict, "%d values are still sealed by old keys after %d passes: is a replica cut off, or was a row altered? Run `promptgate audit verify`, then this again.", left, passes)
		}
		if err := w.phase(ctx, "sealing again", left); err != nil {
			return err
		}
		if err := w.pass(ctx, use); err != nil {
			return err
		}
	}
	return w.drop(ctx)
}

func (w *worker) resealKeys(ctx context.Context, tx bun.Tx, project string) error {
	return w.r.o.Sealer.ResealKeys(ctx, tx, project)
}

// ownKeys gives keys to projects that were made when there was none for each.
func (w *worker) ownKeys(ctx context.Context) error {
	all, err := w.r.o.Projects(ctx)
	if err != nil {
		return err
	}
	have, err := w.r.o.Sealer.Projects(ctx)
	if err != nil {
		return err
	}
	var lack []string
	for _, p := range all {
		if !have[p] {
			lack = append(lack, p)
		}
	}
	if err := w.phase(ctx, "making the projects' keys", int64(len(lack))); err != nil {
		return err
	}
	err = w.change(ctx, "seal.add_project", lack, func(ctx context.Context, tx bun.Tx, project string) error {
		return w.r.o.Sealer.AddProject(ctx, tx, project)
	})
	if err != nil {
		return err
	}
	return w.r.o.Sealer.Reload(ctx)
}

func (w *worker) pass(ctx context.Context, use *Use) error {
	for i, c := range w.r.o.Columns {
		for _, project := range use.staleIn(i) {
			after := ""
			for {
				n, next, err := c.Reseal(ctx, w.job.origin(), project, use.primary(project), after, w.r.o.Batch)
				if err != nil {
					return fmt.Errorf("%s: %w", c.Name(), err)
				}
				if err := w.progress(ctx, int64(n)); err != nil {
					return err
				}
				if next == "" {
					break
				}
				after = next
			}
		}
	}
	return nil
}

// drop destroys keys that have not sealed for long and that nothing is sealed by, the projects' first.
func (w *worker) drop(ctx context.Context) error {
	use, err := w.r.Use(ctx)
	if err != nil {
		return err
	}
	before := w.r.now() - w.job.DropAfter
	if err := w.phase(ctx, "destroying old keys", 0); err != nil {
		return err
	}
	for _, h := range use.Held {
		for _, f := range h.Keys {
			if f.ID == h.Primary || f.SealsUntil == 0 || f.SealsUntil > before || use.needs(h.Project, f.ID) {
				continue
			}
			err := w.change(ctx, "seal.drop_key", []string{h.Project}, func(ctx context.Context, tx bun.Tx, project string) error {
				return w.r.o.Sealer.DropKey(ctx, tx, project, f.ID)
			})
			if err != nil {
				return err
			}
		}
	}
	return w.r.o.Sealer.Reload(ctx)
}
