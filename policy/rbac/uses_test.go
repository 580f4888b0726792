package rbac_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/rbac"
	"github.com/promptgate/promptgate/policy/uses"
)

// told gathers what is kept.
type told struct{ all []uses.Use }

func (t *told) KeepUses(_ context.Context, batch []uses.Use) error {
	t.all = append(t.all, batch...)
	return nil
}

// noting is a checker whose uses can be asked for.
func noting(t testing.TB) (*rbac.Checker, *clock, func() map[string]string) {
	t.Helper()
	clock, keeper := &clock{now: noon}, &told{}
	log, err := uses.New(uses.Options{Keeper: keeper, Clock: clock.Now})
	require.NoError(t, err)
	checker, err := rbac.New(rbac.Options{Clock: clock.Now, Uses: log})
	require.NoError(t, err)
	return checker, clock, func() map[string]string { // who used what since the last time
		log.Tick()
		require.NoError(t, log.Flush(t.Context()))
		out := map[string]string{}
		for _, u := range keeper.all {
			require.Equal(t, "prj_1", u.Project)
			out[u.Holding] += u.Subject
		}
		keeper.all = nil
		return out
	}
}

func bnd(id, role string, prompts ...string) policy.Binding {
	return policy.Binding{ID: id, Project: "prj_1", Role: role, Prompts: prompts}
}

func TestUseIsOfWhatAllowed(t *testing.T) {
	checker, clock, used := noting(t)
	denial := bnd("bnd_deny", "editor", "a/secret")
	denial.Effect = policy.EffectDeny
	past := bnd("bnd_past", "editor", "a/**")
	past.Expires = noon.Add(-time.Hour)
	ana := &policy.Principal{
		ID: "usr_ana", Kind: policy.KindUser, Project: "prj_1", Revision: 1,
		Bindings: []policy.Binding{bnd("bnd_a", "editor", "a/**"), bnd("bnd_b", "viewer", "b/**"), denial, past},
		Groups:   []policy.Group{{ID: "grp_1", Bindings: []policy.Binding{bnd("bnd_g", "viewer", "a/**")}}},
	}
	read, write := prompt(policy.ActionRead, "a/x", ""), prompt(policy.ActionWrite, "a/x", "")
	require.True(t, check(t, checker, ana, write).Allowed)
	require.Equal(t, map[string]string{"bnd_a": "usr_ana"}, used(), "the viewer's gives no writing, the past one nothing")
	clock.Set(noon.Add(time.Minute))
	_ = used()
	require.True(t, check(t, checker, ana, read).Allowed)
	require.Equal(t, map[string]string{"bnd_a": "usr_ana", "bnd_g": "usr_ana"}, used(), "each would do alone")
	clock.Set(noon.Add(2 * time.Minute))
	_ = used()
	require.False(t, check(t, checker, ana, prompt(policy.ActionWrite, "a/secret", "")).Allowed)
	require.False(t, check(t, checker, ana, prompt(policy.ActionDelete, "a/x", "")).Allowed)
	require.Empty(t, used(), "a refusal uses nothing")

	_, err := checker.Check(policy.Suppose(t.Context()), ana, read)
	require.NoError(t, err)
	require.Empty(t, used(), "what is only asked about is not used")
	check(t, checker, ana, read)
	require.Len(t, used(), 2, "the same question for good")
	check(t, checker, ana, read)
	require.Empty(t, used(), "once a minute")
	clock.Set(noon.Add(3 * time.Minute))
	_ = used()
	check(t, checker, ana, read)
	require.Len(t, used(), 2, "from memory, too")
}

func TestUseOfKeys(t *testing.T) {
	checker, clock, used := noting(t)
	next := func() { clock.Set(clock.Now().Add(time.Minute)); _ = used() }
	read := prompt(policy.ActionRead, "a/x", "")
	call := prompt(policy.ActionCall, "a/x", "production")
	own := &policy.Principal{ID: "key_own", Kind: policy.KindKey, Project: "prj_1", Roles: []string{"viewer"}}
	check(t, checker, own, read)
	require.Equal(t, map[string]string{"key_own": "key_own"}, used())
	next()
	owner := &policy.Principal{ID: "usr_ana", Kind: policy.KindUser, Project: "prj_1", Bindings: []policy.Binding{bnd("bnd_a", "admin", "**"), bnd("bnd_b", "viewer", "b/**")}}
	key := &policy.Principal{ID: "key_p", Kind: policy.KindKey, Project: "prj_1", Revision: 1, Grants: []policy.Grant{
		{Actions: []policy.Action{policy.ActionCall}, Prompts: []string{"a/**"}},
	}}
	p := key.OwnedBy(owner)
	require.True(t, check(t, checker, p, call).Allowed)
	require.Equal(t, map[string]string{"key_p": "usr_ana", "bnd_a": "usr_ana"}, used(), "an admin could grant itself calls: by what makes it admin")
	next()
	require.False(t, check(t, checker, p, read).Allowed)
	require.Empty(t, used(), "its owner may, it may not")
	inherits := &policy.Principal{ID: "key_i", Kind: policy.KindKey, Project: "prj_1", Inherits: true}
	require.True(t, check(t, checker, inherits.OwnedBy(owner), read).Allowed)
	require.Equal(t, map[string]string{"key_i": "usr_ana", "bnd_a": "usr_ana"}, used())
	next()
	long := prompt(policy.ActionRead, "a/"+string(make([]byte, 300)), "")
	check(t, checker, own, long)
	require.Equal(t, map[string]string{"key_own": "key_own"}, used(), "a decision that is not kept in memory")
}

func TestNotingCostsNoAllocation(t *testing.T) {
	checker, _, used := noting(t)
	p := principal(1)
	want := prompt(policy.ActionCall, "team1/x", "production")
	require.True(t, check(t, checker, p, want).Allowed)
	require.Len(t, used(), 1)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = checker.Check(context.Background(), p, want)
	}))
}
