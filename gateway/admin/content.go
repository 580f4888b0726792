package admin

import (
	"encoding/json"

	"github.com/danielgtaylor/huma/v2"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry/template"
)

// Raw is any JSON value, kept as it was sent.
type Raw json.RawMessage

// Schema implements huma.SchemaProvider: any value.
func (Raw) Schema(huma.Registry) *huma.Schema { return &huma.Schema{Description: "Any JSON value"} }

// MarshalJSON implements json.Marshaler.
func (r Raw) MarshalJSON() ([]byte, error) { return json.RawMessage(r).MarshalJSON() }

// UnmarshalJSON implements json.Unmarshaler.
func (r *Raw) UnmarshalJSON(b []byte) error { return (*json.RawMessage)(r).UnmarshalJSON(b) }

// Content is what a version does to a request.
type Content struct {
	Messages       []Message           `json:"messages" minItems:"1" maxItems:"500" doc:"Messages and placeholders, in order"`
	Tools          Raw                 `json:"tools,omitempty" doc:"As the provider takes them"`
	ResponseFormat Raw                 `json:"response_format,omitempty" doc:"As the provider takes it"`
	Model          string              `json:"model,omitempty" maxLength:"200" example:"gpt-4o-mini"`
	Parameters     map[string]Raw      `json:"parameters,omitempty" doc:"Further fields of the request" example:"{\"temperature\":0.2}"`
	Locked         []string            `json:"locked,omitempty" doc:"Fields that callers may not change: another value is refused" example:"[\"model\"]"`
	Ignored        []string            `json:"ignored,omitempty" doc:"Fields whose values from callers are dropped; the answer's x-promptgate-ignored names them" example:"[\"temperature\"]"`
	Variables      map[string]Variable `json:"variables,omitempty" doc:"Inferred from the template where not declared"`
	References     []Reference         `json:"references,omitempty" readOnly:"true" doc:"Included prompts, pinned when the version was saved"`
}

// Message is one message of a template, or a placeholder for the caller's own.
type Message struct {
	Type       string `json:"type,omitempty" enum:"message,placeholder" doc:"placeholder: the caller's messages go here"`
	Name       string `json:"name,omitempty" doc:"Of the placeholder, or of the message's author" example:"history"`
	Role       string `json:"role,omitempty" enum:"system,developer,user,assistant,tool"`
	Text       string `json:"content,omitempty" doc:"A mustache template" example:"Triage this ticket: {{ticket}}"`
	Parts      []Part `json:"parts,omitempty" doc:"Instead of content: several parts"`
	ToolCalls  Raw    `json:"tool_calls,omitempty"`
	ToolCallID string `json:"tool_call_id,omitempty"`
}

// Part is one part of a message: a text template, or a payload as the provider takes it.
type Part struct {
	Type  string `json:"type" enum:"text,image_url,file,input_audio"`
	Text  string `json:"text,omitempty"`
	Value Raw    `json:"value,omitempty" doc:"What the provider takes under the key that type names"`
}

// Variable says what a version takes under one name.
type Variable struct {
	Schema   Raw  `json:"schema,omitempty" doc:"JSON Schema"`
	Required bool `json:"required,omitempty"`
	Default  Raw  `json:"default,omitempty"`
	Inferred bool `json:"inferred,omitempty" readOnly:"true"`
	LastUser bool `json:"last_user_message,omitempty" doc:"Takes the caller's last user message when the call does not name the variable; one variable at most"`
}

// Reference is an included prompt, pinned to a version.
type Reference struct {
	Spelling string `json:"spelling" example:"house/style@production"`
	PromptID string `json:"prompt_id"`
	Version  int    `json:"version"`
	Digest   string `json:"digest"`
}

func (c Content) template() template.Content {
	out := template.Content{
		Tools: json.RawMessage(c.Tools), ResponseFormat: json.RawMessage(c.ResponseFormat), Model: c.Model, Locked: c.Locked, Ignored: c.Ignored,
	}
	for _, m := range c.Messages {
		t := template.Message{
			Type: m.Type, Name: m.Name, Role: m.Role, Text: m.Text, ToolCalls: json.RawMessage(m.ToolCalls), ToolCallID: m.ToolCallID,
		}
		if t.Type == "message" {
			t.Type = ""
		}
		for _, p := range m.Parts {
			t.Parts = append(t.Parts, template.Part{Type: p.Type, Text: p.Text, Value: json.RawMessage(p.Value)})
		}
		out.Messages = append(out.Messages, t)
	}
	if len(c.Parameters) > 0 {
		out.Parameters = map[string]json.RawMessage{}
	}
	for name, v := range c.Parameters {
		out.Parameters[name] = json.RawMessage(v)
	}
	if len(c.Variables) > 0 {
		out.Variables = map[string]template.Variable{}
	}
	for name, v := range c.Variables {
		if v.Inferred { // a copy of what we answered: infer it anew
			continue
		}
		out.Variables[name] = template.Variable{Schema: json.RawMessage(v.Schema), Required: v.Required, Default: json.RawMessage(v.Default),
			LastUserMessage: v.LastUser}
	}
	return out
}

// ContentOf is a stored version's content as the API shows it.
func ContentOf(c template.Content) Content {
	out := Content{Messages: []Message{}, Tools: Raw(c.Tools), ResponseFormat: Raw(c.ResponseFormat), Model: c.Model, Locked: c.Locked,
		Ignored: c.Ignored}
	for _, m := range c.Messages {
		d := Message{Type: m.Type, Name: m.Name, Role: m.Role, Text: m.Text, ToolCalls: Raw(m.ToolCalls), ToolCallID: m.ToolCallID}
		for _, p := range m.Parts {
			d.Parts = append(d.Parts, Part{Type: p.Type, Text: p.Text, Value: Raw(p.Value)})
		}
		out.Messages = append(out.Messages, d)
	}
	for name, v := range c.Parameters {
		if out.Parameters == nil {
			out.Parameters = map[string]Raw{}
		}
		out.Parameters[name] = Raw(v)
	}
	for name, v := range c.Variables {
		if out.Variables == nil {
			out.Variables = map[string]Variable{}
		}
		out.Variables[name] = Variable{Schema: Raw(v.Schema), Required: v.Required, Default: Raw(v.Default), Inferred: v.Inferred,
			LastUser: v.LastUserMessage}
	}
	for _, r := range c.References {
		out.References = append(out.References, Reference{Spelling: r.Spelling, PromptID: r.PromptID, Version: r.Version, Digest: r.Digest})
	}
	return out
}

// Template is the content as the registry takes it; the API's body and the command line's files both end here.
func (c Content) Template() (template.Content, error) {
	if len(c.Messages) == 0 {
		return template.Content{}, fault.New(fault.InvalidRequest, "A version needs at least one message.").WithParam("messages")
	}
	return c.template(), nil
}
