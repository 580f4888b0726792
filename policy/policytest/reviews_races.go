package policytest

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

// twoAtOnce: of two reviewers who read the same line and decide it at once, one is heard and the other is told.
func twoAtOnce(t *testing.T, c *campaign) {
	ctx := context.Background()
	r := c.start(nil)
	for _, both := range [][2]policy.Decided{
		{policy.DecideKeep, policy.DecideKeep}, {policy.DecideKeep, policy.DecideRevoke}, {policy.DecideRevoke, policy.DecideRevoke},
	} {
		target := bind(t, c.Store, policy.Binding{Project: "prj", Subject: c.ana.ID, Role: "viewer"})
		r = c.start(func(r *policy.Review) { r.Name, r.Subjects, r.Roles = "x", []string{c.ana.ID}, []string{"viewer"} })
		line := c.line(r, target.ID)
		errs := make([]error, 2)
		var wg sync.WaitGroup
		for i, who := range []policy.User{c.rita, c.vic} {
			reviewer := member(t, c.Store, "prj", who.ID)
			wg.Go(func() {
				_, errs[i] = c.Store.DecideLine(ctx, origin, reviewer, policy.LineDecision{
					Project: "prj", ReviewID: r.ID, N: line.N, Revision: line.Revision, Person: who.ID, Decision: both[i],
				})
			})
		}
		wg.Wait()
		heard := 0
		for _, err := range errs {
			if err == nil {
				heard++
				continue
			}
			assert.Contains(t, []fault.Code{fault.PreconditionFailed, fault.Conflict}, fault.CodeOf(err), "%v", err)
		}
		require.Equal(t, 1, heard, "%v: %v", both, errs)
		_, err := c.Store.CloseReview(ctx, origin, "prj", r.ID, true)
		require.NoError(t, err)
		if c.holds(target.ID) {
			require.NoError(t, only(c.Store.Unbind(ctx, origin, system, "prj", target.ID, false)))
		}
	}
}

// rightsLostMeanwhile: what counts is what a reviewer may do when it decides, not when the review began.
func rightsLostMeanwhile(t *testing.T, c *campaign) {
	ctx := context.Background()
	other := bind(t, c.Store, policy.Binding{Project: "prj", Subject: c.vic.ID, Role: "admin"})
	r := c.start(nil)
	require.NoError(t, only(c.Store.Unbind(ctx, origin, system, "prj", other.ID, false)))
	_, err := c.decide(r, c.vic, c.ofAna.ID, policy.DecideRevoke, nil)
	requireCode(t, fault.PermissionDenied, err)
	require.True(t, c.holds(c.ofAna.ID))
	byGroup := c.start(func(r *policy.Review) { r.Reviewers, r.Subjects = []string{c.shared.ID}, []string{c.vic.ID} })
	done(t, "")(c.Store.Leave(ctx, origin, c.shared.ID, c.ana.ID))
	_, err = c.decide(byGroup, c.ana, c.ofVic.ID, policy.DecideKeep, nil)
	requireCode(t, fault.PermissionDenied, err) // no reviewer any more
}
