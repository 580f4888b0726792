package policytest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

// Outside is one empty store of people who come in by a provider or a directory.
type Outside interface {
	People
	policy.SSO
	policy.ProvisioningStore
}

// OutsideEnv is one empty store and what the suites need around it.
type OutsideEnv struct {
	Store   Outside
	Changes func() []journal.Change
}

// SSO runs the suite of identity providers; open makes a fresh environment for each test.
func SSO(t *testing.T, open func(t *testing.T) OutsideEnv) {
	for name, test := range map[string]func(*testing.T, OutsideEnv){
		"Issuers": issuers, "ADomainHasOneIssuer": oneClaim, "LinksOnlyClaimedVerifiedAddresses": linking, "MakesAccountsWhereAllowed": arrivals,
		"GroupsFollowTheClaim": claimedGroups, "TheLastAdminStaysInItsGroup": claimKeepsAdmin, "BreakGlassIsOutOfReach": breakGlassArrives,
		"DeactivatedStaysOut": deactivatedArrives, "DeletedIssuerForgetsItsPeople": deletedIssuer, "OnceIsOnce": once, "OneOfManyArrivesFirst": arriveTogether,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func issuer(t *testing.T, s policy.SSO, change func(*policy.Issuer)) policy.Issuer {
	t.Helper()
	i := policy.Issuer{Name: "Okta", URL: "https://okta.example.com", ClientID: "promptgate", Secret: []byte("sealed"), Domains: []policy.Domain{{Domain: "Example.com"}}}
	if change != nil {
		change(&i)
	}
	i, err := s.CreateIssuer(context.Background(), origin, i)
	require.NoError(t, err)
	return i
}

func issuers(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	g, err := s.CreateGroup(ctx, origin, policy.PeopleGroup{Name: "editors"})
	require.NoError(t, err)
	i := issuer(t, s, func(i *policy.Issuer) {
		i.GroupClaim, i.Groups, i.Creates = "groups", map[string]string{"e": g.ID}, true
	})
	require.Regexp(t, `^idp_`, i.ID)
	require.Equal(t, []string{"openid", "profile", "email"}, i.Scopes)
	require.Equal(t, "example.com", i.Domains[0].Domain)
	got, err := s.IssuerByID(ctx, i.ID)
	require.NoError(t, err)
	require.Equal(t, i, got)
	d, err := s.DomainOf(ctx, "example.com")
	require.NoError(t, err)
	require.Equal(t, i.ID, d.Issuer)
	require.False(t, d.Enforced)
	_, err = s.DomainOf(ctx, "example.org")
	requireCode(t, fault.NotFound, err)

	got.Domains = []policy.Domain{{Domain: "example.com", Enforced: true}, {Domain: "example.org"}}
	stale := got
	got, err = s.UpdateIssuer(ctx, origin, got)
	require.NoError(t, err)
	require.Len(t, got.Domains, 2)
	_, err = s.UpdateIssuer(ctx, origin, stale)
	requireCode(t, fault.PreconditionFailed, err)
	d, err = s.DomainOf(ctx, "example.com")
	require.NoError(t, err)
	require.True(t, d.Enforced)
	got.Domains = got.Domains[1:]
	got, err = s.UpdateIssuer(ctx, origin, got)
	require.NoError(t, err)
	_, err = s.DomainOf(ctx, "example.com")
	requireCode(t, fault.NotFound, err)
	list, err := s.ListIssuers(ctx)
	require.NoError(t, err)
	require.Equal(t, []policy.Issuer{got}, list)

	for name, change := range map[string]func(*policy.Issuer){
		"another address":      func(i *policy.Issuer) { i.URL = "https://evil.example.com" },
		"another client":       func(i *policy.Issuer) { i.ClientID = "x" },
		"a group that is not":  func(i *policy.Issuer) { i.Groups = map[string]string{"e": "grp_none"} },
		"groups, no claim":     func(i *policy.Issuer) { i.GroupClaim = "" },
		"no domain":            func(i *policy.Issuer) { i.Domains = []policy.Domain{{Domain: "x@y.z"}} },
		"a domain of one word": func(i *policy.Issuer) { i.Domains = []policy.Domain{{Domain: "localhost"}} },
		"a domain twice":       func(i *policy.Issuer) { i.Domains = []policy.Domain{{Domain: "a.b"}, {Domain: "A.B"}} },
	} {
		wrong := got
		change(&wrong)
		_, err := s.UpdateIssuer(ctx, origin, wrong)
		require.Error(t, err, name)
		require.Contains(t, []fault.Code{fault.InvalidRequest, fault.Conflict}, fault.CodeOf(err), name)
	}
	_, err = s.CreateIssuer(ctx, origin, policy.Issuer{Name: "Okta", URL: "https://b", ClientID: "c"})
	requireCode(t, fault.Conflict, err)
}

func oneClaim(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	issuer(t, s, nil)
	_, err := s.CreateIssuer(ctx, origin, policy.Issuer{Name: "Other", URL: "https://other", ClientID: "c", Domains: []policy.Domain{{Domain: "EXAMPLE.com"}}})
	requireCode(t, fault.Conflict, err)
	list, err := s.ListIssuers(ctx)
	require.NoError(t, err)
	require.Len(t, list, 1, "nothing of it was kept")
}

func said(i policy.Issuer, subject, email string, groups ...string) policy.Assertion {
	return policy.Assertion{Issuer: i.ID, Subject: subject, Email: email, Verified: true, Name: "Ana", Groups: groups}
}

func linking(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	i := issuer(t, s, nil)
	other := issuer(t, s, func(i *policy.Issuer) {
		i.Name, i.URL, i.Domains = "Other", "https://other.example", []policy.Domain{{Domain: "other.example"}}
	})
	ana := person(t, s, "ana@example.com")
	unverified := said(i, "1", "ana@example.com")
	unverified.Verified = false
	for name, a := range map[string]policy.Assertion{
		"an unverified address": unverified, "another issuer's": said(other, "1", "ana@example.com"), "no address": said(i, "1", ""),
		"a domain that nobody claims": said(i, "1", "bo@example.net"), "a domain below": said(i, "1", "ana@sub.example.com"),
		"nobody, and no accounts are made": said(i, "1", "bo@example.com"),
	} {
		_, err := s.Arrive(ctx, origin, a)
		requireCode(t, fault.PermissionDenied, err)
		_, err = s.IdentityOf(ctx, a.Issuer, a.Subject)
		requireCode(t, fault.NotFound, err)
		_ = name
	}
	u, err := s.Arrive(ctx, origin, said(i, "1", "ANA@example.com"))
	require.NoError(t, err)
	require.Equal(t, ana.ID, u.ID)
	// The subject is who it is, from now on: neither another address nor an unverified one changes that, and the address is nobody else's key.
	moved := said(i, "1", "mallory@example.com")
	moved.Verified = false
	u, err = s.Arrive(ctx, origin, moved)
	require.NoError(t, err)
	require.Equal(t, ana.ID, u.ID)
	require.Equal(t, "ana@example.com", u.Email)
	_, err = s.Arrive(ctx, origin, said(other, "1", "ana@example.com"))
	requireCode(t, fault.PermissionDenied, err) // the same subject elsewhere is another person
}

func arrivals(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	i := issuer(t, s, func(i *policy.Issuer) { i.Creates = true })
	u, err := s.Arrive(ctx, origin, said(i, "bo", "bo@example.com"))
	require.NoError(t, err)
	require.Equal(t, policy.UserActive, u.State)
	require.False(t, u.Operator)
	require.Equal(t, i.ID, u.CreatedBy)
	again, err := s.Arrive(ctx, origin, said(i, "bo", "bo@example.com"))
	require.NoError(t, err)
	require.Equal(t, u, again)
	invited, err := s.CreateUser(ctx, origin, policy.User{Email: "cy@example.com"})
	require.NoError(t, err)
	u, err = s.Arrive(ctx, origin, said(i, "cy", "cy@example.com"))
	require.NoError(t, err)
	require.Equal(t, invited.ID, u.ID)
	require.Equal(t, policy.UserActive, u.State)
}

func claimedGroups(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	var ids []string
	for _, name := range []string{"editors", "viewers", "by hand"} {
		g, err := s.CreateGroup(ctx, origin, policy.PeopleGroup{Name: name})
		require.NoError(t, err)
		ids = append(ids, g.ID)
	}
	i := issuer(t, s, func(i *policy.Issuer) {
		i.Creates, i.GroupClaim, i.Groups = true, "groups", map[string]string{"e": ids[0], "v": ids[1], "h": ids[2]}
	})
	groupsOf := func(id string) map[string]policy.MemberSource {
		a, err := s.Account(ctx, id)
		require.NoError(t, err)
		out := map[string]policy.MemberSource{}
		for _, m := range a.Groups {
			out[m.GroupID] = m.Source
		}
		return out
	}
	u, err := s.Arrive(ctx, origin, said(i, "1", "ana@example.com", "e", "v", "unknown"))
	require.NoError(t, err)
	require.Equal(t, map[string]policy.MemberSource{ids[0]: policy.ByClaim, ids[1]: policy.ByClaim}, groupsOf(u.ID))
	_, err = s.Join(ctx, origin, ids[2], policy.ByHand, u.ID)
	require.NoError(t, err)
	_, err = s.Arrive(ctx, origin, said(i, "1", "ana@example.com", "v"))
	require.NoError(t, err)
	require.Equal(t, map[string]policy.MemberSource{ids[1]: policy.ByClaim, ids[2]: policy.ByHand}, groupsOf(u.ID), "what was given by hand stays")
	before := len(e.Changes())
	_, err = s.Arrive(ctx, origin, said(i, "1", "ana@example.com", "v"))
	require.NoError(t, err)
	require.Len(t, e.Changes(), before, "nothing changed, nothing is journalled")
	_, err = s.Arrive(ctx, origin, said(i, "1", "ana@example.com"))
	require.NoError(t, err)
	require.Equal(t, map[string]policy.MemberSource{ids[2]: policy.ByHand}, groupsOf(u.ID))
	changes := e.Changes()
	require.Contains(t, changes[len(changes)-1].Touches, journal.Touch{Kind: policy.TouchUser, Key: u.ID})

	// What one provider gave, another's silence does not take.
	other := issuer(t, s, func(i *policy.Issuer) {
		i.Name, i.URL, i.Domains, i.GroupClaim, i.Groups = "Entra", "https://entra.example.com", []policy.Domain{{Domain: "example.org"}}, "groups", map[string]string{"e": ids[0]}
	})
	_, err = s.Arrive(ctx, origin, said(i, "1", "ana@example.com", "e", "v"))
	require.NoError(t, err)
	_, err = s.CreateUser(ctx, origin, policy.User{Email: "bo@example.org", State: policy.UserActive})
	require.NoError(t, err)
	bo, err := s.Arrive(ctx, origin, said(other, "1", "bo@example.org", "e"))
	require.NoError(t, err)

	// … nor of somebody whom both know, since the domain went from one to the other.
	i.Domains = nil
	i, err = s.UpdateIssuer(ctx, origin, i)
	require.NoError(t, err)
	other.Domains = []policy.Domain{{Domain: "example.com"}, {Domain: "example.org"}}
	other, err = s.UpdateIssuer(ctx, origin, other)
	require.NoError(t, err)
	same, err := s.Arrive(ctx, origin, said(other, "2", "ana@example.com"))
	require.NoError(t, err)
	require.Equal(t, u.ID, same.ID)
	require.Equal(t, map[string]policy.MemberSource{ids[0]: policy.ByClaim, ids[1]: policy.ByClaim, ids[2]: policy.ByHand}, groupsOf(u.ID))

	// A mapping that is removed takes away what it gave, and nothing else.
	i.Groups = map[string]string{"v": ids[1]}
	i, err = s.UpdateIssuer(ctx, origin, i)
	require.NoError(t, err)
	require.Equal(t, map[string]policy.MemberSource{ids[1]: policy.ByClaim, ids[2]: policy.ByHand}, groupsOf(u.ID))
	require.Equal(t, map[string]policy.MemberSource{ids[0]: policy.ByClaim}, groupsOf(bo.ID))
	changes = e.Changes()
	require.Contains(t, changes[len(changes)-1].Touches, journal.Touch{Kind: policy.TouchUser, Key: u.ID})
	require.NoError(t, s.DeleteIssuer(ctx, origin, i.ID, 0))
	require.Equal(t, map[string]policy.MemberSource{ids[2]: policy.ByHand}, groupsOf(u.ID))
	require.Equal(t, map[string]policy.MemberSource{ids[0]: policy.ByClaim}, groupsOf(bo.ID))
}

func claimKeepsAdmin(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	g, err := s.CreateGroup(ctx, origin, policy.PeopleGroup{Name: "admins"})
	require.NoError(t, err)
	bind(t, s, policy.Binding{Project: "p", Subject: g.ID, Role: policy.RoleAdmin})
	i := issuer(t, s, func(i *policy.Issuer) {
		i.Creates, i.GroupClaim, i.Groups = true, "groups", map[string]string{"a": g.ID}
	})
	_, err = s.Arrive(ctx, origin, said(i, "1", "ana@example.com", "a"))
	require.NoError(t, err)
	_, err = s.Arrive(ctx, origin, said(i, "1", "ana@example.com"))
	requireCode(t, fault.Conflict, err)
	_, err = s.Arrive(ctx, origin, said(i, "2", "bo@example.com", "a"))
	require.NoError(t, err)
	_, err = s.Arrive(ctx, origin, said(i, "1", "ana@example.com"))
	require.NoError(t, err, "another admin is there now")
}

func breakGlassArrives(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	i := issuer(t, s, func(i *policy.Issuer) { i.Creates = true })
	u, err := s.CreateUser(ctx, origin, policy.User{Email: "root@example.com", State: policy.UserActive, BreakGlass: true})
	require.NoError(t, err)
	_, err = s.Arrive(ctx, origin, said(i, "1", "root@example.com"))
	requireCode(t, fault.PermissionDenied, err)
	_, err = s.IdentityOf(ctx, i.ID, "1")
	requireCode(t, fault.NotFound, err)
	u.BreakGlass = false
	u, err = s.UpdateUser(ctx, origin, u)
	require.NoError(t, err)
	_, err = s.Arrive(ctx, origin, said(i, "1", "root@example.com"))
	require.NoError(t, err)
	u, err = s.UserByEmail(ctx, u.Email)
	require.NoError(t, err)
	u.BreakGlass = true
	_, err = s.UpdateUser(ctx, origin, u)
	require.NoError(t, err)
	_, err = s.Arrive(ctx, origin, said(i, "1", "root@example.com"))
	requireCode(t, fault.PermissionDenied, err) // also when it was linked before
}

func deactivatedArrives(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	i := issuer(t, s, func(i *policy.Issuer) { i.Creates = true })
	u, err := s.Arrive(ctx, origin, said(i, "1", "ana@example.com"))
	require.NoError(t, err)
	u.State = policy.UserDeactivated
	_, err = s.UpdateUser(ctx, origin, u)
	require.NoError(t, err)
	for _, subject := range []string{"1", "2"} { // by its identity, and by its address
		_, err = s.Arrive(ctx, origin, said(i, subject, "ana@example.com"))
		requireCode(t, fault.PermissionDenied, err)
	}
}

func deletedIssuer(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	i := issuer(t, s, func(i *policy.Issuer) { i.Creates = true })
	u, err := s.Arrive(ctx, origin, said(i, "1", "ana@example.com"))
	require.NoError(t, err)
	requireCode(t, fault.PreconditionFailed, s.DeleteIssuer(ctx, origin, i.ID, i.Revision+1))
	require.NoError(t, s.DeleteIssuer(ctx, origin, i.ID, i.Revision))
	requireCode(t, fault.NotFound, s.DeleteIssuer(ctx, origin, i.ID, 0))
	_, err = s.IssuerByID(ctx, i.ID)
	requireCode(t, fault.NotFound, err)
	_, err = s.DomainOf(ctx, "example.com")
	requireCode(t, fault.NotFound, err)
	a, err := s.Account(ctx, u.ID)
	require.NoError(t, err)
	require.Equal(t, u.Epoch+1, a.Epoch, "its people's sessions end")
	fresh := issuer(t, s, func(i *policy.Issuer) { i.URL = "https://okta.example.com" })
	require.NotEqual(t, i.ID, fresh.ID)
	_, err = s.IdentityOf(ctx, fresh.ID, "1")
	requireCode(t, fault.NotFound, err)
}

func once(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	var fresh atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			ok, err := s.Once(ctx, "state", "a", "v", time.Now().Add(time.Hour))
			assert.NoError(t, err)
			if ok {
				fresh.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, fresh.Load())
	ok, err := s.Once(ctx, "jti", "a", "", time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.True(t, ok, "another kind")
	v, err := s.Noted(ctx, "state", "a")
	require.NoError(t, err)
	require.Equal(t, "v", v)
	for _, value := range []string{"first", "second"} {
		require.NoError(t, s.Note(ctx, "sid", "a", value, time.Now().Add(time.Hour)))
		v, err = s.Noted(ctx, "sid", "a")
		require.NoError(t, err)
		require.Equal(t, value, v, "the newest stands")
	}
	for n := range 3 {
		_, err = s.Once(ctx, "state", fmt.Sprintf("old %d", n), "", time.Now().Add(-time.Second))
		require.NoError(t, err)
	}
	_, err = s.Noted(ctx, "state", "old 2")
	requireCode(t, fault.NotFound, err)
	ok, err = s.Once(ctx, "state", "a", "", time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.False(t, ok, "what has not ended is remembered")
}

func arriveTogether(t *testing.T, e OutsideEnv) {
	ctx, s := t.Context(), e.Store
	i := issuer(t, s, func(i *policy.Issuer) { i.Creates = true })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			u, err := s.Arrive(ctx, origin, said(i, "1", "ana@example.com"))
			assert.NoError(t, err)
			assert.Equal(t, "ana@example.com", u.Email)
		})
	}
	wg.Wait()
	list, _, err := s.ListUsers(ctx, policy.UserFilter{}, policy.Page{})
	require.NoError(t, err)
	require.Len(t, list, 1)
}
