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
	partObject   // the canonical prompt object
	partMetadata // an object that may hold variables
	partModel    // a model that may name a prompt
)

// form is what one field says about a prompt.
type form struct {
	part   part
	shared bool // an everyday word that belongs to the provider unless another field names a prompt
	path   bool // names anything only where the path names the prompt
}

// formOf is the table of a body's top-level members. Scan asks it once for each member that it knows.
func formOf(name string) form {
	switch name {
	case "prompt": // canonical
		return form{part: partObject}
	case "model": // prompt/name@label, and LLM Gateway's @prompt/name@label
		return form{part: partModel}
	case "prompt_id": // LiteLLM and Helicone
		return form{part: partHandle}
	case "prompt_variables": // LiteLLM
		return form{part: partVariables}
	case "prompt_version": // LiteLLM
		return form{part: partVersion}
	case "prompt_label": // LiteLLM
		return form{part: partLabel}
	case "environment": // Helicone
		return form{part: partLabel, shared: true}
	case "version_id": // Helicone
		return form{part: partVersion, shared: true}
	case "metadata": // OpenAI's, for clients that can add no field
		return form{part: partMetadata, shared: true}
	case "inputs": // Helicone
		return form{part: partVariables, shared: true}
	case "variables": // Portkey, and ours beside it
		return form{part: partVariables, path: true}
	case "version":
		return form{part: partVersion, path: true}
	case "label":
		return form{part: partLabel, path: true}
	case "draft":
		return form{part: partDraft, path: true}
	}
	return form{}
}

// objectForm is the table of the canonical prompt object's members: what one says, and how messages spell it.
func objectForm(quoted []byte) (p part, spelled string) {
	switch string(quoted) {
	case `"id"`:
		return partHandle, "prompt.id"
	case `"prompt_id"`:
		return partHandle, "prompt.prompt_id"
	case `"version"`:
		return partVersion, "prompt.version"
	case `"label"`:
		return partLabel, "prompt.label"
	case `"draft"`:
		return partDraft, "prompt.draft"
	case `"variables"`:
		return partVariables, "prompt.variables"
	}
	if bytes.IndexByte(quoted, '\\') >= 0 {
		name, _ := stringOf(quoted)
		if plain := appendString(nil, name); bytes.IndexByte(plain, '\\') < 0 {
			return objectForm(plain)
		}
	}
	return partNone, ""
}

// headerForm is one row of the table of request headers.
type headerForm struct {
	key  string // as net/http spells it
	name string
	part part
}

func headerForms() [4]headerForm {
	return [...]headerForm{
		{"X-Promptgate-Prompt", "x-promptgate-prompt", partHandle},
		{"X-Promptgate-Label", "x-promptgate-label", partLabel},
		{"X-Promptgate-Version", "x-promptgate-version", partVersion},
		{"X-Promptgate-Variables", "x-promptgate-variables", partVariables},
	}
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
	case partMetadata:
		return p.takeMetadata(v)
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
	return p.takeHeaderVariables(text, from)
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
		what, from := objectForm(key)
		if what == partNone {
			name, _ := stringOf(key)
			return refuse("prompt."+clip(name), "prompt holds the unknown field %s; it takes id, version, label, draft and variables.",
				quoteForMessage(name))
		}
		if err := p.take(what, value, from); err != nil {
			return err
		}
	}
	if p.objectFrom == "" {
		p.objectFrom = "prompt"
	}
	return nil
}

// promptOf is what follows the prefix of a model that names a prompt: name@label or name@version. The prefix is prompt/, LLM Gateway's @prompt/,
// or openai/prompt/, for SDKs and routers that want a vendor before the model and send it along.
func promptOf(model string) (name string, ok bool) {
	for _, prefix := range [...]string{"prompt/", "@prompt/", "openai/prompt/"} {
		if name, ok = strings.CutPrefix(model, prefix); ok {
			return name, true
		}
	}
	return "", false
}

// maxModelPrefix is the length of the longest of those prefixes, in bytes.
const maxModelPrefix = len("openai/prompt/")

// takeModel reads a model that names a prompt. Any other model, of whatever type, is not this parser's business.
func (p *referenceParser) takeModel(v []byte) error {
	if v[0] != '"' || !bytes.Contains(v[:min(len(v), 1+maxModelPrefix)], []byte("prompt/")) && bytes.IndexByte(v, '\\') < 0 {
		return nil
	}
	s, _ := stringOf(v)
	name, ok := promptOf(s)
	if !ok {
		return nil
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
	case !printable(s):
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
			if *p.memory == nil {
				*p.memory = make(map[string]json.RawMessage, 4)
			}
			p.variables = *p.memory
		}
		p.variables[name] = value
	}
}

// printable reports whether s is UTF-8 without control characters.
func printable(s string) bool {
	for i := range len(s) {
		if c := s[i]; c >= utf8.RuneSelf {
			return utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
		} else if c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
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
