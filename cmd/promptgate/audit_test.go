package main

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/template"
)

func TestAuditNamesAnEditedRow(t *testing.T) {
	cfg := configs.Default()
	cfg.Data = t.TempDir()
	s, err := openStores(t.Context(), cfg, slog.New(slog.DiscardHandler), nil, false)
	require.NoError(t, err)
	t.Cleanup(s.close)
	p, err := s.ensureProject(t.Context(), stage, "shop")
	require.NoError(t, err)
	_, err = s.service.CreatePrompt(t.Context(), stage, registry.PromptInput{Project: p.ID, Name: "support/triage", First: &registry.FirstVersion{
		Content: template.Content{Messages: []template.Message{{Role: "user", Text: "Hello"}}},
	}})
	require.NoError(t, err)

	out, errOut, code := runHere(t, "audit", "verify", "--data", cfg.Data)
	require.Zero(t, code, errOut)
	require.Contains(t, out, "the rows are what the journal says")

	_, err = s.db.ExecContext(t.Context(), "UPDATE registry_versions SET digest = 'sha256:0'")
	require.NoError(t, err)
	out, errOut, code = runHere(t, "audit", "verify", "--data", cfg.Data)
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "support/triage")
	require.Contains(t, out, `version 1: its digest is "sha256:0"`)
	require.Contains(t, errOut, "1 difference(s)")

	_, err = s.db.ExecContext(t.Context(), "UPDATE journal_events SET why = 'forged' WHERE revision = 1")
	require.NoError(t, err)
	out, errOut, code = runHere(t, "audit", "verify", "--data", cfg.Data)
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "revision 1: edited")
	require.Contains(t, errOut, "were not compared")
}
