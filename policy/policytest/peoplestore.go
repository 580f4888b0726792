package policytest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/uses"
)

// People is one empty store of people.
type People interface {
	policy.PeopleStore
	policy.KeyStore
	policy.Reports
	uses.Keeper
}

// PeopleEnv is one empty store and what the suite needs around it.
type PeopleEnv struct {
	Store   People
	Changes func() []journal.Change
}

// PeopleStore runs the suite; open makes a fresh environment for each test.
func PeopleStore(t *testing.T, open func(t *testing.T) PeopleEnv) {
	for name, test := range map[string]func(*testing.T, PeopleEnv){
		"Accounts": accounts, "OneAddressOneAccount": oneAddress, "LastOperator": lastOperator, "Groups": groups, "GroupsEnd": groupsEnd,
		"Bindings": bindings, "NobodyBindsMore": nobodyBindsMore, "DenialsAreNotLifted": denialsAreNotLifted, "LastAdminStays": lastAdminStays,
		"LastAdminOfTwo": lastAdminOfTwo, "Roles": roles, "Services": services, "OwnedKeys": ownedKeys, "Rotation": rotation, "RotationOfOwned": rotationOfOwned, "Report": report, "PeoplePages": peoplePages,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func person(t *testing.T, s People, email string) policy.User {
	t.Helper()
	u, err := s.CreateUser(context.Background(), origin, policy.User{Email: email, State: policy.UserActive})
	require.NoError(t, err)
	return u
}

func bind(t *testing.T, s People, b policy.Binding) policy.Binding {
	t.Helper()
	b, err := s.Bind(context.Background(), origin, system, b)
	require.NoError(t, err)
	return b
}

func member(t *testing.T, s People, project, id string) *policy.Principal {
	t.Helper()
	p, err := policy.Member(context.Background(), s, project, id)
	require.NoError(t, err)
	return p
}

func only(_ int64, err error) error { return err }

// done demands that something was taken away, or put somewhere, without an error.
func done(t *testing.T, why string) func(at int64, err error) {
	return func(_ int64, err error) {
		t.Helper()
		require.NoError(t, err, why)
	}
}

func refused(t *testing.T, code fault.Code) func(at int64, err error) {
	return func(_ int64, err error) {
		t.Helper()
		requireCode(t, code, err)
	}
}

func accounts(t *testing.T, e PeopleEnv) {
	ctx := context.Background()
	u, err := e.Store.CreateUser(ctx, origin, policy.User{Email: " Zoë@Example.COM ", Name: "Zoë", External: "x1"})
	require.NoError(t, err)
	assert.Equal(t, "zoë@example.com", u.Email)
	assert.Equal(t, policy.UserInvited, u.State)
	assert.Positive(t, u.Revision)
	got, err := e.Store.UserByEmail(ctx, "ZOE\u0308@example.com") // typed in two characters
	require.NoError(t, err)
	assert.Equal(t, u, got)
	_, err = policy.Member(ctx, e.Store, "prj", u.ID)
	requireCode(t, fault.NotFound, err) // invited, and nothing is bound

	u.State, u.Name = policy.UserActive, "Z"
	changed, err := e.Store.UpdateUser(ctx, origin, u)
	require.NoError(t, err)
	_, err = e.Store.UpdateUser(ctx, origin, u)
	requireCode(t, fault.PreconditionFailed, err) // two admins change one user
	same, err := e.Store.UpdateUser(ctx, origin, changed)
	require.NoError(t, err)
	assert.Equal(t, changed, same, "what changes nothing is no change")

	changed.State = policy.UserDeactivated
	ended, err := e.Store.UpdateUser(ctx, origin, changed)
	require.NoError(t, err)
	assert.False(t, ended.EndedAt.IsZero())
	assert.Equal(t, changed.Epoch+1, ended.Epoch, "its sessions end")
	ended.State = policy.UserInvited
	_, err = e.Store.UpdateUser(ctx, origin, ended)
	requireCode(t, fault.Conflict, err)
	ended.State = "king"
	_, err = e.Store.UpdateUser(ctx, origin, ended)
	requireCode(t, fault.InvalidRequest, err)
	_, err = e.Store.EndSessions(ctx, origin, "usr_none")
	requireCode(t, fault.NotFound, err)
	touched := false
	for _, c := range e.Changes() {
		for _, touch := range c.Touches {
			touched = touched || touch == journal.Touch{Kind: policy.TouchUser, Key: u.ID}
		}
	}
	assert.True(t, touched)
}

func oneAddress(t *testing.T, e PeopleEnv) {
	ctx := context.Background()
	person(t, e.Store, "ana@example.com")
	other := person(t, e.Store, "bo@example.com")
	for _, spelled := range []string{"ANA@example.com", "ana@EXAMPLE.com ", "\uFF41na@example.com"[3:] + ""} {
		if spelled == "na@example.com" {
			continue
		}
		_, err := e.Store.CreateUser(ctx, origin, policy.User{Email: spelled})
		requireCode(t, fault.Conflict, err)
	}
	other.Email = "Ana@example.com"
	_, err := e.Store.UpdateUser(ctx, origin, other)
	requireCode(t, fault.Conflict, err)
	for _, bad := range []string{"", "ana", "ana@", "Ana <ana@example.com>", "a b@example.com", "ana@exa\x00mple.com", "ana@example.com\n"} {
		_, err := e.Store.CreateUser(ctx, origin, policy.User{Email: bad})
		if bad == "ana@example.com\n" {
			requireCode(t, fault.Conflict, err) // space around it is no part of it
			continue
		}
		requireCode(t, fault.InvalidRequest, err)
	}
	var wg sync.WaitGroup
	results := make([]error, 8)
	for i := range results {
		wg.Go(func() {
			_, results[i] = e.Store.CreateUser(ctx, origin, policy.User{Email: "race@example.com"})
		})
	}
	wg.Wait()
	made := 0
	for _, err := range results {
		if err == nil {
			made++
			continue
		}
		requireCode(t, fault.Conflict, err)
	}
	assert.Equal(t, 1, made)
}

func lastOperator(t *testing.T, e PeopleEnv) {
	ctx := context.Background()
	a := person(t, e.Store, "a@example.com")
	a.Operator = true
	a, err := e.Store.UpdateUser(ctx, origin, a)
	require.NoError(t, err)
	for _, change := range []func(*policy.User){func(u *policy.User) { u.Operator = false }, func(u *policy.User) { u.State = policy.UserDeactivated }} {
		u := a
		change(&u)
		_, err = e.Store.UpdateUser(ctx, origin, u)
		requireCode(t, fault.Conflict, err)
	}
	b := person(t, e.Store, "b@example.com")
	b.Operator = true
	_, err = e.Store.UpdateUser(ctx, origin, b)
	require.NoError(t, err)
	a.Operator = false
	_, err = e.Store.UpdateUser(ctx, origin, a)
	require.NoError(t, err)
	p := member(t, e.Store, "", b.ID)
	assert.Equal(t, []policy.Grant{policy.OperatorGrant()}, p.Grants)
	_, err = policy.Member(ctx, e.Store, "", a.ID)
	requireCode(t, fault.NotFound, err)
}

func groups(t *testing.T, e PeopleEnv) {
	ctx := context.Background()
	u := person(t, e.Store, "a@example.com")
	g, err := e.Store.CreateGroup(ctx, origin, policy.PeopleGroup{Name: "Support", External: "g1"})
	require.NoError(t, err)
	_, err = e.Store.CreateGroup(ctx, origin, policy.PeopleGroup{Name: "Support"})
	requireCode(t, fault.Conflict, err)
	bind(t, e.Store, policy.Binding{Project: "prj", Subject: g.ID, Role: "editor", Prompts: []string{"support/**"}})
	done(t, "")(e.Store.Join(ctx, origin, g.ID, policy.ByHand, u.ID, u.ID))
	done(t, "who is in it is no error")(e.Store.Join(ctx, origin, g.ID, policy.BySCIM, u.ID))
	refused(t, fault.NotFound)(e.Store.Join(ctx, origin, g.ID, policy.ByHand, "usr_none"))
	refused(t, fault.NotFound)(e.Store.Join(ctx, origin, "grp_none", policy.ByHand, u.ID))
	before := member(t, e.Store, "prj", u.ID)
	require.Len(t, before.Groups, 1)
	assert.Equal(t, "editor", before.Groups[0].Bindings[0].Role)
	in, _, err := e.Store.MembersOf(ctx, g.ID, policy.Page{})
	require.NoError(t, err)
	require.Len(t, in, 1)
	assert.Equal(t, policy.ByHand, in[0].Source, "whoever put it there first")
	of, _, err := e.Store.ListUsers(ctx, policy.UserFilter{Project: "prj", Group: g.ID, Contains: "A@EX"}, policy.Page{})
	require.NoError(t, err)
	require.Len(t, of, 1)
	projects, err := e.Store.ProjectsOf(ctx, u.ID)
	require.NoError(t, err)
	assert.Equal(t, []string{"prj"}, projects)
	done(t, "")(e.Store.Leave(ctx, origin, g.ID, u.ID, "usr_none"))
	_, err = policy.Member(ctx, e.Store, "prj", u.ID)
	requireCode(t, fault.NotFound, err)
	g.Name = "Help"
	_, err = e.Store.UpdateGroup(ctx, origin, g)
	require.NoError(t, err)
	_, err = e.Store.UpdateGroup(ctx, origin, g)
	requireCode(t, fault.PreconditionFailed, err)
}

func groupsEnd(t *testing.T, e PeopleEnv) {
	ctx := context.Background()
	u := person(t, e.Store, "a@example.com")
	g, err := e.Store.CreateGroup(ctx, origin, policy.PeopleGroup{Name: "Support"})
	require.NoError(t, err)
	bind(t, e.Store, policy.Binding{Project: "prj", Subject: g.ID, Role: "viewer"})
	done(t, "")(e.Store.Join(ctx, origin, g.ID, policy.ByHand, u.ID))
	refused(t, fault.PreconditionFailed)(e.Store.DeleteGroup(ctx, origin, g.ID, g.Revision+100))
	done(t, "")(e.Store.DeleteGroup(ctx, origin, g.ID, g.Revision))
	_, err = policy.Member(ctx, e.Store, "prj", u.ID)
	requireCode(t, fault.NotFound, err)
	left, _, err := e.Store.ListBindings(ctx, "prj", "", policy.Page{})
	require.NoError(t, err)
	assert.Empty(t, left)
	refused(t, fault.NotFound)(e.Store.DeleteGroup(ctx, origin, g.ID, 0))
}

func roles(t *testing.T, e PeopleEnv) {
	ctx := context.Background()
	u := person(t, e.Store, "a@example.com")
	r, err := e.Store.PutRole(ctx, origin, system, policy.Role{Project: "prj", Name: "caller", Actions: []policy.Action{policy.ActionRead, policy.ActionCall, policy.ActionCall}})
	require.NoError(t, err)
	assert.Equal(t, []policy.Action{policy.ActionCall, policy.ActionRead}, r.Actions)
	_, err = e.Store.PutRole(ctx, origin, system, policy.Role{Project: "prj", Name: "caller", Actions: r.Actions})
	requireCode(t, fault.Conflict, err)
	b := bind(t, e.Store, policy.Binding{Project: "prj", Subject: u.ID, Role: "caller", Prompts: []string{"a/**"}, Labels: []string{"production"}})
	assert.Equal(t, r.Actions, member(t, e.Store, "prj", u.ID).Bindings[0].Actions)
	_, err = e.Store.Bind(ctx, origin, system, policy.Binding{Project: "other", Subject: u.ID, Role: "caller"})
	requireCode(t, fault.InvalidRequest, err) // a role of another project is none
	refused(t, fault.Conflict)(e.Store.DeleteRole(ctx, origin, system, "prj", "caller", 0))
	r.Actions = []policy.Action{policy.ActionRead}
	before := member(t, e.Store, "prj", u.ID).Revision
	changed, err := e.Store.PutRole(ctx, origin, system, r)
	require.NoError(t, err)
	assert.NotEqual(t, before, member(t, e.Store, "prj", u.ID).Revision)
	_, err = e.Store.PutRole(ctx, origin, system, r)
	requireCode(t, fault.PreconditionFailed, err)
	done(t, "")(e.Store.Unbind(ctx, origin, system, "prj", b.ID, false))
	done(t, "")(e.Store.DeleteRole(ctx, origin, system, "prj", "caller", changed.Revision))
	for _, bad := range []policy.Role{
		{Name: "admin", Actions: r.Actions}, {Name: "operator", Actions: r.Actions}, {Name: "A", Actions: r.Actions}, {Name: "a"},
		{Name: "a", Actions: []policy.Action{policy.ActionCreateProject}}, {Name: "a", Actions: []policy.Action{policy.ActionManageAccounts}}, {Name: "a", Actions: []policy.Action{"fly"}},
	} {
		bad.Project = "prj"
		_, err := e.Store.PutRole(ctx, origin, system, bad)
		requireCode(t, fault.InvalidRequest, err)
	}
}

func services(t *testing.T, e PeopleEnv) {
	ctx := context.Background()
	svc, err := e.Store.CreateService(ctx, origin, policy.ServiceAccount{Project: "prj", Name: "checkout"})
	require.NoError(t, err)
	bind(t, e.Store, policy.Binding{Project: "prj", Subject: svc.ID, Role: "admin"})
	_, err = e.Store.Bind(ctx, origin, system, policy.Binding{Project: "other", Subject: svc.ID, Role: "viewer"})
	requireCode(t, fault.NotFound, err)
	p := member(t, e.Store, "prj", svc.ID)
	assert.Equal(t, policy.KindService, p.Kind)
	folder := &policy.Principal{ID: "key_1", Kind: policy.KindKey, Project: "prj", Roles: []string{"admin:a/**"}}
	_, err = e.Store.EndService(ctx, origin, folder, "prj", svc.ID)
	requireCode(t, fault.PermissionDenied, err)
	svc.Name = "till"
	svc, err = e.Store.UpdateService(ctx, origin, svc)
	require.NoError(t, err)
	ended, err := e.Store.EndService(ctx, origin, system, "prj", svc.ID)
	require.NoError(t, err)
	assert.False(t, ended.EndedAt.IsZero())
	_, err = policy.Member(ctx, e.Store, "prj", svc.ID)
	requireCode(t, fault.NotFound, err)
	_, err = e.Store.UpdateService(ctx, origin, ended)
	requireCode(t, fault.Conflict, err)
}

func ownedKeys(t *testing.T, e PeopleEnv) {
	ctx := context.Background()
	u, other := person(t, e.Store, "a@example.com"), person(t, e.Store, "b@example.com")
	bind(t, e.Store, policy.Binding{Project: "prj", Subject: u.ID, Role: "editor", Prompts: []string{"support/**"}})
	bind(t, e.Store, policy.Binding{Project: "prj", Subject: other.ID, Role: "admin"})
	me, admin := member(t, e.Store, "prj", u.ID), member(t, e.Store, "prj", other.ID)
	key := func(owner string, inherits bool, roles ...string) policy.KeyRecord {
		k := NewKey("prj", "k")
		k.Owner, k.Inherits, k.Roles = owner, inherits, roles
		return k
	}
	_, err := e.Store.CreateKey(ctx, origin, admin, key(u.ID, true))
	requireCode(t, fault.PermissionDenied, err) // a key in another's name
	_, err = e.Store.CreateKey(ctx, origin, me, key(u.ID, false, "editor"))
	requireCode(t, fault.PermissionDenied, err) // more than one holds
	_, err = e.Store.CreateKey(ctx, origin, me, key(u.ID, true, "viewer:support/**"))
	requireCode(t, fault.InvalidRequest, err)
	_, err = e.Store.CreateKey(ctx, origin, system, key("usr_none", true))
	requireCode(t, fault.InvalidRequest, err)
	_, err = e.Store.CreateKey(ctx, origin, system, key("", true))
	requireCode(t, fault.InvalidRequest, err)
	whole, err := e.Store.CreateKey(ctx, origin, me, key(u.ID, true))
	require.NoError(t, err)
	assert.Equal(t, u.ID, whole.Owner)
	small, err := e.Store.CreateKey(ctx, origin, me, key(u.ID, false, "viewer:support/**"))
	require.NoError(t, err)
	p, err := small.Principal()
	require.NoError(t, err)
	_, err = e.Store.CreateKey(ctx, origin, p.OwnedBy(me), key(u.ID, true))
	requireCode(t, fault.PermissionDenied, err) // the smaller key does not make a larger one
	low := &policy.Principal{ID: "key_low", Kind: policy.KindKey, Project: "prj", Grants: []policy.Grant{{Actions: []policy.Action{policy.ActionManageKeys}}}}
	_, err = e.Store.RevokeKey(ctx, origin, low, policy.Revocation{Project: "prj", ID: whole.ID})
	requireCode(t, fault.PermissionDenied, err) // it may do what its owner may
	_, err = e.Store.RevokeKey(ctx, origin, me, policy.Revocation{Project: "prj", ID: whole.ID})
	require.NoError(t, err)

	svc, err := e.Store.CreateService(ctx, origin, policy.ServiceAccount{Project: "prj", Name: "checkout"})
	require.NoError(t, err)
	bind(t, e.Store, policy.Binding{Project: "prj", Subject: svc.ID, Role: "admin"})
	_, err = e.Store.CreateKey(ctx, origin, me, key(svc.ID, true))
	requireCode(t, fault.PermissionDenied, err) // it would do what its maker may not
	_, err = e.Store.CreateKey(ctx, origin, admin, key(svc.ID, true))
	require.NoError(t, err)
}

func peoplePages(t *testing.T, e PeopleEnv) {
	ctx := context.Background()
	want := map[string]bool{}
	for i := range 7 {
		u := person(t, e.Store, fmt.Sprintf("u%d@example.com", i))
		want[bind(t, e.Store, policy.Binding{Project: "prj", Subject: u.ID, Role: "viewer"}).ID] = true
	}
	got := map[string]bool{}
	for page := (policy.Page{Limit: 3}); ; {
		list, next, err := e.Store.ListBindings(ctx, "prj", "", page)
		require.NoError(t, err)
		for _, b := range list {
			require.False(t, got[b.ID])
			got[b.ID] = true
		}
		if page.After = next; next == "" {
			break
		}
	}
	assert.Equal(t, want, got)
	users, next, err := e.Store.ListUsers(ctx, policy.UserFilter{}, policy.Page{Limit: 7})
	require.NoError(t, err)
	assert.Len(t, users, 7)
	assert.Empty(t, next)
	_, _, err = e.Store.ListUsers(ctx, policy.UserFilter{}, policy.Page{Limit: 201})
	requireCode(t, fault.InvalidRequest, err)
}
