package sqlstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

const (
	aReview = "access review"
	aLine   = "line of this review"
)

var _ policy.ReviewStore = (*Store)(nil)

// StartReview implements policy.ReviewStore.
func (s *Store) StartReview(ctx context.Context, by journal.Origin, starter *policy.Principal, r policy.Review) (policy.Review, error) {
	now := s.clock()
	if err := r.Validate(now); err != nil {
		return r, err
	}
	r.ID, r.StartedBy, r.StartedByName, r.StartedAt = newID(policy.ReviewPrefix), by.Actor.ID, by.Actor.Name, at(micros(now))
	var row reviewRow
	var lines []lineRow
	ev := &journal.Event{Project: r.Project, Origin: by, Action: "review.start", Object: "review:" + r.ID}
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		row.Revision = revision
		ev.Adds(&row)
		for i := range lines {
			lines[i].Revision = revision
			ev.Adds(&lines[i])
		}
		if _, err := tx.NewUpdate().Model(&row).WherePK().Column("revision").Exec(ctx); err != nil {
			return err
		}
		_, err := tx.NewUpdate().Model((*lineRow)(nil)).Set("revision = ?", revision).Where("project = ? AND review_id = ?", r.Project, r.ID).Exec(ctx)
		return err
	}
	_, err := s.journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		if err := s.lockPeople(ctx, r.Project); err != nil {
			return err
		}
		open, err := s.openReviews(ctx, r.Project)
		if err != nil {
			return err
		}
		if len(open) >= policy.MaxOpenReviews {
			return fault.New(fault.Conflict, "%d access reviews run in this project, and more are not taken: close one first", len(open))
		}
		held, err := s.reviewed(ctx, starter, &r)
		if err != nil {
			return err
		}
		if r.Lines = len(held); r.Lines == 0 || r.Lines > policy.MaxReviewLines {
			return fault.New(fault.InvalidRequest, "this review would look at %d things, and one has 1 to %d: choose other roles, subjects or prompts", r.Lines, policy.MaxReviewLines)
		}
		lines = lines[:0]
		for i, a := range held {
			line, err := rowOfLine(r, i+1, a)
			if err != nil {
				return err
			}
			lines = append(lines, line)
		}
		if row, err = rowOfReview(r); err != nil {
			return err
		}
		ev.After = r
		if _, err := tx.NewInsert().Model(&row).Exec(ctx); err != nil {
			return err
		}
		for part := range slices.Chunk(lines, 500) {
			if _, err := tx.NewInsert().Model(&part).Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return r, fmt.Errorf("policy: review.start: %w", err)
	}
	return row.review()
}

// reviewed is what a review looks at, what was never used first. Each has a reviewer who may decide about it; what the deadline takes away, whoever starts
// the review could take away.
func (s *Store) reviewed(ctx context.Context, starter *policy.Principal, r *policy.Review) ([]policy.Access, error) {
	h, err := s.household(ctx, r.Project)
	if err != nil {
		return nil, err
	}
	all, err := h.held(s.clock())
	if err != nil {
		return nil, err
	}
	persons, err := s.reviewers(ctx, *r)
	if err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(all, func(a policy.Access) bool { return !r.Covers(a, h.members[a.Subject]) })
	slices.SortFunc(out, func(a, b policy.Access) int { return strings.Compare(a.Place(), b.Place()) })
	for _, a := range out {
		if !slices.ContainsFunc(persons, func(p string) bool { return !policy.OwnLine(a, p, h.activeMembers(a.Subject), h.keysOf(p)) }) {
			return nil, fault.New(fault.InvalidRequest, "nobody of the reviewers may decide about what %s holds (%s), since nobody reviews what is their own: name another reviewer",
				cmp.Or(a.SubjectName, a.Subject), a.Holding).WithParam("reviewers")
		}
	}
	if r.AtDeadline == policy.DecideRevoke {
		err = s.governsAll(ctx, starter, h, out)
	}
	return out, err
}

func (h *household) keysOf(person string) []string {
	var out []string
	for i := range h.keys {
		if h.keys[i].Owner == person {
			out = append(out, h.keys[i].ID)
		}
	}
	return out
}

func (h *household) activeMembers(group string) []string {
	return slices.DeleteFunc(slices.Clone(h.members[group]), func(id string) bool { return h.users[id].State != string(policy.UserActive) })
}

// governsAll judges whether somebody could take all of it away.
func (s *Store) governsAll(ctx context.Context, who *policy.Principal, h *household, all []policy.Access) error {
	for _, a := range all {
		i := slices.IndexFunc(h.bindings, func(b bindingRow) bool { return b.ID == a.Holding })
		if i < 0 {
			j := slices.IndexFunc(h.keys, func(k keyRow) bool { return k.ID == a.Holding })
			k, err := h.keys[j].record()
			if err == nil {
				err = policy.Govern(who, k, s.clock())
			}
			if err == nil {
				err = s.governOwned(ctx, who, k)
			}
			if err != nil {
				return err
			}
			continue
		}
		b, err := s.withActions(ctx, &h.bindings[i])
		if err == nil {
			err = policy.GovernBindings(who, b.Project, []policy.Binding{b}, s.clock())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reviewers are the active people among those whom a review names; a name that is nobody's is InvalidRequest.
func (s *Store) reviewers(ctx context.Context, r policy.Review) ([]string, error) {
	var out []string
	for _, id := range r.Reviewers {
		what, err := aUser, error(nil)
		switch {
		case strings.HasPrefix(id, policy.GroupPrefix):
			what, err = aGroup, find(ctx, s, aGroup, &groupRow{}, "id = ?", id)
		case strings.HasPrefix(id, policy.UserPrefix):
			err = find(ctx, s, aUser, &userRow{}, "id = ?", id)
		default:
			err = fault.New(fault.NotFound, "none")
		}
		if fault.Is(err, fault.NotFound) {
			return nil, fault.New(fault.InvalidRequest, "there is no %s %s: reviewers are users (usr_…) and groups (grp_…)", what, id).WithParam("reviewers")
		}
		if err != nil {
			return nil, err
		}
		found, err := s.activeUsersOf(ctx, id)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// ReviewByID implements policy.ReviewStore.
func (s *Store) ReviewByID(ctx context.Context, project, id string) (policy.Review, error) {
	row := reviewRow{Project: project, ID: id}
	if err := find(ctx, s, aReview, &row, "project = ? AND id = ?", project, id); err != nil {
		return policy.Review{}, err
	}
	return row.review()
}

// ListReviews implements policy.ReviewStore.
func (s *Store) ListReviews(ctx context.Context, project string, page policy.Page) ([]policy.Review, string, error) {
	rows, next, err := list(ctx, s, "access reviews", page, order[reviewRow]{"started_at", "id", func(r *reviewRow) (int64, string) { return r.StartedAt, r.ID }},
		func(q *bun.SelectQuery) { q.Where("rv.project = ?", project) })
	out := make([]policy.Review, 0, len(rows))
	for i := range rows {
		r, bad := rows[i].review()
		if bad != nil {
			return nil, "", bad
		}
		out = append(out, r)
	}
	return out, next, err
}

// linesOf are all lines of a review: none is missing.
func (s *Store) linesOf(ctx context.Context, project, id string) ([]lineRow, error) {
	return findAll[lineRow](ctx, s, "lines of the review", &lineRow{Project: project, ReviewID: id}, func(q *bun.SelectQuery) {
		q.Where("project = ? AND review_id = ?", project, id).Order("n")
	})
}

// Evidence implements policy.ReviewStore.
func (s *Store) Evidence(ctx context.Context, project, id string) (policy.Evidence, error) {
	r, err := s.ReviewByID(ctx, project, id)
	if err != nil {
		return policy.Evidence{}, err
	}
	rows, err := s.linesOf(ctx, project, id)
	if err != nil {
		return policy.Evidence{}, err
	}
	return evidenceOf(r, rows)
}

func evidenceOf(r policy.Review, rows []lineRow) (policy.Evidence, error) {
	e := policy.Evidence{Review: r, Lines: make([]policy.ReviewLine, len(rows))}
	for i := range rows {
		var err error
		if e.Lines[i], err = rows[i].line(); err != nil {
			return e, err
		}
	}
	return e, nil
}

// ReviewsOf implements policy.ReviewStore.
func (s *Store) ReviewsOf(ctx context.Context, project, person string) ([]policy.Review, error) {
	all, err := s.openReviews(ctx, project)
	if err != nil {
		return nil, err
	}
	out := []policy.Review{}
	for _, r := range all {
		ok, err := s.Reviews(ctx, r, person)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, r)
		}
	}
	return out, nil
}

// Reviews implements policy.ReviewStore.
func (s *Store) Reviews(ctx context.Context, r policy.Review, person string) (bool, error) {
	if person == "" {
		return false, nil
	}
	if slices.Contains(r.Reviewers, person) {
		return true, nil
	}
	a, err := s.Account(ctx, person)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(a.Groups, func(m policy.GroupMember) bool { return slices.Contains(r.Reviewers, m.GroupID) }), nil
}
