package journal

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
)

// actionShred is the action of the event that records a shredding; its object is the shredded object, or shredAll.
const (
	actionShred = "journal.shred"
	shredAll    = "*"
)

// Shred destroys the sealed before and after of every past event of a project, or of one object in it when object is not "",
// for good: the chain stays whole, and an event says who did it and why. Events keep their plain columns.
func (j *Journal) Shred(ctx context.Context, by Origin, project, object string) (revision int64, err error) {
	if object == "" {
		object = shredAll
	}
	ev := &Event{Project: project, Origin: by, Action: actionShred, Object: object}
	// In the stamp, not before it: the head is locked there, so no event can slip in between and be taken for a covered one.
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
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
}

// readShreds reads every recorded shredding. Verify checks these rows with all others, so a forged one does not go unseen.
func readShreds(ctx context.Context, db bun.IDB) ([]shred, error) {
	var out []shred
	err := db.NewSelect().Model((*eventRow)(nil)).Column("revision", "project", "object").
		Where("action = ?", actionShred).Order("revision").Scan(ctx, &out)
	return out, err
}

func covered(r *eventRow, shreds []shred) bool {
	for _, s := range shreds {
		if s.Revision > r.Revision && s.Project == r.Project && (s.Object == shredAll || s.Object == r.Object) {
			return true
		}
	}
	return false
}
