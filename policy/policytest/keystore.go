// Package policytest is what every implementation of policy's contracts must pass.
package policytest

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

// Env is one empty store and what the suite needs around it.
type Env struct {
	Store   policy.KeyStore
	Changes func() []journal.Change // what the journal has told its subscribers
}

var (
	system = &policy.Principal{Kind: policy.KindSystem}
	origin = journal.Origin{Actor: journal.Actor{Kind: "user", ID: "usr_1", Name: "Ada"}, Why: "test"}
)

// KeyStore runs the suite; open makes a fresh environment for each test.
func KeyStore(t *testing.T, open func(t *testing.T) Env) {
	for name, test := range map[string]func(*testing.T, Env){
		"RoundTrip": roundTrip, "Projects": projects, "Pages": pages, "Update": update, "Revoke": revoke, "OneUpdateWins": oneUpdateWins,
		"LookupIsUnique": lookupIsUnique, "NobodyGrantsMore": nobodyGrantsMore, "NobodyGovernsMore": nobodyGovernsMore, "LastAdmin": lastAdmin, "Refusals": refusals, "Unavailable": unavailable,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// NewKey is a record that can be created.
func NewKey(project, name string) policy.KeyRecord {
	hash := make([]byte, 32)
	_, _ = rand.Read(hash) // never fails
	return policy.KeyRecord{Project: project, Name: name, Lookup: strings.ToLower(rand.Text()[:16]), Hash: hash, LastFour: "abcd",
		Roles: []string{"viewer"}}
}

func create(t *testing.T, s policy.KeyStore, k policy.KeyRecord) policy.KeyRecord {
	t.Helper()
	k, err := s.CreateKey(context.Background(), origin, system, k)
	require.NoError(t, err)
	return k
}

func requireCode(t *testing.T, want fault.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, want, fault.CodeOf(err), "%v", err)
}

func roundTrip(t *testing.T, e Env) {
	ctx := context.Background()
	want := NewKey("prj_1", `Ana's "key" \ % _ ü`)
	want.Roles = []string{"editor:a/**", "viewer"}
	want.Grants = []policy.Grant{
		{Actions: []policy.Action{policy.ActionCall}, Prompts: []string{"a/*"}, Labels: []string{"production", policy.LabelVersion}, Expires: time.Now().Add(time.Hour).UTC()},
		{Effect: policy.EffectDeny, Actions: []policy.Action{policy.ActionCall}, Models: []string{"o3*"}},
	}
	want.Networks = []string{"10.0.0.0/8", "2001:db8::/32"}
	want.Expires = time.Now().Add(24 * time.Hour).UTC().Truncate(time.Microsecond)
	before := time.Now().Add(-time.Second)
	got := create(t, e.Store, want)
	assert.True(t, strings.HasPrefix(got.ID, "key_"))
	assert.Equal(t, "usr_1", got.CreatedBy)
	assert.True(t, got.CreatedAt.After(before))
	assert.Positive(t, got.Revision)
	want.ID, want.CreatedBy, want.CreatedAt, want.Revision = got.ID, got.CreatedBy, got.CreatedAt, got.Revision
	assert.Equal(t, want, got)

	byLookup, err := e.Store.KeyByLookup(ctx, want.Lookup)
	require.NoError(t, err)
	assert.Equal(t, want, byLookup)
	byID, err := e.Store.KeyByID(ctx, "prj_1", got.ID)
	require.NoError(t, err)
	assert.Equal(t, want, byID)
	list, next, err := e.Store.ListKeys(ctx, "prj_1", policy.Page{})
	require.NoError(t, err)
	assert.Empty(t, next)
	assert.Equal(t, []policy.KeyRecord{want}, list)

	changes := e.Changes()
	require.Len(t, changes, 1)
	assert.Equal(t, got.Revision, changes[0].Revision)
	assert.Equal(t, "key.create", changes[0].Action)
	assert.Equal(t, "prj_1", changes[0].Project)
	assertTouched(t, changes[0], got)
}

func assertTouched(t *testing.T, c journal.Change, k policy.KeyRecord) {
	t.Helper()
	assert.ElementsMatch(t, []journal.Touch{
		{Kind: policy.TouchKey, Key: k.Lookup}, {Kind: policy.TouchPrincipal, Project: k.Project, Key: k.ID},
	}, c.Touches)
}

// A key of one project is not there for another.
func projects(t *testing.T, e Env) {
	ctx := context.Background()
	k := create(t, e.Store, NewKey("prj_1", "same name"))
	other := create(t, e.Store, NewKey("prj_2", "same name"))
	_, err := e.Store.KeyByID(ctx, "prj_2", k.ID)
	requireCode(t, fault.NotFound, err)
	_, err = e.Store.RevokeKey(ctx, origin, system, policy.Revocation{Project: "prj_2", ID: k.ID})
	requireCode(t, fault.NotFound, err)
	moved := k
	moved.Project = "prj_2"
	_, err = e.Store.UpdateKey(ctx, origin, system, moved)
	requireCode(t, fault.NotFound, err)
	list, _, err := e.Store.ListKeys(ctx, "prj_2", policy.Page{})
	require.NoError(t, err)
	assert.Equal(t, []policy.KeyRecord{other}, list)
	for _, id := range []string{"", "key_", "%", "key_\x00", "key_\xff", "' OR '1'='1"} {
		_, err = e.Store.KeyByID(ctx, "prj_1", id)
		requireCode(t, fault.NotFound, err)
		_, err = e.Store.KeyByLookup(ctx, id)
		requireCode(t, fault.NotFound, err)
		_, err = e.Store.RevokeKey(ctx, origin, system, policy.Revocation{Project: "prj_1", ID: id})
		requireCode(t, fault.NotFound, err)
	}
}

func pages(t *testing.T, e Env) {
	ctx := context.Background()
	var want, got []string
	for i := range 7 {
		want = append(want, create(t, e.Store, NewKey("prj_1", fmt.Sprint("key ", i))).ID)
	}
	create(t, e.Store, NewKey("prj_2", "foreign"))
	page := policy.Page{Limit: 3}
	for sizes := 0; ; sizes++ {
		keys, next, err := e.Store.ListKeys(ctx, "prj_1", page)
		require.NoError(t, err)
		for _, k := range keys {
			got = append(got, k.ID)
		}
		if next == "" {
			assert.Equal(t, 2, sizes, "pages")
			break
		}
		require.Len(t, keys, 3)
		page.After = next
	}
	assert.ElementsMatch(t, want, got)
	for _, limit := range []int{-1, 201, math.MaxInt} {
		_, _, err := e.Store.ListKeys(ctx, "prj_1", policy.Page{Limit: limit})
		requireCode(t, fault.InvalidRequest, err)
	}
	for _, after := range []string{"x", "'", "!", "MQ", "AAAA", "MSAA"} {
		if _, _, err := e.Store.ListKeys(ctx, "prj_1", policy.Page{After: after}); err != nil {
			requireCode(t, fault.InvalidRequest, err)
		}
	}
}

func update(t *testing.T, e Env) {
	ctx := context.Background()
	old := create(t, e.Store, NewKey("prj_1", "old"))
	edited := old
	edited.Name, edited.Roles, edited.Networks = "new", []string{"tester"}, []string{"10.0.0.0/8"}
	edited.Expires = time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	edited.Grants = []policy.Grant{{Actions: []policy.Action{policy.ActionCall}, Prompts: []string{"**"}}}
	sent := edited
	sent.Hash, sent.Lookup, sent.CreatedBy, sent.LastFour = []byte("other"), "other", "other", "othr" // not to be edited
	sent.CreatedAt, sent.RevokedAt = time.Now().Add(-time.Hour), time.Now()
	got, err := e.Store.UpdateKey(ctx, origin, system, sent)
	require.NoError(t, err)
	assert.Greater(t, got.Revision, old.Revision)
	edited.Revision = got.Revision
	assert.Equal(t, edited, got)
	stored, err := e.Store.KeyByLookup(ctx, old.Lookup)
	require.NoError(t, err)
	assert.Equal(t, edited, stored)
	changes := e.Changes()
	require.Len(t, changes, 2)
	assert.Equal(t, got.Revision, changes[1].Revision)
	assertTouched(t, changes[1], got)

	_, err = e.Store.UpdateKey(ctx, origin, system, old) // somebody who has not seen the edit
	requireCode(t, fault.PreconditionFailed, err)
	assert.Len(t, e.Changes(), 2)
}

func revoke(t *testing.T, e Env) {
	ctx := context.Background()
	k := create(t, e.Store, NewKey("prj_1", "short-lived"))
	got, err := e.Store.RevokeKey(ctx, origin, system, policy.Revocation{Project: "prj_1", ID: k.ID})
	require.NoError(t, err)
	assert.False(t, got.RevokedAt.IsZero())
	assert.Greater(t, got.Revision, k.Revision)
	again, err := e.Store.RevokeKey(ctx, origin, system, policy.Revocation{Project: "prj_1", ID: k.ID})
	require.NoError(t, err)
	assert.Equal(t, got, again)
	changes := e.Changes()
	require.Len(t, changes, 2, "the second revocation is no change")
	assert.Equal(t, "key.revoke", changes[1].Action)
	assertTouched(t, changes[1], got)

	stored, err := e.Store.KeyByLookup(ctx, k.Lookup)
	require.NoError(t, err)
	assert.Equal(t, got, stored)
	list, _, err := e.Store.ListKeys(ctx, "prj_1", policy.Page{})
	require.NoError(t, err)
	assert.Equal(t, []policy.KeyRecord{got}, list, "revoked keys stay listed")
	_, err = e.Store.UpdateKey(ctx, origin, system, got)
	requireCode(t, fault.Conflict, err)
}

func oneUpdateWins(t *testing.T, e Env) {
	const rounds, writers = 10, 8
	for round := range rounds {
		k := create(t, e.Store, NewKey("prj_1", "contended"))
		errs := make([]error, writers)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				mine := k
				mine.Name = fmt.Sprint("writer ", i)
				<-start
				_, errs[i] = e.Store.UpdateKey(context.Background(), origin, system, mine)
			})
		}
		close(start)
		wg.Wait()
		won := 0
		for i, err := range errs {
			if err == nil {
				won++
				stored, err := e.Store.KeyByID(context.Background(), "prj_1", k.ID)
				require.NoError(t, err)
				assert.Equal(t, fmt.Sprint("writer ", i), stored.Name)
				continue
			}
			requireCode(t, fault.PreconditionFailed, err)
		}
		require.Equal(t, 1, won)
		require.Len(t, e.Changes(), 2*(round+1))
	}
}

func lookupIsUnique(t *testing.T, e Env) {
	k := create(t, e.Store, NewKey("prj_1", "first"))
	twin := NewKey("prj_2", "second")
	twin.Lookup = k.Lookup
	_, err := e.Store.CreateKey(context.Background(), origin, system, twin)
	requireCode(t, fault.Conflict, err)
	assert.Len(t, e.Changes(), 1)
}

func nobodyGrantsMore(t *testing.T, e Env) {
	ctx := context.Background()
	granter := &policy.Principal{ID: "usr_2", Kind: policy.KindUser, Project: "prj_1", Roles: []string{"editor:a/**"}}
	k := NewKey("prj_1", "too much")
	_, err := e.Store.CreateKey(ctx, origin, granter, k)
	requireCode(t, fault.PermissionDenied, err)
	_, err = e.Store.CreateKey(ctx, origin, nil, k)
	requireCode(t, fault.PermissionDenied, err)
	assert.Empty(t, e.Changes())
	k.Roles = []string{"viewer:a/*"}
	k, err = e.Store.CreateKey(ctx, origin, granter, k)
	require.NoError(t, err)
	k.Roles = []string{"admin"}
	_, err = e.Store.UpdateKey(ctx, origin, granter, k)
	requireCode(t, fault.PermissionDenied, err)
	stored, err := e.Store.KeyByLookup(ctx, k.Lookup)
	require.NoError(t, err)
	assert.Equal(t, []string{"viewer:a/*"}, stored.Roles)
	foreign := NewKey("prj_2", "foreign")
	foreign.Roles = []string{}
	_, err = e.Store.CreateKey(ctx, origin, granter, foreign)
	requireCode(t, fault.NotFound, err)
}

// Who may not do what a key may do neither changes nor revokes it; its own key is everybody's to revoke.
func nobodyGovernsMore(t *testing.T, e Env) {
	ctx := context.Background()
	boss, own, peer := NewKey("prj_1", "boss"), NewKey("prj_1", "own"), NewKey("prj_1", "peer")
	boss.Roles = []string{"admin"}
	own.Grants = []policy.Grant{{Actions: []policy.Action{policy.ActionManageKeys}}, {Effect: policy.EffectDeny, Actions: []policy.Action{policy.ActionRead}, Prompts: []string{"a"}}}
	peer.Grants = own.Grants[1:]
	boss, own, peer = create(t, e.Store, boss), create(t, e.Store, own), create(t, e.Store, peer)
	manager, err := own.Principal()
	require.NoError(t, err)
	made := len(e.Changes())

	_, err = e.Store.RevokeKey(ctx, origin, manager, policy.Revocation{Project: "prj_1", ID: boss.ID})
	requireCode(t, fault.PermissionDenied, err)
	weaker, renamed := boss, boss
	weaker.Roles = []string{}
	renamed.Name = "boss's"
	for _, k := range []policy.KeyRecord{weaker, renamed} {
		_, err = e.Store.UpdateKey(ctx, origin, manager, k)
		requireCode(t, fault.PermissionDenied, err)
		assert.ErrorContains(t, err, "may do what yours may not", "what is really refused")
	}
	_, err = e.Store.RevokeKey(ctx, origin, nil, policy.Revocation{Project: "prj_1", ID: boss.ID})
	requireCode(t, fault.PermissionDenied, err)
	assert.Len(t, e.Changes(), made)

	brief := *manager
	brief.Expires = time.Date(2999, 1, 2, 3, 4, 5, 0, time.UTC)
	peer.Name = "renamed"
	_, err = e.Store.UpdateKey(ctx, origin, &brief, peer) // by somebody who may not hand out a key that lasts as long
	requireCode(t, fault.PermissionDenied, err)
	assert.ErrorContains(t, err, "ends at 2999-01-02T03:04:05Z: set expires_at")
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	assert.Equal(t, "expires_at", f.Param)
	peer, err = e.Store.UpdateKey(ctx, origin, manager, peer)
	require.NoError(t, err)
	_, err = e.Store.RevokeKey(ctx, origin, manager, policy.Revocation{Project: "prj_1", ID: own.ID})
	requireCode(t, fault.Conflict, err)
	assert.ErrorContains(t, err, "you are using")
	for _, k := range []policy.KeyRecord{peer, own} {
		k, err = e.Store.RevokeKey(ctx, origin, manager, policy.Revocation{Project: "prj_1", ID: k.ID, Force: true})
		require.NoError(t, err)
		assert.False(t, k.RevokedAt.IsZero())
	}
}

func refusals(t *testing.T, e Env) {
	for want, spoil := range map[fault.Code][]func(*policy.KeyRecord){
		fault.InvalidRequest: {
			func(k *policy.KeyRecord) { k.Name = "" },
			func(k *policy.KeyRecord) { k.Roles = []string{"emperor"} },
			func(k *policy.KeyRecord) { k.Networks = []string{"here"} },
			func(k *policy.KeyRecord) { k.Grants = []policy.Grant{{}} },
			func(k *policy.KeyRecord) { k.Expires = time.Now().Add(-time.Minute) },
		},
		fault.Internal: { // a caller's bug, which must not become a key that opens nothing or everything
			func(k *policy.KeyRecord) { k.Hash = nil },
			func(k *policy.KeyRecord) { k.Lookup = "" },
			func(k *policy.KeyRecord) { k.Project = "" },
		},
	} {
		for _, f := range spoil {
			k := NewKey("prj_1", "bad")
			f(&k)
			_, err := e.Store.CreateKey(context.Background(), origin, system, k)
			requireCode(t, want, err)
		}
	}
	assert.Empty(t, e.Changes())
}

// A caller who has left, or a deadline, is never "there is no such key".
func unavailable(t *testing.T, e Env) {
	k := create(t, e.Store, NewKey("prj_1", "slow"))
	ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	_, err := e.Store.KeyByLookup(ctx, k.Lookup)
	requireCode(t, fault.RegistryUnavailable, err)
	_, err = e.Store.RevokeKey(ctx, origin, system, policy.Revocation{Project: "prj_1", ID: k.ID})
	requireCode(t, fault.RegistryUnavailable, err)
	_, _, err = e.Store.ListKeys(ctx, "prj_1", policy.Page{})
	requireCode(t, fault.RegistryUnavailable, err)
}

// lastAdmin: a project keeps an admin key unless somebody insists, also when two admins take away each other's at once.
func lastAdmin(t *testing.T, e Env) {
	ctx := context.Background()
	admin := func(name string) (policy.KeyRecord, *policy.Principal) {
		k := NewKey("prj_1", name)
		k.Roles = []string{policy.RoleAdmin}
		k = create(t, e.Store, k)
		p, err := k.Principal()
		require.NoError(t, err)
		return k, p
	}
	folder := NewKey("prj_1", "a folder's")
	folder.Roles = []string{"admin:a/**"}
	create(t, e.Store, folder) // counts for nothing
	a, byA := admin("a")
	weaker := a
	weaker.Roles = []string{"viewer"}
	_, err := e.Store.UpdateKey(ctx, origin, byA, weaker)
	requireCode(t, fault.Conflict, err)

	b, byB := admin("b")
	var refused [2]error
	var both sync.WaitGroup
	both.Go(func() {
		_, refused[0] = e.Store.RevokeKey(ctx, origin, byA, policy.Revocation{Project: "prj_1", ID: b.ID})
	})
	both.Go(func() {
		_, refused[1] = e.Store.RevokeKey(ctx, origin, byB, policy.Revocation{Project: "prj_1", ID: a.ID})
	})
	both.Wait()
	left, by, err := a, byA, refused[1]
	if refused[0] != nil {
		left, by, err = b, byB, refused[0]
		require.NoError(t, refused[1])
	}
	requireCode(t, fault.Conflict, err)
	assert.ErrorContains(t, err, "last admin key")

	_, err = e.Store.RevokeKey(ctx, origin, by, policy.Revocation{Project: "prj_1", ID: left.ID, Force: true})
	require.NoError(t, err)
	_, c := admin("c")
	system := *c
	system.Kind = policy.KindSystem
	_, err = e.Store.RevokeKey(ctx, origin, &system, policy.Revocation{Project: "prj_1", ID: c.ID})
	require.NoError(t, err, "the system can make another")
}
