package template

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	"github.com/promptgate/promptgate/internal/fault"
)

// TestNamesAreOneInEitherForm: a name of accents is one, whichever of its spellings texts, declarations, callers and values use.
func TestNamesAreOneInEitherForm(t *testing.T) {
	const nfc = "größe"
	nfd := norm.NFD.String(nfc)
	require.NotEqual(t, nfc, nfd)
	quoted := func(s string) string { return string(appendString(nil, s)) }
	for _, text := range []string{nfc, nfd} {
		for _, declared := range []string{nfc, nfd, ""} {
			for _, sent := range []string{nfc, nfd} {
				c := userSays("{{" + text + "}} {{o." + text + "}}{{#o}} {{" + text + "}}{{/o}}")
				plain := userSays("{{" + text + "}} {{o." + text + "}}")
				for _, c := range []Content{c, plain} {
					if declared != "" {
						c.Variables = map[string]Variable{declared: {Schema: raw(`{"type":"string"}`), Required: true}}
					}
					c, err := c.Normal()
					require.NoError(t, err)
					ready, err := Compile(c, nil)
					require.NoError(t, err)
					assert.Contains(t, ready.Content().Variables, nfc)
					assert.Len(t, ready.Content().Variables, 2)
					vars := raws{sent: json.RawMessage(`"V"`), "o": json.RawMessage(`{` + quoted(sent) + `:"M"}`)}
					got := rendered(t, ready, vars, "")[0]["content"]
					assert.Contains(t, []any{"V M M", "V M"}, got)

					_, err = ready.Bind(t.Context(), raws{nfc: raw(`"a"`), nfd: raw(`"b"`), "o": raw(`{}`)}, nil)
					requireFault(t, err, fault.InvalidVariable, "prompt.variables."+nfc)
					known := func(name string) bool { return name == norm.NFC.String("ältere") }
					vars[norm.NFD.String("ältere")] = raw(`1`)
					require.NoError(t, ready.CheckVariables(vars, known), "a name of another version")
				}
			}
		}
		c, err := Content{Messages: []Message{{Type: TypePlaceholder, Name: text}}}.Normal()
		require.NoError(t, err)
		assert.Equal(t, nfc, c.Messages[0].Name)
	}
	c := userSays("x")
	c.Variables = map[string]Variable{nfc: {}, nfd: {}}
	_, err := c.Normal()
	requireFault(t, err, fault.InvalidTemplate, "variables."+nfc)
}
