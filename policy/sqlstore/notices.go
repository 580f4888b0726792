package sqlstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/policy"
)

// noticeRow says that something is to be told; what is told is read, and believed, when it is.
type noticeRow struct {
	bun.BaseModel `bun:"table:policy_notices"`

	Kind    string `bun:"kind,pk"`
	Object  string `bun:"object,pk"`
	Mark    string `bun:"mark,pk"`
	Project string `bun:"project"`
	ID      string `bun:"id"`
	NotedAt int64  `bun:"noted_at"`
	Tries   int64  `bun:"tries"`
	DueAt   int64  `bun:"due_at"`
}

const (
	noticesAtATime = 500 // that are noted at a time
	keepNotices    = 180 * 24 * time.Hour
	maxNoticeTries = 60 // of what cannot be read
)

var (
	_ policy.Notices = (*Store)(nil)

	errNoticed = errors.New("policy: noticed before")
)

// NoteAll implements policy.Notices.
func (s *Store) NoteAll(ctx context.Context, days []int) (policy.Waiting, error) {
	w := policy.Waiting{Keys: map[int]int{}, Bindings: map[int]int{}}
	now := s.clock()
	want, err := s.ends(ctx, days, now, &w)
	if err != nil {
		return policy.Waiting{}, err
	}
	more, err := s.reviewNotices(ctx, now, &w)
	if err != nil {
		return policy.Waiting{}, err
	}
	fresh, err := s.unnoticed(ctx, append(want, more...))
	if err != nil {
		return policy.Waiting{}, err
	}
	var faults []error // one that cannot be noted keeps no other from being told
	for i := range fresh {
		faults = append(faults, s.notice(ctx, &fresh[i]))
	}
	faults = append(faults, s.db.Write(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewDelete().Model((*noticeRow)(nil)).Where("due_at = 0 AND noted_at < ?", now.Add(-keepNotices).UnixMicro()).Exec(ctx)
		return err
	}))
	return w, errors.Join(faults...)
}

// ends are notices of keys and bindings that end within the days, and counts them.
func (s *Store) ends(ctx context.Context, days []int, now time.Time, w *policy.Waiting) ([]noticeRow, error) {
	if len(days) == 0 {
		return nil, nil
	}
	last := now.AddDate(0, 0, slices.Max(days)).UnixMicro()
	soon := func(q *bun.SelectQuery) {
		q.Where("expires_at > ? AND expires_at <= ?", now.UnixMicro(), last).Order("expires_at").Limit(10_000)
	}
	keys, err := findAll[keyRow](ctx, s, "keys", nil, func(q *bun.SelectQuery) { soon(q.Where("revoked_at = 0")) })
	if err != nil {
		return nil, err
	}
	bindings, err := findAll[bindingRow](ctx, s, "bindings", nil, soon)
	if err != nil {
		return nil, err
	}
	var out []noticeRow
	add := func(kind, project, object string, made, ends int64, counts map[int]int) {
		for _, d := range days {
			if !now.Before(at(ends).AddDate(0, 0, -d)) {
				counts[d]++
			}
		}
		if d, ok := policy.ExpiryMark(days, at(made), at(ends), now); ok {
			out = append(out, noticeRow{Kind: kind, Project: project, Object: object, Mark: policy.EndMark(d, at(ends))})
		}
	}
	for i := range keys {
		add(policy.NoticeKeyExpiring, keys[i].Project, keys[i].ID, keys[i].CreatedAt, keys[i].ExpiresAt, w.Keys)
	}
	for i := range bindings {
		add(policy.NoticeBindingExpiring, bindings[i].Project, bindings[i].ID, bindings[i].GrantedAt, bindings[i].ExpiresAt, w.Bindings)
	}
	return out, nil
}

// reviewNotices are those of reviews that began, wait, or are over since yesterday.
func (s *Store) reviewNotices(ctx context.Context, now time.Time, w *policy.Waiting) ([]noticeRow, error) {
	open, undecided, err := s.OpenReviews(ctx)
	if err != nil {
		return nil, err
	}
	var out []noticeRow
	for _, r := range open {
		w.Reviews++
		w.Undecided += undecided[r.ID]
		out = append(out, noticeRow{Kind: policy.NoticeReviewStarted, Project: r.Project, Object: r.ID})
		if d, ok := r.Reminder(now); ok && undecided[r.ID] > 0 {
			out = append(out, noticeRow{Kind: policy.NoticeReviewReminder, Project: r.Project, Object: r.ID, Mark: policy.EndMark(d, r.Deadline)})
		}
	}
	closed, err := findAll[reviewRow](ctx, s, "access reviews", nil, func(q *bun.SelectQuery) { q.Where("closed_at > ?", now.AddDate(0, 0, -1).UnixMicro()).Limit(1000) })
	for i := range closed {
		out = append(out, noticeRow{Kind: policy.NoticeReviewClosed, Project: closed[i].Project, Object: closed[i].ID})
	}
	return out, err
}

// unnoticed are those of the notices that nobody has noted.
func (s *Store) unnoticed(ctx context.Context, want []noticeRow) ([]noticeRow, error) {
	known := map[[3]string]bool{}
	for part := range slices.Chunk(want, 500) {
		objects := make([]string, len(part))
		for i := range part {
			objects[i] = part[i].Object
		}
		var there []noticeRow
		if err := s.db.NewSelect().Model(&there).Where("object IN (?)", bun.List(objects)).Scan(ctx); err != nil {
			return nil, fmt.Errorf("policy: read notices: %w", sqldb.Classify(err))
		}
		for i := range there {
			known[[3]string{there[i].Kind, there[i].Object, there[i].Mark}] = true
		}
	}
	out := slices.DeleteFunc(want, func(n noticeRow) bool { return known[[3]string{n.Kind, n.Object, n.Mark}] })
	return out[:min(len(out), noticesAtATime)], nil
}

// notice notes one, with the journal, unless another replica was faster.
func (s *Store) notice(ctx context.Context, n *noticeRow) error {
	now := s.clock().UnixMicro()
	n.ID, n.NotedAt, n.DueAt = "ntc_"+strings.ToLower(rand.Text()), now, now
	noun, _, _ := strings.Cut(n.Kind, ".")
	ev := &journal.Event{
		Project: n.Project, Origin: journal.Origin{Actor: journal.Actor{Kind: policy.KindSystem, ID: "notices", Name: "notices"}}, Action: "notice." + n.Kind,
		Object: strings.TrimPrefix(noun, "access_") + ":" + n.Object, After: map[string]any{"notice": n.ID},
	}
	_, err := s.journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		res, err := tx.NewInsert().Model(n).On("CONFLICT (kind, object, mark) DO NOTHING").Exec(ctx)
		if err != nil {
			return err
		}
		if rows, err := res.RowsAffected(); err != nil || rows == 0 {
			return errors.Join(errNoticed, err)
		}
		return nil
	})
	if errors.Is(err, errNoticed) {
		return nil
	}
	return err
}

// DueNotices implements policy.Notices. What is no longer so is told to nobody: a key that was revoked, an end that was moved.
func (s *Store) DueNotices(ctx context.Context, most int, hold time.Duration) ([]policy.Notice, error) {
	now := s.clock()
	var ids []string
	q := s.db.NewSelect().Model((*noticeRow)(nil)).Column("id").Where("due_at > 0 AND due_at <= ?", now.UnixMicro()).Order("due_at").Limit(int64(most))
	if err := q.Scan(ctx, &ids); err != nil || len(ids) == 0 {
		return nil, sqldb.Classify(err)
	}
	var rows []noticeRow
	err := s.db.Write(ctx, func(ctx context.Context, tx bun.Tx) error {
		rows = nil
		return tx.NewUpdate().Model(&rows).Set("due_at = ?", now.Add(hold).UnixMicro()).Set("tries = tries + 1").
			Where("id IN (?) AND due_at > 0 AND due_at <= ?", bun.List(ids), now.UnixMicro()).Returning("*").Scan(ctx)
	})
	if err != nil {
		return nil, sqldb.Classify(err)
	}
	var out []policy.Notice
	var faults []error
	for i := range rows {
		r := &rows[i]
		data, err := s.told(ctx, r)
		if err != nil && r.Tries < maxNoticeTries { // it is due again when its time is over
			faults = append(faults, err)
			continue
		}
		if err != nil || data == nil {
			faults = append(faults, err, s.NoticeDone(ctx, r.ID, time.Time{}))
			continue
		}
		data["project"] = r.Project
		out = append(out, policy.Notice{ID: r.ID, Type: r.Kind, Project: r.Project, Object: r.Object, At: at(r.NotedAt), Tries: int(r.Tries), Data: data})
	}
	return out, errors.Join(faults...)
}

// NoticeDone implements policy.Notices.
func (s *Store) NoticeDone(ctx context.Context, id string, again time.Time) error {
	return s.db.Write(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewUpdate().Model((*noticeRow)(nil)).Set("due_at = ?", micros(again)).Where("id = ?", id).Exec(ctx)
		return err
	})
}
