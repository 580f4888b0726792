package sqlstore

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

// told is what a notice says, from rows that the journal vouches for; nil when there is nothing to be told any more.
func (s *Store) told(ctx context.Context, n *noticeRow) (map[string]any, error) {
	var data map[string]any
	var err error
	switch n.Kind {
	case policy.NoticeKeyExpiring:
		data, err = s.toldOfKey(ctx, n)
	case policy.NoticeBindingExpiring:
		data, err = s.toldOfBinding(ctx, n)
	default:
		data, err = s.toldOfReview(ctx, n)
	}
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	return data, err
}

// markOf is how many days before the end a notice is, when the end is still the one that it was noted for.
func markOf(n *noticeRow, ends int64) (days int, ok bool) {
	day, end, _ := strings.Cut(n.Mark, " ")
	days, err := strconv.Atoi(day)
	return days, err == nil && end == strconv.FormatInt(ends, 10)
}

func (s *Store) toldOfKey(ctx context.Context, n *noticeRow) (map[string]any, error) {
	k, err := s.KeyByID(ctx, n.Project, n.Object)
	if err != nil {
		return nil, err
	}
	days, ok := markOf(n, micros(k.Expires))
	if !ok || !k.RevokedAt.IsZero() || !s.clock().Before(k.Expires) {
		return nil, nil
	}
	name, err := s.nameOf(ctx, n.Project, k.Owner)
	if err != nil {
		return nil, err
	}
	data := map[string]any{
		"key": k.ID, "name": k.Name, "last_four": k.LastFour, "owner": k.Owner, "owner_name": name, "expires_at": k.Expires.UTC(), "days": days, "replaced_by": k.ReplacedBy,
	}
	return data, s.addUse(ctx, n, data)
}

func (s *Store) toldOfBinding(ctx context.Context, n *noticeRow) (map[string]any, error) {
	b, err := s.BindingByID(ctx, n.Project, n.Object)
	if err != nil {
		return nil, err
	}
	days, ok := markOf(n, micros(b.Expires))
	if !ok || b.Expired(s.clock()) {
		return nil, nil
	}
	name, err := s.nameOf(ctx, n.Project, b.Subject)
	if err != nil {
		return nil, err
	}
	data := map[string]any{
		"binding": b.ID, "subject": b.Subject, "subject_name": name, "role": b.Role, "effect": b.Effect, "prompts": b.Prompts, "expires_at": b.Expires.UTC(), "days": days,
	}
	return data, s.addUse(ctx, n, data)
}

func (s *Store) addUse(ctx context.Context, n *noticeRow, data map[string]any) error {
	used, err := s.LastUsed(ctx, n.Project, n.Object)
	if last, ok := used[n.Object]; ok {
		data["last_used_at"] = last.UTC()
	}
	return err
}

func (s *Store) toldOfReview(ctx context.Context, n *noticeRow) (map[string]any, error) {
	e, err := s.Evidence(ctx, n.Project, n.Object)
	if err != nil {
		return nil, err
	}
	r, counts := e.Review, map[string]int{"keep": 0, "change": 0, "revoke": 0, "undecided": 0}
	for _, l := range e.Lines {
		if l.Decision == "" {
			counts["undecided"]++
			continue
		}
		counts[string(l.Decision)]++
	}
	if (n.Kind == policy.NoticeReviewClosed) != r.Closed() || n.Kind == policy.NoticeReviewReminder && counts["undecided"] == 0 {
		return nil, nil
	}
	reviewers := []map[string]string{}
	for _, id := range r.Reviewers {
		name, err := s.nameOf(ctx, n.Project, id)
		if err != nil {
			return nil, err
		}
		reviewers = append(reviewers, map[string]string{"id": id, "name": name})
	}
	data := map[string]any{
		"review": r.ID, "name": r.Name, "deadline_at": r.Deadline.UTC(), "at_deadline": r.AtDeadline, "reviewers": reviewers, "started_by": r.StartedBy, "lines": r.Lines, "decisions": counts,
	}
	if r.Closed() {
		data["closed_at"], data["closed_by"], data["evidence_sha256"] = r.ClosedAt.UTC(), r.ClosedBy, r.Digest
	}
	return data, nil
}

// nameOf is what people call a user, a group or a service account; "" for what is not there.
func (s *Store) nameOf(ctx context.Context, project, id string) (name string, err error) {
	switch {
	case strings.HasPrefix(id, policy.UserPrefix):
		var u userRow
		err = find(ctx, s, aUser, &u, "id = ?", id)
		name = u.Email
	case strings.HasPrefix(id, policy.GroupPrefix):
		var g groupRow
		err = find(ctx, s, aGroup, &g, "id = ?", id)
		name = g.Name
	case strings.HasPrefix(id, policy.ServicePrefix):
		var a serviceRow
		err = find(ctx, s, aService, &a, "project = ? AND id = ?", project, id)
		name = a.Name
	}
	if fault.Is(err, fault.NotFound) {
		err = nil
	}
	return name, err
}

// EndDueReviews implements policy.Notices.
func (s *Store) EndDueReviews(ctx context.Context) error {
	due, err := s.DueReviews(ctx)
	if err != nil {
		return err
	}
	var faults []error // one that cannot be ended keeps no other open
	for _, r := range due {
		_, err := s.EndReview(ctx, deadlineOrigin(), r)
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}
