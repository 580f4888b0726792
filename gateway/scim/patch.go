package scim

import (
	"encoding/json"
	"slices"
	"strings"

	parser "github.com/scim2/filter-parser/v2"
)

// operation is one of a PATCH (RFC 7644, 3.5.2). Entra writes op with a capital.
type operation struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
}

const maxOperations = 1000

// resource is what was sent of a resource, its names in our spelling.
type resource map[string]any

// schemaPrefixes are those that may stand before an attribute that is ours.
func coreSchema(uri string) bool {
	return uri == "" || strings.EqualFold(uri, schemaUser) || strings.EqualFold(uri, schemaGroup)
}

// apply applies the operations to a resource, in their order. attributes are those that we keep; others are passed over, as RFC 7643 has it.
func (r resource) apply(k kind, ops []operation) error {
	if len(ops) == 0 || len(ops) > maxOperations {
		return problem(400, "invalidSyntax", "A PATCH has 1 to %d Operations.", maxOperations)
	}
	for _, op := range ops {
		what := strings.ToLower(op.Op)
		if !slices.Contains([]string{"add", "replace", "remove"}, what) {
			return problem(400, "invalidSyntax", "An operation is add, replace or remove.")
		}
		if op.Path == "" {
			if err := r.applyAll(k, what, op.Value); err != nil {
				return err
			}
			continue
		}
		if err := r.applyAt(k, what, op.Path, op.Value); err != nil {
			return err
		}
	}
	return nil
}

// applyAll is an operation without a path: its value is a part of the resource. Entra writes paths as its names.
func (r resource) applyAll(k kind, what string, raw json.RawMessage) error {
	if what == "remove" {
		return problem(400, "noTarget", "A remove needs a path.")
	}
	var parts map[string]json.RawMessage
	if json.Unmarshal(raw, &parts) != nil {
		return problem(400, "invalidValue", "The value of an operation without a path is an object of attributes.")
	}
	for name, v := range parts {
		if err := r.applyAt(k, what, name, v); err != nil {
			return err
		}
	}
	return nil
}

func (r resource) applyAt(k kind, what, at string, raw json.RawMessage) error {
	if len(at) > maxFilter {
		return problem(400, "invalidPath", "The path is too long.")
	}
	path, err := parser.ParsePath([]byte(at))
	if err != nil {
		if strings.HasPrefix(strings.ToLower(at), "urn:") { // an extension as a whole
			return nil
		}
		return problem(400, "invalidPath", "The path cannot be read: write it like emails[type eq \"work\"].value.")
	}
	name, ok := k.attribute(path.AttributePath.AttributeName)
	if !coreSchema(path.AttributePath.URI()) || !ok {
		return nil
	}
	if slices.Contains([]string{"id", "meta", "groups", "schemas"}, name) {
		if name == "id" && what != "remove" { // Okta sends it along
			return nil
		}
		return problem(400, "mutability", "%s cannot be changed.", name)
	}
	var value any
	if what != "remove" || len(raw) > 0 {
		if len(raw) == 0 || json.Unmarshal(raw, &value) != nil {
			return problem(400, "invalidValue", "An operation %s needs a value.", what)
		}
	}
	sub := path.AttributePath.SubAttributeName()
	if s := path.SubAttributeName(); s != "" {
		sub = s
	}
	switch {
	case k.many(name):
		return r.applyMany(what, name, path.ValueExpression, sub, value)
	case path.ValueExpression != nil:
		return problem(400, "invalidPath", "%s has one value: there is nothing to choose among.", name)
	case sub != "":
		return r.applySub(what, name, sub, value)
	case what == "remove":
		delete(r, name)
	default:
		if more, ok := value.(map[string]any); ok {
			if have, ok := r[name].(map[string]any); ok { // parts that are not sent stay
				for k, v := range more {
					have[k] = v
				}
				return nil
			}
		}
		r[name] = value
	}
	return nil
}

func (r resource) applySub(what, name, sub string, value any) error {
	have, _ := r[name].(map[string]any)
	if have == nil {
		have = map[string]any{}
	}
	set(have, sub, value, what == "remove")
	r[name] = have
	return nil
}

// set writes a member of an object whatever the case of its name.
func set(object map[string]any, name string, value any, remove bool) {
	for k := range object {
		if strings.EqualFold(k, name) {
			delete(object, k)
		}
	}
	if !remove {
		object[name] = value
	}
}

// applyMany changes an attribute of many values.
func (r resource) applyMany(what, name string, which parser.Expression, sub string, value any) error {
	have := elements(r[name])
	chosen := func(any) bool { return true }
	if which != nil {
		chosen = func(v any) bool { return matches(which, v) }
	}
	switch {
	case what == "remove" && sub != "":
		for _, v := range have {
			if m, ok := v.(map[string]any); ok && chosen(v) {
				set(m, sub, nil, true)
			}
		}
	case what == "remove" && which == nil && value != nil: // Entra names in the value whom it takes away
		gone := elements(value)
		have = slices.DeleteFunc(have, func(v any) bool {
			return slices.ContainsFunc(gone, func(g any) bool { return valueOf(g) == valueOf(v) })
		})
	case what == "remove":
		have = slices.DeleteFunc(have, chosen)
	case which == nil && sub == "" && what == "replace":
		have = elements(value)
	case which == nil && sub == "":
		for _, v := range elements(value) {
			if !slices.ContainsFunc(have, func(h any) bool { return valueOf(h) == valueOf(v) }) {
				have = append(have, v)
			}
		}
	default:
		found := false
		for i, v := range have {
			m, ok := v.(map[string]any)
			if !ok || !chosen(v) {
				continue
			}
			found = true
			if sub != "" {
				set(m, sub, value, false)
			} else {
				have[i] = value
			}
		}
		if !found {
			fresh := made(which)
			if sub == "" || fresh == nil {
				return problem(400, "noTarget", "Nothing of %s is what the path chooses.", name)
			}
			set(fresh, sub, value, false) // as Entra expects: it adds by a path that nothing fits
			have = append(have, fresh)
		}
	}
	if len(have) > maxMembers {
		return problem(413, "", "%s has too many values.", name)
	}
	r[name] = have
	return nil
}

// made is a value that a filter of one equality would choose.
func made(e parser.Expression) map[string]any {
	if a, ok := e.(*parser.AttributeExpression); ok && a.Operator == parser.EQ && a.AttributePath.SubAttribute == nil {
		return map[string]any{a.AttributePath.AttributeName: a.CompareValue}
	}
	return nil
}

func elements(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

func valueOf(v any) string {
	if m, ok := v.(map[string]any); ok {
		for k, s := range m {
			if text, ok := s.(string); ok && strings.EqualFold(k, "value") {
				return text
			}
		}
	}
	if s, ok := v.(string); ok {
		return s
	}
	return ""
}

// matches judges one value of an attribute by the filter in a path.
func matches(e parser.Expression, v any) bool {
	switch e := e.(type) {
	case *parser.LogicalExpression:
		if e.Operator == parser.AND {
			return matches(e.Left, v) && matches(e.Right, v)
		}
		return matches(e.Left, v) || matches(e.Right, v)
	case *parser.NotExpression:
		return !matches(e.Expression, v)
	case *parser.AttributeExpression:
		m, ok := v.(map[string]any)
		if !ok {
			return false
		}
		var have any
		for k, x := range m {
			if strings.EqualFold(k, e.AttributePath.AttributeName) {
				have = x
			}
		}
		return compares(strings.ToLower(string(e.Operator)), have, e.CompareValue)
	}
	return false
}

func compares(op string, have, want any) bool {
	a, aText := have.(string)
	b, bText := want.(string)
	if aText && bText {
		a, b = strings.ToLower(a), strings.ToLower(b)
		switch op {
		case "co":
			return strings.Contains(a, b)
		case "sw":
			return strings.HasPrefix(a, b)
		case "ew":
			return strings.HasSuffix(a, b)
		}
		have, want = a, b
	}
	switch op {
	case "pr":
		return have != nil && have != ""
	case "eq":
		return have == want
	case "ne":
		return have != want
	}
	return false
}
