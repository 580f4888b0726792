package admin

import (
	"strings"
	"unicode"
)

// table is a table in CSV, for spreadsheets.
type table struct{ text strings.Builder }

// row writes a line. Every cell is quoted, whatever separator the reader takes.
func (t *table) row(cells ...string) {
	for i, c := range cells {
		if i > 0 {
			t.text.WriteByte(',')
		}
		t.text.WriteByte('"')
		t.text.WriteString(strings.ReplaceAll(harmlessCell(c), `"`, `""`))
		t.text.WriteByte('"')
	}
	t.text.WriteString("\r\n")
}

// harmlessCell is a cell that no spreadsheet takes for a formula, nor for more than one cell: people choose names and reasons, and others open the table.
func harmlessCell(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	first := strings.TrimLeftFunc(s, unicode.IsSpace)
	if first != "" && strings.ContainsRune("=+-@|%＝＋－＠", []rune(first)[0]) {
		return "'" + s
	}
	return s
}

// csvAnswer is a whole table.
type csvAnswer struct {
	Type        string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"`
	Body        []byte
}

func (t *table) answer(name string) *csvAnswer {
	return &csvAnswer{Type: "text/csv; charset=utf-8", Disposition: `attachment; filename="` + name + `"`, Body: []byte(t.text.String())}
}
