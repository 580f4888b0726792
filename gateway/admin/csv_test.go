package admin

import (
	"encoding/csv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNoCellIsAFormula: people choose names and reasons, and somebody else opens the table in a spreadsheet.
func TestNoCellIsAFormula(t *testing.T) {
	for in, want := range map[string]string{
		"=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@SUM(A1)": "'@SUM(A1)", "|calc": "'|calc", "%x": "'%x", "＝1": "'＝1", "＋1": "'＋1", "－1": "'－1", "＠x": "'＠x",
		"\t=1": "' =1", "\r=1": "' =1", "\n=1": "' =1", "  =1": "'  =1", "\u00a0=1": "'\u00a0=1", "\x00=1": "' =1", "\ta": " a",
		"a=b": "a=b", "ana@example.com": "ana@example.com", "": "", "a\nb": "a b", `say "hi", you`: `say "hi", you`, "a;b": "a;b", "'=1": "'=1",
	} {
		var tab table
		tab.row("before", in, "after")
		rows, err := csv.NewReader(strings.NewReader(tab.text.String())).ReadAll()
		require.NoError(t, err, "%q", in)
		require.Equal(t, [][]string{{"before", want, "after"}}, rows, "%q", in)
	}
}
