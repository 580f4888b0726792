package registry

import "encoding/json"

// Diff is what differs between two versions of one prompt.
type Diff struct {
	From, To int
	// Changed names the fields that differ, sorted: "messages", "tools", "response_format", "model", "parameters.<name>",
	// "locked", "variables.<name>", "references". Empty when the versions say the same.
	Changed  []string
	Messages []MessageDiff // every message that differs, in order
	Fields   []FieldDiff   // every changed field but messages, in the order of Changed
}

// MessageDiff is one message that was added, removed or changed.
type MessageDiff struct {
	From, To int    // positions from 0; -1 where there is no such message
	Role     string // of the newer one; TypePlaceholder for a placeholder
	Unified  string // unified diff of the message as readable text
}

// FieldDiff is one changed field; nil where the field is not set.
type FieldDiff struct {
	Field    string
	From, To json.RawMessage
}
