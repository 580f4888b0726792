package registry

import (
	"encoding/base32"
	"fmt"
	"io"
)

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding) //nolint:gochecknoglobals // a constant

// newID returns prefix and 26 characters: 48 bits of milliseconds, so that ids sort by age, and 80 random bits.
func (s *Service) newID(prefix string) (string, error) {
	var b [16]byte
	ms := uint64(s.clock().UnixMilli())
	for i := range 6 {
		b[i] = byte(ms >> (8 * (5 - i)))
	}
	if _, err := io.ReadFull(s.rand, b[6:]); err != nil {
		return "", fmt.Errorf("registry: no randomness for an id: %w", err)
	}
	return prefix + idEncoding.EncodeToString(b[:]), nil
}
