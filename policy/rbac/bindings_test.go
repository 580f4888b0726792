package rbac_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/rbac"
)

func user(revision int64, bindings ...policy.Binding) *policy.Principal {
	for i := range bindings {
		bindings[i].ID = fmt.Sprint("bnd_", i)
		if len(bindings[i].Prompts)+len(bindings[i].Models) == 0 {
			bindings[i].Prompts = []string{"**"} // as Validate leaves it
		}
	}
	return &policy.Principal{ID: "usr_1", Kind: policy.KindUser, Project: "prj", Bindings: bindings, Revision: revision}
}

func TestBindings(t *testing.T) {
	c, clock := newChecker(t)
	p := user(1,
		policy.Binding{Role: "editor", Prompts: []string{"support/**"}},
		policy.Binding{Role: "promoter", Actions: []policy.Action{policy.ActionMoveLabel, policy.ActionCall}, Prompts: []string{"finance/*"}, Labels: []string{"staging"}},
		policy.Binding{Role: "editor", Effect: policy.EffectDeny, Prompts: []string{"support/secret/**"}},
		policy.Binding{Role: "caller", Actions: []policy.Action{policy.ActionCall}, Models: []string{"gpt-*"}, Expires: noon.Add(time.Hour)},
		policy.Binding{Role: "caller", Actions: []policy.Action{policy.ActionCall}, Prompts: []string{"open/**"}},
	)
	for want, ok := range map[policy.Permission]bool{
		prompt(policy.ActionWrite, "support/a", ""):                      true,
		prompt(policy.ActionRead, "support/a", policy.LabelVersion):      true,
		prompt(policy.ActionWrite, "support/secret/a", ""):               false,
		prompt(policy.ActionRead, "support/secret/a", ""):                false,
		prompt(policy.ActionCall, "support/a", "production"):             false, // no role may call
		prompt(policy.ActionMoveLabel, "finance/a", "staging"):           true,
		prompt(policy.ActionMoveLabel, "finance/a", "production"):        false,
		prompt(policy.ActionCall, "finance/a/b", "staging"):              false,
		prompt(policy.ActionCall, "open/a", "production"):                true,
		prompt(policy.ActionCall, "open/a", policy.LabelVersion):         false, // no pattern implies it
		model("gpt-4o", policy.LabelModel):                               true,
		model("o3", policy.LabelModel):                                   false,
		system(policy.ActionManageKeys):                                  false,
		{Action: policy.ActionManageAccounts, Kind: policy.ObjectSystem}: false,
	} {
		assert.Equal(t, ok, check(t, c, p, want).Allowed, "%s", want.Describe())
	}
	clock.Set(noon.Add(time.Hour))
	assert.False(t, check(t, c, p, model("gpt-4o", policy.LabelModel)).Allowed, "the binding has ended")

	operator := &policy.Principal{ID: "usr_2", Kind: policy.KindUser, Grants: []policy.Grant{policy.OperatorGrant()}, Revision: 2}
	assert.True(t, check(t, c, operator, system(policy.ActionManageAccounts)).Allowed)
	assert.False(t, check(t, c, operator, system(policy.ActionManageUsers)).Allowed, "an operator is nobody's admin")
}

// A key of somebody's may do what both may; an admin's key may be granted calls, though the role holds none.
func TestKeysOfOwners(t *testing.T) {
	c, _ := newChecker(t)
	made := int64(100)
	key := func(owner *policy.Principal, roles []string, grants ...policy.Grant) *policy.Principal {
		made++
		p := &policy.Principal{ID: "key_1", Kind: policy.KindKey, Project: "prj", Roles: roles, Grants: grants, Revision: made, Inherits: len(roles)+len(grants) == 0}
		return p.OwnedBy(owner)
	}
	call := policy.Grant{Actions: []policy.Action{policy.ActionCall}, Prompts: []string{"**"}}
	admin := user(1, policy.Binding{Role: "admin"})
	editor := user(2, policy.Binding{Role: "editor", Prompts: []string{"support/**"}})
	callIt, write := prompt(policy.ActionCall, "support/a", "production"), prompt(policy.ActionWrite, "support/a", "")
	assert.True(t, check(t, c, key(admin, nil, call), callIt).Allowed)
	assert.False(t, check(t, c, key(editor, nil, call), callIt).Allowed, "the owner was an admin once")
	assert.True(t, check(t, c, key(editor, []string{"admin"}), write).Allowed)
	assert.False(t, check(t, c, key(editor, []string{"admin"}), system(policy.ActionManageKeys)).Allowed)
	assert.False(t, check(t, c, key(editor, []string{"viewer"}), write).Allowed)
	assert.True(t, check(t, c, key(editor, nil), write).Allowed, "it inherits")
	assert.False(t, check(t, c, key(editor, nil), prompt(policy.ActionWrite, "finance/a", "")).Allowed)
	demoted := user(3, policy.Binding{Role: "viewer", Prompts: []string{"support/**"}})
	assert.False(t, check(t, c, key(demoted, nil), write).Allowed, "what its owner lost, it lost")
}

// Holds, which delegation goes by, never says more than the checker allows, for keys of any owner.
func TestHoldsAgreesWithTheChecker(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, err := rbac.New(rbac.Options{Clock: func() time.Time { return noon }})
		require.NoError(t, err)
		bindings := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) policy.Binding {
			b := policy.Binding{
				Role:    rapid.SampledFrom([]string{"admin", "editor", "viewer", "caller"}).Draw(t, "role"),
				Effect:  rapid.SampledFrom([]string{policy.EffectAllow, policy.EffectAllow, policy.EffectDeny}).Draw(t, "effect"),
				Prompts: []string{rapid.SampledFrom([]string{"**", "a/**", "a/*", "a/b"}).Draw(t, "pattern")},
				Labels:  orNone(rapid.SliceOfN(rapid.SampledFrom([]string{"production", "staging"}), 0, 1).Draw(t, "labels")),
			}
			if b.Role == "caller" {
				b.Actions = []policy.Action{policy.ActionCall, policy.ActionRead}
			}
			return b
		}), 0, 3).Draw(t, "bindings")
		owner := user(1, bindings...)
		p := (&policy.Principal{ID: "key_1", Kind: policy.KindKey, Project: "prj", Revision: 2, Inherits: rapid.Bool().Draw(t, "inherits")})
		if !p.Inherits {
			p.Roles = rapid.SliceOfN(rapid.SampledFrom([]string{"admin", "editor:a/**", "viewer"}), 0, 2).Draw(t, "roles")
			p.Grants = rapid.SliceOfN(rapid.Custom(drawGrant), 0, 2).Draw(t, "grants")
		}
		p = p.OwnedBy(owner)
		held, err := p.Holds(noon)
		require.NoError(t, err)
		for range 20 {
			want := drawQuestion(t)
			if want.Label == policy.LabelAny {
				continue // asked without a label, a rule for one label answers
			}
			allowed, denied := false, false
			for _, r := range held {
				if r.Matches(want) {
					allowed, denied = allowed || !r.Deny, denied || r.Deny
				}
			}
			d, err := c.Check(context.Background(), p, want)
			require.NoError(t, err)
			if allowed && !denied && !d.Allowed && len(owner.AdminRules(noon))+len(p.AdminRules(noon)) == 0 { // an admin hands out more than it holds
				t.Fatalf("holds %s, which the checker refuses", want.Describe())
			}
		}
	})
}
