package wire

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
)

// Messages is Anthropic's Messages API. Text for the model stands under "system", turns of user and assistant under "messages"; streams have typed events, and
// usage in two of them.
type Messages struct{}

// CountTokens counts the tokens of a request of Messages: the same body, and no answer of a model to it. It costs nothing.
type CountTokens struct{ Messages }

var (
	_ API = Messages{}
	_ API = CountTokens{}
)

// MessagesVersion is the version of the API that a provider is asked for when a caller names none. It takes all that later ones take, and more: 2026-10-21
// refuses what says how to sample.
const MessagesVersion = "2023-06-01"

// Name implements API.
func (Messages) Name() string { return "messages" }

// Endpoint implements API.
func (Messages) Endpoint() string { return "messages" }

// Endpoint implements API.
func (CountTokens) Endpoint() string { return "messages/count_tokens" }

// Free implements API.
func (Messages) Free() bool { return false }

// Free implements API.
func (CountTokens) Free() bool { return true }

// Onward implements API. MessagesVersion is what a provider of this shape is asked for anyway; a prompt that says how to sample is sent in it, whatever version
// the caller's client has: that one knows nothing of the prompt, and answers are the same in both.
func (Messages) Onward(h http.Header, edits []Edit) http.Header {
	version, beta := h["Anthropic-Version"], h["Anthropic-Beta"]
	if len(version) == 1 && version[0] == MessagesVersion || samples(edits) {
		version = nil
	}
	if len(version) == 0 && len(beta) == 0 {
		return nil
	}
	return http.Header{"Anthropic-Version": version, "Anthropic-Beta": beta}
}

// samples reports whether edits set what says how to sample.
func samples(edits []Edit) bool {
	return slices.ContainsFunc(edits, func(e Edit) bool {
		return e.Value != nil && (e.Name == "temperature" || e.Name == "top_p" || e.Name == "top_k")
	})
}

// RequestID implements API.
func (Messages) RequestID() string { return "Request-Id" }

// LastUserText implements API.
func (Messages) LastUserText(b *Body) (text json.RawMessage, ok bool) { return Chat{}.LastUserText(b) }

// UsageEdit implements API: a message tells its usage unasked.
func (Messages) UsageEdit(*Body) (e Edit, needed bool) { return e, false }

// OutputLimit implements API.
func (Messages) OutputLimit(b *Body, edits []Edit) (tokens, answers int64) {
	return count(b.Sent("max_tokens", edits)), 1
}

// EndUser implements API.
func (Messages) EndUser(b *Body) string {
	metadata, _ := b.Get("metadata")
	for key, value := range membersOf(metadata) {
		if string(key) == `"user_id"` {
			user, _ := stringOf(value)
			return user
		}
	}
	return ""
}

// Continues implements API: a request holds its whole conversation.
func (Messages) Continues(*Body, []Edit) (param, id string) { return "", "" }

// Keeps implements API.
func (Messages) Keeps() bool { return false }

// References implements API: blocks refer to each other inside a request only.
func (Messages) References(*Body) []string { return nil }

// Stores implements API.
func (Messages) Stores() bool { return false }

// RunsOn implements API.
func (Messages) RunsOn(*Body, []Edit) bool { return false }

// Unserved implements API. A container, a thread and the message that diagnostics compare with stand at the provider, and nothing says whose they are.
func (Messages) Unserved(b *Body) (param string) {
	if v, ok := b.Get("container"); ok && !isNull(v) && (v[0] != '{' || hasMember(v, "id")) {
		return "container"
	}
	if v, ok := b.Get("thread"); ok && !isNull(v) {
		return "thread"
	}
	if v, ok := b.Get("diagnostics"); ok && hasMember(v, "previous_message_id") {
		return "diagnostics"
	}
	return ""
}

// hasMember reports whether an object has a member of this name that is not null.
func hasMember(object []byte, name string) bool {
	for key, value := range membersOf(object) {
		if Word(key) == name && !isNull(value) {
			return true
		}
	}
	return false
}

// ReadAnswer implements API. A message may be empty, and says why it stopped then.
func (Messages) ReadAnswer(body []byte) (c Completion, whole bool) {
	w, ok := walkInto(body, '{')
	if !ok {
		return c, false
	}
	failed, listed := false, false
	for {
		key, value, more := w.member()
		if !more {
			break
		}
		switch string(key) {
		case `"type"`:
			failed = string(value) == `"error"`
		case `"stop_reason"`:
			setString(&c.Finish, value)
		case `"content"`:
			listed = value[0] == '['
			for block := range elementsOf(value) {
				c.Answers++
				c.Bytes += len(block)
			}
		case `"error"`:
			c.take(FieldError, value[:min(len(value), maxCapture)])
		case `"id"`, `"model"`, `"usage"`:
			if len(value) <= maxCapture {
				c.take(messageField(string(key[1:len(key)-1])), value)
			}
		}
	}
	if failed && c.Error == nil {
		c.Error = []byte(`"error"`)
	}
	if c.Answers == 0 && listed && c.Finish != "" {
		c.Answers = 1
	}
	return c, w.closed('}')
}

// ReadAnswer implements API: a count is an answer.
func (CountTokens) ReadAnswer(body []byte) (c Completion, whole bool) {
	w, ok := walkInto(body, '{')
	for ok {
		var key, value []byte
		if key, value, ok = w.member(); !ok {
			break
		}
		switch string(key) {
		case `"input_tokens"`:
			if _, err := strconv.ParseUint(string(value), 10, 63); err == nil {
				c.Answers = 1
			}
		case `"error"`:
			c.take(FieldError, value[:min(len(value), maxCapture)])
		}
	}
	return c, w.b != nil && w.closed('}')
}

// messageTier names what a usage says of the price, "" where the usual one holds for all of it. What has another price is no standard tier: a tier of its name,
// speed, a region that costs more, a cache that is kept for longer, and searches that are paid one by one.
func messageTier(usage []byte) (tier string) {
	for key, value := range membersOf(usage) {
		switch string(key) {
		case `"service_tier"`:
			if tier == "" {
				setString(&tier, value)
			}
		case `"speed"`:
			if s := Word(value); s != "" && s != "standard" {
				tier = "speed"
			}
		case `"inference_geo"`:
			if s := Word(value); s != "" && s != "global" && s != "not_available" {
				tier = "inference_geo"
			}
		case `"cache_creation"`:
			if some(value, "ephemeral_1h_input_tokens") {
				tier = "cache_1h"
			}
		case `"server_tool_use"`:
			if some(value, "web_search_requests") {
				tier = "web_search"
			}
		}
	}
	return tier
}

// some reports whether an object counts any of something.
func some(object []byte, name string) bool {
	for key, value := range membersOf(object) {
		if Word(key) == name {
			return !isNull(value) && string(value) != "0"
		}
	}
	return false
}

const blockDelta = `{"type":"content_block_delta"`

// ReadEvent implements API.
func (Messages) ReadEvent(r *StreamResult, ev Event) (usageOnly bool) {
	named := string(ev.Name) == "error"
	if r.Started && !named && len(ev.Data) > len(blockDelta) && string(ev.Data[:len(blockDelta)]) == blockDelta { // most are, and say nothing else
		r.Events++
		return false
	}
	if _, ok := walkInto(ev.Data, '{'); !ok {
		if named {
			r.SetError(ev.Data)
		}
		return false
	}
	var kind string
	var message, usage, failure []byte
	for key, value := range membersOf(ev.Data) {
		switch string(key) {
		case `"type"`:
			setString(&kind, value)
		case `"message"`:
			message = value
		case `"usage"`:
			usage = value
		case `"error"`:
			if !isNull(value) {
				failure = value
			}
		}
	}
	if kind == "" {
		kind = string(ev.Name)
	}
	switch {
	case kind == "error" || named || kind == "" && failure != nil:
		if failure == nil {
			failure = ev.Data
		}
		r.SetError(failure)
	case kind == "message_start": // nothing is known of the answer yet
		r.readMessage(message)
		return false
	case kind == "ping" || kind == "content_block_stop":
		return false
	case kind == "message_stop":
		r.Done = true
		return false
	case kind == "message_delta":
		r.addUsage(usage)
	case kind == "content_block_delta":
		r.Started = true
	}
	r.Events++
	return false
}

// readMessage reads the message that a stream begins with.
func (r *StreamResult) readMessage(v []byte) {
	for key, value := range membersOf(v) {
		switch string(key) {
		case `"id"`:
			setString(&r.ID, value)
		case `"model"`:
			setString(&r.Model, value)
		case `"usage"`:
			r.addUsage(value)
			r.Usage.Reported = false // of the answer it has counted nothing yet
		}
	}
}

// addUsage takes over the figures of a usage: each is a sum so far, and those that it leaves out stay.
func (r *StreamResult) addUsage(v []byte) {
	if len(v) == 0 || len(v) > maxCapture {
		return
	}
	if !r.counts.seen {
		r.counts.valid = true
	}
	for key, value := range membersOf(v) {
		r.counts.member(key, value)
	}
	r.setUsage()
	if tier := messageTier(v); tier != "" && (r.Tier == "" || !isServiceTier(tier)) {
		r.Tier = tier
	}
}

// isServiceTier reports whether messageTier found nothing but the provider's own name of a tier.
func isServiceTier(tier string) bool {
	switch tier {
	case "speed", "inference_geo", "cache_1h", "web_search":
		return false
	}
	return true
}

// setUsage is what the figures come to; none that can be believed: none.
func (r *StreamResult) setUsage() {
	r.Usage.Reported = false
	if u := &r.counts; u.valid && u.seen && u.t.Input+u.t.Output+u.cacheRead+u.cacheWrite > 0 {
		r.Usage = u.tokens()
	}
}

// Finishes implements API.
func (Messages) Finishes(kind string) bool { return kind == "message_stop" }

// Field implements API.
func (Messages) Field(depth int, parent, name []byte) Field {
	switch {
	case depth == 1:
		switch string(name) {
		case "type":
			return FieldFinish
		case "content", "content_block", "delta":
			return FieldContent
		}
		return messageField(string(name))
	case depth == 2 && string(parent) == "message":
		return messageField(string(name))
	}
	return FieldNone
}

func messageField(name string) Field {
	if name == "usage" {
		return FieldPartialUsage
	}
	return topField(name)
}
