package policytest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

func deadlineKeeps(t *testing.T, c *campaign) {
	ctx := context.Background()
	r := c.start(nil)
	due, err := c.Store.DueReviews(ctx)
	require.NoError(t, err)
	require.Empty(t, due)
	c.Ahead(49 * time.Hour)
	_, err = c.decide(r, c.rita, c.ofVic.ID, policy.DecideKeep, nil)
	requireCode(t, fault.Conflict, err) // too late
	due, err = c.Store.DueReviews(ctx)
	require.NoError(t, err)
	require.Len(t, due, 1)
	_, err = c.Store.EndReview(ctx, deadline, due[0])
	require.NoError(t, err)
	for _, l := range c.evidence(r).Lines {
		assert.Equal(t, []any{policy.DecideKeep, deadline.Actor.ID}, []any{l.Decision, l.DecidedBy})
	}
	require.True(t, c.holds(c.ofAna.ID))
	due, err = c.Store.DueReviews(ctx)
	require.NoError(t, err)
	require.Empty(t, due)
}

var deadline = journal.Origin{Actor: journal.Actor{Kind: policy.KindSystem, ID: "deadline", Name: "deadline"}}

func deadlineRevokesOnce(t *testing.T, c *campaign) {
	ctx := context.Background()
	r := c.start(func(r *policy.Review) { r.AtDeadline = policy.DecideRevoke })
	_, err := c.decide(r, c.vic, c.ofGroup.ID, policy.DecideKeep, nil)
	require.NoError(t, err)
	b := c.ofAlone
	b.Reason = "given anew"
	_, err = c.Store.UpdateBinding(ctx, origin, system, b)
	require.NoError(t, err)
	require.NoError(t, only(c.Store.Unbind(ctx, origin, system, "prj", c.ofVic.ID, false)))
	c.Ahead(49 * time.Hour)
	before := len(c.Changes())
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs { // replicas
		wg.Go(func() { _, errs[i] = c.Store.EndReview(ctx, deadline, r) })
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	want := map[string]struct {
		policy.Decided
		policy.Outcome
	}{
		c.ofGroup.ID: {policy.DecideKeep, policy.OutcomeDone}, c.ofAna.ID: {policy.DecideRevoke, policy.OutcomeDone}, c.key.ID: {policy.DecideRevoke, policy.OutcomeDone},
		c.anasKey.ID: {policy.DecideRevoke, policy.OutcomeDone}, c.ofAlone.ID: {"", policy.OutcomeChanged}, c.ofVic.ID: {"", policy.OutcomeGone},
		c.ofRita.ID: {"", policy.OutcomeLastAdmin},
	}
	e := c.evidence(r)
	for _, l := range e.Lines {
		assert.Equal(t, want[l.Held.Holding].Decided, l.Decision, l.Held.Holding)
		assert.Equal(t, want[l.Held.Holding].Outcome, l.Outcome, l.Held.Holding)
	}
	require.False(t, c.holds(c.ofAna.ID))
	require.True(t, c.holds(c.ofAlone.ID) && c.holds(c.ofGroup.ID) && c.holds(c.ofRita.ID))
	actions := map[string]int{}
	for _, ch := range c.Changes()[before:] {
		actions[ch.Action]++
	}
	assert.Equal(t, map[string]int{"binding.delete": 1, "key.revoke": 2, "review.decide": 3, "review.close": 1}, actions, "each once")
	_, digest, err := e.Document()
	require.NoError(t, err)
	closed, err := c.Store.ReviewByID(ctx, "prj", r.ID)
	require.NoError(t, err)
	assert.Equal(t, digest, closed.Digest)
}
