package registry_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/registrytest"
)

// fakeSource answers from maps, counts, and can be made to block or fail.
type fakeSource struct {
	mu       sync.Mutex
	projects map[string]registry.Project
	prompts  map[[2]string]registry.Prompt // project, handle
	labels   map[[3]string]registry.Label  // project, prompt, label
	versions map[string]registry.Version   // project/prompt/number
	fail     error
	before   func(what string) // runs after the answer was read and before it is given
	reads    atomic.Int64
}

func newFake() *fakeSource {
	return &fakeSource{
		projects: map[string]registry.Project{}, prompts: map[[2]string]registry.Prompt{}, labels: map[[3]string]registry.Label{},
		versions: map[string]registry.Version{},
	}
}

func versionID(project, prompt string, n int) string {
	return fmt.Sprintf("%s/%s/%d", project, prompt, n)
}

func read[K comparable, V any](f *fakeSource, what string, m map[K]V, key K, absent fault.Code) (V, error) {
	f.reads.Add(1)
	f.mu.Lock()
	v, ok := m[key]
	err := f.fail
	before := f.before
	f.mu.Unlock()
	if before != nil {
		before(what)
	}
	switch {
	case err != nil:
		return v, err
	case !ok:
		return v, fault.New(absent, "not there")
	}
	return v, nil
}

func (f *fakeSource) ProjectByID(_ context.Context, id string) (registry.Project, error) {
	return read(f, "project", f.projects, id, fault.NotFound)
}

func (f *fakeSource) PromptByHandle(_ context.Context, project, handle string) (registry.Prompt, error) {
	return read(f, "handle", f.prompts, [2]string{project, handle}, fault.PromptNotFound)
}

func (f *fakeSource) LabelOf(_ context.Context, project, prompt, label string) (registry.Label, error) {
	return read(f, "label", f.labels, [3]string{project, prompt, label}, fault.LabelNotFound)
}

func (f *fakeSource) VersionOf(_ context.Context, project, prompt string, n int) (registry.Version, error) {
	return read(f, "version", f.versions, versionID(project, prompt, n), fault.VersionNotFound)
}

func (f *fakeSource) edit(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
}

// putPrompt stores a prompt under its name and id with versions 1 to n.
func (f *fakeSource) putPrompt(project, name string, n int) registry.Prompt {
	p := registry.Prompt{ID: "pmpt_" + project + "_" + name, Project: project, Name: name, Kind: registry.KindChat, LatestVersion: n, Revision: 1}
	f.edit(func() {
		f.projects[project] = registry.Project{ID: project, DefaultLabel: registry.DefaultLabel}
		f.prompts[[2]string{project, name}] = p
		f.prompts[[2]string{project, p.ID}] = p
		for i := 1; i <= n; i++ {
			v := registrytest.Version(project, p.ID, fmt.Sprintf("%s %d", name, i))
			v.Number = i
			f.versions[versionID(project, p.ID, i)] = v
		}
	})
	return p
}

func (f *fakeSource) putLabel(p registry.Prompt, label string, version int) {
	f.edit(func() {
		f.labels[[3]string{p.Project, p.ID, label}] = registry.Label{Project: p.Project, PromptID: p.ID, Name: label, Version: version}
	})
}

// fakeFeed is a feed that the test drives.
type fakeFeed struct {
	fn        func(journal.Change)
	revision  atomic.Int64
	confirmed atomic.Pointer[time.Time]
}

func (f *fakeFeed) Subscribe(fn func(journal.Change)) { f.fn = fn }
func (f *fakeFeed) Revision() int64                   { return f.revision.Load() }
func (f *fakeFeed) ConfirmedAt() time.Time {
	if at := f.confirmed.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

func (f *fakeFeed) confirm(at time.Time) { f.confirmed.Store(&at) }

func (f *fakeFeed) touch(touches ...journal.Touch) {
	f.fn(journal.Change{Revision: f.revision.Load() + 1, Touches: touches})
	f.revision.Add(1)
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

type rig struct {
	src  *fakeSource
	feed *fakeFeed
	now  atomic.Pointer[time.Time]
	r    *registry.Resolver
}

func (r *rig) at(t time.Time) { r.now.Store(&t) }

func newRig(t testing.TB, o registry.ResolverOptions) *rig {
	g := &rig{src: newFake(), feed: &fakeFeed{}}
	g.at(epoch)
	g.feed.confirm(epoch)
	o.Clock = func() time.Time { return *g.now.Load() }
	r, err := registry.NewResolver(g.src, g.feed, o)
	require.NoError(t, err)
	g.r = r
	return g
}

// inProduction stores the prompt a/x, whose version 1 is in production, and finds it.
func (r *rig) inProduction(t testing.TB) (registry.Prompt, *registry.Identified) {
	p := r.src.putPrompt("a", "x", 1)
	r.src.putLabel(p, "production", 1)
	found, err := r.r.Identify(t.Context(), "a", "x")
	require.NoError(t, err)
	return p, found
}

func (r *rig) resolve(t testing.TB, project, handle string, sel registry.Selector) (*registry.Resolved, error) {
	p, err := r.r.Identify(t.Context(), project, handle)
	if err != nil {
		return nil, err
	}
	return r.r.Resolve(t.Context(), p, sel)
}

func label(name string) registry.Selector {
	return registry.Selector{Kind: registry.SelectLabel, Label: name}
}

func number(n int) registry.Selector {
	return registry.Selector{Kind: registry.SelectVersion, Version: n}
}

func requireCode(t testing.TB, code fault.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, fault.CodeOf(err), "%v", err)
}

// endlessSource knows a prompt of every name, each with version 1 under every label.
type endlessSource struct {
	Version registry.Version
	reads   atomic.Int64
}

func (s *endlessSource) ProjectByID(_ context.Context, id string) (registry.Project, error) {
	s.reads.Add(1)
	return registry.Project{ID: id, DefaultLabel: registry.DefaultLabel}, nil
}

func (s *endlessSource) PromptByHandle(_ context.Context, project, handle string) (registry.Prompt, error) {
	s.reads.Add(1)
	return registry.Prompt{ID: "pmpt_" + handle, Project: project, Name: handle, LatestVersion: 1, Revision: 1}, nil
}

func (s *endlessSource) LabelOf(_ context.Context, project, prompt, label string) (registry.Label, error) {
	s.reads.Add(1)
	return registry.Label{Project: project, PromptID: prompt, Name: label, Version: 1, Revision: 1}, nil
}

func (s *endlessSource) VersionOf(_ context.Context, project, prompt string, n int) (registry.Version, error) {
	s.reads.Add(1)
	v := s.Version
	v.Project, v.PromptID, v.Number = project, prompt, n
	return v, nil
}
