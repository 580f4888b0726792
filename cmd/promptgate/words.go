package main

import (
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/aymanbagabas/go-udiff/lcs"
)

// change is what happened to a run of text.
type change uint8

const (
	kept change = iota
	removed
	added
)

// stretch is a piece of text, all of which was kept, removed or added.
type stretch struct {
	change change
	text   string
}

// words says what differs between two texts, word by word: what only the first has is told before what only the second has.
func words(from, to string) []stretch {
	a, b := tokens(from), tokens(to)
	var runs []stretch
	at := 0
	for _, d := range lcs.DiffLines(a, b) {
		runs = append(runs, stretch{kept, strings.Join(a[at:d.Start], "")}, stretch{removed, strings.Join(a[d.Start:d.End], "")},
			stretch{added, strings.Join(b[d.ReplStart:d.ReplEnd], "")})
		at = d.End
	}
	return phrases(append(runs, stretch{kept, strings.Join(a[at:], "")}))
}

// phrases takes empty runs out, and takes changes as one that only a space parts, so that a phrase reads as a phrase.
func phrases(runs []stretch) []stretch {
	runs = slices.DeleteFunc(runs, func(r stretch) bool { return r.text == "" })
	var out []stretch
	var old, fresh strings.Builder
	flush := func() {
		out = append(out, stretch{removed, old.String()}, stretch{added, fresh.String()})
		old.Reset()
		fresh.Reset()
	}
	for i, r := range runs {
		switch {
		case r.change == removed:
			old.WriteString(r.text)
		case r.change == added:
			fresh.WriteString(r.text)
		case i > 0 && i+1 < len(runs) && strings.Trim(r.text, " ") == "" && old.Len() > 0 && fresh.Len() > 0:
			old.WriteString(r.text)
			fresh.WriteString(r.text)
		default:
			flush()
			out = append(out, r)
		}
	}
	flush()
	out = slices.DeleteFunc(out, func(r stretch) bool { return r.text == "" })
	for i := 1; i+1 < len(out); i++ { // a line that came or went ends in its line end, rather than beginning with that of the line before
		before, r, after := &out[i-1], &out[i], &out[i+1]
		if r.change != kept && before.change == kept && after.change == kept && strings.HasPrefix(r.text, "\n") && strings.HasPrefix(after.text, "\n") {
			before.text, r.text, after.text = before.text+"\n", r.text[1:]+"\n", after.text[1:]
		}
	}
	return slices.DeleteFunc(out, func(r stretch) bool { return r.text == "" })
}

// tokens cuts a text into what is compared: words with what binds them (don't, gpt-4o, 0.2), tags of templates, runs of spaces, and every other
// character by itself.
func tokens(s string) []string {
	var out []string
	for s != "" {
		n := tokenLength(s)
		out = append(out, s[:n])
		s = s[n:]
	}
	return out
}

// tokenLength is that of the first token of s.
func tokenLength(s string) int {
	if strings.HasPrefix(s, "{{") {
		if end := strings.Index(s, "}}"); end > 0 && !strings.Contains(s[:end], "\n") {
			end += len("}}")
			return end + len(s[end:]) - len(strings.TrimLeft(s[end:], "}"))
		}
	}
	first, n := utf8.DecodeRuneInString(s)
	switch {
	case first == ' ' || first == '\t':
		return len(s) - len(strings.TrimLeft(s, " \t"))
	case !inWord(first):
		return n
	}
	for n < len(s) {
		r, size := utf8.DecodeRuneInString(s[n:])
		if strings.ContainsRune("'\u2019.-", r) { // part of a word between two of its letters
			next, more := utf8.DecodeRuneInString(s[n+size:])
			if !inWord(next) {
				break
			}
			r, size = next, size+more
		}
		if !inWord(r) {
			break
		}
		n += size
	}
	return n
}

// inWord reports whether a character goes on a word. Of scripts that write none apart each character is one.
func inWord(r rune) bool {
	if r == utf8.RuneError || unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar) {
		return false
	}
	return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)
}

// The signs around what was removed and added: in text, and on a terminal that shows colours.
const (
	removedBegins, removedEnds = "[-", "-]"
	addedBegins, addedEnds     = "{+", "+}"
	redBegins, greenBegins     = "\x1b[31m", "\x1b[32m"
	reversed                   = "\x1b[7m" // of spaces, which have no colour
	colourEnds                 = "\x1b[0m"
	lineEnd                    = "\u21b5" // stands for a line end that was removed or added
)

// marked writes runs of text so that what changed is seen. No sign reaches over the end of a line; lines are those of the newer text, and each that
// was removed as a whole.
type marked struct {
	out    io.Writer // shows stored text
	colour io.Writer // takes the colours; nil: signs
	line   [3]bool   // which changes the line that is written has, kept text among them
}

func (m *marked) runs(runs []stretch) {
	for _, r := range runs {
		for rest := r.text; rest != ""; {
			line, after, ended := strings.Cut(rest, "\n")
			others := m.line
			others[r.change] = false
			pure := others == [3]bool{} // nothing else is on this line
			if ended && r.change != kept && (!pure || line == "" && m.line == [3]bool{}) {
				line += lineEnd
			}
			m.piece(stretch{r.change, line})
			if ended && (r.change != removed || pure) {
				m.end()
			}
			rest = after
		}
	}
	if m.line != [3]bool{} {
		m.end()
	}
}

func (m *marked) end() {
	_, _ = io.WriteString(m.out, "\n")
	m.line = [3]bool{}
}

func (m *marked) piece(r stretch) {
	if r.text == "" {
		return
	}
	m.line[r.change] = true
	begins, ends, to := "", "", m.out
	switch {
	case r.change == kept:
	case m.colour != nil:
		to, begins, ends = m.colour, redBegins, colourEnds
		if r.change == added {
			begins = greenBegins
		}
		if strings.Trim(r.text, " \t") == "" {
			begins += reversed
		}
	case r.change == removed:
		begins, ends = removedBegins, removedEnds
	default:
		begins, ends = addedBegins, addedEnds
	}
	_, _ = io.WriteString(to, begins)
	_, _ = io.WriteString(m.out, r.text)
	_, _ = io.WriteString(to, ends)
}

// unified shows a unified diff with what changed in its lines marked word by word.
func (m *marked) unified(diff string) {
	var from, to strings.Builder
	flush := func() {
		m.runs(words(from.String(), to.String()))
		from.Reset()
		to.Reset()
	}
	head := true
	for line := range strings.Lines(diff) {
		text := strings.TrimSuffix(line, "\n") + "\n"
		switch {
		case strings.HasPrefix(line, "@@"):
			head = false
			flush()
			m.runs([]stretch{{kept, text}})
		case head && (strings.HasPrefix(line, "---") || strings.HasPrefix(line, "+++")):
			m.runs([]stretch{{kept, text}})
		case line[0] == '-':
			if to.Len() > 0 { // a group of its own
				flush()
			}
			from.WriteString(text[1:])
		case line[0] == '+':
			to.WriteString(text[1:])
		case line[0] == '\\': // No newline at end of file
		default:
			flush()
			m.runs([]stretch{{kept, strings.TrimPrefix(text, " ")}})
		}
	}
	flush()
}
