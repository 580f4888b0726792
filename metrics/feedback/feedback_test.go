package feedback_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/metrics/feedback"
)

func number(v float64) *float64 { return &v }

func TestCheck(t *testing.T) {
	c, err := feedback.NewChecker(feedback.Rules{
		"stars": {Kind: metrics.KindNumber, Min: number(1), Max: number(5)},
		"tone":  {Kind: metrics.KindCategory, Categories: []string{"warm", "cold"}},
		"good":  {Kind: metrics.KindBool},
	})
	require.NoError(t, err)
	yes := true
	cases := map[string]struct {
		param  string // "" for a sound score
		change func(*metrics.Feedback)
	}{
		"boolean":             {"", func(*metrics.Feedback) {}},
		"number":              {"", func(f *metrics.Feedback) { f.Bool, f.Number = nil, number(-0.5) }},
		"category":            {"", func(f *metrics.Feedback) { f.Bool, f.Category = nil, "wrong tone ü" }},
		"comment":             {"", func(f *metrics.Feedback) { f.Comment = "two\nlines" }},
		"no call":             {"call_id", func(f *metrics.Feedback) { f.CallID = "" }},
		"no value":            {"value", func(f *metrics.Feedback) { f.Bool = nil }},
		"two values":          {"value", func(f *metrics.Feedback) { f.Number = number(1) }},
		"not a number":        {"value", func(f *metrics.Feedback) { f.Bool, f.Number = nil, number(math.NaN()) }},
		"infinite":            {"value", func(f *metrics.Feedback) { f.Bool, f.Number = nil, number(math.Inf(-1)) }},
		"huge number":         {"value", func(f *metrics.Feedback) { f.Bool, f.Number = nil, number(1e10) }},
		"huge category":       {"value", func(f *metrics.Feedback) { f.Bool, f.Category = nil, strings.Repeat("x", 201) }},
		"control characters":  {"value", func(f *metrics.Feedback) { f.Bool, f.Category = nil, "a\x00b" }},
		"line in a category":  {"value", func(f *metrics.Feedback) { f.Bool, f.Category = nil, "a\nb" }},
		"no name":             {"name", func(f *metrics.Feedback) { f.Name = "" }},
		"odd name":            {"name", func(f *metrics.Feedback) { f.Name = "a b" }},
		"line behind a name":  {"name", func(f *metrics.Feedback) { f.Name = "a\n" }},
		"long name":           {"name", func(f *metrics.Feedback) { f.Name = strings.Repeat("x", 65) }},
		"id with spaces":      {"id", func(f *metrics.Feedback) { f.ID = "a b" }},
		"long id":             {"id", func(f *metrics.Feedback) { f.ID = strings.Repeat("x", 201) }},
		"huge comment":        {"comment", func(f *metrics.Feedback) { f.Comment = strings.Repeat("x", 8<<10+1) }},
		"broken comment":      {"comment", func(f *metrics.Feedback) { f.Comment = "\xff" }},
		"huge user":           {"user", func(f *metrics.Feedback) { f.User = strings.Repeat("x", 201) }},
		"unknown source":      {"source", func(f *metrics.Feedback) { f.Source = "root" }},
		"rule: sound":         {"", func(f *metrics.Feedback) { f.Name, f.Bool, f.Number = "stars", nil, number(5) }},
		"rule: out of range":  {"value", func(f *metrics.Feedback) { f.Name, f.Bool, f.Number = "stars", nil, number(5.1) }},
		"rule: other kind":    {"value", func(f *metrics.Feedback) { f.Name = "stars" }},
		"rule: unknown class": {"value", func(f *metrics.Feedback) { f.Name, f.Bool, f.Category = "tone", nil, "loud" }},
		"rule: known class":   {"", func(f *metrics.Feedback) { f.Name, f.Bool, f.Category = "tone", nil, "cold" }},
	}
	for name, tc := range cases {
		f := &metrics.Feedback{Project: "p", CallID: "call_1", Name: "helpful", Bool: &yes, Source: "user", At: time.Unix(0, 0)}
		tc.change(f)
		err := c.Check(f)
		if tc.param == "" {
			assert.NoError(t, err, name)
			continue
		}
		var fe *fault.Error
		if assert.ErrorAs(t, err, &fe, name) {
			assert.Equal(t, fault.InvalidRequest, fe.Code, name)
			assert.Equal(t, tc.param, fe.Param, name)
		}
	}
}

// A category is one, whichever way its accents were typed, in a score and in a rule.
func TestCategoriesAreKeptInOneForm(t *testing.T) {
	const nfc, nfd = "caf\u00e9", "cafe\u0301"
	c, err := feedback.NewChecker(feedback.Rules{"place": {Kind: metrics.KindCategory, Categories: []string{nfd}}})
	require.NoError(t, err)
	for _, name := range []string{"place", "free"} {
		for _, typed := range []string{nfc, nfd} {
			f := &metrics.Feedback{Project: "p", CallID: "call_1", Name: name, Category: typed, Source: "user", At: time.Unix(0, 0)}
			require.NoError(t, c.Check(f), "%s %+q", name, typed)
			require.Equal(t, nfc, f.Category)
		}
	}
}

func TestNewCheckerRefusesRulesThatNothingFulfils(t *testing.T) {
	for name, rules := range map[string]feedback.Rules{
		"name":  {"a b": {Kind: metrics.KindBool}},
		"kind":  {"a": {Kind: "text"}},
		"range": {"a": {Kind: metrics.KindNumber, Min: number(2), Max: number(1)}},
	} {
		_, err := feedback.NewChecker(rules)
		assert.Error(t, err, name)
	}
}

func TestCeilMinute(t *testing.T) {
	at := time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC)
	assert.Equal(t, at, feedback.CeilMinute(at))
	assert.Equal(t, at.Add(time.Minute), feedback.CeilMinute(at.Add(1)))
}
