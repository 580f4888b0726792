package template

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// doubling is a schema that holds one value against 2^n subschemas, after a chain of references that do nothing.
func doubling(keyword string, n, chain int) string {
	defs := []string{`"d0":{"type":"string"}`}
	for i := 1; i <= n; i++ {
		defs = append(defs, fmt.Sprintf(`"d%d":{"%s":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]}`, i, keyword, i-1, i-1))
	}
	for i := n + 1; i <= n+chain; i++ {
		defs = append(defs, fmt.Sprintf(`"d%d":{"$ref":"#/$defs/d%d"}`, i, i-1))
	}
	return fmt.Sprintf(`{"$ref":"#/$defs/d%d","$defs":{%s}}`, n+chain, strings.Join(defs, ","))
}

func TestSchemasThatCostTooMuchAreNotRun(t *testing.T) {
	for name, c := range map[string]struct{ schema, value string }{
		"alternatives double":    {doubling("anyOf", 40, 0), `1`},
		"all of them double":     {doubling("allOf", 40, 0), `"x"`},
		"one of them doubles":    {doubling("oneOf", 40, 0), `"x"`},
		"behind a long chain":    {doubling("allOf", 40, 1100), `"x"`},
		"doubles with the value": {`{"anyOf":[{"type":"array","items":{"$ref":"#"}},{"type":"array","items":{"$ref":"#"}}]}`, strings.Repeat("[", 60) + "1" + strings.Repeat("]", 60)},
		"members double":         {`{"additionalProperties":{"$ref":"#"},"patternProperties":{"a":{"$ref":"#"},"^a":{"$ref":"#"}}}`, strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)},
		"a costly expression":    {`{"type":"string","pattern":"(((a{0,30}){0,30}b{0,5})c?)*x"}`, `"` + strings.Repeat("a", 1<<20) + `"`},
		"of names":               {`{"propertyNames":{"pattern":"(((a{0,30}){0,30}b{0,5})c?)*x"}}`, `{"` + strings.Repeat("a", 1<<20) + `":1}`},
		"a circle":               {`{"$ref":"#/$defs/x","$defs":{"x":{"$ref":"#/$defs/y"},"y":{"$ref":"#/$defs/x"}}}`, `1`},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := compileOne(c.schema)
			require.NoError(t, err)
			assert.ErrorIs(t, s.holds(c.value), errTooCostly)
		})
	}
}

func TestSchemasWithinBoundsAreRun(t *testing.T) {
	tree := `{"anyOf":[{"type":"string"},{"type":"array","items":{"$ref":"#"}}]}`
	many := "[" + strings.Repeat(`{"sku":"a-1","count":2},`, 9_999) + `{"sku":"a-1","count":2}]`
	order := `{"type":"array","items":{"type":"object","properties":{"sku":{"type":"string","pattern":"^[a-z]-[0-9]+$"},"count":{"type":"integer"}},"required":["sku"],"additionalProperties":false}}`
	for name, c := range map[string]struct {
		schema, value string
		ok            bool
	}{
		"a tree":             {tree, strings.Repeat("[", 60) + `"x"` + strings.Repeat("]", 60), true},
		"a broken tree":      {tree, strings.Repeat("[", 60) + `1` + strings.Repeat("]", 60), false},
		"a long list":        {order, many, true},
		"a broken long list": {order, strings.Replace(many, "a-1", "A-1", 1), false},
		"a plain expression": {`{"type":"string","pattern":"^[a-z ]+$"}`, `"` + strings.Repeat("lorem ipsum ", 100_000) + `"`, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := compileOne(c.schema)
			require.NoError(t, err)
			err = s.holds(c.value)
			assert.Equal(t, c.ok, err == nil, "%v", err)
			assert.NotErrorIs(t, err, errTooCostly)
		})
	}
}

func TestSchemasThatCannotBeMeteredAreRefused(t *testing.T) {
	for _, text := range []string{
		`{"$dynamicAnchor":"x"}`, `{"$defs":{"a":{"$dynamicRef":"#x"}}}`, `{"allOf":[{"$recursiveRef":"#"}]}`, `{"$recursiveAnchor":true}`,
		`{"pattern":"((x{0,30}){0,30}){0,1000}"}`, `{"pattern":"(((ab){0,30}){0,30}(cd){0,999}(((ab){0,30}){0,30})(((ab){0,30}){0,30})(((ab){0,30}){0,30}))"}`,
	} {
		_, err := compileOne(text)
		assert.Error(t, err, text)
	}
}
