package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/authentic"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/registry"
)

// PromptByHandle implements registry.Source.
func (s *Store) PromptByHandle(ctx context.Context, project, handle string) (registry.Prompt, error) {
	if !storable(project, handle) {
		return registry.Prompt{}, promptGone()
	}
	var row promptRow
	err := s.journal.Read(ctx, func(ctx context.Context, c *authentic.Claims) (err error) {
		row, err = s.behind(ctx, c, project, handle)
		return err
	})
	if err != nil {
		return registry.Prompt{}, readFault(err, promptGone())
	}
	return row.prompt(), nil
}

// handledRow is a prompt and the handle that it was found by.
type handledRow struct {
	bun.BaseModel `bun:"table:registry_prompts,alias:p"`
	promptRow

	HandlePrompt string `bun:"handle_prompt,scanonly"`
	HandleKind   string `bun:"handle_kind,scanonly"`
}

// behind reads a handle and its prompt at once: one point read over two keys.
func (s *Store) behind(ctx context.Context, c *authentic.Claims, project, handle string) (promptRow, error) {
	var both handledRow
	h := handleRow{Project: project, Handle: handle}
	err := s.db.NewSelect().Model(&both).ColumnExpr("p.*, h.prompt_id AS handle_prompt, h.kind AS handle_kind").
		Join("JOIN registry_handles AS h ON h.project = p.project AND h.prompt_id = p.id").
		Where("h.project = ? AND h.handle = ?", project, handle).Scan(ctx)
	switch {
	case errors.Is(err, sql.ErrNoRows): // no handle, or none that names a prompt, which is never so
		c.Absent(&h)
		return promptRow{}, err
	case err != nil:
		return promptRow{}, err
	}
	h.PromptID, h.Kind = both.HandlePrompt, both.HandleKind
	c.Is(&h)
	c.Is(&both.promptRow)
	if h.Kind == handleRetired {
		return promptRow{}, sql.ErrNoRows
	}
	return both.promptRow, nil
}

// ListPrompts implements registry.Store: by name.
func (s *Store) ListPrompts(ctx context.Context, project string, f registry.PromptFilter, page registry.Page) ([]registry.Prompt, string, error) {
	const list = "prompts"
	after, limit, err := readPage(list, page)
	if err != nil {
		return nil, "", err
	}
	if !storable(project, f.Folder, f.Tag, f.Category, f.Query, f.Behind) {
		return []registry.Prompt{}, "", nil
	}
	found, err := journal.Select[promptRow](ctx, s.journal, nil, func(q *bun.SelectQuery) {
		narrow(q.Where("p.project = ?", project), f).Order("p.name").Limit(int64(limit) + 1)
		if after != nil {
			q.Where("p.name > ?", after.Text)
		}
	})
	if err != nil {
		return nil, "", readFault(err, promptGone())
	}
	out, next := cut(found, limit, promptRow.prompt, func(r promptRow) cursor { return cursor{List: list, Text: r.Name} })
	return out, next, nil
}

func narrow(q *bun.SelectQuery, f registry.PromptFilter) *bun.SelectQuery {
	if f.Folder != "" {
		// Names sort by their bytes, and '0' follows '/': a range of the index instead of a pattern.
		folder := strings.TrimSuffix(f.Folder, "/")
		q.Where("p.name > ? AND p.name < ?", folder+"/", folder+"0")
	}
	if f.Behind != "" {
		q.Where("p.name > ?", f.Behind)
	}
	if f.Tag != "" {
		q.Where("EXISTS (SELECT 1 FROM registry_tags AS t WHERE t.project = p.project AND t.prompt_id = p.id AND t.tag = ?)", f.Tag)
	}
	if f.Category != "" {
		q.Where("p.category = ?", f.Category)
	}
	if f.Query != "" {
		q.Where("p.search LIKE ? ESCAPE '!'", "%"+plainLike.Replace(strings.ToLower(f.Query))+"%")
	}
	if !f.Archived {
		q.Where("p.archived = ?", false)
	}
	return q
}

// plainLike makes wildcards of LIKE plain characters; '!' is its escape here.
var plainLike = strings.NewReplacer("!", "!!", "%", "!%", "_", "!_") //nolint:gochecknoglobals // a constant

// CreatePrompt implements registry.Store.
func (s *Store) CreatePrompt(ctx context.Context, by journal.Origin, p registry.Prompt, first *registry.Version) (registry.Prompt, error) {
	now := s.now()
	row := promptRow{Project: p.Project, ID: p.ID, Kind: string(p.Kind), Variables: stringsJSON{}, CreatedAt: now, UpdatedAt: now}
	row.fill(p)
	var version *versionRow
	if first != nil {
		v, err := s.sealVersion(*first, p, now)
		if err != nil {
			return registry.Prompt{}, err
		}
		version, row.LatestVersion = v, v.Number
		row.declare(first)
	}
	ev := journal.Event{
		Project: p.Project, Origin: by, Action: "prompt.create", Object: "prompt:" + p.ID,
		Touches: []journal.Touch{registry.PromptTouch(p.Project, p.ID)},
	}
	for _, h := range handlesOf(row) {
		ev.Touches = append(ev.Touches, registry.HandleTouch(p.Project, h.Handle))
	}
	if version != nil {
		ev.Touches = append(ev.Touches, registry.VersionTouch(p.Project, p.ID, version.Number),
			registry.LabelTouch(p.Project, p.ID, registry.LabelLatest))
	}
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		row.Revision = revision
		ev.After = created{Prompt: row.prompt(), Version: version.summary()}
		ev.Adds(&row)
		if err := exec(tx.NewInsert().Model(&row).Exec(ctx)); err != nil || version == nil {
			return err
		}
		version.Revision = revision
		ev.Adds(version)
		return exec(tx.NewInsert().Model(version).Exec(ctx))
	}
	_, err := s.journal.Change(ctx, &ev, func(ctx context.Context, tx bun.Tx) error {
		switch err := s.one(ctx, &projectRow{ID: p.Project}); {
		case errors.Is(err, sql.ErrNoRows):
			return projectGone()
		case err != nil:
			return err
		}
		if err := s.judge(ctx, by, registry.Change{Kind: registry.ChangeCreate, After: row.prompt()}); err != nil {
			return err
		}
		if err := takeHandles(ctx, tx, &ev, handlesOf(row)); err != nil {
			return err
		}
		return setTags(ctx, tx, row)
	})
	if err != nil {
		return registry.Prompt{}, err
	}
	return row.prompt(), nil
}

// created is what the journal keeps of a new prompt.
type created struct {
	Prompt  registry.Prompt
	Version *versionSummary `json:",omitempty"`
}

// errDry ends a change that was only to be checked.
var errDry = errors.New("sqlstore: only checked")

// CheckUpdate implements registry.Store: it makes the change and takes it back.
func (s *Store) CheckUpdate(ctx context.Context, by journal.Origin, p registry.Prompt) error {
	_, err := s.update(ctx, by, p, errDry)
	if errors.Is(err, errDry) {
		return nil
	}
	return err
}

// UpdatePrompt implements registry.Store.
func (s *Store) UpdatePrompt(ctx context.Context, by journal.Origin, p registry.Prompt) (registry.Prompt, error) {
	return s.update(ctx, by, p, nil)
}

// update changes a row; end, unless it is nil, takes everything back at last.
func (s *Store) update(ctx context.Context, by journal.Origin, p registry.Prompt, end error) (registry.Prompt, error) {
	var row promptRow
	ev := journal.Event{Project: p.Project, Origin: by, Action: "prompt.update", Object: "prompt:" + p.ID}
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		row.Revision = revision
		ev.After = row.prompt()
		ev.Sets(&row)
		return exec(tx.NewUpdate().Model(&row).WherePK().Exec(ctx))
	}
	_, err := s.journal.Change(ctx, &ev, func(ctx context.Context, tx bun.Tx) error {
		var err error
		if row, err = s.lockPrompt(ctx, p.Project, p.ID); err != nil {
			return err
		}
		if err := sameRevision("prompt", row.Revision, p.Revision); err != nil {
			return err
		}
		was := row.prompt()
		ev.Before = was
		before := handlesOf(row)
		row.fill(p)
		if err := s.judgeEdit(ctx, by, registry.Change{Kind: registry.ChangeEdit, Before: was, After: row.prompt()}); err != nil {
			return err
		}
		row.UpdatedAt = s.now()
		ev.Touches = touchPrompt(row, before)
		if err := s.setHandles(ctx, tx, &ev, row); err != nil {
			return err
		}
		return errors.Join(setTags(ctx, tx, row), end)
	})
	if err != nil {
		return registry.Prompt{}, err
	}
	return row.prompt(), nil
}

// judgeEdit tells the gate which labels would move along with the prompt's name. They cannot move meanwhile: whoever moves one holds the prompt.
func (s *Store) judgeEdit(ctx context.Context, by journal.Origin, c registry.Change) error {
	if s.gate != nil && c.Renames() {
		rows, err := s.labels(ctx, c.Before.Project, c.Before.ID)
		if err != nil {
			return err
		}
		for _, row := range rows {
			c.Labels = append(c.Labels, row.label())
		}
	}
	return s.judge(ctx, by, c)
}

// touchPrompt says that this row changed: under every handle that answers with it, or did before.
func touchPrompt(row promptRow, before []handleRow) []journal.Touch {
	touches := []journal.Touch{registry.PromptTouch(row.Project, row.ID)}
	handles := slices.Concat(before, handlesOf(row))
	slices.SortFunc(handles, func(a, b handleRow) int { return strings.Compare(a.Handle, b.Handle) })
	handles = slices.CompactFunc(handles, func(a, b handleRow) bool { return a.Handle == b.Handle })
	for _, h := range handles {
		touches = append(touches, registry.HandleTouch(row.Project, h.Handle))
	}
	return touches
}

// handlesOf lists the handles that answer with a prompt, sorted, so that two changes take theirs in one order and cannot
// deadlock.
func handlesOf(row promptRow) []handleRow {
	out := []handleRow{
		{Project: row.Project, Handle: row.ID, PromptID: row.ID, Kind: handleID},
		{Project: row.Project, Handle: row.Name, PromptID: row.ID, Kind: handleName},
	}
	for _, alias := range row.Aliases {
		if alias != row.Name && alias != row.ID {
			out = append(out, handleRow{Project: row.Project, Handle: alias, PromptID: row.ID, Kind: handleAlias})
		}
	}
	slices.SortFunc(out, func(a, b handleRow) int { return strings.Compare(a.Handle, b.Handle) })
	return out
}

// takeHandles inserts handles that must never have been used in their project.
func takeHandles(ctx context.Context, tx bun.Tx, ev *journal.Event, handles []handleRow) error {
	for i := range handles {
		ev.Adds(&handles[i])
		err := exec(tx.NewInsert().Model(&handles[i]).Exec(ctx))
		if sqldb.IsUnique(err) {
			return fault.Wrap(err, fault.Conflict,
				"The name %q belongs, or once belonged, to another prompt of this project: choose another.", handles[i].Handle).
				WithParam(handles[i].Kind)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// setHandles makes the stored handles of a prompt those of its row. What it no longer uses is retired, not released.
func (s *Store) setHandles(ctx context.Context, tx bun.Tx, ev *journal.Event, row promptRow) error {
	stored, err := journal.Select[handleRow](ctx, s.journal, nil, func(q *bun.SelectQuery) { q.Where("project = ? AND prompt_id = ?", row.Project, row.ID) })
	if err != nil {
		return err
	}
	kinds := make(map[string]string, len(stored))
	for _, h := range stored {
		kinds[h.Handle] = h.Kind
	}
	var fresh, changed []handleRow
	for _, h := range handlesOf(row) {
		switch kind, known := kinds[h.Handle]; {
		case !known:
			fresh = append(fresh, h)
		case kind != h.Kind:
			changed = append(changed, h)
		}
		delete(kinds, h.Handle)
	}
	for handle, kind := range kinds {
		if kind != handleRetired {
			changed = append(changed, handleRow{Project: row.Project, Handle: handle, PromptID: row.ID, Kind: handleRetired})
		}
	}
	for i := range changed {
		ev.Sets(&changed[i])
		if err := exec(tx.NewUpdate().Model(&changed[i]).WherePK().Exec(ctx)); err != nil {
			return err
		}
	}
	return takeHandles(ctx, tx, ev, fresh)
}

// setTags makes the searchable tags those of the row.
func setTags(ctx context.Context, tx bun.Tx, row promptRow) error {
	err := exec(tx.NewDelete().Model((*tagRow)(nil)).Where("project = ? AND prompt_id = ?", row.Project, row.ID).Exec(ctx))
	if err != nil || len(row.Tags) == 0 {
		return err
	}
	tags := make([]tagRow, len(row.Tags))
	for i, tag := range row.Tags {
		tags[i] = tagRow{Project: row.Project, Tag: tag, PromptID: row.ID}
	}
	return exec(tx.NewInsert().Model(&tags).Exec(ctx))
}
