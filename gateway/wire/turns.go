package wire

import (
	"bytes"
	"encoding/json"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry/template"
)

// Compose implements API: leading system and developer text becomes "system", behind which the caller's own follows. The other messages become turns.
func (Messages) Compose(b *Body, p Prompt, dst []byte, edits []Edit) (Composed, error) {
	out, err := composeMessages(b, p, dst, edits, "messages", inMessages)
	if err != nil {
		return out, err
	}
	if limit := b.Sent("max_tokens", out.Edits); limit == nil || isNull(limit) {
		return out, fault.New(fault.InvalidRequest, "Neither the request nor the prompt says how long an answer may be, which the Messages API has to know: send \"max_tokens\".").
			WithParam("max_tokens")
	}
	return out, nil
}

// Compose implements API: as for Messages, without what only an answer has a use for.
func (CountTokens) Compose(b *Body, p Prompt, dst []byte, edits []Edit) (Composed, error) {
	return composeMessages(b, p, dst, edits, "messages/count_tokens", inCount)
}

func composeMessages(b *Body, p Prompt, dst []byte, edits []Edit, form string, in func(*template.Content) (*template.Content, error)) (Composed, error) {
	out := Composed{Rendered: dst}
	sent, err := b.Messages()
	if err != nil {
		return out, err
	}
	own := WithContent(sent)
	changed := len(own) != len(sent)
	if p.LastTaken {
		own, _ = cutLast(own)
		changed = true
	}
	content, err := p.Version.Form(form, in)
	if err != nil {
		return out, err
	}
	p.Locks.name, p.Locks.messages, p.Locks.More = "messages", own, inMessagesWords(p.Locks.More)
	if out.Merged, err = Merge(b, content, p.Locks, edits); err != nil {
		return out, err
	}
	system, err := ownSystem(b)
	if err != nil {
		return out, err
	}
	if isIgnored(out.Ignored, "messages") {
		own, changed = nil, true
	}
	if isIgnored(out.Ignored, "system") {
		system = nil
	}
	messages, err := p.Values.Render()
	if err != nil {
		return out, err
	}
	before := len(out.Rendered)
	leading := out.guidance(messages, system)
	rest := messages[leading:]
	t := turns{list: append(out.Rendered, '[')}
	from := len(out.Rendered)
	brings, placed := false, false
	for i := range rest {
		if rest[i].Caller {
			placed = true
			t.verbatim(inner(own))
			continue
		}
		brings = true
		if err = t.message(&rest[i]); err != nil {
			return out, err
		}
	}
	if !placed {
		t.verbatim(inner(own))
	}
	if len(t.list) == from+1 {
		return out, fault.New(fault.InvalidRequest, "The prompt has no message but its system text, and the request has none: send \"messages\".").WithParam("messages")
	}
	t.list = append(t.list, ']')
	out.Rendered = t.list
	out.Messages = out.Rendered[before:]
	if brings || changed {
		out.Edits = append(out.Edits, Edit{Name: "messages", Value: out.Rendered[from:len(out.Rendered):len(out.Rendered)]})
	}
	return out, nil
}

// ownSystem is the caller's system text as blocks, joined by commas; nil for none.
func ownSystem(b *Body) ([]byte, error) {
	system, ok := b.Get("system")
	switch {
	case !ok || isNull(system) || string(system) == `""`:
		return nil, nil
	case system[0] == '[':
		return inner(system), nil
	case system[0] == '"':
		return append(append([]byte(`{"type":"text","text":`), system...), '}'), nil
	}
	return nil, fault.New(fault.InvalidRequest, "\"system\" must be a text or a list of text blocks.").WithParam("system")
}

// guidance makes the edit of "system" of the messages that lead, and tells how many they are.
func (c *Composed) guidance(messages []template.Rendered, own []byte) (leading int) {
	const head = `[{"type":"text","text":`
	before := len(c.Rendered)
	if len(own) > 0 {
		c.Rendered = append(c.Rendered, head...)
	}
	text := c.Rendered
	text = append(text, '"')
	from := len(text)
	for ; leading < len(messages); leading++ {
		m := &messages[leading]
		if m.Message.Type == template.TypePlaceholder || m.Message.Role != "system" && m.Message.Role != "developer" {
			break
		}
		more, ok := appendPlain(text, m, len(text) > from)
		if !ok {
			break
		}
		text = more
	}
	if len(text) == from {
		c.Rendered = c.Rendered[:before]
		return leading
	}
	text = append(text, '"')
	c.Rendered = text
	if len(own) > 0 {
		c.Rendered = append(append(append(c.Rendered, "},"...), own...), ']')
	}
	c.Edits = append(c.Edits, Edit{Name: "system", Value: c.Rendered[before:len(c.Rendered):len(c.Rendered)]})
	return leading
}

// appendPlain appends what a message's parts say, as it stands in a JSON string, behind an empty line where something stands before it. ok is false when the
// message holds more than text.
func appendPlain(dst []byte, m *template.Rendered, follows bool) (text []byte, ok bool) {
	for _, p := range m.Parts {
		more := p.Text
		if p.Media != nil {
			if p.Input == nil || p.Input.Type != template.InputText {
				return nil, false
			}
			more = p.Input.Text[1 : len(p.Input.Text)-1]
		}
		if follows && len(more) > 0 {
			dst = append(dst, `\n\n`...)
			follows = false
		}
		dst = append(dst, more...)
	}
	return dst, true
}

// turns are the messages of a request, as they are written.
type turns struct {
	list    []byte // from its bracket on, behind what was rendered before
	results bool   // the last one is of results of tools, and takes further ones
}

// verbatim appends messages of this shape, joined by commas.
func (t *turns) verbatim(messages []byte) {
	if len(messages) == 0 {
		return
	}
	if t.list[len(t.list)-1] != '[' {
		t.list = append(t.list, ',')
	}
	t.list = append(t.list, messages...)
	t.results = false
}

// say appends a message. content is a JSON string or a list of blocks; one that says nothing is left out, since the API takes none.
func (t *turns) say(role string, content []byte) {
	switch string(content) {
	case "", "null", `""`, "[]":
		return
	}
	m := append([]byte(`{"role":"`+role+`","content":`), content...)
	t.verbatim(append(m, '}'))
}

// result appends what a tool answered: those of one turn stand in one message.
func (t *turns) result(callID string, content []byte) {
	block := appendString([]byte(`{"type":"tool_result","tool_use_id":`), callID)
	if s := string(content); s != "" && s != "null" && s != `""` && s != "[]" {
		block = append(append(block, `,"content":`...), content...)
	}
	block = append(block, '}')
	if t.results {
		t.list = append(append(append(t.list[:len(t.list)-len("]}")], ','), block...), "]}"...)
		return
	}
	t.say("user", append(append([]byte{'['}, block...), ']'))
	t.results = true
}

// message appends a rendered message.
func (t *turns) message(m *template.Rendered) error {
	if m.Message.Type == template.TypePlaceholder {
		return t.history(m.Items)
	}
	role := m.Message.Role
	if role == "" {
		role = "user" // the one message of a text prompt
	}
	var content []byte
	if m.Whole {
		content = append(append(append(content, '"'), m.Parts[0].Text...), '"')
	} else {
		content = []byte{'['}
		for i := range m.Parts {
			var err error
			if content, err = appendPart(content, &m.Parts[i]); err != nil {
				return err
			}
		}
		content = append(content, ']')
	}
	return t.spoken(role, content, m.Message.ToolCalls, m.Message.ToolCallID)
}

// spoken appends what one message of a chat comes to.
func (t *turns) spoken(role string, content, calls []byte, callID string) error {
	switch role {
	case "tool":
		t.result(callID, content)
		return nil
	case "system", "developer":
		return fault.New(fault.InvalidTemplate, "The prompt has a %s message behind others, or one that is no text, for which the Messages API has no place: "+
			"call it as a chat, or ask an editor to put its system text first.", role).WithParam("prompt")
	case "user", "assistant":
	default:
		return fault.New(fault.InvalidRequest, "A message of the role %s cannot be sent as one of the Messages API.", quoteForMessage(role)).WithParam("prompt")
	}
	if len(calls) == 0 || isNull(calls) || role != "assistant" {
		t.say(role, content)
		return nil
	}
	blocks := []byte{'['}
	switch {
	case len(content) > 2 && content[0] == '"':
		blocks = append(append(append(blocks, `{"type":"text","text":`...), content...), '}')
	case len(content) > 2 && content[0] == '[':
		blocks = append(blocks, inner(content)...)
	}
	blocks, err := appendCalls(blocks, calls)
	if err != nil {
		return err
	}
	t.say(role, append(blocks, ']'))
	return nil
}

// appendCalls appends the tool calls of a chat's message as blocks.
func appendCalls(blocks, calls []byte) ([]byte, error) {
	var list []struct {
		ID       string
		Function struct {
			Name      string
			Arguments string
		}
	}
	if err := json.Unmarshal(calls, &list); err != nil {
		return nil, fault.New(fault.InvalidTemplate, "The prompt's tool calls cannot be sent as blocks of a message: they are no list of function calls.").WithParam("prompt")
	}
	for _, call := range list {
		if call.Function.Name == "" {
			return nil, fault.New(fault.InvalidRequest, "A tool call in the prompt's messages is no function's: it cannot be sent in the Messages API.").WithParam("prompt")
		}
		input := bytes.TrimSpace([]byte(call.Function.Arguments))
		if len(input) == 0 {
			input = []byte("{}")
		}
		if input[0] != '{' || !json.Valid(input) {
			return nil, fault.New(fault.InvalidRequest, "The arguments of the tool call %s in the prompt's messages are no JSON object: the Messages API takes no others.",
				quoteForMessage(call.Function.Name)).WithParam("prompt")
		}
		if len(blocks) > 1 {
			blocks = append(blocks, ',')
		}
		blocks = appendString(append(blocks, `{"type":"tool_use","id":`...), call.ID)
		blocks = appendString(append(blocks, `,"name":`...), call.Function.Name)
		blocks = append(append(append(blocks, `,"input":`...), input...), '}')
	}
	return blocks, nil
}

// history appends the messages that a variable brings: those of this shape as they are, those of a chat as this shape has them.
func (t *turns) history(items []byte) error {
	for one := range elementsOf(append(append([]byte{'['}, items...), ']')) {
		var m struct {
			Type, Role, Refusal string
			Content             json.RawMessage
			ToolCalls           json.RawMessage `json:"tool_calls"`
			ToolCallID          string          `json:"tool_call_id"`
		}
		if err := json.Unmarshal(one, &m); err != nil {
			return fault.New(fault.InvalidVariable, "A placeholder's variable holds something that is no message.").WithParam("prompt.variables")
		}
		if m.Type != "" && m.Type != "message" {
			return fault.New(fault.InvalidVariable, "A placeholder's variable holds an item of type %s: send messages, of a chat or of the Messages API.", quoteForMessage(m.Type)).
				WithParam("prompt.variables")
		}
		content, same, err := blocksOf(m.Content)
		if err != nil {
			return err
		}
		if same && onlySays(one) && (m.Role == "user" || m.Role == "assistant") {
			if !emptyContent(m.Content) {
				t.verbatim(one)
			}
			continue
		}
		if m.Refusal != "" && emptyContent(content) {
			content = appendString(nil, m.Refusal)
		}
		if err = t.spoken(m.Role, content, m.ToolCalls, m.ToolCallID); err != nil {
			return err
		}
	}
	return nil
}

// onlySays reports whether a message has a role and a content, and nothing else.
func onlySays(message []byte) bool {
	for key := range membersOf(message) {
		if string(key) != `"role"` && string(key) != `"content"` {
			return false
		}
	}
	return true
}
