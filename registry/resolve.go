package registry

import (
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry/template"
)

// SelectorKind says how a call picks a version.
type SelectorKind uint8

// The ways to pick a version.
const (
	SelectDefault SelectorKind = iota // the project's default label
	SelectLabel
	SelectVersion
)

// Selector picks one version of a prompt. Version 3 and a label "v3" are different selectors by kind, not by spelling.
type Selector struct {
	Kind    SelectorKind
	Label   string
	Version int
}

// Resolved is a prompt at one version, ready to render. It is shared between calls: read only.
type Resolved struct {
	Prompt   *Prompt
	Version  int
	Label    string // "" when picked by number
	Digest   string
	Template *template.Compiled
	// Stale is how long ago the pointer was last confirmed when that is past the freshness bound; 0 when fresh.
	Stale time.Duration

	weight uint32 // rough bytes, template included
	moved  int64  // the label's revision, 0 when picked by number
}

// ErrArchived refuses (Conflict) a new version of an archived prompt: nobody would be served it, and whoever saved it would not notice.
func ErrArchived() *fault.Error {
	return fault.New(fault.Conflict, "This prompt is archived: restore it first (PATCH it with archived: false), then save.")
}

// ErrPromptNotFound is the one answer for a prompt that is not there, is archived, or is not this caller's to know of.
func ErrPromptNotFound() *fault.Error {
	return fault.New(fault.PromptNotFound, "There is no such prompt, or this key may not use it. Check the spelling and the key's grants.").
		WithParam("prompt")
}
