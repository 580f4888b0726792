package echo

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/tidwall/gjson"

	"github.com/promptgate/promptgate/gateway/provider"
)

// An echo keeps at most so many responses, and as many conversations, in memory, and so many bytes of each; the oldest go.
const (
	maxKept      = 1000
	maxKeptBytes = 64 << 20
)

// keeper holds what an echo was asked to keep, for as long as the process lives.
type keeper struct {
	mu            sync.Mutex
	responses     shelf[keptResponse]
	conversations shelf[conversation]
	files         shelf[keptFile]
	batches       shelf[string] // as they are shown
}

// shelf holds the newest things by their ids.
type shelf[T any] struct {
	byID  map[string]*T
	order []string
	sizes map[string]int
	bytes int
}

func (s *shelf[T]) put(id string, v *T, size int) {
	if s.byID == nil {
		s.byID, s.sizes = map[string]*T{}, map[string]int{}
	}
	s.byID[id], s.order = v, append(s.order, id)
	s.weigh(id, size)
}

// weigh notes how large a thing is now, and lets the oldest go for it.
func (s *shelf[T]) weigh(id string, size int) {
	s.bytes += size - s.sizes[id]
	s.sizes[id] = size
	for len(s.order) > maxKept || s.bytes > maxKeptBytes {
		s.remove(s.order[0])
		s.order = s.order[1:]
	}
}

func (s *shelf[T]) remove(id string) {
	s.bytes -= s.sizes[id]
	delete(s.sizes, id)
	delete(s.byID, id)
}

// sizeOf is about what is kept of items and messages, in bytes. What a thing shares with others counts for each: it may outlive them.
func sizeOf(items []string, messages []message) (n int) {
	for _, one := range items {
		n += len(one)
	}
	for _, m := range messages {
		n += len(m.text) + 64
	}
	return n
}

// keptResponse is a response, and what a later one goes on from.
type keptResponse struct {
	body     string
	items    []string  // of its input, with ids
	messages []message // of all before, and its answer
}

type conversation struct {
	created  int64
	metadata string
	items    []string
	messages []message
}

func newID(prefix string) string {
	var random [12]byte
	_, _ = rand.Read(random[:]) // never fails
	return prefix + hex.EncodeToString(random[:])
}

// goOn puts what a request goes on from before its own messages.
func (k *keeper) goOn(r *request) *refusal {
	k.mu.Lock()
	defer k.mu.Unlock()
	if id := r.previous; id != "" {
		before := k.responses.byID[id]
		if before == nil {
			return &refusal{"previous_response_not_found", "previous_response_id", "The echo provider keeps no response " + strconv.Quote(id) + ": it keeps the last 1000 of this process."}
		}
		r.messages = slices.Concat(before.messages, r.messages)
	}
	if id := r.conversation; id != "" {
		c := k.conversations.byID[id]
		if c == nil {
			return &refusal{"conversation_not_found", "conversation", "The echo provider keeps no conversation " + strconv.Quote(id) + ": it keeps the last 1000 of this process."}
		}
		r.messages = slices.Concat(c.messages, r.messages)
	}
	return nil
}

// keep keeps a response that was made, unless it was not to be.
func (k *keeper) keep(r *request, a *answer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	said := message{"assistant", strings.Join(a.tokens, "")}
	if r.store {
		kept := &keptResponse{body: a.whole(), items: r.items, messages: append(slices.Clone(r.messages), said)}
		k.responses.put(a.id, kept, len(kept.body)+sizeOf(kept.items, kept.messages))
	}
	if c := k.conversations.byID[r.conversation]; c != nil {
		c.items = append(append(c.items, r.items...), a.item(a.status(), part(said.text)))
		c.messages = append(slices.Clone(r.messages), said)
		k.conversations.weigh(r.conversation, sizeOf(c.items, c.messages))
	}
}

// ask answers what is asked about something kept; nil for an address that an echo does not have.
func (p *Provider) ask(r *provider.Request) *provider.Response {
	noun, rest, _ := strings.Cut(r.Endpoint, "/")
	id, rest, _ := strings.Cut(rest, "/")
	method := r.Method
	if method == "" {
		method = http.MethodPost
	}
	p.kept.mu.Lock()
	defer p.kept.mu.Unlock()
	var body string
	var bad *refusal
	switch {
	case noun == "responses" && id != "":
		body, bad = p.kept.askResponse(method+" "+rest, id, r.Query)
	case noun == "conversations":
		body, bad = p.kept.askConversation(method+" "+rest, id, r, p.o.Now().Unix())
	default:
		return nil
	}
	switch {
	case bad != nil && bad.code == "":
		return nil
	case bad != nil && strings.HasSuffix(bad.code, "not_found"):
		return refuse(r.API, http.StatusNotFound, bad)
	case bad != nil:
		return refuse(r.API, http.StatusBadRequest, bad)
	}
	return respond(http.StatusOK, []byte(body))
}

func (k *keeper) askResponse(what, id, query string) (string, *refusal) {
	kept := k.responses.byID[id]
	if kept == nil {
		return "", &refusal{"response_not_found", "id", "The echo provider keeps no response " + strconv.Quote(id) + "."}
	}
	switch what {
	case "GET ":
		if values, _ := url.ParseQuery(query); values.Get("stream") == "true" {
			return "", &refusal{"unsupported_value", "stream", "The echo provider does not stream what it keeps: ask without stream."}
		}
		return kept.body, nil
	case "POST cancel":
		return kept.body, nil // it ended long ago
	case "DELETE ":
		k.responses.remove(id)
		return `{"id":` + string(quote(id)) + `,"object":"response","deleted":true}`, nil
	case "GET input_items":
		return page(kept.items, query), nil
	}
	return "", &refusal{}
}

func (k *keeper) askConversation(what, id string, r *provider.Request, now int64) (string, *refusal) {
	if what == "POST " && id == "" {
		doc, bad := object(r.Body)
		if bad != nil {
			return "", bad
		}
		c := &conversation{created: now, metadata: "{}"}
		if bad = c.change(doc); bad != nil {
			return "", bad
		}
		id = newID("conv_echo_")
		k.conversations.put(id, c, len(c.metadata)+sizeOf(c.items, c.messages))
		return c.json(id), nil
	}
	c := k.conversations.byID[id]
	if c == nil {
		return "", &refusal{"conversation_not_found", "id", "The echo provider keeps no conversation " + strconv.Quote(id) + "."}
	}
	verb, item, _ := strings.Cut(what, "/")
	at := slices.IndexFunc(c.items, func(one string) bool { return gjson.Get(one, "id").Str == item })
	switch {
	case item != "" && at < 0:
		return "", &refusal{"item_not_found", "item", "There is no such item in the conversation."}
	case verb == "GET items" && item != "":
		return c.items[at], nil
	case verb == "DELETE items" && item != "":
		c.items = slices.Delete(c.items, at, at+1)
		return c.json(id), nil
	case what == "GET items":
		return page(c.items, r.Query), nil
	case what == "GET ":
		return c.json(id), nil
	case what == "DELETE ":
		k.conversations.remove(id)
		return `{"id":` + string(quote(id)) + `,"object":"conversation.deleted","deleted":true}`, nil
	case what == "POST ", what == "POST items":
		doc, bad := object(r.Body)
		before := len(c.items)
		if bad == nil {
			bad = c.change(doc)
		}
		k.conversations.weigh(id, len(c.metadata)+sizeOf(c.items, c.messages))
		if what == "POST " {
			return c.json(id), bad
		}
		return page(c.items[before:], "order=asc&limit=100"), bad
	}
	return "", &refusal{}
}

// change takes the items and the metadata that a body brings.
func (c *conversation) change(doc gjson.Result) *refusal {
	if m := doc.Get("metadata"); m.IsObject() {
		c.metadata = m.Raw
	}
	items := doc.Get("items")
	if !present(items) {
		return nil
	}
	if !items.IsArray() {
		return &refusal{"invalid_type", "items", "items must be a list of items."}
	}
	var r request
	if bad := r.readItems(items); bad != nil {
		return bad
	}
	c.items, c.messages = append(c.items, r.items...), append(c.messages, r.messages...)
	return nil
}

func (c *conversation) json(id string) string {
	return fmt.Sprintf(`{"id":%s,"object":"conversation","created_at":%d,"metadata":%s}`, quote(id), c.created, c.metadata)
}

// page is a page of items as a query asks for it: the newest first, 20 of them, unless it says otherwise.
func page(items []string, query string) string {
	values, _ := url.ParseQuery(query) // what cannot be read asks for nothing
	items = slices.Clone(items)
	if values.Get("order") != "asc" {
		slices.Reverse(items)
	}
	id := func(i int) string { return gjson.Get(items[i], "id").Str }
	if after := values.Get("after"); after != "" {
		items = items[slices.IndexFunc(items, func(one string) bool { return gjson.Get(one, "id").Str == after })+1:]
	}
	limit, err := strconv.Atoi(values.Get("limit"))
	if err != nil || limit < 1 || limit > 100 {
		limit = 20
	}
	more := len(items) > limit
	items = items[:min(limit, len(items))]
	first, last := "null", "null"
	if len(items) > 0 {
		first, last = string(quote(id(0))), string(quote(id(len(items)-1)))
	}
	return fmt.Sprintf(`{"object":"list","data":[%s],"first_id":%s,"last_id":%s,"has_more":%v}`, strings.Join(items, ","), first, last, more)
}
