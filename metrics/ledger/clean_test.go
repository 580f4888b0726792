package ledger

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCleanText tries every byte at every place of texts around the eight bytes that are looked at together.
func TestCleanText(t *testing.T) {
	for length := range 20 {
		for at := range length {
			for b := range 256 {
				text := []byte(strings.Repeat("a", length))
				text[at] = byte(b)
				want := string(text)
				switch {
				case b == 0:
					want = want[:at] + want[at+1:]
				case b >= 0x80:
					want = want[:at] + "\uFFFD" + want[at+1:]
				}
				require.Equal(t, want, cleanText(string(text)))
			}
		}
	}
	for _, kept := range []string{"", "grüße", "\x7f\x01", strings.Repeat("ü", 9)} {
		require.Equal(t, kept, cleanText(kept))
	}
	require.Equal(t, "\uFFFDab", cleanText("\xff\x00\x00ab"))
}
