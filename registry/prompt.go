// Package registry is the home of prompts: what they are, which versions they have, where their labels point, and the rules
// that hold between them. It knows no SQL and no HTTP; stores stand in the folders below it.
package registry

import (
	"encoding/json"
	"time"
)

// Kind of a prompt.
type Kind string

// The kinds: a chat prompt holds messages, a text prompt one text (one user message when it is called).
const (
	KindChat Kind = "chat"
	KindText Kind = "text"
)

// Project is the tenant that owns prompts, keys, providers and calls.
type Project struct {
	ID           string // "prj_…"
	Name         string // unique; [a-z0-9][a-z0-9_.-]*
	Description  string
	DefaultLabel string // what a call that names neither version nor label gets; "production" unless set
	CreatedAt    time.Time
	Revision     int64 // journal revision of the last edit; the ETag
}

// Prompt is the managed thing without its text, which lives in versions.
type Prompt struct {
	ID            string // "pmpt_…", stable over renames
	Project       string
	Name          string
	Kind          Kind
	Description   string
	Category      string
	Tags          []string // sorted, unique
	Owner         string
	Archived      bool
	LatestVersion int      // 0 before the first version
	Variables     []string // sorted names that any version declares: a call may send these, whichever version answers
	Aliases       []string // further handles
	CreatedAt     time.Time
	UpdatedAt     time.Time
	Revision      int64 // journal revision of the last edit of this row; the ETag
}

// Version is one immutable state of a prompt.
type Version struct {
	Project  string
	PromptID string
	Number   int    // ≥ 1, unique in the prompt; imports may leave gaps
	Digest   string // "sha256:<hex>" of Content in canonical form, see Content.Digest
	Content  Content
	Note     string // why it was made
	Author   string
	Parent   int // the version it was made from, 0 for none
	Created  time.Time
	Revision int64
}

// Content is all that a version does to a request, and just what its digest covers.
type Content struct {
	Messages       []Message                  `json:"messages"`
	Tools          json.RawMessage            `json:"tools,omitempty"`
	ResponseFormat json.RawMessage            `json:"response_format,omitempty"`
	Model          string                     `json:"model,omitempty"`
	Parameters     map[string]json.RawMessage `json:"parameters,omitempty"` // further body fields, e.g. temperature
	Locked         []string                   `json:"locked,omitempty"`     // field names that callers may not change; sorted
	Variables      map[string]Variable        `json:"variables,omitempty"`
	References     []Reference                `json:"references,omitempty"` // pinned when the version is saved; sorted by Spelling
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
}

// Reference is an included text prompt, pinned.
type Reference struct {
	Spelling string `json:"spelling"` // as the template writes it: name@label or name@3
	PromptID string `json:"prompt_id"`
	Version  int    `json:"version"`
	Digest   string `json:"digest"`
}

// LabelLatest is the implicit label of the newest version; it cannot be moved.
const LabelLatest = "latest"

// DefaultLabel is a project's default until it chooses another.
const DefaultLabel = "production"

// Label points at a version.
type Label struct {
	Project  string
	PromptID string
	Name     string
	Version  int
	Moved    time.Time
	Revision int64 // of the last move: what a compare-and-set names
}

// LabelEvent is one move in a label's history.
type LabelEvent struct {
	Revision int64
	At       time.Time
	Label    string
	From, To int // 0: the label was not there, or was removed
	Actor    string
	Why      string
}

// MaxNameBytes bounds a prompt's name.
const MaxNameBytes = 200
