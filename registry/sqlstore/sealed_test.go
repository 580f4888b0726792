package sqlstore_test

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/registrytest"
)

var by = registrytest.By("")

// fill makes two projects, each with prompt "p" of two versions.
func fill(t testing.TB, o opened) {
	t.Helper()
	ctx := t.Context()
	for _, project := range []string{"prj_1", "prj_2"} {
		_, err := o.store.CreateProject(ctx, by, registry.Project{ID: project, Name: project[4:], DefaultLabel: "production"})
		require.NoError(t, err)
		// The ids are the same on purpose: only the project tells the rows apart.
		_, err = o.store.CreatePrompt(ctx, by, registry.Prompt{ID: "pmpt_1", Project: project, Name: "p", Kind: registry.KindChat}, nil)
		require.NoError(t, err)
		for _, text := range []string{"canary-text-one", "canary-text-two"} {
			_, err = o.store.AddVersion(ctx, by, registrytest.Version(project, "pmpt_1", text))
			require.NoError(t, err)
		}
		_, err = o.store.MoveLabel(ctx, by, registry.LabelMove{Project: project, PromptID: "pmpt_1", Label: "production", To: 1})
		require.NoError(t, err)
	}
}

func TestTextIsSealed(t *testing.T) {
	url := testenv.SQLite(t)
	o := open(t, url)
	fill(t, o)
	_, err := o.db.ExecContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)")
	require.NoError(t, err)
	raw, err := os.ReadFile(strings.TrimPrefix(url, "sqlite:"))
	require.NoError(t, err)
	require.True(t, bytes.Contains(raw, []byte("pmpt_1")), "this is the file")
	require.False(t, bytes.Contains(raw, []byte("canary")), "texts and notes are not in it")
}

// A sealed row opens at its own place only.
func TestMovedRowsDoNotOpen(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		o := open(t, url)
		fill(t, o)
		for what, statement := range map[string]string{
			"another project's": `UPDATE registry_versions SET content = (SELECT v.content FROM registry_versions AS v
				WHERE v.project = 'prj_2' AND v.number = 1) WHERE project = 'prj_1' AND number = 1`,
			"another version's": `UPDATE registry_versions SET content = (SELECT v.content FROM registry_versions AS v
				WHERE v.project = 'prj_1' AND v.number = 2) WHERE project = 'prj_1' AND number = 1`,
			"another column's": `UPDATE registry_versions SET content = note WHERE project = 'prj_1' AND number = 1`,
		} {
			_, err := o.db.ExecContext(t.Context(), statement)
			require.NoError(t, err)
			_, err = o.store.VersionOf(t.Context(), "prj_1", "pmpt_1", 1)
			require.Equal(t, fault.RegistryUnavailable, fault.CodeOf(err), what)
			require.NotContains(t, err.Error(), "canary")
		}
		_, err := o.store.VersionOf(t.Context(), "prj_1", "pmpt_1", 2)
		require.NoError(t, err)
	})
}

// Whatever is wrong with the database, nothing is "not found".
func TestLostDatabaseIsUnavailable(t *testing.T) {
	o := open(t, testenv.SQLite(t))
	fill(t, o)
	reads := map[string]func(context.Context) error{
		"project": func(ctx context.Context) error { _, err := o.store.ProjectByID(ctx, "prj_1"); return err },
		"prompt":  func(ctx context.Context) error { _, err := o.store.PromptByHandle(ctx, "prj_1", "p"); return err },
		"label": func(ctx context.Context) error {
			_, err := o.store.LabelOf(ctx, "prj_1", "pmpt_1", "production")
			return err
		},
		"latest": func(ctx context.Context) error {
			_, err := o.store.LabelOf(ctx, "prj_1", "pmpt_1", "latest")
			return err
		},
		"version": func(ctx context.Context) error { _, err := o.store.VersionOf(ctx, "prj_1", "pmpt_1", 1); return err },
		"prompts": func(ctx context.Context) error {
			_, _, err := o.store.ListPrompts(ctx, "prj_1", registry.PromptFilter{}, registry.Page{})
			return err
		},
		"versions": func(ctx context.Context) error {
			_, _, err := o.store.ListVersions(ctx, "prj_1", "pmpt_1", registry.Page{})
			return err
		},
		"labels": func(ctx context.Context) error { _, err := o.store.ListLabels(ctx, "prj_1", "pmpt_1"); return err },
		"history": func(ctx context.Context) error {
			_, _, err := o.store.LabelHistory(ctx, "prj_1", "pmpt_1", "", registry.Page{})
			return err
		},
	}
	require.NoError(t, reads["prompt"](t.Context()))
	late, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	for name, read := range reads {
		require.Equal(t, fault.RegistryUnavailable, fault.CodeOf(read(late)), name)
	}
	for _, table := range []string{"projects", "prompts", "labels", "versions", "label_events"} {
		_, err := o.db.ExecContext(t.Context(), "ALTER TABLE registry_"+table+" RENAME TO lost_"+table)
		require.NoError(t, err)
	}
	for name, read := range reads {
		require.Equal(t, fault.RegistryUnavailable, fault.CodeOf(read(t.Context())), name)
	}
	require.NoError(t, o.db.Close())
	for name, read := range reads {
		require.Equal(t, fault.RegistryUnavailable, fault.CodeOf(read(t.Context())), name)
	}
}
