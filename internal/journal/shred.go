package journal

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
)

// actionShred is the action of the event that records a shredding; its object is the shredded object, or shredAll.
const (
	actionShred = "journal.shred"
	shredAll    = "*"
	// ActionShredProject is the event after which nothing of a project opens: its keys are gone with its payloads.
	ActionShredProject = "project.shred"
)

// ShredProject is Shred for all that a project has, future payloads included: destroy takes away its keys in the same transaction. ev is otherwise
// the caller's; its project and action are set here.
func (j *Journal) ShredProject(ctx context.Context, ev *Event, project string, destroy func(ctx context.Context, tx bun.Tx) error) (revision int64, err error) {
	ev.Project, ev.Action, ev.Object = project, ActionShredProject, "project:"+project
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		return emptyPayloads(ctx, tx, project, shredAll, revision)
	}
	return j.Change(ctx, ev, destroy)
}

// Shredded are the projects that events say were shredded, as far as the chain was folded. Nobody who writes the database takes one off the list.
func (j *Journal) Shredded() []string {
	j.rows.mu.Lock()
	defer j.rows.mu.Unlock()
	return slices.Clone(j.rows.shredded)
}

// emptyPayloads must run in a stamp: the head is locked there, so no event can slip in between and be taken for a covered one.
func emptyPayloads(ctx context.Context, tx bun.Tx, project, object string, revision int64) error {
	old := tx.NewSelect().Model((*eventRow)(nil)).Column("revision").
		Where("project = ? AND revision < ?", clean(project), revision)
	if object != shredAll {
		old = old.Where("object = ?", clean(object))
	}
	_, err := tx.NewUpdate().Model((*payloadRow)(nil)).
		Set("shredded = ?", true).Set("before_sealed = ?", []byte{}).Set("after_sealed = ?", []byte{}).
		Where("revision IN (?)", old).Exec(ctx)
	return err
}

// Shred destroys the sealed before and after of every past event of a project, or of one object in it when object is not "",
// for good: the chain stays whole, and an event says who did it and why. Events keep their plain columns.
func (j *Journal) Shred(ctx context.Context, by Origin, project, object string) (revision int64, err error) {
	if object == "" {
		object = shredAll
	}
	ev := &Event{Project: project, Origin: by, Action: actionShred, Object: object}
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		return emptyPayloads(ctx, tx, project, object, revision)
	}
	return j.Change(ctx, ev, func(context.Context, bun.Tx) error {
		if project == "" && object == shredAll {
			return fault.New(fault.InvalidRequest, "Name the project, or the object, whose payloads are to be shredded.")
		}
		return nil
	})
}

// shred is one recorded shredding.
type shred struct {
	Revision int64
	Project  string
	Object   string
	Action   string
}

// readShreds reads every recorded shredding. Verify checks these rows with all others, so a forged one does not go unseen.
func readShreds(ctx context.Context, db bun.IDB) ([]shred, error) {
	var out []shred
	err := db.NewSelect().Model((*eventRow)(nil)).Column("revision", "project", "object", "action").
		Where("action IN (?, ?)", actionShred, ActionShredProject).Order("revision").Scan(ctx, &out)
	return out, err
}

func covered(r *eventRow, shreds []shred) bool {
	for _, s := range shreds {
		if s.Project == r.Project && (s.Action == ActionShredProject ||
			s.Revision > r.Revision && (s.Object == shredAll || s.Object == r.Object)) {
			return true
		}
	}
	return false
}
