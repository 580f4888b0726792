package sqlstore

import (
	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/policy"
)

type reviewRow struct {
	bun.BaseModel `bun:"table:policy_reviews,alias:rv"`

	Project       string `bun:"project,pk"`
	ID            string `bun:"id,pk"`
	Name          string `bun:"name"`
	Roles         string `bun:"roles"`
	Subjects      string `bun:"subjects"`
	Prompts       string `bun:"prompts"`
	Reviewers     string `bun:"reviewers"`
	Remind        string `bun:"remind"`
	AtDeadline    string `bun:"at_deadline"`
	DeadlineAt    int64  `bun:"deadline_at"`
	Lines         int64  `bun:"lines"`
	StartedBy     string `bun:"started_by"`
	StartedByName string `bun:"started_by_name"`
	StartedAt     int64  `bun:"started_at"`
	ClosedBy      string `bun:"closed_by"`
	ClosedByName  string `bun:"closed_by_name"`
	ClosedAt      int64  `bun:"closed_at"`
	Digest        string `bun:"digest"`
	Revision      int64  `bun:"revision"`
}

func rowOfReview(r policy.Review) (reviewRow, error) {
	row := reviewRow{
		Project: r.Project, ID: r.ID, Name: r.Name, AtDeadline: string(r.AtDeadline), DeadlineAt: micros(r.Deadline), Lines: int64(r.Lines),
		StartedBy: r.StartedBy, StartedByName: r.StartedByName, StartedAt: micros(r.StartedAt), ClosedBy: r.ClosedBy, ClosedByName: r.ClosedByName,
		ClosedAt: micros(r.ClosedAt), Digest: r.Digest, Revision: r.Revision,
	}
	for to, from := range map[*string]any{
		&row.Roles: r.Roles, &row.Subjects: r.Subjects, &row.Prompts: r.Prompts, &row.Reviewers: r.Reviewers, &row.Remind: r.Remind,
	} {
		if err := encode(to, from); err != nil {
			return row, err
		}
	}
	return row, nil
}

func (r *reviewRow) review() (policy.Review, error) {
	out := policy.Review{
		Project: r.Project, ID: r.ID, Name: r.Name, AtDeadline: policy.Decided(r.AtDeadline), Deadline: at(r.DeadlineAt), Lines: int(r.Lines),
		StartedBy: r.StartedBy, StartedByName: r.StartedByName, StartedAt: at(r.StartedAt), ClosedBy: r.ClosedBy, ClosedByName: r.ClosedByName,
		ClosedAt: at(r.ClosedAt), Digest: r.Digest, Revision: r.Revision,
	}
	for from, to := range map[string]any{"roles": &out.Roles, "subjects": &out.Subjects, "prompts": &out.Prompts, "reviewers": &out.Reviewers, "remind": &out.Remind} {
		text := map[string]string{"roles": r.Roles, "subjects": r.Subjects, "prompts": r.Prompts, "reviewers": r.Reviewers, "remind": r.Remind}[from]
		if err := decode(text, to, "review "+r.ID); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (r *reviewRow) stamped(revision int64) { r.Revision = revision }

type lineRow struct {
	bun.BaseModel `bun:"table:policy_review_lines,alias:l"`

	Project       string `bun:"project,pk"`
	ReviewID      string `bun:"review_id,pk"`
	N             int64  `bun:"n,pk"`
	Holding       string `bun:"holding"`
	Subject       string `bun:"subject"`
	MadeBy        string `bun:"made_by"`
	HeldRevision  int64  `bun:"held_revision"`
	Held          string `bun:"held"`
	Decision      string `bun:"decision"`
	Change        string `bun:"change"`
	Outcome       string `bun:"outcome"`
	Comment       string `bun:"comment"`
	DecidedBy     string `bun:"decided_by"`
	DecidedByName string `bun:"decided_by_name"`
	DecidedAt     int64  `bun:"decided_at"`
	Revision      int64  `bun:"revision"`
}

// Group implements authentic.Grouped: a review's lines are read together, so that none can go missing.
func (*lineRow) Group() int { return 2 }

func (r *lineRow) stamped(revision int64) { r.Revision = revision }

func rowOfLine(r policy.Review, n int, a policy.Access) (lineRow, error) {
	row := lineRow{Project: r.Project, ReviewID: r.ID, N: int64(n), Holding: a.Holding, Subject: a.Subject, MadeBy: a.GrantedBy, HeldRevision: a.Revision}
	return row, encode(&row.Held, a)
}

func (r *lineRow) line() (policy.ReviewLine, error) {
	out := policy.ReviewLine{
		N: int(r.N), Decision: policy.Decided(r.Decision), Outcome: policy.Outcome(r.Outcome), Comment: r.Comment,
		DecidedBy: r.DecidedBy, DecidedByName: r.DecidedByName, DecidedAt: at(r.DecidedAt), Revision: r.Revision,
	}
	if err := decode(r.Held, &out.Held, "line of the review "+r.ReviewID); err != nil || r.Change == "" {
		return out, err
	}
	return out, decode(r.Change, &out.Change, "line of the review "+r.ReviewID)
}
