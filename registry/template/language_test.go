package template

import (
	"encoding/json"
	"html"
	"strings"
	"testing"

	"github.com/cbroglie/mustache"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/internal/testenv/corpora"
)

// optional declares all variables of c as optional, of any value, as Mustache itself has it.
func optional(t testing.TB, c Content) Content {
	t.Helper()
	vars, err := Infer(c, nil)
	require.NoError(t, err)
	c.Variables = map[string]Variable{}
	for name := range vars {
		c.Variables[name] = Variable{}
	}
	return c
}

// TestMustacheSpecification runs the public specification's cases, with unescaped expectations.
func TestMustacheSpecification(t *testing.T) {
	ours := map[string]string{ // what we refuse, and why
		"Implicit Iterators - Basic Interpolation":         "outside of a section",
		"Implicit Iterators - HTML Escaping":               "outside of a section",
		"Implicit Iterators - Triple Mustache":             "outside of a section",
		"Implicit Iterators - Ampersand":                   "outside of a section",
		"Implicit Iterators - Basic Integer Interpolation": "outside of a section",
		"Implicit Iterator - Root-level":                   "no variable name",
		"Partial Inheritence":                              "include needs", //nolint:misspell // the specification spells it so
		"Post-Partial Behavior":                            "include needs",
	}
	ran := 0
	for _, file := range []string{"comments", "delimiters", "interpolation", "inverted", "sections"} {
		var spec struct {
			Tests []struct {
				Name, Template, Expected string
				Data                     json.RawMessage
			}
		}
		require.NoError(t, json.Unmarshal(corpora.Mustache(t, file), &spec))
		for _, c := range spec.Tests {
			t.Run(file+"/"+c.Name, func(t *testing.T) {
				ran++
				if reason, refused := ours[c.Name]; refused {
					_, err := scan(c.Template)
					require.ErrorContains(t, err, reason)
					return
				}
				var vars raws
				_ = json.Unmarshal(c.Data, &vars) // some cases have no object
				content := optional(t, userSays(c.Template))
				for name := range vars {
					if !ValidName(name) {
						delete(vars, name)
						continue
					}
					content.Variables[name] = Variable{}
				}
				assert.Equal(t, html.UnescapeString(c.Expected), rendered(t, compiled(t, content), vars, "")[0]["content"])
			})
		}
	}
	assert.Greater(t, ran, 100)
}

func TestWhiteSpace(t *testing.T) {
	for text, want := range map[string]string{
		"a\n {{! stays }} ":             "a\n  ", // at the very end white space counts, as the library has it
		"a\n{{! gone }}\nb":             "a\nb",
		"a\n  {{! gone }}  \r\nb":       "a\nb",
		"a {{! here }} b":               "a  b",
		"{{=<% %>=}}\n<%x%>\n":          "X\n",
		"  {{x}}\n":                     "  X\n",
		"{{ x }}{{{ x }}}{{& x }}":      "XXX",
		"{{!a}}{{!b}}\n":                "\n",
		"{{! several\nlines }}\n\n|":    "\n|",
		"\n{{#x}}\n{{x}}\n{{/x}}\n\ta":  "\nX\n\ta",
		"a{{#x}}\n{{/x}}\nb":            "a\nb",
		"  {{^y}}\n  b\n  {{/y}}":       "  b\n",
		"{{#x}} {{#x}}\n {{/x}} {{/x}}": " \n  ",
	} {
		t.Run(text, func(t *testing.T) {
			c := optional(t, userSays(text))
			c.Variables["x"] = Variable{}
			assert.Equal(t, want, rendered(t, compiled(t, c), values("x", `"X"`), "")[0]["content"])
		})
	}
}

func TestSyntaxErrorsSayWhatToDo(t *testing.T) {
	for text, want := range map[string]string{
		"{{x":                          "line 1: a tag is opened with {{ and never closed",
		"a\nb {{#x}}":                  `line 2: section "x" is never closed; add {{/x}}`,
		"{{/x}}":                       "not open",
		"{{#x}}\n{{#y}}\n{{/x}}{{/y}}": "line 3: {{/x}} closes section \"y\" of line 2; write {{/y}}",
		"{{}}":                         "a tag is empty",
		"{{.}}":                        "outside of a section",
		"{{^a}}{{.}}{{/a}}":            "outside of a section",
		"{{^a}}{{#.}}{{/.}}{{/a}}":     "no variable name",
		`{"a":{{"b": 1}}`:              "change the delimiters",
		"{{a b}}":                      "no variable name",
		"{{a..b}}":                     "no variable name",
		"{{.a}}":                       "no variable name",
		"{{<x}}":                       "no variable name",
		"{{$x}}{{/x}}":                 "no variable name",
		"{{> /etc/passwd}}":            "an include needs",
		"{{> name}}":                   "an include needs",
		"{{> name@}}":                  "an include needs",
		"{{> name@0}}":                 "an include needs",
		"{{=x=}}":                      "new delimiters",
		"{{== ==}}":                    "new delimiters",
		"{{=a b c=}}":                  "new delimiters",
		"{{{x}}":                       "never closed with }}}",
		"{{" + repeat("x", 200) + "}}": "at most 128 bytes",
		"\xff":                         "UTF-8",
		repeat("{{x}}", MaxTags+1):     "more than 2000 tags",
		repeat("x", MaxTextBytes+1):    "at most 262144",
		repeat("{{#a}}", MaxSectionDepth+1) + repeat("{{/a}}", MaxSectionDepth+1): "nested more than 16 deep",
	} {
		t.Run(text[:min(len(text), 30)], func(t *testing.T) {
			_, err := scan(text)
			require.ErrorContains(t, err, want)
			err = Check(userSays(text))
			requireFault(t, err, "invalid_template", "messages[0].text")
		})
	}
}

// fragments are what drawn templates are made of: tags, and all that could be taken for one.
func fragments() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{
		"{{a}}", "{{ b }}", "{{{a}}}", "{{&b}}", "{{a.b}}", "{{o.k}}", "{{! c }}", "{{!c\n}}", "{{=<% %>=}}", "<%={{ }}=%>", "<%a%>", "<%&b%>",
		"\n", "\r\n", " ", "\t", "  ", "{", "}", "}}", "text", "é\u2028", "\"\\", "\x01", "\x02", "$1", "<b>&amp;", "{\"a\": {\"b\": 1}}",
	})
}

func sectionFragments() *rapid.Generator[string] {
	return rapid.OneOf(fragments(), rapid.SampledFrom([]string{
		"{{#a}}", "{{/a}}", "{{^a}}", "{{#l}}", "{{/l}}", "{{^l}}", "{{.}}", "{{#o}}", "{{/o}}", "<%#a%>", "<%/a%>", "{{#a}}\n", "\n{{/a}}\n", "{{k}}",
	}))
}

// TestAgreesWithTheLibrary compares every text that is accepted with what the mustache library makes of it by itself.
func TestAgreesWithTheLibrary(t *testing.T) {
	for name, gen := range map[string]*rapid.Generator[string]{"leaves": fragments(), "sections": sectionFragments()} {
		accepted := 0
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				text := strings.Join(rapid.SliceOfN(gen, 1, 14).Draw(rt, "text"), "")
				if _, err := scan(text); err != nil {
					return
				}
				accepted++
				a := rapid.SampledFrom([]string{"", " ", "A", "{{b}}", "<%b%>", "a\"\\\n&<", "\x01\x02"}).Draw(rt, "a")
				l := rapid.SliceOfN(rapid.SampledFrom([]string{"", "x", "{{a}}", "}"}), 0, 3).Draw(rt, "l")
				plain := map[string]any{"a": a, "b": "B", "l": l, "o": map[string]any{"k": a}}
				tree, err := mustache.ParseStringPartialsRaw(text, &mustache.StaticProvider{}, true)
				require.NoError(rt, err, "%q", text)
				want, err := tree.Render(plain)
				require.NoError(rt, err)

				vars := raws{}
				for name, v := range plain {
					vars[name], _ = json.Marshal(v)
				}
				c, err := Compile(optional(t, userSays(text)), nil)
				require.NoError(rt, err)
				out, err := c.AppendMessages(nil, vars, nil)
				require.NoError(rt, err)
				var got []struct{ Content string }
				require.NoError(rt, json.Unmarshal(out, &got))
				require.Equal(rt, want, got[0].Content, "%q", text)
			})
		})
		assert.Greater(t, accepted, 5)
	}
}

// TestBothPathsAgree renders texts without sections straight and, by a section that is never shown, through the library.
func TestBothPathsAgree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := strings.Join(rapid.SliceOfN(fragments(), 1, 10).Draw(rt, "text"), "")
		if _, err := scan(text + "|"); err != nil || strings.Contains(text, "{{=") {
			return
		}
		vars := raws{"a": jsonValue(3).Draw(rt, "a"), "b": jsonValue(2).Draw(rt, "b"), "o": jsonValue(3).Draw(rt, "o")}
		var got [2][]struct{ Content string }
		for i, text := range []string{text + "|", text + "|{{#n}}{{/n}}"} {
			c, err := Compile(optional(t, userSays(text)), nil)
			require.NoError(rt, err)
			require.Equal(rt, i == 1, c.units[0].pieces != nil && c.units[0].pieces[0].text.tree != nil)
			out, err := c.AppendMessages(nil, vars, nil)
			require.NoError(rt, err)
			require.NoError(rt, json.Unmarshal(out, &got[i]), "%s", out)
		}
		require.Equal(rt, got[0], got[1], "%q", text)
	})
}

// jsonValue draws JSON, objects with the members that the drawn templates read.
func jsonValue(depth int) *rapid.Generator[json.RawMessage] {
	scalar := rapid.Map(rapid.SampledFrom([]string{
		`null`, `true`, `false`, `0`, `-0.0`, `1e400`, `12345678901234567890`, `""`, `" "`, `"{{a}}"`, `"\u0041\n\"\\"`, `"é\u2028"`, `"\u0001"`,
	}), func(s string) json.RawMessage { return json.RawMessage(s) })
	if depth == 0 {
		return scalar
	}
	inner := jsonValue(depth - 1)
	return rapid.OneOf(scalar,
		rapid.Map(rapid.SliceOfN(inner, 0, 3), func(l []json.RawMessage) json.RawMessage {
			raw, _ := json.Marshal(l)
			return raw
		}),
		rapid.Map(rapid.SliceOfN(inner, 2, 2), func(l []json.RawMessage) json.RawMessage {
			return json.RawMessage(`{ "k":` + string(l[0]) + `, "b" : ` + string(l[1]) + `, "\u0000print":"evil" }`)
		}))
}
