package gateway

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/promptgate/promptgate/gateway/wire"
)

// headCap is how many headers of our own an answer has at most.
const headCap = 16

// head sets response headers whose keys are canonical already, with one allocation for all values. The slab is never reused: the
// server may read it after the handler returned.
type head struct {
	h    http.Header
	slab []string
}

func newHead(h http.Header) *head { return &head{h: h, slab: make([]string, 0, headCap)} }

func (h *head) set(key, value string) {
	if !sendable(value) {
		value = spelled(value)
	}
	h.slab = append(h.slab, value)
	n := len(h.slab)
	h.h[key] = h.slab[n-1 : n : n]
}

// requestID is the header that names a request: the caller's own name for it, else the provider's, else the call's id.
const requestID = "X-Request-Id"

// named gives an answer a request id when it has none.
func (h *head) named(id string) {
	if id != "" && len(h.h[requestID]) == 0 {
		h.set(requestID, id)
	}
}

// namedAs is named for answers of a shape that has a header of its own for it.
func (h *head) namedAs(key, id string) {
	if key != requestID && id != "" && len(h.h[key]) == 0 {
		h.set(key, id)
	}
}

// namesItself reports whether the caller gave its request an id, which Guard echoes.
func (c *call) namesItself() bool { return saneID(c.req.Header[requestID]) }

// saneID reports whether a request id can be repeated: one, short, and of characters that no log or header trips over.
func saneID(values []string) bool {
	if len(values) != 1 || values[0] == "" || len(values[0]) > 128 {
		return false
	}
	for i := range len(values[0]) {
		if c := values[0][i]; c <= ' ' || c > '~' || c == '"' || c == '<' || c == '\\' {
			return false
		}
	}
	return true
}

// sendable reports whether a header may carry a value: control characters make clients drop the whole answer.
func sendable(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// spelled is a value with its control characters spelled out, such as \x1b.
func spelled(value string) string {
	quoted := strconv.Quote(value)
	return quoted[1 : len(quoted)-1]
}

// begin writes the head of the provider's answer. length is that of the body, -1 when it is not known.
func (g *Gateway) begin(c *call, length int64) {
	room := maxMeters
	for key, values := range c.ans.header {
		if passes(key) && harmless(key, values, &room) && (key != requestID || !c.namesItself()) {
			c.w.Header()[key] = values
		}
	}
	h := newHead(c.w.Header())
	_, content := c.api.(wire.FileContent)
	if content = content && c.ans.status < http.StatusMultipleChoices; content {
		h.set("X-Content-Type-Options", "nosniff")
	}
	if (content || len(c.ans.header["Content-Type"]) > 0) && len(h.h["Content-Type"]) == 0 { // net/http would guess one from what the model wrote
		h.set("Content-Type", c.plainType())
	}
	if length >= 0 {
		h.set("Content-Length", strconv.FormatInt(length, 10))
	}
	if c.ans.streamed {
		h.set("Cache-Control", "no-cache")
		h.set("X-Accel-Buffering", "no") // proxies on the way must not collect events
	}
	h.set("X-Promptgate-Call-Id", c.rec.ID)
	h.named(c.rec.ID)
	h.namedAs(c.api.RequestID(), c.rec.ID)
	c.describe(h)
	h.meter(c)
	if c.ans.status >= 400 {
		h.set("X-Promptgate-Error-Origin", "provider")
	} else if token := g.deps.CallIDs.Token(c.rec.Project, c.rec.ID, g.opts.TokenTTL); token != "" {
		h.set("X-Promptgate-Feedback-Token", token)
	}
	if c.rec.CostMicros != nil {
		h.set("X-Promptgate-Cost-Usd", dollars(*c.rec.CostMicros))
	}
	c.ans.begun = true
	c.w.WriteHeader(c.ans.status)
}

// describe names what answered: the prompt, its version and where it came from.
func (c *call) describe(h *head) {
	if r := c.ref.resolved; r != nil {
		h.set("X-Promptgate-Prompt", r.Prompt.Name)
		h.set("X-Promptgate-Version", strconv.Itoa(r.Version))
		if r.Label != "" {
			h.set("X-Promptgate-Label", r.Label)
		}
		h.set("X-Promptgate-Digest", c.digest())
		if r.Stale > 0 {
			h.set("X-Promptgate-Stale", strconv.FormatInt(int64((r.Stale+time.Second-1)/time.Second), 10))
		}
	}
	if c.out.ignored != nil {
		h.set("X-Promptgate-Ignored", shown(c.out.ignored))
	}
	if c.rec.Provider != "" {
		h.set("X-Promptgate-Provider", c.rec.Provider)
		h.set("X-Promptgate-Model", c.rec.Model)
	}
}

// maxIgnoredShown bounds the names of ignored fields in a header, in bytes: longer headers break proxies.
const maxIgnoredShown = 1 << 10

// shown joins the names of fields for a header; "..." stands for those that have no room.
func shown(names []string) string {
	n := 0
	for i, name := range names {
		if n += len(name) + 2; n > maxIgnoredShown {
			return strings.Join(append(slices.Clone(names[:i]), "..."), ", ")
		}
	}
	return strings.Join(names, ", ")
}

// digest names the version's content. Who may not read it gets a digest keyed by the project: it tells versions apart, and cannot be compared with
// guesses of what a short text says.
func (c *call) digest() string {
	if ok, err := c.g.reads(c.ctx, c); ok && err == nil {
		return c.ref.resolved.Digest
	}
	return c.g.deps.HashDigest(c.rec.Project, c.ref.resolved.Digest)
}

// passes says which of a provider's headers callers get. Everything else stays here: cookies, the provider's own infrastructure, and
// what belongs to the connection.
func passes(key string) bool {
	switch key {
	case "Content-Type", "Content-Encoding", "Content-Language", "X-Request-Id", "Request-Id", "Retry-After", "Retry-After-Ms",
		"Cache-Control", "X-Should-Retry":
		return true
	}
	return meters(key) && key != "Openai-Organization" && key != "Openai-Project"
}

// meters says which headers a provider may have any number of: what it measured, and limits.
func meters(key string) bool {
	return strings.HasPrefix(key, "Openai-") || strings.HasPrefix(key, "X-Ratelimit-") || strings.HasPrefix(key, "Anthropic-Ratelimit-")
}

const (
	maxPassedHeader = 1 << 10 // of one of a provider's headers, its name and all its values
	maxMeters       = 4 << 10 // of all that meters names: more breaks proxies on the way, and callers then get nothing
)

// harmless reports whether callers may get a provider's header as it is: without control characters, at which clients drop the whole answer, and of
// usual length. What is not is left out. room is what is left for those that meters names, in bytes.
func harmless(key string, values []string, room *int) bool {
	n := len(key)
	for _, v := range values {
		n += len(v)
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return false
		}
	}
	if n > maxPassedHeader || meters(key) && n > *room {
		return false
	}
	if meters(key) {
		*room -= n
	}
	return true
}

// plainType is the type of an answer whose provider named one that callers cannot get.
func (c *call) plainType() string {
	_, content := c.api.(wire.FileContent)
	switch {
	case c.ans.streamed:
		return "text/event-stream"
	case content && c.ans.status < http.StatusMultipleChoices:
		return "application/octet-stream"
	case c.ans.status < http.StatusMultipleChoices: // accept takes nothing else for an answer
		return "application/json"
	}
	return "text/plain; charset=utf-8"
}

// dollars writes millionths of a dollar as dollars.
func dollars(micros int64) string {
	var b [32]byte
	out := strconv.AppendInt(b[:0], micros/1_000_000, 10)
	point := len(out)
	out = strconv.AppendInt(out, 1_000_000+micros%1_000_000, 10) // seven digits, whose first gives way to the point
	out[point] = '.'
	return string(out)
}
