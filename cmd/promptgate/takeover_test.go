package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/limits"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/template"
)

// harmless are the tables that decide nothing, each with the reason. A table that is neither here nor among decidingTables fails
// TestEveryColumnIsCoveredOrHarmless: whoever adds one says which it is.
func harmless() map[string]string {
	return map[string]string{
		"goose_main":            "which migrations ran",
		"goose_ledger":          "which migrations ran",
		"sqlite_sequence":       "SQLite's own",
		"journal_head":          "names the end of a keyed chain, which is folded up to it",
		"journal_events":        "the keyed chain itself: journal.Verify and every fold check each column",
		"journal_payloads":      "sealed, and committed to by the chain",
		"journal_keyset":        "sealed by the master key",
		"policy_limit_leases":   "what was charged so far, at each call: who writes the database can make a budget look less spent, and no larger",
		"policy_limit_counters": "how far rates are used, and what runs at a time",
		"policy_limit_warnings": "which warnings are to be delivered",
		"policy_notices":        "what is to be told of, and whether it was; what is told is read from rows that are believed",
		"policy_uses":           "when what was used last, for people to read; it gives and takes nothing",
		"journal_project_keys":  "sealed by the installation's data keys; that a project was shredded stands in the chain as well",
		"journal_seal_jobs":     "progress of work that looks at the rows, and can be done at any time",
		"policy_sso_notes":      "who alters it can have a token taken again that ends sessions, or a sign-in fail",
		"policy_scim_uses":      "when a token was last used, for people to read",
		"policy_session_seen":   "sealed; what is put back from before has a session end sooner",
		"registry_tags":         "what lists are searched by; a prompt's own tags are in its row",
		"registry_label_events": "what people read of the past; registry.Verify compares it with the journal",
	}
}

// columns are the tables of the schema, as the database tells it, with their columns.
func columnsOf(t *testing.T, db *sqldb.DB) map[string][]string {
	t.Helper()
	query := "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1, ordinal_position"
	if db.Dialect == sqldb.SQLite {
		query = "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table' ORDER BY 1, c.cid"
	}
	found, err := db.QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer found.Close()
	out := map[string][]string{}
	for found.Next() {
		var table, column string
		require.NoError(t, found.Scan(&table, &column))
		out[table] = append(out[table], column)
	}
	require.NoError(t, found.Err())
	return out
}

func TestEveryColumnIsCoveredOrHarmless(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		db := testenv.Open(t, url)
		deciding := map[string][]string{}
		for _, model := range decidingTables() {
			table := db.Table(reflect.TypeOf(model).Elem())
			for _, f := range table.Fields {
				deciding[table.Name] = append(deciding[table.Name], f.Name)
			}
		}
		for table, columns := range columnsOf(t, db) {
			if harmless()[table] != "" {
				require.NotContains(t, deciding, table)
				continue
			}
			require.Contains(t, deciding, table, "decides something? Then its model joins Tables of its store; else it joins harmless with a reason")
			require.ElementsMatch(t, columns, deciding[table], "%s: a column that the model lacks is covered by nothing", table)
			delete(deciding, table)
		}
		require.Empty(t, deciding, "tables that are not there")
	})
}

// takeover is a database with something in every deciding table, and somebody who can write it.
type takeover struct {
	t       *testing.T
	cfg     configs.Config
	running *stores
	tables  map[string][]string // deciding ones
	project [2]string
	lookups []string
	truth   map[string]string
	people  takenPeople
	outside takenOutside
	reviews takenReviews
}

func newTakeover(t *testing.T, url string) *takeover {
	o := &takeover{t: t, cfg: configs.Default(), tables: map[string][]string{}}
	o.cfg.Data, o.cfg.Database.URL = t.TempDir(), url
	o.cfg.Encryption.MasterKey = strings.Repeat("A", 43) + "="
	o.running = o.open()
	all := columnsOf(t, o.running.db)
	for _, model := range decidingTables() {
		name := o.running.db.Table(reflect.TypeOf(model).Elem()).Name
		o.tables[name] = all[name]
	}
	for i, name := range []string{"shop", "desk"} {
		p, err := o.running.ensureProject(t.Context(), stage, name)
		require.NoError(t, err)
		o.project[i] = p.ID
		o.fill(p.ID)
	}
	o.people.fill(o)
	o.reviews.fill(o)
	o.outside.fill(o)
	o.copyAs("old_")
	for _, project := range o.project {
		o.change(project)
	}
	o.reviews.change(o)
	o.people.change(o)
	o.outside.change(o)
	o.copyAs("now_")
	o.truth = o.answers(o.running)
	for question, answer := range o.truth {
		require.False(t, strings.HasPrefix(answer, "fault "), "%s: %s", question, answer)
	}
	return o
}

func (o *takeover) open() *stores {
	o.t.Helper()
	s, err := openStores(o.t.Context(), o.cfg, slog.New(slog.DiscardHandler), nil, false)
	require.NoError(o.t, err)
	o.t.Cleanup(s.close)
	return s
}

func (o *takeover) fill(project string) {
	o.t.Helper()
	s, ctx := o.running, o.t.Context()
	for _, name := range []string{"support/one", "support/two"} {
		p, err := s.service.CreatePrompt(ctx, stage, registry.PromptInput{Project: project, Name: name, First: content("first of " + name)})
		require.NoError(o.t, err)
		_, err = s.service.MoveLabel(ctx, stage, registry.LabelMove{Project: project, PromptID: p.ID, Label: "production", To: 1})
		require.NoError(o.t, err)
		_, err = s.providers.CreateProvider(ctx, stage, provider.Definition{
			Project: project, Name: "up-" + p.Name[len("support/"):], Kind: "openai", BaseURL: "https://api.example.com/v1", Models: []string{"m-1"},
			Enabled: true, Credential: provider.NewSecret("sk-" + p.ID),
		})
		require.NoError(o.t, err)
		_, err = s.providers.PutAlias(ctx, stage, provider.Alias{Project: project, Name: "alias-" + p.Name[len("support/"):],
			Targets: []provider.AliasTarget{{Provider: "up-one", Model: "m-1"}}})
		require.NoError(o.t, err)
		_, id, err := s.createKey(ctx, stage, project, admin.KeyCreate{Name: "k" + name, Grants: []policy.Grant{
			{Actions: []policy.Action{policy.ActionCall}, Prompts: []string{"support/**"}},
		}})
		require.NoError(o.t, err)
		o.lookups = append(o.lookups, strings.TrimPrefix(id, "key_"))
	}
	for _, name := range []string{"one", "two"} {
		l, err := s.limits.CreateLimit(ctx, stage, limits.Limit{
			Project: project, Name: name, Measure: limits.USD, Amount: 1_000_000, Period: limits.Month, Scope: limits.ScopeLabel, Subject: "label-" + name,
		})
		require.NoError(o.t, err)
		_, err = s.limits.ResetSpend(ctx, stage, project, l.ID, "")
		require.NoError(o.t, err)
	}
}

func content(text string) *registry.FirstVersion {
	return &registry.FirstVersion{Content: template.Content{Messages: []template.Message{{Role: "user", Text: text}}}}
}

// change writes every row that can be written again, once more.
func (o *takeover) change(project string) {
	o.t.Helper()
	s, ctx := o.running, o.t.Context()
	p, err := s.registry.ProjectByID(ctx, project)
	require.NoError(o.t, err)
	p.Description = "changed"
	_, err = s.registry.UpdateProject(ctx, stage, p)
	require.NoError(o.t, err)
	prompts, _, err := s.registry.ListPrompts(ctx, project, registry.PromptFilter{}, registry.Page{})
	require.NoError(o.t, err)
	for _, p := range prompts {
		_, err := s.registry.AddVersion(ctx, stage, o.version(p, "second"))
		require.NoError(o.t, err)
		_, err = s.service.MoveLabel(ctx, stage, registry.LabelMove{Project: project, PromptID: p.ID, Label: "production", To: 2})
		require.NoError(o.t, err)
		p, err = s.registry.PromptByHandle(ctx, project, p.ID)
		require.NoError(o.t, err)
		p.Name = "moved/" + p.Name
		_, err = s.registry.UpdatePrompt(ctx, stage, p)
		require.NoError(o.t, err)
	}
	list, err := s.providers.ListProviders(ctx, project)
	require.NoError(o.t, err)
	for _, d := range list {
		d.BaseURL, d.Credential = "https://api.example.com/v2", provider.NewSecret("sk-rotated-"+d.ID)
		_, err = s.providers.UpdateProvider(ctx, stage, d)
		require.NoError(o.t, err)
	}
	rules, err := s.limits.Rules(ctx, project)
	require.NoError(o.t, err)
	for _, l := range rules.Limits {
		l.Amount, l.Contact = 2_000_000, "somebody"
		_, err = s.limits.UpdateLimit(ctx, stage, l)
		require.NoError(o.t, err)
		reason := stage
		reason.Why = "changed"
		_, err = s.limits.ResetSpend(ctx, reason, project, l.ID, "")
		require.NoError(o.t, err)
	}
	aliases, err := s.providers.ListAliases(ctx, project)
	require.NoError(o.t, err)
	for _, a := range aliases {
		a.Targets = []provider.AliasTarget{{Provider: "up-two", Model: "m-1"}}
		_, err = s.providers.PutAlias(ctx, stage, a)
		require.NoError(o.t, err)
	}
	keys, _, err := s.keys.ListKeys(ctx, project, policy.Page{})
	require.NoError(o.t, err)
	system := &policy.Principal{ID: "system", Kind: policy.KindSystem, Project: project}
	for _, k := range keys {
		_, err := s.keys.RevokeKey(ctx, stage, system, policy.Revocation{Project: project, ID: k.ID})
		require.NoError(o.t, err)
	}
}

func (o *takeover) version(p registry.Prompt, text string) registry.Version {
	v := registry.Version{Project: p.Project, PromptID: p.ID, Content: template.Content{Messages: []template.Message{{Role: "user", Text: text}}}}
	var err error
	v.Digest, err = v.Content.Digest()
	require.NoError(o.t, err)
	return v
}

func (o *takeover) exec(query string, args ...any) {
	o.t.Helper()
	require.NoError(o.t, o.try(query, args...), query)
}

// try runs what somebody with all rights on the database would: no foreign key stops him.
func (o *takeover) try(query string, args ...any) error {
	db := o.running.db
	conn, err := db.Conn(o.t.Context())
	require.NoError(o.t, err)
	defer conn.Close()
	off, on := "PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys = ON"
	if db.Dialect == sqldb.Postgres {
		off, on = "SET session_replication_role = replica", "SET session_replication_role = DEFAULT"
	}
	ctx := context.WithoutCancel(o.t.Context())
	_, err = conn.ExecContext(ctx, off)
	require.NoError(o.t, err)
	defer func() { _, _ = conn.ExecContext(ctx, on) }()
	_, err = conn.ExecContext(ctx, query, args...)
	return err
}

func (o *takeover) copyAs(prefix string) {
	for table := range o.tables {
		o.exec("CREATE TABLE " + prefix + table + " AS SELECT * FROM " + table)
	}
}

// undo puts a table back as it was.
func (o *takeover) undo(table string) {
	o.t.Helper()
	o.exec("DELETE FROM " + table)
	columns := strings.Join(o.tables[table], ", ")
	o.exec("INSERT INTO " + table + " (" + columns + ") SELECT " + columns + " FROM now_" + table)
}

// answers asks all that serving asks the stores.
func (o *takeover) answers(s *stores) map[string]string {
	o.t.Helper()
	out := map[string]string{}
	ask := func(question string, answer any, err error) {
		b, _ := json.Marshal(answer)
		out[question] = string(b)
		if err != nil {
			out[question] = "fault " + string(fault.CodeOf(err))
		}
	}
	ctx := o.t.Context()
	handles := o.column("now_registry_handles", "handle")
	for _, project := range o.project {
		p, err := s.registry.ProjectByID(ctx, project)
		ask("project "+project, p, err)
		for _, h := range handles {
			p, err := s.registry.PromptByHandle(ctx, project, h)
			if !fault.Is(err, fault.PromptNotFound) || len(o.truth) > 0 {
				ask("handle "+project+" "+h, p, err)
			}
		}
		defs, aliases, err := s.providers.Load(ctx, project)
		for i := range defs {
			ask(fmt.Sprintf("credential %s %d", project, i), defs[i].Credential.Reveal(), nil)
		}
		ask("providers "+project, []any{defs, aliases}, err)
		rules, err := s.limits.Rules(ctx, project)
		ask("limits "+project, rules, err)
	}
	for i, id := range o.column("now_registry_prompts", "id") {
		project := o.column("now_registry_prompts", "project")[i]
		for _, label := range []string{"production", "latest"} {
			l, err := s.registry.LabelOf(ctx, project, id, label)
			ask("label "+id+" "+label, l, err)
		}
		labels, err := s.registry.ListLabels(ctx, project, id)
		ask("labels "+id, labels, err)
		for n := 1; n <= 2; n++ {
			v, err := s.registry.VersionOf(ctx, project, id, n)
			ask(fmt.Sprintf("version %s %d", id, n), v, err)
		}
	}
	for _, lookup := range o.lookups {
		k, err := s.keys.KeyByLookup(ctx, lookup)
		ask("key "+lookup, k, err)
	}
	o.people.answers(ctx, o, s, ask)
	o.outside.answers(ctx, s, ask)
	o.reviews.answers(ctx, s, ask)
	return out
}

func (o *takeover) column(table, column string) (out []string) {
	o.t.Helper()
	require.NoError(o.t, o.running.db.NewRaw("SELECT "+column+" FROM "+table+" ORDER BY 1, "+o.tables[table[len("now_"):]][0]).Scan(o.t.Context(), &out))
	return out
}

// noEffect demands that nothing is answered otherwise than before, but by a fault, and that the table is named.
func (o *takeover) noEffect(what, table string) {
	o.t.Helper()
	for who, s := range map[string]*stores{"running": o.running, "fresh": o.open()} {
		for question, answer := range o.answers(s) {
			truth, known := o.truth[question]
			switch {
			case answer == truth, answer == "fault "+string(fault.RegistryUnavailable):
			case strings.HasPrefix(question, "key ") && answer == "fault "+string(fault.NotFound): // opens nothing
			case !known && strings.HasSuffix(answer, string(fault.PromptNotFound)):
			default:
				o.t.Fatalf("%s took effect on the %s replica: %s is answered %s, not %s", what, who, question, answer, truth)
			}
		}
		if who == "fresh" {
			report, err := s.feed.VerifyRows(o.t.Context(), decidingTables())
			require.NoError(o.t, err, what)
			require.NotZero(o.t, report.Found, "%s: audit verify says that all is well", what)
			require.Contains(o.t, strings.Join(report.Problems, "\n"), table+" (", what)
			s.close()
		}
	}
}

// Whoever can write the database but has no master key: every column of every deciding table is changed, swapped between two rows and put back from
// before, every row is taken away. Nothing of it takes effect, and each is named.
func TestTheDatabaseAloneIsNotEnough(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		t.Parallel()
		o := newTakeover(t, url)
		report, err := o.running.feed.VerifyRows(t.Context(), decidingTables())
		require.NoError(t, err)
		require.Zero(t, report.Found, "%q", report.Problems)
		cases := 0
		each := func(table, what string, statements ...string) {
			for _, q := range statements {
				if err := o.try(q); err != nil {
					require.True(t, sqldb.IsUnique(err), "%s: %v", q, err) // there is no such state of the table
					o.undo(table)
					return
				}
			}
			o.noEffect(what, table)
			o.undo(table)
			cases++
		}
		tables := make([]string, 0, len(o.tables))
		for table := range o.tables {
			tables = append(tables, table)
		}
		slices.Sort(tables)
		for _, table := range tables {
			ids := o.rowIDs(table)
			require.Greater(t, len(ids), 1, table)
			for _, column := range o.tables[table] {
				kind := o.kind(table, column)
				for i, change := range kind.changes {
					if change == "''" && o.value(table, column, ids[0]) == "" {
						continue
					}
					each(table, fmt.Sprintf("%s.%s changed (%d)", table, column, i),
						fmt.Sprintf("UPDATE %s SET %s = %s WHERE %s", table, column, strings.ReplaceAll(change, "$", column), ids[0]))
				}
				for _, other := range ids[1:] {
					if o.value(table, column, ids[0]) == o.value(table, column, other) {
						continue
					}
					// Through a value that nobody has: the column may be unique.
					each(table, fmt.Sprintf("%s.%s swapped", table, column), o.swap(table, column, ids[0], other)...)
					break
				}
			}
			for _, id := range ids {
				each(table, table+" deleted where "+id, "DELETE FROM "+table+" WHERE "+id)
			}
			for _, id := range o.oldRows(table) {
				columns := strings.Join(o.tables[table], ", ")
				each(table, table+" put back where "+id, "DELETE FROM "+table+" WHERE "+id,
					"INSERT INTO "+table+" ("+columns+") SELECT "+columns+" FROM old_"+table+" WHERE "+id)
			}
			each(table, table+" emptied", "DELETE FROM "+table)
		}
		require.Greater(t, cases, 200, "the table was not generated")
		t.Logf("%d cases", cases)
		for _, got := range []map[string]string{o.answers(o.running), o.answers(o.open())} {
			require.Equal(t, o.truth, onlyKnown(got, o.truth), "it serves again once all is put right")
		}
	})
}

func onlyKnown(got, truth map[string]string) map[string]string {
	out := map[string]string{}
	for q, a := range got {
		if _, ok := truth[q]; ok {
			out[q] = a
		}
	}
	return out
}

// keyColumns is a table's primary key.
func (o *takeover) keyColumns(table string) (out []string) {
	for _, model := range decidingTables() {
		if m := o.running.db.Table(reflect.TypeOf(model).Elem()); m.Name == table {
			for _, f := range m.PKs {
				out = append(out, f.Name)
			}
		}
	}
	return out
}

func (o *takeover) idsOf(from, table string) (out []string) {
	o.t.Helper()
	pk := o.keyColumns(table)
	rows, err := o.running.db.QueryContext(o.t.Context(), "SELECT "+strings.Join(pk, ", ")+" FROM "+from+" ORDER BY "+strings.Join(pk, ", "))
	require.NoError(o.t, err)
	defer rows.Close()
	for rows.Next() {
		values, into := make([]sql.NullString, len(pk)), make([]any, len(pk))
		for i := range values {
			into[i] = &values[i]
		}
		require.NoError(o.t, rows.Scan(into...))
		parts := make([]string, len(pk))
		for i, c := range pk {
			parts[i] = c + " = '" + values[i].String + "'"
		}
		out = append(out, strings.Join(parts, " AND "))
	}
	require.NoError(o.t, rows.Err())
	return out
}

// rowIDs are conditions that select a row each.
func (o *takeover) rowIDs(table string) []string { return o.idsOf(table, table) }

// oldRows are those rows of before that are not as they were.
func (o *takeover) oldRows(table string) (out []string) {
	columns := strings.Join(o.tables[table], ", ")
	for _, id := range o.idsOf("old_"+table, table) {
		var same int
		require.NoError(o.t, o.running.db.NewRaw("SELECT count(*) FROM (SELECT "+columns+" FROM old_"+table+" WHERE "+id+
			" INTERSECT SELECT "+columns+" FROM "+table+") AS x").Scan(o.t.Context(), &same))
		if same == 0 {
			out = append(out, id)
		}
	}
	return out
}

type columnKind struct {
	changes []string // expressions; $ is the column
	spare   string   // a value that nobody has
}

// kind is how a column can be changed, by the type of the field that holds it.
func (o *takeover) kind(table, column string) columnKind {
	for _, model := range decidingTables() {
		m := o.running.db.Table(reflect.TypeOf(model).Elem())
		if m.Name != table {
			continue
		}
		for _, f := range m.Fields {
			if f.Name != column {
				continue
			}
			switch f.IndirectType.Kind() {
			case reflect.Bool:
				return columnKind{[]string{"NOT $"}, ""}
			case reflect.Int, reflect.Int64:
				return columnKind{[]string{"$ + 1", "0 + 7"}, "987654"}
			case reflect.Slice:
				if f.IndirectType.Elem().Kind() == reflect.Uint8 {
					if o.running.db.Dialect == sqldb.Postgres {
						return columnKind{[]string{"$ || '\\x00'::bytea", "''::bytea"}, "'\\x0102'::bytea"}
					}
					return columnKind{[]string{"CAST($ || X'00' AS BLOB)", "X''"}, "X'0102'"}
				}
			}
			return columnKind{[]string{"$ || 'x'", "''", `'["admin"]'`}, "'nobody has this'"}
		}
	}
	o.t.Fatalf("%s.%s: not covered", table, column)
	return columnKind{}
}

func (o *takeover) value(table, column, id string) string {
	var v sql.NullString
	require.NoError(o.t, o.running.db.NewRaw("SELECT CAST("+column+" AS TEXT) FROM "+table+" WHERE "+id).Scan(o.t.Context(), &v))
	return v.String
}

// swap exchanges one column of two rows.
func (o *takeover) swap(table, column, one, other string) []string {
	if o.kind(table, column).spare == "" { // a bool
		return []string{"UPDATE " + table + " SET " + column + " = NOT " + column + " WHERE (" + one + ") OR (" + other + ")"}
	}
	if slices.Contains(o.keyColumns(table), column) {
		// The rows are found by it: everything else is exchanged instead, which is the same.
		var sets []string
		for _, c := range o.tables[table] {
			if !slices.Contains(o.keyColumns(table), c) {
				sets = append(sets, fmt.Sprintf("%s = (SELECT n.%s FROM now_%s AS n WHERE %%s)", c, c, table))
			}
		}
		if len(sets) == 0 {
			return nil
		}
		all := strings.Join(sets, ", ")
		fill := func(id string) string {
			return strings.ReplaceAll(all, "%s", "n."+strings.ReplaceAll(id, " AND ", " AND n."))
		}
		var loose []string
		for _, c := range o.tables[table] { // unique columns must not meet on the way
			if k := o.kind(table, c); !slices.Contains(o.keyColumns(table), c) && k.spare != "" {
				loose = append(loose, c+" = "+k.spare)
			}
		}
		return []string{
			"UPDATE " + table + " SET " + strings.Join(loose, ", ") + " WHERE " + one,
			"UPDATE " + table + " SET " + fill(one) + " WHERE " + other,
			"UPDATE " + table + " SET " + fill(other) + " WHERE " + one,
		}
	}
	from := func(id string) string {
		return "(SELECT n." + column + " FROM now_" + table + " AS n WHERE n." + strings.ReplaceAll(id, " AND ", " AND n.") + ")"
	}
	return []string{
		"UPDATE " + table + " SET " + column + " = " + o.kind(table, column).spare + " WHERE " + one,
		"UPDATE " + table + " SET " + column + " = " + from(one) + " WHERE " + other,
		"UPDATE " + table + " SET " + column + " = " + from(other) + " WHERE " + one,
	}
}

// A change must not make right what somebody else wrote: it reads the row, writes it again, and the journal vouches for the result.
func TestAChangeDoesNotVouchForWhatOthersWrote(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		t.Parallel()
		o := newTakeover(t, url)
		s, ctx, project := o.running, t.Context(), o.project[0]
		prompts, _, err := s.registry.ListPrompts(ctx, project, registry.PromptFilter{}, registry.Page{})
		require.NoError(t, err)
		prompt := prompts[0]
		providers, err := s.providers.ListProviders(ctx, project)
		require.NoError(t, err)
		aliases, err := s.providers.ListAliases(ctx, project)
		require.NoError(t, err)
		of, err := s.registry.ProjectByID(ctx, project)
		require.NoError(t, err)
		keys, _, err := s.keys.ListKeys(ctx, project, policy.Page{})
		require.NoError(t, err)
		system := &policy.Principal{ID: "system", Kind: policy.KindSystem, Project: project}
		move := registry.LabelMove{Project: project, PromptID: prompt.ID, Label: "production", To: 1}
		for name, c := range map[string]struct {
			table, tamper string
			change        func() error
		}{
			"a revoked key": {"policy_keys", "UPDATE policy_keys SET revoked_at = 0, roles = '[\"admin\"]'", func() error { _, err := s.keys.UpdateKey(ctx, stage, system, keys[0]); return err }},
			"a key, by revoking": {"policy_keys", "UPDATE policy_keys SET revoked_at = 0", func() error {
				_, err := s.keys.RevokeKey(ctx, stage, system, policy.Revocation{Project: project, ID: keys[0].ID})
				return err
			}},
			"a project":            {"registry_projects", "UPDATE registry_projects SET default_label = 'evil'", func() error { _, err := s.registry.UpdateProject(ctx, stage, of); return err }},
			"a prompt":             {"registry_prompts", "UPDATE registry_prompts SET archived = NOT archived", func() error { _, err := s.registry.UpdatePrompt(ctx, stage, prompt); return err }},
			"a prompt, by version": {"registry_prompts", "UPDATE registry_prompts SET owner = 'evil'", func() error { _, err := s.registry.AddVersion(ctx, stage, o.version(prompt, "x")); return err }},
			"a label":              {"registry_labels", "UPDATE registry_labels SET version = 1", func() error { _, err := s.registry.MoveLabel(ctx, stage, move); return err }},
			"a label taken away":   {"registry_labels", "DELETE FROM registry_labels", func() error { _, err := s.registry.MoveLabel(ctx, stage, move); return err }},
			"a handle": {"registry_handles", "DELETE FROM registry_handles", func() error {
				_, err := s.registry.CreatePrompt(ctx, stage, registry.Prompt{ID: "pmpt_new", Project: project, Name: "support/one", Kind: registry.KindChat}, nil)
				return err
			}},
			"a version taken away": {"registry_versions", "DELETE FROM registry_versions", func() error {
				v := o.version(prompt, "x")
				v.Number = 1
				_, err := s.registry.AddVersion(ctx, stage, v)
				return err
			}},
			"a provider": {"registry_providers", "UPDATE registry_providers SET base_url = 'https://evil.example.com'", func() error { _, err := s.providers.UpdateProvider(ctx, stage, providers[0]); return err }},
			"an alias":   {"registry_models", "UPDATE registry_models SET targets = '[]'", func() error { _, err := s.providers.PutAlias(ctx, stage, aliases[0]); return err }},
			"an alias removed": {"registry_models", "DELETE FROM registry_models", func() error {
				a := aliases[0]
				a.Revision = 0
				_, err := s.providers.PutAlias(ctx, stage, a)
				return err
			}},
		} {
			o.exec(c.tamper)
			require.Equal(t, fault.RegistryUnavailable, fault.CodeOf(c.change()), name)
			o.undo(c.table)
		}
		report, err := s.feed.VerifyRows(ctx, decidingTables())
		require.NoError(t, err)
		require.Zero(t, report.Found, "%q", report.Problems)
		require.Equal(t, o.truth, onlyKnown(o.answers(s), o.truth))
	})
}
