package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/registrytest"
	"github.com/promptgate/promptgate/registry/sqlstore"
	"github.com/promptgate/promptgate/registry/template"
)

// gate is a Gate that keeps what it was asked and answers as the test wants.
type gate struct {
	asked  []registry.LabelMove
	from   []int
	answer error
	before func()
}

func (g *gate) Allow(_ context.Context, _ journal.Origin, c registry.Change) error {
	if c.Kind != registry.ChangeMove {
		return nil
	}
	g.asked, g.from = append(g.asked, c.Move), append(g.from, *c.Move.From)
	if g.before != nil {
		g.before()
	}
	return g.answer
}

type house struct {
	*registry.Service
	t       *testing.T
	store   *sqlstore.Store
	journal *journal.Journal
	gate    *gate
	project string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	db := testenv.Open(t, testenv.SQLite(t))
	sealer := testenv.Sealer(t, db)
	h := &house{t: t, gate: &gate{}, journal: journal.New(db, sealer, journal.Options{})}
	require.NoError(t, h.journal.Load(t.Context()))
	h.store = sqlstore.New(db, h.journal, sealer, sqlstore.Options{Gate: h.gate})
	var err error
	h.Service, err = registry.NewService(h.store, registry.ServiceOptions{})
	require.NoError(t, err)
	p, err := h.CreateProject(t.Context(), by, registry.ProjectInput{Name: "demo"})
	require.NoError(t, err)
	h.project = p.ID
	return h
}

var by = registrytest.By("")

func text(role, s string) template.Content {
	return template.Content{Messages: []template.Message{{Role: role, Text: s}}}
}

func (h *house) prompt(name string, kind registry.Kind) registry.Prompt {
	h.t.Helper()
	p, err := h.CreatePrompt(h.t.Context(), by, registry.PromptInput{Project: h.project, Name: name, Kind: kind})
	require.NoError(h.t, err)
	return p
}

func (h *house) save(p registry.Prompt, s string) registry.Version {
	h.t.Helper()
	saved, err := h.trySave(p, s)
	require.NoError(h.t, err)
	return saved.Version
}

func (h *house) trySave(p registry.Prompt, s string) (registry.Saved, error) {
	return h.SaveVersion(h.t.Context(), by, registry.VersionInput{Project: h.project, PromptID: p.ID, Content: text("user", s)})
}

func (h *house) move(p registry.Prompt, label string, to int) registry.Label {
	h.t.Helper()
	l, err := h.MoveLabel(h.t.Context(), by, registry.LabelMove{Project: h.project, PromptID: p.ID, Label: label, To: to})
	require.NoError(h.t, err)
	return l
}

func requireParam(t *testing.T, code fault.Code, param string, err error) {
	t.Helper()
	requireCode(t, code, err)
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	require.Equal(t, param, f.Param, "%v", err)
	require.NotEmpty(t, f.Message)
}

func TestProjectEdits(t *testing.T) {
	h := newHouse(t)
	p, err := h.Project(t.Context(), "demo")
	require.NoError(t, err)
	require.Equal(t, registry.DefaultLabel, p.DefaultLabel)
	byID, err := h.Project(t.Context(), p.ID)
	require.NoError(t, err)
	require.Equal(t, p, byID)
	stable, latest := "stable", "latest"
	_, err = h.UpdateProject(t.Context(), by, registry.ProjectUpdate{ID: p.ID, DefaultLabel: &stable})
	requireParam(t, fault.InvalidRequest, "if-match", err)
	_, err = h.UpdateProject(t.Context(), by, registry.ProjectUpdate{ID: p.ID, Revision: p.Revision, DefaultLabel: &latest})
	requireParam(t, fault.InvalidRequest, "default_label", err)
	edited, err := h.UpdateProject(t.Context(), by, registry.ProjectUpdate{ID: p.ID, Revision: p.Revision, DefaultLabel: &stable})
	require.NoError(t, err)
	require.Equal(t, "stable", edited.DefaultLabel)
	_, err = h.UpdateProject(t.Context(), by, registry.ProjectUpdate{ID: p.ID, Revision: p.Revision, Description: &stable})
	requireCode(t, fault.PreconditionFailed, err)
	same, err := h.UpdateProject(t.Context(), by, registry.ProjectUpdate{ID: p.ID, Revision: registry.AnyRevision, DefaultLabel: &stable})
	require.NoError(t, err)
	require.Equal(t, edited.Revision, same.Revision, "nothing changed, nothing was written")
	_, err = h.CreateProject(t.Context(), by, registry.ProjectInput{Name: "demo"})
	requireParam(t, fault.Conflict, "name", err)
	for _, bad := range []string{"", "Demo", "a/b", "prj_x", strings.Repeat("a", 101)} {
		_, err = h.CreateProject(t.Context(), by, registry.ProjectInput{Name: bad})
		requireParam(t, fault.InvalidRequest, "name", err)
	}
}

func TestRename(t *testing.T) {
	h := newHouse(t)
	p := h.prompt("old", "")
	name := "new"
	renamed, err := h.UpdatePrompt(t.Context(), by, registry.PromptUpdate{Project: h.project, ID: p.ID, Revision: p.Revision, Name: &name})
	require.NoError(t, err)
	require.Equal(t, p.ID, renamed.ID)
	require.Equal(t, []string{"old"}, renamed.Aliases)
	for _, handle := range []string{"old", "new", p.ID} {
		found, err := h.Prompt(t.Context(), h.project, handle)
		require.NoError(t, err)
		require.Equal(t, renamed, found)
	}
	_, err = h.CreatePrompt(t.Context(), by, registry.PromptInput{Project: h.project, Name: "old"})
	requireCode(t, fault.Conflict, err)
	none := []string{}
	dropped, err := h.UpdatePrompt(t.Context(), by, registry.PromptUpdate{Project: h.project, ID: p.ID, Revision: renamed.Revision, Aliases: &none})
	require.NoError(t, err)
	_, err = h.Prompt(t.Context(), h.project, "old")
	requireCode(t, fault.PromptNotFound, err)
	_, err = h.CreatePrompt(t.Context(), by, registry.PromptInput{Project: h.project, Name: "x", Aliases: []string{"old"}})
	requireCode(t, fault.Conflict, err)
	back := "old"
	again, err := h.UpdatePrompt(t.Context(), by, registry.PromptUpdate{Project: h.project, ID: p.ID, Revision: dropped.Revision, Name: &back})
	require.NoError(t, err)
	require.Equal(t, []string{"new"}, again.Aliases)
}

func TestSaveVersion(t *testing.T) {
	h := newHouse(t)
	p := h.prompt("p", "")
	first := h.save(p, "Sort {{ticket}}")
	require.Equal(t, 1, first.Number)
	require.Equal(t, "Ada", first.Author)
	require.True(t, first.Content.Variables["ticket"].Required)
	digest, err := first.Content.Digest()
	require.NoError(t, err)
	require.Equal(t, digest, first.Digest)

	again, err := h.trySave(p, "Sort {{ticket}}")
	require.NoError(t, err)
	require.True(t, again.Unchanged)
	require.Equal(t, first, again.Version)
	second := h.save(p, "Sort {{ticket}} for {{team}}")
	require.Equal(t, 1, second.Parent)
	back, err := h.trySave(p, "Sort {{ticket}}")
	require.NoError(t, err)
	require.False(t, back.Unchanged, "only the latest is compared")
	require.Equal(t, 3, back.Version.Number)
	p, err = h.Prompt(t.Context(), h.project, p.ID)
	require.NoError(t, err)
	require.Equal(t, []string{"team", "ticket"}, p.Variables)

	in := registry.VersionInput{Project: h.project, PromptID: p.ID, Content: text("user", "other"), Latest: ptr(2)}
	_, err = h.SaveVersion(t.Context(), by, in)
	requireParam(t, fault.Conflict, "latest", err)
	in.Latest, in.Parent = ptr(3), 9
	_, err = h.SaveVersion(t.Context(), by, in)
	requireParam(t, fault.VersionNotFound, "parent", err)
	in.Parent = 1
	checked, err := h.Check(t.Context(), in)
	require.NoError(t, err)
	saved, err := h.SaveVersion(t.Context(), by, in)
	require.NoError(t, err)
	require.Equal(t, checked.Digest, saved.Version.Digest)
	require.Equal(t, 1, saved.Version.Parent)

	for _, bad := range []template.Content{{}, text("user", "{{#a}}"), text("nobody", "x"), text("user", "{{> p}}"),
		{Messages: []template.Message{{Role: "user", Text: "x"}}, Tools: json.RawMessage(`{`)}} {
		_, err = h.SaveVersion(t.Context(), by, registry.VersionInput{Project: h.project, PromptID: p.ID, Content: bad})
		requireCode(t, fault.InvalidTemplate, err)
	}
}

func ptr[T any](v T) *T { return &v }

func TestTextPrompts(t *testing.T) {
	h := newHouse(t)
	p := h.prompt("part", registry.KindText)
	h.save(p, "one text")
	for _, bad := range []template.Content{
		text("system", "x"),
		{Messages: []template.Message{{Role: "user", Text: "x"}, {Role: "user", Text: "y"}}},
		{Messages: []template.Message{{Role: "user", Parts: []template.Part{{Type: "text", Text: "x"}}}}},
	} {
		_, err := h.SaveVersion(t.Context(), by, registry.VersionInput{Project: h.project, PromptID: p.ID, Content: bad})
		requireParam(t, fault.InvalidTemplate, "messages", err)
	}
}

func TestReferences(t *testing.T) {
	h := newHouse(t)
	tone, chat, main := h.prompt("tone", registry.KindText), h.prompt("chat", ""), h.prompt("main", "")
	h.save(tone, "Be kind to {{who}}.")
	h.save(chat, "x")
	h.move(tone, "production", 1)
	v := h.save(main, "{{> tone@production}} Now: {{> tone@1}}")
	require.Len(t, v.Content.References, 2)
	for _, ref := range v.Content.References {
		require.Equal(t, tone.ID, ref.PromptID)
		require.Equal(t, 1, ref.Version)
		require.NotEmpty(t, ref.Digest)
	}
	require.Contains(t, v.Content.Variables, "who")

	h.save(tone, "Be rude.")
	h.move(tone, "production", 2)
	still, err := h.Version(t.Context(), h.project, main.ID, 1)
	require.NoError(t, err)
	require.Equal(t, v, still, "what was pinned stays")
	adopted := h.save(main, "{{> tone@production}} Now: {{> tone@1}}")
	require.Equal(t, 2, adopted.Number, "the same text means something new")

	for _, bad := range []string{"none@production", "tone@none", "tone@9", "chat@1", "tone@999999999", "main@1"} {
		_, err := h.trySave(main, "{{> "+bad+"}}")
		requireParam(t, fault.InvalidTemplate, "messages", err)
		require.Contains(t, err.Error(), bad)
	}
	secret := fault.New(fault.PermissionDenied, "no")
	_, err = h.SaveVersion(t.Context(), by, registry.VersionInput{
		Project: h.project, PromptID: main.ID, Content: text("user", "{{> tone@1}}"),
		AllowReference: func(_ context.Context, p registry.Prompt, _ string) error {
			require.Equal(t, "tone", p.Name)
			return secret
		},
	})
	require.ErrorIs(t, err, secret)
}

func TestReferenceCyclesAndDepth(t *testing.T) {
	h := newHouse(t)
	var parts []registry.Prompt
	for i := range 7 {
		parts = append(parts, h.prompt(fmt.Sprintf("p%d", i), registry.KindText))
	}
	h.save(parts[0], "end")
	for i := 1; i <= 5; i++ {
		h.save(parts[i], fmt.Sprintf("{{> p%d@1}}", i-1))
	}
	_, err := h.trySave(parts[6], "{{> p5@1}}")
	requireParam(t, fault.InvalidTemplate, "messages", err)
	require.Contains(t, err.Error(), "deep")
	h.save(parts[6], "{{> p4@1}} {{> p0@1}}")
	for i := 1; i <= 4; i++ {
		_, err = h.trySave(parts[0], fmt.Sprintf("{{> p%d@1}}", i))
		requireParam(t, fault.InvalidTemplate, "messages", err)
		require.Contains(t, err.Error(), "leads back")
	}
	_, err = h.trySave(parts[1], "{{> p1@1}}")
	requireParam(t, fault.InvalidTemplate, "messages", err)
	require.Contains(t, err.Error(), "leads back")
}

func TestMoveLabelRules(t *testing.T) {
	h := newHouse(t)
	p := h.prompt("p", "")
	h.save(p, "plain")
	h.save(p, "needs {{ticket}}")
	try := func(why string, m registry.LabelMove) (registry.Label, error) {
		m.Project, m.PromptID = h.project, p.ID
		return h.MoveLabel(t.Context(), registrytest.By(why), m)
	}
	_, err := try("", registry.LabelMove{Label: "latest", To: 1})
	requireParam(t, fault.InvalidRequest, "label", err)
	_, err = try("", registry.LabelMove{Label: "x", To: -1})
	requireParam(t, fault.InvalidRequest, "version", err)
	_, err = try("", registry.LabelMove{Label: "x", To: 3})
	requireParam(t, fault.VersionNotFound, "version", err)
	_, err = try("", registry.LabelMove{Label: "x", To: 0})
	requireParam(t, fault.LabelNotFound, "label", err)
	h.move(p, "x", 1)
	_, err = try("", registry.LabelMove{Label: "x", To: 2})
	requireParam(t, fault.Conflict, "force", err)
	require.Contains(t, err.Error(), "ticket")
	_, err = try(" ", registry.LabelMove{Label: "x", To: 2, Force: true})
	requireParam(t, fault.InvalidRequest, "why", err)
	_, err = try("all callers send it", registry.LabelMove{Label: "x", To: 2, Force: true})
	require.NoError(t, err)
	h.move(p, "x", 1) // a variable less is no harm
	_, err = try("", registry.LabelMove{Label: "x", To: 1, From: ptr(2)})
	requireParam(t, fault.Conflict, "from", err)
	_, err = try(strings.Repeat("x", registry.MaxWhyBytes+1), registry.LabelMove{Label: "x", To: 1})
	requireParam(t, fault.InvalidRequest, "why", err)
}

func TestGate(t *testing.T) {
	h := newHouse(t)
	p := h.prompt("p", "")
	for i := range 3 {
		h.save(p, fmt.Sprint(i))
	}
	h.move(p, "x", 1)
	require.Equal(t, 0, *h.gate.asked[0].From)
	no := fault.New(fault.PermissionDenied, "two approvals are missing")
	h.gate.answer = no
	m := registry.LabelMove{Project: h.project, PromptID: p.ID, Label: "x", To: 2}
	_, err := h.MoveLabel(t.Context(), by, m)
	require.ErrorIs(t, err, no)
	m.To = 0
	_, err = h.MoveLabel(t.Context(), by, m)
	require.ErrorIs(t, err, no)
	_, err = h.Rollback(t.Context(), by, registry.RollbackInput{LabelRef: registry.LabelRef{Project: h.project, PromptID: p.ID, Label: "x"}})
	require.Error(t, err)
	at, err := h.Label(t.Context(), registry.LabelRef{Project: h.project, PromptID: p.ID, Label: "x"})
	require.NoError(t, err)
	require.Equal(t, 1, at.Version)

	// Somebody moves the label and renames the prompt while the gate thinks: both wait, so that what was judged is what happens.
	h.gate.answer, h.gate.asked, h.gate.from = nil, nil, nil
	others := make(chan error, 2)
	h.gate.before = func() {
		h.gate.before = nil
		go func() {
			_, err := h.store.MoveLabel(t.Context(), by, registry.LabelMove{Project: h.project, PromptID: p.ID, Label: "x", To: 3})
			others <- err
		}()
		go func() {
			name := "elsewhere/p"
			_, err := h.UpdatePrompt(t.Context(), by, registry.PromptUpdate{Project: h.project, ID: p.ID, Revision: registry.AnyRevision, Name: &name})
			others <- err
		}()
		select {
		case <-others:
			t.Error("something moved while it was judged")
		case <-time.After(100 * time.Millisecond):
		}
	}
	m.To = 2
	_, err = h.MoveLabel(t.Context(), by, m)
	require.NoError(t, err)
	require.NoError(t, <-others)
	require.NoError(t, <-others)
	require.Equal(t, []int{1, 2}, h.gate.from)
}

func TestRollback(t *testing.T) {
	h := newHouse(t)
	p := h.prompt("p", "")
	for i := range 3 {
		h.save(p, fmt.Sprint(i))
	}
	in := registry.RollbackInput{LabelRef: registry.LabelRef{Project: h.project, PromptID: p.ID, Label: "x"}}
	_, err := h.Rollback(t.Context(), by, in)
	requireParam(t, fault.LabelNotFound, "label", err)
	h.move(p, "x", 1)
	_, err = h.Rollback(t.Context(), by, in)
	requireParam(t, fault.Conflict, "label", err)
	h.move(p, "x", 2)
	h.move(p, "x", 3)
	in.From = ptr(2)
	_, err = h.Rollback(t.Context(), by, in)
	requireParam(t, fault.Conflict, "from", err)
	in.From = nil
	for _, want := range []int{2, 3} {
		l, err := h.Rollback(t.Context(), by, in)
		require.NoError(t, err)
		require.Equal(t, want, l.Version)
	}
	h.move(p, "x", 0)
	l, err := h.Rollback(t.Context(), by, in)
	require.NoError(t, err)
	require.Equal(t, 3, l.Version, "a removal is a move too")
	events, _, err := h.LabelHistory(t.Context(), in.LabelRef, registry.Page{})
	require.NoError(t, err)
	require.Len(t, events, 7)
}

func TestDiff(t *testing.T) {
	h := newHouse(t)
	p := h.prompt("p", "")
	save := func(c template.Content) {
		_, err := h.SaveVersion(t.Context(), by, registry.VersionInput{Project: h.project, PromptID: p.ID, Content: c})
		require.NoError(t, err)
	}
	save(template.Content{
		Messages:   []template.Message{{Role: "system", Text: "Be kind.\nBe brief."}, {Role: "user", Text: "{{a}}"}},
		Model:      "small",
		Parameters: map[string]json.RawMessage{"temperature": json.RawMessage("0"), "top_p": json.RawMessage("1")},
	})
	save(template.Content{
		Messages: []template.Message{{Role: "system", Text: "Be kind.\nBe long."}, {Role: "assistant", Text: "Yes?"}, {Role: "user", Text: "{{a}}"}},
		Model:    "large", Parameters: map[string]json.RawMessage{"temperature": json.RawMessage("0.0"), "seed": json.RawMessage("1")},
		Locked: []string{"model"}, Ignored: []string{"top_p", "seed", "top_p"},
	})
	d, err := h.Diff(t.Context(), h.project, p.ID, 1, 2)
	require.NoError(t, err)
	require.Equal(t, []string{"ignored", "locked", "messages", "model", "parameters.seed", "parameters.top_p"}, d.Changed)
	require.Len(t, d.Messages, 2)
	require.Contains(t, d.Messages[0].Unified, "-Be brief.\n+Be long.")
	require.Contains(t, d.Messages[0].Unified, "--- version 1\n+++ version 2")
	require.Equal(t, [2]int{-1, 1}, [2]int{d.Messages[1].From, d.Messages[1].To}, "the added one is told as added")
	require.Equal(t, "assistant", d.Messages[1].Role)
	require.Equal(t, registry.FieldDiff{Field: "model", From: json.RawMessage(`"small"`), To: json.RawMessage(`"large"`)}, d.Fields[2])
	require.Equal(t, `["seed","top_p"]`, string(d.Fields[0].To))
	require.Nil(t, d.Fields[3].From)
	same, err := h.Diff(t.Context(), h.project, p.ID, 2, 2)
	require.NoError(t, err)
	require.Empty(t, same.Changed)
	_, err = h.Diff(t.Context(), h.project, p.ID, 1, 3)
	requireCode(t, fault.VersionNotFound, err)
}

// sneakyStore lets somebody else save just before each version is added.
type sneakyStore struct {
	registry.Store
	before func()
}

func (s sneakyStore) AddVersion(ctx context.Context, by journal.Origin, v registry.Version) (registry.Version, error) {
	s.before()
	return s.Store.AddVersion(ctx, by, v)
}

// Of two authors who started from the same version one saves, and the other is told, however close they are.
func TestSaversRace(t *testing.T) {
	h := newHouse(t)
	p := h.prompt("p", "")
	h.save(p, "start")
	s, err := registry.NewService(sneakyStore{h.store, func() { h.save(p, "theirs") }}, registry.ServiceOptions{})
	require.NoError(t, err)
	_, err = s.SaveVersion(t.Context(), by, registry.VersionInput{
		Project: h.project, PromptID: p.ID, Content: text("user", "mine"), Latest: ptr(1),
	})
	requireCode(t, fault.Conflict, err)
	latest, err := h.Label(t.Context(), registry.LabelRef{Project: h.project, PromptID: p.ID, Label: registry.LabelLatest})
	require.NoError(t, err)
	require.Equal(t, 2, latest.Version)
}

// TestNamesAreKeptInOneForm: tags, categories and what is searched for are one, whichever way their accents were typed.
func TestNamesAreKeptInOneForm(t *testing.T) {
	h := newHouse(t)
	const nfc, nfd = "caf\u00e9", "cafe\u0301"
	for i, typed := range []string{nfc, nfd} {
		p, err := h.CreatePrompt(t.Context(), by, registry.PromptInput{
			Project: h.project, Name: fmt.Sprintf("menu/p%d", i), Tags: []string{typed, nfc}, Category: typed, Description: "A " + typed, Owner: typed,
		})
		require.NoError(t, err)
		require.Equal(t, []string{nfc}, p.Tags)
		require.Equal(t, []string{nfc, nfc}, []string{p.Category, p.Owner})
	}
	project, err := h.CreateProject(t.Context(), by, registry.ProjectInput{Name: "cafe", Description: nfd})
	require.NoError(t, err)
	require.Equal(t, nfc, project.Description)
	again := nfd + nfd
	project, err = h.UpdateProject(t.Context(), by, registry.ProjectUpdate{ID: project.ID, Revision: registry.AnyRevision, Description: &again})
	require.NoError(t, err)
	require.Equal(t, nfc+nfc, project.Description)
	content := template.Content{Messages: []template.Message{{Role: "user", Text: "x"}}}
	p, err := h.CreatePrompt(t.Context(), by, registry.PromptInput{Project: h.project, Name: "noted", First: &registry.FirstVersion{Content: content, Note: nfd}})
	require.NoError(t, err)
	content.Messages[0].Text = "y"
	saved, err := h.SaveVersion(t.Context(), by, registry.VersionInput{Project: h.project, PromptID: p.ID, Content: content, Note: nfd})
	require.NoError(t, err)
	first, err := h.Version(t.Context(), h.project, p.ID, 1)
	require.NoError(t, err)
	require.Equal(t, []string{nfc, nfc}, []string{first.Note, saved.Version.Note})
	for _, asked := range []string{nfc, nfd} {
		for _, f := range []registry.PromptFilter{{Tag: asked}, {Category: asked}, {Query: asked}} {
			found, _, err := h.Prompts(t.Context(), h.project, f, registry.Page{})
			require.NoError(t, err)
			require.Len(t, found, 2, "%+v", f)
		}
	}
}

// TestMisspellingsNeedInsisting, unless the version before says the same.
func TestMisspellingsNeedInsisting(t *testing.T) {
	h := newHouse(t)
	p, err := h.CreatePrompt(t.Context(), by, registry.PromptInput{Project: h.project, Name: "p"})
	require.NoError(t, err)
	in := registry.VersionInput{Project: h.project, PromptID: p.ID, Content: template.Content{
		Messages: []template.Message{{Role: "user", Text: "x"}}, Parameters: map[string]json.RawMessage{"temprature": json.RawMessage("1")},
	}}
	_, err = h.SaveVersion(t.Context(), by, in)
	require.Equal(t, fault.InvalidTemplate, fault.CodeOf(err))
	require.ErrorContains(t, err, `"temperature"`)
	in.Insist = true
	_, err = h.SaveVersion(t.Context(), by, in)
	require.NoError(t, err)
	in.Insist, in.Content.Messages = false, []template.Message{{Role: "user", Text: "y"}}
	_, err = h.SaveVersion(t.Context(), by, in)
	require.NoError(t, err, "it was meant before")
	_, err = h.CreatePrompt(t.Context(), by, registry.PromptInput{Project: h.project, Name: "q", First: &registry.FirstVersion{Content: in.Content}})
	require.ErrorContains(t, err, `"temperature"`)
	_, err = h.CreatePrompt(t.Context(), by, registry.PromptInput{Project: h.project, Name: "q", First: &registry.FirstVersion{Content: in.Content, Insist: true}})
	require.NoError(t, err)
}
