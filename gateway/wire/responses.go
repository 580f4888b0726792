package wire

import (
	"bytes"
	"encoding/json"
	"net/http"
)

// Responses is OpenAI's Responses API. Its requests have items under "input" and text for the model under "instructions", its streams typed events.
type Responses struct{}

var _ API = Responses{}

// Name implements API.
func (Responses) Name() string { return "responses" }

// Endpoint implements API.
func (Responses) Endpoint() string { return "responses" }

// LastUserText implements API.
func (Responses) LastUserText(b *Body) (text json.RawMessage, ok bool) {
	input, _ := b.Get("input")
	if len(input) > 0 && input[0] == '"' {
		return input, string(input) != `""`
	}
	_, last := cutLast(input)
	return userText(last)
}

// UsageEdit implements API: a response tells its usage unasked.
func (Responses) UsageEdit(*Body) (e Edit, needed bool) { return e, false }

// OutputLimit implements API.
func (Responses) OutputLimit(b *Body, edits []Edit) (tokens, answers int64) {
	return count(b.Sent("max_output_tokens", edits)), 1
}

// Free implements API.
func (Responses) Free() bool { return false }

// Onward implements API.
func (Responses) Onward(h http.Header, _ []Edit) http.Header { return Chat{}.Onward(h, nil) }

// RequestID implements API.
func (Responses) RequestID() string { return Chat{}.RequestID() }

// EndUser implements API.
func (Responses) EndUser(b *Body) string {
	if user := b.Text("safety_identifier"); user != "" {
		return user
	}
	return b.Text("user")
}

// Continues implements API. Of two things to go on from no more than one could be judged, so that both come to none.
func (Responses) Continues(b *Body, edits []Edit) (param, id string) {
	if value, ok := b.Kept("previous_response_id", edits); ok && !isNull(value) {
		param, id = "previous_response_id", Word(value)
	}
	if value, ok := b.Kept("conversation", edits); ok && !isNull(value) {
		if param != "" {
			return "conversation", ""
		}
		param, id = "conversation", idOf(value)
	}
	return param, id
}

// idOf is the id that a text or an object with an "id" says, "" for what says none.
func idOf(v []byte) string {
	if len(v) > 0 && v[0] == '"' {
		return Word(v)
	}
	for key, value := range membersOf(v) {
		if Word(key) == "id" {
			return Word(value)
		}
	}
	return ""
}

// References implements API.
func (Responses) References(b *Body) []string {
	input, _ := b.Get("input")
	return itemReferences(input)
}

// Stores implements API.
func (Responses) Stores() bool { return false }

// Keeps implements API.
func (Responses) Keeps() bool { return true }

// RunsOn implements API.
func (Responses) RunsOn(b *Body, edits []Edit) bool {
	value := b.Sent("background", edits)
	return value != nil && !isNull(value) && string(value) != "false"
}

// Unserved implements API. A provider that takes a caller's "request_id" gives it to what it keeps.
func (Responses) Unserved(b *Body) (param string) {
	if value, ok := b.Get("request_id"); ok && !isNull(value) {
		return "request_id"
	}
	return ""
}

// ReadAnswer implements API.
func (Responses) ReadAnswer(body []byte) (c Completion, whole bool) {
	w, ok := walkInto(body, '{')
	if !ok {
		return c, false
	}
	for {
		key, value, more := w.member()
		if !more {
			break
		}
		switch string(key) {
		case `"status"`:
			setString(&c.Finish, value)
		case `"output"`:
			c.readItems(value)
		case `"error"`:
			c.take(FieldError, value[:min(len(value), maxCapture)])
		case `"id"`, `"model"`, `"usage"`, `"service_tier"`:
			if len(value) <= maxCapture {
				c.take(topField(string(key[1:len(key)-1])), value)
			}
		}
	}
	if c.Finish == "failed" && c.Error == nil {
		c.Error = []byte(`"failed"`)
	}
	if c.Answers == 0 && c.Finish == "incomplete" { // its tokens went into thinking, say
		c.Answers = 1
	}
	c.Running = c.ID != "" && c.Error == nil && (c.Finish == "queued" || c.Finish == "in_progress")
	return c, w.closed('}')
}

// readItems counts the items of an output.
func (c *Completion) readItems(v []byte) {
	for item := range elementsOf(v) {
		c.Answers++
		c.Bytes += len(item)
		c.Items = appendItem(c.Items, item)
	}
}

// maxItems bounds the items of one answer that can be referred to later.
const maxItems = 256

// appendItem appends an item's id, if it has one.
func appendItem(ids []string, item []byte) []string {
	if len(ids) >= maxItems {
		return ids
	}
	for key, value := range membersOf(item) {
		if string(key) == `"id"` {
			var id string
			if setString(&id, value); id != "" {
				ids = append(ids, id)
			}
			break
		}
	}
	return ids
}

// moreOfAnswer reports an event that brings a piece of the answer and nothing that is counted or remembered, which nearly every event of a stream is: its
// type stands first, as OpenAI writes it, and ends in .delta. What it does not tell is read member by member.
func moreOfAnswer(data []byte) bool {
	kind, ok := bytes.CutPrefix(data, []byte(`{"type":"response.`))
	if !ok {
		return false
	}
	kind, _, ok = bytes.Cut(kind, []byte(`"`))
	return ok && bytes.HasSuffix(kind, []byte(".delta"))
}

// ReadEvent implements API.
func (Responses) ReadEvent(r *StreamResult, ev Event) (usageOnly bool) {
	if moreOfAnswer(ev.Data) {
		r.Started = true
		r.Events++
		return false
	}
	if _, ok := walkInto(ev.Data, '{'); !ok {
		return false
	}
	var kind string
	var response, failure, item []byte
	for key, value := range membersOf(ev.Data) {
		switch string(key) {
		case `"type"`:
			setString(&kind, value)
		case `"response"`:
			response = value
		case `"item"`:
			item = value
		case `"error"`:
			failure = value
		}
	}
	if kind == "" {
		kind = string(ev.Name)
	}
	switch kind {
	case "response.created", "response.in_progress", "response.queued": // they say that nothing is known yet
		r.readResponse(response)
		return false
	case "error":
		r.SetError(ev.Data)
	case "response.failed":
		r.readResponse(response)
		if r.Error == nil {
			r.SetError(ev.Data)
		}
	default:
		if response != nil {
			r.readResponse(response)
		}
		if kind == "response.output_item.added" {
			r.Items = appendItem(r.Items, item)
		}
		r.Done = r.Done || Responses{}.Finishes(kind)
		r.Started = r.Started || bytes.HasSuffix([]byte(kind), []byte(".delta"))
	}
	if failure != nil && !isNull(failure) {
		r.SetError(failure)
	}
	r.Events++
	return false
}

// readResponse reads the response that some events hold.
func (r *StreamResult) readResponse(v []byte) {
	said, _ := Responses{}.ReadAnswer(v)
	if r.ID == "" {
		r.ID = said.ID
	}
	if r.Model == "" {
		r.Model = said.Model
	}
	if said.Usage.Reported {
		r.Usage, r.Cost = said.Usage, said.Cost
	}
	if said.Tier != "" {
		r.Tier = said.Tier
	}
	if said.Error != nil {
		r.SetError(said.Error)
	}
}

// Finishes implements API.
func (Responses) Finishes(kind string) bool {
	return kind == "response.completed" || kind == "response.incomplete"
}

// Field implements API.
func (Responses) Field(depth int, parent, name []byte) Field {
	switch {
	case depth == 1:
		switch string(name) {
		case "type":
			return FieldFinish
		case "output", "delta", "item", "part":
			return FieldContent
		}
		return topField(string(name))
	case depth == 2 && string(parent) == "response":
		return topField(string(name))
	}
	return FieldNone
}

// AppendError implements API.
func (Responses) AppendError(dst []byte, err error, _ string) []byte {
	return appendErrorBody(dst, err)
}

// AppendErrorEvent implements API: an event of type "error", with the envelope in it as well, on which SDKs raise.
func (Responses) AppendErrorEvent(dst []byte, err error, _ string) []byte {
	code, message, param := Told(err)
	dst = append(dst, "event: error\ndata: {\"type\":\"error\",\"sequence_number\":0,\"code\":"...)
	dst = appendString(dst, string(code))
	dst = append(dst, `,"message":`...)
	dst = appendString(dst, message)
	dst = append(dst, `,"param":`...)
	if param == "" {
		dst = append(dst, "null"...)
	} else {
		dst = appendString(dst, param)
	}
	envelope := appendErrorBody(nil, err)
	dst = append(append(dst, ','), envelope[1:]...)
	return append(dst, '\n', '\n')
}

// AppendRefusal implements API.
func (Responses) AppendRefusal(dst, body []byte, status int) []byte {
	return BlankRefusal(dst, body, status)
}
