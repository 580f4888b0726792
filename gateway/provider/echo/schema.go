package echo

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/internal/schemacost"
)

// Bounds of what an instance is made for; beyond them an echo answers in plain text.
const (
	maxSchema = 64 << 10 // bytes
	maxDepth  = 12
	maxValues = 500
)

// instanceFor makes the JSON that response_format asks for; ok is false for plain text. An instance of a JSON Schema holds "echo"
// for every string, the least number that is allowed, and so on: obviously made up, and valid, for it is checked.
func instanceFor(format gjson.Result, shown string) (out string, ok bool) {
	switch format.Get("type").Str {
	case "json_object":
		return `{"echo":` + string(quote(shown)) + `}`, true
	case "json_schema":
		schema := format.Get("json_schema.schema")
		if !schema.Exists() {
			schema = format.Get("schema") // as a response has it
		}
		if !schema.IsObject() || len(schema.Raw) > maxSchema {
			return "", false
		}
		b := builder{root: schema, left: maxValues}
		instance, made := b.value(schema, 0)
		return instance, made && valid(schema.Raw, instance)
	}
	return "", false
}

// noFiles keeps references inside the schema: the library would open files.
type noFiles struct{}

// Load implements jsonschema.URLLoader.
func (noFiles) Load(string) (any, error) {
	return nil, errors.New("references to other documents are not followed")
}

func valid(schema, instance string) bool {
	const at = "mem:///schema"
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	budget := schemacost.NewBudget()
	if err != nil || budget.Take(doc) != nil {
		return false
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noFiles{})
	c.UseRegexpEngine(budget.Pattern)
	if c.AddResource(at, doc) != nil {
		return false
	}
	compiled, err := c.Compile(at)
	if err != nil {
		return false
	}
	budget.Seal()
	meter := schemacost.NewMeter()
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(instance))
	return err == nil && meter.Affordable(compiled, value) && compiled.Validate(value) == nil
}

// builder makes a small instance of a schema, or gives up.
type builder struct {
	root gjson.Result
	left int // values that may still be made
}

func (b *builder) value(s gjson.Result, depth int) (string, bool) {
	if b.left--; b.left < 0 || depth > maxDepth {
		return "", false
	}
	if c := s.Get("const"); c.Exists() {
		return c.Raw, true
	}
	if d := s.Get("default"); d.Exists() {
		return d.Raw, true
	}
	if e := s.Get("enum.0"); e.Exists() {
		return e.Raw, true
	}
	if ref := s.Get("$ref"); ref.Type == gjson.String {
		if target, ok := b.local(ref.Str); ok {
			return b.value(target, depth+1)
		}
		return "", false
	}
	for _, choice := range [...]string{"anyOf.0", "oneOf.0", "allOf.0"} {
		if c := s.Get(choice); c.IsObject() {
			return b.value(c, depth+1)
		}
	}
	return b.typed(s, depth)
}

// local finds what "#/$defs/name" points to.
func (b *builder) local(ref string) (gjson.Result, bool) {
	if ref == "#" {
		return b.root, true
	}
	path, ok := strings.CutPrefix(ref, "#/")
	at := b.root
	for step := range strings.SplitSeq(path, "/") {
		found := gjson.Result{}
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		at.ForEach(func(k, v gjson.Result) bool { // not by a gjson path, whose syntax a name could hold
			if k.String() == step {
				found = v
			}
			return !found.Exists()
		})
		at = found
	}
	return at, ok && at.IsObject()
}

func (b *builder) typed(s gjson.Result, depth int) (string, bool) {
	kind := s.Get("type").Str
	if t := s.Get("type"); t.IsArray() {
		kind = t.Get("0").Str
	}
	switch {
	case kind == "object", kind == "" && s.Get("properties").Exists():
		return b.object(s, depth)
	case kind == "array":
		return b.array(s, depth)
	case kind == "string":
		return string(quote(textFor(s))), true
	case kind == "integer", kind == "number":
		return number(s), true
	case kind == "boolean":
		return "false", true
	case kind == "null", kind == "":
		return "null", true
	}
	return "", false
}

// object has every property that is declared: strict schemas require all of them.
func (b *builder) object(s gjson.Result, depth int) (string, bool) {
	var out strings.Builder
	names, ok := []string{}, true
	add := func(name string, schema gjson.Result) {
		v, made := b.value(schema, depth+1)
		ok = ok && made
		if len(names) > 0 {
			out.WriteByte(',')
		}
		names = append(names, name)
		out.Write(quote(name))
		out.WriteByte(':')
		out.WriteString(v)
	}
	s.Get("properties").ForEach(func(k, v gjson.Result) bool {
		add(k.String(), v)
		return ok
	})
	for _, r := range s.Get("required").Array() {
		if name := r.String(); ok && !slices.Contains(names, name) {
			add(name, gjson.Result{})
		}
	}
	return "{" + out.String() + "}", ok
}

func (b *builder) array(s gjson.Result, depth int) (string, bool) {
	items := make([]string, 0, 1)
	for range min(max(1, s.Get("minItems").Int()), maxValues) {
		v, ok := b.value(s.Get("items"), depth+1)
		if !ok {
			return "", false
		}
		items = append(items, v)
	}
	if m := s.Get("maxItems"); m.Exists() && m.Int() == 0 {
		items = nil
	}
	return "[" + strings.Join(items, ",") + "]", true
}

func textFor(s gjson.Result) string {
	text := "echo"
	switch s.Get("format").Str {
	case "email":
		text = "echo@example.com"
	case "date":
		text = "2000-01-01"
	case "date-time":
		text = "2000-01-01T00:00:00Z"
	case "time":
		text = "00:00:00Z"
	case "uri", "url":
		text = "https://example.com/echo"
	case "uuid":
		text = "00000000-0000-0000-0000-000000000000"
	}
	if n := int(min(s.Get("minLength").Int(), 1000)); len(text) < n {
		text += strings.Repeat(".", n-len(text))
	}
	if m := s.Get("maxLength"); m.Exists() && int(m.Int()) < len(text) {
		text = text[:max(0, int(m.Int()))]
	}
	return text
}

// number is the least that is allowed, or 0 where nothing is said.
func number(s gjson.Result) string {
	if m := s.Get("minimum"); m.Type == gjson.Number {
		return m.Raw
	}
	if m := s.Get("exclusiveMinimum"); m.Type == gjson.Number {
		return strconv.FormatFloat(m.Num+1, 'g', -1, 64)
	}
	return "0"
}
