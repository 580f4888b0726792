package provider_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/metrics"
)

// TestPricesGoByTheVendor: the address and what was chosen decide, the name never.
func TestPricesGoByTheVendor(t *testing.T) {
	for _, c := range []struct{ kind, base, chosen, want string }{
		{"openai", "https://api.openai.com/v1", "", "openai"},
		{"openai", "https://API.Groq.com./openai/v1", "", "groq"},
		{"openai", "https://ours.openai.azure.com/openai/v1", "", "azure"},
		{"openai", "https://us-central1-aiplatform.googleapis.com/v1", "", "google"},
		{"openai", "https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1", "", "aws"},
		{"openai", "https://elb.eu-west-1.amazonaws.com/v1", "", "openai"},
		{"openai", "https://api.groq.com.thief.example/v1", "", "openai"},
		{"openai", "https://llm.internal.example/v1", "", "openai"},
		{"openai", "https://llm.internal.example/v1", "none", "none"},
		{"openai", "https://api.groq.com/v1", "mistral", "mistral"},
		{"echo", "", "", "none"},
		{"echo", "", "openai", "openai"},
	} {
		for _, name := range []string{"openai", "anything"} {
			d := provider.Definition{Name: name, Kind: c.kind, BaseURL: c.base, Prices: metrics.PriceList{Catalogue: c.chosen}}
			require.Equal(t, c.want, d.PriceList().Catalogue, "%+v", c)
		}
	}
}

// TestEveryTargetHasItsPrices: by a listed name, a pattern or an alias, of a project's own provider and of a configured one.
func TestEveryTargetHasItsPrices(t *testing.T) {
	s := &source{defs: map[string][]provider.Definition{}, aliases: map[string][]provider.Alias{}}
	s.set("p", []provider.Definition{{
		ID: "1", Name: "own", Kind: provider.ProviderOpenAI, BaseURL: "https://api.groq.com/v1", Models: []string{"named", "mix*"}, Enabled: true,
	}}, provider.Alias{Name: "both", Targets: []provider.AliasTarget{{Provider: "own", Model: "x"}, {Provider: "configured", Model: "y"}}})
	r, err := provider.NewRoutes(provider.RoutesOptions{
		Static: []provider.Static{{Provider: newNamed("configured"), Prices: metrics.PriceList{Catalogue: "anthropic"}}},
		Source: s, Build: func(d provider.Definition) (provider.Provider, error) { return newNamed(d.Name), nil },
	})
	require.NoError(t, err)
	for model, want := range map[string][]string{"named": {"groq"}, "mixtral": {"groq"}, "both": {"groq", "anthropic"}, "other": {"anthropic"}} {
		targets, err := r.Route(t.Context(), "p", model)
		require.NoError(t, err)
		var got []string
		for _, target := range targets {
			got = append(got, target.Prices.Catalogue)
		}
		require.Equal(t, want, got, model)
	}
}
