// Package feedback holds the rules of scores on calls, and reads them back by call, by prompt and by version.
package feedback

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/names"
	"github.com/promptgate/promptgate/metrics"
)

// Rules fixes kind, range and categories of names. A name without a rule takes any valid score.
type Rules map[string]Rule

// Rule is what scores of one name must be.
type Rule struct {
	Kind       metrics.FeedbackKind
	Min, Max   *float64 // of a number, inclusive; nil: none
	Categories []string // of a category; empty: any
}

// Checker checks scores before they are taken. It is safe for concurrent use.
type Checker struct {
	rules    Rules
	name, id *regexp.Regexp
}

// NewChecker builds a checker; rules may be nil. It refuses rules that nothing can fulfil.
func NewChecker(rules Rules) (*Checker, error) {
	c := &Checker{
		rules: rules,
		name:  regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,63}$`),
		id:    regexp.MustCompile(fmt.Sprintf(`^[\x21-\x7e]{1,%d}$`, metrics.MaxScoreText)),
	}
	for name, r := range rules {
		switch {
		case !c.name.MatchString(name):
			return nil, fault.New(fault.InvalidRequest, "Score configuration: %q is no name of a score.", name)
		case r.Kind != metrics.KindBool && r.Kind != metrics.KindNumber && r.Kind != metrics.KindCategory:
			return nil, fault.New(fault.InvalidRequest, "Score configuration %s: kind must be boolean, number or category.", name)
		case r.Min != nil && r.Max != nil && !(*r.Min <= *r.Max):
			return nil, fault.New(fault.InvalidRequest, "Score configuration %s: min is above max.", name)
		}
	}
	return c, nil
}

// Check returns nil or an InvalidRequest that names the field, and brings the category into its one form. The score's project and call are the gateway's to check.
func (c *Checker) Check(f *metrics.Feedback) error {
	bad := func(param, format string, args ...any) error {
		return fault.New(fault.InvalidRequest, format, args...).WithParam(param)
	}
	f.Category = names.Normal(f.Category)
	values := 0
	for _, set := range [...]bool{f.Bool != nil, f.Number != nil, f.Category != ""} {
		if set {
			values++
		}
	}
	switch {
	case f.Project == "" || f.CallID == "":
		return bad("call_id", "Name the call that the score is for.")
	case !c.name.MatchString(f.Name):
		return bad("name", "name must begin with a letter and have up to 64 letters, digits, '_', '.' or '-'.")
	case f.ID != "" && !c.id.MatchString(f.ID):
		return bad("id", "id must be 1 to %d printable ASCII characters without spaces.", metrics.MaxScoreText)
	case values != 1:
		return bad("value", "value must be a boolean, a number, or a category that is not empty.")
	case f.Number != nil && !(math.Abs(*f.Number) <= metrics.MaxScoreNumber): // false for NaN, too
		return bad("value", "value must be a number between -1e9 and 1e9.")
	case f.Category != "" && !goodText(f.Category, metrics.MaxScoreText, false):
		return bad("value", "A category must be text of up to %d bytes without control characters.", metrics.MaxScoreText)
	case !goodText(f.Comment, metrics.MaxScoreComment, true):
		return bad("comment", "comment must be text of up to %d bytes.", metrics.MaxScoreComment)
	case !goodText(f.User, metrics.MaxScoreText, false):
		return bad("user", "user must be text of up to %d bytes.", metrics.MaxScoreText)
	case !slices.Contains([]string{"user", "reviewer", "evaluator", "code"}, f.Source):
		return bad("source", "source must be user, reviewer, evaluator or code.")
	}
	if rule, ok := c.rules[f.Name]; ok {
		if why := rule.violation(f); why != "" {
			return bad("value", "%s %s.", f.Name, why)
		}
	}
	return nil
}

func (r Rule) violation(f *metrics.Feedback) string {
	switch {
	case f.Kind() != r.Kind:
		return "takes a " + string(r.Kind)
	case f.Number != nil && (r.Min != nil && *f.Number < *r.Min || r.Max != nil && *f.Number > *r.Max):
		return "is out of its range"
	case f.Category != "" && len(r.Categories) > 0 && !slices.ContainsFunc(r.Categories, func(c string) bool { return names.Normal(c) == f.Category }):
		return "takes one of: " + strings.Join(r.Categories, ", ")
	}
	return ""
}

func goodText(s string, limit int, lines bool) bool {
	if len(s) > limit || !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) && (!lines || r != '\n' && r != '\r' && r != '\t')
	})
}
