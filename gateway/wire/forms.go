package wire

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/promptgate/promptgate/registry"
)

// part is what a field says about a prompt.
type part uint8

const (
	partNone part = iota
	partHandle
	partLabel
	partVersion
	partDraft
	partVariables
	partObject // the canonical prompt object
	partModel  // a model that may name a prompt
)

// form is one row of the table: a field and what it says. A shared one is an everyday word that belongs to the provider unless the
// request names a prompt by another field.
type form struct {
	name   string
	part   part
	shared bool
}

// bodyForms are the top-level members of a body that name a prompt: the canonical ones, then LiteLLM's (prompt_id is Helicone's too),
// then the rest of Helicone's.
func bodyForms() [9]form {
	return [...]form{
		{name: "prompt", part: partObject},
		{name: "model", part: partModel},
		{name: "prompt_id", part: partHandle},
		{name: "prompt_variables", part: partVariables},
		{name: "prompt_version", part: partVersion},
		{name: "prompt_label", part: partLabel},
		{name: "environment", part: partLabel, shared: true},
		{name: "version_id", part: partVersion, shared: true},
		{name: "inputs", part: partVariables, shared: true},
	}
}

// pathForms are the further members of a body whose path names the prompt: Portkey's variables, and ours beside it.
func pathForms() [4]form {
	return [...]form{
		{name: "variables", part: partVariables},
		{name: "version", part: partVersion},
		{name: "label", part: partLabel},
		{name: "draft", part: partDraft},
	}
}

// objectForms are the members of the canonical prompt object.
func objectForms() [6]form {
	return [...]form{
		{name: "id", part: partHandle},
		{name: "prompt_id", part: partHandle},
		{name: "version", part: partVersion},
		{name: "label", part: partLabel},
		{name: "draft", part: partDraft},
		{name: "variables", part: partVariables},
	}
}

// headerForms are the request headers, in the spelling that net/http gives them.
func headerForms() [4]form {
	return [...]form{
		{name: "X-Promptgate-Prompt", part: partHandle},
		{name: "X-Promptgate-Label", part: partLabel},
		{name: "X-Promptgate-Version", part: partVersion},
		{name: "X-Promptgate-Variables", part: partVariables},
	}
}

// formOf is the row of a body's member, the zero form when it has none.
func (p *referenceParser) formOf(m *Member) form {
	if !m.known { // all of the tables' names are
		return form{}
	}
	for _, f := range bodyForms() {
		if f.name == m.Name {
			return f
		}
	}
	if p.path {
		for _, f := range pathForms() {
			if f.name == m.Name {
				return f
			}
		}
	}
	return form{}
}

// take reads one JSON value. null is absent.
func (p *referenceParser) take(what part, v []byte, from string) error {
	if isNull(v) {
		return nil
	}
	switch what {
	case partObject:
		return p.takeObject(v)
	case partModel:
		return p.takeModel(v)
	case partVariables:
		return p.takeVariables(v, from)
	case partVersion:
		if v[0] != '"' {
			return p.setVersion(string(v), from)
		}
	}
	s, ok := stringOf(v)
	if !ok {
		return refuse(from, "%s must be a string.", from)
	}
	return p.set(what, s, from)
}

// takeHeader reads one header's text.
func (p *referenceParser) takeHeader(what part, text, from string) error {
	if what != partVariables {
		return p.set(what, text, from)
	}
	var b Body // the body's own scan does not cover headers
	raw := []byte(text)
	if err := b.scanAs(raw, false); err != nil {
		return refuse(from, "%s must hold one JSON object with the variables by name: %s", from, messageOf(err))
	}
	return p.takeVariables(raw, from)
}

// set takes what is text in every form.
func (p *referenceParser) set(what part, s, from string) error {
	switch what {
	case partHandle:
		return p.setHandle(s, from)
	case partLabel:
		return p.setLabel(s, from)
	case partVersion:
		return p.setVersion(s, from)
	case partDraft:
		return p.setDraft(s, from)
	}
	return nil
}

// takeObject reads the canonical form. What is no object (a legacy completion's text) names nothing.
func (p *referenceParser) takeObject(v []byte) error {
	w, ok := walkInto(v, '{')
	if !ok {
		return nil
	}
	for {
		key, value, ok := w.member()
		if !ok {
			break
		}
		f := objectForm(key)
		if f.part == partNone {
			name, _ := stringOf(key)
			return refuse("prompt."+clip(name), "prompt holds the unknown field %s; it takes id, version, label, draft and variables.",
				quoteForMessage(name))
		}
		if err := p.take(f.part, value, f.name); err != nil {
			return err
		}
	}
	if p.objectFrom == "" {
		p.objectFrom = "prompt"
	}
	return nil
}

// objectForm is the row of a quoted name in the prompt object, its name as messages spell it.
func objectForm(key []byte) form {
	if bytes.IndexByte(key, '\\') >= 0 {
		name, _ := stringOf(key)
		key = appendString(nil, name)
	}
	for _, f := range objectForms() {
		if keyIs(key, f.name) {
			f.name = "prompt." + f.name
			return f
		}
	}
	return form{}
}

// The two spellings of a model that names a prompt; each is followed by name@label or name@version.
const (
	modelPrefix        = "prompt/"
	modelPrefixForeign = "@prompt/"
)

// takeModel reads a model that names a prompt. Any other model, of whatever type, is not this parser's business.
func (p *referenceParser) takeModel(v []byte) error {
	if v[0] != '"' || !bytes.Contains(v[:min(len(v), 2+len(modelPrefixForeign))], []byte("prompt/")) && bytes.IndexByte(v, '\\') < 0 {
		return nil
	}
	s, _ := stringOf(v)
	name, ok := strings.CutPrefix(s, modelPrefix)
	if !ok {
		if name, ok = strings.CutPrefix(s, modelPrefixForeign); !ok {
			return nil
		}
	}
	return p.spelled(name, "model")
}

// spelled takes "name", "name@label" or "name@7". Names may hold slashes, and foreign ids an @: the last one splits.
func (p *referenceParser) spelled(s, from string) error {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return p.setHandle(s, from)
	}
	if err := p.setHandle(s[:at], from); err != nil {
		return err
	}
	selector := s[at+1:]
	switch {
	case selector == "":
		return refuse(from, "%s ends in @ without a label or a version; write name@production or name@7.", from)
	case allDigits(selector):
		return p.setVersion(selector, from)
	}
	return p.setLabel(selector, from)
}

func (p *referenceParser) setHandle(s, from string) error {
	switch {
	case s == "":
		return refuse(from, "%s names no prompt: it is empty.", from)
	case len(s) > registry.MaxNameBytes:
		return refuse(from, "%s is longer than a prompt's name can be (%d bytes).", from, registry.MaxNameBytes)
	case !utf8.ValidString(s) || strings.IndexFunc(s, unicode.IsControl) >= 0:
		return refuse(from, "%s holds control characters or invalid UTF-8; no prompt has such a name.", from)
	case p.handleFrom != "" && p.handle != s:
		return refuse(from, "%s and %s name different prompts (%s and %s); send one of them.",
			p.handleFrom, from, quoteForMessage(p.handle), quoteForMessage(s))
	}
	p.handle, p.handleFrom = s, from
	return nil
}

func (p *referenceParser) setLabel(s, from string) error {
	switch {
	case allDigits(s):
		return refuse(from, "%s is %s, but a label is never made of digits only; send it as the version.", from, quoteForMessage(s))
	case !validLabel(s):
		return refuse(from, "%s is %s, which cannot be a label: a lower-case letter, then up to 35 of a-z, 0-9, _ . and -.",
			from, quoteForMessage(s))
	case p.labelFrom != "" && p.label != s:
		return refuse(from, "%s and %s name different labels (%s and %s); send one of them.",
			p.labelFrom, from, quoteForMessage(p.label), quoteForMessage(s))
	}
	p.label, p.labelFrom = s, from
	return nil
}

func (p *referenceParser) setVersion(s, from string) error {
	n, err := strconv.ParseInt(s, 10, 32)
	switch {
	case err != nil || !allDigits(s) || n < 1 || n > math.MaxInt32:
		return refuse(from, "%s must be a version number (1, 2, …), as a number or a string of digits; it is %s.", from, quoteForMessage(s))
	case p.versionFrom != "" && p.version != int(n):
		return refuse(from, "%s and %s name different versions (%d and %d); send one of them.", p.versionFrom, from, p.version, n)
	}
	p.version, p.versionFrom = int(n), from
	return nil
}

func (p *referenceParser) setDraft(s, from string) error {
	switch {
	case !validDraft(s):
		return refuse(from, "%s must be a draft's id, drf_…; it is %s.", from, quoteForMessage(s))
	case p.draftFrom != "" && p.draft != s:
		return refuse(from, "%s and %s name different drafts; send one of them.", p.draftFrom, from)
	}
	p.draft, p.draftFrom = s, from
	return nil
}

// takeVariables joins one form's variables to those read before.
func (p *referenceParser) takeVariables(v []byte, from string) error {
	w, ok := walkInto(v, '{')
	if !ok {
		return refuse(from, "%s must be an object with the variables by name.", from)
	}
	if p.variablesFrom == "" {
		p.variablesFrom = from
	}
	for {
		key, value, ok := w.member()
		if !ok {
			return nil
		}
		name, _ := stringOf(key)
		if old, ok := p.variables[name]; ok && !jsonEqual(old, value) {
			return refuse(from, "%s and %s give the variable %s different values; send it once.", p.variablesFrom, from, quoteForMessage(name))
		}
		if p.variables == nil {
			p.variables = make(map[string]json.RawMessage, 4)
		}
		p.variables[name] = value
	}
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// validLabel is the registry's grammar of labels: [a-z][a-z0-9_.-]{0,35}.
func validLabel(s string) bool {
	if s == "" || len(s) > 36 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := 1; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

func validDraft(s string) bool {
	id, ok := strings.CutPrefix(s, "drf_")
	if !ok || id == "" || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// clip bounds a caller's text that becomes a Param.
func clip(s string) string {
	if len(s) <= maxQuoted {
		return s
	}
	return strings.ToValidUTF8(s[:maxQuoted], "")
}
