package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/registrytest"
	"github.com/promptgate/promptgate/registry/sqlstore"
)

// world is a store, its journal and a resolver that follows it.
type world struct {
	store    *sqlstore.Store
	resolver *registry.Resolver
	feed     *journal.Journal
}

func newWorld(t testing.TB, url string) world {
	t.Helper()
	db := testenv.Open(t, url)
	sealer := testenv.Sealer(t, db)
	j := journal.New(db, sealer, journal.Options{})
	store := sqlstore.New(db, j, sealer, sqlstore.Options{})
	r, err := registry.NewResolver(store, j, registry.ResolverOptions{StaleAfter: time.Hour, LoadTimeout: 10 * time.Second})
	require.NoError(t, err)
	require.NoError(t, j.Load(t.Context()))
	return world{store, r, j}
}

var (
	someHandles = []string{"a", "b", "a/b", "c"}
	someLabels  = []string{"production", "v2", "two", registry.LabelLatest}
)

// agree compares everything that a call can ask for with what is stored.
func (w world) agree(t *rapid.T, ctx context.Context, project string) {
	handles := someHandles
	for _, handle := range handles {
		want, wantErr := w.store.PromptByHandle(ctx, project, handle)
		got, gotErr := w.resolver.Identify(ctx, project, handle)
		if fault.CodeOf(wantErr) != fault.CodeOf(gotErr) {
			t.Fatalf("%s: stored %v, resolved %v", handle, wantErr, gotErr)
		}
		if wantErr != nil {
			continue
		}
		if asJSON(want) != asJSON(got.Prompt) {
			t.Fatalf("%s: stored %+v, resolved %+v", handle, want, got.Prompt)
		}
		w.agreeOn(t, ctx, got)
	}
}

// asJSON is a row as text: two times of one moment are the same there.
func asJSON(p registry.Prompt) string {
	raw, err := json.Marshal(p)
	return fmt.Sprintf("%s %v", raw, err)
}

func (w world) agreeOn(t *rapid.T, ctx context.Context, p *registry.Identified) {
	type pick struct {
		sel  registry.Selector
		code fault.Code
		n    int
	}
	var picks []pick
	add := func(sel registry.Selector, n int, err error) { picks = append(picks, pick{sel, fault.CodeOf(err), n}) }
	for _, name := range someLabels {
		l, err := w.store.LabelOf(ctx, p.Project, p.ID, name)
		add(label(name), l.Version, err)
	}
	for n := range 4 {
		v, err := w.store.VersionOf(ctx, p.Project, p.ID, n)
		add(number(n), v.Number, err)
	}
	project, err := w.store.ProjectByID(ctx, p.Project)
	if err != nil {
		t.Fatal(err)
	}
	l, err := w.store.LabelOf(ctx, p.Project, p.ID, project.DefaultLabel)
	add(registry.Selector{}, l.Version, err)
	for _, want := range picks {
		if p.Archived {
			want.code = fault.PromptNotFound
		}
		got, err := w.resolver.Resolve(ctx, p, want.sel)
		if fault.CodeOf(err) != want.code {
			t.Fatalf("%s %+v: stored %q, resolved %v", p.Name, want.sel, want.code, err)
		}
		if err == nil && (got.Version != want.n || got.Prompt.Revision != p.Revision || got.Prompt.ID != p.ID) {
			t.Fatalf("%s %+v: stored %d, resolved %+v", p.Name, want.sel, want.n, got)
		}
	}
}

// Whatever is done in whatever order, a resolver that has asked for everything before answers as the store does after.
func TestResolverFollowsTheStore(t *testing.T) {
	w := newWorld(t, testenv.SQLite(t))
	ctx, round := t.Context(), 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		project, err := w.store.CreateProject(ctx, by, registry.Project{
			ID: fmt.Sprintf("prj_%d", round), Name: fmt.Sprintf("p%d", round), DefaultLabel: "production",
		})
		if err != nil {
			t.Fatal(err)
		}
		for step := range rapid.IntRange(1, 10).Draw(t, "steps") {
			w.agree(t, ctx, project.ID)
			err := w.randomChange(t, ctx, project.ID, fmt.Sprintf("pmpt_%d_%d", round, step))
			switch fault.CodeOf(err) {
			case "", fault.Conflict, fault.PromptNotFound, fault.VersionNotFound, fault.LabelNotFound:
			default:
				t.Fatal(err)
			}
		}
		w.agree(t, ctx, project.ID)
	})
}

func (w world) randomChange(t *rapid.T, ctx context.Context, project, freshID string) error {
	handle := rapid.SampledFrom(someHandles).Draw(t, "handle")
	p, err := w.store.PromptByHandle(ctx, project, handle)
	if err != nil {
		_, err := w.store.CreatePrompt(ctx, by, registry.Prompt{
			ID: freshID, Project: project, Name: handle, Kind: registry.KindChat,
			Aliases: rapid.SliceOfN(rapid.SampledFrom(someHandles), 0, 1).Draw(t, "aliases"),
		}, nil)
		return err
	}
	switch rapid.SampledFrom([]string{"version", "version", "move", "move", "edit", "project"}).Draw(t, "what") {
	case "version":
		_, err = w.store.AddVersion(ctx, by, registrytest.Version(project, p.ID, rapid.StringMatching("[a-z]{3}").Draw(t, "text"), "x"))
	case "move":
		_, err = w.store.MoveLabel(ctx, by, registry.LabelMove{
			Project: project, PromptID: p.ID, Label: rapid.SampledFrom(someLabels[:3]).Draw(t, "label"), To: rapid.IntRange(0, 3).Draw(t, "to"),
		})
	case "edit":
		p.Name = rapid.SampledFrom(someHandles).Draw(t, "name")
		p.Aliases = rapid.SliceOfN(rapid.SampledFrom(someHandles), 0, 2).Draw(t, "aliases")
		p.Archived = rapid.IntRange(0, 3).Draw(t, "archived") == 0
		_, err = w.store.UpdatePrompt(ctx, by, p)
	case "project":
		var row registry.Project
		if row, err = w.store.ProjectByID(ctx, project); err == nil {
			row.DefaultLabel = rapid.SampledFrom(someLabels[:3]).Draw(t, "default")
			_, err = w.store.UpdateProject(ctx, by, row)
		}
	}
	return err
}

// Readers that run against writers never see a label go back: each reader's versions only rise, as the label's did.
func TestReadersNeverGoBack(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		ctx := t.Context()
		_, err := w.store.CreateProject(ctx, by, registry.Project{ID: "prj_1", Name: "p", DefaultLabel: "production"})
		require.NoError(t, err)
		p, err := w.store.CreatePrompt(ctx, by, registry.Prompt{ID: "pmpt_1", Project: "prj_1", Name: "p", Kind: registry.KindChat}, nil)
		require.NoError(t, err)
		const moves = 25
		done := make(chan struct{})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for last := 0; ; {
					select {
					case <-done:
						return
					default:
					}
					found, err := w.resolver.Identify(ctx, "prj_1", "p")
					if err != nil {
						t.Error(err)
						return
					}
					got, err := w.resolver.Resolve(ctx, found, label("production"))
					if fault.Is(err, fault.LabelNotFound) && last == 0 {
						continue
					}
					if err != nil || got.Version < last {
						t.Errorf("after version %d came %+v, %v", last, got, err)
						return
					}
					last = got.Version
				}
			})
		}
		for n := 1; n <= moves && !t.Failed(); n++ {
			_, err := w.store.AddVersion(ctx, by, registrytest.Version("prj_1", p.ID, fmt.Sprint(n)))
			require.NoError(t, err)
			_, err = w.store.MoveLabel(ctx, by, registry.LabelMove{Project: "prj_1", PromptID: p.ID, Label: "production", To: n})
			require.NoError(t, err)
			// Whoever asks after the change was acknowledged sees it.
			found, err := w.resolver.Identify(ctx, "prj_1", "p")
			require.NoError(t, err)
			require.Equal(t, n, found.LatestVersion)
			got, err := w.resolver.Resolve(ctx, found, label("production"))
			require.NoError(t, err)
			require.Equal(t, n, got.Version)
		}
		close(done)
		wg.Wait()
	})
}

func TestSnapshot(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{MaxStale: time.Hour})
	p := g.src.putPrompt("a", "x", 2)
	g.src.putPrompt("b", "x", 1)
	g.src.putLabel(p, "production", 2)
	g.feed.revision.Store(7)
	_, err := g.resolve(t, "a", "x", registry.Selector{})
	require.NoError(t, err)
	raw, err := json.Marshal(g.r.Served())
	require.NoError(t, err)
	var snapshot registry.Snapshot
	require.NoError(t, json.Unmarshal(raw, &snapshot))

	down := newRig(t, registry.ResolverOptions{MaxStale: time.Hour})
	down.src.fail = fault.New(fault.RegistryUnavailable, "down")
	down.feed.confirmed.Store(nil)
	down.at(epoch.Add(time.Minute))
	require.Error(t, down.r.Preload(t.Context(), snapshot), "the feed does not stand where the snapshot does")
	down.feed.revision.Store(7)
	require.NoError(t, down.r.Preload(t.Context(), snapshot))
	for range 2 {
		got, err := down.resolve(t, "a", "x", registry.Selector{})
		require.NoError(t, err)
		require.Equal(t, 2, got.Version)
		require.Equal(t, time.Minute, got.Stale)
		require.Equal(t, "x 2", got.Template.Content().Messages[0].Text)
	}
	_, err = down.resolve(t, "b", "x", registry.Selector{})
	requireCode(t, fault.RegistryUnavailable, err)
	_, err = down.resolve(t, "a", "x", number(2))
	require.NoError(t, err)
	again := down.r.Served()
	require.Equal(t, snapshot.ConfirmedAt.UTC(), again.ConfirmedAt.UTC(), "a second start is not fresher")

	// What changed since the snapshot is delivered when the journal is back, and counts: the old target is not served any more.
	down.feed.touch(registry.LabelTouch("a", p.ID, "production"))
	down.feed.confirm(epoch.Add(time.Minute))
	_, err = down.resolve(t, "a", "x", registry.Selector{})
	requireCode(t, fault.RegistryUnavailable, err)

	down.feed.confirmed.Store(nil)
	down.at(epoch.Add(time.Hour + 1))
	_, err = down.resolve(t, "a", "x", number(2))
	requireCode(t, fault.RegistryUnavailable, err)
}

// No two things that differ have one touch, whatever their parts are spelled like.
func TestTouchesNeverCollide(t *testing.T) {
	part := rapid.StringMatching(`[a-z0-9_.:/@-]{0,6}`)
	rapid.Check(t, func(t *rapid.T) {
		make := func(name string) (id string, touch journal.Touch) {
			a, b, c := part.Draw(t, name+"a"), part.Draw(t, name+"b"), part.Draw(t, name+"c")
			n := rapid.IntRange(0, 99).Draw(t, name+"n")
			switch kind := rapid.IntRange(0, 4).Draw(t, name+"kind"); kind {
			case 0:
				return fmt.Sprintf("project %q", a), registry.ProjectTouch(a)
			case 1:
				return fmt.Sprintf("handle %q %q", a, b), registry.HandleTouch(a, b)
			case 2:
				return fmt.Sprintf("prompt %q %q", a, b), registry.PromptTouch(a, b)
			case 3:
				prompt, label, ok := registry.ParseLabelTouch(registry.LabelTouch(a, b, c))
				if !ok || prompt != b || label != c {
					t.Fatalf("label %q %q came back as %q %q", b, c, prompt, label)
				}
				return fmt.Sprintf("label %q %q %q", a, b, c), registry.LabelTouch(a, b, c)
			default:
				prompt, number, ok := registry.ParseVersionTouch(registry.VersionTouch(a, b, n))
				if !ok || prompt != b || number != n {
					t.Fatalf("version %q %d came back as %q %d", b, n, prompt, number)
				}
				return fmt.Sprintf("version %q %q %d", a, b, n), registry.VersionTouch(a, b, n)
			}
		}
		idA, a := make("a")
		idB, b := make("b")
		if (idA == idB) != (a == b) {
			t.Fatalf("%s and %s: %+v, %+v", idA, idB, a, b)
		}
	})
}
