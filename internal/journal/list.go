package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/sqldb"
)

// Query selects entries of one project. The other zero fields select all.
type Query struct {
	Project    string // "" is what lies outside every project
	Everywhere bool   // instead of Project: all of them, and what lies outside
	Object     string
	Action     string // exact, or "label.*" for every action on that noun
	ActorID    string
	Since      time.Time // inclusive
	Until      time.Time // exclusive
	Before     int64     // cursor: revisions below it; 0 starts from the newest
	Limit      int       // 0 means 50; at most 500
	Payloads   bool      // also decrypt Before and After
}

// Entry is one event as it was recorded.
type Entry struct {
	Change
	Origin   Origin
	Before   json.RawMessage // nil when there was none, it was not asked for, or it was shredded
	After    json.RawMessage
	Shredded bool // only told when payloads were asked for
}

const (
	defaultLimit = 50
	maxLimit     = 500
)

// List returns the entries that q selects, newest first, and the cursor to pass as Before for those that follow; 0 when there
// are none.
func (j *Journal) List(ctx context.Context, q Query) (entries []Entry, next int64, err error) {
	limit := int64(q.Limit)
	if limit <= 0 {
		limit = defaultLimit
	}
	limit = min(limit, maxLimit)
	var rows []eventRow
	// One more than asked for tells whether anything follows.
	if err := q.where(j.db.NewSelect().Model(&rows)).Order("revision DESC").Limit(limit + 1).Scan(ctx); err != nil {
		return nil, 0, fmt.Errorf("journal: list: %w", sqldb.Classify(err))
	}
	if int64(len(rows)) > limit {
		rows = rows[:limit]
		next = rows[limit-1].Revision
	}
	payloads := map[int64]*payloadRow{}
	if q.Payloads {
		if payloads, err = j.payloads(ctx, j.db.DB, rows); err != nil {
			return nil, 0, err
		}
	}
	for i := range rows {
		e, err := j.entry(&rows[i], payloads[rows[i].Revision])
		if err != nil {
			return nil, 0, err
		}
		entries = append(entries, e)
	}
	return entries, next, nil
}

// Each calls fn for every event after a revision, oldest first, with what was there before and after, until fn fails. It returns the last
// revision that it read, after when there is none.
func (j *Journal) Each(ctx context.Context, after int64, fn func(Entry) error) (last int64, err error) {
	for {
		var rows []eventRow
		if err := j.db.NewSelect().Model(&rows).Where("revision > ?", after).Order("revision").Limit(page).Scan(ctx); err != nil {
			return after, fmt.Errorf("journal: read: %w", sqldb.Classify(err))
		}
		if len(rows) == 0 {
			return after, nil
		}
		payloads, err := j.payloads(ctx, j.db.DB, rows)
		if err != nil {
			return after, err
		}
		for i := range rows {
			e, err := j.entry(&rows[i], payloads[rows[i].Revision])
			if err == nil {
				err = fn(e)
			}
			if err != nil {
				return after, err
			}
			after = rows[i].Revision
		}
	}
}

func (q Query) where(s *bun.SelectQuery) *bun.SelectQuery {
	equal := func(column, value string) {
		if value != "" {
			s = s.Where("? = ?", bun.Ident(column), value)
		}
	}
	if !q.Everywhere {
		s = s.Where("project = ?", q.Project)
	}
	equal("object", q.Object)
	equal("actor_id", q.ActorID)
	if noun, all := strings.CutSuffix(q.Action, ".*"); all {
		s = s.Where("substr(action, 1, ?) = ?", len([]rune(noun))+1, noun+".")
	} else {
		equal("action", q.Action)
	}
	if !q.Since.IsZero() {
		s = s.Where("at >= ?", q.Since.UnixMicro())
	}
	if !q.Until.IsZero() {
		s = s.Where("at < ?", q.Until.UnixMicro())
	}
	if q.Before > 0 {
		s = s.Where("revision < ?", q.Before)
	}
	return s
}

// payloads reads the payloads of rows, which is at most one page.
func (j *Journal) payloads(ctx context.Context, db bun.IDB, rows []eventRow) (map[int64]*payloadRow, error) {
	out := make(map[int64]*payloadRow, len(rows))
	if len(rows) == 0 {
		return out, nil
	}
	revisions := make([]int64, len(rows))
	for i := range rows {
		revisions[i] = rows[i].Revision
	}
	var found []payloadRow
	if err := db.NewSelect().Model(&found).Where("revision IN (?)", bun.List(revisions)).Scan(ctx); err != nil {
		return nil, fmt.Errorf("journal: read payloads: %w", sqldb.Classify(err))
	}
	for i := range found {
		out[found[i].Revision] = &found[i]
	}
	return out, nil
}

func (j *Journal) entry(r *eventRow, p *payloadRow) (Entry, error) {
	change, err := r.change()
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Change: change, Origin: Origin{
		Actor: Actor{Kind: r.ActorKind, ID: r.ActorID, Name: r.ActorName}, From: r.FromAddr, Why: r.Why,
	}}
	if p == nil {
		return e, nil
	}
	if e.Shredded = p.Shredded; e.Shredded {
		return e, nil
	}
	if j.sealer.Shredded(r.Project) {
		e.Shredded = true
		return e, nil
	}
	if len(r.BeforeCommit) > 0 {
		if e.Before, err = j.unsalt(r, p.BeforeSealed, r.BeforeCommit, sideBefore); err != nil {
			return Entry{}, err
		}
	}
	if len(r.AfterCommit) > 0 {
		if e.After, err = j.unsalt(r, p.AfterSealed, r.AfterCommit, sideAfter); err != nil {
			return Entry{}, err
		}
	}
	return e, nil
}
