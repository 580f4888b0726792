package policytest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

func bindings(t *testing.T, e PeopleEnv) {
	ctx := context.Background()
	u := person(t, e.Store, "a@example.com")
	b := bind(t, e.Store, policy.Binding{
		Project: "prj", Subject: u.ID, Role: "editor", Prompts: []string{"b/*", "a/**", "b/*"}, Labels: []string{"staging"}, Reason: "on call",
		Expires: time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond),
	})
	assert.Equal(t, []string{"a/**", "b/*"}, b.Prompts)
	got, err := e.Store.BindingByID(ctx, "prj", b.ID)
	require.NoError(t, err)
	b.GrantedAt = got.GrantedAt
	assert.Equal(t, b, got)
	_, err = e.Store.BindingByID(ctx, "other", b.ID)
	requireCode(t, fault.NotFound, err)
	first := member(t, e.Store, "prj", u.ID).Revision
	got.Role = "viewer"
	changed, err := e.Store.UpdateBinding(ctx, origin, system, got)
	require.NoError(t, err)
	_, err = e.Store.UpdateBinding(ctx, origin, system, got)
	requireCode(t, fault.PreconditionFailed, err)
	second := bind(t, e.Store, policy.Binding{Project: "prj", Subject: u.ID, Role: "tester"})
	states := map[int64]bool{first: true, member(t, e.Store, "prj", u.ID).Revision: true}
	done(t, "")(e.Store.Unbind(ctx, origin, system, "prj", changed.ID, false)) // the older one: the highest revision left is the same
	states[member(t, e.Store, "prj", u.ID).Revision] = true
	assert.Len(t, states, 3, "a decision of one state is never taken for another's")
	refused(t, fault.NotFound)(e.Store.Unbind(ctx, origin, system, "other", second.ID, true))
	for what, bad := range map[string]policy.Binding{
		"subject": {Subject: "key_1", Role: "viewer"}, "role": {Subject: u.ID, Role: "king"}, "pattern": {Subject: u.ID, Role: "viewer", Prompts: []string{"a*"}},
		"past": {Subject: u.ID, Role: "viewer", Expires: time.Now().Add(-time.Minute)}, "empty": {Subject: u.ID, Role: "viewer", Labels: []string{}},
	} {
		bad.Project = "prj"
		_, err := e.Store.Bind(ctx, origin, system, bad)
		require.Error(t, err, what)
		assert.Equal(t, fault.InvalidRequest, fault.CodeOf(err), "%s: %v", what, err)
	}
	_, err = e.Store.Bind(ctx, origin, system, policy.Binding{Project: "prj", Subject: "usr_none", Role: "viewer"})
	requireCode(t, fault.NotFound, err)
}

func nobodyBindsMore(t *testing.T, e PeopleEnv) {
	ctx := context.Background()
	u, other := person(t, e.Store, "a@example.com"), person(t, e.Store, "b@example.com")
	bind(t, e.Store, policy.Binding{Project: "prj", Subject: u.ID, Role: "admin", Prompts: []string{"support/**"}})
	folder := member(t, e.Store, "prj", u.ID)
	for _, b := range []policy.Binding{
		{Role: "admin"}, {Role: "viewer"}, {Role: "viewer", Prompts: []string{"finance/**"}}, {Role: "viewer", Prompts: []string{"support/a"}, Models: []string{"*"}},
	} {
		b.Project, b.Subject = "prj", other.ID
		_, err := e.Store.Bind(ctx, origin, folder, b)
		requireCode(t, fault.PermissionDenied, err)
		b.Subject = u.ID // nor to itself
		_, err = e.Store.Bind(ctx, origin, folder, b)
		requireCode(t, fault.PermissionDenied, err)
	}
	made, err := e.Store.Bind(ctx, origin, folder, policy.Binding{Project: "prj", Subject: other.ID, Role: "editor", Prompts: []string{"support/a/*"}})
	require.NoError(t, err)
	made.Prompts = []string{"**"}
	_, err = e.Store.UpdateBinding(ctx, origin, folder, made)
	requireCode(t, fault.PermissionDenied, err)
	above := bind(t, e.Store, policy.Binding{Project: "prj", Subject: other.ID, Role: "admin"})
	refused(t, fault.PermissionDenied)(e.Store.Unbind(ctx, origin, folder, "prj", above.ID, true))
	_, err = e.Store.Bind(ctx, origin, folder, policy.Binding{Project: "prj2", Subject: other.ID, Role: "viewer", Prompts: []string{"support/a"}})
	requireCode(t, fault.NotFound, err)
	_, err = e.Store.PutRole(ctx, origin, folder, policy.Role{Project: "prj", Name: "all", Actions: []policy.Action{policy.ActionAudit}})
	requireCode(t, fault.PermissionDenied, err)
	// Who holds something for an hour does not give it for longer, nor outlive it as an admin.
	hour := time.Now().Add(time.Hour)
	short := person(t, e.Store, "c@example.com")
	bind(t, e.Store, policy.Binding{Project: "prj", Subject: short.ID, Role: "admin", Expires: hour})
	brief := member(t, e.Store, "prj", short.ID)
	_, err = e.Store.Bind(ctx, origin, brief, policy.Binding{Project: "prj", Subject: other.ID, Role: "viewer"})
	requireCode(t, fault.PermissionDenied, err)
	_, err = e.Store.Bind(ctx, origin, brief, policy.Binding{Project: "prj", Subject: other.ID, Role: "viewer", Expires: hour})
	require.NoError(t, err)
}

func denialsAreNotLifted(t *testing.T, e PeopleEnv) {
	ctx := context.Background()
	u, friend := person(t, e.Store, "a@example.com"), person(t, e.Store, "b@example.com")
	bind(t, e.Store, policy.Binding{Project: "prj", Subject: u.ID, Role: "admin", Prompts: []string{"support/**"}})
	bind(t, e.Store, policy.Binding{Project: "prj", Subject: friend.ID, Role: "admin", Prompts: []string{"support/**"}})
	denial := bind(t, e.Store, policy.Binding{Project: "prj", Subject: u.ID, Role: "viewer", Effect: policy.EffectDeny, Prompts: []string{"support/secret/**"}})
	own := member(t, e.Store, "prj", u.ID)
	refused(t, fault.PermissionDenied)(e.Store.Unbind(ctx, origin, own, "prj", denial.ID, false))
	_, err := e.Store.Bind(ctx, origin, own, policy.Binding{Project: "prj", Subject: friend.ID, Role: "viewer", Prompts: []string{"support/secret/a"}})
	requireCode(t, fault.PermissionDenied, err)
	narrower := denial
	narrower.Prompts = []string{"support/secret/none"}
	_, err = e.Store.UpdateBinding(ctx, origin, own, narrower)
	requireCode(t, fault.PermissionDenied, err)
	done(t, "who holds all of it may")(e.Store.Unbind(ctx, origin, member(t, e.Store, "prj", friend.ID), "prj", denial.ID, false))
}

func lastAdminStays(t *testing.T, e PeopleEnv) {
	ctx := context.Background()
	u := person(t, e.Store, "a@example.com")
	g, err := e.Store.CreateGroup(ctx, origin, policy.PeopleGroup{Name: "admins"})
	require.NoError(t, err)
	done(t, "")(e.Store.Join(ctx, origin, g.ID, policy.ByHand, u.ID))
	b := bind(t, e.Store, policy.Binding{Project: "prj", Subject: g.ID, Role: "admin"})
	bind(t, e.Store, policy.Binding{Project: "prj", Subject: u.ID, Role: "admin", Prompts: []string{"a/**"}}) // of a folder only
	admin := member(t, e.Store, "prj", u.ID)
	tries := func() map[string]error {
		off := u
		off.State = policy.UserDeactivated
		_, deactivate := e.Store.UpdateUser(ctx, origin, off)
		less := b
		less.Role = "editor"
		_, update := e.Store.UpdateBinding(ctx, origin, admin, less)
		return map[string]error{
			"unbind": only(e.Store.Unbind(ctx, origin, admin, "prj", b.ID, false)), "leave": only(e.Store.Leave(ctx, origin, g.ID, u.ID)),
			"delete": only(e.Store.DeleteGroup(ctx, origin, g.ID, 0)), "deactivate": deactivate, "update": update,
		}
	}
	for what, err := range tries() {
		require.Error(t, err, what)
		assert.Equal(t, fault.Conflict, fault.CodeOf(err), "%s: %v", what, err)
	}
	k := NewKey("prj", "spare")
	k.Roles = []string{"admin"}
	k = create(t, e.Store, k)
	done(t, "an admin key is an admin")(e.Store.Leave(ctx, origin, g.ID, u.ID))
	_, err = e.Store.RevokeKey(ctx, origin, &policy.Principal{ID: "key_x", Kind: policy.KindKey, Project: "prj", Roles: []string{"admin"}}, policy.Revocation{Project: "prj", ID: k.ID})
	requireCode(t, fault.Conflict, err)
	done(t, "")(e.Store.Join(ctx, origin, g.ID, policy.ByHand, u.ID))
	_, err = e.Store.RevokeKey(ctx, origin, member(t, e.Store, "prj", u.ID), policy.Revocation{Project: "prj", ID: k.ID})
	require.NoError(t, err, "a person who is admin is an admin")
}

// Two admins who take away each other's role at once: one is left.
func lastAdminOfTwo(t *testing.T, e PeopleEnv) {
	ctx := context.Background()
	for round := range 5 {
		project := fmt.Sprint("prj", round)
		var ids [2]string
		var p [2]*policy.Principal
		for i := range ids {
			u := person(t, e.Store, fmt.Sprintf("u%d-%d@example.com", round, i))
			ids[i] = bind(t, e.Store, policy.Binding{Project: project, Subject: u.ID, Role: "admin"}).ID
			p[i] = member(t, e.Store, project, u.ID)
		}
		var wg sync.WaitGroup
		var errs [2]error
		for i := range ids {
			wg.Go(func() { _, errs[i] = e.Store.Unbind(ctx, origin, p[i], project, ids[1-i], false) })
		}
		wg.Wait()
		left, _, err := e.Store.ListBindings(ctx, project, "", policy.Page{})
		require.NoError(t, err)
		require.Len(t, left, 1, "%v", errs)
	}
}
