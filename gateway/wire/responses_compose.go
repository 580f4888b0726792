package wire

import (
	"bytes"
	"slices"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry/template"
)

// Compose implements API: leading system and developer text becomes "instructions", behind which the caller's own follow as a developer item. The other
// messages go before the caller's input, unless that continues a response that holds them already.
func (Responses) Compose(b *Body, p Prompt, dst []byte, edits []Edit) (Composed, error) {
	out := Composed{Rendered: dst}
	own, err := inputItems(b)
	if err != nil {
		return out, err
	}
	if p.LastTaken {
		if own = (items{}); b.isList("input") {
			input, _ := b.Get("input")
			rest, _ := cutLast(input)
			own.list = inner(rest)
		}
	}
	p.Locks.name, p.Locks.items = "input", own
	content, err := p.Version.Form(Responses{}.Name(), inResponses)
	if err != nil {
		return out, err
	}
	if out.Merged, err = Merge(b, content, p.Locks, edits); err != nil {
		return out, err
	}
	instructions, ok := b.Get("instructions")
	switch {
	case !ok || isNull(instructions) || string(instructions) == `""`:
		instructions = nil
	case instructions[0] != '"':
		return out, fault.New(fault.InvalidRequest, "\"instructions\" must be a text.").WithParam("instructions")
	}
	if isIgnored(out.Ignored, "input") {
		own = items{}
	}
	if isIgnored(out.Ignored, "instructions") {
		instructions = nil
	}
	messages, err := p.Values.Render()
	if err != nil {
		return out, err
	}
	param, _ := Responses{}.Continues(b, out.Edits)
	err = out.compose(turn{messages: messages, own: own, instructions: instructions, continues: param != "", taken: p.LastTaken, changed: p.LastTaken || isIgnored(out.Ignored, "input")})
	out.Echoed = p.Echoed
	out.Echoed = append(out.Echoed, "input", "instructions")
	for i := range out.Edits {
		if e := &out.Edits[i]; e.Value != nil && !slices.Contains(out.Echoed, e.Name) {
			out.Echoed = append(out.Echoed, e.Name)
		}
	}
	return out, err
}

// Echoes are all fields in which a response can repeat what a version says.
func (Responses) Echoes(version *template.Compiled) ([]string, error) {
	content, err := version.Form(Responses{}.Name(), inResponses)
	if err != nil {
		return nil, err
	}
	names := []string{"input", "instructions", "tools", "text", "tool_choice"}
	for name := range content.Parameters {
		names = append(names, name)
	}
	return names, nil
}

func (b *Body) isList(name string) bool {
	v, _ := b.Get(name)
	return len(v) > 0 && v[0] == '['
}

// items are a caller's input: a list, or one message's text. The zero value is none.
type items struct {
	list []byte // joined by commas
	text []byte // a JSON string, which stands for a user's message; nil for a list
}

func (i *items) none() bool { return len(i.list) == 0 && i.text == nil }

// appendTo appends the items, joined by commas.
func (i *items) appendTo(dst []byte) []byte {
	if i.text == nil {
		return append(dst, i.list...)
	}
	return append(append(append(dst, `{"role":"user","content":`...), i.text...), '}')
}

// inputItems is the caller's input.
func inputItems(b *Body) (items, error) {
	input, ok := b.Get("input")
	switch {
	case !ok || isNull(input) || string(input) == `""`:
		return items{}, nil
	case input[0] == '[':
		return items{list: inner(WithContent(input))}, nil
	case input[0] == '"':
		return items{text: input}, nil
	}
	return items{}, fault.New(fault.InvalidRequest, "\"input\" must be a text or a list of items.").WithParam("input")
}

// inner is what stands between the brackets of an array.
func inner(list []byte) []byte {
	list = bytes.TrimSpace(list)
	if len(list) < 2 {
		return nil
	}
	return bytes.TrimSpace(list[1 : len(list)-1])
}
