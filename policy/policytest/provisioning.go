package policytest

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

// Provisioning runs the suite of directories; open makes a fresh environment for each test.
func Provisioning(t *testing.T, open func(t *testing.T) OutsideEnv) {
	for name, test := range map[string]func(*testing.T, OutsideEnv){
		"Tokens": scimTokens, "Accounts": provisionedAccounts, "TakesOverOnlyItsDomains": takesOver, "BreakGlassIsOutOfReach": breakGlassProvisioned,
		"MakesNoOperators": noOperators, "DirectoriesAreApart": directoriesApart, "WhoSomebodyElseDeactivatedStaysSo": staysDeactivated,
		"Deleted": deletedAccount, "GroupsMoveTheirOwnMembers": provisionedGroups, "GroupsOfOthersAreNotThere": othersGroups, "Filters": filters,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

var okta = policy.Directory{Name: "okta", Domains: []string{"example.com"}} //nolint:gochecknoglobals // a constant

func sent(email string) policy.ProvisionedUser {
	return policy.ProvisionedUser{User: policy.User{Email: email, Name: "Ana"}, Provision: policy.Provision{UserName: email, External: "x-" + email, Active: true}}
}

func provision(t *testing.T, s Outside, email string) policy.ProvisionedUser {
	t.Helper()
	u, err := s.ProvisionUser(context.Background(), origin, okta, sent(email))
	require.NoError(t, err)
	return u
}

func scimTokens(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	tok, err := s.CreateSCIMToken(ctx, origin, policy.SCIMToken{Directory: "okta", Lookup: "abc", Hash: bytes.Repeat([]byte{1}, 32), Domains: []string{"B.example", "a.example"}})
	require.NoError(t, err)
	require.Equal(t, "scm_abc", tok.ID)
	require.Equal(t, []string{"a.example", "b.example"}, tok.Domains)
	got, err := s.SCIMTokenByLookup(ctx, "abc")
	require.NoError(t, err)
	require.Equal(t, tok, got)
	_, err = s.SCIMTokenByLookup(ctx, "abd")
	requireCode(t, fault.NotFound, err)
	require.NoError(t, s.NoteSCIMUse(ctx, tok.ID))
	require.NoError(t, s.NoteSCIMUse(ctx, tok.ID))
	list, _, err := s.ListSCIMTokens(ctx, policy.Page{})
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.False(t, list[0].UsedAt.IsZero())
	_, err = s.RevokeSCIMToken(ctx, origin, "scm_none")
	requireCode(t, fault.NotFound, err)
	for range 2 {
		got, err = s.RevokeSCIMToken(ctx, origin, tok.ID)
		require.NoError(t, err)
		require.False(t, got.RevokedAt.IsZero())
	}
	for name, wrong := range map[string]policy.SCIMToken{
		"no directory": {Domains: []string{"a.example"}}, "no domain": {Directory: "okta"}, "a domain that is none": {Directory: "okta", Domains: []string{"%"}},
	} {
		wrong.Lookup, wrong.Hash = "x", bytes.Repeat([]byte{1}, 32)
		_, err := s.CreateSCIMToken(ctx, origin, wrong)
		require.Equal(t, fault.InvalidRequest, fault.CodeOf(err), name)
	}
}

func provisionedAccounts(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	in := sent("ana@example.com")
	in.Provision.UserName, in.Provision.Profile = "Ana@Corp", []byte(`{"name":{"givenName":"Ana"}}`)
	u, err := s.ProvisionUser(ctx, origin, okta, in)
	require.NoError(t, err)
	require.Equal(t, policy.UserInvited, u.State)
	require.Equal(t, "Ana@Corp", u.Provision.UserName)
	require.JSONEq(t, `{"name":{"givenName":"Ana"}}`, string(u.Provision.Profile))
	got, err := s.ProvisionedUser(ctx, okta, u.ID)
	require.NoError(t, err)
	require.Equal(t, u, got)
	_, err = s.ProvisionUser(ctx, origin, okta, in)
	requireCode(t, fault.Conflict, err)
	in.Email = "other@example.com"
	in.Provision.UserName = "ana@CORP"
	_, err = s.ProvisionUser(ctx, origin, okta, in)
	requireCode(t, fault.Conflict, err) // the name is taken, in another case

	got.Provision.Active = false
	changed, err := s.Reprovision(ctx, origin, okta, got, got.Version())
	require.NoError(t, err)
	require.Equal(t, policy.UserDeactivated, changed.State)
	require.Greater(t, changed.Epoch, u.Epoch)
	require.Greater(t, changed.Version(), u.Version())
	changes := e.Changes()
	require.Equal(t, "user.deactivate", changes[len(changes)-1].Action)
	require.Contains(t, changes[len(changes)-1].Touches, journal.Touch{Kind: policy.TouchUser, Key: u.ID})
	_, err = s.Reprovision(ctx, origin, okta, got, got.Version())
	requireCode(t, fault.PreconditionFailed, err)
	changed.Provision.Active, changed.Name, changed.Email = true, "Anna", "anna@example.com"
	changed, err = s.Reprovision(ctx, origin, okta, changed, changed.Version())
	require.NoError(t, err)
	require.Equal(t, policy.UserActive, changed.State)
	require.Equal(t, "anna@example.com", changed.Email)
	before := len(e.Changes())
	_, err = s.Reprovision(ctx, origin, okta, changed, changed.Version())
	require.NoError(t, err)
	require.Len(t, e.Changes(), before, "nothing changed")
}

func takesOver(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	own, foreign := person(t, s, "ana@example.com"), person(t, s, "bo@example.net")
	_, err := s.ProvisionUser(ctx, origin, okta, sent("bo@example.net"))
	requireCode(t, fault.PermissionDenied, err)
	_, err = s.ProvisionedUser(ctx, okta, foreign.ID)
	requireCode(t, fault.NotFound, err)
	f := policy.ProvisionedUser{User: foreign}
	f.Email, f.Provision.UserName = "bo@example.com", "bo"
	_, err = s.Reprovision(ctx, origin, okta, f, foreign.Revision)
	requireCode(t, fault.NotFound, err)
	requireCode(t, fault.NotFound, s.EndProvision(ctx, origin, okta, foreign.ID, 0))
	seen, err := s.ProvisionedUser(ctx, okta, own.ID)
	require.NoError(t, err)
	require.Zero(t, seen.Provision.Revision)
	u := provision(t, s, "ana@example.com")
	require.Equal(t, own.ID, u.ID)
	require.Equal(t, policy.UserActive, u.State)
	// Nor is one of its own given an address of somebody else's domain.
	u.Email, u.Provision.Active = "ana@example.net", true
	_, err = s.Reprovision(ctx, origin, okta, u, u.Version())
	requireCode(t, fault.PermissionDenied, err)
}

func breakGlassProvisioned(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	u, err := s.CreateUser(ctx, origin, policy.User{Email: "root@example.com", State: policy.UserActive, BreakGlass: true, Operator: true})
	require.NoError(t, err)
	_, err = s.ProvisionUser(ctx, origin, okta, sent("root@example.com"))
	requireCode(t, fault.Conflict, err)
	_, err = s.ProvisionedUser(ctx, okta, u.ID)
	requireCode(t, fault.NotFound, err)
	in := policy.ProvisionedUser{User: u, Provision: policy.Provision{UserName: "root"}}
	_, err = s.Reprovision(ctx, origin, okta, in, u.Revision)
	requireCode(t, fault.NotFound, err)
	requireCode(t, fault.NotFound, s.EndProvision(ctx, origin, okta, u.ID, 0))
	list, total, err := s.ProvisionedUsers(ctx, okta, policy.Filter{}, policy.Slice{Count: 10})
	require.NoError(t, err)
	require.Zero(t, total)
	require.Empty(t, list)
	_, err = s.ProvisionGroup(ctx, origin, okta, policy.ProvisionedGroup{PeopleGroup: policy.PeopleGroup{Name: "g"}}, []string{u.ID})
	requireCode(t, fault.InvalidRequest, err)
	a, err := s.Account(ctx, u.ID)
	require.NoError(t, err)
	require.Equal(t, u, a.User)
}

func noOperators(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	in := sent("ana@example.com")
	in.Operator, in.BreakGlass = true, true
	u, err := s.ProvisionUser(ctx, origin, okta, in)
	require.NoError(t, err)
	require.False(t, u.Operator || u.BreakGlass)
	u.Operator, u.BreakGlass, u.Provision.Active = true, true, true
	u, err = s.Reprovision(ctx, origin, okta, u, u.Version())
	require.NoError(t, err)
	require.False(t, u.Operator || u.BreakGlass)
	// Whoever holds the token cannot move an operator's account to an address of his own, to have it reset.
	op, err := s.CreateUser(ctx, origin, policy.User{Email: "op@example.com", State: policy.UserActive, Operator: true})
	require.NoError(t, err)
	got := provision(t, s, "op@example.com")
	require.Equal(t, op.ID, got.ID)
	require.True(t, got.Operator)
	got.Email, got.Provision.Active = "mallory@example.com", true
	_, err = s.Reprovision(ctx, origin, okta, got, got.Version())
	requireCode(t, fault.PermissionDenied, err)
	got.Email, got.Provision.Active = "op@example.com", false
	_, err = s.Reprovision(ctx, origin, okta, got, got.Version())
	requireCode(t, fault.Conflict, err) // the last one stays
}

func directoriesApart(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	entra := policy.Directory{Name: "entra", Domains: okta.Domains}
	u := provision(t, s, "ana@example.com")
	_, err := s.ProvisionedUser(ctx, entra, u.ID)
	requireCode(t, fault.NotFound, err)
	_, err = s.ProvisionUser(ctx, origin, entra, sent("ana@example.com"))
	requireCode(t, fault.Conflict, err)
	u.Provision.Active = false
	_, err = s.Reprovision(ctx, origin, entra, u, u.Version())
	requireCode(t, fault.NotFound, err)
	g, err := s.ProvisionGroup(ctx, origin, okta, policy.ProvisionedGroup{PeopleGroup: policy.PeopleGroup{Name: "g"}}, nil)
	require.NoError(t, err)
	_, err = s.ProvisionedGroup(ctx, entra, g.ID)
	requireCode(t, fault.NotFound, err)
	_, err = s.Regroup(ctx, origin, entra, g, 0, policy.Moves{})
	requireCode(t, fault.NotFound, err)
	requireCode(t, fault.NotFound, s.UngroupProvision(ctx, origin, entra, g.ID, 0))
	_, err = s.ProvisionGroup(ctx, origin, entra, policy.ProvisionedGroup{PeopleGroup: policy.PeopleGroup{Name: "h"}}, []string{u.ID})
	requireCode(t, fault.InvalidRequest, err)
}

func staysDeactivated(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	u := provision(t, s, "ana@example.com")
	say := func(active bool) policy.ProvisionedUser {
		t.Helper()
		now, err := s.ProvisionedUser(ctx, okta, u.ID)
		require.NoError(t, err)
		now.Provision.Active = active
		now, err = s.Reprovision(ctx, origin, okta, now, now.Version())
		require.NoError(t, err)
		return now
	}
	byHand := func(state policy.UserState) {
		t.Helper()
		a, err := s.Account(ctx, u.ID)
		require.NoError(t, err)
		a.State = state
		_, err = s.UpdateUser(ctx, origin, a.User)
		require.NoError(t, err)
	}
	byHand(policy.UserDeactivated)
	require.Equal(t, policy.UserDeactivated, say(true).State, "an operator deactivated it")
	require.Equal(t, policy.UserDeactivated, say(false).State)
	require.Equal(t, policy.UserDeactivated, say(true).State, "also when the directory said so as well")
	byHand(policy.UserActive)
	require.Equal(t, policy.UserDeactivated, say(false).State)
	require.Equal(t, policy.UserActive, say(true).State, "the directory undoes what it did")
	require.Equal(t, policy.UserDeactivated, say(false).State)
	byHand(policy.UserActive)
	byHand(policy.UserDeactivated)
	require.Equal(t, policy.UserDeactivated, say(true).State, "the last to deactivate it was an operator")
}

func deletedAccount(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	u := provision(t, s, "ana@example.com")
	g, err := s.ProvisionGroup(ctx, origin, okta, policy.ProvisionedGroup{PeopleGroup: policy.PeopleGroup{Name: "g"}}, []string{u.ID})
	require.NoError(t, err)
	hand, err := s.CreateGroup(ctx, origin, policy.PeopleGroup{Name: "by hand"})
	require.NoError(t, err)
	_, err = s.Join(ctx, origin, hand.ID, policy.ByHand, u.ID)
	require.NoError(t, err)
	requireCode(t, fault.PreconditionFailed, s.EndProvision(ctx, origin, okta, u.ID, u.Version()+1))
	require.NoError(t, s.EndProvision(ctx, origin, okta, u.ID, 0))
	requireCode(t, fault.NotFound, s.EndProvision(ctx, origin, okta, u.ID, 0))
	_, err = s.ProvisionedUser(ctx, okta, u.ID)
	requireCode(t, fault.NotFound, err)
	a, err := s.Account(ctx, u.ID)
	require.NoError(t, err)
	require.Equal(t, policy.UserDeactivated, a.State)
	require.Len(t, a.Groups, 1)
	require.Equal(t, hand.ID, a.Groups[0].GroupID)
	g, err = s.ProvisionedGroup(ctx, okta, g.ID)
	require.NoError(t, err)
	require.Empty(t, g.Members)
	again := provision(t, s, "ana@example.com")
	require.Equal(t, u.ID, again.ID)
	require.Equal(t, policy.UserActive, again.State)
}

func mustUser(t *testing.T, s Outside, email string) policy.User {
	t.Helper()
	u, err := s.UserByEmail(context.Background(), email)
	require.NoError(t, err)
	return u
}
