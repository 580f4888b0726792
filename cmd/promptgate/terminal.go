package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

// terminal writes text that others stored so that it is only ever shown: what could move the cursor, colour, rename the window or turn the direction of
// writing is spelled out, as \x1b. Line ends and tabs stay; a cell of a table spells them too.
type terminal struct {
	mu   sync.Mutex
	to   io.Writer
	rest []byte // the beginning of a character whose end has not come yet
}

// Write implements io.Writer.
func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in := slices.Concat(t.rest, p)
	var out bytes.Buffer
	for len(in) > 0 && (utf8.FullRune(in)) {
		r, size := utf8.DecodeRune(in)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\x%02x`, in[0]) // raw C1 bytes among them
		case r == '\n' || r == '\t' || !commands(r):
			out.Write(in[:size])
		default:
			out.WriteString(escaped(r))
		}
		in = in[size:]
	}
	t.rest = bytes.Clone(in)
	if _, err := t.to.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// commands reports whether a terminal may act on a character instead of showing it: C0, DEL, C1, and what turns the direction of text.
func commands(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

func escaped(r rune) string {
	s := strconv.QuoteRuneToASCII(r)
	return s[1 : len(s)-1]
}

// cell is stored text on one line.
func cell(s string) string {
	var b strings.Builder
	for _, r := range s {
		if commands(r) {
			b.WriteString(escaped(r))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// table is output in columns.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, heads ...any) table {
	t := table{tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)}
	if len(heads) > 0 {
		t.row(heads...)
	}
	return t
}

// row writes one line, each cell on it whatever stands in it.
func (t table) row(cells ...any) {
	for i, c := range cells {
		if i > 0 {
			_, _ = io.WriteString(t.w, "\t")
		}
		_, _ = io.WriteString(t.w, cell(fmt.Sprint(c)))
	}
	_, _ = io.WriteString(t.w, "\n") // Flush tells of errors
}

func (t table) flush() error { return t.w.Flush() }

// onTerminal reports whether somebody looks at what is written.
func onTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// coloured reports whether who looks at a terminal wants colours: see https://no-color.org.
func coloured(getenv func(string) string) bool {
	return getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// lifetime is a duration as people say it: 30d and 2w too.
type lifetime time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *lifetime) UnmarshalText(b []byte) error {
	s := string(b)
	for unit, hours := range map[string]int{"d": 24, "w": 7 * 24} {
		if n, err := strconv.Atoi(strings.TrimSuffix(s, unit)); err == nil && strings.HasSuffix(s, unit) && n > 0 && n <= 100*365 {
			*l = lifetime(time.Duration(n*hours) * time.Hour)
			return nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is no lifetime: write 30d, 2w or 720h", s)
	}
	*l = lifetime(d)
	return nil
}

// namesFlag is what a flag lists, by commas or by being repeated. An empty one is refused: kong takes --networks "" for no networks at all, and an empty
// variable in a script must not open what it was to limit.
type namesFlag []string

// Decode implements kong.MapperValue.
func (n *namesFlag) Decode(ctx *kong.DecodeContext) error {
	var text string
	if err := ctx.Scan.PopValueInto("names", &text); err != nil {
		return err
	}
	for _, name := range strings.Split(text, ",") {
		if name = strings.TrimSpace(name); name == "" {
			return fmt.Errorf("%q names nothing, or something and nothing: leave the flag out, or say what it shall be", text)
		}
		*n = append(*n, name)
	}
	return nil
}
