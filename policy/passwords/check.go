package passwords

import (
	_ "embed" // the list of words
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/promptgate/promptgate/internal/fault"
)

// What a password must be: long, and none that is guessed first. There are no rules of composition: they make passwords that people write down and
// guessers know (NIST SP 800-63B).
const (
	MinRunes = 12
	maxBytes = 256
)

//go:embed words.txt
var wordsText string

// Checker refuses passwords that everybody tries first.
type Checker struct {
	words map[string]bool
	long  int
}

// NewChecker reads the list of words.
func NewChecker() *Checker {
	c := &Checker{words: map[string]bool{}}
	for line := range strings.Lines(wordsText) {
		if w := strings.TrimSpace(line); w != "" && w[0] != '#' {
			c.words[w] = true
			c.long = max(c.long, len(w))
		}
	}
	return c
}

// normal is one spelling of what different keyboards send for the same letters.
func normal(password string) string { return norm.NFC.String(password) }

// Check refuses (InvalidRequest) a password that is short, common, or made of what everybody knows about its account.
func (c *Checker) Check(password string, about ...string) error {
	bad := func(format string, args ...any) error {
		return fault.New(fault.InvalidRequest, format, args...).WithParam("password")
	}
	if !utf8.ValidString(password) || len(password) > maxBytes {
		return bad("A password has at most %d bytes of text.", maxBytes)
	}
	password = normal(password)
	if utf8.RuneCountInString(password) < MinRunes {
		return bad("A password has at least %d characters: a sentence is easy to remember.", MinRunes)
	}
	if strings.ContainsFunc(password, unicode.IsControl) {
		return bad("A password has no control characters.")
	}
	known := map[string]bool{}
	for _, text := range about {
		for _, part := range strings.FieldsFunc(strings.ToLower(normal(text)), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			if len(part) > 2 {
				known[part], known[plain(part)] = true, true
			}
		}
	}
	if c.guessable(strings.ToLower(password), known) {
		return bad("This password is one of those that are tried first: common words, names, dates, rows of keys or repetitions. Choose other words, or more of them.")
	}
	return nil
}

// plain undoes what guessers undo: capitals, and digits and signs that stand for letters.
func plain(s string) string {
	return strings.NewReplacer("@", "a", "4", "a", "3", "e", "1", "i", "!", "i", "0", "o", "$", "s", "5", "s", "7", "t").Replace(strings.ToLower(s))
}

// maxOwn is how many characters of its own a password may lack beside what is known: past that it is not of what everybody tries.
const maxOwn = 4

// maxLooked bounds how much of a password is taken apart, in runes: whose beginning is nobody's guess, it is nobody's.
const maxLooked = 48

// guessable reports whether all but a few characters of a password belong to at most three different things that guessers put together: known words, rows of keys,
// repetitions, digits. Words that are not in the list are what makes a password.
func (c *Checker) guessable(password string, known map[string]bool) bool {
	r, spelled := []rune(password), []rune(plain(password))
	if len(r) > maxLooked {
		r, spelled = r[:maxLooked], spelled[:maxLooked]
	}
	best := c.cover(r, spelled, known)
	return best.own <= maxOwn && best.things <= 3
}

// covering is how a text can be put together: so many runes are nobody's, the others are of so many things.
type covering struct{ own, things int }

func (a covering) better(b covering) bool {
	return a.own < b.own || a.own == b.own && a.things < b.things
}

// cover finds the covering with the fewest runes of its own by going from left to right over where a piece may end. spelled is the same text with letters
// for the digits and signs that stand for them, rune by rune.
func (c *Checker) cover(r, spelled []rune, known map[string]bool) covering {
	best := make([]covering, len(r)+1)
	for end := 1; end <= len(r); end++ {
		best[end] = covering{best[end-1].own + 1, best[end-1].things}
		if !unicode.IsLetter(r[end-1]) { // digits and signs make no password: guessers append them
			best[end] = best[end-1]
		}
		for start := max(0, end-max(c.long, 32)); start < end; start++ {
			piece := r[start:end]
			if len(piece) < 2 || !c.known(piece, known) && !c.known(spelled[start:end], known) {
				continue
			}
			with := covering{best[start].own, best[start].things + 1}
			if string(piece) == string(r[max(0, start-len(piece)):start]) { // once more is no other thing
				with.things--
			}
			if with.better(best[end]) {
				best[end] = with
			}
		}
	}
	return best[len(r)]
}

func (c *Checker) known(piece []rune, about map[string]bool) bool {
	s := string(piece)
	return c.words[s] || about[s] || len(piece) >= 3 && (oneRune(piece) || stepped(piece) || onRow(s))
}

func oneRune(r []rune) bool {
	for _, x := range r[1:] {
		if x != r[0] {
			return false
		}
	}
	return true
}

// stepped is abcd, 4321.
func stepped(r []rune) bool {
	step := r[1] - r[0]
	if step != 1 && step != -1 {
		return false
	}
	for i := 2; i < len(r); i++ {
		if r[i]-r[i-1] != step {
			return false
		}
	}
	return true
}

// onRow is part of a row or column of a keyboard, in either direction.
func onRow(s string) bool {
	for _, row := range [...]string{
		"qwertyuiop", "qwertzuiop", "azertyuiop", "asdfghjkl", "zxcvbnm", "yxcvbnm", "wxcvbn", "qaz", "wsx", "edc", "rfv", "tgb", "yhn", "ujm", "iqaz", "qazwsxedcrfvtgbyhnujm", "qweasdzxc",
	} {
		if strings.Contains(row, s) || strings.Contains(row, backwards(s)) {
			return true
		}
	}
	return false
}

func backwards(s string) string {
	r := []rune(s)
	for i, j := 0, len(r)-1; i < j; i, j = i+1, j-1 {
		r[i], r[j] = r[j], r[i]
	}
	return string(r)
}
