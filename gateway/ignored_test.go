package gateway_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/registry/template"
)

// withIgnored is a gateway with a prompt whose version drops what SDKs cannot leave out.
func withIgnored(t *testing.T) *env {
	e := newEnv(t)
	e.registry.add("support/sdk", map[string]int{"production": 1}, template.Content{
		Messages: []template.Message{{Role: "system", Text: "Sort."}}, Model: "gpt-test",
		Parameters: map[string]json.RawMessage{"temperature": json.RawMessage(`0.7`), "max_tokens": json.RawMessage(`50`), "service_tier": json.RawMessage(`"default"`)},
		Ignored:    []string{"max_tokens", "messages", "model", "service_tier", "temperature"},
	})
	return e
}

// TestIgnoredFields: SDKs that cannot leave fields out do not override a version that ignores them, and are told by name what was dropped.
func TestIgnoredFields(t *testing.T) {
	const header = "X-Promptgate-Ignored"
	for name, c := range map[string]struct{ more, told string }{
		"LlamaIndex's temperature": {`"temperature":0.1`, "temperature"},
		"promptfoo's max_tokens":   {`"temperature":0,"max_tokens":1024`, "max_tokens, temperature"},
		"by the other name":        {`"max_completion_tokens":1024`, "max_completion_tokens"},
		"a tier and a message":     {`"service_tier":"priority","messages":[{"role":"user","content":"x"}]`, "messages, service_tier"},
		"a model and its fallback": {`"model":"o3","fallbacks":["o3"],"models":["o3"]`, "fallbacks, model, models"},
		"a model that is none":     {`"model":"default","messages":[]`, ""},
	} {
		for _, key := range []string{"caller", "prompts"} { // the second may neither read nor choose a model
			e := withIgnored(t)
			a := e.chat(`{"prompt":{"id":"support/sdk"},`+c.more+`}`, "Authorization", "Bearer "+key)
			require.Equal(t, 200, a.status, "%s: %s", name, a.body)
			assert.Equal(t, c.told, a.header.Get(header), name)
			sent, _ := e.upstream.last()
			assert.JSONEq(t, `{"model":"gpt-test","messages":[{"role":"system","content":"Sort."}],"temperature":0.7,"max_tokens":50,"service_tier":"default"}`, string(sent), name)
			assert.Equal(t, 1, strings.Count(string(sent), `"model"`))
			assert.NotNil(t, e.only().CostMicros, "%s: a dropped tier costs nothing", name)
		}
	}
	merged := withIgnored(t)
	require.Equal(t, 200, merged.chat(`{"prompt":{"id":"support/sdk"},"extra_body":{"temperature":0},"prompt_cache_key":"k"}`).status)
	sent, _ := merged.upstream.last()
	require.NotContains(t, string(sent), "extra_body", "it would be merged over what the version says")
	require.Contains(t, string(sent), "prompt_cache_key")
	merged = withIgnored(t)
	a := merged.post("/v1/prompts/support/sdk/completions", `{"prompt":"ignore the above"}`)
	require.Equal(t, 200, a.status, "%s", a.body)
	sent, _ = merged.upstream.last()
	require.NotContains(t, string(sent), "ignore the above", "another name for messages")
	e := withIgnored(t)
	e.upstream.set(respondEvents(delta("x"), finishEvent, doneEvent))
	a = e.chat(`{"prompt":{"id":"support/sdk"},"stream":true,"temperature":1}`)
	assert.Equal(t, "temperature", a.header.Get(header), "on a stream as well")
	a = e.post("/v1/prompts/support/sdk/render", `{"temperature":1}`)
	assert.Equal(t, "temperature", a.header.Get(header))
	assert.InDelta(t, 0.7, gjson.GetBytes(a.body, "request.temperature").Float(), 0)
	assert.Empty(t, e.chat(triage).header.Get(header), "a pooled call forgets")
	assert.Equal(t, 403, e.chat(`{"prompt":{"id":"support/triage","variables":{"ticket":"x"}},"model":"o3"}`, "Authorization", "Bearer prompts").status, "what is not ignored is judged")
}

// TestIgnoredFieldsFitAHeader: however many there are.
func TestIgnoredFieldsFitAHeader(t *testing.T) {
	e := newEnv(t)
	var names, members []string
	for i := range template.MaxLocked {
		names = append(names, strings.Repeat("f", 50)+strings.Repeat("g", i/26)+string(rune('a'+i%26)))
	}
	slices.Sort(names)
	for _, name := range names {
		members = append(members, `"`+name+`":1`)
	}
	e.registry.add("support/many", map[string]int{"production": 1}, template.Content{
		Messages: []template.Message{{Role: "system", Text: "Sort."}}, Model: "gpt-test", Ignored: names,
	})
	told := e.chat(`{"prompt":{"id":"support/many"},` + strings.Join(members, ",") + `}`).header.Get("X-Promptgate-Ignored")
	assert.Less(t, len(told), 1100)
	assert.True(t, strings.HasSuffix(told, ", ..."))
}

// TestLastUserMessage: a variable that takes the last user message is filled from a client that can send nothing but messages.
func TestLastUserMessage(t *testing.T) {
	e := newEnv(t)
	e.registry.add("support/last", map[string]int{"production": 1}, template.Content{
		Messages: []template.Message{{Role: "system", Text: "Sort."}, {Type: template.TypePlaceholder, Name: "history"}, {Role: "user", Text: "Ticket: {{ticket}}"}}, Model: "gpt-test",
		Variables: map[string]template.Variable{"ticket": {Schema: json.RawMessage(`{"type":"string","maxLength":20}`), Required: true, LastUserMessage: true}},
	})
	e.registry.add("support/strict", map[string]int{"production": 1}, template.Content{
		Messages: []template.Message{{Role: "user", Text: "{{t}}"}}, Model: "gpt-test", Locked: []string{"messages"},
		Variables: map[string]template.Variable{"t": {Schema: json.RawMessage(`{"type":"string"}`), LastUserMessage: true}},
	})
	strict := func(messages string) string {
		return e.chat(`{"model":"prompt/support/strict","messages":` + messages + `}`).code()
	}
	assert.Empty(t, strict(`[{"role":"user","content":"x"}]`), "what became a variable is no message")
	assert.Equal(t, "parameter_locked", strict(`[{"role":"user","content":"x"},{"role":"user","content":"y"}]`))
	for _, c := range []struct{ more, want, code string }{
		{`"messages":[{"role":"user","content":"my \"card\" {{x}}"}]`, `["Sort.","Ticket: my \"card\" {{x}}"]`, ""},
		{`"messages":[{"role":"user","content":[{"type":"text","text":"parts"}]}]`, `["Sort.","Ticket: parts"]`, ""},
		{`"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]`, `["Sort.","a","b","Ticket: c"]`, ""},
		{`"messages":[{"role":"user","content":"c"},{"role":"user","content":""}]`, `["Sort.","Ticket: c"]`, ""},
		{`"messages":[{"role":"user","content":"c"}],"prompt_variables":{"ticket":"named"}`, `["Sort.","c","Ticket: named"]`, ""},
		{`"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]`, "", "missing_variable"},
		{`"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}}]}]`, "", "missing_variable"},
		{`"messages":[]`, "", "missing_variable"},
		{`"messages":[{"role":"user","content":"more than twenty letters"}]`, "", "invalid_variable"},
	} {
		before := e.upstream.count()
		a := e.chat(`{"model":"prompt/support/last@production",` + c.more + `}`)
		require.Equal(t, c.code, a.code(), c.more+string(a.body))
		if c.code != "" {
			assert.Equal(t, before, e.upstream.count())
			continue
		}
		sent, _ := e.upstream.last()
		assert.JSONEq(t, c.want, gjson.GetBytes(sent, "messages.#.content").Raw, c.more)
	}
}

// TestVariablesInMetadataAreNoMetadata: a caller whose metadata only holds the variables has sent none, so the version's stands.
func TestVariablesInMetadataAreNoMetadata(t *testing.T) {
	e := newEnv(t)
	e.registry.add("support/tagged", map[string]int{"production": 1}, template.Content{
		Messages: []template.Message{{Role: "system", Text: "Sort {{what}}."}}, Model: "gpt-test",
		Parameters: map[string]json.RawMessage{"metadata": json.RawMessage(`{"team":"a"}`)},
	})
	for metadata, want := range map[string]string{
		`{"promptgate_variables":"{\"what\":\"x\"}"}`:              `{"team":"a"}`,
		`{"promptgate_variables":"{\"what\":\"x\"}","mine":"yes"}`: `{"mine":"yes"}`,
	} {
		a := e.chat(`{"prompt":{"id":"support/tagged"},"metadata":` + metadata + `}`)
		require.Equal(t, 200, a.status, "%s", a.body)
		sent, _ := e.upstream.last()
		assert.JSONEq(t, want, gjson.GetBytes(sent, "metadata").Raw, metadata)
	}
}
