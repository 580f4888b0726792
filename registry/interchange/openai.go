package interchange

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/promptgate/promptgate/registry/template"
)

// Foreign is a prompt of another system.
type Foreign struct {
	ID       string // there, e.g. pmpt_68aa…: what its callers send
	Name     string // what people call it; may be ""
	Default  int    // the version that calls without one got; 0: it is not said
	Versions []ForeignVersion
}

// ForeignVersion is one version of it.
type ForeignVersion struct {
	Number  int // 0: it is not said
	Content template.Content
}

// maxForeign bounds what is read, in bytes.
const maxForeign = 64 << 20

// OpenAI reads prompt objects of OpenAI's from JSON: one or several of them, a list, an object with such a list under "data", "prompts" or "versions",
// or answers of the Responses API to calls of prompts, whose "instructions" hold the messages. Versions of one id are put together. An error names the
// place of what cannot be read.
func OpenAI(r io.Reader) ([]Foreign, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxForeign+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxForeign:
		return nil, fmt.Errorf("it is longer than %d MiB: import it in parts", maxForeign>>20)
	}
	in := openAI{}
	dec := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))))
	for n := 1; ; n++ {
		var value json.RawMessage
		if err := dec.Decode(&value); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("it is no JSON: %w", err)
		}
		if err := in.take(value, nil, "value "+strconv.Itoa(n)); err != nil {
			return nil, err
		}
	}
	if len(in.found) == 0 {
		return nil, errors.New("there is no prompt in it: an object with an \"id\" that starts with pmpt_")
	}
	for i := range in.found {
		slices.SortStableFunc(in.found[i].Versions, func(a, b ForeignVersion) int { return a.Number - b.Number })
	}
	return in.found, nil
}

// openAI gathers what is found.
type openAI struct{ found []Foreign }

// promptObject is what is read of a prompt, of one of its versions, or of a response.
type promptObject struct {
	ID      string          `json:"id"`
	Object  string          `json:"object"`
	Name    string          `json:"name"`
	Version json.RawMessage `json:"version"`
	Default json.RawMessage `json:"default_version"`
	Current json.RawMessage `json:"current_version"`
	Is      bool            `json:"is_default"`

	Prompt       json.RawMessage `json:"prompt"` // of a response: which one it ran; of an export: the same as messages
	Instructions json.RawMessage `json:"instructions"`
	Messages     json.RawMessage `json:"messages"`
	Input        json.RawMessage `json:"input"`

	Model      string          `json:"model"`
	Tools      json.RawMessage `json:"tools"`
	ToolChoice json.RawMessage `json:"tool_choice"`
	Text       json.RawMessage `json:"text"`
	Reasoning  json.RawMessage `json:"reasoning"`

	Data     []json.RawMessage `json:"data"`
	Prompts  []json.RawMessage `json:"prompts"`
	Versions []json.RawMessage `json:"versions"`
}

func (in *openAI) take(value json.RawMessage, of *promptObject, at string) error {
	if value[0] == '[' {
		var list []json.RawMessage
		if err := json.Unmarshal(value, &list); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		return in.all(list, of, at)
	}
	var o promptObject
	if of != nil { // a version says what differs
		o.ID, o.Name, o.Default, o.Current = of.ID, of.Name, of.Default, of.Current
	}
	outer := o.ID
	if err := json.Unmarshal(value, &o); err != nil {
		return fmt.Errorf("%s is no prompt: %w", at, err)
	}
	if !strings.HasPrefix(o.ID, "pmpt_") && outer != "" {
		o.ID = outer
	}
	for name, list := range map[string][]json.RawMessage{"data": o.Data, "prompts": o.Prompts} {
		if list != nil {
			return in.all(list, nil, at+"."+name)
		}
	}
	if o.Versions != nil {
		return in.all(o.Versions, &o, at+".versions")
	}
	if o.Object == "response" {
		var ran struct {
			ID      string          `json:"id"`
			Version json.RawMessage `json:"version"`
		}
		if err := json.Unmarshal(o.Prompt, &ran); err != nil || ran.ID == "" {
			return fmt.Errorf("%s is a response to a call of no prompt", at)
		}
		o.ID, o.Version, o.Prompt, o.Input = ran.ID, ran.Version, nil, nil
	}
	if !strings.HasPrefix(o.ID, "pmpt_") {
		return fmt.Errorf("%s has no \"id\" that starts with pmpt_", at)
	}
	return in.add(&o, value, at)
}

func (in *openAI) all(list []json.RawMessage, of *promptObject, at string) error {
	for i, value := range list {
		if err := in.take(value, of, fmt.Sprintf("%s[%d]", at, i)); err != nil {
			return err
		}
	}
	return nil
}

// add puts a version with the others of its prompt.
func (in *openAI) add(o *promptObject, value json.RawMessage, at string) error {
	number, err := numberOf(o.Version)
	if err != nil {
		return fmt.Errorf("%s: its version %s is no whole number", at, o.Version)
	}
	content, err := o.content(value)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	i := slices.IndexFunc(in.found, func(f Foreign) bool { return f.ID == o.ID })
	if i < 0 {
		in.found, i = append(in.found, Foreign{ID: o.ID}), len(in.found)
	}
	f := &in.found[i]
	if f.Name == "" {
		f.Name = o.Name
	}
	if slices.ContainsFunc(f.Versions, func(v ForeignVersion) bool { return v.Number == number }) {
		return fmt.Errorf("%s: version %d of %s is there twice", at, number, o.ID)
	}
	f.Versions = append(f.Versions, ForeignVersion{Number: number, Content: content})
	for _, said := range []json.RawMessage{o.Default, o.Current} {
		if n, err := numberOf(said); err == nil && n > 0 {
			f.Default = n
		}
	}
	if o.Is {
		f.Default = number
	}
	return nil
}

// numberOf is a version's number, written as one or as text; 0 where there is none.
func numberOf(v json.RawMessage) (int, error) {
	s := strings.Trim(string(v), `"`)
	if s == "" || s == "null" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err == nil && n < 1 {
		err = strconv.ErrRange
	}
	return n, err
}

// kept are the fields of a prompt that go into a version under the same name.
var kept = [...]string{"temperature", "top_p", "top_logprobs", "parallel_tool_calls", "max_tool_calls", "truncation"} //nolint:gochecknoglobals // a constant

// content is what a version comes to here: named as for chats, which every API can be given.
func (o *promptObject) content(value json.RawMessage) (c template.Content, err error) {
	for _, said := range []json.RawMessage{o.Instructions, o.Prompt, o.Messages, o.Input} {
		more, err := chatMessages(said)
		if err != nil {
			return c, err
		}
		c.Messages = append(c.Messages, more...)
	}
	if len(c.Messages) == 0 {
		return c, errors.New("it has no messages: \"instructions\", \"messages\" or \"input\"")
	}
	c.Model, c.Parameters = o.Model, map[string]json.RawMessage{}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(value, &fields); err != nil {
		return c, err
	}
	set := func(name string, v json.RawMessage) {
		if len(v) > 0 && string(v) != "null" {
			c.Parameters[name] = v
		}
	}
	for _, name := range kept {
		set(name, fields[name])
	}
	set("max_tokens", fields["max_output_tokens"])
	if len(o.Tools) > 0 && string(o.Tools) != "null" && string(o.Tools) != "[]" {
		if c.Tools, err = lowered(o.Tools, "function"); err != nil {
			return c, fmt.Errorf("tools: %w", err)
		}
	}
	choice, err := lowered(o.ToolChoice, "function")
	if err != nil {
		return c, fmt.Errorf("tool_choice: %w", err)
	}
	if string(choice) != `"auto"` { // which is what nobody chose
		set("tool_choice", choice)
	}
	var text struct{ Format, Verbosity json.RawMessage }
	if len(o.Text) > 0 && json.Unmarshal(o.Text, &text) == nil {
		set("verbosity", text.Verbosity)
		if c.ResponseFormat, err = lowered(text.Format, "json_schema"); err != nil {
			return c, fmt.Errorf("text.format: %w", err)
		}
		if string(c.ResponseFormat) == "null" || bytes.Contains(c.ResponseFormat, []byte(`"type":"text"`)) || bytes.Contains(c.ResponseFormat, []byte(`"type": "text"`)) {
			c.ResponseFormat = nil
		}
	}
	var reasoning map[string]json.RawMessage
	if len(o.Reasoning) > 0 && json.Unmarshal(o.Reasoning, &reasoning) == nil {
		set("reasoning_effort", reasoning["effort"])
	}
	return c, nil
}

// lowered is an object of this type, or each in a list, with its members under the type's name, as chats have them; anything else is as it was.
func lowered(v json.RawMessage, kind string) (json.RawMessage, error) {
	if len(v) == 0 || v[0] != '{' && v[0] != '[' {
		return v, nil
	}
	if v[0] == '[' {
		var list []json.RawMessage
		if err := json.Unmarshal(v, &list); err != nil {
			return nil, err
		}
		for i := range list {
			var err error
			if list[i], err = lowered(list[i], kind); err != nil {
				return nil, err
			}
		}
		return json.Marshal(list)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(v, &members); err != nil {
		return nil, err
	}
	if string(members["type"]) != strconv.Quote(kind) || members[kind] != nil {
		return v, nil
	}
	delete(members, "type")
	inside, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]json.RawMessage{"type": json.RawMessage(strconv.Quote(kind)), kind: inside})
}

// chatMessages reads a text, which a developer says, or a list of messages.
func chatMessages(v json.RawMessage) ([]template.Message, error) {
	if len(v) == 0 || string(v) == "null" || string(v) == `""` {
		return nil, nil
	}
	if v[0] == '"' {
		var text string
		if err := json.Unmarshal(v, &text); err != nil {
			return nil, err
		}
		return []template.Message{{Role: "developer", Text: text}}, nil
	}
	var list []struct {
		Type    string          `json:"type"`
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	}
	if err := json.Unmarshal(v, &list); err != nil {
		return nil, fmt.Errorf("its messages cannot be read: %w", err)
	}
	out := make([]template.Message, 0, len(list))
	for i, m := range list {
		if m.Type != "" && m.Type != "message" || m.Role == "" {
			return nil, fmt.Errorf("its item %d is no message but %q: take it out, and import again", i+1, m.Type)
		}
		one := template.Message{Role: m.Role}
		if err := contentOf(&one, m.Content); err != nil {
			return nil, fmt.Errorf("its message %d: %w", i+1, err)
		}
		out = append(out, one)
	}
	return out, nil
}
