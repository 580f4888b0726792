// Package schemacost bounds what it takes to hold a value against a JSON Schema that somebody else wrote.
//
// A schema can ask for exponential work: references that double at each level, or alternatives that each descend into the same list. The
// validator knows no bounds, neither of time nor of the memory that its explanation takes, and cannot be stopped. So what a check would come
// to is counted before it runs.
package schemacost

import (
	"encoding/json"
	"fmt"
	"regexp"
	"regexp/syntax"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The bounds.
const (
	maxSteps       = 200_000 // of one call: subschemas that its values are held against, and what comes to as much
	maxDepth       = 2_000   // of subschemas within each other, references followed
	maxPatternSize = 10_000  // instructions that one regular expression compiles to
	maxPatterns    = 30_000  // instructions of all regular expressions of a budget
	maxNodes       = 20_000  // JSON values in all schemas of a budget
	maxRegexValue  = 1_000   // bytes of a value of format regex
	patternStep    = 500     // instructions times characters that count as one step
	digitStep      = 8       // digits of a number that count as one step: numbers are computed exactly
	nameStep       = 8       // names, or short values, compared that count as one step
	formatStep     = 64      // bytes of a value of some format that count as one step
)

// Budget bounds what it takes to compile schemas that come together, such as those of one version.
type Budget struct {
	nodes    int // left
	patterns int // instructions left
	sealed   bool
}

// NewBudget is a full budget.
func NewBudget() *Budget { return &Budget{nodes: maxNodes, patterns: maxPatterns} }

// Seal ends the compiling. Afterwards Pattern may be called from anywhere at once: the validator does, for values of format regex.
func (b *Budget) Seal() { b.sealed = true }

// Take accounts for a decoded schema, and refuses one that goes beyond the budget or cannot be metered.
func (b *Budget) Take(doc any) error {
	if b.nodes -= weigh(doc, b.nodes+1); b.nodes < 0 {
		return fmt.Errorf("with the others it holds more than %d values; say less in schemas", maxNodes)
	}
	if keyword := LateBound(doc); keyword != "" {
		return fmt.Errorf("%s is not taken; use $ref and $anchor", keyword)
	}
	return nil
}

// weigh counts the values in a decoded JSON value, at most until it passes limit.
func weigh(doc any, limit int) int {
	n := 1
	switch v := doc.(type) {
	case []any:
		for _, item := range v {
			if n += weigh(item, limit-n); n > limit {
				return n
			}
		}
	case map[string]any:
		for _, member := range v {
			if n += weigh(member, limit-n); n > limit {
				return n
			}
		}
	case json.Number:
		n += len(v) / digitStep
	}
	return n
}

// pattern is a regular expression of a schema that knows what it costs.
type pattern struct {
	*regexp.Regexp
	size int // in instructions
}

// Pattern is an engine for the schema compiler: Go's expressions, linear in time, of bounded size each and together. How large a program
// becomes is reckoned before it is made.
func (b *Budget) Pattern(text string) (jsonschema.Regexp, error) {
	if b.sealed && len(text) > maxRegexValue {
		return nil, fmt.Errorf("it has %d bytes; at most %d are taken", len(text), maxRegexValue)
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	size := instructions(tree)
	if size > maxPatternSize {
		return nil, fmt.Errorf("it compiles to more than %d instructions; repeat less", maxPatternSize)
	}
	if b.sealed {
		return nil, nil // a value's: that it parses is what was asked
	}
	if b.patterns -= size; b.patterns < 0 {
		return nil, fmt.Errorf("with the others it compiles to more than %d instructions; repeat less", maxPatterns)
	}
	compiled, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	return &pattern{compiled, size}, nil
}

// instructions is about how many an expression compiles to, and bounded, so that repetitions within each other do not overflow.
func instructions(re *syntax.Regexp) int {
	n := 1
	for _, sub := range re.Sub {
		n += instructions(sub)
	}
	switch re.Op { //nolint:exhaustive // what is not named costs one
	case syntax.OpLiteral:
		n += len(re.Rune)
	case syntax.OpCharClass:
		n += len(re.Rune) / 8
	case syntax.OpRepeat:
		n *= max(re.Min+1, re.Max, 1)
	}
	return min(n, 1<<20)
}

// LateBound finds a keyword that makes a reference's target depend on how it was reached, which meter does not follow; "" when there is none.
func LateBound(doc any) string {
	switch v := doc.(type) {
	case []any:
		for _, item := range v {
			if found := LateBound(item); found != "" {
				return found
			}
		}
	case map[string]any:
		for name, member := range v {
			switch name {
			case "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor":
				return name
			}
			if found := LateBound(member); found != "" {
				return found
			}
		}
	}
	return ""
}

// Meter counts what the values of one call are held against at the most, without judging anything. All schemas of a call share one.
type Meter struct {
	left  int // steps
	depth int
	enums map[*jsonschema.Schema]int // what their values weigh
}

// NewMeter is a meter with a call's steps.
func NewMeter() Meter { return Meter{left: maxSteps} }

// Readable reports whether a value of so many JSON values may be decoded, which is accounted for.
func (m *Meter) Readable(values int) bool {
	m.left -= values / nameStep
	return m.left >= 0 && values <= maxSteps
}

// Affordable reports whether holding value against s stays within bounds.
func (m *Meter) Affordable(s *jsonschema.Schema, value any) bool {
	m.visit(s, value)
	return m.left >= 0
}

func (m *Meter) visit(s *jsonschema.Schema, value any) {
	if m.depth > maxDepth { // deeper than a value goes: references lead in a circle, or as good as
		m.left = 0
	}
	if m.left--; s == nil || m.left < 0 {
		return
	}
	m.depth++
	defer func() { m.depth-- }()
	for _, in := range [...]*jsonschema.Schema{s.Ref, s.RecursiveRef, s.Not, s.If, s.Then, s.Else} {
		if in != nil {
			m.visit(in, value)
		}
	}
	if s.DynamicRef != nil {
		m.visit(s.DynamicRef.Ref, value)
	}
	for _, list := range [...][]*jsonschema.Schema{s.AllOf, s.AnyOf, s.OneOf} {
		for _, in := range list {
			m.visit(in, value)
		}
	}
	m.compare(s, value)
	switch v := value.(type) {
	case string:
		m.match(s.Pattern, v)
		m.format(s.Format, v)
	case json.Number:
		m.number(s, v)
	case []any:
		if s.UniqueItems {
			m.left -= min(len(v), 20) * weigh(v, m.left)
		}
		m.visitItems(s, v)
	case map[string]any:
		m.visitMembers(s, v)
	}
}

// compare counts what it costs to compare a value with those of enum and const.
func (m *Meter) compare(s *jsonschema.Schema, value any) {
	if s.Const != nil {
		m.left -= weigh(*s.Const, m.left) / nameStep
	}
	if s.Enum == nil {
		return
	}
	n := len(s.Enum.Values)
	switch value.(type) {
	case []any, map[string]any, json.Number:
		all, ok := m.enums[s]
		if !ok {
			for _, v := range s.Enum.Values {
				all += weigh(v, maxNodes)
			}
			if m.enums == nil {
				m.enums = map[*jsonschema.Schema]int{}
			}
			m.enums[s] = all
		}
		m.left -= min(all, n*weigh(value, all))
	default:
		m.left -= n / nameStep
	}
}

// match counts what a regular expression costs on a text.
func (m *Meter) match(re jsonschema.Regexp, text string) {
	if p, ok := re.(*pattern); ok && p != nil {
		m.left -= 1 + p.size*len(text)/patternStep
	}
}

// format counts what it costs to judge a text of some format; one of format regex is parsed.
func (m *Meter) format(f *jsonschema.Format, text string) {
	switch {
	case f == nil:
	case f.Name == "regex":
		m.left -= min(len(text), maxRegexValue) + 1
	default:
		m.left -= len(text) / formatStep
	}
}

// number counts the exact arithmetic on a number. To divide takes the square of its digits.
func (m *Meter) number(s *jsonschema.Schema, n json.Number) {
	digits := len(n) / digitStep
	m.left -= digits
	if s.MultipleOf != nil {
		m.left -= digits * digits
	}
}

func (m *Meter) visitItems(s *jsonschema.Schema, items []any) {
	for i, item := range items {
		if m.left < 0 {
			return
		}
		if i < len(s.PrefixItems) {
			m.visit(s.PrefixItems[i], item)
		}
		if list, ok := s.Items.([]*jsonschema.Schema); ok && i < len(list) {
			m.visit(list[i], item)
		}
		for _, all := range [...]any{s.Items, s.AdditionalItems} {
			if in, ok := all.(*jsonschema.Schema); ok {
				m.visit(in, item)
			}
		}
		for _, in := range [...]*jsonschema.Schema{s.Items2020, s.Contains, s.UnevaluatedItems} {
			if in != nil {
				m.visit(in, item)
			}
		}
	}
}

func (m *Meter) visitMembers(s *jsonschema.Schema, members map[string]any) {
	m.left -= len(s.Required) / nameStep
	for name, required := range s.DependentRequired {
		if _, ok := members[name]; ok {
			m.left -= 1 + len(required)/nameStep
		}
	}
	for _, in := range s.DependentSchemas {
		m.visit(in, members)
	}
	for _, dependency := range s.Dependencies {
		switch in := dependency.(type) {
		case *jsonschema.Schema:
			m.visit(in, members)
		case []string:
			m.left -= 1 + len(in)/nameStep
		}
	}
	for name, member := range members {
		if m.left < 0 {
			return
		}
		if in := s.Properties[name]; in != nil {
			m.visit(in, member)
		}
		for re, in := range s.PatternProperties {
			m.match(re, name)
			m.visit(in, member)
		}
		if in, ok := s.AdditionalProperties.(*jsonschema.Schema); ok {
			m.visit(in, member)
		}
		if s.PropertyNames != nil {
			m.visit(s.PropertyNames, name)
		}
		if s.UnevaluatedProperties != nil {
			m.visit(s.UnevaluatedProperties, member)
		}
	}
}
