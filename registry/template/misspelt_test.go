package template

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
)

func TestMisspellingsAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		change      func(*Content)
		path, meant string
	}{
		"letters":     {func(c *Content) { c.Parameters = values("temprature", "0") }, "parameters.temprature", `"temperature"`},
		"case":        {func(c *Content) { c.Parameters = values("maxTokens", "1") }, "parameters.maxTokens", `"max_tokens"`},
		"marks":       {func(c *Content) { c.Parameters = values("top-logprobs", "1") }, "parameters.top-logprobs", `"top_logprobs"`},
		"locked":      {func(c *Content) { c.Locked = []string{"modle"} }, "locked[0]", `"model"`}, //nolint:misspell // on purpose
		"no tool":     {func(c *Content) { c.Tools = raw(`[{"foo":1}]`) }, "tools[0]", `"type"`},
		"no function": {func(c *Content) { c.Tools = raw(`[{"type":"custom"}, {"type":"function","fuction":{"name":"f"}}]`) }, "tools[1]", `"function"`},
		"tool type":   {func(c *Content) { c.Tools = raw(` [ {"type":"fucntion","function":{"name":"f"}}]`) }, "tools[0].type", `"function"`}, //nolint:misspell // on purpose
		"format":      {func(c *Content) { c.ResponseFormat = raw(`{"json_schema":{}}`) }, "response_format", `"json_schema"`},
		"format type": {func(c *Content) { c.ResponseFormat = raw(`{"type":"json-object"}`) }, "response_format.type", `"json_object"`},
	} {
		t.Run(name, func(t *testing.T) {
			content := userSays("x")
			c.change(&content)
			require.NoError(t, Check(content), "it is valid")
			f := requireFault(t, Misspelt(content, nil), fault.InvalidTemplate, c.path)
			assert.Contains(t, f.Message, c.meant)
			assert.Contains(t, f.Message, "insist")
			require.NoError(t, Misspelt(content, &content), "it was there before")
		})
	}
}

// TestProvidersOwnFieldsPass: what is unlike any known field needs no insisting.
func TestProvidersOwnFieldsPass(t *testing.T) {
	c := full()
	for _, name := range append(knownFields(), "top_k", "min_p", "top_a", "xtc_threshold", "dry_multiplier", "cachePoint", "chat_template_kwargs", "best_of", "x_custom") {
		c.Parameters = map[string]json.RawMessage{name: raw(`1`)}
		c.Locked = []string{name}
		require.NoError(t, Misspelt(c, nil), name)
	}
	for _, tools := range []string{`[]`, `[{"type":"web_search"}]`, `[{"type":"custom","custom":{"name":"x"}}]`, `[{"type":"function","name":"flat"}]`} {
		c.Tools = raw(tools)
		require.NoError(t, Misspelt(c, nil), tools)
	}
	c.ResponseFormat = raw(`{"type":"grammar"}`)
	require.NoError(t, Misspelt(c, nil))
}
