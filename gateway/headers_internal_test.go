package gateway

import (
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/gateway/wire"
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

// TestProvidersHeadersAreHarmless: what a provider's headers hold reaches callers as it is or not at all.
func TestProvidersHeadersAreHarmless(t *testing.T) {
	ids, err := NewCallIDs(func(string) []byte { return make([]byte, 16) }, rand.Reader, time.Now)
	require.NoError(t, err)
	begin := func(streamed bool, status int, sent http.Header) http.Header {
		w := httptest.NewRecorder()
		c := &call{w: w, api: wire.Chat{}, req: Request{Header: http.Header{}}, ans: answer{header: sent, streamed: streamed, status: status}}
		c.rec.ID = "call_1"
		(&Gateway{deps: Deps{CallIDs: ids}}).begin(c, -1)
		return w.Header()
	}
	long := strings.Repeat("x", maxPassedHeader)
	got := begin(false, 200, http.Header{
		"Content-Type": {"application/json;\tcharset=utf-8"}, "X-Ratelimit-Limit-Tokens": {"7"}, "Openai-Version": {"caf\u00e9"},
		"Retry-After": {"1\x1b[2J"}, "X-Request-Id": {"req\x00"}, "Cache-Control": {"a", "b\x7f"}, "Openai-Model": {long},
		"X-Ratelimit-" + long: {"1"}, "Content-Language": {long[:600], long[:600]}, "Set-Cookie": {"a"},
	})
	assert.Equal(t, "application/json;\tcharset=utf-8", got.Get("Content-Type"))
	assert.Equal(t, "7", got.Get("X-Ratelimit-Limit-Tokens"))
	assert.Equal(t, "caf\u00e9", got.Get("Openai-Version"))
	for _, key := range []string{"Retry-After", "Cache-Control", "Openai-Model", "X-Ratelimit-" + long, "Content-Language", "Set-Cookie"} {
		assert.Empty(t, got[key], key)
	}
	assert.Equal(t, "call_1", got.Get("X-Request-Id"), "the provider's own is none")

	for want, of := range map[string]struct {
		streamed bool
		status   int
	}{"text/event-stream": {true, 200}, "application/json": {false, 200}, "text/plain; charset=utf-8": {false, 500}} {
		assert.Equal(t, want, begin(of.streamed, of.status, http.Header{"Content-Type": {"text/html;\x01" + long}}).Get("Content-Type"))
	}

	many := http.Header{"Content-Type": {"application/json"}, "Retry-After": {"1"}}
	for i := range 1000 {
		many["X-Ratelimit-"+strconv.Itoa(i)] = []string{long[:100]}
	}
	passed, size := begin(false, 200, many), 0
	for key, values := range passed {
		if meters(key) {
			size += len(key) + len(values[0])
		}
	}
	assert.Greater(t, size, maxMeters/2)
	assert.LessOrEqual(t, size, maxMeters, "their number is bounded as well")
	assert.Equal(t, "application/json1", passed.Get("Content-Type")+passed.Get("Retry-After"), "what callers act on is not theirs to crowd out")
}
