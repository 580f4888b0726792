package interchange

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/template"
)

// Write writes f as Parse reads it. It refuses, with InvalidRequest, what no file can hold: text that is not UTF-8, JSON that is
// none, messages without a role in a prompt of kind chat. JSON is laid out anew; inferred variables are left out.
func Write(w io.Writer, f File) error {
	out, err := encode(&f)
	if err != nil {
		return fault.New(fault.InvalidRequest, "the prompt %q cannot be written as a file: %s", f.Name, err)
	}
	if _, err := w.Write(out); err != nil {
		return fmt.Errorf("writing the prompt %q: %w", f.Name, err)
	}
	return nil
}

func encode(f *File) ([]byte, error) {
	front, err := frontNode(f)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("---\n")
	if len(front.Content) > 0 {
		enc := yaml.NewEncoder(&b)
		enc.SetIndent(2)
		if err := enc.Encode(front); err != nil {
			return nil, err
		}
		if err := enc.Close(); err != nil {
			return nil, err
		}
	}
	b.WriteString("---\n")
	if err := writeMessages(&b, f); err != nil {
		return nil, err
	}
	if !utf8.Valid(b.Bytes()) {
		return nil, fmt.Errorf("a text is not valid UTF-8; correct it")
	}
	if b.Len() > MaxBytes {
		return nil, fmt.Errorf("it would have more than %d bytes; shorten it", MaxBytes)
	}
	return b.Bytes(), nil
}

// mapping builds a YAML mapping, leaving out what is empty. It keeps the first error.
type mapping struct {
	node *yaml.Node
	err  error
}

func newMapping() *mapping { return &mapping{node: &yaml.Node{Kind: yaml.MappingNode}} }

func (m *mapping) add(key string, value *yaml.Node) {
	k := textNode(key)
	if k.Style == yaml.LiteralStyle {
		k.Style = yaml.DoubleQuotedStyle
	}
	if !utf8.ValidString(key) && m.err == nil {
		m.err = fmt.Errorf("a key is not valid UTF-8; correct it")
	}
	m.node.Content = append(m.node.Content, k, value)
}

func (m *mapping) text(key, value string) {
	if value != "" {
		m.anyText(key, value)
	}
}

// addMetadata writes what is known of a prompt, empty or not: a key that is missing would say nothing of it.
func (m *mapping) addMetadata(d Metadata) {
	for _, text := range []struct {
		key   string
		value *string
	}{{"description", d.Description}, {"category", d.Category}, {"owner", d.Owner}} {
		if text.value != nil {
			m.anyText(text.key, *text.value)
		}
	}
	if d.Tags != nil {
		m.anyTexts("tags", *d.Tags)
	}
	if d.Aliases != nil {
		m.anyTexts("aliases", *d.Aliases)
	}
}

func (m *mapping) anyText(key, value string) {
	if !utf8.ValidString(value) && m.err == nil {
		m.err = fmt.Errorf("%s is not valid UTF-8; correct it", key)
	}
	m.add(key, textNode(value))
}

func (m *mapping) texts(key string, values []string) {
	if len(values) > 0 {
		m.anyTexts(key, values)
	}
}

func (m *mapping) anyTexts(key string, values []string) {
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, v := range values {
		n := textNode(v)
		if n.Style == yaml.LiteralStyle || strings.ContainsAny(v, ",'()") {
			n.Style = yaml.DoubleQuotedStyle
		}
		if !utf8.ValidString(v) && m.err == nil {
			m.err = fmt.Errorf("one of %s is not valid UTF-8; correct it", key)
		}
		list.Content = append(list.Content, n)
	}
	m.add(key, list)
}

func (m *mapping) json(key string, raw json.RawMessage) {
	if len(raw) == 0 {
		return
	}
	n, err := fromJSON(raw)
	if err != nil {
		if m.err == nil {
			m.err = fmt.Errorf("%s: %w", key, err)
		}
		return
	}
	m.add(key, n)
}

func (m *mapping) mapping(key string, sub *mapping) {
	if m.err == nil {
		m.err = sub.err
	}
	if len(sub.node.Content) == 0 {
		sub.node.Style = yaml.FlowStyle
	}
	m.add(key, sub.node)
}

func frontNode(f *File) (*yaml.Node, error) {
	m, c := newMapping(), &f.Content
	if !f.Unnamed {
		m.text("name", f.Name)
	}
	if f.Kind == registry.KindText {
		m.text("kind", string(f.Kind))
	}
	m.text("base", f.Base.String())
	m.addMetadata(f.Metadata)
	m.texts("labels", f.Labels)
	m.text("model", c.Model)
	if len(c.Parameters) > 0 {
		parameters := newMapping()
		for _, name := range slices.Sorted(maps.Keys(c.Parameters)) {
			parameters.json(name, c.Parameters[name])
		}
		m.mapping("parameters", parameters)
	}
	m.texts("locked", c.Locked)
	m.texts("ignored", c.Ignored)
	m.json("response_format", c.ResponseFormat)
	m.json("tools", c.Tools)
	addVariables(m, c)
	if len(c.References) > 0 {
		m.add("references", referencesNode(c))
	}
	m.text("note", f.Note)
	return m.node, m.err
}

func addVariables(m *mapping, c *template.Content) {
	variables := newMapping()
	for _, name := range slices.Sorted(maps.Keys(c.Variables)) {
		v := c.Variables[name]
		if v.Inferred {
			continue
		}
		one := newMapping()
		one.json("schema", v.Schema)
		if v.Required {
			one.json("required", json.RawMessage(`true`))
		}
		one.json("default", v.Default)
		if v.LastUserMessage {
			one.json("last_user_message", json.RawMessage(`true`))
		}
		variables.mapping(name, one)
	}
	if len(variables.node.Content) > 0 {
		m.mapping("variables", variables)
	}
}

func referencesNode(c *template.Content) *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, r := range c.References {
		one := newMapping()
		one.text("spelling", r.Spelling)
		one.text("prompt_id", r.PromptID)
		one.json("version", strconv.AppendInt(nil, int64(r.Version), 10))
		one.text("digest", r.Digest)
		list.Content = append(list.Content, one.node)
	}
	return list
}

func writeMessages(b *bytes.Buffer, f *File) error {
	messages := f.Content.Messages
	if f.Kind == registry.KindText && isText(messages) {
		writeText(b, messages[0].Text, true)
		return nil
	}
	if f.Kind == registry.KindText {
		return fmt.Errorf("a prompt of kind text has one message of role user, with one text; correct it")
	}
	for i := range messages {
		b.WriteString("\n") // the first belongs to nobody, the others end the text before them
		if err := writeMessage(b, &messages[i], i == len(messages)-1); err != nil {
			return fmt.Errorf("messages[%d]: %w", i, err)
		}
	}
	return nil
}

// isText reports whether messages are a text prompt's.
func isText(messages []template.Message) bool {
	if len(messages) != 1 {
		return false
	}
	m := messages[0]
	return (m.Role == "user" || m.Role == "") && m.Type == "" && m.Name == "" && m.ToolCallID == "" && len(m.Parts) == 0 && len(m.ToolCalls) == 0
}

// writeMessage writes a message whose predecessor's empty line was written.
func writeMessage(b *bytes.Buffer, m *template.Message, last bool) error {
	switch {
	case m.Type == template.TypePlaceholder:
		if m.Name == "" || strings.ContainsAny(m.Name, " \t\r\n") {
			return fmt.Errorf("a placeholder needs a name without white space")
		}
		fmt.Fprintf(b, "=== placeholder %s ===\n", m.Name)
		return nil
	case m.Type != "":
		return fmt.Errorf("the type %q is not known", m.Type)
	case !slices.Contains([]string{"system", "developer", "user", "assistant", "tool"}, m.Role):
		return fmt.Errorf("the role must be system, developer, user, assistant or tool")
	}
	b.WriteString(mark + m.Role)
	if m.Name != "" {
		b.WriteString(" name=" + quoteJSON(m.Name))
	}
	if m.ToolCallID != "" {
		b.WriteString(" tool_call_id=" + quoteJSON(m.ToolCallID))
	}
	b.WriteString(" ===\n")
	if m.Text != "" && len(m.Parts) > 0 {
		return fmt.Errorf("a message has either text or parts")
	}
	below := len(m.Parts)
	if len(m.ToolCalls) > 0 {
		below++
	}
	if m.Text != "" || below == 0 {
		writeText(b, m.Text, last && below == 0)
		if below > 0 {
			b.WriteString("\n")
		}
	}
	return writeBelow(b, m, last)
}

// writeBelow writes the parts and the tool calls of a message.
func writeBelow(b *bytes.Buffer, m *template.Message, last bool) error {
	for i, p := range m.Parts {
		if p.Type == "" || strings.ContainsAny(p.Type, " \t\r\n") {
			return fmt.Errorf("parts[%d]: the type must be one word", i)
		}
		fmt.Fprintf(b, "=== part %s ===\n", p.Type)
		if p.Type == "text" {
			final := i == len(m.Parts)-1 && len(m.ToolCalls) == 0
			writeText(b, p.Text, last && final)
			if !final {
				b.WriteString("\n")
			}
		} else if err := writeJSON(b, p.Value); err != nil {
			return fmt.Errorf("parts[%d]: %w", i, err)
		}
	}
	if len(m.ToolCalls) == 0 {
		return nil
	}
	b.WriteString("=== tool_calls ===\n")
	return writeJSON(b, m.ToolCalls)
}

// writeText writes a text so that trimEnd leaves just that. What follows a text is an empty line and a separator, or, when it
// is the last, the end of the file, where an empty line is only written when the text ends in one.
func writeText(b *bytes.Buffer, text string, last bool) {
	for rest := text; rest != ""; {
		var line string
		if i := strings.IndexByte(rest, '\n'); i >= 0 {
			line, rest = rest[:i+1], rest[i+1:]
		} else {
			line, rest = rest, ""
		}
		if strings.HasPrefix(strings.TrimLeft(line, `\`), mark) {
			b.WriteByte('\\')
		}
		b.WriteString(line)
	}
	b.WriteByte('\n')
	if last && strings.HasSuffix(text, "\n") {
		b.WriteByte('\n')
	}
}

// writeJSON writes JSON indented; strings and numbers keep their spelling.
func writeJSON(b *bytes.Buffer, raw json.RawMessage) error {
	v := jsontext.Value(bytes.Clone(raw))
	err := v.Indent(jsontext.WithIndent("  "), jsontext.PreserveRawStrings(true), jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false))
	if err != nil {
		return fmt.Errorf("it is not valid JSON: %w", err)
	}
	b.Write(v)
	b.WriteByte('\n')
	return nil
}
