package reseal

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
)

// Shred destroys the keys of a project for good, and the journal's payloads of it; the chain stays whole. It fails with Conflict while some of the
// project is sealed by the installation's keys, which go on.
func (r *Runner) Shred(ctx context.Context, by journal.Origin, project string) (revision int64, err error) {
	use, err := r.Use(ctx)
	if err != nil {
		return 0, err
	}
	if held := use.held(project); held.Project == project && !held.Shredded.IsZero() {
		return 0, fault.New(fault.ProjectShredded, "This project was shredded already: its texts are gone.")
	}
	if n := use.Foreign(project); n > 0 {
		return 0, fault.New(fault.Conflict, "%d texts of this project are sealed by the installation's keys, from before it had its own: "+
			"have all data sealed again first (`promptgate seal reencrypt`), then shred it.", n)
	}
	ev := &journal.Event{Origin: by, Touches: []journal.Touch{{Kind: seal.TouchKeys, Project: project}}}
	if r.o.Shredded != nil {
		ev.Touches = append(ev.Touches, r.o.Shredded(project)...)
	}
	revision, err = r.o.Journal.ShredProject(ctx, ev, project, func(ctx context.Context, tx bun.Tx) error {
		return r.o.Sealer.ShredProject(ctx, tx, project)
	})
	if err == nil {
		r.o.Sealer.MarkShredded(project)
	}
	return revision, err
}
