package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/promptgate/promptgate/internal/schemacost"
)

// schemaURL is where a variable's schema stands as far as references in it are concerned. Nothing is ever fetched from there.
const schemaURL = "https://schema.invalid/variable"

// maxExponent bounds the exponents of numbers that a schema judges: the validator computes exactly, so that 1e999999999
// would fill the memory.
const maxExponent = 400

// schema judges a value. nil takes any value.
type schema struct {
	kind     jsontext.Kind // when the schema asks for nothing but one scalar type, and a string's length: no validator is run
	min, max int           // of a string, in characters; max < 0: no bound
	inferred bool          // made from the names in texts, so that a value's names are read as theirs are
	compiled *jsonschema.Schema
}

// noLoader refuses to load schemas from anywhere: a schema holds all that it needs.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s is another document; copy what is needed below $defs", url)
}

// compileSchema prepares a JSON Schema (2020-12 unless it says otherwise). Regular expressions are Go's, linear in time. All schemas of a
// version share a budget.
func compileSchema(raw json.RawMessage, budget *schemacost.Budget) (*schema, error) {
	if len(raw) > MaxSchemaBytes {
		return nil, fmt.Errorf("it has %d bytes; at most %d are taken", len(raw), MaxSchemaBytes)
	}
	if len(raw) == 0 {
		return nil, nil
	}
	if err := checkJSON(raw); err != nil {
		return nil, err
	}
	switch string(compactJSON(raw)) {
	case `{}`, `true`:
		return nil, nil
	}
	doc, err := decodeForSchema(raw)
	if err != nil {
		return nil, err
	}
	if err := budget.Take(doc); err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(noLoader{})
	c.UseRegexpEngine(budget.Pattern)
	if err := c.AddResource(schemaURL, doc); err != nil {
		return nil, schemaFault(err)
	}
	compiled, err := c.Compile(schemaURL)
	if err != nil {
		return nil, schemaFault(err)
	}
	s := &schema{compiled: compiled, max: -1}
	s.shorten(doc)
	return s, nil
}

// shorten finds what the hot path need not run the validator for: a type, and a string's length. Anything else leaves s alone.
func (s *schema) shorten(doc any) {
	members, ok := doc.(map[string]any)
	if !ok {
		return
	}
	for name := range members {
		switch name {
		case "type", "title", "description", "default", "examples", "$comment":
		case "minLength", "maxLength":
			if members["type"] != "string" {
				return
			}
		default:
			return
		}
	}
	switch members["type"] {
	case "string":
		s.kind = '"'
	case "number":
		s.kind = '0'
	}
	if n := s.compiled.MinLength; n != nil {
		s.min = *n
	}
	if n := s.compiled.MaxLength; n != nil {
		s.max = *n
	}
}

// checkScalar is check for what shorten found.
func (s *schema) checkScalar(value json.RawMessage) error {
	value = trimSpace(value)
	got := kindOf(value)
	if got != s.kind {
		return fmt.Errorf("it is %s; send %s", kindName(got), kindName(s.kind))
	}
	if s.min == 0 && s.max < 0 || got != '"' {
		return nil
	}
	n := 0
	if bytes.IndexByte(value, '\\') < 0 {
		n = utf8.RuneCount(value) - len(`""`)
	} else {
		n = utf8.RuneCountInString(unquote(value))
	}
	switch {
	case n < s.min:
		return fmt.Errorf("it has %d characters; send at least %d", n, s.min)
	case s.max >= 0 && n > s.max:
		return fmt.Errorf("it has %d characters; send at most %d", n, s.max)
	}
	return nil
}

// schemaFault says in one line what is wrong with a schema, without our made-up address.
func schemaFault(err error) error {
	var loading *jsonschema.LoadURLError
	if errors.As(err, &loading) {
		return loading.Err
	}
	lines := strings.Split(err.Error(), "\n")
	return errors.New(strings.ReplaceAll(strings.TrimLeft(lines[len(lines)-1], " -"), schemaURL, ""))
}

// check says what value breaks, nil when nothing. The reason holds no part of the value, because errors are logged.
func (s *schema) check(value json.RawMessage, meter *schemacost.Meter) error {
	if s == nil {
		return nil
	}
	if s.kind != 0 {
		return s.checkScalar(value)
	}
	err := s.validate(value, meter)
	var broken *jsonschema.ValidationError
	if errors.As(err, &broken) {
		return errors.New(explain(broken))
	}
	return err
}

var errTooCostly = errors.New("to hold it against the variable's schema takes too long; send less, or simplify the schema")

// validate is the validator's judgement on valid JSON, within bounds.
func (s *schema) validate(value json.RawMessage, meter *schemacost.Meter) error {
	if !meter.Readable(countValues(value)) {
		return errTooCostly
	}
	doc, err := decodeForSchema(value)
	if err != nil {
		return err
	}
	if s.inferred {
		doc = normalKeys(doc)
	}
	if !meter.Affordable(s.compiled, doc) {
		return errTooCostly
	}
	return s.compiled.Validate(doc)
}

// normalKeys is a decoded value with its members' names in their one form.
func normalKeys(doc any) any {
	switch v := doc.(type) {
	case []any:
		for i := range v {
			v[i] = normalKeys(v[i])
		}
	case map[string]any:
		for name, member := range v {
			v[name] = normalKeys(member)
		}
		v, _ = normalNames(v)
		return v
	}
	return doc
}

// explain words the first rule that is broken.
func explain(v *jsonschema.ValidationError) string {
	for len(v.Causes) > 0 {
		if _, alternatives := v.ErrorKind.(*kind.AnyOf); alternatives {
			break
		}
		if _, alternatives := v.ErrorKind.(*kind.OneOf); alternatives {
			break
		}
		v = v.Causes[0]
	}
	at := "it"
	if len(v.InstanceLocation) > 0 {
		at = "/" + strings.Join(v.InstanceLocation, "/")
	}
	switch k := v.ErrorKind.(type) {
	case *kind.Type:
		return fmt.Sprintf("%s is of type %s; send %s", at, k.Got, strings.Join(k.Want, " or "))
	case *kind.Required:
		return fmt.Sprintf("%s has no %s; add it", at, strings.Join(k.Missing, ", "))
	case *kind.MinLength:
		return fmt.Sprintf("%s has %d characters; send at least %d", at, k.Got, k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("%s has %d characters; send at most %d", at, k.Got, k.Want)
	case *kind.MinItems:
		return fmt.Sprintf("%s has %d items; send at least %d", at, k.Got, k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("%s has %d items; send at most %d", at, k.Got, k.Want)
	case *kind.Enum:
		if want, err := json.Marshal(k.Want); err == nil && len(want) <= 300 {
			return fmt.Sprintf("%s is none of the values that it may have; send one of %s", at, want)
		}
	}
	rule := "false"
	if path := v.ErrorKind.KeywordPath(); len(path) > 0 {
		rule = path[0]
	}
	return fmt.Sprintf("%s breaks the rule %q of the variable's schema; change it to fit", at, rule)
}

// decodeForSchema decodes JSON as the validator wants it, numbers exact.
func decodeForSchema(raw json.RawMessage) (any, error) {
	if err := boundExponents(raw); err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(raw))
}

// boundExponents refuses valid JSON with a number whose exponent is beyond what exact arithmetic should see.
func boundExponents(raw []byte) error {
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	for {
		kind := dec.PeekKind()
		if kind == 0 {
			return nil // the end; raw was found valid before
		}
		if kind != '0' {
			if _, err := dec.ReadToken(); err != nil {
				return errMalformed
			}
			continue
		}
		number, err := dec.ReadValue()
		if err != nil {
			return errMalformed
		}
		if len(number) > 2*maxExponent || exponentOf(number) > maxExponent {
			return fmt.Errorf("it holds a number of more than %d digits or beyond e±%d; send it as a string", 2*maxExponent, maxExponent)
		}
	}
}

// exponentOf is the magnitude of a JSON number's exponent, bounded.
func exponentOf(number []byte) int {
	i := bytes.IndexAny(number, "eE")
	if i < 0 {
		return 0
	}
	n := 0
	for _, c := range number[i+1:] {
		if c >= '0' && c <= '9' && n <= maxExponent {
			n = n*10 + int(c-'0')
		}
	}
	return n
}
