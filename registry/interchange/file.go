// Package interchange reads and writes prompts as files that people read, edit and keep in git.
//
// A file is YAML front matter, then the messages:
//
//	---
//	name: support/triage
//	base: v3 9f2ce0a1b7d4 77aa01995b1c
//	description: Sorts tickets
//	tags: [support]
//	labels: [staging]
//	model: gpt-4o-mini
//	parameters:
//	  temperature: 0.2
//	locked: [model]
//	ignored: [temperature]
//	variables:
//	  ticket:
//	    schema:
//	      type: string
//	    required: true
//	note: shorter answers
//	---
//
//	=== system ===
//	You sort tickets.
//
//	=== placeholder history ===
//
//	=== user ===
//	{{ticket}}
//
// Below a separator line everything is the message's text, to the byte, up to the next separator: less the line end before that
// separator, and less one empty line there when there is one. A line of text that starts with "=== ", perhaps behind backslashes,
// is written with one more backslash in front. A separator may carry name="…" and tool_call_id="…", JSON strings.
// Messages of several parts, and tool calls, have separators of their own, whose body is a text or JSON:
//
//	=== user ===
//	=== part text ===
//	What is this?
//
//	=== part image_url ===
//	{"url": "https://example.com/a.png"}
//
//	=== assistant ===
//	=== tool_calls ===
//	[{"id": "call_1", "type": "function", "function": {"name": "find", "arguments": "{}"}}]
//
//	=== tool tool_call_id="call_1" ===
//	Found.
//
// A file of kind text has no separators: what follows the front matter is the text (a message of role user). Line ends are kept, but a file whose first line
// ends in CRLF was converted as a whole, and is read as if all of its lines ended in LF. White space behind the lines "---" means nothing. JSON in the
// front matter is written as YAML; its numbers keep their spelling, and so must be spelled as JSON spells them.
//
// A key of the metadata that is not there leaves what the registry has; one that is there and empty clears it.
package interchange

import (
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/template"
)

// Extension ends the names of prompt files.
const Extension = ".prompt.md"

// MaxBytes bounds a file.
const MaxBytes = 16 << 20

// File is one prompt at one version, as a file holds it. Variables that were inferred are not part of a file: they are inferred
// again from the texts.
type File struct {
	Name    string
	Unnamed bool          // the file does not say its name: Name is from where it is
	Kind    registry.Kind // chat unless the file says text
	Base    Base          // what the file was made from; zero for a file that somebody wrote
	Metadata
	Labels  []string // that point at this version
	Note    string   // why this version was made
	Content template.Content
}

// Metadata is what a prompt has beside its versions. A nil field says nothing of it.
type Metadata struct {
	Description *string
	Category    *string
	Owner       *string
	Tags        *[]string
	Aliases     *[]string
}

// problem is the fault for a file that cannot be read, at a line of it.
func problem(filename string, line int, format string, args ...any) error {
	f := fault.New(fault.InvalidRequest, format, args...)
	return fault.New(fault.InvalidRequest, "%s:%d: %s", filename, line, f.Message).WithParam(filename)
}
