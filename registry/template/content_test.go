package template

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gowebpki/jcs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/schemacost"
)

func raw(s string) json.RawMessage { return json.RawMessage(s) }

// full is a content with everything in it.
func full() Content {
	return Content{
		Messages:       []Message{{Role: "system", Text: "S {{x}} {{> a/b@production}}"}, {Type: TypePlaceholder, Name: "history"}},
		Tools:          raw(`[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]`),
		ResponseFormat: raw(`{"type":"json_object"}`),
		Model:          "m",
		Parameters:     map[string]json.RawMessage{"temperature": raw(`0`), "seed": raw(`1`)},
		Locked:         []string{"model", "tools"},
		Variables:      map[string]Variable{"x": {Schema: raw(`{"type":"string","minLength":1}`), Required: true}},
		References:     []Reference{{Spelling: "a/b@production", PromptID: "pmpt_1", Version: 2, Digest: "sha256:" + strings.Repeat("0", 64)}},
	}
}

// many are n names in order.
func many(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%04d", prefix, i)
	}
	return out
}

func digest(t testing.TB, c Content) string {
	t.Helper()
	d, err := c.Digest()
	require.NoError(t, err)
	return d
}

// TestDigestIsStable holds figures made by another program: stored digests and the header callers compare never change for the same content.
func TestDigestIsStable(t *testing.T) {
	assert.Equal(t, "sha256:c53b17530c495cd4143c44c90c707bbf126346356366f4d5a4e1bf2677704f43", digest(t, full()))
	assert.Equal(t, "sha256:3f261e61f8c1159c5aa618fd7a42dda52bff990d8f11d9cb9ccd23ef111b5b96", digest(t, userSays("x")))
}

func TestDigestIgnoresSpelling(t *testing.T) {
	want := digest(t, full())
	c := full()
	c.Tools = raw(` [ {"function": {"parameters":{"type":"ob\u006aect"}, "name":"f"}, "type":"function"}]`)
	c.Parameters = map[string]json.RawMessage{"seed": raw(`1.0`), "temperature": raw(`0e0`)}
	c.Locked = []string{"tools", "model"}
	c.Variables["x"] = Variable{Schema: raw(`{"minLength":1,"type":"string"}`), Required: true}
	before := slices.Clone(c.Locked)
	assert.Equal(t, want, digest(t, c))
	assert.Equal(t, before, c.Locked, "the content is not changed")
	assert.Equal(t, digest(t, Content{}), digest(t, Content{Messages: []Message{}, Parameters: map[string]json.RawMessage{}, Locked: []string{}}))
}

func TestDigestSeesEveryChange(t *testing.T) {
	seen := map[string]string{digest(t, full()): "full"}
	for name, change := range map[string]func(*Content){
		"text":            func(c *Content) { c.Messages[0].Text += " " },
		"role":            func(c *Content) { c.Messages[0].Role = "user" },
		"order":           func(c *Content) { slices.Reverse(c.Messages) },
		"placeholder":     func(c *Content) { c.Messages[1].Name = "h" },
		"tools":           func(c *Content) { c.Tools = raw(`[]`) },
		"response format": func(c *Content) { c.ResponseFormat = raw(`{"type":"text"}`) },
		"model":           func(c *Content) { c.Model = "n" },
		"parameter":       func(c *Content) { c.Parameters["temperature"] = raw(`null`) },
		"lock":            func(c *Content) { c.Locked = c.Locked[:1] },
		"other lock":      func(c *Content) { c.Locked, c.Ignored = nil, c.Locked },
		"schema": func(c *Content) {
			c.Variables["x"] = Variable{Schema: raw(`{"type":"string","minLength":2}`), Required: true}
		},
		"required":  func(c *Content) { c.Variables["x"] = Variable{Schema: c.Variables["x"].Schema} },
		"last user": func(c *Content) { v := c.Variables["x"]; v.LastUserMessage = true; c.Variables["x"] = v },
		"default":   func(c *Content) { v := c.Variables["x"]; v.Default = raw(`"d"`); c.Variables["x"] = v },
		"reference": func(c *Content) { c.References[0].Version = 3 },
	} {
		c := full()
		change(&c)
		d := digest(t, c)
		assert.Empty(t, seen[d], name)
		seen[d] = name
	}
}

func TestDigestRefusesWhatHasNoCanonicalForm(t *testing.T) {
	for _, tools := range []string{`[`, `[{"a":1,"a":2}]`, `[1e400]`} {
		c := full()
		c.Tools = raw(tools)
		_, err := c.Digest()
		assert.Equal(t, fault.InvalidTemplate, fault.CodeOf(err), tools)
	}
}

func TestCheck(t *testing.T) {
	require.NoError(t, Check(full()))
	require.NoError(t, Check(Content{Messages: []Message{{Text: "a text prompt"}}}))
	for path, changes := range map[string][]func(*Content){
		"messages": {
			func(c *Content) { c.Messages = nil },
			func(c *Content) { c.Messages = make([]Message, MaxMessages+1) },
		},
		"messages[0]": {func(c *Content) { c.Messages[0].Parts = []Part{{Type: "text", Text: "x"}} }},
		"messages[0].role": {
			func(c *Content) { c.Messages[0].Role = "" },
			func(c *Content) { c.Messages[0].Role = "System" },
			func(c *Content) { c.Messages[0].Role = "function" },
		},
		"messages[0].text": {
			func(c *Content) { c.Messages[0].Text = "" },
			func(c *Content) { c.Messages[0].Text = "{{" },
			func(c *Content) { c.References = nil },
			func(c *Content) { c.Messages[0].Text += "{{> other@3}}" },
		},
		"messages[0].type":         {func(c *Content) { c.Messages[0].Type = "item_reference" }},
		"messages[0].name":         {func(c *Content) { c.Messages[0].Name = strings.Repeat("n", 65) }},
		"messages[0].tool_call_id": {func(c *Content) { c.Messages[0].ToolCallID = "c" }, func(c *Content) { c.Messages[0].Role = "tool" }},
		"messages[0].tool_calls": {
			func(c *Content) { c.Messages[0].ToolCalls = raw(`[]`) },
			func(c *Content) { c.Messages[0].Role, c.Messages[0].ToolCalls = "assistant", raw(`{}`) },
		},
		"messages[0].tool_calls[0]": {func(c *Content) { c.Messages[0].Role, c.Messages[0].ToolCalls = "assistant", raw(`[1]`) }},
		"messages[1]":               {func(c *Content) { c.Messages[1].Role = "user" }},
		"messages[1].name":          {func(c *Content) { c.Messages[1].Name = "" }, func(c *Content) { c.Messages[1].Name = "a.b" }},
		"messages[2].name":          {func(c *Content) { c.Messages = append(c.Messages, c.Messages[1]) }},
		"messages[2].parts[0].type": {func(c *Content) {
			c.Messages = append(c.Messages, Message{Role: "user", Parts: []Part{{Type: "image", Value: raw(`{}`)}}})
		}},
		"messages[2].parts[0].value": {func(c *Content) {
			c.Messages = append(c.Messages, Message{Role: "user", Parts: []Part{{Type: "image_url", Value: raw(`"u"`)}}})
		}},
		"messages[2].parts[0].text": {func(c *Content) {
			c.Messages = append(c.Messages, Message{Role: "user", Parts: []Part{{Type: "file", Text: "x", Value: raw(`{}`)}}})
		}},
		"messages[2].parts[0]": {func(c *Content) {
			c.Messages = append(c.Messages, Message{Role: "user", Parts: []Part{{Type: "text"}}})
		}},
		"references[0]": {
			func(c *Content) { c.Messages[0].Text = "nothing" },
			func(c *Content) { c.References[0].Digest = "sha256:0" },
			func(c *Content) { c.References[0].Version = 0 },
		},
		"references[1]":   {func(c *Content) { c.References = append(c.References, c.References[0]) }},
		"model":           {func(c *Content) { c.Model = "default" }, func(c *Content) { c.Model = "prompt/x" }, func(c *Content) { c.Model = " m" }},
		"tools":           {func(c *Content) { c.Tools = raw(`{}`) }, func(c *Content) { c.Tools = raw(`[{"a":1,"a":2}]`) }},
		"tools[0]":        {func(c *Content) { c.Tools = raw(`[null]`) }},
		"response_format": {func(c *Content) { c.ResponseFormat = raw(`"json"`) }},
		"parameters": {func(c *Content) { c.Parameters["a b"] = raw(`1`) }, func(c *Content) {
			for _, name := range many("f", MaxLocked+1) {
				c.Parameters[name] = raw(`1`)
			}
		}},
		"parameters.messages":         {func(c *Content) { c.Parameters["messages"] = raw(`[]`) }},
		"parameters.Model":            {func(c *Content) { c.Parameters["Model"] = raw(`"m"`) }},
		"parameters.variables":        {func(c *Content) { c.Parameters["variables"] = raw(`{}`) }},
		"parameters.prompt":           {func(c *Content) { c.Parameters["prompt"] = raw(`{}`) }},
		"parameters.Prompt_Variables": {func(c *Content) { c.Parameters["Prompt_Variables"] = raw(`{}`) }},
		"parameters.inputs":           {func(c *Content) { c.Parameters["inputs"] = raw(`{}`) }},
		"parameters.stream":           {func(c *Content) { c.Parameters["stream"] = raw(`true`) }},
		"parameters.seed":             {func(c *Content) { c.Parameters["seed"] = raw(`12345678901234567891`) }, func(c *Content) { c.Parameters["seed"] = raw(`{`) }, func(c *Content) { c.Parameters["seed"] = nil }},
		"parameters.max_tokens": {func(c *Content) {
			c.Parameters["max_tokens"], c.Parameters["max_completion_tokens"] = raw(`1`), raw(`1`)
		}},
		"locked[0]":  {func(c *Content) { c.Locked[0] = "" }},
		"locked[1]":  {func(c *Content) { slices.Reverse(c.Locked) }, func(c *Content) { c.Locked[1] = "model" }},
		"locked":     {func(c *Content) { c.Locked = many("f", MaxLocked+1) }},
		"ignored":    {func(c *Content) { c.Ignored = many("f", MaxLocked+1) }},
		"ignored[0]": {func(c *Content) { c.Ignored = []string{"a\r\nb"} }, func(c *Content) { c.Ignored = []string{"model"} }, func(c *Content) { c.Ignored = []string{"Stream"} }},
		"ignored[1]": {func(c *Content) { c.Ignored = []string{"b", "a"} }},
		"variables":  {func(c *Content) { c.Variables["a.b"] = Variable{} }, func(c *Content) { c.Variables[""] = Variable{} }},
		"variables.x.schema": {
			func(c *Content) { c.Variables["x"] = Variable{Schema: raw(`{"type":"strin"}`)} },
			func(c *Content) { c.Variables["x"] = Variable{Schema: raw(`{"$ref":"file:///etc/passwd"}`)} },
			func(c *Content) { c.Variables["x"] = Variable{Schema: raw(`{"$ref":"https://example.com/s.json"}`)} },
			func(c *Content) { c.Variables["x"] = Variable{Schema: raw(`{"$ref":"other.json"}`)} },
			func(c *Content) { c.Variables["x"] = Variable{Schema: raw(`{"$schema":"https://example.com/meta"}`)} },
			func(c *Content) { c.Variables["x"] = Variable{Schema: raw(`{"pattern":"(?=a)"}`)} },
			func(c *Content) { c.Variables["x"] = Variable{Schema: raw(`{"maximum":1e999999999}`)} },
			func(c *Content) { c.Variables["x"] = Variable{Schema: raw(`{"type":"string","type":"number"}`)} },
			func(c *Content) {
				c.Variables["x"] = Variable{Schema: raw(`"` + strings.Repeat("x", MaxSchemaBytes) + `"`)}
			},
			func(c *Content) {
				c.Variables["x"] = Variable{Schema: raw(strings.Repeat(`{"not":`, MaxJSONDepth+1) + `{}` + strings.Repeat(`}`, MaxJSONDepth+1))}
			},
		},
		"variables.x.default": {
			func(c *Content) { c.Variables["x"] = Variable{Schema: raw(`{"type":"string"}`), Default: raw(`1`)} },
			func(c *Content) { c.Variables["x"] = Variable{Default: raw(`"`)} },
		},
	} {
		for i, change := range changes {
			c := full()
			change(&c)
			f := requireFault(t, Check(c), fault.InvalidTemplate, path)
			assert.Regexp(t, `^[^:]+: .{20}`, f.Message, "%s %d", path, i)
		}
	}
}

func TestSchemasReadNoFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "schema.json")
	require.NoError(t, os.WriteFile(path, []byte(`{"type":"string"}`), 0o600))
	_, err := compileOne(`{"$ref":"file://` + filepath.ToSlash(path) + `"}`)
	require.ErrorContains(t, err, "$defs")
}

func TestSchemas(t *testing.T) {
	for _, c := range []struct{ schema, good, bad string }{
		{`{"type":"string"}`, `""`, `1`},
		{`{"type":"string","minLength":2,"maxLength":3}`, `"é😀"`, `"é"`},
		{`{"type":"string","maxLength":3}`, `"\u00e9\n\ud83d\ude00"`, `"abcd"`},
		{`{"type":"string","minLength":2}`, `{"type":"input_text","text":"ab"}`, `{"type":"input_text","text":"a"}`},
		{`{"type":"number","title":"n"}`, `1e400`, `"1"`},
		{`{"type":"integer"}`, `12345678901234567890`, `1.5`},
		{`{"type":["string","null"]}`, `null`, `[]`},
		{`{"enum":["a",1]}`, `1.0`, `"b"`},
		{`{"type":"object","required":["a"],"properties":{"a":{"$ref":"#/$defs/s"}},"$defs":{"s":{"type":"string"}}}`, `{"a":"x"}`, `{"a":1}`},
		{`{"type":"array","items":{"type":"number","maximum":3},"maxItems":2}`, `[1,2]`, `[1,4]`},
		{`{"pattern":"^(a+)+$"}`, `"aaaa"`, `"` + strings.Repeat("a", 5000) + `b"`},
		{`{"maximum":10}`, `9`, `1e999999999`},
		{`{"oneOf":[{"type":"string"},{"type":"number"}]}`, `1`, `{}`},
		{`{"$ref":"#"}`, ``, `1`},
		{`{"type":"array","items":{"$ref":"#"}}`, `[[[]]]`, `[[1]]`},
		{`false`, ``, `1`},
	} {
		t.Run(c.schema, func(t *testing.T) {
			s, err := compileOne(c.schema)
			require.NoError(t, err)
			check := func(text string) error {
				meter, v := schemacost.NewMeter(), &variable{name: "x", schema: s}
				if _, err := v.take(raw(text), &meter); err != nil {
					return v.invalid(err)
				}
				return nil
			}
			if c.good != "" {
				require.NoError(t, check(c.good))
			}
			f := requireFault(t, check(c.bad), fault.InvalidVariable, "prompt.variables.x")
			assert.NotContains(t, f.Error(), "schema.invalid")
			assert.NotContains(t, f.Error(), "aaaa", "no value in an error")
		})
	}
}

func TestInfer(t *testing.T) {
	c := Content{
		Messages: []Message{
			{Role: "system", Text: "{{plain}} {{user.name}} {{user.at.zip}} {{#list}}{{item}} {{user.inside}} {{.}}{{/list}}{{^other.deep}}{{/other.deep}}"},
			{Type: TypePlaceholder, Name: "history"},
			{Role: "user", Parts: []Part{{Type: "text", Text: "{{declared}} {{in_part}}"}, {Type: "image_url", Value: raw(`{"url":"{{no}}"}`)}}},
		},
		Variables: map[string]Variable{
			"declared": {Schema: raw(`{"type":"number"}`)},
			"unused":   {Default: raw(`1`)},
			"stale":    {Required: true, Inferred: true},
		},
	}
	got, err := Infer(c, nil)
	require.NoError(t, err)
	assert.Equal(t, map[string]Variable{
		"plain":    {Schema: raw(`{}`), Required: true, Inferred: true},
		"user":     {Schema: raw(`{"type":"object","properties":{"at":{"type":"object","properties":{"zip":{}},"required":["zip"]},"name":{}},"required":["at","name"]}`), Required: true, Inferred: true},
		"list":     {Schema: raw(`{}`), Inferred: true},
		"item":     {Schema: raw(`{}`), Inferred: true},
		"other":    {Schema: raw(`{"type":"object","properties":{"deep":{}}}`), Inferred: true},
		"history":  {Schema: raw(schemaMessages), Inferred: true},
		"in_part":  {Schema: raw(`{}`), Required: true, Inferred: true},
		"declared": {Schema: raw(`{"type":"number"}`)},
		"unused":   {Default: raw(`1`)},
	}, got)

	c.Variables = got
	again, err := Infer(c, nil)
	require.NoError(t, err)
	assert.Equal(t, got, again)

	_, err = Infer(Content{Messages: []Message{{Role: "user", Text: "{{history}}"}, {Type: TypePlaceholder, Name: "history"}}}, nil)
	requireFault(t, err, fault.InvalidTemplate, "messages[1].name")
}

// TestDigestsAreCanonicalJSON holds our canonical form against another implementation of RFC 8785, which looks for the place of each member among those before.
func TestDigestsAreCanonicalJSON(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		raw := jsonValue(3).Filter(func(raw json.RawMessage) bool { return !strings.Contains(string(raw), "1e400") }).Draw(rt, "json")
		got, err := Canonical(append(append([]byte("["), raw...), ']'))
		require.NoError(rt, err)
		want, err := jcs.Transform(append(append([]byte("["), raw...), ']'))
		require.NoError(rt, err)
		require.Equal(rt, string(want), string(got))
	})
}
