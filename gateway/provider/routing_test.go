package provider_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
)

// named is a provider that is nothing but a name, and counts its closings.
type named struct {
	script
	mu     sync.Mutex
	closes int
}

func newNamed(name string) *named { return &named{script: script{name: name, steps: statuses(200)}} }

func (n *named) Close() error { n.mu.Lock(); defer n.mu.Unlock(); n.closes++; return nil }

// source is a store in memory.
type source struct {
	mu      sync.Mutex
	defs    map[string][]provider.Definition
	aliases map[string][]provider.Alias
	loads   int
	err     error
	during  func() // runs once, while a load has read and not yet returned
}

func (s *source) Load(_ context.Context, project string) ([]provider.Definition, []provider.Alias, error) {
	s.mu.Lock()
	defs, aliases, err, during := s.defs[project], s.aliases[project], s.err, s.during
	s.loads++
	s.during = nil
	s.mu.Unlock()
	if during != nil {
		during()
	}
	return defs, aliases, err
}

func (s *source) set(project string, defs []provider.Definition, aliases ...provider.Alias) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.defs[project], s.aliases[project] = defs, aliases
}

type world struct {
	*provider.Routes
	source *source
	built  []*named
}

func newWorld(t *testing.T) *world {
	w := &world{source: &source{defs: map[string][]provider.Definition{}, aliases: map[string][]provider.Alias{}}}
	var err error
	w.Routes, err = provider.NewRoutes(provider.RoutesOptions{
		Static: []provider.Static{
			{Provider: newNamed("openai"), Models: []string{"gpt-*", "gpt-4o"}},
			{Provider: newNamed("mini"), Models: []string{"gpt-4o-mini", "gpt-*-mini", "o*"}},
			{Provider: newNamed("rest")},
		},
		Source: w.source,
		Build: func(d provider.Definition) (provider.Provider, error) {
			if d.BaseURL == "bad" {
				return nil, errors.New("bad address")
			}
			n := newNamed(d.Name)
			w.built = append(w.built, n)
			return n, nil
		},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.Close()) })
	return w
}

func (w *world) changed(project string) {
	w.Changed(journal.Change{Touches: []journal.Touch{{Kind: provider.TouchProvider, Project: project, Key: "x"}}})
}

func (w *world) route(t *testing.T, project, model string) string {
	t.Helper()
	targets, err := w.Route(t.Context(), project, model)
	if err != nil {
		return string(fault.CodeOf(err))
	}
	out := ""
	for _, x := range targets {
		require.NotNil(t, x.Breaker)
		out += fmt.Sprintf("%s:%s ", x.Provider.Name(), x.Model)
	}
	return out
}

func def(id, name string, models ...string) provider.Definition {
	return provider.Definition{ID: id, Project: "p", Name: name, Kind: provider.ProviderEcho, Models: models, Enabled: true, Revision: 1}
}

func TestPrecedence(t *testing.T) {
	w := newWorld(t)
	for model, want := range map[string]string{
		"gpt-4o": "openai:gpt-4o ", "gpt-4o-mini": "mini:gpt-4o-mini ", "gpt-5-mini": "mini:gpt-5-mini ", "gpt-5": "openai:gpt-5 ",
		"o3": "mini:o3 ", "llama": "rest:llama ", "gpt-": "openai:gpt- ", "": "model_not_found",
	} {
		require.Equal(t, want, w.route(t, "p", model), model)
	}
	w.source.set("p", []provider.Definition{def("1", "own", "gpt-*", "special"), def("2", "other", "gpt-4*")},
		provider.Alias{Name: "special", Targets: []provider.AliasTarget{{Provider: "other", Model: "x"}, {Provider: "rest", Model: "y"}}},
		provider.Alias{Name: "gone", Targets: []provider.AliasTarget{{Provider: "disabled", Model: "x"}}})
	w.changed("p")
	for model, want := range map[string]string{
		"special": "other:x rest:y ", "gpt-4o": "other:gpt-4o ", "gpt-5": "own:gpt-5 ", "gpt-4o-mini": "other:gpt-4o-mini ",
		"llama": "rest:llama ", "gone": "model_not_found",
	} {
		require.Equal(t, want, w.route(t, "p", model), model)
	}
	require.Equal(t, "openai:gpt-4o ", w.route(t, "q", "gpt-4o"), "another project sees nothing of it")

	models, err := w.Models(t.Context(), "p")
	require.NoError(t, err)
	require.Equal(t, []string{"gone", "gpt-4o", "gpt-4o-mini", "special"}, models)
	models, err = w.Models(t.Context(), "q")
	require.NoError(t, err)
	require.Equal(t, []string{"gpt-4o", "gpt-4o-mini"}, models)
}

func TestUnknownModel(t *testing.T) {
	r, err := provider.NewRoutes(provider.RoutesOptions{Static: []provider.Static{{Provider: newNamed("a"), Models: []string{"m"}}}})
	require.NoError(t, err)
	_, err = r.Route(t.Context(), "p", "other")
	require.True(t, fault.Is(err, fault.ModelNotFound))
	require.Contains(t, err.Error(), "ask an admin")
}

func TestContradictions(t *testing.T) {
	for _, static := range [][]provider.Static{
		{{Provider: newNamed("a")}, {Provider: newNamed("a")}},
		{{Provider: newNamed("a"), Models: []string{"a*b*"}}},
		{{Provider: newNamed("a"), Models: []string{"a b"}}},
	} {
		_, err := provider.NewRoutes(provider.RoutesOptions{Static: static})
		require.Error(t, err)
	}
	_, err := provider.NewRoutes(provider.RoutesOptions{Source: &source{}})
	require.Error(t, err)
}

func TestReloads(t *testing.T) {
	w := newWorld(t)
	first, second := def("1", "keep", "a"), def("2", "change", "b")
	w.source.set("p", []provider.Definition{first, second})
	require.Equal(t, "keep:a ", w.route(t, "p", "a"))
	for range 10 {
		w.route(t, "p", "b")
	}
	require.Equal(t, 1, w.source.loads, "warm calls read nothing")

	w.Changed(journal.Change{Touches: []journal.Touch{{Kind: "label", Project: "p"}, {Kind: provider.TouchProvider, Project: "q"}}})
	w.route(t, "p", "a")
	require.Equal(t, 1, w.source.loads, "others' changes")

	second.Revision = 2
	w.source.set("p", []provider.Definition{first, second})
	w.changed("p")
	require.Equal(t, "change:b ", w.route(t, "p", "b"))
	require.Equal(t, 2, w.source.loads)
	require.Len(t, w.built, 3, "only what changed is made anew")
	require.Equal(t, 0, w.built[0].closes)
	require.Equal(t, 1, w.built[1].closes, "what was replaced is closed")

	w.source.set("p", nil)
	w.changed("p")
	require.Equal(t, "rest:a ", w.route(t, "p", "a"))
	require.Equal(t, 1, w.built[0].closes)
	require.Equal(t, 1, w.built[2].closes)
}

func TestAStoreThatCannotAnswer(t *testing.T) {
	w := newWorld(t)
	w.source.set("p", []provider.Definition{def("1", "own")})
	require.Equal(t, "own:m ", w.route(t, "p", "m"))
	w.source.err = errors.New("down")
	require.Equal(t, "own:m ", w.route(t, "p", "m"), "what is warm needs no store")
	require.Equal(t, "registry_unavailable", w.route(t, "q", "m"), "never another provider instead")
	w.changed("p")
	require.Equal(t, "registry_unavailable", w.route(t, "p", "m"), "never what an admin has just changed")
	w.source.err = nil
	require.Equal(t, "own:m ", w.route(t, "p", "m"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.Route(ctx, "new", "m")
	require.True(t, fault.Is(err, fault.ClientClosed))
}

// A change that is committed while an older state is being read must not be lost.
func TestAChangeDuringALoad(t *testing.T) {
	w := newWorld(t)
	w.source.set("p", []provider.Definition{def("1", "old", "m")})
	w.source.during = func() {
		w.source.set("p", []provider.Definition{def("2", "new", "m")})
		w.changed("p")
	}
	require.Equal(t, "new:m ", w.route(t, "p", "m"))
	require.Equal(t, 2, w.source.loads)
}

func TestAProviderThatCannotBeMade(t *testing.T) {
	w := newWorld(t)
	bad := def("1", "own", "gpt-4o")
	bad.BaseURL = "bad"
	w.source.set("p", []provider.Definition{bad})
	targets, err := w.Route(t.Context(), "p", "gpt-4o")
	require.NoError(t, err)
	require.Equal(t, "own", targets[0].Provider.Name(), "it does not fall through to a configured one")
	_, err = targets[0].Provider.Do(t.Context(), &provider.Request{})
	var e *provider.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, provider.KindRefused, e.Kind)
}

func TestRoutesConcurrently(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	w.source.set("p", []provider.Definition{def("1", "own", "m")})
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				if i == 0 {
					w.changed("p")
				}
				if targets, err := w.Route(t.Context(), "p", "m"); err != nil || targets[0].Provider.Name() != "own" {
					t.Errorf("%v %v", targets, err)
					return
				}
				w.Breakers(func(string, string, *provider.Breaker) {})
			}
		})
	}
	wg.Wait()
	require.Len(t, w.built, 1)
}

func TestDefinitionCheck(t *testing.T) {
	good := provider.Definition{Name: "own", Kind: provider.ProviderOpenAI, BaseURL: "https://h/v1", Credential: provider.NewSecret("sk"), Models: []string{"gpt-*", "org/model:1"}}
	require.NoError(t, good.Check(false))
	for param, breakIt := range map[string]func(*provider.Definition){
		"name":         func(d *provider.Definition) { d.Name = "Own name" },
		"kind":         func(d *provider.Definition) { d.Kind = "gemini" },
		"base_url":     func(d *provider.Definition) { d.BaseURL = "http://10.0.0.1" },
		"credential":   func(d *provider.Definition) { d.Credential = provider.NewSecret("a\nb") },
		"organization": func(d *provider.Definition) { d.Organization = "a b" },
		"models":       func(d *provider.Definition) { d.Models = []string{"a*b*"} },
	} {
		d := good
		breakIt(&d)
		var f *fault.Error
		require.ErrorAs(t, d.Check(false), &f, param)
		require.Equal(t, fault.InvalidRequest, f.Code)
		require.Equal(t, param, f.Param)
	}
	for _, a := range []provider.Alias{
		{Name: "a"}, {Name: "default"}, {Name: "prompt/x"}, {Name: "a*"}, {Name: ""},
		{Name: "a", Targets: []provider.AliasTarget{{Provider: "X", Model: "m"}}},
		{Name: "a", Targets: []provider.AliasTarget{{Provider: "x", Model: ""}}},
		{Name: "a", Targets: []provider.AliasTarget{{Provider: "x", Model: "m"}, {Provider: "x", Model: "m"}}},
	} {
		if len(a.Targets) == 0 && a.Name != "a" {
			a.Targets = []provider.AliasTarget{{Provider: "x", Model: "m"}}
		}
		require.True(t, fault.Is(a.Check(), fault.InvalidRequest), "%+v", a)
	}
}

func TestTheCredentialDoesNotFollowTheAddress(t *testing.T) {
	stored := provider.Definition{Kind: provider.ProviderOpenAI, BaseURL: "https://h/v1", HasCredential: true}
	for url, same := range map[string]bool{
		"https://h/v1": true, "https://h/v1/": true, "HTTPS://H/v1": true,
		"https://evil/v1": false, "https://h/v2": false, "https://h:8443/v1": false, "http://h/v1": false, "https://h/v1?x=1": false, "": false, "https://h.evil/v1": false,
	} {
		next := stored
		next.BaseURL = url
		require.Equal(t, same, stored.CheckUpdate(next) == nil, url)
		next.Credential = provider.NewSecret("sk")
		require.NoError(t, stored.CheckUpdate(next), url)
	}
	next := stored
	next.Kind = provider.ProviderEcho
	require.Error(t, stored.CheckUpdate(next))
}

func TestFaults(t *testing.T) {
	for kind, code := range map[provider.Kind]fault.Code{
		provider.KindConnect: fault.ProviderError, provider.KindTimeout: fault.ProviderTimeout, provider.KindProtocol: fault.ProviderError,
		provider.KindTruncated: fault.ProviderTruncated, provider.KindCancelled: fault.ClientClosed, provider.KindRefused: fault.ProviderError,
	} {
		f := provider.Fault(fmt.Errorf("x: %w", &provider.Error{Provider: "p", Kind: kind, Err: errors.New("dial 10.1.2.3")}))
		require.Equal(t, code, f.Code)
		require.NotContains(t, f.Message, "10.1")
	}
	require.Nil(t, provider.Fault(nil))
	require.Equal(t, fault.Internal, provider.Fault(errors.New("x")).Code)
	require.Equal(t, fault.ModelNotFound, provider.Fault(fault.New(fault.ModelNotFound, "x")).Code)
}

func BenchmarkRoute(b *testing.B) {
	r, err := provider.NewRoutes(provider.RoutesOptions{
		Static: []provider.Static{{Provider: newNamed("a"), Models: []string{"gpt-4o", "gpt-*"}}},
		Source: &source{}, Build: func(provider.Definition) (provider.Provider, error) { return nil, nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	for name, model := range map[string]string{"exact": "gpt-4o", "pattern": "gpt-5"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Route(b.Context(), "p", model); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestAnUnknownModelSaysWhatToAskFor: the name that was meant, the list, or the patterns where nothing can be listed.
func TestAnUnknownModelSaysWhatToAskFor(t *testing.T) {
	for _, c := range []struct {
		models []string
		asked  string
		want   string
	}{
		{[]string{"gpt-4o-mini", "claude-*"}, "gpt-4o-mnii", `did you mean "gpt-4o-mini"`},
		{[]string{"gpt-4o-mini", "claude-*"}, "llama-3", "use one that GET /v1/models lists"},
		{[]string{"gpt-*", "*-claude"}, "llama-3", "its providers serve *-claude, gpt-*"},
	} {
		r, err := provider.NewRoutes(provider.RoutesOptions{Static: []provider.Static{{Provider: newNamed("a"), Models: c.models}}})
		require.NoError(t, err)
		_, err = r.Route(t.Context(), "p", c.asked)
		require.Equal(t, fault.ModelNotFound, fault.CodeOf(err))
		require.ErrorContains(t, err, c.want)
	}
	r, err := provider.NewRoutes(provider.RoutesOptions{})
	require.NoError(t, err)
	_, err = r.Route(t.Context(), "p", "gpt-4o")
	require.ErrorContains(t, err, "it has no provider at all")
}

// TestAliasOfAPrompt: an alias for a prompt says which, and never falls through to a pattern that its name would match.
func TestAliasOfAPrompt(t *testing.T) {
	s := &source{defs: map[string][]provider.Definition{}, aliases: map[string][]provider.Alias{}}
	s.set("p", nil, provider.Alias{Project: "p", Name: "gpt-4o-triage", Targets: []provider.AliasTarget{{Prompt: "support/triage@production"}}})
	r, err := provider.NewRoutes(provider.RoutesOptions{
		Static: []provider.Static{{Provider: newNamed("a"), Models: []string{"gpt-*"}}},
		Source: s, Build: func(provider.Definition) (provider.Provider, error) { return nil, nil },
	})
	require.NoError(t, err)
	for model, want := range map[string]string{"gpt-4o-triage": "support/triage@production", "gpt-4o": "", "": ""} {
		got, err := r.Prompt(t.Context(), "p", model)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err = r.Route(t.Context(), "p", "gpt-4o-triage")
	require.True(t, fault.Is(err, fault.ModelNotFound), "%v", err)
	models, err := r.Models(t.Context(), "p")
	require.NoError(t, err)
	require.Contains(t, models, "gpt-4o-triage")

	for _, wrong := range [][]provider.AliasTarget{
		{{Prompt: "a@b"}, {Prompt: "c@d"}}, {{Prompt: "a@b", Provider: "x"}}, {{Prompt: "a@b", Model: "x"}}, {{Provider: "x", Model: "y"}, {Prompt: "a@b"}},
		{{Prompt: "a\n@b"}}, {{Prompt: "@b"}}, {{Prompt: strings.Repeat("a", 500)}}, {{}},
	} {
		require.Error(t, provider.Alias{Project: "p", Name: "m", Targets: wrong}.Check(), "%+v", wrong)
	}
}
