package wire

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry/template"
)

// Merged is what a version's fields and a caller's come to.
type Merged struct {
	Edits         []Edit // the version's fields that the caller did not override, sorted by name; never model or messages
	Model         string // the model to call, "" when neither names one
	ModelByCaller bool   // the caller chose it: it has to be authorized
	// Ignored names the caller's fields that the version drops, sorted, as a provider spells them; nil for none. It tells names alone, whatever the
	// values were: who may not read the version learns nothing of what it says.
	Ignored []string
}

// Locks are what Merge holds the caller to beside the version's own.
type Locks struct {
	More []string // the label's protection
	// Reads tells whether the caller may read the version. Who may not is told nothing by a lock: the same value and another are refused alike. nil: it may.
	Reads func() (bool, error)
	// messages are what is left of the caller's messages, in the field of that name, as a lock on them sees it; nil: as they stand in the body.
	name     string
	messages []byte
	items    items // the same where the field is "input"
}

// sent is the value of a member as locks see it.
func (l *Locks) sent(b *Body, m *Member) []byte {
	switch {
	case m.Name != l.name:
	case l.name == "input":
		return append(l.items.appendTo([]byte{'['}), ']')
	case l.messages != nil:
		return l.messages
	}
	return b.raw[m.ValueStart:m.ValueEnd]
}

// Merge lets the caller's fields override the version's, whole, unless they are locked by the version or by locks (the label's
// protection). null counts as present; max_tokens and max_completion_tokens are one field; a model of "default" or of a prompt form
// counts as absent. A locked field sent with another value is fault.ParameterLocked, Param naming it; the same value is fine for those who may
// read it, and so is null where the version sets nothing. A field that the version ignores is dropped under each of its names. A lock of either form
// on a field that the version does not set means that callers do not set it either, but for model: then there is nothing to protect, and someone has
// to choose. The edits are appended to edits; their values point into c.
func Merge(b *Body, c *template.Content, locks Locks, edits []Edit) (Merged, error) {
	for _, names := range [...][]string{c.Locked, locks.More} {
		for _, name := range names {
			if err := checkLock(b, c, name, &locks); err != nil {
				return Merged{}, err
			}
		}
	}
	var m Merged
	if len(c.Ignored) > 0 {
		m.Ignored, edits = ignore(b, c, &locks, edits)
	}
	model, err := b.Model()
	if err != nil {
		return Merged{}, err
	}
	if m.Model = c.Model; !NamesNoModel(model) && !isIgnored(m.Ignored, "model") {
		m.Model, m.ModelByCaller = model, model != c.Model
	}
	first := len(edits)
	edits = appendDefault(edits, b, m.Ignored, "tools", c.Tools)
	edits = appendDefault(edits, b, m.Ignored, "response_format", c.ResponseFormat)
	for name, value := range c.Parameters {
		if !callersOwn(name) {
			edits = appendDefault(edits, b, m.Ignored, name, value)
		}
	}
	slices.SortFunc(edits[first:], func(x, y Edit) int { return strings.Compare(x.Name, y.Name) })
	m.Edits = edits
	return m, nil
}

// ignore takes the fields out that the version ignores: their names, and edits with what takes them out.
func ignore(b *Body, c *template.Content, locks *Locks, edits []Edit) (ignored []string, more []Edit) {
	for _, lock := range c.Ignored {
		names := spellings(lock)
		if names[0] == "model" && c.Model == "" {
			continue
		}
		for i := range b.members {
			m := &b.members[i]
			at := b.touches(m, &names)
			if at < 0 {
				continue
			}
			if !meansNothing(m.Name, locks.sent(b, m)) {
				ignored = append(ignored, names[at])
			}
			if m.Name != "model" { // which is set for each target
				edits = append(edits, Remove(m.Name))
			}
		}
	}
	slices.Sort(ignored)
	return slices.Compact(ignored), edits
}

// meansNothing reports whether a field is one that SDKs must send, with a value that asks for nothing.
func meansNothing(name string, value []byte) bool {
	switch name {
	case "model":
		s, ok := stringOf(value)
		return isNull(value) || ok && NamesNoModel(s)
	case "messages", "input", "instructions", "system":
		w, ok := walkInto(WithContent(value), '[')
		return isNull(value) || ok && w.closed(']') || name != "messages" && string(value) == `""`
	}
	return false
}

// NamesNoModel reports whether a model field says nothing about the model: "", "default", or a form that names a prompt.
func NamesNoModel(model string) bool {
	return model == "" || model == "default" || NamesPrompt(model)
}

// NamesPrompt reports whether a model field is a form that names a prompt, such as "prompt/support/triage@production".
func NamesPrompt(model string) bool {
	_, ok := promptOf(model)
	return ok
}

// LocksMessages reports whether a version refuses messages of the caller's.
func LocksMessages(c *template.Content) bool {
	return slices.ContainsFunc(c.Locked, func(name string) bool { return spellings(name)[0] == "messages" })
}

// callersOwn are the fields that a version's parameters cannot set: the pipeline, or the caller, decides them.
func callersOwn(name string) bool {
	switch name {
	case "model", "messages", "input", "instructions", "system", "prompt", "previous_response_id", "conversation", "background", "stream", "stream_options", "tools", "response_format":
		return true
	}
	return false
}

// appendDefault appends the version's field unless the caller sent it, and it is not ignored.
func appendDefault(edits []Edit, b *Body, ignored []string, name string, value json.RawMessage) []Edit {
	if len(value) == 0 {
		return edits
	}
	one := sameField(name)
	for i := range b.members {
		sent := b.members[i].Name
		if sameField(sent) != one || isIgnored(ignored, sent) {
			continue
		}
		if e := editOf(edits, sent); e == nil || e.Value != nil { // what an edit takes out, such as variables in metadata, is not sent
			return edits
		}
	}
	return append(edits, Edit{Name: name, Value: value})
}

// isIgnored reports whether a caller's field was dropped.
func isIgnored(ignored []string, name string) bool {
	return ignored != nil && slices.ContainsFunc(ignored, func(one string) bool { return strings.EqualFold(one, name) })
}

// sameField maps the two names of one field to one of them.
func sameField(name string) string {
	if name == "max_completion_tokens" {
		return "max_tokens"
	}
	return name
}

// spellings are the names under which some provider takes the field that a lock names: its other and older ones would get around it. The first is
// the field's own; "" fills up. An array costs no allocation.
func spellings(lock string) [7]string {
	for _, group := range [...][7]string{
		{"model", "models", "engine", "deployment_id", "fallbacks"},
		{"messages", "input", "instructions", "system", "prompt", "previous_input_messages"},
		{"tools", "functions", "mcp_servers"},
		{"tool_choice", "function_call"},
		{"max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens"},
		{"response_format", "text", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs"},
		{"reasoning_effort", "reasoning"},
		{"verbosity", "text"},
	} {
		if slices.ContainsFunc(group[:], func(name string) bool { return strings.EqualFold(name, lock) }) {
			return group
		}
	}
	return [7]string{lock}
}

// touches says which of the spellings a member is, in any case: -1 for none. A prompt that is an object names one of ours and is none of them, and
// what is merged over the whole request is each field.
func (b *Body) touches(m *Member, names *[7]string) int {
	if strings.EqualFold(m.Name, anyField) {
		return 0
	}
	if m.Name == "" || strings.EqualFold(m.Name, "prompt") && b.raw[m.ValueStart] == '{' {
		return -1
	}
	return slices.IndexFunc(names[:], func(name string) bool { return strings.EqualFold(name, m.Name) })
}

// checkLock compares what the caller sent for one locked field with what the version says.
func checkLock(b *Body, c *template.Content, name string, locks *Locks) error {
	names := spellings(name)
	if names[0] == "model" && c.Model == "" {
		return nil
	}
	for i := range b.members {
		m := &b.members[i]
		at := b.touches(m, &names)
		if at < 0 {
			continue
		}
		value := locks.sent(b, m)
		// A provider that ignores case would take it for the locked field.
		if m.Name != names[at] || !unchanged(c, m.Name, value) {
			return lockFault(m.Name)
		}
		if says(m.Name, value) && locks.Reads != nil {
			if ok, err := locks.Reads(); err != nil || !ok {
				return cmp.Or(err, error(lockFault(m.Name)))
			}
		}
	}
	return nil
}

// says reports whether a value that leaves the version's as it is shows what that is.
func says(name string, value []byte) bool {
	return !isNull(value) && name != "messages" && !meansNothing(name, value)
}

func lockFault(name string) *fault.Error {
	// The version's own value is not told: the caller may lack the right to read it.
	return fault.New(fault.ParameterLocked, "The prompt locks %s. Leave the field out of the request to use the prompt's value, "+
		"or ask an editor of the prompt to unlock it.", quoteForMessage(name)).WithParam(name)
}

// unchanged reports whether the caller's value of a locked field leaves the version's as it is.
func unchanged(c *template.Content, name string, value []byte) bool {
	if meansNothing(name, value) {
		return true
	}
	var own json.RawMessage
	switch name {
	case "model":
		s, ok := stringOf(value)
		return ok && s == c.Model
	case "messages":
		return false
	case "tools":
		own = c.Tools
	case "response_format":
		own = c.ResponseFormat
	case "max_tokens", "max_completion_tokens":
		if own = c.Parameters[name]; len(own) == 0 {
			own = c.Parameters["max_tokens"]
		}
		if len(own) == 0 {
			own = c.Parameters["max_completion_tokens"]
		}
	default:
		own = c.Parameters[name]
	}
	if len(own) == 0 {
		return isNull(value)
	}
	return jsonEqual(own, value)
}

// jsonEqual reports whether two valid JSON values mean the same: neither spacing, escapes, the order of members nor the spelling of a
// fraction matter. Whole numbers are compared exactly.
func jsonEqual(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, y := jsontext.Value(bytes.Clone(a)), jsontext.Value(bytes.Clone(b))
	exact := jsontext.CanonicalizeRawInts(false)
	if x.Canonicalize(exact) != nil || y.Canonicalize(exact) != nil {
		return false
	}
	return bytes.Equal(x, y)
}

// UsageEdit is the edit that asks the provider for usage on a stream, keeping the other members of stream_options. needed is false when
// the caller asked already, or sent stream_options that are no object: then there is nothing to withhold. Call it for streams only.
func UsageEdit(b *Body) (e Edit, needed bool) {
	e.Name = "stream_options"
	options, ok := b.Get(e.Name)
	if !ok || isNull(options) {
		e.Value = []byte(`{"include_usage":true}`)
		return e, true
	}
	var inner Body
	if inner.scanAs(options, false) != nil {
		return Edit{}, false
	}
	if asked, _ := inner.Get("include_usage"); string(asked) == "true" {
		return Edit{}, false
	}
	e.Value = inner.Splice(nil, []Edit{{Name: "include_usage", Value: []byte("true")}})
	return e, true
}
