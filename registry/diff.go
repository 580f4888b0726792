package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"

	"github.com/promptgate/promptgate/registry/template"
)

// Diff is what differs between two versions of one prompt.
type Diff struct {
	From, To int
	// Changed names the fields that differ, sorted: "messages", "tools", "response_format", "model", "parameters.<name>",
	// "locked", "ignored", "variables.<name>", "references". Empty when the versions say the same.
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

// Compare tells what differs between two versions. White space and key order of JSON make no difference.
func Compare(a, b Version) Diff {
	d := Diff{From: a.Number, To: b.Number, Changed: []string{}, Messages: compareMessages(a, b), Fields: []FieldDiff{}}
	if len(d.Messages) > 0 {
		d.Changed = append(d.Changed, "messages")
	}
	from, to := fieldsOf(a.Content), fieldsOf(b.Content)
	names := maps.Clone(from)
	maps.Copy(names, to)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !sameJSON(from[name], to[name]) {
			d.Changed = append(d.Changed, name)
			d.Fields = append(d.Fields, FieldDiff{Field: name, From: from[name], To: to[name]})
		}
	}
	slices.Sort(d.Changed)
	return d
}

// fieldsOf is content but its messages, flat, as JSON; what is not set is not there.
func fieldsOf(c template.Content) map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	put := func(name string, v any) {
		if raw, err := json.Marshal(v); err == nil { // stored content always encodes
			out[name] = raw
		}
	}
	if len(c.Tools) > 0 {
		put("tools", c.Tools)
	}
	if len(c.ResponseFormat) > 0 {
		put("response_format", c.ResponseFormat)
	}
	if c.Model != "" {
		put("model", c.Model)
	}
	if len(c.Locked) > 0 {
		put("locked", c.Locked)
	}
	if len(c.Ignored) > 0 {
		put("ignored", c.Ignored)
	}
	if len(c.References) > 0 {
		put("references", c.References)
	}
	for name, v := range c.Parameters {
		put("parameters."+name, v)
	}
	for name, v := range c.Variables {
		put("variables."+name, v)
	}
	return out
}

func sameJSON(a, b json.RawMessage) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	return bytes.Equal(canonical(a), canonical(b))
}

func canonical(raw json.RawMessage) []byte {
	out, err := template.Canonical(raw)
	if err != nil {
		return raw
	}
	return out
}

// compareMessages pairs messages from both ends inwards, so that one added in the middle shows as added, and the rest by position.
func compareMessages(a, b Version) []MessageDiff {
	from, to := a.Content.Messages, b.Content.Messages
	fromKeys, toKeys := messageKeys(from), messageKeys(to)
	head := 0
	for head < len(from) && head < len(to) && fromKeys[head] == toKeys[head] {
		head++
	}
	tail := 0
	for tail < len(from)-head && tail < len(to)-head && fromKeys[len(from)-1-tail] == toKeys[len(to)-1-tail] {
		tail++
	}
	names := [2]string{fmt.Sprintf("version %d", a.Number), fmt.Sprintf("version %d", b.Number)}
	out := []MessageDiff{}
	for i := head; i < max(len(from), len(to))-tail; i++ {
		d := MessageDiff{From: -1, To: -1}
		var before, after, beforeKey, afterKey string
		if i < len(from)-tail {
			d.From, d.Role, before, beforeKey = i, roleOf(from[i]), readable(from[i]), fromKeys[i]
		}
		if i < len(to)-tail {
			d.To, d.Role, after, afterKey = i, roleOf(to[i]), readable(to[i]), toKeys[i]
		}
		if beforeKey == afterKey {
			continue
		}
		if before == after { // a difference that only the JSON shows
			before, after = beforeKey+"\n", afterKey+"\n"
		}
		d.Unified = udiff.Unified(names[0], names[1], before, after)
		out = append(out, d)
	}
	return out
}

// messageKeys are the messages in canonical form: equal when and only when the messages are.
func messageKeys(ms []template.Message) []string {
	out := make([]string, len(ms))
	for i, m := range ms {
		if raw, err := json.Marshal(m); err == nil { // stored content always encodes
			out[i] = string(canonical(raw))
		}
	}
	return out
}

func roleOf(m template.Message) string {
	if m.Type != "" {
		return m.Type
	}
	return m.Role
}

// readable writes a message for people: a line for each property, then its text.
func readable(m template.Message) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	line("type", m.Type)
	line("role", m.Role)
	line("name", m.Name)
	line("tool_call_id", m.ToolCallID)
	line("tool_calls", string(canonicalOrNone(m.ToolCalls)))
	for _, p := range m.Parts {
		fmt.Fprintf(&b, "\n[%s]\n%s", p.Type, p.Text)
		b.Write(canonicalOrNone(p.Value))
		b.WriteByte('\n')
	}
	if m.Text != "" {
		b.WriteByte('\n')
		b.WriteString(m.Text)
		b.WriteByte('\n')
	}
	return b.String()
}

func canonicalOrNone(raw json.RawMessage) []byte {
	if len(raw) == 0 {
		return nil
	}
	return canonical(raw)
}
