package template

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
)

// library holds included contents by digest and pins them.
type library struct {
	t    testing.TB
	refs map[string]Content
}

func newLibrary(t testing.TB) *library { return &library{t, map[string]Content{}} }

// text adds a text prompt and returns how a content pins it.
func (l *library) text(spelling, text string, vars map[string]Variable, pins ...Reference) Reference {
	c := Content{Messages: []Message{{Text: text}}, Variables: vars, References: pins}
	d := digest(l.t, c)
	l.refs[d] = c
	return Reference{Spelling: spelling, PromptID: "pmpt_" + spelling, Version: 1, Digest: d}
}

func including(text string, pins ...Reference) Content {
	return Content{Messages: []Message{{Role: "user", Text: text}}, References: pins}
}

func TestReferencesInOrder(t *testing.T) {
	got, err := References(Content{Messages: []Message{
		{Role: "user", Text: "{{> b/x@2}} {{>a@production}}"},
		{Role: "user", Parts: []Part{{Type: "text", Text: "{{=<% %>=}}{{> not@1}}<%> b/x@2 %><%>c@3%>"}}},
	}})
	require.NoError(t, err)
	assert.Equal(t, []string{"b/x@2", "a@production", "c@3"}, got)
	_, err = References(userSays("{{"))
	requireFault(t, err, fault.InvalidTemplate, "messages[0].text")
}

func TestIncludes(t *testing.T) {
	l := newLibrary(t)
	inner := l.text("x@1", "inner {{x}}", nil)
	other := l.text("x@1", "another text of the same spelling", nil)
	outer := l.text("outer@production", "<{{> x@1}}>\n{{=[ ]=}}{{x}}[x]", nil, inner)
	lines := l.text("lines@1", "line\n", nil)
	for text, want := range map[string]string{
		// A section behind an include that ends a line is not alone on its line.
		"{{> lines@1}}{{#x}}\n{{> lines@1}}{{/x}}\n{{> lines@1}}{{^x}}\n{{/x}}": "line\n\nline\n\nline\n",
		"a\n  {{> outer@production}}  \nb":                                      "a\n  <inner V>\n{{x}}V  \nb",
		"{{> x@1}}{{> outer@production}}":                                       "another text of the same spelling<inner V>\n{{x}}V",
		"{{#x}}{{> outer@production}}{{/x}}":                                    "<inner V>\n{{x}}V",
		"{{=<% %>=}}{{x}} <%> outer@production %>{{x}}":                         "{{x}} <inner V>\n{{x}}V{{x}}",
		"{ {{> outer@production}} }{{#n}}{{/n}}":                                "{ <inner V>\n{{x}}V }",
	} {
		t.Run(text, func(t *testing.T) {
			var pins []Reference
			for _, pin := range []Reference{lines, outer, other} {
				if strings.Contains(text, pin.Spelling) {
					pins = append(pins, pin)
				}
			}
			c, err := Compile(including(text, pins...), l.refs)
			require.NoError(t, err)
			assert.Equal(t, want, rendered(t, c, values("x", `"V"`), "")[0]["content"])
			assert.True(t, c.Content().Variables["x"].Inferred)
		})
	}
}

func TestIncludesThatAreRefused(t *testing.T) {
	l := newLibrary(t)
	ok := l.text("ok@1", "fine", nil)
	chat := Content{Messages: []Message{{Role: "system", Text: "a"}, {Role: "user", Text: "b"}}}
	l.refs[digest(t, chat)] = chat
	deep := ok
	for i := range MaxIncludeDepth {
		deep = l.text(fmt.Sprintf("d%d@1", i), "{{> "+deep.Spelling+"}}", nil, deep)
	}
	wide := l.text("wide@9", repeat("{{x}}", 100), nil)
	for i := range 3 {
		wide = l.text(fmt.Sprintf("wide@%d", i+1), repeat("{{> "+wide.Spelling+"}}", 100), nil, wide)
	}
	big := l.text("big@1", repeat("x", MaxTextBytes), nil)
	sections := l.text("s@1", repeat("{{#x}}", MaxSectionDepth)+repeat("{{/x}}", MaxSectionDepth), nil)
	forged := ok
	forged.Digest = digest(t, userSays("what was pinned"))
	l.refs[forged.Digest] = userSays("what was put in its place")
	for name, c := range map[string]struct {
		content Content
		want    string
	}{
		"not pinned":    {including("{{> ok@1}}"), "not pinned"},
		"not loaded":    {including("{{> ok@1}}", Reference{Spelling: "ok@1", PromptID: "p", Version: 1, Digest: "sha256:" + repeat("0", 64)}), "not loaded"},
		"other text":    {including("{{> ok@1}}", forged), "digest differs"},
		"a chat":        {including("{{> ok@1}}", Reference{Spelling: "ok@1", PromptID: "p", Version: 1, Digest: digest(t, chat)}), "only a prompt of kind text"},
		"too deep":      {including("{{> "+deep.Spelling+"}}", deep), "more than 5 deep"},
		"too wide":      {including("{{> "+wide.Spelling+"}}", wide), "more than 2000 tags"},
		"too big":       {including(repeat("{{> big@1}}", 5), big), "more than 1048576 bytes"},
		"nested":        {including("{{#y}}{{> s@1}}{{/y}}", sections), "nested more than 16 deep"},
		"stale":         {including("nothing", ok), "remove the reference"},
		"unsorted":      {including("{{> ok@1}}{{> big@1}}", ok, big), "sorted"},
		"nothing wrong": {including("{{> ok@1}}{{x}}", ok), ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Compile(c.content, l.refs)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, fault.InvalidTemplate, fault.CodeOf(err))
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestIncludedDeclarationsCount(t *testing.T) {
	l := newLibrary(t)
	short := map[string]Variable{"x": {Schema: raw(`{"type":"string","maxLength":3}`), Default: raw(`"def"`)}}
	long := map[string]Variable{"x": {Schema: raw(`{"type":"string","maxLength":9}`), Required: true}}
	a, b := l.text("a@1", "{{x}}", short), l.text("b@1", "{{x}}", long)
	settled := l.text("c@1", "{{> a@1}}{{> b@1}}", long, a, b)

	got, err := Infer(including("{{> a@1}}", a), l.refs)
	require.NoError(t, err)
	assert.Equal(t, map[string]Variable{"x": {Schema: short["x"].Schema, Default: raw(`"def"`), Inferred: true}}, got)

	_, err = Infer(including("{{> a@1}}{{> b@1}}", a, b), l.refs)
	requireFault(t, err, fault.InvalidTemplate, "variables.x")

	got, err = Infer(including("{{> c@1}}", settled), l.refs)
	require.NoError(t, err)
	assert.True(t, got["x"].Required)

	c := including("{{> a@1}}{{> b@1}}", a, b)
	c.Variables = map[string]Variable{"x": {}}
	got, err = Infer(c, l.refs)
	require.NoError(t, err)
	assert.Equal(t, c.Variables, got)
}

func TestOneVariableTakesTheLastUserMessage(t *testing.T) {
	c := userSays("{{a}} {{b}}")
	c.Variables = map[string]Variable{"a": {LastUserMessage: true}}
	assert.Equal(t, "a", compiled(t, c).LastUserVariable())
	assert.Empty(t, compiled(t, userSays("{{a}}")).LastUserVariable())

	c.Variables["b"] = Variable{LastUserMessage: true}
	requireFault(t, Check(c), fault.InvalidTemplate, "variables.b.last_user_message")
	c = Content{Messages: []Message{{Type: TypePlaceholder, Name: "h"}}, Variables: map[string]Variable{"h": {LastUserMessage: true}}}
	requireFault(t, Check(c), fault.InvalidTemplate, "variables.h.last_user_message")
}
