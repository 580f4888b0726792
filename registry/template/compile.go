package template

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Compiled is a version's content parsed to trees, ready to render; safe for concurrent use.
type Compiled struct {
	content   Content
	variables []variable     // sorted by name
	index     map[string]int // of variables
	units     []unit
	messages  []unit   // one for each message or placeholder, for Render
	slots     int      // of all variables' members
	minBytes  int      // of literals, for the first guess of a size
	lastUser  string   // the variable that takes the last user message
	forms     sync.Map // string → *form
}

// form is a version's content as one shape of requests names it.
type form struct {
	content *Content
	err     error
}

// Form is the content as another shape of requests names it: make, which must depend on nothing else, is called once for each name. Callers do not
// change it.
func (c *Compiled) Form(name string, make func(*Content) (*Content, error)) (*Content, error) {
	if known, ok := c.forms.Load(name); ok {
		f := known.(*form)
		return f.content, f.err
	}
	content, err := make(&c.content)
	known, _ := c.forms.LoadOrStore(name, &form{content, err})
	f := known.(*form)
	return f.content, f.err
}

// variable is one variable ready to be judged and printed.
type variable struct {
	name     string
	required bool // and no default
	history  bool // fills a placeholder
	schema   *schema
	value    value    // of the default
	members  *members // that texts without sections print, nil for none
}

// unit is a step of rendering: a run of messages that never change, one message with variables, or a placeholder.
type unit struct {
	static  []byte // encoded messages, joined by commas
	head    []byte // of a message, up to and with "content":
	pieces  []piece
	single  bool   // content is one string
	tail    []byte // what follows the content
	message *Message
	history int // of a placeholder: its variable; else -1
}

// piece is one part of a message's content: encoded already, or a text.
type piece struct {
	static []byte
	text   *text
}

// text is a template ready to render: straight for one without sections, else a tree.
type text struct {
	segments []segment
	tree     []op
}

// segment is a literal, as it stands in a JSON string, and the variable after it (-1: none), or a member of it (-1: itself).
type segment struct {
	literal          []byte
	variable, member int
}

// Compile prepares c for rendering. refs holds every included content by its digest (Reference.Digest), those that included
// contents include as well: a digest means the same text wherever it is included, so one flat map serves includes of includes,
// each by its own pins. Compile completes the variables as Infer does, and fails with InvalidTemplate.
func Compile(c Content, refs map[string]Content) (*Compiled, error) {
	in := newIncluder(refs)
	all := texts(&c)
	expanded := make([][]token, len(all))
	for i, t := range all {
		tokens, err := in.expand(t, &c)
		if err != nil {
			return nil, err
		}
		expanded[i] = tokens
	}
	vars, err := inferFrom(&c, in, expanded)
	if err != nil {
		return nil, err
	}
	c.Variables = vars
	schemas, err := check(&c)
	if err != nil {
		return nil, err
	}
	out := &Compiled{content: c}
	if err := out.addVariables(schemas); err != nil {
		return nil, err
	}
	byPath := make(map[string]*text, len(all))
	for i, t := range all {
		byPath[t.path] = out.newText(expanded[i])
	}
	for i := range c.Messages {
		out.addMessage(i, byPath)
	}
	return out, nil
}

// Content is what was compiled, variables completed. Read only.
func (c *Compiled) Content() *Content { return &c.content }

// LastUserVariable is the name of the variable that takes the caller's last user message when the call does not name it
// (Variable.LastUserMessage), "" when there is none.
func (c *Compiled) LastUserVariable() string { return c.lastUser }

func (c *Compiled) addVariables(schemas map[string]*schema) error {
	c.index = make(map[string]int, len(c.content.Variables))
	places := map[string]bool{}
	for _, m := range c.content.Messages {
		if m.Type == TypePlaceholder {
			places[m.Name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.content.Variables)) {
		declared := c.content.Variables[name]
		v := variable{name: name, schema: schemas[name], history: places[name]}
		v.required = declared.Required && len(declared.Default) == 0
		if len(declared.Default) > 0 {
			var err error
			if v.history {
				v.value, err = historyValue(declared.Default)
			} else {
				v.value, err = classify(declared.Default)
			}
			if err != nil {
				return invalid("variables."+name+".default", "the default cannot be used: %s", err)
			}
		}
		if declared.LastUserMessage {
			c.lastUser = name
		}
		if v.history && declared.Inferred {
			v.schema = nil // checkHistory says the same
		}
		c.index[name] = len(c.variables)
		c.variables = append(c.variables, v)
	}
	return nil
}

// newText prepares an expanded text.
func (c *Compiled) newText(tokens []token) *text {
	for _, tok := range tokens {
		if tok.kind != tokText && tok.kind != tokValue {
			tree, _ := c.newTree(tokens)
			return &text{tree: tree}
		}
	}
	t := &text{}
	open := segment{variable: -1, member: -1}
	for _, tok := range tokens {
		if tok.kind == tokText {
			open.literal = appendEscaped(open.literal, tok.text)
			continue
		}
		path := strings.Split(tok.text, ".")
		open.variable = c.index[path[0]]
		if len(path) > 1 {
			open.member = c.slotOf(open.variable, path[1:])
		}
		t.segments = append(t.segments, open)
		open = segment{variable: -1, member: -1}
	}
	if len(open.literal) > 0 {
		t.segments = append(t.segments, open)
	}
	return t
}

// slotOf is where Bind puts the member of a variable.
func (c *Compiled) slotOf(variable int, path []string) int {
	v := &c.variables[variable]
	if v.members == nil {
		v.members = &members{slot: -1}
	}
	slot := v.members.add(path, c.slots)
	c.slots = max(c.slots, slot+1)
	return slot
}

// isStatic reports whether t has no variables.
func (t *text) isStatic() bool {
	return t.tree == nil && (len(t.segments) == 0 || len(t.segments) == 1 && t.segments[0].variable < 0)
}

// addMessage appends the unit of a message, or its bytes to the static unit before it.
func (c *Compiled) addMessage(i int, byPath map[string]*text) {
	m := &c.content.Messages[i]
	if m.Type == TypePlaceholder {
		c.units = append(c.units, unit{history: c.index[m.Name], message: m})
		c.messages = append(c.messages, c.units[len(c.units)-1])
		return
	}
	u := unit{history: -1, head: messageHead(m), tail: messageTail(m), message: m}
	path := fmt.Sprintf("messages[%d]", i)
	static := true
	if len(m.Parts) == 0 && m.Text != "" {
		t := byPath[path+".text"]
		u.single, u.pieces, static = true, []piece{{text: t}}, t.isStatic()
	}
	for j := range m.Parts {
		p := &m.Parts[j]
		if p.Type != partText {
			u.pieces = append(u.pieces, piece{static: encodePart(p)})
			continue
		}
		t := byPath[fmt.Sprintf("%s.parts[%d].text", path, j)]
		u.pieces = append(u.pieces, piece{text: t})
		static = static && t.isStatic()
	}
	c.messages = append(c.messages, u)
	if !static {
		c.units = append(c.units, u)
		c.minBytes += len(u.head) + len(u.tail) + 64
		return
	}
	encoded, _ := (*Values)(nil).appendMessage(nil, &u) // a static message has nothing that can fail
	if n := len(c.units); n > 0 && c.units[n-1].static != nil {
		c.units[n-1].static = append(append(c.units[n-1].static, ','), encoded...)
	} else {
		c.units = append(c.units, unit{history: -1, static: encoded})
	}
	c.minBytes += len(encoded)
}

// messageHead encodes a message up to its content.
func messageHead(m *Message) []byte {
	role := m.Role
	if role == "" {
		role = "user" // the one message of a text prompt
	}
	head := appendString([]byte(`{"role":`), role)
	if m.Name != "" {
		head = appendString(append(head, `,"name":`...), m.Name)
	}
	if m.Text != "" || len(m.Parts) > 0 {
		head = append(head, `,"content":`...)
	}
	return head
}

// messageTail encodes what follows a message's content.
func messageTail(m *Message) []byte {
	var tail []byte
	if len(m.ToolCalls) > 0 {
		tail = append(append(tail, `,"tool_calls":`...), compactJSON(m.ToolCalls)...)
	}
	if m.ToolCallID != "" {
		tail = appendString(append(tail, `,"tool_call_id":`...), m.ToolCallID)
	}
	return append(tail, '}')
}

// encodePart encodes a part that is no text.
func encodePart(p *Part) []byte {
	out := appendString([]byte(`{"type":`), p.Type)
	out = append(appendString(append(out, ','), p.Type), ':')
	return append(append(out, compactJSON(p.Value)...), '}')
}
