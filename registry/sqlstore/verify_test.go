package sqlstore_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/registrytest"
)

func TestVerifyNamesWhatTheJournalDoesNotSay(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		o := open(t, url)
		fill(t, o)
		ctx := t.Context()
		first := registrytest.Version("prj_1", "pmpt_2", "its first")
		_, err := o.store.CreatePrompt(ctx, by, registry.Prompt{ID: "pmpt_2", Project: "prj_1", Name: "folder/q", Kind: registry.KindChat}, &first)
		require.NoError(t, err)
		for _, to := range []int{1, 0} {
			_, err = o.store.MoveLabel(ctx, by, registry.LabelMove{Project: "prj_1", PromptID: "pmpt_2", Label: "staging", To: to})
			require.NoError(t, err)
		}
		clean, err := o.store.Verify(ctx)
		require.NoError(t, err)
		require.True(t, clean.OK(), "%q", clean.Problems)
		require.EqualValues(t, 5, clean.Versions)
		require.EqualValues(t, 2, clean.Labels)

		const where = " WHERE project = 'prj_1' AND prompt_id = 'pmpt_1'"
		for _, c := range []struct{ name, do, undo, problem string }{
			{"a digest", "UPDATE registry_versions SET digest = 'sha256:' || digest" + where + " AND number = 2",
				"UPDATE registry_versions SET digest = substr(digest, 8)" + where + " AND number = 2", "p (project prj_1), version 2: its digest is"},
			{"a label", "UPDATE registry_labels SET version = 2" + where, "UPDATE registry_labels SET version = 1" + where,
				`p (project prj_1), label "production": points at version 2, the journal says 1`},
			{"a label's target", "UPDATE registry_labels SET target_kind = 'rollout'" + where, "UPDATE registry_labels SET target_kind = ''" + where,
				`p (project prj_1), label "production": points at a rollout`},
			{"a label's history", "UPDATE registry_label_events SET from_version = 2" + where, "UPDATE registry_label_events SET from_version = 0" + where,
				`p (project prj_1), label "production": its history says that revision`},
			{"a label put in", "INSERT INTO registry_labels SELECT project, 'pmpt_2', 'staging', 1, moved_at, revision, '' FROM registry_labels" + where,
				"DELETE FROM registry_labels WHERE prompt_id = 'pmpt_2'", `folder/q (project prj_1), label "staging": points at version 1, the journal says that it is not set`},
			{"a version put in", "INSERT INTO registry_versions SELECT project, prompt_id, 9, digest, author, parent, content, note, created_at, revision FROM registry_versions" + where + " AND number = 1",
				"DELETE FROM registry_versions" + where + " AND number = 9", "p (project prj_1), version 9: no event of the journal made it"},
			{"a content", "UPDATE registry_versions SET content = note" + where + " AND number = 1", "", "p (project prj_1), version 1: its content does not open"},
			{"a version taken out", "DELETE FROM registry_versions" + where + " AND number = 1", "", "p (project prj_1), version 1: is gone"},
			{"a label taken out", "DELETE FROM registry_labels" + where, "", `p (project prj_1), label "production": is gone`},
			{"a history taken out", "DELETE FROM registry_label_events" + where, "", `p (project prj_1), label "production": its history lacks revision`},
		} {
			_, err := o.db.ExecContext(ctx, c.do)
			require.NoError(t, err, c.name)
			got, err := o.store.Verify(ctx)
			require.NoError(t, err)
			require.NotZero(t, got.Found, c.name)
			require.Contains(t, join(got.Problems), c.problem, c.name)
			if c.undo != "" {
				_, err = o.db.ExecContext(ctx, c.undo)
				require.NoError(t, err)
			}
		}
		_, err = o.journal.Shred(ctx, journal.Origin{}, "prj_1", "prompt:pmpt_1")
		require.NoError(t, err)
		got, err := o.store.Verify(ctx)
		require.NoError(t, err)
		require.True(t, got.OK(), "what the journal tells no more is not judged: %q", got.Problems)
		require.NotZero(t, got.Shredded)
	})
}

// before runs once, ahead of the first query that reads a table.
type before struct {
	table string
	do    func()
}

func (b *before) BeforeQuery(ctx context.Context, q *bun.QueryEvent) context.Context {
	if do := b.do; do != nil && strings.Contains(q.Query, b.table) {
		b.do = nil
		do()
	}
	return ctx
}

func (b *before) AfterQuery(context.Context, *bun.QueryEvent) {}

// A gateway that writes beside it is no difference: what changed since the journal was read is left to the next run.
func TestVerifyRunsBesideAGateway(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		o := open(t, url)
		fill(t, o)
		change := &before{table: `"registry_prompts"`}
		o.db.DB = o.db.WithQueryHook(change) // the store's too
		for _, do := range []func() error{
			func() error {
				_, err := o.store.AddVersion(t.Context(), by, registrytest.Version("prj_1", "pmpt_1", "meanwhile"))
				return err
			},
			func() error {
				_, err := o.store.MoveLabel(t.Context(), by, registry.LabelMove{Project: "prj_1", PromptID: "pmpt_1", Label: "production", To: 2})
				return err
			},
		} {
			change.do = func() { require.NoError(t, do()) }
			got, err := o.store.Verify(t.Context())
			require.NoError(t, err)
			require.Nil(t, change.do, "nothing changed meanwhile")
			require.True(t, got.OK(), "%q", got.Problems)
		}
	})
}

// However much differs, a bounded part of it is named and all of it is counted.
func TestVerifyNamesNoMoreThanCanBeRead(t *testing.T) {
	o := open(t, testenv.SQLite(t))
	fill(t, o)
	_, err := o.db.ExecContext(t.Context(), `INSERT INTO registry_labels WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 150)
		SELECT project, prompt_id, 'l' || i, 1, moved_at, revision, '' FROM registry_labels, n WHERE project = 'prj_1'`)
	require.NoError(t, err)
	got, err := o.store.Verify(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 150, got.Found)
	require.Len(t, got.Problems, 100)
}

func join(lines []string) (all string) {
	for _, l := range lines {
		all += l + "\n"
	}
	return all
}

func TestAnotherDigestIsNotServed(t *testing.T) {
	o := open(t, testenv.SQLite(t))
	fill(t, o)
	resolver, err := registry.NewResolver(o.store, o.journal, registry.ResolverOptions{})
	require.NoError(t, err)
	require.NoError(t, o.journal.Load(t.Context()))
	_, err = o.db.ExecContext(t.Context(), `UPDATE registry_versions SET digest = (SELECT v.digest FROM registry_versions AS v
		WHERE v.project = 'prj_1' AND v.number = 2) WHERE project = 'prj_1' AND number = 1`)
	require.NoError(t, err)
	_, err = o.store.VersionOf(t.Context(), "prj_1", "pmpt_1", 1)
	require.Equal(t, fault.RegistryUnavailable, fault.CodeOf(err))
	_, _, err = o.store.ListVersions(t.Context(), "prj_1", "pmpt_1", registry.Page{})
	require.Equal(t, fault.RegistryUnavailable, fault.CodeOf(err))
	p, err := resolver.Identify(t.Context(), "prj_1", "p")
	require.NoError(t, err)
	_, err = resolver.Resolve(t.Context(), p, registry.Selector{Kind: registry.SelectLabel, Label: "production"})
	require.Equal(t, fault.RegistryUnavailable, fault.CodeOf(err))
	require.ErrorContains(t, err, "is not what was saved")
}
