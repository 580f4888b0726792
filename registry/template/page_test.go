package template

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPages tries every example of the manual's pages.
func TestPages(t *testing.T) {
	for page, want := range map[string]int{"templates": 3, "variables": 1} {
		text, err := os.ReadFile("../../cmd/promptgate/manual/" + page + ".md")
		require.NoError(t, err)
		examples := strings.Split(string(text), "```example\n")[1:]
		require.Len(t, examples, want)
		for _, e := range examples {
			e, _, _ = strings.Cut(e, "\n```")
			parts := strings.Split(e, "\n===\n")
			require.Len(t, parts, 3)
			vars := raws{}
			require.NoError(t, json.Unmarshal([]byte(parts[1]), &vars))
			got := said(t, parts[0], vars)
			if _, isText := got.(string); !isText {
				raw, err := json.Marshal(got)
				require.NoError(t, err)
				require.JSONEq(t, parts[2], string(raw))
				continue
			}
			require.Equal(t, parts[2], got)
		}
	}
}
