package interchange

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/template"
)

// Parse reads a prompt file. A file without a name gets filename's, less Extension, so give it relative to the folder that holds the
// prompts. Errors are InvalidRequest, with filename as Param, and a message that names file and line and says what to do;
// RequestTooLarge past MaxBytes. What the prompt says is not judged: template.Check does that.
func Parse(r io.Reader, filename string) (File, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return File{}, fmt.Errorf("reading %s: %w", filename, err)
	}
	if len(raw) > MaxBytes {
		return File{}, fault.New(fault.RequestTooLarge, "%s has more than %d bytes; pass long material as a variable", filename, MaxBytes).WithParam(filename)
	}
	if !utf8.Valid(raw) {
		return File{}, problem(filename, 1+bytes.Count(raw[:validPrefix(raw)], []byte("\n")), "the file is not valid UTF-8; save it in that encoding")
	}
	text := strings.TrimPrefix(string(raw), "\ufeff")
	if first, _, _ := strings.Cut(text, "\n"); strings.HasSuffix(first, "\r") {
		text = strings.ReplaceAll(text, "\r\n", "\n")
	}
	front, body, ok := cutFront(text)
	if !ok {
		return File{}, problem(filename, 1, "the file must start with front matter: a line ---, keys such as name: support/triage, and a line ---")
	}
	f := File{Kind: registry.KindChat}
	if err := readFront([]byte("\n"+front), &f); err != nil {
		return File{}, problem(filename, lineOf(err), "%s", err)
	}
	if f.Unnamed = f.Name == ""; f.Unnamed {
		f.Name = strings.TrimSuffix(path.Clean(strings.ReplaceAll(filename, `\`, "/")), Extension)
	}
	p := &parser{file: &f, line: 3 + strings.Count(front, "\n")}
	if err := p.body(body); err != nil {
		return File{}, problem(filename, p.line, "%s", err)
	}
	return f, nil
}

func validPrefix(raw []byte) int {
	n := 0
	for n < len(raw) {
		r, size := utf8.DecodeRune(raw[n:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		n += size
	}
	return n
}

// cutFront cuts a file at its two lines "---", whatever white space is behind them. The front matter keeps its last line end.
func cutFront(text string) (front, body string, ok bool) {
	first, rest, _ := strings.Cut(text, "\n")
	if !isFence(first) {
		return "", "", false
	}
	for at := 0; at < len(rest); {
		line, _, _ := strings.Cut(rest[at:], "\n")
		if isFence(line) {
			return rest[:at], rest[min(at+len(line)+1, len(rest)):], true
		}
		at += len(line) + 1
	}
	return "", "", false
}

func isFence(line string) bool { return strings.TrimRight(line, " \t\r") == "---" }

const mark = "=== "

// parser reads the messages.
type parser struct {
	file *File
	line int // 1-based: where the block being read starts
}

// block is a separator and what stands below it.
type block struct {
	words string // of the separator, "" for what comes before the first
	text  string
	line  int
}

// body splits the text into blocks and reads each.
func (p *parser) body(body string) error {
	blocks := split(body, p.line)
	if first := blocks[0]; p.file.Kind == registry.KindText && len(blocks) == 1 {
		p.file.Content.Messages = []template.Message{{Role: "user", Text: trimEnd(first.text)}}
		return nil
	} else if strings.TrimSpace(first.text) != "" {
		return fmt.Errorf("there is text before the first separator; put a line === user === (or another role) above it, or write kind: text in the front matter")
	}
	for _, b := range blocks[1:] {
		p.line = b.line
		if err := p.block(b); err != nil {
			return err
		}
	}
	return nil
}

// split cuts a body at its separator lines and takes one backslash from the lines that were given one.
func split(body string, line int) []block {
	blocks := []block{{line: line}}
	var text strings.Builder
	for rest := body; rest != ""; line++ {
		var this string
		if i := strings.IndexByte(rest, '\n'); i >= 0 {
			this, rest = rest[:i+1], rest[i+1:]
		} else {
			this, rest = rest, ""
		}
		if strings.HasPrefix(this, mark) {
			blocks[len(blocks)-1].text = text.String()
			text.Reset()
			blocks = append(blocks, block{words: strings.TrimRight(this, "\r\n"), line: line})
			continue
		}
		if this[0] == '\\' && strings.HasPrefix(strings.TrimLeft(this, `\`), mark) {
			this = this[1:]
		}
		text.WriteString(this)
	}
	blocks[len(blocks)-1].text = text.String()
	return blocks
}

// trimEnd takes the line end before a separator, and one empty line.
func trimEnd(text string) string {
	return strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\n")
}

// block reads one separator and its text.
func (p *parser) block(b block) error {
	inner, ok := strings.CutSuffix(strings.TrimPrefix(strings.TrimRight(b.words, " \t"), mark), " ===")
	if !ok {
		return fmt.Errorf("a line that starts with === must be a separator such as === user ===; to write it as text, put a backslash before it")
	}
	word, rest, _ := strings.Cut(strings.TrimSpace(inner), " ")
	c := &p.file.Content
	switch word {
	case "system", "developer", "user", "assistant", "tool":
		m := template.Message{Role: word, Text: trimEnd(b.text)}
		if err := attributes(rest, &m); err != nil {
			return err
		}
		c.Messages = append(c.Messages, m)
		return nil
	case "placeholder":
		if rest == "" || strings.ContainsAny(rest, " \t") {
			return fmt.Errorf("a placeholder needs one name: === placeholder history ===")
		}
		if strings.TrimSpace(b.text) != "" {
			return fmt.Errorf("a placeholder has no text; put a separator such as === user === above the text")
		}
		c.Messages = append(c.Messages, template.Message{Type: template.TypePlaceholder, Name: rest})
		return nil
	case "part", "tool_calls":
		n := len(c.Messages)
		if n == 0 || c.Messages[n-1].Type != "" {
			return fmt.Errorf("=== %s === belongs to a message; put one such as === user === above it", word)
		}
		return p.below(&c.Messages[n-1], word, rest, b.text)
	}
	return fmt.Errorf("%q begins no separator; use system, developer, user, assistant, tool, placeholder, part or tool_calls, or put a backslash before the line to write it as text", word)
}

// below reads a part or tool calls into the message above.
func (p *parser) below(m *template.Message, word, rest, text string) error {
	if word == "tool_calls" {
		if rest != "" || m.ToolCalls != nil {
			return fmt.Errorf("a message has one === tool_calls ===, with nothing else in the line")
		}
		raw, err := bodyJSON(text)
		m.ToolCalls = raw
		return err
	}
	if strings.TrimSpace(m.Text) != "" {
		return fmt.Errorf("a message has either text or parts; put === part text === above its text")
	}
	m.Text = ""
	switch rest {
	case "":
		return fmt.Errorf("a part needs a type: === part text ===, or image_url, file, input_audio")
	case "text":
		m.Parts = append(m.Parts, template.Part{Type: rest, Text: trimEnd(text)})
		return nil
	}
	if strings.ContainsAny(rest, " \t") {
		return fmt.Errorf("a part has one word for its type: text, image_url, file or input_audio")
	}
	raw, err := bodyJSON(text)
	m.Parts = append(m.Parts, template.Part{Type: rest, Value: raw})
	return err
}

// bodyJSON is the JSON below a separator, compact, its numbers and strings as they are spelled.
func bodyJSON(text string) (json.RawMessage, error) {
	raw := jsontext.Value(text)
	if err := raw.Format(jsontext.PreserveRawStrings(true), jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false)); err != nil {
		return nil, fmt.Errorf("what stands below this separator must be JSON: %w", err)
	}
	return json.RawMessage(raw), nil
}

// attributes reads name="…" and tool_call_id="…" behind a role.
func attributes(rest string, m *template.Message) error {
	for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimSpace(rest) {
		key, value, ok := strings.Cut(rest, "=")
		into := map[string]*string{"name": &m.Name, "tool_call_id": &m.ToolCallID}[key]
		if !ok || into == nil || *into != "" {
			return fmt.Errorf("a role may be followed by name=\"…\" and tool_call_id=\"…\", each once, and nothing else")
		}
		dec := jsontext.NewDecoder(strings.NewReader(value))
		token, err := dec.ReadToken()
		if err != nil || token.Kind() != '"' {
			return fmt.Errorf("%s must be followed by a text in double quotes: %s=\"…\"", key, key)
		}
		*into = token.String()
		rest = value[dec.InputOffset():]
	}
	return nil
}
