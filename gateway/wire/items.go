package wire

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry/template"
)

// turn is what a prompt and a request bring to the input of one response.
type turn struct {
	messages     []template.Rendered
	own          items  // the caller's
	instructions []byte // the caller's, a JSON string; nil for none
	continues    bool   // what came before is at the provider
	changed      bool   // own is not what stands in the body
	taken        bool   // the caller's last message became a variable
}

// compose makes the edits of "instructions" and "input".
func (c *Composed) compose(t turn) error {
	before := len(c.Rendered)
	defer func() { c.Messages = c.Rendered[before:] }()
	leading := 0
	for leading < len(t.messages) && isGuidance(&t.messages[leading]) {
		leading++
	}
	rest := t.messages[leading:]
	alone := !t.continues && len(rest) == 0 && t.own.none() && t.instructions == nil
	if alone { // a response needs some input
		leading, rest = 0, t.messages
	}
	if leading > 0 {
		from := len(c.Rendered)
		c.Rendered = append(c.Rendered, '"')
		for i := range t.messages[:leading] {
			if i > 0 {
				c.Rendered = append(c.Rendered, `\n\n`...)
			}
			for _, p := range t.messages[i].Parts {
				c.Rendered = append(c.Rendered, p.Text...)
			}
		}
		c.Rendered = append(c.Rendered, '"')
		c.Edits = append(c.Edits, Edit{Name: "instructions", Value: c.Rendered[from:len(c.Rendered):len(c.Rendered)]})
	}
	if t.continues { // the provider has the messages of the first turn; what the caller says now is new
		rest = slices.DeleteFunc(slices.Clone(rest), func(m template.Rendered) bool { return !m.Caller && (!t.taken || !m.Last) })
		if t.own.none() && !slices.ContainsFunc(rest, func(m template.Rendered) bool { return !m.Caller }) {
			return fault.New(fault.InvalidRequest, "The request goes on from a response and says nothing new: send \"input\". The prompt's messages went with the first one.").WithParam("input")
		}
	}
	brings := slices.ContainsFunc(rest, func(m template.Rendered) bool { return !m.Caller })
	if !brings && !t.changed && (leading == 0 || t.instructions == nil) {
		return nil // the input stays as it was sent
	}
	from := len(c.Rendered)
	c.Rendered = append(c.Rendered, '[')
	if leading > 0 && t.instructions != nil {
		c.Rendered = append(append(append(c.Rendered, `{"role":"developer","content":`...), t.instructions...), '}')
	}
	placed := false
	for i := range rest {
		m := &rest[i]
		if m.Caller {
			placed = true
			c.items(&t.own)
		} else if err := c.message(m); err != nil {
			return err
		}
	}
	if !placed {
		c.items(&t.own)
	}
	c.Rendered = append(c.Rendered, ']')
	c.Edits = append(c.Edits, Edit{Name: "input", Value: c.Rendered[from:len(c.Rendered):len(c.Rendered)]})
	return nil
}

// isGuidance reports whether a message is a system's or developer's text, and nothing but text.
func isGuidance(m *template.Rendered) bool {
	if m.Message.Type == template.TypePlaceholder || m.Message.Role != "system" && m.Message.Role != "developer" {
		return false
	}
	for _, p := range m.Parts {
		if p.Media != nil {
			return false
		}
	}
	return true
}

// item appends an item, with a comma where one is due.
func (c *Composed) item(item []byte) { c.items(&items{list: item}) }

// items appends a caller's items.
func (c *Composed) items(own *items) {
	if own.none() {
		return
	}
	if c.Rendered[len(c.Rendered)-1] != '[' {
		c.Rendered = append(c.Rendered, ',')
	}
	c.Rendered = own.appendTo(c.Rendered)
}

// message appends a rendered message as items.
func (c *Composed) message(m *template.Rendered) error {
	if m.Message.Type == template.TypePlaceholder {
		return c.history(m.Items)
	}
	var content []byte
	if m.Whole {
		content = append(append(append(content, '"'), m.Parts[0].Text...), '"')
	} else {
		list := []byte{'['}
		for i := range m.Parts {
			var err error
			if list, err = appendInputPart(list, &m.Parts[i], m.Message.Role); err != nil {
				return err
			}
		}
		list = append(list, ']')
		content = list
	}
	return c.spoken(m.Message.Role, content, m.Message.ToolCalls, m.Message.ToolCallID)
}

// spoken appends what one message of a chat comes to: an item for its content, and one for each tool call.
func (c *Composed) spoken(role string, content, calls []byte, callID string) error {
	if role == "tool" {
		if len(content) == 0 || isNull(content) {
			content = []byte(`""`)
		}
		item := appendString([]byte(`{"type":"function_call_output","call_id":`), callID)
		c.item(append(append(append(item, `,"output":`...), content...), '}'))
		return nil
	}
	if s := string(content); s != "[]" && s != `""` && s != "null" && s != "" {
		item := appendString([]byte(`{"role":`), role)
		c.item(append(append(append(item, `,"content":`...), content...), '}'))
	}
	if len(calls) == 0 || isNull(calls) {
		return nil
	}
	var list []struct {
		ID       string
		Function struct {
			Name      string
			Arguments string
		}
	}
	if err := json.Unmarshal(calls, &list); err != nil {
		return fault.New(fault.InvalidTemplate, "The prompt's tool calls cannot be sent as items of a response: they are no list of function calls.").WithParam("prompt")
	}
	for _, call := range list {
		if call.Function.Name == "" {
			return fault.New(fault.InvalidRequest, "A tool call in the prompt's messages is no function's: it cannot be sent in a response.").WithParam("prompt")
		}
		item := appendString([]byte(`{"type":"function_call","call_id":`), call.ID)
		item = appendString(append(item, `,"name":`...), call.Function.Name)
		item = appendString(append(item, `,"arguments":`...), call.Function.Arguments)
		c.item(append(item, '}'))
	}
	return nil
}

// history appends the messages that a variable brings: items as they are, messages of a chat as items.
func (c *Composed) history(items []byte) error {
	for one := range elementsOf(append(append([]byte{'['}, items...), ']')) {
		var m struct {
			Type       string
			Role       string
			Content    json.RawMessage
			ToolCalls  json.RawMessage `json:"tool_calls"`
			ToolCallID string          `json:"tool_call_id"`
		}
		if err := json.Unmarshal(one, &m); err != nil {
			return fault.New(fault.InvalidVariable, "A placeholder's variable holds something that is no message.").WithParam("prompt.variables")
		}
		switch m.Type {
		case "":
		case "item_reference":
			return fault.New(fault.StatefulReferenceRefused, "A placeholder's variable refers to an item at the provider, and nothing says whose: send the item itself.").WithParam("prompt.variables")
		default:
			c.item(one)
			continue
		}
		content, err := chatContent(m.Content, m.Role)
		if err != nil {
			return err
		}
		if err = c.spoken(m.Role, content, m.ToolCalls, m.ToolCallID); err != nil {
			return err
		}
	}
	return nil
}

// chatContent is a chat message's content as an item has it.
func chatContent(content []byte, role string) ([]byte, error) {
	if len(content) == 0 || content[0] != '[' {
		return content, nil
	}
	list := []byte{'['}
	for part := range elementsOf(content) {
		var err error
		if list, err = appendInputPart(list, &template.RenderedPart{Media: part}, role); err != nil {
			return nil, err
		}
	}
	return append(list, ']'), nil
}

// appendInputPart appends a content part, as an item of this role has it.
func appendInputPart(dst []byte, p *template.RenderedPart, role string) ([]byte, error) {
	if dst[len(dst)-1] != '[' {
		dst = append(dst, ',')
	}
	if p.Media == nil {
		return append(append(append(textPart(dst, role), '"'), p.Text...), `"}`...), nil
	}
	in := p.Input
	if in == nil && isItemPart(p.Media) {
		return append(dst, p.Media...), nil
	}
	if in == nil {
		parsed, ok, err := template.ParsePart(p.Media)
		if !ok || err != nil {
			return nil, fault.New(fault.InvalidRequest, "A content part of a message cannot be sent in a response: it must be text, an image, audio or a file.").WithParam("prompt")
		}
		in = &parsed
	}
	member := func(name string, value json.RawMessage) {
		if value == nil {
			return
		}
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = append(append(append(append(dst, '"'), name...), `":`...), value...)
	}
	switch in.Type {
	case template.InputText:
		return append(append(textPart(dst, role), in.Text...), '}'), nil
	case template.InputImage:
		dst = append(dst, `{"type":"input_image"`...)
		member("image_url", in.URL)
		member("file_id", in.FileID)
		member("detail", in.Detail)
	case template.InputAudio:
		dst = append(dst, `{"type":"input_audio","input_audio":{`...)
		member("data", in.Data)
		member("format", in.Format)
		dst = append(dst, '}')
	case template.InputFile:
		dst = append(dst, `{"type":"input_file"`...)
		member("file_id", in.FileID)
		member("file_url", in.FileURL)
		member("file_data", in.Data)
		member("filename", in.Filename)
	}
	return append(dst, '}'), nil
}

// isItemPart reports whether a part is one of an item's already.
func isItemPart(part []byte) bool {
	for key, value := range membersOf(part) {
		if string(key) == `"type"` {
			switch Word(value) {
			case "input_text", "input_image", "input_file", "input_audio", "output_text", "refusal":
				return true
			}
		}
	}
	return false
}

func textPart(dst []byte, role string) []byte {
	if role == "assistant" {
		return append(dst, `{"type":"output_text","text":`...)
	}
	return append(dst, `{"type":"input_text","text":`...)
}

// inResponses is a version's configuration under the names that the Responses API has for it.
func inResponses(c *template.Content) (*template.Content, error) {
	out := *c
	out.Parameters = make(map[string]json.RawMessage, len(c.Parameters)+1)
	var text, reasoning map[string]json.RawMessage
	set := func(object *map[string]json.RawMessage, name string, value json.RawMessage) {
		if *object == nil {
			*object = map[string]json.RawMessage{}
		}
		(*object)[name] = value
	}
	if whole := c.Parameters["text"]; len(whole) > 0 && json.Unmarshal(whole, &text) != nil {
		text = nil
	}
	for _, name := range slices.Sorted(maps.Keys(c.Parameters)) {
		value := c.Parameters[name]
		switch name {
		case "max_tokens", "max_completion_tokens":
			if c.Parameters["max_output_tokens"] == nil { // which says it in this API's words
				out.Parameters["max_output_tokens"] = value
			}
		case "reasoning_effort":
			set(&reasoning, "effort", value)
		case "verbosity":
			set(&text, "verbosity", value)
		case "tool_choice":
			flat, err := lifted(value, "function")
			if err != nil {
				return nil, err
			}
			out.Parameters[name] = flat
		default:
			out.Parameters[name] = value
		}
	}
	if out.ResponseFormat = nil; len(c.ResponseFormat) > 0 {
		format, err := lifted(c.ResponseFormat, "json_schema")
		if err != nil {
			return nil, err
		}
		set(&text, "format", format)
	}
	for name, object := range map[string]map[string]json.RawMessage{"text": text, "reasoning": reasoning} {
		if object == nil || name == "reasoning" && out.Parameters[name] != nil {
			continue
		}
		b, err := json.Marshal(object)
		if err != nil {
			return nil, err
		}
		out.Parameters[name] = b
	}
	if len(c.Tools) > 0 {
		var tools []json.RawMessage
		if err := json.Unmarshal(c.Tools, &tools); err != nil {
			return nil, err
		}
		for i := range tools {
			var err error
			if tools[i], err = lifted(tools[i], "function"); err != nil {
				return nil, err
			}
		}
		b, err := json.Marshal(tools)
		if err != nil {
			return nil, err
		}
		out.Tools = b
	}
	return &out, nil
}

// lifted is an object whose member of this name, an object too, gave its own members to it; any other value stays as it is.
func lifted(v json.RawMessage, name string) (json.RawMessage, error) {
	var outer map[string]json.RawMessage
	if bytes.TrimSpace(v)[0] != '{' {
		return v, nil
	}
	if err := json.Unmarshal(v, &outer); err != nil {
		return nil, err
	}
	inside := outer[name]
	if len(inside) == 0 || inside[0] != '{' {
		return v, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(inside, &members); err != nil {
		return nil, err
	}
	delete(outer, name)
	for key, value := range members {
		outer[key] = value
	}
	return json.Marshal(outer)
}
