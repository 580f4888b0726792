package provider

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/promptgate/promptgate/metrics"
)

// member is a provider as a table knows it.
type member struct {
	provider Provider
	breaker  *Breaker
	models   []string // names and patterns; none means every model
	prices   *metrics.PriceList
	shared   bool // by all projects
}

func (m *member) target(model string, listed bool) Target {
	return Target{Provider: m.provider, Model: model, Breaker: m.breaker, Prices: m.prices, Shared: m.shared, Listed: listed}
}

// table answers Route for one set of providers. It never changes once it is built.
type table struct {
	members  map[string]*member  // by name
	exact    map[string][]Target // aliases, and the models that are listed by name
	patterns []pattern           // the longest first
	names    []string            // of exact, sorted
	prompts  map[string]string   // aliases that mean a prompt: name@label
}

// pattern is a model pattern with one "*".
type pattern struct {
	prefix, suffix string
	member         *member
}

func (p pattern) matches(model string) bool {
	return len(model) >= len(p.prefix)+len(p.suffix) && strings.HasPrefix(model, p.prefix) && strings.HasSuffix(model, p.suffix)
}

// newTable builds a table of members in their order of preference. An alias may name providers of base, which may be nil.
func newTable(members []*member, aliases []Alias, base *table) (*table, error) {
	t := &table{members: make(map[string]*member, len(members)), exact: map[string][]Target{}}
	for _, m := range members {
		name := m.provider.Name()
		if t.members[name] != nil {
			return nil, fmt.Errorf("two providers are called %q", name)
		}
		t.members[name] = m
		if err := t.add(m); err != nil {
			return nil, fmt.Errorf("provider %q: %w", name, err)
		}
	}
	slices.SortStableFunc(t.patterns, func(a, b pattern) int {
		return cmp.Compare(len(b.prefix)+len(b.suffix), len(a.prefix)+len(a.suffix))
	})
	for _, a := range aliases {
		t.exact[a.Name] = t.resolve(a, base) // an alias goes before a model of the same name
		if named := a.Targets[0].Prompt; named != "" {
			if t.prompts == nil {
				t.prompts = map[string]string{}
			}
			t.prompts[a.Name] = named
		}
	}
	t.names = slices.Sorted(maps.Keys(t.exact))
	return t, nil
}

func (t *table) add(m *member) error {
	models := m.models
	if len(models) == 0 {
		models = []string{"*"}
	}
	for _, model := range models {
		if err := checkModel(model, true); err != nil {
			return err
		}
		if prefix, suffix, ok := strings.Cut(model, "*"); ok {
			t.patterns = append(t.patterns, pattern{prefix, suffix, m})
		} else if t.exact[model] == nil {
			t.exact[model] = []Target{m.target(model, true)}
		}
	}
	return nil
}

// resolve leaves out targets whose provider is not there (disabled, say); an alias without any left is known and has no target,
// so that its name never falls through to a pattern and another provider.
func (t *table) resolve(a Alias, base *table) []Target {
	out := make([]Target, 0, len(a.Targets))
	for _, at := range a.Targets {
		m := t.members[at.Provider]
		if m == nil && base != nil {
			m = base.members[at.Provider]
		}
		if m != nil {
			out = append(out, m.target(at.Model, true))
		}
	}
	return out
}

// find returns the targets of a model; known is false when this table has nothing to say about it.
func (t *table) find(model string) (targets []Target, known bool) {
	if targets, known = t.exact[model]; known {
		return targets, true
	}
	for _, p := range t.patterns {
		if p.matches(model) {
			return []Target{p.member.target(model, false)}, true
		}
	}
	return nil, false
}
