// Package names holds what all names have in common, whatever they name.
package names

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Normal is the one spelling of a name: Unicode's normal form NFC. "é" is one character or two, by keyboard, file system and editor, and looks
// the same; so names are compared, kept and looked for in this form. A name that is in it already, such as any of ASCII, is returned as it is.
func Normal(s string) string { return norm.NFC.String(s) }

// IsNormal reports whether Normal would change nothing.
func IsNormal(s string) bool { return norm.NFC.IsNormalString(s) }

// NormalBytes is Normal of bytes, which are returned as they are when they are in that form.
func NormalBytes(b []byte) []byte {
	if norm.NFC.IsNormal(b) {
		return b
	}
	return norm.NFC.Bytes(b)
}

// Printable reports whether every character of s can be seen or is a plain space, so that s may stand in a header, a log and on a terminal.
func Printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Nearest is the one of known that s was probably meant to be, "" when none is near: the same but for case and marks between words, or a slip of
// one or two letters in a longer name.
func Nearest(s string, known []string) string {
	if len(s) > maxNear {
		return ""
	}
	folded := fold(s)
	best, distance := "", 3
	for _, k := range known {
		f := fold(k)
		if f == folded {
			return k
		}
		if short, long := min(len(f), len(folded)), max(len(f), len(folded)); short < 5 || long-short >= distance {
			continue
		}
		if d := edits(f, folded); d < distance {
			best, distance = k, d
		}
	}
	return best
}

// maxNear bounds what is compared letter by letter. Bytes.
const maxNear = 64

func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r == '.' || r == ' ' {
			return -1
		}
		return unicode.ToLower(r)
	}, s)
}

// edits is the Levenshtein distance of two short texts, in bytes, two neighbours that changed places counted as one.
func edits(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			same := 1
			if a[i-1] == b[j-1] {
				same = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+same)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
