package policytest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/uses"
)

// rotationOf is a request for a key's successor.
func rotationOf(k policy.KeyRecord, overlap time.Duration) policy.Rotation {
	n := NewKey(k.Project, "")
	return policy.Rotation{Project: k.Project, ID: k.ID, Overlap: overlap, Lookup: n.Lookup, Hash: n.Hash, LastFour: "wxyz"}
}

func rotation(t *testing.T, e PeopleEnv) {
	ctx, s := context.Background(), e.Store
	k := NewKey("prj", "checkout")
	k.Roles, k.Networks = []string{"editor:support/**"}, []string{"10.0.0.0/8"}
	k.Expires = time.Now().Add(10 * 24 * time.Hour).Truncate(time.Microsecond).UTC()
	k = create(t, s, k)
	low := &policy.Principal{ID: "key_low", Kind: policy.KindKey, Project: "prj", Roles: []string{"viewer"}}
	_, _, err := s.RotateKey(ctx, origin, low, rotationOf(k, time.Hour))
	requireCode(t, fault.PermissionDenied, err) // it would come by an editor's key
	for _, overlap := range []time.Duration{-1, policy.MaxOverlap + 1} {
		_, _, err = s.RotateKey(ctx, origin, system, rotationOf(k, overlap))
		requireCode(t, fault.InvalidRequest, err)
	}
	next, old, err := s.RotateKey(ctx, origin, system, rotationOf(k, time.Hour))
	require.NoError(t, err)
	for _, pair := range []struct{ is, was any }{{next.Roles, k.Roles}, {next.Networks, k.Networks}, {next.Grants, k.Grants}, {next.Name, k.Name}, {next.Owner, k.Owner}} {
		assert.Equal(t, pair.was, pair.is)
	}
	assert.Equal(t, k.ID, next.Replaces)
	assert.Equal(t, next.ID, old.ReplacedBy)
	assert.WithinDuration(t, time.Now().Add(10*24*time.Hour), next.Expires, time.Minute, "it lives as long as the old one was made for")
	assert.WithinDuration(t, time.Now().Add(time.Hour), old.Expires, time.Minute)
	assert.Equal(t, old.Revision, next.Revision, "one change")
	for _, want := range []policy.KeyRecord{next, old} {
		got, err := s.KeyByLookup(ctx, want.Lookup)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	changes := e.Changes()
	last := changes[len(changes)-1]
	assert.Equal(t, "key.rotate", last.Action)
	assert.Contains(t, last.Touches, journal.Touch{Kind: policy.TouchKey, Key: k.Lookup})
	assert.Contains(t, last.Touches, journal.Touch{Kind: policy.TouchKey, Key: next.Lookup})
	_, _, err = s.RotateKey(ctx, origin, system, rotationOf(k, time.Hour))
	requireCode(t, fault.Conflict, err) // once

	_, old, err = s.RotateKey(ctx, origin, system, rotationOf(next, 20*24*time.Hour))
	require.NoError(t, err)
	assert.Equal(t, next.Expires, old.Expires, "an overlap makes no key live longer")
	third, _, err := s.RotateKey(ctx, origin, system, rotationOf(create(t, s, NewKey("prj", "short")), 0))
	require.NoError(t, err)
	old, err = s.KeyByID(ctx, "prj", third.Replaces)
	require.NoError(t, err)
	assert.False(t, old.RevokedAt.IsZero(), "without an overlap it ends at once")
	_, _, err = s.RotateKey(ctx, origin, system, rotationOf(old, time.Hour))
	requireCode(t, fault.Conflict, err)
	foreign := rotationOf(third, time.Hour)
	foreign.Project = "other"
	_, _, err = s.RotateKey(ctx, origin, system, foreign)
	requireCode(t, fault.NotFound, err)
	// A key cannot give itself more time than it has.
	k = NewKey("prj", "mortal")
	k.Expires = time.Now().Add(24 * time.Hour)
	k = create(t, s, k)
	self, err := k.Principal()
	require.NoError(t, err)
	_, _, err = s.RotateKey(ctx, origin, self, rotationOf(k, time.Hour))
	requireCode(t, fault.PermissionDenied, err)
}

func rotationOfOwned(t *testing.T, e PeopleEnv) {
	ctx, s := context.Background(), e.Store
	u, other := person(t, s, "a@example.com"), person(t, s, "b@example.com")
	bind(t, s, policy.Binding{Project: "prj", Subject: u.ID, Role: "viewer"})
	bind(t, s, policy.Binding{Project: "prj", Subject: other.ID, Role: "admin"})
	me, admin := member(t, s, "prj", u.ID), member(t, s, "prj", other.ID)
	mine := NewKey("prj", "mine")
	mine.Owner, mine.Inherits, mine.Roles = u.ID, true, nil
	mine, err := s.CreateKey(ctx, origin, me, mine)
	require.NoError(t, err)
	_, _, err = s.RotateKey(ctx, origin, admin, rotationOf(mine, time.Hour))
	requireCode(t, fault.PermissionDenied, err) // it would be a key of another's, in the admin's hands
	next, _, err := s.RotateKey(ctx, origin, me, rotationOf(mine, time.Hour))
	require.NoError(t, err)
	assert.Equal(t, u.ID, next.Owner)
	assert.True(t, next.Inherits)
	p, err := next.Principal()
	require.NoError(t, err)
	_, _, err = s.RotateKey(ctx, origin, p.OwnedBy(me), rotationOf(next, 0))
	require.NoError(t, err, "by itself")

	svc, err := s.CreateService(ctx, origin, policy.ServiceAccount{Project: "prj", Name: "till"})
	require.NoError(t, err)
	bind(t, s, policy.Binding{Project: "prj", Subject: svc.ID, Role: "editor"})
	theirs := NewKey("prj", "till")
	theirs.Owner, theirs.Inherits, theirs.Roles = svc.ID, true, nil
	theirs = create(t, s, theirs)
	_, _, err = s.RotateKey(ctx, origin, me, rotationOf(theirs, time.Hour))
	requireCode(t, fault.PermissionDenied, err)
	next, _, err = s.RotateKey(ctx, origin, admin, rotationOf(theirs, time.Hour))
	require.NoError(t, err)
	assert.Equal(t, svc.ID, next.Owner)
	_, err = s.EndService(ctx, origin, system, "prj", svc.ID)
	require.NoError(t, err)
	_, _, err = s.RotateKey(ctx, origin, admin, rotationOf(next, time.Hour))
	requireCode(t, fault.InvalidRequest, err) // its owner may do nothing any more
}

func report(t *testing.T, e PeopleEnv) {
	ctx, s := context.Background(), e.Store
	ana, bo := person(t, s, "ana@example.com"), person(t, s, "bo@example.com")
	g, err := s.CreateGroup(ctx, origin, policy.PeopleGroup{Name: "Support"})
	require.NoError(t, err)
	vacant, err := s.CreateGroup(ctx, origin, policy.PeopleGroup{Name: "Nobody"})
	require.NoError(t, err)
	done(t, "")(s.Join(ctx, origin, g.ID, policy.ByHand, ana.ID, bo.ID))
	own := bind(t, s, policy.Binding{Project: "prj", Subject: ana.ID, Role: "editor", Prompts: []string{"marketing/**"}, Reason: "writes"})
	shared := bind(t, s, policy.Binding{Project: "prj", Subject: g.ID, Role: "viewer", Prompts: []string{"support/**"}})
	empty := bind(t, s, policy.Binding{Project: "prj", Subject: vacant.ID, Role: "viewer"})
	bind(t, s, policy.Binding{Project: "other", Subject: ana.ID, Role: "admin"})
	k := create(t, s, NewKey("prj", "app"))
	gone := create(t, s, NewKey("prj", "gone"))
	_, err = s.RevokeKey(ctx, origin, system, policy.Revocation{Project: "prj", ID: gone.ID})
	require.NoError(t, err)
	bo.State = policy.UserDeactivated
	_, err = s.UpdateUser(ctx, origin, bo)
	require.NoError(t, err)
	noon := time.Date(2027, 1, 2, 12, 0, 0, 0, time.UTC)
	require.NoError(t, s.KeepUses(ctx, []uses.Use{
		{Project: "prj", Holding: own.ID, Subject: ana.ID, First: noon, Last: noon.Add(time.Hour), Minutes: 5},
		{Project: "prj", Holding: shared.ID, Subject: ana.ID, First: noon, Last: noon, Minutes: 1},
		{Project: "other", Holding: k.ID, Subject: k.ID, First: noon, Last: noon, Minutes: 1},
	}))
	all, err := s.Report(ctx, "prj", policy.AccessFilter{})
	require.NoError(t, err)
	type line struct {
		holding, subject, via string
		state                 policy.AccessState
		minutes               int64
	}
	var got []line
	for _, a := range all {
		got = append(got, line{a.Holding, a.Subject, a.Via, a.State, a.Minutes})
	}
	assert.Equal(t, []line{ // what was never used first, what was used longest ago next
		{shared.ID, bo.ID, g.ID, policy.AccessDeactivated, 0},
		{empty.ID, vacant.ID, "", policy.AccessVacant, 0},
		{k.ID, k.ID, "", policy.AccessInForce, 0},
		{shared.ID, ana.ID, g.ID, policy.AccessInForce, 1},
		{own.ID, ana.ID, "", policy.AccessInForce, 5},
	}, got)
	last := all[4]
	assert.Equal(t, []any{"ana@example.com", "writes", origin.Actor.ID, noon.Add(time.Hour)}, []any{last.SubjectName, last.Reason, last.GrantedBy, last.LastUsed})
	assert.Equal(t, "Support", all[0].ViaName)
	for name, f := range map[string]struct {
		policy.AccessFilter
		want int
	}{
		"role": {policy.AccessFilter{Role: "editor"}, 1}, "subject": {policy.AccessFilter{Subject: ana.ID}, 2}, "group": {policy.AccessFilter{Subject: g.ID}, 2},
		"prompt": {policy.AccessFilter{Prompt: "support/a"}, 4}, "unused": {policy.AccessFilter{UnusedBy: noon.Add(time.Minute)}, 4}, "nothing": {policy.AccessFilter{Role: "none"}, 0},
	} {
		some, err := s.Report(ctx, "prj", f.AccessFilter)
		require.NoError(t, err)
		assert.Len(t, some, f.want, name)
	}
	used, err := s.LastUsed(ctx, "prj", own.ID, empty.ID)
	require.NoError(t, err)
	assert.Equal(t, map[string]time.Time{own.ID: noon.Add(time.Hour)}, used)
}
