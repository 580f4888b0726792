package wire

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry"
)

// Reference is how a request names a prompt, whichever form it used.
type Reference struct {
	Present   bool                       // false: the request names no prompt and runs no prompt code
	Handle    string                     // name, alias, id or foreign id; with Draft it may be ""
	Selector  registry.Selector          // SelectDefault when neither version nor label is named
	Draft     string                     // "drf_…": excludes version and label
	Variables map[string]json.RawMessage // nil when none was sent; values point into the body and are not to be changed
	Place     string                     // where this caller's variables stand or would stand, as a message names it
	Fields    []string                   // top-level members of the body that named it, "model" never among them
	metadata  Edit                       // what stays of "metadata" when it held variables; without a name when it did not
}

// ParseReference reads every form of naming a prompt from the body and the headers (the table in forms.go). Forms that agree are one;
// forms that disagree, a version beside a label, a wrong type, an unknown member of the prompt object, and parts of a reference without
// a prompt are fault.InvalidPromptReference, Param naming the field (a header's name when it stood there). Variables of several forms
// are joined; one variable with two values is a disagreement. The reference is valid until the next one is read from b, or b is reset.
func ParseReference(b *Body, h http.Header) (Reference, error) {
	var p referenceParser
	return p.parse(b, h)
}

// ParsePathReference is ParseReference for a route that names the prompt: name is the decoded path part, "name", "name@label" or
// "name@7". The body may then also hold "variables", "version", "label" and "draft" at its top level.
func ParsePathReference(name string, b *Body, h http.Header) (Reference, error) {
	p := referenceParser{path: true}
	if err := p.spelled(name, "name"); err != nil {
		return Reference{}, err
	}
	return p.parse(b, h)
}

// Strip appends the edits that keep the reference from the provider. It leaves "model" to the caller, who sets it.
func (r *Reference) Strip(edits []Edit) []Edit {
	for _, name := range r.Fields {
		edits = append(edits, Edit{Name: name})
	}
	if r.metadata.Name != "" {
		edits = append(edits, r.metadata)
	}
	return edits
}

// PrivateHeader reports whether a request header is between the caller and us, never to be forwarded: x-promptgate-*.
func PrivateHeader(name string) bool {
	const prefix = "x-promptgate-"
	return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
}

// referenceParser gathers what the forms say and holds them against each other. The …From fields name the field that said it first.
type referenceParser struct {
	path bool

	handle, handleFrom string
	label, labelFrom   string
	version            int
	versionFrom        string
	draft, draftFrom   string
	variables          map[string]json.RawMessage
	memory             *map[string]json.RawMessage // of variables, made for the first
	variablesFrom      string
	metadata           Edit
	objectFrom         string // a prompt object was there, whatever it held
}

// ParseSpelled reads name, name@label or name@version, as it stands behind "prompt/" in a model.
func ParseSpelled(s string) (Reference, error) {
	var p referenceParser
	if err := p.spelled(s, "model"); err != nil {
		return Reference{}, err
	}
	if err := p.check(); err != nil {
		return Reference{}, err
	}
	return Reference{Present: true, Handle: p.handle, Selector: p.selector()}, nil
}

func (p *referenceParser) selector() registry.Selector {
	switch {
	case p.versionFrom != "":
		return registry.Selector{Kind: registry.SelectVersion, Version: p.version}
	case p.labelFrom != "":
		return registry.Selector{Kind: registry.SelectLabel, Label: p.label}
	}
	return registry.Selector{}
}

func (p *referenceParser) parse(b *Body, h http.Header) (Reference, error) {
	clear(b.variables)
	p.memory = &b.variables
	if err := p.readOurs(b, h); err != nil {
		return Reference{}, err
	}
	if p.handleFrom == "" && p.draftFrom == "" {
		return Reference{}, p.stray()
	}
	if err := p.readShared(b); err != nil {
		return Reference{}, err
	}
	if err := p.check(); err != nil {
		return Reference{}, err
	}
	r := Reference{Present: true, Handle: p.handle, Draft: p.draft, Variables: p.variables, Place: p.place(), Fields: p.fields(b), Selector: p.selector(), metadata: p.metadata}
	return r, nil
}

// readOurs reads the forms that cannot mean anything but a prompt.
func (p *referenceParser) readOurs(b *Body, h http.Header) error {
	for i := range b.members {
		m := &b.members[i]
		if m.form.part == partNone || m.form.shared || m.form.path && !p.path {
			continue
		}
		if err := p.take(m.form.part, b.raw[m.ValueStart:m.ValueEnd:m.ValueEnd], m.Name); err != nil {
			return err
		}
	}
	for i, f := range headerForms() {
		if i > 0 && p.handleFrom == "" && p.draftFrom == "" {
			return nil // a client's default headers, on a call that names no prompt
		}
		for _, text := range h[f.key] {
			if err := p.takeHeader(f.part, text, f.name); err != nil {
				return err
			}
		}
	}
	return nil
}

// readShared reads the names that are everyday words: ours only because the request names a prompt.
func (p *referenceParser) readShared(b *Body) error {
	for i := range b.members {
		m := &b.members[i]
		if m.form.shared {
			if err := p.take(m.form.part, b.raw[m.ValueStart:m.ValueEnd:m.ValueEnd], m.Name); err != nil {
				return err
			}
		}
		if m.known {
			continue
		}
		for _, name := range [...]string{"environment", "version_id", "inputs", "variables", "version", "label", "draft"} {
			if strings.EqualFold(name, m.Name) && (p.path || formOf(name).shared) {
				return refuse(name, "The field %s differs only by case from %s; spell it that way.", quoteForMessage(m.Name), name)
			}
		}
	}
	return nil
}

// stray is the error for parts of a reference that name no prompt, nil when there are none.
func (p *referenceParser) stray() error {
	for _, from := range [...]string{p.objectFrom, p.variablesFrom, p.labelFrom, p.versionFrom} {
		if from != "" {
			return refuse(from, "%s was sent but no prompt is named: add \"id\" to \"prompt\", or leave %s out.", from, from)
		}
	}
	return nil
}

// check holds the parts against each other once all are read.
func (p *referenceParser) check() error {
	switch {
	case p.labelFrom != "" && p.versionFrom != "":
		return refuse(p.versionFrom, "%s names a version and %s a label; send only one of them.", p.versionFrom, p.labelFrom)
	case p.draftFrom != "" && p.versionFrom != "":
		return refuse(p.draftFrom, "%s names a draft and %s a version; send only one of them.", p.draftFrom, p.versionFrom)
	case p.draftFrom != "" && p.labelFrom != "":
		return refuse(p.draftFrom, "%s names a draft and %s a label; send only one of them.", p.draftFrom, p.labelFrom)
	}
	return nil
}

// fields lists the members of the body that belong to the reference: all that the provider must not see.
func (p *referenceParser) fields(b *Body) []string {
	var names []string
	for i := range b.members {
		if m := &b.members[i]; p.strips(b, m) {
			names = append(names, m.Name)
		}
	}
	return names
}

func (p *referenceParser) strips(b *Body, m *Member) bool {
	switch m.form.part {
	case partNone, partModel, partMetadata:
		return false
	case partObject: // a legacy completion's text is no reference
		return b.raw[m.ValueStart] == '{' || b.raw[m.ValueStart] == 'n'
	}
	return p.path || !m.form.path
}

// refuse is the fault of this file.
func refuse(param, format string, args ...any) error {
	return fault.New(fault.InvalidPromptReference, format, args...).WithParam(param)
}
