package sqlstore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/registry"
)

// VersionOf implements registry.Source.
func (s *Store) VersionOf(ctx context.Context, project, promptID string, number int) (registry.Version, error) {
	if !storable(project, promptID) {
		return registry.Version{}, registry.ErrVersionNotFound(number)
	}
	row := versionRow{Project: project, PromptID: promptID, Number: number}
	if err := s.one(ctx, &row); err != nil {
		return registry.Version{}, readFault(err, registry.ErrVersionNotFound(number))
	}
	return row.open(s.sealer)
}

// ListVersions implements registry.Store: newest first.
func (s *Store) ListVersions(ctx context.Context, project, promptID string, page registry.Page) ([]registry.Version, string, error) {
	const list = "versions"
	after, limit, err := readPage(list, page)
	if err != nil {
		return nil, "", err
	}
	if !storable(project, promptID) {
		return []registry.Version{}, "", nil
	}
	found, err := journal.Select[versionRow](ctx, s.journal, nil, func(q *bun.SelectQuery) {
		q.Where("project = ? AND prompt_id = ?", project, promptID).Order("number DESC").Limit(int64(limit) + 1)
		if after != nil {
			q.Where("number < ?", after.Num)
		}
	})
	if err != nil {
		return nil, "", readFault(err, promptGone())
	}
	page2, next := cut(found, limit, func(r versionRow) versionRow { return r },
		func(r versionRow) cursor { return cursor{List: list, Num: int64(r.Number)} })
	out := make([]registry.Version, len(page2))
	for i := range page2 {
		if out[i], err = page2[i].open(s.sealer); err != nil {
			return nil, "", err
		}
	}
	return out, next, nil
}

// AddVersion implements registry.Store. The prompt's row is held while the number is chosen, so numbers have no gaps but those
// that imports ask for.
func (s *Store) AddVersion(ctx context.Context, by journal.Origin, v registry.Version) (registry.Version, error) {
	var (
		prompt promptRow
		row    *versionRow
	)
	ev := journal.Event{Project: v.Project, Origin: by, Action: "version.create", Object: "prompt:" + v.PromptID}
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		prompt.Revision, row.Revision = revision, revision
		ev.Adds(row)
		ev.Sets(&prompt)
		if err := exec(tx.NewInsert().Model(row).Exec(ctx)); err != nil {
			return err
		}
		return exec(tx.NewUpdate().Model(&prompt).
			Column("latest_version", "variables", "updated_at", "revision").WherePK().Exec(ctx))
	}
	_, err := s.journal.Change(ctx, &ev, func(ctx context.Context, _ bun.Tx) error {
		var err error
		if prompt, err = s.lockPrompt(ctx, v.Project, v.PromptID); err != nil {
			return err
		}
		if err := s.judge(ctx, by, registry.Change{Kind: registry.ChangeVersion, Before: prompt.prompt(), After: prompt.prompt()}); err != nil {
			return err
		}
		if prompt.Archived { // meanwhile
			return registry.ErrArchived()
		}
		numbered := v
		if numbered.Number, err = s.freeNumber(ctx, prompt, v.Number); err != nil {
			return err
		}
		now := s.now()
		if row, err = s.sealVersion(numbered, prompt.prompt(), now); err != nil {
			return err
		}
		prompt.declare(&numbered)
		prompt.UpdatedAt = now
		ev.After = row.summary()
		ev.Touches = append(touchPrompt(prompt, nil), registry.VersionTouch(v.Project, v.PromptID, row.Number))
		if row.Number > prompt.LatestVersion {
			prompt.LatestVersion = row.Number
			ev.Touches = append(ev.Touches, registry.LabelTouch(v.Project, v.PromptID, registry.LabelLatest))
		}
		return nil
	})
	if err != nil {
		return registry.Version{}, err
	}
	v.Number, v.Created, v.Revision = row.Number, micros(row.CreatedAt), row.Revision
	return v, nil
}

// freeNumber is the number asked for, when no version has it, or the next.
func (s *Store) freeNumber(ctx context.Context, prompt promptRow, asked int) (int, error) {
	if asked == 0 {
		return prompt.LatestVersion + 1, nil
	}
	switch err := s.one(ctx, &versionRow{Project: prompt.Project, PromptID: prompt.ID, Number: asked}); {
	case errors.Is(err, sql.ErrNoRows):
		return asked, nil
	case err != nil:
		return 0, err
	}
	return 0, fault.New(fault.Conflict, "This prompt has a version %d already; its latest is %d.", asked, prompt.LatestVersion).WithParam("version")
}

// sealVersion makes the row of a version of p; its number is 1 when none is set.
func (s *Store) sealVersion(v registry.Version, p registry.Prompt, now int64) (*versionRow, error) {
	row := &versionRow{
		Project: p.Project, PromptID: p.ID, Number: max(v.Number, 1), Digest: v.Digest, Author: v.Author, Parent: v.Parent,
		CreatedAt: now,
	}
	return row, row.seal(s.sealer, &v)
}

// versionSummary is what the journal keeps of a version: its digest stands for its text, which never changes.
type versionSummary struct {
	Number int
	Digest string
	Author string
	Parent int
}

func (r *versionRow) summary() *versionSummary {
	if r == nil {
		return nil
	}
	return &versionSummary{Number: r.Number, Digest: r.Digest, Author: r.Author, Parent: r.Parent}
}
