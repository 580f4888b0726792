package template

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
)

// op is one step of a text with sections.
type op struct {
	kind     tokenKind // tokText, tokValue, tokOpen or tokInverted
	literal  []byte    // of tokText, as it stands in a JSON string
	path     []string  // of the others: the parts of the name; nil for {{.}}
	variable int       // that the first part names where nothing inside of sections does; -1: none
	body     []op      // of a section
}

// newTree arranges tokens, whose sections scan found balanced, and returns what follows the first close that opens nothing.
func (c *Compiled) newTree(tokens []token) (ops []op, rest []token) {
	ops = []op{}
	for len(tokens) > 0 {
		t := tokens[0]
		tokens = tokens[1:]
		o := op{kind: t.kind, variable: -1}
		switch {
		case t.kind == tokClose:
			return ops, tokens
		case t.kind == tokText:
			o.literal = appendEscaped(nil, t.text)
		case t.text != ".":
			o.path = strings.Split(t.text, ".")
			if i, ok := c.index[o.path[0]]; ok && !c.variables[i].history {
				o.variable = i
			}
		}
		if t.kind == tokOpen || t.kind == tokInverted {
			o.body, tokens = c.newTree(tokens)
		}
		ops = append(ops, o)
	}
	return ops, nil
}

// node is a value as sections see it: what it prints, and what is in it.
type node struct {
	value
	made  bool
	names [][]byte         // of an object's members
	items []node           // of an array, or an object's members
	index map[string]int32 // of names, made for objects of many members when the first is looked up
}

// manyMembers is from how many members on an object is looked into by an index.
const manyMembers = 12

var errTooMuchData = errors.New("it holds too many values for the sections of the prompt; send fewer")

// load reads the value, canonical JSON, that begins at raw[at] into n and returns where it ends. left bounds the values of a call.
func (n *node) load(raw []byte, at int, left *int) (end int, err error) {
	if *left--; *left < 0 {
		return 0, errTooMuchData
	}
	n.made = true
	switch raw[at] {
	case '{':
		end, err = eachMember(raw[at:], func(key []byte, value int) (int, error) {
			n.names = append(n.names, nameOf(key))
			return n.add(raw, at, value, left)
		})
	case '[':
		end, err = eachItem(raw[at:], func(value int) (int, error) {
			if len(n.items) == MaxListItems {
				return 0, fmt.Errorf("a list in it has more than %d items; send fewer", MaxListItems)
			}
			return n.add(raw, at, value, left)
		})
	default:
		end = skipValue(raw, at) - at
	}
	end += at
	if err == nil {
		n.value = plainValue(raw[at:end])
	}
	return end, err
}

func (n *node) add(raw []byte, at, value int, left *int) (int, error) {
	n.items = append(n.items, node{})
	end, err := n.items[len(n.items)-1].load(raw, at+value, left)
	return end - at, err
}

// member is the member of an object, nil when n is none or has no such.
func (n *node) member(name string) *node {
	if len(n.names) < manyMembers {
		for i := range n.names {
			if string(n.names[i]) == name {
				return &n.items[i]
			}
		}
		return nil
	}
	if n.index == nil {
		n.index = make(map[string]int32, len(n.names))
		for i := range n.names {
			n.index[string(n.names[i])] = int32(i) //nolint:gosec // bounded by maxDataSteps
		}
	}
	if i, ok := n.index[name]; ok {
		return &n.items[i]
	}
	return nil
}

// counts reports whether n lets a section be shown.
func (n *node) counts() bool {
	switch {
	case n == nil:
		return false
	case n.kind == valueString:
		inner := n.raw[1 : len(n.raw)-1]
		if bytes.IndexByte(inner, '\\') < 0 {
			return len(bytes.TrimSpace(inner)) > 0
		}
		return strings.TrimSpace(unquote(n.raw)) != ""
	case n.kind == valuePlain:
		switch kindOf(n.raw) {
		case 't':
			return true
		case '0':
			digits, _ := decimal(string(n.raw))
			return digits != ""
		}
		return false
	case n.kind == valueJSON:
		return len(n.items) > 0 || n.raw[0] == '{'
	}
	return n.kind == valueParts
}

// sections renders a text with sections.
type sections struct {
	*Values
	dst   []byte
	stack []*node // the values of the sections around
}

var errTooMany = errors.New("sections repeat too often")

// step counts one step of work, and so bounds it: by the call's budget and its context.
func (s *sections) step(n int) error {
	if s.steps -= n; s.steps < 0 {
		return fault.Wrap(errTooMany, fault.RequestTooLarge, "the prompt's sections repeat too often with these variables; send shorter lists").WithParam("prompt.variables")
	}
	if s.steps&(1<<12-1) < n {
		return s.ctx.Err()
	}
	return nil
}

func (s *sections) run(ops []op) error {
	for i := range ops {
		o := &ops[i]
		if err := s.step(1 + len(s.stack) + len(o.path)); err != nil {
			return err
		}
		if o.kind == tokText {
			s.dst = append(s.dst, o.literal...)
			if len(s.dst) > s.limit {
				return tooLarge()
			}
			continue
		}
		n, err := s.lookUp(o)
		if err != nil {
			return err
		}
		switch o.kind {
		case tokValue:
			err = s.print(o, n)
		case tokOpen:
			err = s.section(o, n)
		case tokInverted:
			if !n.counts() {
				err = s.run(o.body)
			}
		case tokText, tokClose, tokInclude: // dealt with, or left out by newTree
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *sections) section(o *op, n *node) error {
	if !n.counts() {
		return nil
	}
	if n.kind != valueJSON || n.raw[0] == '{' {
		return s.within(o, n)
	}
	for i := range n.items {
		if err := s.step(1); err != nil {
			return err
		}
		if err := s.within(o, &n.items[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *sections) within(o *op, n *node) error {
	s.stack = append(s.stack, n)
	err := s.run(o.body)
	s.stack = s.stack[:len(s.stack)-1]
	return err
}

// print appends what a value prints.
func (s *sections) print(o *op, n *node) error {
	switch {
	case n == nil:
		return nil
	case n.kind == valueParts:
		return s.c.variables[s.bringer(o, n)].invalid(errors.New("an image, audio or a file cannot stand in a text with sections; send text, or move its tag to a text of its own"))
	case len(s.dst)+len(n.raw) > s.limit:
		return tooLarge()
	}
	s.dst = n.appendTo(s.dst)
	if len(s.dst) > s.limit {
		return tooLarge() // escaping made it longer
	}
	return nil
}

// bringer is the variable whose value n is: only a variable itself brings parts.
func (s *sections) bringer(o *op, n *node) int {
	for i := range s.nodes {
		if n == &s.nodes[i] {
			return i
		}
	}
	return max(o.variable, 0) // not reached
}

// lookUp finds what a name means here: the innermost section's value that has a member of that name, else the variable; nil for nothing.
func (s *sections) lookUp(o *op) (*node, error) {
	if o.path == nil {
		return s.stack[len(s.stack)-1], nil
	}
	var n *node
	for i := len(s.stack) - 1; i >= 0 && n == nil; i-- {
		n = s.stack[i].member(o.path[0])
	}
	if n == nil && o.variable >= 0 {
		var err error
		if n, err = s.variable(o.variable); err != nil {
			return nil, err
		}
	}
	for _, name := range o.path[1:] {
		if n == nil {
			return nil, nil
		}
		n = n.member(name)
	}
	return n, nil
}

// variable is the value of a variable, read once a call; nil when it is absent.
func (s *sections) variable(i int) (*node, error) {
	if s.nodes == nil {
		s.nodes = make([]node, len(s.values))
	}
	n, v := &s.nodes[i], &s.values[i]
	switch {
	case v.kind == valueAbsent:
		return nil, nil
	case n.made:
	case v.kind == valueJSON:
		if _, err := n.load(v.raw, 0, &s.data); err != nil {
			return nil, s.c.variables[i].invalid(err)
		}
	default:
		n.value, n.made = *v, true
	}
	return n, nil
}
