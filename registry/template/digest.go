package template

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/promptgate/promptgate/internal/fault"
)

// Digest names this content: "sha256:" and 64 hex digits over its RFC 8785 canonical JSON. Key order, white space and the
// spelling of numbers and escapes make no difference; everything that changes what is sent does. It fails with InvalidTemplate
// when a raw field is no JSON, names a key twice or holds a number that no double can hold.
func (c Content) Digest() (string, error) {
	c.Locked, c.Ignored = sortedCopy(c.Locked, strings.Compare), sortedCopy(c.Ignored, strings.Compare)
	c.References = sortedCopy(c.References, func(a, b Reference) int { return strings.Compare(a.Spelling, b.Spelling) })
	if c.Messages == nil {
		c.Messages = []Message{}
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return "", fault.Wrap(err, fault.InvalidTemplate, "a JSON field of this version is malformed; check its tools, parameters and schemas")
	}
	canonical, err := Canonical(raw)
	if err != nil {
		return "", fault.Wrap(err, fault.InvalidTemplate,
			"this version cannot be put in canonical form (a key twice, or a number beyond double precision); correct its tools, parameters and schemas")
	}
	sum := sha256.Sum256(canonical)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// Canonical is any JSON value in the canonical form of RFC 8785. It refuses a key that stands twice and numbers that no double can hold.
func Canonical(raw []byte) ([]byte, error) {
	out := jsontext.Value(slices.Clone(raw))
	if err := out.Canonicalize(); err != nil {
		return nil, err
	}
	if beyondDouble(raw) {
		return nil, errors.New("a number is beyond double precision")
	}
	return out, nil
}

// beyondDouble reports whether valid JSON holds a number that no double comes near to.
func beyondDouble(raw []byte) bool {
	for i := 0; i < len(raw); {
		switch c := raw[i]; {
		case c == '"':
			i = skipString(raw, i)
		case c == '-' || c >= '0' && c <= '9':
			end := skipValue(raw, i)
			if _, err := strconv.ParseFloat(string(raw[i:end]), 64); err != nil {
				return true
			}
			i = end
		default:
			i++
		}
	}
	return false
}

func sortedCopy[T any](s []T, compare func(a, b T) int) []T {
	if slices.IsSortedFunc(s, compare) {
		return s
	}
	s = slices.Clone(s)
	slices.SortStableFunc(s, compare)
	return s
}
