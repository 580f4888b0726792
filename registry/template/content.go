// Package template is what a version says and does: its content, the parsing and checking of its templates when it is saved, and
// their rendering when it is called. It is pure: no I/O, no clock, no state but what was compiled.
package template

import (
	"encoding/json"
	"slices"

	"github.com/promptgate/promptgate/internal/names"
)

// Content is all that a version does to a request, and just what its digest covers.
type Content struct {
	Messages       []Message                  `json:"messages"`
	Tools          json.RawMessage            `json:"tools,omitempty"`
	ResponseFormat json.RawMessage            `json:"response_format,omitempty"`
	Model          string                     `json:"model,omitempty"`
	Parameters     map[string]json.RawMessage `json:"parameters,omitempty"` // further body fields, e.g. temperature
	Locked         []string                   `json:"locked,omitempty"`     // field names that callers may not send with another value; sorted
	Ignored        []string                   `json:"ignored,omitempty"`    // field names whose values from callers are dropped; sorted, none of them locked
	Variables      map[string]Variable        `json:"variables,omitempty"`
	References     []Reference                `json:"references,omitempty"` // pinned when the version is saved; sorted by Spelling
}

// Normal is c with its variables' and placeholders' names in their one form (names.Normal). Texts stay as they are written: their tags are read in
// that form. It fails with InvalidTemplate when two variables become one.
func (c Content) Normal() (Content, error) {
	for i := range c.Messages {
		if m := &c.Messages[i]; m.Type == TypePlaceholder && !names.IsNormal(m.Name) {
			c.Messages = slices.Clone(c.Messages)
			c.Messages[i].Name = names.Normal(m.Name)
		}
	}
	vars, twice := normalNames(c.Variables)
	if twice != "" {
		return c, invalid("variables."+twice, "the variable %q is declared twice, in two spellings that look the same; remove one", twice)
	}
	c.Variables = vars
	return c, nil
}

// normalNames is m with its names in their one form, m itself when they are, and a name that two become.
func normalNames[V any](m map[string]V) (normal map[string]V, twice string) {
	for name := range m {
		if !names.IsNormal(name) {
			normal = make(map[string]V, len(m))
		}
	}
	if normal == nil {
		return m, ""
	}
	for name, v := range m {
		name = names.Normal(name)
		if _, ok := normal[name]; ok {
			twice = max(twice, name)
		}
		normal[name] = v
	}
	return normal, twice
}

// Message is one message of a template, or the place where the caller's own go.
type Message struct {
	Type       string          `json:"type,omitempty"`  // "" for a message, "placeholder" for a place
	Name       string          `json:"name,omitempty"`  // of the placeholder, e.g. "history"; or the message's own name
	Role       string          `json:"role,omitempty"`  // system, developer, user, assistant, tool
	Text       string          `json:"text,omitempty"`  // the template of a message with one text
	Parts      []Part          `json:"parts,omitempty"` // or several parts; never both
	ToolCalls  json.RawMessage `json:"tool_calls,omitempty"`
	ToolCallID string          `json:"tool_call_id,omitempty"`
}

// TypePlaceholder marks a Message that takes the caller's messages, or a variable that holds messages.
const TypePlaceholder = "placeholder"

// Part is one part of a message's content.
type Part struct {
	Type  string          `json:"type"`            // text, image_url, file, input_audio
	Text  string          `json:"text,omitempty"`  // a template, when Type is text
	Value json.RawMessage `json:"value,omitempty"` // else the part's payload as the provider takes it, under the key Type
}

// Variable says what a version takes under one name.
type Variable struct {
	Schema   json.RawMessage `json:"schema,omitempty"` // JSON Schema 2020-12; inferred from the template when not declared
	Required bool            `json:"required,omitempty"`
	Default  json.RawMessage `json:"default,omitempty"`
	Inferred bool            `json:"inferred,omitempty"`
	// LastUserMessage makes a call that does not name the variable fill it from its messages: the last one, when its role is user and its
	// content one text, is taken out of them and becomes the value. At most one variable of a version has it, and no placeholder's.
	LastUserMessage bool `json:"last_user_message,omitempty"`
}

// Reference is an included text prompt, pinned.
type Reference struct {
	Spelling string `json:"spelling"` // as the template writes it: name@label or name@3
	PromptID string `json:"prompt_id"`
	Version  int    `json:"version"`
	Digest   string `json:"digest"`
}
