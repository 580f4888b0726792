package template

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
)

// TestContentPartsInVariables: each form of a part that clients write becomes a part, alone and in a list.
func TestContentPartsInVariables(t *testing.T) {
	for name, c := range map[string]struct{ value, want string }{
		"input_image":       {`{"type":"input_image","image_url":"https://e.test/a.png","detail":"high"}`, `{"type":"image_url","image_url":{"url":"https://e.test/a.png","detail":"high"}}`},
		"image_url":         {`{"type":"image_url","image_url":{"url":"https://e.test/a.png","detail":"high"}}`, `{"type":"image_url","image_url":{"url":"https://e.test/a.png","detail":"high"}}`},
		"image_url, indent": {"{\n \"image_url\": { \"url\" : \"data:,\\u0041\" }, \"type\": \"image\\u005furl\" }", `{"type":"image_url","image_url":{"url":"data:,\u0041"}}`},
		"input_audio":       {`{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}`, `{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}`},
		"input_file":        {`{"type":"input_file","file_data":"data:application/pdf;base64,AA","filename":"a.pdf"}`, `{"type":"file","file":{"file_data":"data:application/pdf;base64,AA","filename":"a.pdf"}}`},
		"file":              {`{"type":"file","file":{"file_id":"file-1"}}`, `{"type":"file","file":{"file_id":"file-1"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			var part any
			require.NoError(t, json.Unmarshal([]byte(c.want), &part))
			assert.Equal(t, []any{part}, said(t, "{{x}}", values("x", c.value)))
			text := map[string]any{"type": "text", "text": "What is this?"}
			list := ` [ {"type":"input_text","text":"What is this?"}, ` + c.value + ` , {"type":"text","text":"What is this?"}] `
			assert.Equal(t, []any{text, part, text}, said(t, "{{x}}", values("x", list)))
			assert.Equal(t, []any{map[string]any{"type": "text", "text": "See "}, text, part, text}, said(t, "See {{x}}", values("x", list)))

			// A default is a value like any other, and a schema sees what was sent.
			d := userSays("{{x}}")
			d.Variables = map[string]Variable{"x": {Default: raw(c.value), Schema: raw(`{"type":"object","required":["type"]}`)}}
			assert.Equal(t, []any{part}, rendered(t, compiled(t, d), nil, "")[0]["content"])
		})
	}
}

// TestDataThatLooksLikeParts: what is no whole part is data, and printed as such.
func TestDataThatLooksLikeParts(t *testing.T) {
	for _, v := range []string{
		`{"type":"file","name":"a.pdf"}`, `{"type":"text","text":"x","lang":"en"}`, `{"type":"image_url"}`, `{"type":1}`, `{"kind":"input_image"}`,
		`["a",{"type":"text","text":"x"}]`, `[{"type":"dog"}]`, `[]`, `{"part":{"type":"input_image","image_url":"u"}}`,
	} {
		assert.Equal(t, v, said(t, "{{x}}", values("x", v)), v)
	}
}

func TestPartsThatCannotBeSentAreRefusedByName(t *testing.T) {
	many := "[" + strings.TrimSuffix(repeat(`{"type":"input_image","image_url":"u"},`, MaxParts+1), ",") + "]"
	for _, v := range []string{
		`{"type":"input_image"}`, `{"type":"image_url","image_url":"https://e.test"}`, `{"type":"image_url","image_url":{}}`,
		`{"type":"input_audio","input_audio":{"data":"AA"}}`, `{"type":"input_audio"}`, `{"type":"input_file"}`,
		`{"type":"file","file":{}}`, `["see",{"type":"input_image","image_url":"u"}]`, `[{"type":"input_image","image_url":"u"},1]`, many,
	} {
		for _, text := range []string{"{{x}}", "a {{x}} b", "{{#y}}{{x}}{{/y}}"} {
			_, err := compiled(t, userSays(text)).Bind(t.Context(), values("x", v, "y", "true"), nil)
			requireFault(t, err, fault.InvalidVariable, "prompt.variables.x")
		}
	}
	image := `{"type":"input_image","image_url":"u"}`
	for _, text := range []string{"{{#y}}{{x}}{{/y}}", "{{x}}{{#y}}{{/y}}", "{{#x}}{{.}}{{/x}}"} {
		for _, v := range []string{image, "[" + image + "]"} {
			_, err := compiled(t, userSays(text)).AppendMessages(nil, values("x", v, "y", "true"), nil)
			requireFault(t, err, fault.InvalidVariable, "prompt.variables.x")
		}
	}
	assert.Equal(t, "there is one", said(t, "{{#x}}there is one{{/x}}", values("x", image)), "a section may ask for it")
	c := declared(userSays("{{u.type}}"), `{}`)
	_, err := compiled(t, c).AppendMessages(nil, values("u", image), nil)
	requireFault(t, err, fault.InvalidVariable, "prompt.variables.u")
}

// TestTagsInPayloadsAreRefused: they would be sent as they stand.
func TestTagsInPayloadsAreRefused(t *testing.T) {
	for _, p := range []Part{
		{Type: "image_url", Value: raw(`{"url":"{{photo}}"}`)}, {Type: "image_url", Value: raw(`{"url":"\u007b\u007bphoto}}"}`)},
		{Type: "input_audio", Value: raw(`{"data":"{{a}}","format":"wav"}`)}, {Type: "file", Value: raw(`{"file_id":"{{#a}}x{{/a}}"}`)},
	} {
		c := Content{Messages: []Message{{Role: "user", Parts: []Part{{Type: "text", Text: "x"}, p}}}}
		f := requireFault(t, Check(c), fault.InvalidTemplate, "messages[0].parts[1].value")
		assert.Contains(t, f.Message, "text part")
	}
	require.NoError(t, Check(Content{Messages: []Message{{Role: "user", Parts: []Part{{Type: "image_url", Value: raw(`{"url":"data:{a}}"}`)}}}}}))
}

// TestModelsCanStandInAHeader: what a version's model may be is what an answer's header may carry.
func TestModelsCanStandInAHeader(t *testing.T) {
	for _, model := range []string{"a\x00", "a\nb", "a\rb", "a\x1bb", "a\x7f", "a\u0085b", "a\u2028b", "a\u202eb", "a\u200bb", "a\tb", "a\xff", " a"} {
		c := userSays("x")
		c.Model = model
		requireFault(t, Check(c), fault.InvalidTemplate, "model")
	}
	for _, model := range []string{"gpt-4o", "accounts/fireworks/models/llama-v3p1-8b", "my model", "modèle", "模型"} {
		c := userSays("x")
		c.Model = model
		require.NoError(t, Check(c), model)
	}
}

// TestPartsForResponsesAlone: what the Responses API knows and chats do not is refused by name in a chat, and kept for the other.
func TestPartsForResponsesAlone(t *testing.T) {
	for v, want := range map[string]InputPart{
		`{"type":"input_image","file_id":"file-1","detail":"low"}`: {Type: InputImage, FileID: json.RawMessage(`"file-1"`), Detail: json.RawMessage(`"low"`)},
		`{"type":"input_file","file_url":"https://e.test/a.pdf"}`:  {Type: InputFile, FileURL: json.RawMessage(`"https://e.test/a.pdf"`)},
	} {
		for _, text := range []string{"{{x}}", "a {{x}} b"} {
			for _, one := range []string{v, "[" + v + "]"} {
				_, err := compiled(t, userSays(text)).AppendMessages(nil, values("x", one), nil)
				requireFault(t, err, fault.InvalidVariable, "prompt.variables.x")
				bound, err := compiled(t, userSays(text)).Bind(t.Context(), values("x", one), nil)
				require.NoError(t, err)
				out, err := bound.Render()
				require.NoError(t, err)
				found := false
				for _, p := range out[0].Parts {
					found = found || p.Input != nil && reflect.DeepEqual(want, *p.Input)
				}
				require.True(t, found, "%+v", out[0].Parts)
			}
		}
	}
}
