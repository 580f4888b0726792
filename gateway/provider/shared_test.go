package provider_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
)

// TestShared: a configured provider is every project's, also behind a project's alias; one that a project added is its own.
func TestShared(t *testing.T) {
	w := newWorld(t)
	w.source.set("p", []provider.Definition{{ID: "1", Name: "mine", Project: "p", Models: []string{"mine-*"}, Revision: 1}},
		provider.Alias{Name: "both", Targets: []provider.AliasTarget{{Provider: "mine", Model: "m"}, {Provider: "openai", Model: "m"}}})
	for model, want := range map[string][]bool{"mine-1": {false}, "gpt-4o": {true}, "gpt-5": {true}, "other": {true}, "both": {false, true}} {
		targets, err := w.Route(t.Context(), "p", model)
		require.NoError(t, err)
		var shared []bool
		for _, one := range targets {
			shared = append(shared, one.Shared)
		}
		require.Equal(t, want, shared, model)
	}
	for name, want := range map[string]bool{"mine": false, "openai": true} {
		one, err := w.Provider(t.Context(), "p", name)
		require.NoError(t, err)
		require.Equal(t, want, one.Shared, name)
	}
}
