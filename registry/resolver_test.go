package registry_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/registrytest"
	"github.com/promptgate/promptgate/registry/template"
)

func TestResolveWarmReadsNothing(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{})
	p := g.src.putPrompt("a", "x", 3)
	g.src.putLabel(p, "production", 2)
	for _, sel := range []registry.Selector{{}, label("production"), number(3)} {
		cold, err := g.resolve(t, "a", "x", sel)
		require.NoError(t, err)
		reads := g.src.reads.Load()
		warm, err := g.resolve(t, "a", "x", sel)
		require.NoError(t, err)
		require.Same(t, cold, warm)
		require.Equal(t, reads, g.src.reads.Load())
		require.Zero(t, warm.Stale)
		require.NotEmpty(t, warm.Digest)
	}
	byDefault, err := g.resolve(t, "a", "x", registry.Selector{})
	require.NoError(t, err)
	require.Equal(t, 2, byDefault.Version)
	require.Equal(t, "production", byDefault.Label)
	byNumber, err := g.resolve(t, "a", "x", number(3))
	require.NoError(t, err)
	require.Empty(t, byNumber.Label)
	require.Equal(t, "x 3", byNumber.Template.Content().Messages[0].Text)
	// The id is another handle of the same row: it finds what the name warmed.
	reads := g.src.reads.Load()
	_, err = g.resolve(t, "a", p.ID, label("production"))
	require.NoError(t, err)
	require.Equal(t, reads+1, g.src.reads.Load())
}

func TestResolveAllocatesNothing(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{})
	p := g.src.putPrompt("a", "x", 1)
	g.src.putLabel(p, "production", 1)
	for _, sel := range []registry.Selector{{}, label("production"), number(1)} {
		_, err := g.resolve(t, "a", "x", sel)
		require.NoError(t, err)
		require.Zero(t, testing.AllocsPerRun(1000, func() { _, _ = g.resolve(t, "a", "x", sel) }))
	}
}

func TestResolveKeysNeverMeet(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{})
	p, q := g.src.putPrompt("a", "x", 4), g.src.putPrompt("b", "x", 1)
	g.src.putPrompt("a", "x/y", 1)
	g.src.putLabel(p, "v3", 1)
	g.src.putLabel(p, "three", 2)
	g.src.putLabel(q, "v3", 1)
	for range 2 { // cold, then warm
		for want, sel := range map[int]registry.Selector{1: label("v3"), 2: label("three"), 3: number(3)} {
			got, err := g.resolve(t, "a", "x", sel)
			require.NoError(t, err)
			require.Equal(t, want, got.Version)
			require.Equal(t, fmt.Sprintf("x %d", want), got.Template.Content().Messages[0].Text)
		}
		_, err := g.resolve(t, "a", "x", label("3"))
		requireCode(t, fault.LabelNotFound, err)
		other, err := g.resolve(t, "b", "x", label("v3"))
		require.NoError(t, err)
		require.Equal(t, q.ID, other.Prompt.ID)
		_, err = g.resolve(t, "b", "x", number(3))
		requireCode(t, fault.VersionNotFound, err)
	}
}

// An id alone is no prompt: projects may have the same one.
func TestSameIDInTwoProjects(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{})
	rows := []registry.Prompt{g.src.putPrompt("a", "x", 4), g.src.putPrompt("b", "x", 4), g.src.putPrompt("a", "y", 4)}
	sameID := rows[0]
	sameID.Project = "b"
	g.src.edit(func() {
		g.src.prompts[[2]string{"b", sameID.ID}] = sameID
		g.src.versions[versionID("b", sameID.ID, 4)] = g.src.versions[versionID("a", sameID.ID, 4)]
	})
	for i, p := range append(rows, sameID) {
		g.src.putLabel(p, "production", i+1)
		got, err := g.resolve(t, p.Project, p.ID, label("production"))
		require.NoError(t, err)
		require.Equal(t, i+1, got.Version)
	}
	reads := g.src.reads.Load()
	got, err := g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err)
	require.Equal(t, 1, got.Version)
	require.Equal(t, reads+1, g.src.reads.Load(), "its label is known: one key, wherever the row came from")
}

func TestChangesAreSeen(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{})
	_, err := g.resolve(t, "a", "x", label("production"))
	requireCode(t, fault.PromptNotFound, err)
	p := g.src.putPrompt("a", "x", 2)
	_, err = g.resolve(t, "a", "x", label("production"))
	requireCode(t, fault.PromptNotFound, err) // remembered, until told
	g.feed.touch(registry.HandleTouch("b", "x"), registry.HandleTouch("a", "xx"))
	_, err = g.resolve(t, "a", "x", label("production"))
	requireCode(t, fault.PromptNotFound, err)
	g.feed.touch(registry.HandleTouch("a", "x"))
	_, err = g.resolve(t, "a", "x", label("production"))
	requireCode(t, fault.LabelNotFound, err)
	for _, to := range []int{1, 2} {
		g.src.putLabel(p, "production", to)
		g.feed.touch(registry.LabelTouch("a", p.ID, "production"))
		got, err := g.resolve(t, "a", "x", label("production"))
		require.NoError(t, err)
		require.Equal(t, to, got.Version)
	}
	g.src.edit(func() { clear(g.src.labels) })
	g.feed.touch(registry.LabelTouch("a", p.ID, "production"))
	_, err = g.resolve(t, "a", "x", label("production"))
	requireCode(t, fault.LabelNotFound, err)

	_, err = g.resolve(t, "a", "x", number(3))
	requireCode(t, fault.VersionNotFound, err)
	g.src.putPrompt("a", "x", 3)
	g.feed.touch(registry.VersionTouch("a", p.ID, 3))
	_, err = g.resolve(t, "a", "x", number(3))
	require.NoError(t, err)

	g.src.putLabel(p, "production", 1)
	g.src.putLabel(p, "stable", 2)
	g.feed.touch(registry.LabelTouch("a", p.ID, "production"))
	got, err := g.resolve(t, "a", "x", registry.Selector{})
	require.NoError(t, err)
	require.Equal(t, 1, got.Version)
	g.src.edit(func() { g.src.projects["a"] = registry.Project{ID: "a", DefaultLabel: "stable"} })
	g.feed.touch(registry.ProjectTouch("a"))
	got, err = g.resolve(t, "a", "x", registry.Selector{})
	require.NoError(t, err)
	require.Equal(t, 2, got.Version)
}

func TestChangedRowIsInResolved(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{})
	p, old := g.inProduction(t)
	_, err := g.r.Resolve(t.Context(), old, label("production"))
	require.NoError(t, err)
	renamed := p
	renamed.Name, renamed.Revision = "y", 2
	g.src.edit(func() { g.src.prompts[[2]string{"a", "x"}] = renamed })
	g.feed.touch(registry.HandleTouch("a", "x"))
	got, err := g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err)
	require.Equal(t, "y", got.Prompt.Name)
	again, err := g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err)
	require.Same(t, got, again, "the new row was put in place, once")
	// Who was authorized by the old reading gets the old reading, and does not undo the new one.
	stale, err := g.r.Resolve(t.Context(), old, label("production"))
	require.NoError(t, err)
	require.Equal(t, "x", stale.Prompt.Name)
	again, err = g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err)
	require.Same(t, got, again)

	renamed.Archived, renamed.Revision = true, 3
	g.src.edit(func() { g.src.prompts[[2]string{"a", "x"}] = renamed })
	g.feed.touch(registry.HandleTouch("a", "x"))
	_, err = g.resolve(t, "a", "x", label("production"))
	requireCode(t, fault.PromptNotFound, err)
	require.Equal(t, registry.ErrPromptNotFound().Error(), err.Error())
}

// The label moves after the load read the old value and before it could remember it.
func TestLoadOvertakenByAChange(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{})
	p := g.src.putPrompt("a", "x", 2)
	g.src.putLabel(p, "production", 1)
	moved := false
	g.src.before = func(what string) {
		if what == "label" && !moved {
			moved = true
			g.src.putLabel(p, "production", 2)
			g.feed.touch(registry.LabelTouch("a", p.ID, "production"))
		}
	}
	got, err := g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err)
	require.True(t, moved)
	require.Equal(t, 2, got.Version, "the caller loads again")
	got, err = g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err)
	require.Equal(t, 2, got.Version, "the old value was not remembered")
}

// A label that moves faster than it can be read is answered, and never remembered in passing.
func TestLoadAlwaysOvertaken(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{})
	p := g.src.putPrompt("a", "x", 1)
	g.src.putLabel(p, "production", 1)
	storm := true
	g.src.before = func(what string) {
		if what == "label" && storm {
			g.feed.touch(registry.LabelTouch("a", p.ID, "production"))
		}
	}
	_, err := g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err)
	storm = false
	reads := g.src.reads.Load()
	_, err = g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err)
	require.Greater(t, g.src.reads.Load(), reads)
}

// Who asks after a change was announced does not wait for, and does not get, what was read before it.
func TestLateCallerGetsTheNewValue(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{})
	p := g.src.putPrompt("a", "x", 2)
	g.src.putLabel(p, "production", 1)
	_, err := g.r.Identify(t.Context(), "a", "x")
	require.NoError(t, err)
	reading, release := make(chan struct{}), make(chan struct{})
	var seen atomic.Bool
	g.src.edit(func() {
		g.src.before = func(what string) {
			if what == "label" && !seen.Swap(true) {
				close(reading)
				<-release
			}
		}
	})
	early := make(chan int)
	go func() {
		got, err := g.resolve(t, "a", "x", label("production"))
		if err != nil {
			early <- -1
			return
		}
		early <- got.Version
	}()
	<-reading // the old value is in hand
	g.src.putLabel(p, "production", 2)
	g.feed.touch(registry.LabelTouch("a", p.ID, "production"))
	late, err := g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err)
	require.Equal(t, 2, late.Version)
	close(release)
	require.Equal(t, 2, <-early)
	got, err := g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err)
	require.Same(t, late, got)
}

func TestOneFlightPerKey(t *testing.T) {
	const callers = 50
	g := newRig(t, registry.ResolverOptions{})
	g.src.putPrompt("a", "x", 1)
	reading, release := make(chan struct{}), make(chan struct{})
	g.src.before = func(string) { close(reading); <-release } // a second read would panic
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = g.r.Identify(t.Context(), "a", "x") })
	<-reading
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := g.r.Identify(gone, "a", "x")
	requireCode(t, fault.ClientClosed, err)
	for range callers {
		wg.Go(func() {
			if _, err := g.r.Identify(t.Context(), "a", "x"); err != nil {
				t.Error(err)
			}
		})
	}
	close(release)
	wg.Wait()
	require.EqualValues(t, 1, g.src.reads.Load())
}

func TestLeaderLeavingDoesNotFailTheLoad(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{})
	g.src.putPrompt("a", "x", 1)
	ctx, cancel := context.WithCancel(t.Context())
	g.src.before = func(string) { cancel() }
	_, _ = g.r.Identify(ctx, "a", "x")
	_, err := g.r.Identify(t.Context(), "a", "x")
	require.NoError(t, err)
	require.EqualValues(t, 1, g.src.reads.Load())
}

func TestPanickingSourceReleasesWaiters(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{})
	g.src.putPrompt("a", "x", 1)
	g.src.before = func(string) { panic("driver") }
	require.Panics(t, func() { _, _ = g.r.Identify(t.Context(), "a", "x") })
	g.src.before = nil
	_, err := g.r.Identify(t.Context(), "a", "x")
	require.NoError(t, err)
}

func TestUnreachableIsNoAbsence(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{})
	p := g.src.putPrompt("a", "x", 1)
	g.src.putLabel(p, "production", 1)
	for _, down := range []error{
		fault.New(fault.RegistryUnavailable, "down"), errors.New("connection refused"), context.DeadlineExceeded,
		fault.New(fault.Conflict, "odd"),
	} {
		g.src.edit(func() { g.src.fail = down })
		_, err := g.resolve(t, "a", "x", label("production"))
		requireCode(t, fault.RegistryUnavailable, err)
	}
	g.src.edit(func() { g.src.fail = nil })
	_, err := g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err, "a failure is not remembered")
	g.src.edit(func() { g.src.fail = errors.New("down") })
	_, err = g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err, "what is known is served")
	_, err = g.resolve(t, "a", "x", number(1))
	require.NoError(t, err, "its version is known as well")
	_, err = g.resolve(t, "a", "x", label("staging"))
	requireCode(t, fault.RegistryUnavailable, err)
}

func TestStaleness(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{StaleAfter: 2 * time.Second, MaxStale: time.Hour})
	_, known := g.inProduction(t)
	fresh, err := g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err)
	_, err = g.resolve(t, "a", "none", label("production"))
	requireCode(t, fault.PromptNotFound, err)

	g.at(epoch.Add(2 * time.Second))
	got, err := g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err)
	require.Same(t, fresh, got)
	g.at(epoch.Add(3 * time.Second))
	got, err = g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err)
	require.Equal(t, 3*time.Second, got.Stale)
	require.Zero(t, fresh.Stale, "the shared one is not written to")
	reads := g.src.reads.Load()
	_, err = g.resolve(t, "a", "none", label("production"))
	requireCode(t, fault.PromptNotFound, err)
	require.Greater(t, g.src.reads.Load(), reads, "an old absence is asked again")

	g.at(epoch.Add(time.Hour + 1))
	_, err = g.resolve(t, "a", "x", label("production"))
	requireCode(t, fault.RegistryUnavailable, err)
	_, err = g.r.Resolve(t.Context(), known, label("production"))
	requireCode(t, fault.RegistryUnavailable, err)
	g.feed.confirm(epoch.Add(time.Hour))
	got, err = g.resolve(t, "a", "x", label("production"))
	require.NoError(t, err)
	require.Zero(t, got.Stale)
}

func TestNeverConfirmedIsUnavailable(t *testing.T) {
	r, err := registry.NewResolver(newFake(), &fakeFeed{}, registry.ResolverOptions{})
	require.NoError(t, err)
	_, err = r.Identify(t.Context(), "a", "x")
	requireCode(t, fault.RegistryUnavailable, err)
}

func TestAbsencesAreBounded(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{Absences: 100})
	g.src.putPrompt("a", "x", 1)
	_, err := g.r.Identify(t.Context(), "a", "x")
	require.NoError(t, err)
	for i := range 5000 {
		_, err := g.r.Identify(t.Context(), "a", fmt.Sprintf("none%d", i))
		requireCode(t, fault.PromptNotFound, err)
	}
	reads := g.src.reads.Load()
	_, err = g.r.Identify(t.Context(), "a", "x")
	require.NoError(t, err)
	require.Equal(t, reads, g.src.reads.Load(), "absences do not push out what exists")
	for i := range 5000 {
		_, _ = g.r.Identify(t.Context(), "a", fmt.Sprintf("none%d", i))
	}
	require.Greater(t, g.src.reads.Load(), reads+4000)
}

func TestIncludedTexts(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{})
	part := g.src.putPrompt("a", "part", 1)
	pinned := g.src.versions[versionID("a", part.ID, 1)]
	p := g.src.putPrompt("a", "x", 1)
	v := registrytest.Version("a", p.ID, "Say: {{> part@1}}")
	v.Number = 1
	v.Content.References = []template.Reference{{Spelling: "part@1", PromptID: part.ID, Version: 1, Digest: pinned.Digest}}
	digest, err := v.Content.Digest()
	require.NoError(t, err)
	v.Digest = digest
	g.src.edit(func() { g.src.versions[versionID("a", p.ID, 1)] = v })
	got, err := g.resolve(t, "a", "x", number(1))
	require.NoError(t, err)
	bound, err := got.Template.Bind(t.Context(), nil, nil)
	require.NoError(t, err)
	out, err := bound.AppendMessages(nil, nil)
	require.NoError(t, err)
	require.Contains(t, string(out), "Say: part 1")

	g.src.edit(func() { delete(g.src.versions, versionID("a", part.ID, 1)) })
	again := newRig(t, registry.ResolverOptions{})
	again.src.prompts, again.src.versions = g.src.prompts, g.src.versions
	_, err = again.resolve(t, "a", "x", number(1))
	requireCode(t, fault.Internal, err)
	g.src.edit(func() { g.src.fail = errors.New("down") })
	again.src.fail = g.src.fail
	_, err = again.resolve(t, "a", "x", number(1))
	requireCode(t, fault.RegistryUnavailable, err)
}

// Wherever a version comes from, a cache that others write included: what its digest does not name is not served.
func TestAlteredVersionsAreNotServed(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{})
	part, p := g.src.putPrompt("a", "part", 1), g.src.putPrompt("a", "x", 1)
	pinned := g.src.versions[versionID("a", part.ID, 1)]
	v := registrytest.Version("a", p.ID, "Say: {{> part@1}}")
	v.Number, v.Content.References = 1, []template.Reference{{Spelling: "part@1", PromptID: part.ID, Version: 1, Digest: pinned.Digest}}
	var err error
	v.Digest, err = v.Content.Digest()
	require.NoError(t, err)
	altered := pinned
	altered.Content.Messages = []template.Message{{Role: "user", Text: "something else"}}
	g.src.edit(func() {
		g.src.versions[versionID("a", p.ID, 1)] = v
		g.src.versions[versionID("a", part.ID, 1)] = altered
	})
	for _, name := range []string{"part", "x"} {
		_, err = g.resolve(t, "a", name, number(1))
		requireCode(t, fault.Internal, err)
		require.ErrorContains(t, err, "is not what was saved")
	}
	g.src.edit(func() { g.src.versions[versionID("a", part.ID, 1)] = pinned })
	_, err = g.resolve(t, "a", "x", number(1))
	require.NoError(t, err, "the refusal is not remembered")
}

// What calls use stays in memory, although most of them do not ask the cache for it.
func TestUsedLabelsStay(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{PointerBytes: 1 << 20})
	hot := g.src.putPrompt("a", "hot", 1)
	g.src.putLabel(hot, "production", 1)
	for i := range 2000 {
		for range 2 * 16 {
			_, err := g.resolve(t, "a", "hot", label("production"))
			require.NoError(t, err)
		}
		cold := g.src.putPrompt("a", fmt.Sprintf("cold%d", i), 1)
		g.src.putLabel(cold, "production", 1)
		_, err := g.resolve(t, "a", cold.Name, label("production"))
		require.NoError(t, err)
	}
	asked := 0
	g.src.edit(func() {
		g.src.before = func(what string) {
			if what == "label" {
				asked++
			}
		}
	})
	for i := range 2000 {
		_, err := g.resolve(t, "a", fmt.Sprintf("cold%d", i), label("production"))
		require.NoError(t, err)
	}
	require.Greater(t, asked, 1000, "there is no room for all")
	asked = 0
	_, err := g.resolve(t, "a", "hot", label("production"))
	require.NoError(t, err)
	require.Zero(t, asked)
}

// Of two labels of one prompt that take turns, each is what it is, whichever was first, and whichever moves.
func TestLabelsTakeTurns(t *testing.T) {
	for _, names := range [][]string{{"production", "staging"}, {"staging", "production"}} {
		g := newRig(t, registry.ResolverOptions{})
		p := g.src.putPrompt("a", "x", 3)
		want := map[string]int{"production": 1, "staging": 2}
		takeTurns := func() {
			for range 100 {
				for _, name := range names {
					got, err := g.resolve(t, "a", "x", label(name))
					require.NoError(t, err)
					require.Equal(t, want[name], got.Version, name)
				}
			}
		}
		for name, n := range want {
			g.src.putLabel(p, name, n)
		}
		takeTurns()
		require.EqualValues(t, 200-2, g.r.MemoryReads()[registry.TouchLabel], "all but the first are found in memory")
		want["production"] = 3
		g.src.putLabel(p, "production", 3)
		g.feed.touch(registry.LabelTouch("a", p.ID, "production"))
		takeTurns()
	}
}

// A label that was forgotten takes no room, although its prompt is still known.
func TestForgottenLabelsAreFreed(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{})
	p, known := g.inProduction(t)
	served := func() weak.Pointer[registry.Resolved] {
		found, err := g.r.Resolve(t.Context(), known, label("production"))
		require.NoError(t, err)
		again, err := g.r.Resolve(t.Context(), known, label("production"))
		require.NoError(t, err)
		require.Same(t, found, again)
		return weak.Make(found)
	}()
	g.feed.touch(registry.LabelTouch("a", p.ID, "production"))
	require.Eventually(t, func() bool { runtime.GC(); return served.Value() == nil }, 10*time.Second, time.Millisecond)
	runtime.KeepAlive(known)
}

// A label whose target this release does not know serves nothing, whatever stands in its version.
func TestUnknownTargetIsNotServed(t *testing.T) {
	g := newRig(t, registry.ResolverOptions{})
	p, found := g.inProduction(t)
	g.src.edit(func() {
		g.src.labels[[3]string{"a", p.ID, "split"}] = registry.Label{Project: "a", PromptID: p.ID, Name: "split", Target: "rollout", Version: 1}
	})
	_, err := g.r.Resolve(t.Context(), found, label("split"))
	requireCode(t, fault.Internal, err)
	require.Contains(t, err.Error(), "rollout")
	_, err = g.r.Resolve(t.Context(), found, label("production"))
	require.NoError(t, err)
}
