package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/internal/authentic"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/template"
)

// seed is a data folder, and those of its prompts and keys that are used.
type seed struct {
	data    string
	prompts []string // names
	keys    []string
}

// seeded makes a folder with so many prompts, each with a version and a label, and so many keys. The prompts that are called are made as
// anybody would, the others are copies of their rows. All keys are real.
func seeded(b *testing.B, prompts, keys int) *seed {
	b.Helper()
	cfg := configs.Default()
	cfg.Data = b.TempDir()
	s, err := openStores(b.Context(), cfg, slog.New(slog.NewTextHandler(io.Discard, nil)), nil, false)
	require.NoError(b, err)
	defer s.close()
	by := journal.Origin{Actor: journal.Actor{Kind: policy.KindSystem, ID: "bench", Name: "bench"}, Why: "benchmark"}
	project, err := s.ensureProject(b.Context(), by, "bench")
	require.NoError(b, err)
	out := &seed{data: cfg.Data}
	for i := range min(prompts, hotPrompts) {
		out.prompts = append(out.prompts, seedPrompt(b, s, by, project.ID, i))
	}
	copyPrompts(b, s, project.ID, prompts-len(out.prompts))
	out.keys = seedKeys(b, s, by, project.ID, keys)
	tellRows(b, s, by)
	return out
}

// tellRows has the journal tell of all rows that were put in beside it, or nobody would believe them.
func tellRows(b *testing.B, s *stores, by journal.Origin) {
	b.Helper()
	told, err := s.feed.History(b.Context(), s.db.DB)
	require.NoError(b, err)
	coder := authentic.NewCoder(s.db.DB, nil)
	var rows []any
	for _, model := range decidingTables() {
		all := reflect.New(reflect.SliceOf(reflect.TypeOf(model).Elem()))
		require.NoError(b, s.db.NewSelect().Model(all.Interface()).Scan(b.Context()))
		for i := range all.Elem().Len() {
			row := all.Elem().Index(i).Addr().Interface()
			w, err := coder.Key(row)
			require.NoError(b, err)
			if !told.Told(w) {
				rows = append(rows, row)
			}
		}
	}
	for some := range slices.Chunk(rows, 1000) {
		ev := journal.Event{Origin: by, Action: "bench.seed", Object: "bench:rows"}
		ev.Adds(some...)
		_, err := s.feed.Change(b.Context(), &ev, func(context.Context, bun.Tx) error { return nil })
		require.NoError(b, err)
	}
}

func seedPrompt(b *testing.B, s *stores, by journal.Origin, project string, i int) string {
	b.Helper()
	name := fmt.Sprintf("bench/f%d/p%d", i%50, i)
	text := "You are a support assistant of {{shop}}. Answer in a friendly, short and precise way, never invent order data, and ask for the order number when it is missing."
	p, err := s.service.CreatePrompt(b.Context(), by, registry.PromptInput{Project: project, Name: name, Owner: "bench", First: &registry.FirstVersion{
		Content: template.Content{
			Model: "gpt-4o-mini", Messages: []template.Message{{Role: "system", Text: text}}, Variables: map[string]template.Variable{"shop": {Required: true}},
		},
	}})
	require.NoError(b, err)
	_, err = s.service.MoveLabel(b.Context(), by, registry.LabelMove{Project: project, PromptID: p.ID, Label: registry.DefaultLabel, To: 1})
	require.NoError(b, err)
	return name
}

// copyPrompts adds n prompts that nobody calls. The sealed text of their versions could not be opened, being bound to its own row.
func copyPrompts(b *testing.B, s *stores, project string, n int) {
	b.Helper()
	if n <= 0 {
		return
	}
	const copies = `WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < ?), t AS (SELECT * FROM %s LIMIT 1) `
	insert := func(query string, args ...any) {
		_, err := s.db.DB.DB.ExecContext(b.Context(), query, args...)
		require.NoError(b, err)
	}
	insert(fmt.Sprintf(copies, "registry_prompts")+`INSERT INTO registry_prompts
		SELECT project, 'pmpt_copy' || i, 'copy/f' || (i % 50) || '/p' || i, kind, description, category, tags, owner, archived, latest_version, variables,
			aliases, search, created_at, updated_at, revision FROM t, c`, n)
	insert(fmt.Sprintf(copies, "registry_labels")+`INSERT INTO registry_labels
		SELECT project, 'pmpt_copy' || i, name, version, moved_at, revision FROM t, c`, n)
	insert(fmt.Sprintf(copies, "registry_versions")+`INSERT INTO registry_versions
		SELECT project, 'pmpt_copy' || i, number, digest, author, parent, content, note, created_at, revision FROM t, c`, n)
	insert(`INSERT INTO registry_handles SELECT project, name, id, 'name' FROM registry_prompts WHERE id LIKE 'pmpt_copy%' AND project = ?`, project)
	insert(`INSERT INTO registry_handles SELECT project, id, id, 'id' FROM registry_prompts WHERE id LIKE 'pmpt_copy%' AND project = ?`, project)
}

// seedKeys makes one key as anybody would, the others as its rows with hashes of their own. It returns those that are used.
func seedKeys(b *testing.B, s *stores, by journal.Origin, project string, n int) []string {
	b.Helper()
	secret, id, err := s.createKey(b.Context(), by, project, admin.KeyCreate{Name: "bench", Grants: []policy.Grant{
		{Actions: []policy.Action{policy.ActionCall}, Prompts: []string{"bench/**"}, Labels: []string{registry.DefaultLabel}},
	}})
	require.NoError(b, err)
	keys := []string{secret}
	const batch = 500
	for n--; n > 0; n -= batch {
		rows, args := []string{}, []any{}
		for range min(n, batch) {
			k, err := s.hasher.Issue(rand.Reader)
			require.NoError(b, err)
			rows = append(rows, "(?, ?, ?)")
			args = append(args, k.Lookup, k.Hash, k.LastFour)
			if len(keys) < hotKeys {
				keys = append(keys, k.Plaintext)
			}
		}
		_, err := s.db.DB.DB.ExecContext(context.Background(), `WITH k (lookup, hash, four) AS (VALUES `+strings.Join(rows, ", ")+`)
			INSERT INTO policy_keys SELECT 'key_' || k.lookup, p.project, p.name, k.lookup, k.hash, k.four, p.roles, p.grants, p.networks, p.expires_at,
				p.created_by, p.created_at, p.revoked_at, p.revision FROM k, policy_keys AS p WHERE p.id = ?`, append(args, id)...)
		require.NoError(b, err)
	}
	return keys
}
