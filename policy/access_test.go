package policy_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

// ruled decides by the rules themselves.
type ruled struct{ err error }

func (r ruled) Check(_ context.Context, p *policy.Principal, want policy.Permission) (policy.Decision, error) {
	rules, err := p.Rules()
	d := policy.Decision{Missing: want.Describe()}
	for _, rule := range rules {
		d.Holds = d.Holds || rule.MatchesObject(want.Kind, want.Name)
		d.Allowed = d.Allowed || rule.Matches(want)
	}
	return d, errors.Join(err, r.err)
}

func holding(actions ...policy.Action) *policy.Principal {
	return &policy.Principal{Grants: []policy.Grant{{Actions: actions, Prompts: []string{"mine/**"}}}}
}

// What a caller is told depends on what it names and may know of, never on what else there is.
func TestDecide(t *testing.T) {
	read := policy.Permission{Action: policy.ActionRead, Kind: policy.ObjectPrompt}
	for name, c := range map[string]struct {
		named policy.Named
		who   *policy.Principal
		want  policy.Verdict
		lacks string
	}{
		"by name":                        {policy.Named{Spelled: "mine/x", Current: "mine/x"}, holding(policy.ActionRead), policy.Granted, ""},
		"by id":                          {policy.Named{Spelled: "pmpt_1", Current: "mine/x"}, holding(policy.ActionRead), policy.Granted, ""},
		"by a name from elsewhere":       {policy.Named{Spelled: "secret/x", Current: "mine/x"}, holding(policy.ActionRead), policy.Granted, ""},
		"not there":                      {policy.Named{Spelled: "mine/x"}, holding(policy.ActionRead), policy.Unseen, ""},
		"not there, and not allowed":     {policy.Named{Spelled: "mine/x"}, holding(policy.ActionCall), policy.Refused, "read on mine/x"},
		"another's":                      {policy.Named{Spelled: "secret/x", Current: "secret/x"}, holding(policy.ActionRead), policy.Unseen, ""},
		"another's, not there":           {policy.Named{Spelled: "secret/x"}, holding(policy.ActionRead), policy.Unseen, ""},
		"another's by id":                {policy.Named{Spelled: "pmpt_1", Current: "secret/x"}, holding(policy.ActionRead), policy.Unseen, ""},
		"holds something":                {policy.Named{Spelled: "mine/x", Current: "mine/x"}, holding(policy.ActionCall), policy.Refused, "read on mine/x"},
		"moved away":                     {policy.Named{Spelled: "mine/x", Current: "secret/x"}, holding(policy.ActionRead), policy.Unseen, ""},
		"moved away, and was not one's":  {policy.Named{Spelled: "mine/x", Current: "secret/x"}, holding(policy.ActionCall), policy.Refused, "read on mine/x"},
		"moved here, but not to be read": {policy.Named{Spelled: "secret/x", Current: "mine/x"}, holding(policy.ActionCall), policy.Refused, "read on mine/x"},
	} {
		t.Run(name, func(t *testing.T) {
			verdict, d, err := policy.Decide(t.Context(), ruled{}, c.who, read, c.named)
			require.NoError(t, err)
			require.Equal(t, c.want, verdict)
			if c.lacks != "" {
				require.Equal(t, c.lacks, d.Missing, "names what was asked for, never where it went")
			}
		})
	}
	down := fault.New(fault.RegistryUnavailable, "down")
	verdict, _, err := policy.Decide(t.Context(), ruled{down}, holding(policy.ActionRead), read, policy.Named{Spelled: "mine/x", Current: "mine/x"})
	require.ErrorIs(t, err, down)
	require.Equal(t, policy.Unseen, verdict, "no answer is no permission")
}

func TestComesFrom(t *testing.T) {
	p := &policy.Principal{Networks: []string{"10.0.0.0/8"}}
	require.NoError(t, p.Compile())
	for remote, allowed := range map[string]bool{
		"10.1.2.3:5": true, "[::ffff:10.1.2.3]:5": true, "11.1.2.3:5": false, "10.1.2.3": false, "": false, "@": false, "[fe80::1%eth0]:5": false,
	} {
		err := p.ComesFrom(remote)
		require.Equal(t, allowed, err == nil, remote)
		if !allowed {
			require.True(t, fault.Is(err, fault.PermissionDenied))
		}
		require.NoError(t, (&policy.Principal{}).ComesFrom(remote))
	}
}

// Reading all stands for reading under each label; a grant by label is told by label.
func TestDifferences(t *testing.T) {
	grant := func(prompts string, labels []string, actions ...policy.Action) policy.Grant {
		return policy.Grant{Actions: actions, Prompts: []string{prompts}, Labels: labels}
	}
	p := &policy.Principal{Grants: []policy.Grant{
		grant("a/**", []string{"production"}, policy.ActionRead), grant("b/**", nil, policy.ActionRead),
		grant("a/x", []string{"production"}, policy.ActionCall), grant("b/**", nil, policy.ActionWrite),
	}}
	tell := func(from, to string) (gained, lost []string) {
		g, l, err := policy.Differences(t.Context(), ruled{}, p, policy.Renaming{From: from, To: to, Labels: []string{"production", "staging"}})
		require.NoError(t, err)
		for _, want := range g {
			gained = append(gained, want.Describe())
		}
		for _, want := range l {
			lost = append(lost, want.Describe())
		}
		return gained, lost
	}
	gained, lost := tell("a/x", "b/x")
	require.Equal(t, []string{"read on b/x@version", "write on b/x"}, gained)
	require.Equal(t, []string{"call on a/x@production"}, lost)
	gained, lost = tell("a/x", "c/x")
	require.Empty(t, gained)
	require.Equal(t, []string{"read on a/x@production", "call on a/x@production"}, lost)
}
