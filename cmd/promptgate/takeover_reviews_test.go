package main

import (
	"context"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/policy"
)

// takenReviews are access reviews, one in each project, for takeover.
type takenReviews struct{ reviews []policy.Review }

// fill begins them: people and what they hold must be there.
func (p *takenReviews) fill(o *takeover) {
	for _, project := range o.project {
		r, err := o.running.keys.StartReview(o.t.Context(), stage, &policy.Principal{Kind: policy.KindSystem}, policy.Review{
			Project: project, Name: "spring", Roles: []string{"caller"}, Subjects: o.people.services[project], Prompts: []string{"support/**"}, Reviewers: []string{o.people.users[0]},
			Deadline: time.Now().Add(24 * time.Hour),
		})
		require.NoError(o.t, err)
		require.Equal(o.t, 2, r.Lines)
		p.reviews = append(p.reviews, r)
	}
}

// change decides every line and closes them, before what is held changes.
func (p *takenReviews) change(o *takeover) {
	ctx, s, t := o.t.Context(), o.running.keys, o.t
	for _, r := range p.reviews {
		for n := range r.Lines {
			_, err := s.DecideLine(ctx, stage, nil, policy.LineDecision{
				Project: r.Project, ReviewID: r.ID, N: n + 1, Person: o.people.users[0], Decision: policy.DecideKeep, Comment: "needed",
			})
			require.NoError(t, err)
		}
		_, err := s.CloseReview(ctx, stage, r.Project, r.ID, false)
		require.NoError(t, err)
	}
}

// answers asks for what was decided, and what nobody may deny.
func (p *takenReviews) answers(ctx context.Context, s *stores, ask func(question string, answer any, err error)) {
	for _, r := range p.reviews {
		now, err := s.keys.ReviewByID(ctx, r.Project, r.ID)
		ask("review "+r.ID, now, err)
		e, err := s.keys.Evidence(ctx, r.Project, r.ID)
		ask("evidence "+r.ID, e, err)
	}
}
