package interchange

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"
)

// maxDepth bounds the nesting of a front matter.
const maxDepth = 100

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// lineError is what is wrong at a line of the front matter.
type lineError struct {
	line int
	msg  string
}

func (e *lineError) Error() string { return e.msg }

func wrong(n *yaml.Node, format string, args ...any) error {
	return &lineError{n.Line, fmt.Sprintf(format, args...)}
}

// checkNode refuses what makes YAML surprising: anchors, aliases, merges, tags, and keys that are twice there or no strings.
func checkNode(n *yaml.Node, depth int) error {
	if depth > maxDepth {
		return wrong(n, "values are nested more than %d deep; flatten them", maxDepth)
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return wrong(n, "anchors and aliases (& and *) are not taken; write the value out, or quote it if it is text")
	}
	if n.Style&yaml.TaggedStyle != 0 {
		return wrong(n, "tags (!) are not taken; remove the tag, or quote the value if it is text")
	}
	if n.Kind == yaml.MappingNode {
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
				return wrong(key, "a key must be text; write it plain or in quotes")
			}
			if seen[key.Value] {
				return wrong(key, "the key %q is there twice; remove one", key.Value)
			}
			seen[key.Value] = true
		}
	}
	for _, child := range n.Content {
		if err := checkNode(child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// appendJSON appends a checked node as compact JSON; keys keep their order and numbers their spelling.
func appendJSON(dst []byte, n *yaml.Node) ([]byte, error) {
	var err error
	switch n.Kind {
	case yaml.MappingNode:
		dst = append(dst, '{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = jsontext.AppendQuote(dst, n.Content[i].Value); err != nil {
				return nil, wrong(n, "a key is not valid UTF-8; save the file in that encoding")
			}
			if dst, err = appendJSON(append(dst, ':'), n.Content[i+1]); err != nil {
				return nil, err
			}
		}
		return append(dst, '}'), nil
	case yaml.SequenceNode:
		dst = append(dst, '[')
		for i, item := range n.Content {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = appendJSON(dst, item); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	}
	return appendScalar(dst, n)
}

func appendScalar(dst []byte, n *yaml.Node) ([]byte, error) {
	if n.Style == 0 {
		if jsonNumber.MatchString(n.Value) {
			return append(dst, n.Value...), nil
		}
		switch n.ShortTag() {
		case "!!null":
			return append(dst, "null"...), nil
		case "!!bool":
			return append(dst, strings.ToLower(n.Value)...), nil
		case "!!int", "!!float":
			return nil, wrong(n, "%q is no number as JSON writes them; write it in decimal, or quote it if it is text", n.Value)
		}
	}
	out, err := jsontext.AppendQuote(dst, n.Value)
	if err != nil {
		return nil, wrong(n, "the value is not valid UTF-8; save the file in that encoding")
	}
	return out, nil
}

// fromJSON makes a node of valid JSON, in block style, keys in their order.
func fromJSON(raw json.RawMessage) (*yaml.Node, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	n, err := readNode(dec)
	if err != nil {
		return nil, fmt.Errorf("it is not valid JSON: %w", err)
	}
	return n, nil
}

func readNode(dec *jsontext.Decoder) (*yaml.Node, error) {
	switch dec.PeekKind() {
	case '{':
		return readContainer(dec, &yaml.Node{Kind: yaml.MappingNode}, '}')
	case '[':
		return readContainer(dec, &yaml.Node{Kind: yaml.SequenceNode}, ']')
	}
	raw, err := dec.ReadValue()
	if err != nil {
		return nil, err
	}
	if raw.Kind() == '"' {
		text, err := jsontext.AppendUnquote(nil, raw)
		return textNode(string(text)), err
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Value: string(raw)}, nil
}

func readContainer(dec *jsontext.Decoder, n *yaml.Node, end jsontext.Kind) (*yaml.Node, error) {
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	for dec.PeekKind() != end {
		child, err := readNode(dec)
		if err != nil {
			return nil, err
		}
		if child.Style == yaml.LiteralStyle && n.Kind == yaml.MappingNode && len(n.Content)%2 == 0 {
			child.Style = yaml.DoubleQuotedStyle // a key is one line
		}
		n.Content = append(n.Content, child)
	}
	if len(n.Content) == 0 {
		n.Style = yaml.FlowStyle
	}
	_, err := dec.ReadToken()
	return n, err
}

// textNode is a string: plain where nobody could take it for anything else, a block where it has lines, else in double quotes.
func textNode(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s, Style: yaml.DoubleQuotedStyle}
	switch {
	case plainText.MatchString(s) && !mayBeMore(s):
		n.Style = 0
	case isBlock(s):
		n.Style = yaml.LiteralStyle
	}
	return n
}

var plainText = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./@-]*( [A-Za-z0-9_./(@,;'-][A-Za-z0-9_./@,;')-]*)*$`)

// mayBeMore reports whether some reader of YAML takes plain s for something else than text.
func mayBeMore(s string) bool {
	switch strings.ToLower(s) {
	case "null", "true", "false", "yes", "no", "on", "off", "y", "n":
		return true
	}
	return len(s) > 100
}

// isBlock reports whether s keeps every byte as a literal block: lines of printable text, the first not indented, one line end at
// the end or none.
func isBlock(s string) bool {
	body := strings.TrimSuffix(s, "\n")
	if !strings.Contains(body, "\n") || strings.HasSuffix(body, "\n") {
		return false
	}
	for i, line := range strings.Split(body, "\n") {
		if i == 0 && (line == "" || strings.ContainsAny(line[:1], " \t")) || line != strings.TrimRight(line, " \t") {
			return false
		}
		for _, r := range line {
			if r != ' ' && !unicode.IsGraphic(r) || r == '\ufeff' || r > 0x7e && unicode.IsSpace(r) || r > 0xffff {
				return false
			}
		}
	}
	return true
}

func quoteJSON(s string) string {
	b, err := jsontext.AppendQuote(nil, s)
	if err != nil {
		return strconv.Quote(s) // refused before: Write takes valid UTF-8 only
	}
	return string(b)
}
