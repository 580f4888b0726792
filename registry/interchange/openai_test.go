package interchange_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/registry/interchange"
	"github.com/promptgate/promptgate/registry/template"
)

const aPrompt = `{"id":"pmpt_1","object":"prompt","name":"Ticket Sorter!","version":"5","default_version":2,"model":"gpt-4.1","temperature":0.2,"max_output_tokens":300,
	"instructions":"Sort {{ticket}}.","input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"Example"},{"type":"input_image","image_url":"https://x.test/a.png"}]},
	{"role":"assistant","content":[{"type":"output_text","text":"billing"}]}],
	"tools":[{"type":"function","name":"look","parameters":{},"strict":true},{"type":"web_search"}],"tool_choice":{"type":"function","name":"look"},
	"text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"}},"verbosity":"low"},"reasoning":{"effort":"low","summary":null},"parallel_tool_calls":null}`

func TestOpenAI(t *testing.T) {
	found, err := interchange.OpenAI(strings.NewReader(aPrompt))
	require.NoError(t, err)
	require.Len(t, found, 1)
	assert.Equal(t, []any{"pmpt_1", "Ticket Sorter!", 2, 5}, []any{found[0].ID, found[0].Name, found[0].Default, found[0].Versions[0].Number})
	c := found[0].Versions[0].Content
	assert.Equal(t, []template.Message{
		{Role: "developer", Text: "Sort {{ticket}}."},
		{Role: "user", Parts: []template.Part{{Type: "text", Text: "Example"}, {Type: "image_url", Value: json.RawMessage(`{"url":"https://x.test/a.png"}`)}}},
		{Role: "assistant", Text: "billing"},
	}, c.Messages)
	assert.Equal(t, "gpt-4.1", c.Model)
	assert.JSONEq(t, `[{"type":"function","function":{"name":"look","parameters":{},"strict":true}},{"type":"web_search"}]`, string(c.Tools))
	assert.JSONEq(t, `{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}`, string(c.ResponseFormat))
	parameters, err := json.Marshal(c.Parameters)
	require.NoError(t, err)
	assert.JSONEq(t, `{"temperature":0.2,"max_tokens":300,"tool_choice":{"type":"function","function":{"name":"look"}},"verbosity":"low","reasoning_effort":"low"}`, string(parameters))

	for name, text := range map[string]string{
		"a list":         `[{"id":"pmpt_1","version":1,"instructions":"a"},{"id":"pmpt_1","version":2,"instructions":"b"}]`,
		"data":           `{"object":"list","data":[{"id":"pmpt_1","version":"1","instructions":"a"},{"id":"pmpt_1","version":"2","instructions":"b"}]}`,
		"versions":       `{"id":"pmpt_1","versions":[{"version":2,"instructions":"b"},{"version":1,"instructions":"a","id":"pmptv_7"}]}`,
		"one by one":     "\ufeff" + `{"id":"pmpt_1","version":1,"instructions":"a"}` + "\n" + `{"id":"pmpt_1","version":2,"messages":[{"role":"system","content":"b"}]}`,
		"responses":      `[{"id":"resp_1","object":"response","prompt":{"id":"pmpt_1","version":"1"},"instructions":[{"role":"developer","content":[{"type":"input_text","text":"a"}]}],"text":{"format":{"type":"text"}},"output":[]},{"id":"pmpt_1","version":2,"instructions":"b"}]`,
		"as it was kept": `{"prompts":[{"id":"pmpt_1","version":1,"prompt":"a"},{"id":"pmpt_1","version":2,"prompt":"b"}]}`,
	} {
		found, err := interchange.OpenAI(strings.NewReader(text))
		require.NoError(t, err, name)
		require.Len(t, found, 1, name)
		require.Len(t, found[0].Versions, 2, name)
		assert.Equal(t, []any{1, "a", 2, "b"}, []any{found[0].Versions[0].Number, found[0].Versions[0].Content.Messages[0].Text,
			found[0].Versions[1].Number, found[0].Versions[1].Content.Messages[0].Text}, name)
		assert.Nil(t, found[0].Versions[0].Content.ResponseFormat, name)
	}
	for text, says := range map[string]string{
		``: "no prompt in it", `{`: "no JSON", `5`: "is no prompt", `{"id":"asst_1","instructions":"x"}`: `no "id" that starts with pmpt_`, `{"id":"pmpt_1"}`: "no messages",
		`[{"id":"pmpt_1","version":1,"instructions":"a"},{"id":"pmpt_1","version":"1","instructions":"b"}]`: "twice",
		`{"id":"pmpt_1","version":"draft","instructions":"a"}`:                                              "no whole number",
		`{"id":"pmpt_1","input":[{"type":"function_call","name":"f"}]}`:                                     "is no message",
		`{"id":"pmpt_1","input":[{"role":"user","content":[{"type":"input_image","file_id":"f"}]}]}`:        "file_id",
		`{"object":"response","id":"resp_1","instructions":"x"}`:                                            "a call of no prompt",
		`[{"id":"pmpt_1","instructions":"a"},{"data":[{"id":"x"}]}]`:                                        "value 1[1].data[0]",
	} {
		_, err := interchange.OpenAI(strings.NewReader(text))
		require.ErrorContains(t, err, says, text)
	}
}
