package template

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
)

const variablePath = "prompt.variables."

// CheckVariables judges a call's variables against their schemas: MissingVariable (also for several: all are named), then
// UnknownVariable or InvalidVariable, with Param "prompt.variables.<name>". A value is missing only when its name is absent: null,
// "", 0 and false are values. known tells whether any version of the prompt declares a name, whose value is then ignored; nil: none
// does. No message holds a value.
func (c *Compiled) CheckVariables(vars map[string]json.RawMessage, known func(name string) bool) error {
	var missing []string
	found := 0
	for i := range c.variables {
		v := &c.variables[i]
		raw, ok := vars[v.name]
		if !ok {
			if v.required {
				missing = append(missing, v.name)
			}
			continue
		}
		found++
		if missing != nil {
			continue
		}
		if err := v.check(raw); err != nil {
			return err
		}
	}
	if missing != nil {
		return missingFault(missing)
	}
	if found == len(vars) {
		return nil
	}
	return c.checkUnknown(vars, known)
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

func (v *variable) check(raw json.RawMessage) error {
	if v.history {
		if err := checkHistory(raw); err != nil {
			return v.invalid(err)
		}
		if v.schema == nil {
			return nil
		}
	}
	val, err := classify(raw)
	if err == nil && v.schema != nil {
		err = v.schema.check(val.checkable(raw))
	}
	if err != nil {
		return v.invalid(err)
	}
	return nil
}

func (v *variable) invalid(reason error) error {
	return fault.New(fault.InvalidVariable, "the variable %q cannot be used: %s", v.name, reason).WithParam(variablePath + v.name)
}

// rendering is one call's values.
type rendering struct {
	c      *Compiled
	values []value
	data   map[string]any // for sections; made when the first text needs it
	limit  int            // of the length of what is built
	steps  int            // of sections, left
}

// AppendMessages appends the JSON array of messages for the provider to dst, which is returned as it was on an error. caller is
// the JSON array of messages that the caller sent, nil or empty for none; its items go, byte for byte, to the first placeholder
// that no variable fills, else to the end. What a version's variables do not mention is ignored, so call CheckVariables before.
//
// Whatever the values are, the number and the roles of the messages are the template's: values end up inside of JSON strings,
// and an input_image or input_file as a content part of the message that names it. Only a placeholder's variable brings messages,
// none of role system or developer.
//
// Errors: MissingVariable, InvalidVariable (malformed, or no fit for its place), RequestTooLarge past MaxRenderedBytes,
// InvalidRequest when caller is no array.
func (c *Compiled) AppendMessages(dst []byte, vars map[string]json.RawMessage, caller []byte) ([]byte, error) {
	items, err := arrayItems(caller)
	if err != nil {
		return dst, fault.Wrap(err, fault.InvalidRequest, "messages must be an array; send a list of messages").WithParam("messages")
	}
	var few [16]value
	r := rendering{c: c, values: few[:0], limit: len(dst) + MaxRenderedBytes, steps: maxRenderSteps}
	if err := r.load(vars); err != nil {
		return dst, err
	}
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
			if out, err = c.appendMessage(appendComma(out), u, &r); err != nil {
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

// load classifies the values of all variables, given or default.
func (r *rendering) load(vars map[string]json.RawMessage) error {
	for i := range r.c.variables {
		v := &r.c.variables[i]
		raw, given := vars[v.name]
		val := v.value
		var err error
		switch {
		case given && v.history, !given && v.history && v.fallback != nil:
			val, err = historyValue(raw, v.fallback, given)
		case given:
			val, err = classify(raw)
		case v.required:
			return missingFault([]string{v.name})
		}
		if err != nil {
			return v.invalid(err)
		}
		r.values = append(r.values, val)
	}
	return nil
}

// historyValue is the items of a placeholder's variable, as they were sent.
func historyValue(raw, fallback json.RawMessage, given bool) (value, error) {
	if given {
		if err := checkHistory(raw); err != nil {
			return value{}, err
		}
	} else {
		raw = fallback // checked by Compile
	}
	items, err := arrayItems(raw)
	return value{valueJSON, items}, err
}

// arrayItems is what stands between the brackets of a JSON array, without white space around it.
func arrayItems(raw []byte) ([]byte, error) {
	raw = trimSpace(raw)
	if len(raw) == 0 {
		return nil, nil
	}
	if raw[0] != '[' || raw[len(raw)-1] != ']' || len(raw) < 2 {
		return nil, errors.New("not an array")
	}
	return trimSpace(raw[1 : len(raw)-1]), nil
}

func appendItems(dst, items []byte) []byte {
	if len(items) == 0 {
		return dst
	}
	return append(appendComma(dst), items...)
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
func (c *Compiled) appendMessage(dst []byte, u *unit, r *rendering) ([]byte, error) {
	dst = append(dst, u.head...)
	var err error
	switch {
	case len(u.pieces) == 0:
	case u.single && !r.media(u.pieces[0].text):
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

// media reports whether a value that t prints becomes a content part of its own.
func (r *rendering) media(t *text) bool {
	if r == nil {
		return false
	}
	for _, s := range t.segments {
		if s.variable >= 0 && r.values[s.variable].kind == valueMedia {
			return true
		}
	}
	return false
}

// appendParts appends a text as one part, or as the parts before, between and after the media that stand in it.
func (r *rendering) appendParts(dst []byte, t *text) ([]byte, error) {
	const head, tail = `{"type":"text","text":"`, `"}`
	var err error
	if !r.media(t) {
		if dst, err = r.appendText(append(appendComma(dst), head...), t); err != nil {
			return nil, err
		}
		return append(dst, tail...), nil
	}
	err = r.split(t, len(dst), func(part RenderedPart) {
		if part.Media != nil {
			dst = append(appendComma(dst), part.Media...)
		} else {
			dst = append(append(append(appendComma(dst), head...), part.Text...), tail...)
		}
	})
	return dst, err
}

// split takes a text apart into the texts before, between and after the media that stand in it. used is how much of the limit is spent. A part's text
// is valid during the call only.
func (r *rendering) split(t *text, used int, emit func(RenderedPart)) error {
	var open []byte // the text since the last medium
	flush := func() {
		if len(open) > 0 {
			emit(RenderedPart{Text: open})
			used += len(open)
			open = open[:0]
		}
	}
	for i := range t.segments {
		s := &t.segments[i]
		if s.variable < 0 || s.members != "" || r.values[s.variable].kind != valueMedia {
			var err error
			if open, err = r.appendSegment(open, s); err != nil {
				return err
			}
		} else {
			open = append(open, s.literal...)
			flush()
			emit(RenderedPart{Media: r.values[s.variable].raw})
			used += len(r.values[s.variable].raw)
		}
		if used+len(open) > r.limit {
			return tooLarge()
		}
	}
	flush()
	return nil
}

// appendText appends a text between the quotes of a JSON string.
func (r *rendering) appendText(dst []byte, t *text) ([]byte, error) {
	if t.tree != nil {
		return r.appendTree(dst, t)
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
func (r *rendering) appendSegment(dst []byte, s *segment) ([]byte, error) {
	dst = append(dst, s.literal...)
	if s.variable < 0 {
		return dst, nil
	}
	v := r.values[s.variable]
	if s.members != "" {
		if v.kind == valueMedia {
			return nil, r.c.variables[s.variable].invalid(errors.New("the prompt reads a member of it; send a plain object"))
		}
		v = v.member(s.members)
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

// appendTree appends a text with sections.
func (r *rendering) appendTree(dst []byte, t *text) ([]byte, error) {
	for _, i := range t.leaves {
		if r.values[i].kind == valueMedia {
			return nil, r.c.variables[i].invalid(errors.New("an image or a file cannot stand in a text with sections; send text, or move its tag to a text of its own"))
		}
	}
	if err := r.loadData(); err != nil {
		return nil, err
	}
	w := &sectionWriter{dst: dst, limit: r.limit, steps: r.steps}
	err := t.tree.FRender(w, r.data)
	r.steps = w.steps
	switch {
	case err == nil && w.err == nil:
		return w.dst, nil
	case errors.Is(w.err, errTooMany):
		return nil, fault.New(fault.RequestTooLarge, "the prompt's sections repeat too often with these variables; send shorter lists").WithParam("prompt.variables")
	case errors.Is(w.err, errTooLong):
		return nil, tooLarge()
	}
	return nil, fault.Wrap(err, fault.InvalidTemplate, "the prompt's sections cannot be rendered with these variables").WithParam(t.path)
}

// loadData prepares the values for sections, once a call.
func (r *rendering) loadData() error {
	if r.data != nil {
		return nil
	}
	r.data = make(map[string]any, len(r.values))
	d := decoder{left: maxDataSteps}
	for i, v := range r.values {
		if v.kind == valueAbsent || r.c.variables[i].history {
			continue
		}
		data, err := v.data(&d)
		if err != nil {
			return r.c.variables[i].invalid(err)
		}
		r.data[r.c.variables[i].name] = data
	}
	return nil
}
