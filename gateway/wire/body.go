package wire

// Member is one top-level member of a body, by offsets into the scanned bytes.
type Member struct {
	Name       string // decoded: escapes resolved
	KeyStart   int    // of the opening quote
	ValueStart int
	ValueEnd   int
}

// Body is a scanned request body. The zero value is ready; Scan may be called again and again, so a Body can be pooled. It keeps a
// reference to the scanned bytes, and what its methods return points into them.
type Body struct {
	raw     []byte
	members []Member
}

// Scan reads raw once and records its top-level members. It refuses, with fault.InvalidJSON saying where and why: what is not one
// JSON object, duplicate names at any depth, invalid UTF-8, nesting deeper than MaxDepth, anything after the object, and names that
// differ only by case from a field that the gateway reads.
func (b *Body) Scan(raw []byte) error { return nil }

// Reset forgets the scanned bytes, so that a pooled Body does not keep them alive.
func (b *Body) Reset() {}

// Raw is what was scanned.
func (b *Body) Raw() []byte { return b.raw }

// Members are the top-level members in the body's order; read only.
func (b *Body) Members() []Member { return b.members }

// Get is the value of a top-level member, as its bytes stand in the body. null is present.
func (b *Body) Get(name string) (value []byte, ok bool) { return nil, false }

// Model is the decoded model, "" when it is absent or null. A model that is no string is fault.InvalidRequest with Param "model".
func (b *Body) Model() (string, error) { return "", nil }

// Stream says whether the caller asked for a stream. fault.InvalidRequest with Param "stream" when it is neither a boolean nor null.
func (b *Body) Stream() (bool, error) { return false, nil }

// Messages is the value of "messages", nil when it is absent or null. fault.InvalidRequest with Param "messages" when it is no array.
func (b *Body) Messages() ([]byte, error) { return nil, nil }
