package policytest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

func provisionedGroups(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	ana, bo, cy := provision(t, s, "ana@example.com"), provision(t, s, "bo@example.com"), provision(t, s, "cy@example.com")
	g, err := s.ProvisionGroup(ctx, origin, okta, policy.ProvisionedGroup{PeopleGroup: policy.PeopleGroup{Name: "editors"}, Provision: policy.Provision{External: "x"}}, []string{ana.ID, ana.ID})
	require.NoError(t, err)
	require.Len(t, g.Members, 1)
	require.Equal(t, policy.BySCIM, g.Members[0].Source)
	_, err = s.Join(ctx, origin, g.ID, policy.ByHand, cy.ID)
	require.NoError(t, err)
	first := g.Version()
	g, err = s.Regroup(ctx, origin, okta, g, g.Version(), policy.Moves{Join: []string{bo.ID}, Leave: []string{ana.ID, cy.ID, "usr_none"}})
	require.NoError(t, err)
	require.Len(t, g.Members, 1)
	require.Equal(t, bo.ID, g.Members[0].UserID)
	require.Greater(t, g.Version(), first)
	members, _, err := s.MembersOf(ctx, g.ID, policy.Page{})
	require.NoError(t, err)
	require.Len(t, members, 2, "who was put in by hand stays")
	changes := e.Changes()
	for _, id := range []string{ana.ID, bo.ID} {
		require.Contains(t, changes[len(changes)-1].Touches, journal.Touch{Kind: policy.TouchUser, Key: id})
	}
	_, err = s.Regroup(ctx, origin, okta, g, first, policy.Moves{})
	requireCode(t, fault.PreconditionFailed, err)
	before := len(e.Changes())
	_, err = s.Regroup(ctx, origin, okta, g, 0, policy.Moves{Join: []string{bo.ID}, Leave: []string{ana.ID}})
	require.NoError(t, err)
	require.Len(t, e.Changes(), before, "nothing moved")
	foreign := person(t, s, "dan@example.net")
	_, err = s.Regroup(ctx, origin, okta, g, 0, policy.Moves{Join: []string{foreign.ID}})
	requireCode(t, fault.InvalidRequest, err)
	g.Name = "writers"
	g, err = s.Regroup(ctx, origin, okta, g, 0, policy.Moves{})
	require.NoError(t, err)
	require.Equal(t, "writers", g.Name)
	bind(t, s, policy.Binding{Project: "p", Subject: g.ID, Role: policy.RoleAdmin})
	bo.Provision.Active = true
	state, err := s.Account(ctx, bo.ID)
	require.NoError(t, err)
	state.State = policy.UserActive
	_, err = s.UpdateUser(ctx, origin, state.User)
	require.NoError(t, err)
	_, err = s.Regroup(ctx, origin, okta, g, 0, policy.Moves{Leave: []string{bo.ID}})
	requireCode(t, fault.Conflict, err) // the project's last admin
	bind(t, s, policy.Binding{Project: "p", Subject: foreign.ID, Role: policy.RoleAdmin})
	require.NoError(t, s.UngroupProvision(ctx, origin, okta, g.ID, g.Version()))
	_, err = s.ProvisionedGroup(ctx, okta, g.ID)
	requireCode(t, fault.NotFound, err)
	_, err = s.GroupByID(ctx, g.ID)
	requireCode(t, fault.NotFound, err)
	_, err = s.ProvisionGroup(ctx, origin, okta, policy.ProvisionedGroup{PeopleGroup: policy.PeopleGroup{Name: "writers"}}, nil)
	require.NoError(t, err)
}

func othersGroups(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	admins, err := s.CreateGroup(ctx, origin, policy.PeopleGroup{Name: "admins"})
	require.NoError(t, err)
	u := provision(t, s, "ana@example.com")
	_, err = s.ProvisionedGroup(ctx, okta, admins.ID)
	requireCode(t, fault.NotFound, err)
	_, err = s.Regroup(ctx, origin, okta, policy.ProvisionedGroup{PeopleGroup: admins}, 0, policy.Moves{Join: []string{u.ID}})
	requireCode(t, fault.NotFound, err)
	_, err = s.ProvisionGroup(ctx, origin, okta, policy.ProvisionedGroup{PeopleGroup: policy.PeopleGroup{Name: "admins"}}, []string{u.ID})
	requireCode(t, fault.Conflict, err)
	g, err := s.ProvisionGroup(ctx, origin, okta, policy.ProvisionedGroup{PeopleGroup: policy.PeopleGroup{Name: "mine"}}, nil)
	require.NoError(t, err)
	g.Name = "admins"
	_, err = s.Regroup(ctx, origin, okta, g, 0, policy.Moves{})
	requireCode(t, fault.Conflict, err)
	a, err := s.Account(ctx, u.ID)
	require.NoError(t, err)
	require.Empty(t, a.Groups)
}

func filters(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	ids := map[string]string{}
	for _, name := range []string{"ana", "bo", "c_y"} {
		in := sent(name + "@example.com")
		in.Name, in.Provision.UserName = "Name of "+name, name+"@Example.com"
		in.Provision.Active = name != "bo"
		u, err := s.ProvisionUser(ctx, origin, okta, in)
		require.NoError(t, err)
		ids[u.ID] = name
	}
	person(t, s, "dan@example.com") // of the domain, and not provisioned yet
	person(t, s, "eve@example.net")
	ids[mustUser(t, s, "dan@example.com").ID] = "dan"
	is := func(at policy.FilterAttribute, op, text string) policy.Filter {
		return policy.Filter{Is: &policy.Comparison{Attribute: at, Op: op, Text: text}}
	}
	activeIs := func(b bool, op string) policy.Filter {
		return policy.Filter{Is: &policy.Comparison{Attribute: policy.FilterActive, Op: op, Bool: b}}
	}
	no := is(policy.FilterUserName, "eq", "ana@example.com")
	for name, c := range map[string]struct {
		filter policy.Filter
		want   []string
	}{
		"all":              {policy.Filter{}, []string{"ana", "bo", "c_y", "dan"}},
		"user name":        {is(policy.FilterUserName, "eq", "ANA@example.com"), []string{"ana"}},
		"of the domain":    {is(policy.FilterUserName, "eq", "dan@example.com"), []string{"dan"}},
		"external":         {is(policy.FilterExternal, "eq", "x-bo@example.com"), []string{"bo"}},
		"external in case": {is(policy.FilterExternal, "eq", "X-bo@example.com"), nil},
		"e-mail":           {is(policy.FilterEmail, "eq", "Bo@Example.com"), []string{"bo"}},
		"contains":         {is(policy.FilterDisplayName, "co", "OF C"), []string{"c_y"}},
		"wildcards":        {is(policy.FilterUserName, "sw", "c_"), []string{"c_y"}},
		"wildcards alone":  {is(policy.FilterUserName, "co", "_%"), nil},
		"starts":           {is(policy.FilterUserName, "sw", "a"), []string{"ana"}},
		"active":           {activeIs(true, "eq"), []string{"ana", "c_y", "dan"}},
		"inactive":         {activeIs(false, "eq"), []string{"bo"}},
		"not active":       {activeIs(true, "ne"), []string{"bo"}},
		"and":              {policy.Filter{And: []policy.Filter{activeIs(true, "eq"), is(policy.FilterDisplayName, "sw", "name of a")}}, []string{"ana"}},
		"or":               {policy.Filter{Or: []policy.Filter{no, is(policy.FilterExternal, "eq", "x-bo@example.com")}}, []string{"ana", "bo"}},
		"not":              {policy.Filter{And: []policy.Filter{{Not: &no}, activeIs(true, "eq")}}, []string{"c_y", "dan"}},
		"present":          {is(policy.FilterExternal, "pr", ""), []string{"ana", "bo", "c_y"}},
		"injection":        {is(policy.FilterUserName, "eq", "' OR 1=1 --"), nil},
	} {
		got, total, err := s.ProvisionedUsers(ctx, okta, c.filter, policy.Slice{Count: 100})
		require.NoError(t, err, name)
		var found []string
		for _, u := range got {
			found = append(found, ids[u.ID])
		}
		require.ElementsMatch(t, c.want, found, name)
		require.Equal(t, len(c.want), total, name)
	}
	for name, f := range map[string]policy.Filter{
		"members of accounts": is(policy.FilterMember, "eq", "x"), "an order": is(policy.FilterUserName, "gt", "x"), "active contains": activeIs(true, "co"),
	} {
		_, _, err := s.ProvisionedUsers(ctx, okta, f, policy.Slice{Count: 1})
		require.Equal(t, fault.InvalidRequest, fault.CodeOf(err), name)
	}
	first, total, err := s.ProvisionedUsers(ctx, okta, policy.Filter{}, policy.Slice{From: 1, Count: 2})
	require.NoError(t, err)
	require.Equal(t, 4, total)
	require.Len(t, first, 2)
	require.Equal(t, "bo", ids[first[0].ID])
	none, total, err := s.ProvisionedUsers(ctx, okta, policy.Filter{}, policy.Slice{From: 9, Count: 2})
	require.NoError(t, err)
	require.Equal(t, 4, total)
	require.Empty(t, none)

	var ana string
	for id, name := range ids {
		if name == "ana" {
			ana = id
		}
	}
	for _, name := range []string{"Editors", "Viewers"} {
		members := []string{}
		if name == "Editors" {
			members = append(members, ana)
		}
		_, err := s.ProvisionGroup(ctx, origin, okta, policy.ProvisionedGroup{PeopleGroup: policy.PeopleGroup{Name: name}}, members)
		require.NoError(t, err)
	}
	for name, c := range map[string]struct {
		filter policy.Filter
		want   int
	}{
		"all": {policy.Filter{}, 2}, "name": {is(policy.FilterDisplayName, "eq", "editors"), 1}, "member": {is(policy.FilterMember, "eq", ana), 1},
		"nobody": {is(policy.FilterMember, "eq", "usr_none"), 0},
	} {
		got, total, err := s.ProvisionedGroups(ctx, okta, c.filter, policy.Slice{Count: 100}, true)
		require.NoError(t, err, name)
		require.Len(t, got, c.want, name)
		require.Equal(t, c.want, total, name)
	}
}
