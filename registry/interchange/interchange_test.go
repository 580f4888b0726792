package interchange

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/template"
)

const example = `---
name: support/triage
base: v3 9f2ce0a1b7d4 77aa01995b1c
description: Sorts tickets, quickly
category: support
owner: ""
tags: [support, tier-1]
aliases: []
labels: [staging]
model: gpt-4o-mini
parameters:
  seed: 12345678901234567890
  stop:
    - "---"
    - "null"
  temperature: 0.20
locked: [model]
tools:
  - type: function
    function:
      name: find
variables:
  ticket:
    schema:
      type: string
      minLength: 1
    required: true
note: |-
  shorter answers
  because users asked
---

=== system ===
You sort tickets.

# Rules
\=== none ===
\\=== one ===

=== placeholder history ===

=== user name="Ada \"L\"" ===
=== part text ===
{{ticket}}

=== part image_url ===
{
  "url": "https://example.com/a.png"
}

=== assistant ===
=== tool_calls ===
[
  {
    "id": "c1"
  }
]

=== tool tool_call_id="c1" ===
Found.
`

func exampleFile() File {
	return File{
		Name: "support/triage", Kind: registry.KindChat, Base: Base{Version: 3, Content: "9f2ce0a1b7d4", Metadata: "77aa01995b1c"},
		Metadata: Metadata{Description: new("Sorts tickets, quickly"), Category: new("support"), Owner: new(""), Tags: new([]string{"support", "tier-1"}), Aliases: new([]string{})},
		Labels:   []string{"staging"},
		Note:     "shorter answers\nbecause users asked",
		Content: template.Content{
			Model:      "gpt-4o-mini",
			Parameters: map[string]json.RawMessage{"temperature": json.RawMessage("0.20"), "seed": json.RawMessage("12345678901234567890"), "stop": json.RawMessage(`["---","null"]`)},
			Locked:     []string{"model"},
			Tools:      json.RawMessage(`[{"type":"function","function":{"name":"find"}}]`),
			Variables:  map[string]template.Variable{"ticket": {Schema: json.RawMessage(`{"type":"string","minLength":1}`), Required: true}},
			Messages: []template.Message{
				{Role: "system", Text: "You sort tickets.\n\n# Rules\n=== none ===\n\\=== one ==="},
				{Type: template.TypePlaceholder, Name: "history"},
				{Role: "user", Name: `Ada "L"`, Parts: []template.Part{{Type: "text", Text: "{{ticket}}"}, {Type: "image_url", Value: json.RawMessage(`{"url":"https://example.com/a.png"}`)}}},
				{Role: "assistant", ToolCalls: json.RawMessage(`[{"id":"c1"}]`)},
				{Role: "tool", ToolCallID: "c1", Text: "Found."},
			},
		},
	}
}

func TestExampleReadsAndWrites(t *testing.T) {
	got, err := Parse(strings.NewReader(example), "x.prompt.md")
	require.NoError(t, err)
	assert.Equal(t, exampleFile(), got)
	var b bytes.Buffer
	require.NoError(t, Write(&b, exampleFile()))
	assert.Equal(t, example, b.String())
}

func TestWindowsFile(t *testing.T) {
	got, err := Parse(strings.NewReader("\ufeff"+strings.ReplaceAll(example, "\n", "\r\n")), "x.prompt.md")
	require.NoError(t, err)
	assert.Equal(t, exampleFile(), got)
}

// TestFencesMayHaveSpacesBehind: an editor that leaves white space at a line's end, or ends only some lines in CRLF, breaks no file.
func TestFencesMayHaveSpacesBehind(t *testing.T) {
	for name, text := range map[string]string{
		"spaces":            strings.ReplaceAll(example, "---\n", "--- \t\n"),
		"spaces and CRLF":   strings.ReplaceAll(strings.ReplaceAll(example, "---\n", "---  \n"), "\n", "\r\n"),
		"CRLF at the fence": strings.Replace(example, "\n---\n", "\n---\r\n", 1),
		"spaces in between": strings.Replace(example, "category: support\n", "category: support  \n", 1),
	} {
		got, err := Parse(strings.NewReader(text), "x.prompt.md")
		require.NoError(t, err, name)
		assert.Equal(t, exampleFile(), got, name)
	}
}

// TestWithBaseChangesOneLine: the rest of a file is its author's.
func TestWithBaseChangesOneLine(t *testing.T) {
	b := Base{Version: 4, Content: "aaaaaaaaaaaa", Metadata: "bbbbbbbbbbbb"}
	for name, text := range map[string]string{
		"replaced":     example,
		"CRLF":         "\ufeff" + strings.ReplaceAll(example, "\n", "\r\n"),
		"put in":       strings.Replace(example, "base: v3 9f2ce0a1b7d4 77aa01995b1c\n", "", 1),
		"without name": "---\nmodel: x # mine\n---\n=== user ===\nbase: not this\n",
		"empty front":  "---\n---\n=== user ===\nhello",
	} {
		out, ok := WithBase([]byte(text), b)
		require.True(t, ok, name)
		f, err := Parse(bytes.NewReader(out), "x.prompt.md")
		require.NoError(t, err, "%s\n%s", name, out)
		assert.Equal(t, b, f.Base, name)
		without := func(s string) []string {
			return slices.DeleteFunc(strings.SplitAfter(s, "\n"), func(l string) bool { return strings.HasPrefix(l, "base: v") })
		}
		assert.Equal(t, without(text), without(string(out)), name)
	}
	_, ok := WithBase([]byte("no front matter"), b)
	assert.False(t, ok)
}

func TestTextKindAndNameFromFile(t *testing.T) {
	got, err := Parse(strings.NewReader("---\nkind: text\n---\nBe kind.\n\\=== x\n"), "./shared/tone.prompt.md")
	require.NoError(t, err)
	assert.Equal(t, File{Name: "shared/tone", Unnamed: true, Kind: registry.KindText, Content: template.Content{Messages: []template.Message{{Role: "user", Text: "Be kind.\n=== x"}}}}, got)
}

func TestYAMLValuesBecomeJSON(t *testing.T) {
	got, err := Parse(strings.NewReader("---\nname: x\nparameters:\n  a: {temperature: 1e400, s: yes, t: TRUE, n: ~, d: 2020-01-01, q: '1', u: 1.10}\n---\n=== user ===\nx"), "f")
	require.NoError(t, err)
	assert.Equal(t, `{"temperature":1e400,"s":"yes","t":true,"n":null,"d":"2020-01-01","q":"1","u":1.10}`, string(got.Content.Parameters["a"]))
	assert.Equal(t, "x", got.Content.Messages[0].Text)
}

func TestErrorsNameTheLine(t *testing.T) {
	front := "---\nname: a\n---\n"
	for text, want := range map[string]string{
		"":                                 "f:1: the file must start with front matter",
		"---\nname: a\n":                   "f:1: the file must start with front matter",
		"---\nname: a\ncolour: red\n---\n": `f:3: the key "colour" is not known`,
		"---\nname: a\nname: b\n---\n":     `f:3: the key "name" is there twice`,
		"---\nname: a\nparameters:\n  x: [\n---\n":        "f:",
		"---\nname: [a]\n---\n":                           "f:2: name must be a text",
		"---\nname: a\nkind: poem\n---\n":                 "f:3: the kind must be chat or text",
		"---\nname:\n---\n":                               "f:2: name is empty",
		"---\ntags: a\n---\n":                             "f:2: tags must be a list",
		"---\n- a\n---\n":                                 "f:2: the front matter must be keys",
		"---\nparameters: {a: 0x10}\n---\n":               `f:2: "0x10" is no number as JSON writes them`,
		"---\nparameters: {a: .inf}\n---\n":               "is no number",
		"---\nparameters: {a: &x 1, b: *x}\n---\n":        "f:2: anchors and aliases",
		"---\nparameters: {a: !!binary aGk=}\n---\n":      "f:2: tags (!)",
		"---\nparameters:\n  <<: {a: 1}\n---\n":           "f:3: a key must be text",
		"---\nvariables: {x: {schemas: 1}}\n---\n":        `f:2: the key "schemas" is not known`,
		"---\nvariables: {x: {required: yes}}\n---\n":     "f:2: this must be true or false",
		front + "hello\n":                                 "f:4: there is text before the first separator",
		front + "=== user ===\na\n=== b\n":                "f:6: a line that starts with ===",
		front + "\n=== robot ===\n":                       `f:5: "robot" begins no separator`,
		front + "=== placeholder ===\n":                   "f:4: a placeholder needs one name",
		front + "=== placeholder h ===\ntext":             "f:4: a placeholder has no text",
		front + "=== part text ===\nx":                    "f:4: === part === belongs to a message",
		front + "=== user ===\nx\n=== part text ===\ny":   "f:6: a message has either text or parts",
		front + "=== user ===\n=== part image_url ===\n{": "f:5: what stands below this separator must be JSON",
		front + "=== user role=\"x\" ===\n":               "f:4: a role may be followed by",
		front + "=== user name=x ===\n":                   "f:4: name must be followed by a text in double quotes",
		front + "=== user ===\na\n\xff\n":                 "f:6: the file is not valid UTF-8",
	} {
		t.Run(text, func(t *testing.T) {
			_, err := Parse(strings.NewReader(text), "f")
			var f *fault.Error
			require.ErrorAs(t, err, &f)
			assert.Equal(t, fault.InvalidRequest, f.Code)
			assert.Contains(t, f.Message, want)
		})
	}
	_, err := Parse(strings.NewReader(strings.Repeat("x", MaxBytes+1)), "f")
	assert.Equal(t, fault.RequestTooLarge, fault.CodeOf(err))
}

func TestWriteRefusesWhatNoFileHolds(t *testing.T) {
	for name, change := range map[string]func(*File){
		"invalid UTF-8":      func(f *File) { f.Content.Messages[0].Text = "\xff" },
		"in a note":          func(f *File) { f.Note = "\xff" },
		"invalid JSON":       func(f *File) { f.Content.Tools = json.RawMessage("{") },
		"part without JSON":  func(f *File) { f.Content.Messages[2].Parts[1].Value = nil },
		"no role":            func(f *File) { f.Content.Messages[0].Role = "" },
		"role":               func(f *File) { f.Content.Messages[0].Role = "system ===\n=== user" },
		"type":               func(f *File) { f.Content.Messages[0].Type = "x" },
		"placeholder's name": func(f *File) { f.Content.Messages[1].Name = "a b" },
		"part type":          func(f *File) { f.Content.Messages[2].Parts[0].Type = "a b" },
	} {
		t.Run(name, func(t *testing.T) {
			f := exampleFile()
			change(&f)
			assert.Equal(t, fault.InvalidRequest, fault.CodeOf(Write(&bytes.Buffer{}, f)))
		})
	}
	broken := errors.New("broken")
	assert.ErrorIs(t, Write(failing{broken}, exampleFile()), broken)
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// texts draws what could upset a format of lines: separators, escapes, line ends, YAML's own signs, and anything else.
func texts() *rapid.Generator[string] {
	piece := rapid.OneOf(rapid.SampledFrom([]string{
		"\n", "\n\n", "\r\n", "\r", " ", "\t", "---", "---\n", "=== user ===", "\n=== user ===\n", "\\=== x", "\n\\\\=== ", "===", "=== ", "\\", "a", "é", "\u2028", "\u0085",
		"\ufeff", "😀", "\x00", "\x7f", "\u200b", "#", ": ", "- ", "{{x}}", "|", ">", "'", "\"", "&a", "*a", "!t", "%", "@", "`", "~", "null", "yes", "1e3", "0x1", "2020-01-01", "<<", "...",
	}), rapid.String())
	return rapid.Map(rapid.SliceOfN(piece, 0, 6), func(s []string) string { return strings.Join(s, "") })
}

func someTexts(rt *rapid.T, name string) []string {
	list := rapid.SliceOfN(texts(), 0, 3).Draw(rt, name)
	return list
}

func someJSON() *rapid.Generator[json.RawMessage] {
	scalar := rapid.OneOf(rapid.SampledFrom([]string{`null`, `true`, `0.10`, `-0`, `1e400`, `12345678901234567890`, `{}`, `[]`, `""`}),
		rapid.Map(texts(), quoteJSON))
	return rapid.Map(rapid.SliceOfN(scalar, 3, 3), func(s []string) json.RawMessage {
		return json.RawMessage(`{"k":` + s[0] + `,"a":[` + s[1] + `,{` + quoteJSON("k"+strings.Trim(s[2], `"`)) + `:` + s[2] + `}],"":[[` + s[0] + `]]}`)
	})
}

func drawMessage(rt *rapid.T) template.Message {
	m := template.Message{Role: rapid.SampledFrom([]string{"system", "developer", "user", "assistant", "tool"}).Draw(rt, "role")}
	switch rapid.IntRange(0, 5).Draw(rt, "form") {
	case 0:
		return template.Message{Type: template.TypePlaceholder, Name: rapid.StringMatching(`[a-zäö_=-]{1,8}`).Draw(rt, "place")}
	case 1:
		for range rapid.IntRange(1, 3).Draw(rt, "parts") {
			if rapid.Bool().Draw(rt, "is text") {
				m.Parts = append(m.Parts, template.Part{Type: "text", Text: texts().Draw(rt, "part")})
			} else {
				m.Parts = append(m.Parts, template.Part{Type: "image_url", Value: someJSON().Draw(rt, "value")})
			}
		}
	default:
		m.Text = texts().Draw(rt, "text")
	}
	if rapid.Bool().Draw(rt, "more") {
		m.Name, m.ToolCallID = texts().Draw(rt, "name"), texts().Draw(rt, "call")
		m.ToolCalls = someJSON().Draw(rt, "calls")
	}
	return m
}

func drawFile(rt *rapid.T) File {
	f := File{
		Name: "n" + texts().Draw(rt, "name"), Kind: registry.KindChat, Note: texts().Draw(rt, "note"),
	}
	if rapid.Bool().Draw(rt, "with metadata") {
		f.Metadata = Metadata{
			Description: new(texts().Draw(rt, "description")), Category: new(texts().Draw(rt, "category")), Owner: new(texts().Draw(rt, "owner")),
			Tags: new(someTexts(rt, "tags")), Aliases: new(someTexts(rt, "aliases")),
		}
		f.Base = Base{Version: 7, Content: "0123456789ab", Metadata: f.MetadataSum()}
		f.Labels = []string{"production", "staging"}
	}
	f.Content.Model = texts().Draw(rt, "model")
	if rapid.Bool().Draw(rt, "text kind") {
		f.Kind = registry.KindText
		f.Content.Messages = []template.Message{{Role: "user", Text: texts().Draw(rt, "text")}}
	} else {
		for range rapid.IntRange(0, 4).Draw(rt, "messages") {
			f.Content.Messages = append(f.Content.Messages, drawMessage(rt))
		}
	}
	if rapid.Bool().Draw(rt, "with JSON") {
		f.Content.Tools, f.Content.ResponseFormat = someJSON().Draw(rt, "tools"), someJSON().Draw(rt, "format")
		f.Content.Parameters = map[string]json.RawMessage{texts().Draw(rt, "parameter"): someJSON().Draw(rt, "p"), "temperature": json.RawMessage(`0.0`)}
		f.Content.Variables = map[string]template.Variable{texts().Draw(rt, "variable"): {Schema: someJSON().Draw(rt, "s"), Required: true}, "v": {Default: json.RawMessage(`"d"`), LastUserMessage: true}}
		f.Content.References = []template.Reference{{Spelling: "a@b", PromptID: "pmpt_1", Version: 3, Digest: "sha256:00"}}
		f.Content.Locked = []string{"model", "tools"}
	}
	return f
}

// TestWhatIsWrittenIsRead: no text, name or JSON is changed by going to a file and back, and writing it again gives the same file.
func TestWhatIsWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := drawFile(rt)
		var b bytes.Buffer
		require.NoError(rt, Write(&b, f))
		got, err := Parse(bytes.NewReader(b.Bytes()), "file.prompt.md")
		require.NoError(rt, err, "%s", b.String())
		require.Equal(rt, f, got, "%s", b.String())
		var again bytes.Buffer
		require.NoError(rt, Write(&again, got))
		require.Equal(rt, b.String(), again.String())
	})
}

func TestInferredVariablesAreLeftOut(t *testing.T) {
	f := exampleFile()
	f.Content.Variables["seen"] = template.Variable{Schema: json.RawMessage(`{}`), Inferred: true}
	var b bytes.Buffer
	require.NoError(t, Write(&b, f))
	assert.Equal(t, example, b.String())
}

func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add("---\n---\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse(strings.NewReader(text), "f")
		if err != nil {
			require.Equal(t, fault.InvalidRequest, fault.CodeOf(err))
			return
		}
		var b bytes.Buffer
		if Write(&b, file) != nil {
			return
		}
		again, err := Parse(&b, "f")
		require.NoError(t, err)
		require.Equal(t, file, again)
	})
}

// TestEveryFieldHasAPlace: whatever a version's content gets next is in its file as well.
func TestEveryFieldHasAPlace(t *testing.T) {
	check := func(name string, c template.Content) {
		f := File{Name: "x", Kind: registry.KindChat, Content: c}
		var b bytes.Buffer
		require.NoError(t, Write(&b, f), name)
		got, err := Parse(bytes.NewReader(b.Bytes()), "x.prompt.md")
		require.NoError(t, err, "%s\n%s", name, b.String())
		require.Equal(t, f, got, "%s is lost\n%s", name, b.String())
	}
	message := template.Message{Role: "user", Text: "hello"}
	content := template.Content{Messages: []template.Message{message}}
	for i := range reflect.TypeFor[template.Content]().NumField() {
		c := content
		field := reflect.TypeFor[template.Content]().Field(i)
		if field.Name != "Messages" {
			sample(t, reflect.ValueOf(&c).Elem().Field(i))
		}
		check("Content."+field.Name, c)
	}
	for i := range reflect.TypeFor[template.Variable]().NumField() {
		if field := reflect.TypeFor[template.Variable]().Field(i); field.Name != "Inferred" { // inferred again
			v, c := template.Variable{}, content
			sample(t, reflect.ValueOf(&v).Elem().Field(i))
			c.Variables = map[string]template.Variable{"v": v}
			check("Variable."+field.Name, c)
		}
	}
	for i := range reflect.TypeFor[template.Message]().NumField() {
		if field := reflect.TypeFor[template.Message]().Field(i); !slices.Contains([]string{"Type", "Role", "Text", "Parts"}, field.Name) {
			m, c := message, content
			sample(t, reflect.ValueOf(&m).Elem().Field(i))
			c.Messages = []template.Message{m}
			check("Message."+field.Name, c)
		}
	}
}

// sample sets a field to something that is not its zero value.
func sample(t *testing.T, v reflect.Value) {
	t.Helper()
	switch {
	case v.Type() == reflect.TypeFor[json.RawMessage]():
		v.SetBytes([]byte(`["x"]`))
	case v.Kind() == reflect.String:
		v.SetString("x")
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.CanInt():
		v.SetInt(3)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		sample(t, v.Index(0))
	case v.Kind() == reflect.Map:
		value := reflect.New(v.Type().Elem()).Elem()
		sample(t, value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("x"), value)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "Inferred" {
				sample(t, v.Field(i))
			}
		}
	default:
		require.FailNow(t, "no sample", "%s", v.Type())
	}
}
