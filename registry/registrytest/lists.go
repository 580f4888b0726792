package registrytest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/registry"
)

func names(prompts []registry.Prompt) []string {
	out := []string{}
	for _, p := range prompts {
		out = append(out, p.Name)
	}
	return out
}

func storePages(b bench) {
	project := b.project()
	// In the order of their bytes, whatever the database's language thinks of case, '-' and '_'.
	sorted := []string{"a", "a-b", "a.b", "a/b", "a/c", "a0", "a_b", "ab", "b", "z/z"}
	for i := range sorted {
		b.prompt(project.ID, sorted[(i*7)%len(sorted)], 0)
	}
	for limit := 1; limit <= len(sorted)+1; limit += 3 {
		var seen []string
		after := ""
		for {
			page, next, err := b.Store.ListPrompts(b.ctx(), project.ID, registry.PromptFilter{}, registry.Page{Limit: limit, After: after})
			require.NoError(b.t, err)
			require.LessOrEqual(b.t, len(page), limit)
			seen = append(seen, names(page)...)
			if next == "" {
				break
			}
			require.Len(b.t, page, limit, "only the last page is short")
			after = next
		}
		require.Equal(b.t, sorted, seen, "limit %d", limit)
	}

	p := b.prompt(project.ID, "versions", 5)
	first, next, err := b.Store.ListVersions(b.ctx(), project.ID, p.ID, registry.Page{Limit: 3})
	require.NoError(b.t, err)
	_, err = b.Store.AddVersion(b.ctx(), By(""), Version(project.ID, p.ID, "added between two pages"))
	require.NoError(b.t, err)
	second, end, err := b.Store.ListVersions(b.ctx(), project.ID, p.ID, registry.Page{Limit: 3, After: next})
	require.NoError(b.t, err)
	require.Empty(b.t, end)
	var numbers []int
	for _, v := range append(first, second...) {
		numbers = append(numbers, v.Number)
	}
	require.Equal(b.t, []int{5, 4, 3, 2, 1}, numbers)
}

func storeFilters(b bench) {
	project := b.project()
	add := func(name, description, category string, archived bool, tags ...string) {
		p := newPrompt(project.ID, name)
		p.Description, p.Category, p.Tags = description, category, tags
		p, err := b.Store.CreatePrompt(b.ctx(), By(""), p, nil)
		require.NoError(b.t, err)
		if archived {
			p.Archived = true
			_, err = b.Store.UpdatePrompt(b.ctx(), By(""), p)
			require.NoError(b.t, err)
		}
	}
	add("support/triage", "Sorts TICKETS 100%", "ops", false, "a", "b")
	add("support/deep/reply", "Ärger_beantworten!", "ops", false, "b")
	add("supportive", "", "misc", false)
	add("support.x", "", "", true, "a")
	for _, c := range []struct {
		filter registry.PromptFilter
		want   []string
	}{
		{registry.PromptFilter{}, []string{"support/deep/reply", "support/triage", "supportive"}},
		{registry.PromptFilter{Archived: true}, []string{"support.x", "support/deep/reply", "support/triage", "supportive"}},
		{registry.PromptFilter{Folder: "support"}, []string{"support/deep/reply", "support/triage"}},
		{registry.PromptFilter{Folder: "support/"}, []string{"support/deep/reply", "support/triage"}},
		{registry.PromptFilter{Folder: "support/deep"}, []string{"support/deep/reply"}},
		{registry.PromptFilter{Folder: "supp"}, []string{}},
		{registry.PromptFilter{Folder: "%"}, []string{}},
		{registry.PromptFilter{Tag: "b"}, []string{"support/deep/reply", "support/triage"}},
		{registry.PromptFilter{Tag: "a", Archived: true}, []string{"support.x", "support/triage"}},
		{registry.PromptFilter{Tag: "%"}, []string{}},
		{registry.PromptFilter{Category: "ops"}, []string{"support/deep/reply", "support/triage"}},
		{registry.PromptFilter{Query: "tickets"}, []string{"support/triage"}},
		{registry.PromptFilter{Query: "SUPPORTI"}, []string{"supportive"}},
		{registry.PromptFilter{Query: "ärger"}, []string{"support/deep/reply"}},
		{registry.PromptFilter{Query: "100%"}, []string{"support/triage"}},
		{registry.PromptFilter{Query: "%"}, []string{"support/triage"}},
		{registry.PromptFilter{Query: "_"}, []string{"support/deep/reply"}},
		{registry.PromptFilter{Query: "!"}, []string{"support/deep/reply"}},
		{registry.PromptFilter{Query: `\`}, []string{}},
		{registry.PromptFilter{Query: "t%e"}, []string{}},
		{registry.PromptFilter{Query: "\x00"}, []string{}},
		{registry.PromptFilter{Query: "support", Folder: "support", Tag: "a", Category: "ops"}, []string{"support/triage"}},
	} {
		got, next, err := b.Store.ListPrompts(b.ctx(), project.ID, c.filter, registry.Page{})
		require.NoError(b.t, err)
		require.Empty(b.t, next)
		require.Equal(b.t, c.want, names(got), "%+v", c.filter)
	}
}

func storeBadPages(b bench) {
	project := b.project()
	for _, name := range []string{"a", "b"} {
		b.prompt(project.ID, name, 0)
	}
	for _, page := range []registry.Page{
		{Limit: -1}, {Limit: 201}, {After: "x"}, {After: "%%%"}, {After: "bnVsbA"}, {After: "e30"}, {After: "\x00"},
	} {
		_, _, err := b.Store.ListPrompts(b.ctx(), project.ID, registry.PromptFilter{}, page)
		requireCode(b.t, fault.InvalidRequest, err)
	}
	_, next, err := b.Store.ListPrompts(b.ctx(), project.ID, registry.PromptFilter{}, registry.Page{Limit: 1})
	require.NoError(b.t, err)
	require.NotEmpty(b.t, next)
	_, _, err = b.Store.ListProjects(b.ctx(), registry.Page{After: next})
	requireCode(b.t, fault.InvalidRequest, err)
}

func storeIsolation(b bench) {
	one, two := b.project(), b.project()
	p1 := b.prompt(one.ID, "same", 2)
	b.prompt(two.ID, "same", 0)
	b.move(one.ID, p1.ID, "x", 1)

	listed, _, err := b.Store.ListPrompts(b.ctx(), two.ID, registry.PromptFilter{}, registry.Page{})
	require.NoError(b.t, err)
	require.Len(b.t, listed, 1)
	require.NotEqual(b.t, p1.ID, listed[0].ID)
	versions, _, err := b.Store.ListVersions(b.ctx(), two.ID, p1.ID, registry.Page{})
	require.NoError(b.t, err)
	require.Empty(b.t, versions)
	labels, err := b.Store.ListLabels(b.ctx(), two.ID, p1.ID)
	require.NoError(b.t, err)
	require.Empty(b.t, labels)
	events, _, err := b.Store.LabelHistory(b.ctx(), two.ID, p1.ID, "", registry.Page{})
	require.NoError(b.t, err)
	require.Empty(b.t, events)

	foreign := p1
	foreign.Project = two.ID
	_, err = b.Store.UpdatePrompt(b.ctx(), By(""), foreign)
	requireCode(b.t, fault.PromptNotFound, err)
	_, err = b.Store.AddVersion(b.ctx(), By(""), Version(two.ID, p1.ID, "x"))
	requireCode(b.t, fault.PromptNotFound, err)
	_, err = b.Store.MoveLabel(b.ctx(), By(""), registry.LabelMove{Project: two.ID, PromptID: p1.ID, Label: "x", To: 2})
	requireCode(b.t, fault.PromptNotFound, err)
	still, err := b.Store.PromptByHandle(b.ctx(), one.ID, "same")
	require.NoError(b.t, err)
	require.Equal(b.t, p1, still)
}

// storeAtomic breaks the journal: every mutation fails as unavailable and leaves no trace.
func storeAtomic(b bench) {
	project := b.project()
	p := b.prompt(project.ID, "p", 2)
	label := b.move(project.ID, p.ID, "x", 1)
	mend := b.BreakJournal(b.t)
	fresh := newPrompt(project.ID, "fresh")
	first := Version(project.ID, fresh.ID, "one")
	first.Number = 1
	edit, renamed := p, project
	edit.Name, edit.Tags = "renamed", []string{"t"}
	renamed.Name = id("r-")
	for what, change := range map[string]func() error{
		"create project": func() error {
			_, err := b.Store.CreateProject(b.ctx(), By(""), registry.Project{ID: "prj_broken", Name: "broken", DefaultLabel: "x"})
			return err
		},
		"update project": func() error { _, err := b.Store.UpdateProject(b.ctx(), By(""), renamed); return err },
		"create prompt":  func() error { _, err := b.Store.CreatePrompt(b.ctx(), By(""), fresh, &first); return err },
		"update prompt":  func() error { _, err := b.Store.UpdatePrompt(b.ctx(), By(""), edit); return err },
		"add version": func() error {
			_, err := b.Store.AddVersion(b.ctx(), By(""), Version(project.ID, p.ID, "x", "new"))
			return err
		},
		"move label": func() error {
			_, err := b.Store.MoveLabel(b.ctx(), By(""), registry.LabelMove{Project: project.ID, PromptID: p.ID, Label: "x", To: 2})
			return err
		},
		"remove label": func() error {
			_, err := b.Store.MoveLabel(b.ctx(), By(""), registry.LabelMove{Project: project.ID, PromptID: p.ID, Label: "x"})
			return err
		},
	} {
		b.t.Run(what, func(t *testing.T) { requireCode(t, fault.RegistryUnavailable, change()) })
	}
	mend()

	_, err := b.Store.ProjectByID(b.ctx(), "prj_broken")
	requireCode(b.t, fault.NotFound, err)
	nowProject, err := b.Store.ProjectByID(b.ctx(), project.ID)
	require.NoError(b.t, err)
	require.Equal(b.t, project, nowProject)
	now, err := b.Store.PromptByHandle(b.ctx(), project.ID, "p")
	require.NoError(b.t, err)
	require.Equal(b.t, p, now)
	nowLabel, err := b.Store.LabelOf(b.ctx(), project.ID, p.ID, "x")
	require.NoError(b.t, err)
	require.Equal(b.t, label, nowLabel)
	events, _, err := b.Store.LabelHistory(b.ctx(), project.ID, p.ID, "x", registry.Page{})
	require.NoError(b.t, err)
	require.Len(b.t, events, 1)
	versions, _, err := b.Store.ListVersions(b.ctx(), project.ID, p.ID, registry.Page{})
	require.NoError(b.t, err)
	require.Len(b.t, versions, 2)
	for _, name := range []string{"fresh", "renamed"} {
		b.prompt(project.ID, name, 0) // not even the handle was taken
	}
}

// storeTouches checks that each change names what caches must forget.
func storeTouches(b bench, rec *recorder) {
	want := func(revision int64, touches ...journal.Touch) {
		b.t.Helper()
		c := rec.last()
		require.Equal(b.t, revision, c.Revision)
		for _, touch := range touches {
			require.Contains(b.t, c.Touches, touch)
		}
	}
	project := b.project()
	want(project.Revision, registry.ProjectTouch(project.ID))
	project.Description = "d"
	project, err := b.Store.UpdateProject(b.ctx(), By(""), project)
	require.NoError(b.t, err)
	want(project.Revision, registry.ProjectTouch(project.ID))

	draft := newPrompt(project.ID, "p")
	draft.Aliases = []string{"q"}
	p, err := b.Store.CreatePrompt(b.ctx(), By(""), draft, nil)
	require.NoError(b.t, err)
	handles := func(names ...string) (touches []journal.Touch) {
		touches = append(touches, registry.PromptTouch(project.ID, p.ID))
		for _, name := range append(names, p.ID) {
			touches = append(touches, registry.HandleTouch(project.ID, name))
		}
		return touches
	}
	want(p.Revision, handles("p", "q")...)
	v, err := b.Store.AddVersion(b.ctx(), By(""), Version(project.ID, p.ID, "x"))
	require.NoError(b.t, err)
	want(v.Revision, append(handles("p", "q"), registry.VersionTouch(project.ID, p.ID, 1),
		registry.LabelTouch(project.ID, p.ID, registry.LabelLatest))...)
	p, err = b.Store.PromptByHandle(b.ctx(), project.ID, "p")
	require.NoError(b.t, err)
	p.Name, p.Aliases = "n", []string{"r"}
	p, err = b.Store.UpdatePrompt(b.ctx(), By(""), p)
	require.NoError(b.t, err)
	want(p.Revision, handles("p", "q", "n", "r")...)
	for _, to := range []int{1, 0} {
		l := b.move(project.ID, p.ID, "x", to)
		want(l.Revision, registry.LabelTouch(project.ID, p.ID, "x"))
		require.Equal(b.t, fmt.Sprintf("prompt:%s", p.ID), rec.last().Object)
		require.Equal(b.t, project.ID, rec.last().Project)
	}
}
