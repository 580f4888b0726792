package template

import "slices"

// Rendered is one message of a rendering, in no shape: each shape of requests writes it in its own way. AppendMessages is that for chat completions,
// prepared when the version was compiled.
type Rendered struct {
	Message *Message       // whose role, name and tool calls are the version's; read only
	Parts   []RenderedPart // of its content, texts and media in order
	Whole   bool           // the content is one text, not a list of parts
	Last    bool           // it may hold the variable that takes the last user message
	Items   []byte         // of a placeholder that a variable fills: chat messages, joined by commas; nil for any other
	Caller  bool           // the place of the caller's own messages; without any they follow the last message
}

// RenderedPart is one part of a message's content: either of the two.
type RenderedPart struct {
	Text  []byte     // what stands between the quotes of a JSON string
	Media []byte     // a content part as chat completions have it: {"type":"image_url","image_url":{…}}
	Input *InputPart // with Media, when a variable brought it: the same in no provider's form; it may be a text in a list of parts
}

// Render is what a version's messages come to with a call's variables, valid until these are bound or rendered again. Errors are those of AppendMessages.
func (r *Values) Render() ([]Rendered, error) {
	c := r.c
	r.limit = MaxRenderedBytes
	out, parts := slices.Grow(r.rendered[:0], len(c.messages)), r.parts[:0]
	buf := slices.Grow(r.text[:0], c.minBytes+256) // of all texts, so that the limit counts each
	placed := false
	for i := range c.messages {
		if err := r.ctx.Err(); err != nil {
			return nil, err
		}
		u := &c.messages[i]
		one := Rendered{Message: u.message, Whole: u.single}
		if u.history >= 0 {
			given := r.values[u.history]
			one.Caller = given.kind == valueAbsent && !placed
			placed = placed || one.Caller
			one.Items = given.raw
		}
		first := len(parts)
		for _, p := range u.pieces {
			if p.static != nil {
				parts = append(parts, RenderedPart{Media: p.static})
				continue
			}
			one.Last = one.Last || c.mayHold(p.text, c.lastUser)
			var err error
			if buf, parts, err = r.renderText(buf, p.text, parts); err != nil {
				return nil, err
			}
		}
		one.Parts = parts[first:len(parts):len(parts)]
		one.Whole = one.Whole && len(one.Parts) == 1 && one.Parts[0].Media == nil
		out = append(out, one)
	}
	r.rendered, r.parts, r.text = out, parts, buf
	return out, nil
}

// mayHold reports whether a text prints a variable, or may: sections are not looked into.
func (c *Compiled) mayHold(t *text, name string) bool {
	index, ok := c.index[name]
	return ok && (t.tree != nil || slices.ContainsFunc(t.segments, func(s segment) bool { return s.variable == index }))
}

// renderText appends the parts of a text; their bytes are appended to buf.
func (r *Values) renderText(buf []byte, t *text, parts []RenderedPart) ([]byte, []RenderedPart, error) {
	start := len(buf)
	if !r.brings(t) {
		buf, err := r.appendText(buf, t)
		if err != nil {
			return nil, nil, err
		}
		return buf, append(parts, RenderedPart{Text: buf[start:len(buf):len(buf)]}), nil
	}
	return r.renderSplit(buf, t, parts)
}

// renderSplit is renderText for a text that values take apart.
func (r *Values) renderSplit(buf []byte, t *text, parts []RenderedPart) ([]byte, []RenderedPart, error) {
	err := r.split(t, len(buf), false, func(p RenderedPart) {
		if p.Media == nil {
			from := len(buf)
			buf = append(buf, p.Text...)
			p.Text = buf[from:len(buf):len(buf)]
		}
		parts = append(parts, p)
	})
	return buf, parts, err
}
