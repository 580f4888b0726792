package template

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// schemaAny takes every value; schemaMessages is what a placeholder's variable holds.
const (
	schemaAny      = `{}`
	schemaMessages = `{"type":"array","items":{"type":"object","properties":{"role":{"enum":["user","assistant","tool","function"]}},"required":["role"]}}`
)

// Infer returns c's variables completed by those that its templates, and the texts that they include, use without declaring.
// refs holds the included contents by digest, as Compile takes them.
//
// What is declared stays as declared. Else an included text's own declaration counts; else {{x}} makes a required variable of any
// value, {{x.y}} a required object with that member, and what only sections use, or stands only inside of sections (where a name may
// as well be a member of the section's value), an optional one. A placeholder makes an optional list of messages. Variables that
// an earlier Infer added are inferred anew, so that editing a text leaves none behind. Errors are InvalidTemplate.
func Infer(c Content, refs map[string]Content) (map[string]Variable, error) {
	in := newIncluder(refs)
	var all [][]token
	for _, t := range texts(&c) {
		tokens, err := in.expand(t, &c)
		if err != nil {
			return nil, err
		}
		all = append(all, tokens)
	}
	return inferFrom(&c, in, all)
}

// inferFrom is Infer over texts that were expanded already.
func inferFrom(c *Content, in *includer, all [][]token) (map[string]Variable, error) {
	vars := map[string]Variable{}
	for name, v := range c.Variables {
		if !v.Inferred {
			vars[name] = v
		}
	}
	if err := in.declared(c, vars); err != nil {
		return nil, err
	}
	used := usages(all)
	for _, name := range slices.Sorted(maps.Keys(used)) {
		if _, ok := vars[name]; !ok {
			u := used[name]
			vars[name] = Variable{Schema: u.schema(), Required: u.required, Inferred: true}
		}
	}
	for i, m := range c.Messages {
		if m.Type != TypePlaceholder {
			continue
		}
		if _, ok := used[m.Name]; ok {
			return nil, invalid(fmt.Sprintf("messages[%d].name", i), "placeholder %q has the name of a variable in a text; give one of them another name", m.Name)
		}
		if _, ok := vars[m.Name]; !ok {
			vars[m.Name] = Variable{Schema: json.RawMessage(schemaMessages), Inferred: true}
		}
	}
	if len(vars) > MaxVariables {
		return nil, invalid("variables", "the version has %d variables; at most %d are taken, so gather some in an object", len(vars), MaxVariables)
	}
	return vars, nil
}

// declared adds what the texts that c includes declare and vars does not. Two that disagree must be settled by the including text;
// what an included text declares settles what the texts below it say.
func (in *includer) declared(c *Content, vars map[string]Variable) error {
	from := map[string]Variable{}
	for _, pin := range c.References {
		theirs, err := in.declaredBelow(pin.Digest)
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(theirs)) {
			v := theirs[name]
			v.Inferred = true
			if _, ok := vars[name]; ok {
				continue
			}
			before, ok := from[name]
			if ok && (!bytes.Equal(before.Schema, v.Schema) || !bytes.Equal(before.Default, v.Default) || before.Required != v.Required || before.LastUserMessage != v.LastUserMessage) {
				return invalid("variables."+name, "two included texts declare %q differently; declare it in this version to settle it", name)
			}
			from[name] = v
		}
	}
	maps.Copy(vars, from)
	return nil
}

// declaredBelow is what an included text and the texts below it declare. Each text is read once, by however many ways it is included.
func (in *includer) declaredBelow(digest string) (map[string]Variable, error) {
	if _, used := in.expanded[digest]; !used {
		return nil, nil
	}
	theirs, known := in.variables[digest]
	if known {
		return theirs, nil
	}
	below := in.refs[digest]
	theirs = map[string]Variable{}
	for name, v := range below.Variables {
		if !v.Inferred {
			theirs[name] = v
		}
	}
	if err := in.declared(&below, theirs); err != nil {
		return nil, err
	}
	in.variables[digest] = theirs
	return theirs, nil
}

// usage is how texts use one name, or one member of an object.
type usage struct {
	required bool
	members  map[string]*usage
}

// usages gathers how expanded texts use their variables.
func usages(all [][]token) map[string]*usage {
	used := map[string]*usage{}
	for _, tokens := range all {
		depth := 0
		for _, t := range tokens {
			switch t.kind {
			case tokText, tokInclude:
			case tokClose:
				depth--
			case tokOpen, tokInverted:
				note(used, t.text, false, depth > 0)
				depth++
			case tokValue:
				note(used, t.text, depth == 0, depth > 0)
			}
		}
	}
	return used
}

// note enters one use of a possibly dotted name. Inside a section members say nothing about the variable of that name: the
// section's value may have a member of the same name.
func note(used map[string]*usage, name string, required, inside bool) {
	if name == "." {
		return
	}
	for first, rest, more := strings.Cut(name, "."); ; first, rest, more = strings.Cut(rest, ".") {
		u := used[first]
		if u == nil {
			u = &usage{}
			used[first] = u
		}
		u.required = u.required || required
		if !more || inside {
			return
		}
		if u.members == nil {
			u.members = map[string]*usage{}
		}
		used = u.members
	}
}

// schema is the JSON Schema of what was used.
func (u *usage) schema() json.RawMessage {
	if len(u.members) == 0 {
		return json.RawMessage(schemaAny)
	}
	buf := []byte(`{"type":"object","properties":{`)
	var required []string
	for i, name := range slices.Sorted(maps.Keys(u.members)) {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(appendString(buf, name), ':')
		buf = append(buf, u.members[name].schema()...)
		if u.members[name].required {
			required = append(required, name)
		}
	}
	buf = append(buf, '}')
	if len(required) > 0 {
		buf = append(buf, `,"required":[`...)
		for i, name := range required {
			if i > 0 {
				buf = append(buf, ',')
			}
			buf = appendString(buf, name)
		}
		buf = append(buf, ']')
	}
	return append(buf, '}')
}
