package template

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/schemacost"
)

const variablePath = "prompt.variables."

// Values are one call's variables, judged and ready to be put into a version's texts. They refer to the JSON that was bound. The zero value is ready for
// BindTo, again and again, so that Values can be pooled.
type Values struct {
	c       *Compiled
	ctx     context.Context //nolint:containedctx // the call's, which these values end with
	values  []value
	members []value // what members.extract found
	nodes   []node  // of variables that sections use, made when the first needs them
	data    int     // values that nodes may still hold
	limit   int     // of the length of what is built
	steps   int     // of sections, left
	meter   schemacost.Meter
	few     [8]value // room for the values of most versions

	// Memory of Render.
	rendered []Rendered
	parts    []RenderedPart
	text     []byte
}

// What Values keep room for, at most: one large call must not cost memory for ever.
const (
	keptText  = 4 << 10
	keptParts = 64
)

// Reset forgets a call's variables, and what they were rendered to.
func (r *Values) Reset() {
	rendered, parts, text := r.rendered, r.parts, r.text
	if cap(text) > keptText {
		text = nil
	}
	if cap(parts) > keptParts || cap(rendered) > keptParts {
		rendered, parts = nil, nil
	}
	clear(rendered[:cap(rendered)])
	clear(parts[:cap(parts)])
	*r = Values{rendered: rendered[:0], parts: parts[:0], text: text[:0]}
}

// Bind judges a call's variables against their schemas: MissingVariable (also for several: all are named), then
// UnknownVariable or InvalidVariable, with Param "prompt.variables.<name>". A value is missing only when its name is absent: null,
// "", 0 and false are values. known tells whether any version of the prompt declares a name, whose value is then ignored; nil: none
// does. No message holds a value.
//
// Each value is read a fixed number of times, whatever the texts do with it, and what schemas cost is counted over all of them. When ctx
// ends Bind stops with its error.
func (c *Compiled) Bind(ctx context.Context, vars map[string]json.RawMessage, known func(name string) bool) (*Values, error) {
	v := new(Values)
	if err := c.BindTo(ctx, v, vars, known); err != nil {
		return nil, err
	}
	return v, nil
}

// BindTo is Bind to Values that have been used before, or not. After an error they are of no use but to be bound again.
func (c *Compiled) BindTo(ctx context.Context, v *Values, vars map[string]json.RawMessage, known func(name string) bool) error {
	v.Reset()
	v.c, v.ctx, v.data, v.steps, v.meter = c, ctx, maxDataSteps, maxRenderSteps, schemacost.NewMeter()
	if v.values = v.few[:0]; len(c.variables) > len(v.few) {
		v.values = make([]value, 0, len(c.variables))
	}
	found, missing := c.find(vars)
	if found < len(vars) { // names that are unknown, or in another form
		normal, twice := normalNames(vars)
		if twice != "" {
			return fault.New(fault.InvalidVariable, "the variable %q is sent twice, in two spellings that look the same; send it once", twice).WithParam(variablePath + twice)
		}
		vars = normal
		found, missing = c.find(vars)
	}
	if missing != nil {
		return missingFault(missing)
	}
	if c.slots > 0 {
		v.members = make([]value, c.slots)
	}
	for i := range c.variables {
		if err := ctx.Err(); err != nil {
			return err
		}
		declared := &c.variables[i]
		val := declared.value
		raw, given := vars[declared.name]
		if given {
			var err error
			if val, err = declared.take(raw, &v.meter); err != nil {
				return declared.invalid(err)
			}
		}
		v.values = append(v.values, val)
		if declared.members == nil {
			continue
		}
		if val.kind == valueParts {
			return declared.invalid(errors.New("the prompt reads a member of it; send a plain object"))
		}
		if val.kind == valueJSON {
			declared.members.extract(val.raw, 0, v.members)
		}
	}
	if found < len(vars) {
		if err := c.checkUnknown(vars, known); err != nil {
			return err
		}
	}
	return nil
}

// find counts the declared variables among vars, and names the required ones that are not.
func (c *Compiled) find(vars map[string]json.RawMessage) (found int, missing []string) {
	for i := range c.variables {
		if _, ok := vars[c.variables[i].name]; ok {
			found++
		} else if c.variables[i].required {
			missing = append(missing, c.variables[i].name)
		}
	}
	return found, missing
}

func missingFault(names []string) error {
	if len(names) == 1 {
		return fault.New(fault.MissingVariable, "the prompt needs the variable %q; send it in prompt.variables", names[0]).WithParam(variablePath + names[0])
	}
	return fault.New(fault.MissingVariable, "the prompt needs the variables %s; send them in prompt.variables", strings.Join(names, ", ")).
		WithParam(variablePath + names[0])
}

func (c *Compiled) checkUnknown(vars map[string]json.RawMessage, known func(name string) bool) error {
	var unknown []string
	for name := range vars {
		if _, ok := c.index[name]; !ok && (known == nil || !known(name)) {
			unknown = append(unknown, name)
		}
	}
	if unknown == nil {
		return nil
	}
	name := slices.Min(unknown)
	shown := strings.ToValidUTF8(name, "\ufffd")
	if len(shown) > MaxNameBytes {
		shown = strings.ToValidUTF8(shown[:MaxNameBytes], "") + "…"
	}
	return fault.New(fault.UnknownVariable, "no version of the prompt has a variable %q; remove it or correct its name", shown).WithParam(variablePath + shown)
}

// take classifies a given value and holds it to the variable's schema.
func (v *variable) take(raw json.RawMessage, meter *schemacost.Meter) (value, error) {
	var val value
	var err error
	if v.history {
		val, err = historyValue(raw)
	} else {
		val, err = classify(raw)
	}
	if err == nil && v.schema != nil {
		err = v.schema.check(val.checkable(raw), meter)
	}
	return val, err
}

func (v *variable) invalid(reason error) error {
	return fault.New(fault.InvalidVariable, "the variable %q cannot be used: %s", v.name, reason).WithParam(variablePath + v.name)
}

// AppendMessages appends the JSON array of messages for the provider to dst, which is returned as it was on an error. caller is
// the JSON array of messages that the caller sent, nil or empty for none; its items go, byte for byte, to the first placeholder
// that no variable fills, else to the end.
//
// Whatever the values are, the number and the roles of the messages are the template's: values end up inside of JSON strings,
// and images, audio and files as content parts of the message that names them. Only a placeholder's variable brings messages,
// none of role system or developer.
//
// The work is linear in the texts and what they print, counted where sections repeat, and stops with the context of Bind.
// Errors: InvalidVariable (no fit for its place), RequestTooLarge past MaxRenderedBytes, InvalidRequest when caller is no array.
func (r *Values) AppendMessages(dst, caller []byte) ([]byte, error) {
	c := r.c
	items, err := arrayItems(caller)
	if err != nil {
		return dst, fault.Wrap(err, fault.InvalidRequest, "messages must be an array; send a list of messages").WithParam("messages")
	}
	r.limit = len(dst) + MaxRenderedBytes
	out := append(slices.Grow(dst, c.minBytes+len(caller)+256), '[')
	placed := false
	for i := range c.units {
		u := &c.units[i]
		switch {
		case u.static != nil:
			out = append(appendComma(out), u.static...)
		case u.history >= 0:
			if given := r.values[u.history]; given.kind != valueAbsent {
				out = appendItems(out, given.raw)
			} else if !placed {
				placed = true
				out = appendItems(out, items)
				r.limit += len(items) + 1
			}
		default:
			if err = r.ctx.Err(); err == nil {
				out, err = r.appendMessage(appendComma(out), u)
			}
			if err != nil {
				return dst, err
			}
		}
		if len(out) > r.limit {
			return dst, tooLarge()
		}
	}
	if !placed {
		out = appendItems(out, items)
	}
	return append(out, ']'), nil
}

// appendComma separates what comes from what is there, unless an array was just opened.
func appendComma(dst []byte) []byte {
	if dst[len(dst)-1] == '[' {
		return dst
	}
	return append(dst, ',')
}

func tooLarge() error {
	return fault.New(fault.RequestTooLarge, "the rendered prompt is larger than %d bytes; send shorter variables", MaxRenderedBytes).WithParam("prompt.variables")
}

// appendMessage appends one message. r may be nil when the message is static.
func (r *Values) appendMessage(dst []byte, u *unit) ([]byte, error) {
	dst = append(dst, u.head...)
	var err error
	switch {
	case len(u.pieces) == 0:
	case u.single && !r.brings(u.pieces[0].text):
		if dst, err = r.appendText(append(dst, '"'), u.pieces[0].text); err != nil {
			return nil, err
		}
		dst = append(dst, '"')
	default:
		dst = append(dst, '[')
		for _, p := range u.pieces {
			if p.static != nil {
				dst = append(appendComma(dst), p.static...)
			} else if dst, err = r.appendParts(dst, p.text); err != nil {
				return nil, err
			}
		}
		dst = append(dst, ']')
	}
	return append(dst, u.tail...), nil
}

// brings reports whether a value that t prints becomes content parts of its own.
func (r *Values) brings(t *text) bool {
	if r == nil {
		return false
	}
	for i := range t.segments {
		if s := &t.segments[i]; s.variable >= 0 && s.member < 0 && r.values[s.variable].kind == valueParts {
			return true
		}
	}
	return false
}

// appendParts appends a text as one part, or as the parts before, between and after those that its values bring.
func (r *Values) appendParts(dst []byte, t *text) ([]byte, error) {
	const head, tail = `{"type":"text","text":"`, `"}`
	var err error
	if !r.brings(t) {
		if dst, err = r.appendText(append(appendComma(dst), head...), t); err != nil {
			return nil, err
		}
		return append(dst, tail...), nil
	}
	err = r.split(t, len(dst), true, func(part RenderedPart) {
		if part.Media != nil {
			dst = append(appendComma(dst), part.Media...)
		} else {
			dst = append(append(append(appendComma(dst), head...), part.Text...), tail...)
		}
	})
	return dst, err
}

// split takes a text apart into the texts before, between and after the media that stand in it. used is how much of the limit is spent. A part's text
// is valid during the call only. chat refuses parts that chats do not know.
func (r *Values) split(t *text, used int, chat bool, emit func(RenderedPart)) error {
	var open []byte // the text since the last part
	flush := func() {
		if len(open) > 0 {
			emit(RenderedPart{Text: open})
			used += len(open)
			open = open[:0]
		}
	}
	for i := range t.segments {
		s := &t.segments[i]
		if s.variable < 0 || s.member >= 0 || r.values[s.variable].kind != valueParts {
			var err error
			if open, err = r.appendSegment(open, s); err != nil {
				return err
			}
		} else {
			open = append(open, s.literal...)
			flush()
			parts := *r.values[s.variable].parts
			for j := range parts {
				if err := parts[j].inChat(); err != nil && chat {
					return r.c.variables[s.variable].invalid(err)
				}
				part := RenderedPart{Media: parts[j].appendChat(nil), Input: &parts[j]}
				if used += len(part.Media); used > r.limit {
					return tooLarge()
				}
				emit(part)
			}
		}
		if used+len(open) > r.limit {
			return tooLarge()
		}
	}
	flush()
	return nil
}

// appendText appends a text between the quotes of a JSON string.
func (r *Values) appendText(dst []byte, t *text) ([]byte, error) {
	if t.tree != nil {
		s := sections{Values: r, dst: dst}
		if err := s.run(t.tree); err != nil {
			return nil, err
		}
		return s.dst, nil
	}
	var err error
	for i := range t.segments {
		if dst, err = r.appendSegment(dst, &t.segments[i]); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// appendSegment appends a literal and the value after it.
func (r *Values) appendSegment(dst []byte, s *segment) ([]byte, error) {
	dst = append(dst, s.literal...)
	if s.variable < 0 {
		return dst, nil
	}
	v := &r.values[s.variable]
	if s.member >= 0 {
		v = &r.members[s.member]
	}
	if len(dst)+len(v.raw) > r.limit {
		return nil, tooLarge()
	}
	dst = v.appendTo(dst)
	if len(dst) > r.limit {
		return nil, tooLarge() // escaping made it longer
	}
	return dst, nil
}
