// Package schemacost bounds what it takes to hold a value against a JSON Schema that somebody else wrote.
//
// A schema can ask for exponential work: references that double at each level, or alternatives that each descend into the same list. The
// validator knows no bounds, neither of time nor of the memory that its explanation takes, and cannot be stopped. So what a check would come
// to is counted before it runs.
package schemacost

import (
	"fmt"
	"regexp"
	"regexp/syntax"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The bounds.
const (
	maxSteps       = 200_000 // subschemas that one value is held against
	maxDepth       = 2_000   // of subschemas within each other, references followed
	maxPatternSize = 10_000  // instructions that one regular expression compiles to
	patternStep    = 500     // instructions times characters that count as one step
)

// pattern is a regular expression of a schema that knows what it costs.
type pattern struct {
	*regexp.Regexp
	size int // in instructions
}

// Pattern is an engine for the schema compiler: Go's expressions, linear in time, of bounded size.
func Pattern(text string) (jsonschema.Regexp, error) {
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, err
	}
	if len(program.Inst) > maxPatternSize {
		return nil, fmt.Errorf("it compiles to %d instructions, more than %d; repeat less", len(program.Inst), maxPatternSize)
	}
	compiled, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	return &pattern{compiled, len(program.Inst)}, nil
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

// meter counts, without judging anything, what a value is held against at the most.
type meter struct {
	left  int // steps
	depth int
}

// Affordable reports whether holding value against s stays within bounds.
func Affordable(s *jsonschema.Schema, value any) bool {
	m := meter{left: maxSteps}
	m.visit(s, value)
	return m.left >= 0
}

func (m *meter) visit(s *jsonschema.Schema, value any) {
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
	if s.Enum != nil {
		m.left -= len(s.Enum.Values) / 8
	}
	switch v := value.(type) {
	case string:
		m.match(s.Pattern, v)
	case []any:
		m.visitItems(s, v)
	case map[string]any:
		m.visitMembers(s, v)
	}
}

// match counts what a regular expression costs on a text.
func (m *meter) match(re jsonschema.Regexp, text string) {
	if p, ok := re.(*pattern); ok && p != nil {
		m.left -= p.size * len(text) / patternStep
	}
}

func (m *meter) visitItems(s *jsonschema.Schema, items []any) {
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

func (m *meter) visitMembers(s *jsonschema.Schema, members map[string]any) {
	for _, in := range s.DependentSchemas {
		m.visit(in, members)
	}
	for _, dependency := range s.Dependencies {
		if in, ok := dependency.(*jsonschema.Schema); ok {
			m.visit(in, members)
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
