package template

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"github.com/gowebpki/jcs"

	"github.com/promptgate/promptgate/internal/fault"
)

// Digest names this content: "sha256:" and 64 hex digits over its RFC 8785 canonical JSON. Key order, white space and the
// spelling of numbers and escapes make no difference; everything that changes what is sent does. It fails with InvalidTemplate
// when a raw field is no JSON, names a key twice or holds a number that no double can hold.
func (c Content) Digest() (string, error) {
	c.Locked = sortedCopy(c.Locked, strings.Compare)
	c.References = sortedCopy(c.References, func(a, b Reference) int { return strings.Compare(a.Spelling, b.Spelling) })
	if c.Messages == nil {
		c.Messages = []Message{}
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return "", fault.Wrap(err, fault.InvalidTemplate, "a JSON field of this version is malformed; check its tools, parameters and schemas")
	}
	canonical, err := jcs.Transform(raw)
	if err != nil {
		return "", fault.Wrap(err, fault.InvalidTemplate,
			"this version cannot be put in canonical form (a key twice, or a number beyond double precision); correct its tools, parameters and schemas")
	}
	sum := sha256.Sum256(canonical)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

func sortedCopy[T any](s []T, compare func(a, b T) int) []T {
	if slices.IsSortedFunc(s, compare) {
		return s
	}
	s = slices.Clone(s)
	slices.SortStableFunc(s, compare)
	return s
}
