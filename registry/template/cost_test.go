package template

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/schemacost"
)

// bytesOf is what f allocates. A count, and no time: the same on every machine.
func bytesOf(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc) //nolint:gosec // far below
}

// TestAValueIsReadOnceHoweverOftenItIsPrinted: two thousand tags over a large object take no more memory than one.
func TestAValueIsReadOnceHoweverOftenItIsPrinted(t *testing.T) {
	vars := raws{"u": object(5_000, `"0123456789"`)}
	for name, text := range map[string]string{
		"members":           "{{u.m%d}}",
		"deeper":            "{{u.m%d.x.y}}",
		"members, sections": "{{#u}}{{u.m%d}}{{/u}}",
	} {
		t.Run(name, func(t *testing.T) {
			cost := func(tags int) int64 {
				c := declared(userSays(strings.TrimSuffix(prints(text, tags), "\n")), `{}`)
				ready := compiled(t, c)
				dst := make([]byte, 0, 1<<20)
				return bytesOf(func() {
					_, err := ready.AppendMessages(dst, vars, nil)
					require.NoError(t, err)
				})
			}
			one, many := cost(1), cost(600)
			assert.Less(t, many, one+200*600, "%d for one tag, %d for 600", one, many)
		})
	}
}

// endless is a context that ends after it was asked a number of times.
type endless struct {
	context.Context
	left int
}

func (e *endless) Err() error {
	if e.left--; e.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestRenderingStopsWithItsContext(t *testing.T) {
	c := compiled(t, userSays("{{#l}}{{#l}}{{.}}{{/l}}{{/l}}"))
	vars := values("l", "["+repeat("1,", 400)+"1]")
	_, err := c.Bind(&endless{t.Context(), 0}, vars, nil)
	require.ErrorIs(t, err, context.Canceled)

	bound, err := c.Bind(&endless{t.Context(), 10}, vars, nil)
	require.NoError(t, err)
	_, err = bound.AppendMessages(nil, nil)
	require.ErrorIs(t, err, context.Canceled)
	assert.Greater(t, bound.steps, maxRenderSteps-100_000, "it stopped soon")
}

// TestSectionsCountEachLookUp: what a tag may cost is counted where it is looked up, not where it is written.
func TestSectionsCountEachLookUp(t *testing.T) {
	for name, text := range map[string]string{
		"what prints nothing": repeat("{{#l}}", 4) + repeat("{{nothing}}", 100) + repeat("{{/l}}", 4),
		"what is never shown": repeat("{{#l}}", 4) + repeat("{{#nothing}}x{{/nothing}}", 100) + repeat("{{/l}}", 4),
		"comments":            repeat("{{#l}}", 4) + repeat("{{! c }}", 100) + repeat("{{/l}}", 4),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := compiled(t, userSays(text)).AppendMessages(nil, values("l", "["+repeat("1,", 99)+"1]"), nil)
			requireFault(t, err, fault.RequestTooLarge, "prompt.variables")
		})
	}
}

// TestWorstSchemasAreRefusedByCount: each is more than a call's steps.
func TestWorstSchemasAreRefusedByCount(t *testing.T) {
	all := worst()
	for _, name := range []string{"schema, enum", "schema, numbers", "schema, many values", "schema, unique", "schemas, together"} {
		w, ok := all[name]
		require.True(t, ok, name)
		_, err := compiled(t, w.content).Bind(t.Context(), w.vars, nil)
		var f *fault.Error
		require.ErrorAs(t, err, &f, name)
		assert.Equal(t, fault.InvalidVariable, f.Code, name)
		assert.ErrorContains(t, err, errTooCostly.Error(), name)
	}
	for _, name := range []string{"schema, regex", "schema, regexes"} {
		_, err := compiled(t, all[name].content).Bind(t.Context(), all[name].vars, nil)
		assert.Equal(t, fault.InvalidVariable, fault.CodeOf(err), name)
	}
}

// TestSchemasOfAVersionShareABudget: many that are small each are refused together, before they fill the memory.
func TestSchemasOfAVersionShareABudget(t *testing.T) {
	patterns := func(n int, of string) string {
		var b strings.Builder
		b.WriteString(`{"allOf":[`)
		for i := range n {
			fmt.Fprintf(&b, `{"pattern":"%s%d"},`, of, i)
		}
		return b.String() + `{}]}`
	}
	values := `{"enum":[` + repeat("1,", 15_000) + `1]}`
	for name, schemas := range map[string][]string{
		"patterns":                 {patterns(700, "(((a{0,20}){0,20}b{0,5})c?)*"), patterns(700, "(((a{0,20}){0,20}b{0,5})c?)*x"), patterns(700, "(a{0,20}){0,20}")},
		"patterns, each few":       {patterns(5, "((a{0,90}){0,9})*"), patterns(5, "((a{0,90}){0,9})*x"), patterns(5, "((a{0,90}){0,9})*y"), patterns(5, "((a{0,90}){0,9})*z"), patterns(20, "((a{0,90}){0,9})*")},
		"a pattern within repeats": {`{"pattern":"((((a{0,9}){0,9}){0,9}){0,9}){0,9}"}`},
		"values":                   {values, values},
	} {
		t.Run(name, func(t *testing.T) {
			c := userSays("x")
			c.Variables = map[string]Variable{}
			for i, s := range schemas {
				c.Variables[fmt.Sprintf("v%d", i)] = Variable{Schema: json.RawMessage(s)}
			}
			var err error
			used := bytesOf(func() { err = Check(c) })
			require.Equal(t, fault.InvalidTemplate, fault.CodeOf(err), "%v", err)
			assert.Less(t, used, int64(64<<20))
		})
	}
}

// TestABudgetIsForCompiling: at call time the engine only judges, bounded, and takes from no budget that calls would share.
func TestABudgetIsForCompiling(t *testing.T) {
	budget := schemacost.NewBudget()
	budget.Seal()
	for range 100 {
		_, err := budget.Pattern("((a{0,90}){0,9})*")
		require.NoError(t, err)
	}
	_, err := budget.Pattern(repeat("a", 2000))
	require.Error(t, err)
}

// TestManyFieldsAreRefused: fields and locks are merged with every call.
func TestManyFieldsAreRefused(t *testing.T) {
	c := userSays("x")
	c.Parameters = map[string]json.RawMessage{}
	for i := range MaxParameters + 1 {
		c.Parameters[fmt.Sprintf("p%d", i)] = raw(`1`)
		c.Locked = append(c.Locked, fmt.Sprintf("p%04d", i))
	}
	requireFault(t, Check(c), fault.InvalidTemplate, "parameters")
	c.Parameters = map[string]json.RawMessage{"a": appendString(nil, repeat("x", MaxParameterBytes))}
	requireFault(t, Check(c), fault.InvalidTemplate, "parameters")
	c.Parameters = nil
	requireFault(t, Check(c), fault.InvalidTemplate, "locked")
	c.Locked = nil
	require.NoError(t, Check(c))
	c.Tools = raw("[" + repeat("{},", MaxTools) + "{}]")
	requireFault(t, Check(c), fault.InvalidTemplate, "tools")
}

// TestIncludesThatFanOut: a text that is included by a million ways is read once. The parts declare variables, which were looked for along
// every way.
func TestIncludesThatFanOut(t *testing.T) {
	refs := map[string]Content{}
	var below []Reference
	for level := range MaxIncludeDepth {
		var layer []Reference
		for i := range 12 {
			c := Content{Messages: []Message{{Role: "user", Text: "x"}}, Variables: map[string]Variable{"v": {}}}
			c.Messages[0].Text = fmt.Sprintf("{{! %d-%d }}", level, i) // prints nothing, so that no count of tags stops it
			for _, r := range below {
				c.Messages[0].Text += "{{> " + r.Spelling + "}}"
			}
			c.References = below
			d := digest(t, c)
			refs[d] = c
			layer = append(layer, Reference{Spelling: fmt.Sprintf("p/l%d-%02d@1", level, i), PromptID: "pmpt_1", Version: 1, Digest: d})
		}
		below = layer
	}
	var tags strings.Builder
	for _, r := range below {
		tags.WriteString("{{> " + r.Spelling + "}}")
	}
	c := userSays(tags.String())
	c.References = below
	var err error
	used := bytesOf(func() { _, err = Infer(c, refs) })
	require.NoError(t, err)
	assert.Less(t, used, int64(32<<20))
}
