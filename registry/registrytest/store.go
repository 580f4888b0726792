package registrytest

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/registry"
)

// Store runs the conformance suite of a registry.Store, that of Source included.
func Store(t *testing.T, open func(t *testing.T) Harness) {
	t.Run("source", func(t *testing.T) { Source(t, open) })
	h := open(t)
	rec := &recorder{}
	h.Subscribe(rec.record)
	for name, test := range map[string]func(bench){
		"projects":                 storeProjects,
		"project edits":            storeProjectEdits,
		"prompts":                  storePrompts,
		"prompt edits":             storePromptEdits,
		"handles are never reused": storeHandles,
		"first version":            storeFirstVersion,
		"version numbers":          storeVersionNumbers,
		"versions race":            storeVersionsRace,
		"labels":                   storeLabels,
		"labels race":              storeLabelsRace,
		"names race":               storeNamesRace,
		"edits race":               storeEditsRace,
		"label history":            storeHistory,
		"pages":                    storePages,
		"filters":                  storeFilters,
		"bad pages":                storeBadPages,
		"projects apart":           storeIsolation,
		"no audit, no action":      storeAtomic,
	} {
		t.Run(name, func(t *testing.T) { test(bench{h, t}) })
	}
	t.Run("touches", func(t *testing.T) { storeTouches(bench{h, t}, rec) })
}

// recorder keeps the changes that were committed.
type recorder struct {
	mu      sync.Mutex
	changes []journal.Change
}

func (r *recorder) record(c journal.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = append(r.changes, c)
}

func (r *recorder) last() journal.Change {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changes[len(r.changes)-1]
}

// race runs fn n times at once and returns the errors.
func race(n int, fn func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = fn(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

func storeProjects(b bench) {
	made := b.project()
	require.Positive(b.t, made.Revision)
	require.False(b.t, made.CreatedAt.IsZero())
	byID, err := b.Store.ProjectByID(b.ctx(), made.ID)
	require.NoError(b.t, err)
	require.Equal(b.t, made, byID)
	byName, err := b.Store.ProjectByName(b.ctx(), made.Name)
	require.NoError(b.t, err)
	require.Equal(b.t, made, byName)
	_, err = b.Store.ProjectByName(b.ctx(), made.ID)
	requireCode(b.t, fault.NotFound, err)

	again := made
	again.ID = id(registry.ProjectIDPrefix)
	_, err = b.Store.CreateProject(b.ctx(), By(""), again)
	requireCode(b.t, fault.Conflict, err)
	_, err = b.Store.ProjectByID(b.ctx(), again.ID)
	requireCode(b.t, fault.NotFound, err)
}

func storeProjectEdits(b bench) {
	made, other := b.project(), b.project()
	edit := made
	edit.Description, edit.DefaultLabel = "new", "stable"
	edited, err := b.Store.UpdateProject(b.ctx(), By(""), edit)
	require.NoError(b.t, err)
	require.Greater(b.t, edited.Revision, made.Revision)
	stored, err := b.Store.ProjectByID(b.ctx(), made.ID)
	require.NoError(b.t, err)
	require.Equal(b.t, edited, stored)
	require.Equal(b.t, "new", stored.Description)

	_, err = b.Store.UpdateProject(b.ctx(), By(""), edit)
	requireCode(b.t, fault.PreconditionFailed, err)
	edited.Name = other.Name
	_, err = b.Store.UpdateProject(b.ctx(), By(""), edited)
	requireCode(b.t, fault.Conflict, err)
	edited.ID = "prj_none"
	_, err = b.Store.UpdateProject(b.ctx(), By(""), edited)
	requireCode(b.t, fault.NotFound, err)
}

func storePrompts(b bench) {
	project := b.project()
	p := newPrompt(project.ID, "a/b")
	p.Description, p.Category, p.Owner, p.Kind = "d", "c", "o", registry.KindText
	p.Tags, p.Aliases = []string{"x", "y"}, []string{"z"}
	made, err := b.Store.CreatePrompt(b.ctx(), By(""), p, nil)
	require.NoError(b.t, err)
	want := p
	want.CreatedAt, want.UpdatedAt, want.Revision, want.Variables = made.CreatedAt, made.UpdatedAt, made.Revision, []string{}
	require.Equal(b.t, want, made)
	require.Positive(b.t, made.Revision)
	require.False(b.t, made.CreatedAt.IsZero())
	stored, err := b.Store.PromptByHandle(b.ctx(), project.ID, "z")
	require.NoError(b.t, err)
	require.Equal(b.t, made, stored)

	_, err = b.Store.CreatePrompt(b.ctx(), By(""), newPrompt("prj_none", "x"), nil)
	requireCode(b.t, fault.NotFound, err)
}

func storePromptEdits(b bench) {
	project := b.project()
	p := b.prompt(project.ID, "p", 1)
	edit := p
	edit.Description, edit.Category, edit.Owner, edit.Archived = "d", "c", "o", true
	edit.Tags, edit.Aliases, edit.Name = []string{"t"}, []string{"p", "q"}, "r"
	edited, err := b.Store.UpdatePrompt(b.ctx(), By(""), edit)
	require.NoError(b.t, err)
	want := edit
	want.Revision, want.UpdatedAt = edited.Revision, edited.UpdatedAt
	require.Equal(b.t, want, edited)
	require.Greater(b.t, edited.Revision, p.Revision)
	stored, err := b.Store.PromptByHandle(b.ctx(), project.ID, "r")
	require.NoError(b.t, err)
	require.Equal(b.t, edited, stored)

	_, err = b.Store.UpdatePrompt(b.ctx(), By(""), edit)
	requireCode(b.t, fault.PreconditionFailed, err)
	_, err = b.Store.AddVersion(b.ctx(), By(""), Version(project.ID, p.ID, "another"))
	requireCode(b.t, fault.Conflict, err) // archived
	edited.Archived = false
	edited, err = b.Store.UpdatePrompt(b.ctx(), By(""), edited)
	require.NoError(b.t, err)
	_, err = b.Store.AddVersion(b.ctx(), By(""), Version(project.ID, p.ID, "another"))
	require.NoError(b.t, err)
	_, err = b.Store.UpdatePrompt(b.ctx(), By(""), edited)
	requireCode(b.t, fault.PreconditionFailed, err)
	edited.ID = "pmpt_none"
	_, err = b.Store.UpdatePrompt(b.ctx(), By(""), edited)
	requireCode(b.t, fault.PromptNotFound, err)
}

func storeHandles(b bench) {
	project := b.project()
	p := b.prompt(project.ID, "first", 0)
	p.Name, p.Aliases = "second", []string{"alias"}
	p, err := b.Store.UpdatePrompt(b.ctx(), By(""), p)
	require.NoError(b.t, err)
	_, err = b.Store.PromptByHandle(b.ctx(), project.ID, "first")
	requireCode(b.t, fault.PromptNotFound, err)
	p.Aliases = []string{}
	p, err = b.Store.UpdatePrompt(b.ctx(), By(""), p)
	require.NoError(b.t, err)

	for _, taken := range []string{"first", "second", "alias", p.ID} {
		_, err = b.Store.CreatePrompt(b.ctx(), By(""), newPrompt(project.ID, taken), nil)
		requireCode(b.t, fault.Conflict, err)
		other := newPrompt(project.ID, id("n-"))
		other.Aliases = []string{taken}
		_, err = b.Store.CreatePrompt(b.ctx(), By(""), other, nil)
		requireCode(b.t, fault.Conflict, err)
		_, err = b.Store.PromptByHandle(b.ctx(), project.ID, other.Name)
		requireCode(b.t, fault.PromptNotFound, err)
	}
	other := b.prompt(project.ID, "other", 0)
	other.Name = "first"
	_, err = b.Store.UpdatePrompt(b.ctx(), By(""), other)
	requireCode(b.t, fault.Conflict, err)

	p.Name, p.Aliases = "first", []string{"alias", "second"}
	p, err = b.Store.UpdatePrompt(b.ctx(), By(""), p)
	require.NoError(b.t, err, "a prompt may take back what was its own")
	for _, handle := range []string{"first", "second", "alias", p.ID} {
		got, err := b.Store.PromptByHandle(b.ctx(), project.ID, handle)
		require.NoError(b.t, err, handle)
		require.Equal(b.t, p, got)
	}
}

func storeFirstVersion(b bench) {
	project := b.project()
	p := newPrompt(project.ID, "p")
	first := Version(project.ID, p.ID, "one", "b", "a")
	first.Number = 1
	made, err := b.Store.CreatePrompt(b.ctx(), By(""), p, &first)
	require.NoError(b.t, err)
	require.Equal(b.t, 1, made.LatestVersion)
	require.Equal(b.t, []string{"a", "b"}, made.Variables)
	v, err := b.Store.VersionOf(b.ctx(), project.ID, p.ID, 1)
	require.NoError(b.t, err)
	require.Equal(b.t, first.Content, v.Content)
	require.Equal(b.t, made.Revision, v.Revision)
	require.Equal(b.t, "note on one", v.Note)
}

func storeVersionNumbers(b bench) {
	project := b.project()
	p := b.prompt(project.ID, "p", 2)
	add := func(number int, text string, vars ...string) (registry.Version, error) {
		v := Version(project.ID, p.ID, text, vars...)
		v.Number, v.Parent = number, 1
		return b.Store.AddVersion(b.ctx(), By(""), v)
	}
	v, err := add(7, "imported", "z")
	require.NoError(b.t, err)
	require.Equal(b.t, 7, v.Number)
	_, err = add(7, "again")
	requireCode(b.t, fault.Conflict, err)
	v, err = add(5, "below the latest", "a")
	require.NoError(b.t, err)
	require.Equal(b.t, 5, v.Number)
	v, err = add(0, "next")
	require.NoError(b.t, err)
	require.Equal(b.t, 8, v.Number)
	require.Equal(b.t, 1, v.Parent)
	p, err = b.Store.PromptByHandle(b.ctx(), project.ID, "p")
	require.NoError(b.t, err)
	require.Equal(b.t, 8, p.LatestVersion)
	require.Equal(b.t, []string{"a", "z"}, p.Variables, "of all versions")
	require.Equal(b.t, v.Revision, p.Revision)
	_, err = b.Store.AddVersion(b.ctx(), By(""), Version(project.ID, "pmpt_none", "x"))
	requireCode(b.t, fault.PromptNotFound, err)
}

func storeVersionsRace(b bench) {
	const n = 20
	project := b.project()
	p := b.prompt(project.ID, "p", 0)
	for _, err := range race(n, func(i int) error {
		_, err := b.Store.AddVersion(b.ctx(), By(""), Version(project.ID, p.ID, fmt.Sprint(i), fmt.Sprintf("v%02d", i)))
		return err
	}) {
		require.NoError(b.t, err)
	}
	versions, next, err := b.Store.ListVersions(b.ctx(), project.ID, p.ID, registry.Page{Limit: 100})
	require.NoError(b.t, err)
	require.Empty(b.t, next)
	require.Len(b.t, versions, n)
	for i, v := range versions {
		require.Equal(b.t, n-i, v.Number, "newest first, without gaps")
	}
	p, err = b.Store.PromptByHandle(b.ctx(), project.ID, "p")
	require.NoError(b.t, err)
	require.Equal(b.t, n, p.LatestVersion)
	require.Len(b.t, p.Variables, n, "no declaration was lost")
}

func storeLabels(b bench) {
	project := b.project()
	p := b.prompt(project.ID, "p", 3)
	move := func(m registry.LabelMove) (registry.Label, error) {
		m.Project, m.PromptID = project.ID, p.ID
		return b.Store.MoveLabel(b.ctx(), By("because"), m)
	}
	_, err := move(registry.LabelMove{Label: "x", To: 4})
	requireCode(b.t, fault.VersionNotFound, err)
	_, err = move(registry.LabelMove{Label: "x", To: 0})
	requireCode(b.t, fault.LabelNotFound, err)
	_, err = move(registry.LabelMove{Label: "x", To: 1, From: ptr(2)})
	requireCode(b.t, fault.Conflict, err)
	set, err := move(registry.LabelMove{Label: "x", To: 1, From: ptr(0)})
	require.NoError(b.t, err)
	require.Positive(b.t, set.Revision)
	_, err = move(registry.LabelMove{Label: "x", To: 2, From: ptr(0)})
	requireCode(b.t, fault.Conflict, err)
	require.Contains(b.t, err.Error(), "version 1", "the conflict tells the current value")
	_, err = move(registry.LabelMove{Label: "x", To: 2, From: ptr(3)})
	requireCode(b.t, fault.Conflict, err)
	same, err := move(registry.LabelMove{Label: "x", To: 1})
	require.NoError(b.t, err)
	require.Equal(b.t, set, same, "a move to where it points changes nothing")
	moved, err := move(registry.LabelMove{Label: "x", To: 2, From: ptr(1)})
	require.NoError(b.t, err)
	require.Equal(b.t, 2, moved.Version)
	_, err = move(registry.LabelMove{Label: "a", To: 3})
	require.NoError(b.t, err)
	labels, err := b.Store.ListLabels(b.ctx(), project.ID, p.ID)
	require.NoError(b.t, err)
	require.Len(b.t, labels, 2)
	require.Equal(b.t, "a", labels[0].Name)
	require.Equal(b.t, moved, labels[1])
	removed, err := move(registry.LabelMove{Label: "x", To: 0, From: ptr(2)})
	require.NoError(b.t, err)
	require.Zero(b.t, removed.Version)
	require.Greater(b.t, removed.Revision, moved.Revision)
	_, err = b.Store.LabelOf(b.ctx(), project.ID, p.ID, "x")
	requireCode(b.t, fault.LabelNotFound, err)
	_, err = b.Store.MoveLabel(b.ctx(), By(""), registry.LabelMove{Project: project.ID, PromptID: "pmpt_none", Label: "x", To: 1})
	requireCode(b.t, fault.PromptNotFound, err)
}

func storeLabelsRace(b bench) {
	const n = 50
	project := b.project()
	p := b.prompt(project.ID, "p", 3)
	b.move(project.ID, p.ID, "x", 1)
	errs := race(n, func(i int) error {
		_, err := b.Store.MoveLabel(b.ctx(), By(""), registry.LabelMove{
			Project: project.ID, PromptID: p.ID, Label: "x", From: ptr(1), To: 2 + i%2,
		})
		return err
	})
	requireOneWinner(b.t, errs)
	events, _, err := b.Store.LabelHistory(b.ctx(), project.ID, p.ID, "x", registry.Page{})
	require.NoError(b.t, err)
	require.Len(b.t, events, 2)
}

func requireOneWinner(t *testing.T, errs []error) {
	t.Helper()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		requireCode(t, fault.Conflict, err)
	}
	require.Equal(t, 1, won)
}

func storeNamesRace(b bench) {
	project := b.project()
	requireOneWinner(b.t, race(20, func(i int) error {
		p := newPrompt(project.ID, "wanted")
		if i%2 == 1 {
			p.Name, p.Aliases = fmt.Sprintf("n%d", i), []string{"wanted"}
		}
		_, err := b.Store.CreatePrompt(b.ctx(), By(""), p, nil)
		return err
	}))
	all, _, err := b.Store.ListPrompts(b.ctx(), project.ID, registry.PromptFilter{}, registry.Page{})
	require.NoError(b.t, err)
	require.Len(b.t, all, 1)
}

func storeEditsRace(b bench) {
	project := b.project()
	p := b.prompt(project.ID, "p", 0)
	won := 0
	for _, err := range race(20, func(i int) error {
		edit := p
		edit.Description = fmt.Sprint(i)
		_, err := b.Store.UpdatePrompt(b.ctx(), By(""), edit)
		return err
	}) {
		if err == nil {
			won++
			continue
		}
		requireCode(b.t, fault.PreconditionFailed, err)
	}
	require.Equal(b.t, 1, won)
}

func storeHistory(b bench) {
	project := b.project()
	p := b.prompt(project.ID, "p", 2)
	b.move(project.ID, p.ID, "x", 1)
	b.move(project.ID, p.ID, "y", 1)
	_, err := b.Store.MoveLabel(b.ctx(), By("it is better"), registry.LabelMove{Project: project.ID, PromptID: p.ID, Label: "x", To: 2})
	require.NoError(b.t, err)
	b.move(project.ID, p.ID, "x", 0)
	events, next, err := b.Store.LabelHistory(b.ctx(), project.ID, p.ID, "x", registry.Page{Limit: 2})
	require.NoError(b.t, err)
	require.NotEmpty(b.t, next)
	rest, next, err := b.Store.LabelHistory(b.ctx(), project.ID, p.ID, "x", registry.Page{Limit: 2, After: next})
	require.NoError(b.t, err)
	require.Empty(b.t, next)
	events = slices.Concat(events, rest)
	require.Len(b.t, events, 3)
	for i, want := range [][2]int{{2, 0}, {1, 2}, {0, 1}} {
		require.Equal(b.t, want, [2]int{events[i].From, events[i].To})
		require.Equal(b.t, "Ada", events[i].Actor)
		require.False(b.t, events[i].At.IsZero())
	}
	require.Equal(b.t, "it is better", events[1].Why)
	all, _, err := b.Store.LabelHistory(b.ctx(), project.ID, p.ID, "", registry.Page{})
	require.NoError(b.t, err)
	require.Len(b.t, all, 4)
}
