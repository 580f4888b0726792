package main

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/template"
)

// gated is a program's stores with one prompt, support/x, which production points at.
type gated struct {
	*stores
	t       *testing.T
	project string
	prompt  registry.Prompt
}

func openGated(t *testing.T) gated {
	t.Helper()
	cfg := configs.Default()
	cfg.Data = t.TempDir()
	s, err := openStores(t.Context(), cfg, slog.New(slog.DiscardHandler), nil, false)
	require.NoError(t, err)
	t.Cleanup(s.close)
	require.NoError(t, s.load(t.Context()))
	p, err := s.service.CreateProject(t.Context(), stage, registry.ProjectInput{Name: "shop"})
	require.NoError(t, err)
	made, err := s.service.CreatePrompt(t.Context(), stage, registry.PromptInput{
		Project: p.ID, Name: "support/x", First: &registry.FirstVersion{Content: template.Content{Messages: []template.Message{{Role: "user", Text: "one"}}}},
	})
	require.NoError(t, err)
	_, err = s.service.MoveLabel(t.Context(), stage, registry.LabelMove{Project: p.ID, PromptID: made.ID, Label: "production", To: 1})
	require.NoError(t, err)
	return gated{s, t, p.ID, made}
}

// key is the origin of changes by a new key.
func (g gated) key(grants ...policy.Grant) journal.Origin {
	g.t.Helper()
	_, id, err := g.createKey(g.t.Context(), stage, g.project, admin.KeyCreate{Name: "k", Grants: grants})
	require.NoError(g.t, err)
	return journal.Origin{Actor: journal.Actor{Kind: policy.KindKey, ID: id, Name: "k"}}
}

func (g gated) rename(by journal.Origin, to string) error {
	_, err := g.service.UpdatePrompt(g.t.Context(), by, registry.PromptUpdate{
		Project: g.project, ID: g.prompt.ID, Revision: registry.AnyRevision, Name: &to,
	})
	return err
}

func (g gated) move(by journal.Origin, label string) error {
	_, err := g.service.MoveLabel(g.t.Context(), by, registry.LabelMove{Project: g.project, PromptID: g.prompt.ID, Label: label, To: 1})
	return err
}

func can(prompts string, labels []string, actions ...policy.Action) policy.Grant {
	return policy.Grant{Actions: actions, Prompts: []string{prompts}, Labels: labels}
}

// A request was authorized, then the prompt was moved where its key has no rights, or the key was revoked: the change does not happen.
func TestGateSeesWhatChangedSinceTheRequest(t *testing.T) {
	g := openGated(t)
	by := g.key(can("support/**", nil, policy.ActionRead, policy.ActionWrite, policy.ActionMoveLabel))
	require.NoError(t, g.move(by, "staging"))
	require.NoError(t, g.rename(stage, "secret/x"))
	for _, err := range []error{g.move(by, "canary"), g.rename(by, "support/y")} {
		require.True(t, fault.Is(err, fault.PromptNotFound), "%v", err)
		require.NotContains(t, err.Error(), "secret", "who lost sight of it is not told where it is")
	}
	require.NoError(t, g.rename(stage, "support/z"))
	require.NoError(t, g.move(by, "canary"))
	_, err := g.keys.RevokeKey(t.Context(), stage, &policy.Principal{Kind: policy.KindSystem}, policy.Revocation{Project: g.project, ID: by.Actor.ID})
	require.NoError(t, err)
	require.True(t, fault.Is(g.move(by, "other"), fault.PermissionDenied))
	by.Actor.ID = "key_nobody"
	require.True(t, fault.Is(g.move(by, "other"), fault.PermissionDenied))
}

// A rename needs the rights at both ends, over what moves along too, and gives nobody what the old name did not.
func TestRenameNeedsRightsAtBothEnds(t *testing.T) {
	all := []policy.Action{policy.ActionRead, policy.ActionWrite, policy.ActionMoveLabel}
	write := policy.ActionWrite
	deny := func(g policy.Grant) policy.Grant { g.Effect = policy.EffectDeny; return g }
	for name, c := range map[string]struct {
		grants []policy.Grant
		lacks  string // "": allowed
	}{
		"all at both ends":            {[]policy.Grant{can("support/**", nil, all...), can("mine/**", nil, all...)}, ""},
		"cannot read the source":      {[]policy.Grant{can("support/**", nil, write, policy.ActionMoveLabel), can("mine/**", nil, all...)}, "read on support/x"},
		"cannot write the target":     {[]policy.Grant{can("support/**", nil, all...), can("mine/**", nil, policy.ActionRead)}, "write on mine/x"},
		"cannot read the target":      {[]policy.Grant{can("support/**", nil, all...), can("mine/**", nil, write, policy.ActionMoveLabel)}, "read on mine/x"},
		"labels cannot arrive":        {[]policy.Grant{can("support/**", nil, all...), can("mine/**", nil, policy.ActionRead, write)}, "move_label on mine/x@production"},
		"another label could arrive":  {[]policy.Grant{can("support/**", nil, all...), can("mine/**", nil, policy.ActionRead, write), can("mine/**", []string{"dev"}, policy.ActionMoveLabel)}, "move_label on mine/x@production"},
		"labels cannot leave":         {[]policy.Grant{can("support/**", nil, policy.ActionRead, write), can("mine/**", nil, all...)}, "move_label on support/x@production"},
		"denied at the target":        {[]policy.Grant{can("**", nil, all...), deny(can("mine/**", nil, policy.ActionMoveLabel))}, "move_label on mine/x@production"},
		"would be called":             {[]policy.Grant{can("**", nil, all...), can("mine/**", nil, policy.ActionCall)}, "call on mine/x@production"},
		"would be called by number":   {[]policy.Grant{can("**", nil, all...), can("mine/**", []string{"@version"}, policy.ActionCall)}, "call on mine/x@version"},
		"would be reviewed":           {[]policy.Grant{can("**", nil, all...), can("mine/**", nil, policy.ActionReview)}, "review on mine/x"},
		"may do more where it stands": {[]policy.Grant{can("**", nil, all...), can("support/**", nil, policy.ActionCall)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := openGated(t)
			err := g.rename(g.key(c.grants...), "mine/x")
			if c.lacks == "" {
				require.NoError(t, err)
				return
			}
			require.True(t, fault.Is(err, fault.PermissionDenied), "%v", err)
			require.Contains(t, err.Error(), c.lacks)
			p, err := g.service.Prompt(t.Context(), g.project, g.prompt.ID)
			require.NoError(t, err)
			require.Equal(t, "support/x", p.Name)
		})
	}
}
