package sqlstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/policy"
)

// CloseReview implements policy.ReviewStore.
func (s *Store) CloseReview(ctx context.Context, by journal.Origin, project, id string, force bool) (policy.Review, error) {
	var row reviewRow
	ev := &journal.Event{Project: project, Origin: by, Action: "review.close", Object: "review:" + id}
	read := func(ctx context.Context, row *reviewRow) error {
		*row = reviewRow{Project: project, ID: id} // that it is missing must be so
		return find(ctx, s, aReview, row, "project = ? AND id = ?", project, id)
	}
	err := amend(ctx, s, ev, &row, read, func(ctx context.Context) (bool, error) {
		if row.ClosedAt != 0 {
			return false, nil
		}
		lines, err := s.linesOf(ctx, project, id)
		if err != nil {
			return false, err
		}
		undecided := 0
		for i := range lines {
			if lines[i].Decision == "" && lines[i].Outcome == "" {
				undecided++
			}
		}
		if undecided > 0 && !force {
			return false, fault.New(fault.Conflict, "%d lines are decided by nobody: decide them, or insist (?force=true, --force), and they stay as they are.", undecided).WithParam("force")
		}
		r, err := row.review()
		if err != nil {
			return false, err
		}
		r.ClosedBy, r.ClosedByName, r.ClosedAt = by.Actor.ID, by.Actor.Name, at(s.clock().UnixMicro())
		e, err := evidenceOf(r, lines)
		if err != nil {
			return false, err
		}
		if _, r.Digest, err = e.Document(); err != nil {
			return false, err
		}
		ev.After = map[string]any{"review": r, "undecided": undecided, "evidence_sha256": r.Digest}
		row, err = rowOfReview(r)
		return true, err
	})
	if err != nil {
		return policy.Review{}, err
	}
	return row.review()
}

// DueReviews are open reviews whose deadline has passed: projects and ids.
func (s *Store) DueReviews(ctx context.Context) ([]policy.Review, error) {
	rows, err := findAll[reviewRow](ctx, s, "access reviews", nil, func(q *bun.SelectQuery) {
		q.Where("closed_at = 0 AND deadline_at <= ?", s.clock().UnixMicro()).Order("deadline_at").Limit(20)
	})
	out := make([]policy.Review, 0, len(rows))
	for i := range rows {
		r, bad := rows[i].review()
		if bad != nil {
			return nil, bad
		}
		out = append(out, r)
	}
	return out, err
}

// EndReview does what is to be done at a review's deadline, and closes it. Replicas may do it at once, and again when one of them is killed: each line is
// decided once.
func (s *Store) EndReview(ctx context.Context, by journal.Origin, r policy.Review) (policy.Review, error) {
	lines, err := s.linesOf(ctx, r.Project, r.ID)
	if err != nil {
		return r, err
	}
	by.Why = "deadline of the access review " + r.ID
	for i := range lines {
		if lines[i].Decision != "" || lines[i].Outcome != "" {
			continue
		}
		if err := s.endLine(ctx, by, r, &lines[i]); err != nil && !errors.Is(err, errUnchanged) {
			return r, err
		}
	}
	return s.CloseReview(ctx, by, r.Project, r.ID, true)
}

func (s *Store) endLine(ctx context.Context, by journal.Origin, r policy.Review, line *lineRow) error {
	system := &policy.Principal{ID: by.Actor.ID, Kind: policy.KindSystem, Project: r.Project}
	decide := func(decision policy.Decided, outcome policy.Outcome) also {
		return func(ctx context.Context, ev *journal.Event) error {
			var row lineRow
			if err := find(ctx, s, aLine, &row, "project = ? AND review_id = ? AND n = ?", line.Project, line.ReviewID, fmt.Sprint(line.N)); err != nil {
				return err
			}
			if row.Decision != "" || row.Outcome != "" { // another replica was faster
				return errUnchanged
			}
			row.Decision, row.Outcome, row.DecidedBy, row.DecidedByName = string(decision), string(outcome), by.Actor.ID, by.Actor.Name
			row.DecidedAt = s.clock().UnixMicro()
			stampLine(ev, &row)
			return nil
		}
	}
	var err error
	if r.AtDeadline == policy.DecideRevoke {
		err = s.revokeLine(ctx, by, system, line, decide(policy.DecideRevoke, policy.OutcomeDone))
	} else {
		err = s.keepLine(ctx, by, line, decide(policy.DecideKeep, policy.OutcomeDone))
	}
	outcome := policy.Outcome("")
	switch {
	case fault.Is(err, fault.PreconditionFailed):
		outcome = policy.OutcomeChanged
	case fault.Is(err, fault.NotFound):
		outcome = policy.OutcomeGone
	case fault.Is(err, fault.Conflict):
		outcome = policy.OutcomeLastAdmin
	default:
		return err
	}
	ev := &journal.Event{Project: r.Project, Origin: by, Action: "review.decide", Object: "review:" + r.ID, After: map[string]any{"line": line.N, "outcome": outcome}}
	_, err = s.journal.Change(ctx, ev, func(ctx context.Context, _ bun.Tx) error { return decide("", outcome)(ctx, ev) })
	return err
}

// OpenReviews are all open reviews, the soonest deadline first, and how many lines of each nobody has decided.
func (s *Store) OpenReviews(ctx context.Context) ([]policy.Review, map[string]int, error) {
	open, err := s.openReviews(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	undecided, err := s.Undecided(ctx, "", idsOf(open)...)
	return open, undecided, err
}

func idsOf(all []policy.Review) []string {
	out := make([]string, len(all))
	for i, r := range all {
		out[i] = r.ID
	}
	return out
}

// openReviews are those of a project, or of all.
func (s *Store) openReviews(ctx context.Context, project string) ([]policy.Review, error) {
	rows, err := findAll[reviewRow](ctx, s, "access reviews", nil, func(q *bun.SelectQuery) {
		q.Where("closed_at = 0").Order("deadline_at", "id").Limit(1000)
		if project != "" {
			q.Where("project = ?", project)
		}
	})
	if err != nil {
		return nil, err
	}
	out := make([]policy.Review, len(rows))
	for i := range rows {
		if out[i], err = rows[i].review(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Undecided implements policy.ReviewStore; "" is every project.
func (s *Store) Undecided(ctx context.Context, project string, ids ...string) (map[string]int, error) {
	out := map[string]int{}
	if len(ids) == 0 {
		return out, nil
	}
	var counts []struct {
		ReviewID string
		N        int
	}
	q := s.within(ctx).NewSelect().Model((*lineRow)(nil)).Column("review_id").ColumnExpr("count(*) AS n").
		Where("review_id IN (?) AND decision = '' AND outcome = ''", bun.List(ids)).Group("review_id")
	if project != "" {
		q.Where("project = ?", project)
	}
	if err := q.Scan(ctx, &counts); err != nil {
		return nil, fmt.Errorf("policy: count lines: %w", sqldb.Classify(err))
	}
	for _, c := range counts {
		out[c.ReviewID] = c.N
	}
	return out, nil
}

// deadlineOrigin is who does what is done at a deadline.
func deadlineOrigin() journal.Origin {
	return journal.Origin{Actor: journal.Actor{Kind: policy.KindSystem, ID: "deadline", Name: "deadline"}}
}
