package template

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// encodeChat writes a rendering as chat completions take it, from its neutral parts.
func encodeChat(all []Rendered, caller string) []byte {
	out := []byte{'['}
	placed := false
	for _, m := range all {
		switch {
		case m.Caller:
			placed = true
			out = appendItems(out, []byte(caller))
			continue
		case m.Message.Type == TypePlaceholder:
			out = appendItems(out, m.Items)
			continue
		}
		out = append(appendComma(out), messageHead(m.Message)...)
		switch {
		case m.Whole:
			out = append(append(append(out, '"'), m.Parts[0].Text...), '"')
		case len(m.Parts) > 0:
			out = append(out, '[')
			for _, p := range m.Parts {
				if p.Media != nil {
					out = append(appendComma(out), p.Media...)
				} else {
					out = append(append(append(appendComma(out), `{"type":"text","text":"`...), p.Text...), `"}`...)
				}
			}
			out = append(out, ']')
		}
		out = append(out, messageTail(m.Message)...)
	}
	if !placed {
		out = appendItems(out, []byte(caller))
	}
	return append(out, ']')
}

// TestNeutralPartsSayTheSame: what a shape can write from the neutral parts is what chat completions get.
func TestNeutralPartsSayTheSame(t *testing.T) {
	image := `{"type":"input_image","image_url":"https://example.com/a.png"}`
	for name, c := range map[string]struct {
		content Content
		vars    raws
	}{
		"static":      {content: Content{Messages: []Message{{Role: "system", Text: "Be \"kind\"."}, {Role: "user", Text: "Hi"}}}},
		"variables":   {content: Content{Messages: []Message{{Role: "system", Text: "a {{x}} b"}, {Role: "user", Text: "{{x}}", Name: "n"}}}, vars: values("x", `"1\n\"<"`)},
		"sections":    {content: Content{Messages: []Message{{Role: "user", Text: "{{#l}}[{{.}}]{{/l}}"}}}, vars: values("l", `["a","b"]`)},
		"parts":       {content: Content{Messages: []Message{{Role: "user", Parts: []Part{{Type: "text", Text: "see {{x}}"}, {Type: "image_url", Value: []byte(`{"url":"https://example.com/b.png"}`)}}}}}, vars: values("x", `"it"`)},
		"media":       {content: Content{Messages: []Message{{Role: "user", Text: "before {{x}} after {{y}}"}}}, vars: values("x", image, "y", `"z"`)},
		"placeholder": {content: Content{Messages: []Message{{Role: "system", Text: "s"}, {Type: TypePlaceholder, Name: "history"}, {Role: "user", Text: "u"}}}},
		"history":     {content: Content{Messages: []Message{{Type: TypePlaceholder, Name: "history"}, {Role: "user", Text: "u"}}}, vars: values("history", `[{"role":"user","content":"before"}]`)},
	} {
		t.Run(name, func(t *testing.T) {
			compiled, err := Compile(c.content, nil)
			require.NoError(t, err)
			const caller = `{"role":"user","content":"mine"}`
			want, err := compiled.AppendMessages(nil, c.vars, []byte("["+caller+"]"))
			require.NoError(t, err)
			neutral, err := compiled.Render(c.vars)
			require.NoError(t, err)
			assert.JSONEq(t, string(want), string(encodeChat(neutral, caller)))
			assert.Equal(t, string(want), string(encodeChat(neutral, caller)))
		})
	}
	compiled, err := Compile(Content{Messages: []Message{{Role: "user", Text: "{{x}}{{x}}"}}}, nil)
	require.NoError(t, err)
	_, err = compiled.Render(raws{"x": []byte(`"` + repeat("y", MaxRenderedBytes/2) + `"`)})
	require.Error(t, err, "the limit holds here, too")
	_, err = compiled.Render(nil)
	require.Error(t, err, "a missing variable")
}

// TestValuesAgain: what is bound to used Values is what would be bound to new ones, and Reset leaves nothing of a call in them.
func TestValuesAgain(t *testing.T) {
	long, short := compiled(t, Content{Messages: []Message{{Role: "system", Text: "{{x}} and {{y}}"}, {Role: "user", Text: "{{x}}"}}}), compiled(t, Content{Messages: []Message{{Role: "user", Text: "{{y}}"}}})
	var v Values
	require.NoError(t, long.BindTo(t.Context(), &v, raws{"x": []byte(`"SECRET"`), "y": []byte(`"b"`)}, nil))
	got, err := v.Render()
	require.NoError(t, err)
	require.Len(t, got, 2)
	assert.Equal(t, "SECRET and b", string(got[0].Parts[0].Text))
	assert.Equal(t, "SECRET", string(got[1].Parts[0].Text))

	require.Error(t, short.BindTo(t.Context(), &v, nil, nil))
	require.NoError(t, short.BindTo(t.Context(), &v, raws{"y": []byte(`"c"`)}, nil))
	got, err = v.Render()
	require.NoError(t, err)
	require.Len(t, got, 1)
	assert.Equal(t, "c", string(got[0].Parts[0].Text))

	list := compiled(t, Content{Messages: []Message{{Role: "user", Text: "{{#xs}}<{{.}}>{{/xs}}{{o.a}}"}}})
	for xs, want := range map[string]string{`["a","b"]`: "<a><b>1", `["c"]`: "<c>1", `[]`: "1"} {
		require.NoError(t, list.BindTo(t.Context(), &v, raws{"xs": []byte(xs), "o": []byte(`{"a":1}`)}, nil))
		got, err = v.Render()
		require.NoError(t, err)
		assert.Equal(t, want, string(got[0].Parts[0].Text))
	}

	v.Reset()
	assert.Empty(t, v.values)
	for _, left := range v.rendered[:cap(v.rendered)] {
		assert.Zero(t, left)
	}
	for _, left := range v.parts[:cap(v.parts)] {
		assert.Zero(t, left)
	}
}
