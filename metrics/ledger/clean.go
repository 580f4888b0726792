package ledger

import (
	"strings"

	"github.com/promptgate/promptgate/metrics"
)

// clean makes a record fit for every database: text without NUL and broken UTF-8, counts in a sane range. What it changes was
// nonsense of a provider or a caller, and must not keep the rest from being recorded. It reports whether it changed anything.
func clean(c *metrics.Call) (changed bool) {
	for _, s := range [...]*string{&c.ID, &c.Project, &c.Principal, &c.PromptID, &c.PromptName, &c.Label, &c.Variant, &c.Digest,
		&c.Provider, &c.Model, &c.Endpoint, &c.CompletionID, &c.EndUser, &c.ErrorCode, (*string)(&c.Purpose), (*string)(&c.Outcome)} {
		changed = cleanIn(s) || changed
	}
	changed = cleanTokens(&c.Tokens) || changed
	changed = cleanCost(c.CostMicros) || changed
	for i := range c.Attempts {
		a := &c.Attempts[i]
		for _, s := range [...]*string{&a.Provider, &a.Model, (*string)(&a.Outcome)} {
			changed = cleanIn(s) || changed
		}
		changed = cleanTokens(&a.Tokens) || changed
		changed = cleanCost(a.CostMicros) || changed
	}
	return changed
}

func cleanIn(s *string) (changed bool) {
	old := *s
	*s = cleanText(old)
	return *s != old
}

func cleanText(s string) string {
	if plain(s) {
		return s
	}
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "")
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// plain reports whether s is ASCII without NUL, as nearly all texts are, eight bytes at a time: each call has some twenty.
func plain(s string) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; len(s) >= 8; s = s[8:] {
		word := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		if (word|(word-ones))&highs != 0 { // a byte of 0x80 and up, or one that was 0
			return false
		}
	}
	for i := range len(s) {
		if s[i]-1 >= 0x7f {
			return false
		}
	}
	return true
}

func cleanTokens(t *metrics.Tokens) (changed bool) {
	old := *t
	n := tokenCounts(t)
	for i := range n {
		n[i] = min(max(n[i], 0), maxCount)
	}
	setCounts(t, n)
	return *t != old
}

func cleanCost(cost *int64) (changed bool) {
	if cost == nil {
		return false
	}
	old := *cost
	*cost = min(max(old, 0), maxCount)
	return *cost != old
}

// cleanFeedback lets go of the batch that the texts are parts of, too: whoever counts scores keeps their names.
func cleanFeedback(f *feedbackRecord) {
	for _, s := range [...]*string{&f.ID, &f.Scorer, &f.Project, &f.CallID, &f.Name, &f.Category, &f.User, &f.Source} {
		*s = strings.Clone(cleanText(*s))
	}
}

func setCounts(t *metrics.Tokens, n [7]int64) {
	t.Input, t.CachedInput, t.CacheWrite, t.AudioInput, t.Output, t.Reasoning, t.AudioOutput = n[0], n[1], n[2], n[3], n[4], n[5], n[6]
}
