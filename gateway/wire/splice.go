package wire

// Edit changes one top-level member of a body: a nil Value removes it, any other replaces it, and what is absent is appended. Value
// must be valid JSON.
type Edit struct {
	Name  string
	Value []byte
}

// Set is an edit that gives name the string value.
func Set(name, value string) Edit { return Edit{} }

// Remove is an edit that takes name out.
func Remove(name string) Edit { return Edit{Name: name} }

// Splice appends the body to dst with the edits made: everything else stands as the caller sent it, in the caller's order. With no
// edits the bytes are exactly those that were scanned. When several edits name one member the last one counts.
func (b *Body) Splice(dst []byte, edits []Edit) []byte { return append(dst, b.raw...) }
