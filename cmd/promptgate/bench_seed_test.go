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
func seeded(b testing.TB, prompts, keys int) *seed {
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
	copyPrompts(b, s, prompts-len(out.prompts))
	out.keys = seedKeys(b, s, by, project.ID, keys)
	tellRows(b, s, by)
	return out
}

// tellRows has the journal tell of all rows that were put in beside it, or nobody would believe them.
func tellRows(b testing.TB, s *stores, by journal.Origin) {
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

func seedPrompt(b testing.TB, s *stores, by journal.Origin, project string, i int) string {
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
func copyPrompts(b testing.TB, s *stores, n int) {
	b.Helper()
	if n <= 0 {
		return
	}
	copies := func(table string, changed map[string]string, from string, args ...any) {
		names, values := copied(b, s, table, changed)
		_, err := s.db.DB.DB.ExecContext(b.Context(), fmt.Sprintf("%s INSERT INTO %s (%s) SELECT %s FROM t, c", fmt.Sprintf(from, table), table, names, values), args...)
		require.NoError(b, err)
	}
	const first = `WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < ?), t AS (SELECT * FROM %s LIMIT 1)`
	const id, name = "'pmpt_copy' || i", "'copy/f' || (i % 50) || '/p' || i"
	copies("registry_prompts", map[string]string{"id": id, "name": name}, first, n)
	copies("registry_labels", map[string]string{"prompt_id": id}, first, n)
	copies("registry_versions", map[string]string{"prompt_id": id}, first, n)
	for kind, handle := range map[string]string{"name": name, "id": id} {
		copies("registry_handles", map[string]string{"handle": handle, "prompt_id": id, "kind": "'" + kind + "'"}, first, n)
	}
}

// copied are the columns of a table, and what a copy of a row t has in them: the same but for what is changed.
func copied(b testing.TB, s *stores, table string, changed map[string]string) (names, values string) {
	b.Helper()
	rows, err := s.db.DB.DB.QueryContext(b.Context(), "SELECT name FROM pragma_table_info(?)", table)
	require.NoError(b, err)
	defer rows.Close()
	var columns, expressions []string
	for rows.Next() {
		var column string
		require.NoError(b, rows.Scan(&column))
		expression, ok := changed[column]
		if !ok {
			expression = "t." + column
		}
		columns, expressions = append(columns, column), append(expressions, expression)
	}
	require.NoError(b, rows.Err())
	return strings.Join(columns, ", "), strings.Join(expressions, ", ")
}

// seedKeys makes one key as anybody would, the others as its rows with hashes of their own. It returns those that are used.
func seedKeys(b testing.TB, s *stores, by journal.Origin, project string, n int) []string {
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
		names, values := copied(b, s, "policy_keys", map[string]string{"id": "'key_' || lookup_", "lookup": "lookup_", "hash": "hash_", "last_four": "four_"})
		_, err := s.db.DB.DB.ExecContext(b.Context(), fmt.Sprintf("WITH k (lookup_, hash_, four_) AS (VALUES %s) INSERT INTO policy_keys (%s) SELECT %s FROM k, policy_keys AS t WHERE t.id = ?",
			strings.Join(rows, ", "), names, values), append(args, id)...)
		require.NoError(b, err)
	}
	return keys
}

// TestSeedIsServed keeps the benchmarks' data in step with the tables that it is written into: nothing else runs it.
func TestSeedIsServed(t *testing.T) {
	s := seeded(t, hotPrompts+2, 3)
	keys := seedPeople(t, s, 5, 2)
	gw := newRig(t).gateway(t, s)
	askAll(t, gw.addr, s.prompts[0], keys)
}
