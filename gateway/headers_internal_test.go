package gateway

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestHeadersCarryNoControlCharacters: one makes clients drop the whole answer, and a caller's own model may hold any.
func TestHeadersCarryNoControlCharacters(t *testing.T) {
	h := http.Header{}
	set := newHead(h)
	set.set("X-Promptgate-Model", "a\x1b[1m\x00\r\nSet-Cookie: x\x7f")
	set.set("X-Promptgate-Prompt", "plain é")
	assert.Equal(t, `a\x1b[1m\x00\r\nSet-Cookie: x\x7f`, h.Get("X-Promptgate-Model"))
	assert.Equal(t, "plain é", h.Get("X-Promptgate-Prompt"))
}
