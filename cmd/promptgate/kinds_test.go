package main

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/wire"
)

// TestKindsOfProviders: what the table names can be made, configured and managed, and nothing else can.
func TestKindsOfProviders(t *testing.T) {
	want := slices.Sorted(slices.Values(provider.Kinds()))
	require.NotEmpty(t, want)
	assert.Equal(t, want, slices.Sorted(maps.Keys(kinds())), "kinds.go makes them")
	for _, body := range []reflect.Type{reflect.TypeFor[admin.Provider](), reflect.TypeFor[admin.ProviderCreate]()} {
		field, ok := body.FieldByName("Kind")
		require.True(t, ok)
		told := strings.Split(field.Tag.Get("enum"), ",")
		slices.Sort(told)
		assert.Equal(t, want, told, "%s.kind in the management API", body.Name())
	}
	for _, name := range append(want, "nonsense", "") {
		known := slices.Contains(want, name)
		c := configs.Default()
		c.Providers = []configs.Provider{{Name: "p", Kind: name, BaseURL: "https://example.com/v1", APIKey: "sk"}}
		if err := c.Validate(); known {
			require.NoError(t, err, "configured: %q", name)
		} else {
			require.ErrorContains(t, err, "providers[0].kind", "configured: %q", name)
		}
		_, err := configured(c.Providers[0])
		assert.Equal(t, known, err == nil, "made as configured: %q", name)
		d := provider.Definition{Name: "p", Kind: name}
		if name != provider.ProviderEcho {
			d.BaseURL = "https://example.com/v1"
		}
		_, err = stored(d)
		assert.Equal(t, known, err == nil, "made as stored: %q", name)
		assert.Equal(t, known, d.Check(false) == nil, "saved: %q", name)
	}
}

// TestAPIsOfAProvider: a configured provider speaks all of OpenAI's API, or what its definition names; other names and kinds are faults.
func TestAPIsOfAProvider(t *testing.T) {
	c := configs.Default()
	c.Providers = []configs.Provider{{Name: "p", Kind: "openai", BaseURL: "https://example.com/v1", APIKey: "sk"}}
	made, err := configured(c.Providers[0])
	require.NoError(t, err)
	assert.Equal(t, provider.OpenAIAPIs(), made.Capabilities().APIs)
	c.Providers[0].APIs = []string{"chat", "audio/speech"}
	require.NoError(t, c.Validate())
	made, err = configured(c.Providers[0])
	require.NoError(t, err)
	assert.Equal(t, []string{"chat", "audio/speech"}, made.Capabilities().APIs)
	c.Providers[0].APIs = []string{"speech"}
	_, err = configured(c.Providers[0])
	require.ErrorContains(t, err, `there is no "speech"; write some of chat, responses, embeddings`)
	c.Providers[0].Kind = "echo"
	require.ErrorContains(t, c.Validate(), "providers[0].apis")
	all := provider.OpenAIAPIs()
	for _, api := range wire.Passing() {
		assert.Contains(t, all, api.Name())
		assert.Equal(t, api.Name(), api.Endpoint())
	}
}
