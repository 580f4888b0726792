package wire

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Edit changes one top-level member of a body: a nil Value removes it, any other replaces it, and what is absent is appended. Value
// must be valid JSON.
type Edit struct {
	Name  string
	Value []byte
}

// Set is an edit that gives name the string value. Invalid UTF-8 in it becomes U+FFFD.
func Set(name, value string) Edit { return SetIn(nil, name, value) }

// SetIn is Set with a value that is written into buf, as far as there is room.
func SetIn(buf []byte, name, value string) Edit {
	return Edit{Name: name, Value: appendString(buf[:0], value)}
}

// Remove is an edit that takes name out.
func Remove(name string) Edit { return Edit{Name: name} }

// Splice appends the body to dst with the edits made: everything else stands as the caller sent it, in the caller's order. With no
// edits the bytes are exactly those that were scanned. When several edits name one member the last one counts. dst must not overlap
// the scanned bytes.
func (b *Body) Splice(dst []byte, edits []Edit) []byte {
	if len(edits) == 0 {
		return append(dst, b.raw...)
	}
	if len(b.members) == 0 {
		dst = append(dst, b.raw[:b.end]...)
		dst = b.appendAbsent(dst, edits, false)
		return append(dst, b.raw[b.end:]...)
	}
	dst = append(dst, b.raw[:b.members[0].KeyStart]...)
	kept := false
	for i := range b.members {
		m := &b.members[i]
		e := editOf(edits, m.Name)
		if e != nil && e.Value == nil {
			continue
		}
		if kept { // what separates it from the member before, as the caller wrote it
			dst = append(dst, b.raw[b.members[i-1].ValueEnd:m.KeyStart]...)
		}
		kept = true
		if e == nil {
			dst = append(dst, b.raw[m.KeyStart:m.ValueEnd]...)
			continue
		}
		dst = append(dst, b.raw[m.KeyStart:m.ValueStart]...)
		dst = append(dst, e.Value...)
	}
	dst = b.appendAbsent(dst, edits, kept)
	return append(dst, b.raw[b.members[len(b.members)-1].ValueEnd:]...)
}

// appendAbsent writes the edits whose members the body does not have, in the order of the edits.
func (b *Body) appendAbsent(dst []byte, edits []Edit, comma bool) []byte {
	for i := range edits {
		e := &edits[i]
		if e.Value == nil || b.has(e.Name) || editOf(edits, e.Name) != e {
			continue
		}
		if comma {
			dst = append(dst, ',')
		}
		comma = true
		dst = appendString(dst, e.Name)
		dst = append(dst, ':')
		dst = append(dst, e.Value...)
	}
	return dst
}

func (b *Body) has(name string) bool {
	for i := range b.members {
		if b.members[i].Name == name {
			return true
		}
	}
	return false
}

// editOf is the last edit of name, nil when there is none.
func editOf(edits []Edit, name string) *Edit {
	for i := len(edits) - 1; i >= 0; i-- {
		if edits[i].Name == name {
			return &edits[i]
		}
	}
	return nil
}

// Kept is the value of a member that stands in the body and that no edit changes: what a provider gets of the caller's own.
func (b *Body) Kept(name string, edits []Edit) (value []byte, ok bool) {
	if editOf(edits, name) != nil {
		return nil, false
	}
	return b.Get(name)
}

// Sent is the value that a provider gets under a name once the edits are made, in whatever case it is spelled; nil for none.
func (b *Body) Sent(name string, edits []Edit) (value []byte) {
	for i := range b.members {
		if m := &b.members[i]; strings.EqualFold(m.Name, name) && editOf(edits, m.Name) == nil {
			value = b.raw[m.ValueStart:m.ValueEnd:m.ValueEnd]
		}
	}
	for i := range edits {
		if e := &edits[i]; strings.EqualFold(e.Name, name) && editOf(edits, e.Name) == e && e.Value != nil {
			value = e.Value
		}
	}
	return value
}

// Word is the string that a JSON value is, "" for null. Any other value is no word: its text is returned, quotes and brackets and all.
func Word(value []byte) string {
	if isNull(value) {
		return ""
	}
	if s, ok := stringOf(value); ok {
		return s
	}
	return string(value)
}

// appendString appends s as a JSON string.
func appendString(dst []byte, s string) []byte {
	// The error only says that invalid UTF-8 was replaced.
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}
