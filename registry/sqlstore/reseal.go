package sqlstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
)

// Texts are the sealed texts of versions as what seals everything again sees them.
type Texts struct{ S *Store }

// Name says what they are.
func (Texts) Name() string { return "versions" }

// Count counts them by project and key.
func (t Texts) Count(ctx context.Context) ([]seal.Count, error) {
	return seal.CountKeys(ctx, t.S.db.DB, versionsTable, "project", "content", "note")
}

// Reseal seals at most limit versions of a project after a place again, those that key does not seal. What they say and their revisions stay.
func (t Texts) Reseal(ctx context.Context, by journal.Origin, project string, key uint32, after string, limit int) (n int, next string, err error) {
	prompt, number := "", 0
	if p, v, ok := strings.Cut(after, " "); ok {
		prompt = p
		number, _ = strconv.Atoi(v)
	}
	prefix := seal.KeyPrefix(key)
	narrow := func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("project = ? AND (prompt_id, number) > (?, ?)", project, prompt, number).
			Where("(substr(content, 1, 5) <> ? OR substr(note, 1, 5) <> ?)", prefix, prefix).Order("prompt_id", "number").Limit(int64(limit))
	}
	var some versionRow
	left, err := narrow(t.S.db.NewSelect().Model(&some)).Exists(ctx)
	if err != nil || !left {
		return 0, "", readFault(err, promptGone())
	}
	ev := journal.Event{Project: project, Origin: by, Action: "seal.reencrypt", Object: "versions:" + project}
	_, err = t.S.journal.Change(ctx, &ev, func(ctx context.Context, tx bun.Tx) error {
		n, next = 0, ""
		found, err := journal.Select[versionRow](ctx, t.S.journal, nil, func(q *bun.SelectQuery) { t.S.lock(narrow(q)) })
		if err != nil {
			return err
		}
		for i := range found {
			if err := t.again(ctx, tx, &ev, &found[i]); err != nil {
				return err
			}
			n, next = n+1, found[i].PromptID+" "+strconv.Itoa(found[i].Number)
		}
		return nil
	})
	return n, next, err
}

func (t Texts) again(ctx context.Context, tx bun.Tx, ev *journal.Event, r *versionRow) (err error) {
	if r.Content, err = t.S.sealer.Again(r.Content, r.place("content")); err != nil {
		return fmt.Errorf("version %d of %s: %w", r.Number, r.PromptID, err)
	}
	if r.Note, err = t.S.sealer.Again(r.Note, r.place("note")); err != nil {
		return fmt.Errorf("version %d of %s: %w", r.Number, r.PromptID, err)
	}
	ev.Sets(r)
	return exec(tx.NewUpdate().Model(r).Column("content", "note").WherePK().Exec(ctx))
}
