package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"math"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/registry"
)

func labelGone(label string) *fault.Error {
	return fault.New(fault.LabelNotFound, "This prompt has no label %q.", label).WithParam("label")
}

// LabelOf implements registry.Source.
func (s *Store) LabelOf(ctx context.Context, project, promptID, label string) (registry.Label, error) {
	if !storable(project, promptID, label) {
		return registry.Label{}, labelGone(label)
	}
	if label == registry.LabelLatest {
		return s.latest(ctx, project, promptID)
	}
	row := labelRow{Project: project, PromptID: promptID, Name: label}
	if err := s.one(ctx, &row); err != nil {
		return registry.Label{}, readFault(err, labelGone(label))
	}
	return row.label(), nil
}

// latest is the newest version as a label; its revision is that of the version's saving.
func (s *Store) latest(ctx context.Context, project, promptID string) (registry.Label, error) {
	prompt := promptRow{Project: project, ID: promptID}
	if err := s.one(ctx, &prompt); err != nil {
		return registry.Label{}, readFault(err, labelGone(registry.LabelLatest))
	}
	if prompt.LatestVersion == 0 {
		return registry.Label{}, labelGone(registry.LabelLatest)
	}
	row := versionRow{Project: project, PromptID: promptID, Number: prompt.LatestVersion}
	if err := s.one(ctx, &row); err != nil {
		return registry.Label{}, readFault(err, labelGone(registry.LabelLatest))
	}
	return registry.Label{
		Project: project, PromptID: promptID, Name: registry.LabelLatest, Version: row.Number, Moved: micros(row.CreatedAt),
		Revision: row.Revision,
	}, nil
}

// ListLabels implements registry.Store: by name, all of them; a prompt has few.
func (s *Store) ListLabels(ctx context.Context, project, promptID string) ([]registry.Label, error) {
	out := []registry.Label{}
	if !storable(project, promptID) {
		return out, nil
	}
	rows, err := s.labels(ctx, project, promptID)
	if err != nil {
		return nil, readFault(err, promptGone())
	}
	for _, row := range rows {
		out = append(out, row.label())
	}
	return out, nil
}

func (s *Store) labels(ctx context.Context, project, promptID string) ([]labelRow, error) {
	return journal.Select[labelRow](ctx, s.journal, &labelRow{Project: project, PromptID: promptID}, func(q *bun.SelectQuery) {
		q.Where("project = ? AND prompt_id = ?", project, promptID).Order("name")
	})
}

// MoveLabel implements registry.Store. The prompt's row is held meanwhile, so the moves of its labels come one after another.
// A move to where the label points already changes nothing and leaves no event.
func (s *Store) MoveLabel(ctx context.Context, by journal.Origin, m registry.LabelMove) (registry.Label, error) {
	var (
		row  labelRow
		from int
	)
	ev := journal.Event{
		Project: m.Project, Origin: by, Action: moveAction(m), Object: "prompt:" + m.PromptID,
		Touches: []journal.Touch{registry.LabelTouch(m.Project, m.PromptID, m.Label)},
	}
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		row = labelRow{Project: m.Project, PromptID: m.PromptID, Name: m.Label, Version: m.To, MovedAt: s.now(), Revision: revision}
		if err := writeLabel(ctx, tx, &ev, row, from); err != nil {
			return err
		}
		return exec(tx.NewInsert().Model(eventOf(row, from, by)).Exec(ctx))
	}
	_, err := s.journal.Change(ctx, &ev, func(ctx context.Context, _ bun.Tx) error {
		current, err := s.holdLabel(ctx, by, m)
		if err != nil {
			return err
		}
		if from = current.Version; from == m.To {
			row = current
			return errNothingToDo
		}
		ev.Before, ev.After = labelState{m.Label, from}, labelState{m.Label, m.To}
		return nil
	})
	if err != nil && !errors.Is(err, errNothingToDo) {
		return registry.Label{}, err
	}
	return row.label(), nil
}

// errNothingToDo ends a change before it is one.
var errNothingToDo = errors.New("sqlstore: nothing to do")

// labelState is what the journal keeps of a label.
type labelState struct {
	Label   string
	Version int // 0: not there
}

func moveAction(m registry.LabelMove) string {
	if m.To == 0 {
		return "label.remove"
	}
	return "label.move"
}

// holdLabel holds the prompt, has the move judged, compares, and returns the label as it is (Version 0: not there).
func (s *Store) holdLabel(ctx context.Context, by journal.Origin, m registry.LabelMove) (labelRow, error) {
	current := labelRow{Project: m.Project, PromptID: m.PromptID, Name: m.Label}
	prompt, err := s.lockPrompt(ctx, m.Project, m.PromptID)
	if err != nil {
		return current, err
	}
	if err := s.one(ctx, &current); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return current, err
	}
	judged := m
	judged.From = &current.Version
	if err := s.judge(ctx, by, registry.Change{Kind: registry.ChangeMove, Before: prompt.prompt(), After: prompt.prompt(), Move: judged}); err != nil {
		return current, err
	}
	if m.From != nil && *m.From != current.Version {
		return current, registry.MoveConflict(m, current.Version)
	}
	if m.To == 0 {
		if current.Version == 0 {
			return current, labelGone(m.Label)
		}
		return current, nil
	}
	err = s.one(ctx, &versionRow{Project: m.Project, PromptID: m.PromptID, Number: m.To})
	if errors.Is(err, sql.ErrNoRows) {
		err = registry.ErrVersionNotFound(m.To)
	}
	return current, err
}

func writeLabel(ctx context.Context, tx bun.Tx, ev *journal.Event, row labelRow, from int) error {
	switch {
	case row.Version == 0:
		ev.Drops(&row)
		return exec(tx.NewDelete().Model(&row).WherePK().Exec(ctx))
	case from == 0:
		ev.Adds(&row)
		return exec(tx.NewInsert().Model(&row).Exec(ctx))
	}
	ev.Sets(&row)
	return exec(tx.NewUpdate().Model(&row).WherePK().Exec(ctx))
}

func eventOf(row labelRow, from int, by journal.Origin) *labelEventRow {
	return &labelEventRow{
		Project: row.Project, PromptID: row.PromptID, Revision: row.Revision, Label: row.Name, From: from, To: row.Version,
		At: row.MovedAt, ActorKind: by.Actor.Kind, ActorID: by.Actor.ID, ActorName: by.Actor.Name, Why: by.Why,
	}
}

// LabelHistory implements registry.Store: newest first; of every label when label is "".
func (s *Store) LabelHistory(ctx context.Context, project, promptID, label string, page registry.Page) ([]registry.LabelEvent, string, error) {
	const list = "label-events"
	after, limit, err := readPage(list, page)
	if err != nil {
		return nil, "", err
	}
	if after == nil {
		after = &cursor{Num: math.MaxInt64}
	}
	if !storable(project, promptID, label) {
		return []registry.LabelEvent{}, "", nil
	}
	var rows []labelEventRow
	q := s.db.NewSelect().Model(&rows).Where("project = ? AND prompt_id = ?", project, promptID).
		Where("(revision < ? OR (revision = ? AND label > ?))", after.Num, after.Num, after.Text).
		Order("revision DESC", "label").Limit(int64(limit) + 1)
	if label != "" {
		q.Where("label = ?", label)
	}
	if err := q.Scan(ctx); err != nil {
		return nil, "", readFault(err, promptGone())
	}
	out, next := cut(rows, limit, labelEventRow.event,
		func(r labelEventRow) cursor { return cursor{List: list, Num: r.Revision, Text: r.Label} })
	return out, next, nil
}
