package template

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/promptgate/promptgate/internal/names"
)

// # The language
//
// A text is plain but for tags between {{ and }}; single braces, as in {"a": {"b": 1}}, are text.
//
// Names are compared in Unicode's form NFC, in texts, in declarations and in what callers send.
//
//	{{name}} {{{name}}} {{&name}}   the value, verbatim: nothing is escaped, in any of the three
//	{{user.name}}                   a member of an object
//	{{#name}}…{{/name}}             once with an object or any other value that counts, for each item of a list
//	{{^name}}…{{/name}}             when the value is absent, false, null, 0, "" (or blank), or an empty list
//	{{.}}                           inside a section: its own value
//	{{> support/tone@production}}   the text of another prompt, in place of the tag, nothing around it changed
//	{{! comment }}                  nothing
//	{{=<% %>=}}                     other delimiters from here on: {{ is text then, until <%={{ }}=%>
//
// A section, comment or delimiter tag alone on its line takes the line with it. This is Mustache, with its specification's
// white space; what differs is said above: no HTML escaping, and includes do not touch their surroundings.

// Bounds of a version, so that neither saving nor rendering one can take a machine down. Bytes unless said otherwise.
const (
	MaxTextBytes      = 256 << 10 // one text
	MaxContentBytes   = 1 << 20   // all texts of a version, included ones too
	MaxRawBytes       = 4 << 20   // one raw JSON field: tools, an image in a part
	MaxSchemaBytes    = 64 << 10  // one variable's schema
	MaxMessages       = 512       // messages of a version
	MaxParts          = 64        // parts of a message
	MaxTags           = 2000      // tags of one text, included texts expanded
	MaxContentTags    = 20_000    // tags of all texts of a version, included texts expanded
	MaxParameters     = 128       // further body fields
	MaxParameterBytes = 256 << 10 // of all of them
	MaxLocked         = 128       // locked fields, and ignored ones
	MaxTools          = 1024      // tools of a version, tool calls of a message
	MaxVariables      = 256       // declared and inferred
	MaxSectionDepth   = 16        // sections in sections
	MaxIncludeDepth   = 5         // texts in texts
	MaxNameBytes      = 128       // a variable's name, dots included
	MaxJSONDepth      = 64        // nesting of a value or a raw field
	MaxListItems      = 10_000    // of a list that a value holds, where sections may repeat over it
	MaxRenderedBytes  = 16 << 20  // what a version's messages may become, the caller's own not counted
	maxRenderSteps    = 1_000_000 // of sections in one call: tags and names that are looked up
	maxDataSteps      = 200_000   // values that are made ready for sections in one call
)

// tokenKind is what a token of a text does.
type tokenKind uint8

const (
	tokText     tokenKind = iota // literal text
	tokValue                     // {{name}}
	tokOpen                      // {{#name}}
	tokInverted                  // {{^name}}
	tokClose                     // {{/name}}
	tokInclude                   // {{> spelling}}
)

// token is one literal or tag of a text.
type token struct {
	kind tokenKind
	text string // the literal, the name, or the spelling
	line int    // 1-based, of a tag
}

// syntaxError is a text that cannot be read: where, and what to do.
type syntaxError struct {
	line int
	msg  string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.msg) }

var (
	namePattern      = regexp.MustCompile(`^[\p{L}\p{N}_][\p{L}\p{M}\p{N}_-]*$`)
	dottedPattern    = regexp.MustCompile(`^[\p{L}\p{N}_][\p{L}\p{M}\p{N}_-]*(\.[\p{L}\p{N}_][\p{L}\p{M}\p{N}_-]*)*$`)
	referencePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]*(/[a-z0-9][a-z0-9_.-]*)*@([a-z][a-z0-9_.-]{0,35}|[1-9][0-9]{0,8})$`)
)

// ValidName reports whether s can name a variable: letters, digits, _ and -, at most MaxNameBytes; no dots, which reach into objects.
func ValidName(s string) bool { return len(s) <= MaxNameBytes && namePattern.MatchString(s) }

const literalHint = `to write {{ as text, change the delimiters before it: {{=<% %>=}}`

// scanner reads a text's tags. Its treatment of lines that hold nothing but a tag is the mustache library's, byte for byte
// (a property test compares the two).
type scanner struct {
	src         string
	pos         int
	line        int
	open, close string
	tokens      []token
	depth       []token // open sections
	tags        int
}

// scan splits a text into tokens, sections balanced, names valid.
func scan(src string) ([]token, error) {
	if len(src) > MaxTextBytes {
		return nil, &syntaxError{1, fmt.Sprintf("the text has %d bytes; at most %d are taken, so split it or pass long material as a variable", len(src), MaxTextBytes)}
	}
	if !utf8.ValidString(src) {
		return nil, &syntaxError{1, "the text is not valid UTF-8; save it in that encoding"}
	}
	s := &scanner{src: src, line: 1, open: "{{", close: "}}"}
	for {
		i := strings.Index(s.src[s.pos:], s.open)
		if i < 0 {
			s.literal(s.src[s.pos:])
			break
		}
		if err := s.tag(s.pos + i); err != nil {
			return nil, err
		}
	}
	if n := len(s.depth); n > 0 {
		o := s.depth[n-1]
		return nil, &syntaxError{o.line, fmt.Sprintf("section %q is never closed; add {{/%s}}", o.text, o.text)}
	}
	return s.tokens, nil
}

// literal appends text, joined to a literal before it.
func (s *scanner) literal(text string) {
	s.line += strings.Count(text, "\n")
	if text == "" {
		return
	}
	if n := len(s.tokens); n > 0 && s.tokens[n-1].kind == tokText {
		s.tokens[n-1].text += text
		return
	}
	s.tokens = append(s.tokens, token{kind: tokText, text: text})
}

// tag reads the tag whose opening delimiter stands at, with the text before it.
func (s *scanner) tag(at int) error {
	start := s.pos
	lineStart := at
	for lineStart > start && (s.src[lineStart-1] == ' ' || s.src[lineStart-1] == '\t') {
		lineStart--
	}
	ownLine := lineStart == 0 || s.src[lineStart-1] == '\n'
	s.literal(s.src[start:lineStart])

	s.tags++
	body := at + len(s.open)
	closing := s.close
	if body < len(s.src) && s.src[body] == '{' {
		closing = "}" + s.close
	}
	n := strings.Index(s.src[body:], closing)
	line := s.line
	if n < 0 {
		return &syntaxError{line, fmt.Sprintf("a tag is opened with %s and never closed with %s; close it, or %s", s.open, closing, literalHint)}
	}
	inner := s.src[body : body+n+len(closing)-len(s.close)]
	s.pos = body + n + len(closing)
	text := strings.TrimSpace(inner)
	if text == "" {
		return &syntaxError{line, "a tag is empty; name a variable in it, or " + literalHint}
	}
	if !ownLine || !strings.ContainsRune("#^/!=", rune(text[0])) || !s.skipLineEnd() {
		s.literal(s.src[lineStart:at])
	}
	s.line += strings.Count(inner, "\n")
	if s.tags > MaxTags {
		return &syntaxError{line, fmt.Sprintf("the text has more than %d tags; use a section over a list instead", MaxTags)}
	}
	return s.act(text, line)
}

// skipLineEnd passes over the rest of a line that holds nothing but white space, and reports whether it was so.
func (s *scanner) skipLineEnd() bool {
	i := s.pos
	for i < len(s.src) && (s.src[i] == ' ' || s.src[i] == '\t') {
		i++
	}
	switch rest := s.src[i:]; {
	case rest == "":
		// The library takes trailing white space at the end of the text for content.
		return i == s.pos
	case rest[0] == '\n':
		s.pos = i + 1
	case strings.HasPrefix(rest, "\r\n"):
		s.pos = i + 2
	default:
		return false
	}
	s.line++
	return true
}

// act does what a tag says.
func (s *scanner) act(text string, line int) error {
	switch text[0] {
	case '!':
		return nil
	case '=':
		return s.delimiters(text, line)
	case '>':
		return s.include(strings.TrimSpace(text[1:]), line)
	case '#', '^', '/':
		return s.section(text[0], strings.TrimSpace(text[1:]), line)
	case '&':
		return s.value(strings.TrimSpace(text[1:]), line)
	case '{':
		return s.value(strings.TrimSpace(strings.TrimSuffix(text[1:], "}")), line)
	}
	return s.value(text, line)
}

func (s *scanner) value(name string, line int) error {
	name = names.Normal(name)
	if name == "." {
		if !s.inItem() {
			return &syntaxError{line, "{{.}} stands outside of a section that has a value; name a variable instead"}
		}
	} else if err := checkTagName(name, line); err != nil {
		return err
	}
	s.tokens = append(s.tokens, token{tokValue, name, line})
	return nil
}

// inItem reports whether {{.}} has a value of its own: elsewhere it would print all variables at once.
func (s *scanner) inItem() bool {
	return slices.ContainsFunc(s.depth, func(t token) bool { return t.kind == tokOpen })
}

func checkTagName(name string, line int) error {
	if len(name) <= MaxNameBytes && dottedPattern.MatchString(name) {
		return nil
	}
	if len(name) > 40 {
		name = strings.ToValidUTF8(name[:40], "") + "…"
	}
	return &syntaxError{line, fmt.Sprintf("%q is no variable name (letters, digits, _ and -, dots between members, at most %d bytes); rename it, or %s", name, MaxNameBytes, literalHint)}
}

func (s *scanner) section(sigil byte, name string, line int) error {
	name = names.Normal(name)
	if name != "." || sigil != '/' && !s.inItem() {
		if err := checkTagName(name, line); err != nil {
			return err
		}
	}
	if sigil != '/' {
		kind := tokOpen
		if sigil == '^' {
			kind = tokInverted
		}
		if len(s.depth) == MaxSectionDepth {
			return &syntaxError{line, fmt.Sprintf("sections are nested more than %d deep; flatten them", MaxSectionDepth)}
		}
		t := token{kind, name, line}
		s.depth = append(s.depth, t)
		s.tokens = append(s.tokens, t)
		return nil
	}
	n := len(s.depth)
	if n == 0 {
		return &syntaxError{line, fmt.Sprintf("{{/%s}} closes a section that is not open; remove it or open it before", name)}
	}
	if o := s.depth[n-1]; o.text != name {
		return &syntaxError{line, fmt.Sprintf("{{/%s}} closes section %q of line %d; write {{/%s}}", name, o.text, o.line, o.text)}
	}
	s.depth = s.depth[:n-1]
	s.tokens = append(s.tokens, token{tokClose, name, line})
	return nil
}

func (s *scanner) include(spelling string, line int) error {
	if len(spelling) > 256 || !referencePattern.MatchString(spelling) {
		return &syntaxError{line, "an include needs a prompt's name with a label or a version: {{> folder/name@production}} or {{> folder/name@3}}"}
	}
	s.tokens = append(s.tokens, token{tokInclude, spelling, line})
	return nil
}

func (s *scanner) delimiters(text string, line int) error {
	bad := &syntaxError{line, "new delimiters are written {{=<% %>=}}: two marks with a space between, without = in them"}
	if len(text) < 3 || text[len(text)-1] != '=' {
		return bad
	}
	marks := strings.Fields(text[1 : len(text)-1])
	if len(marks) != 2 || !validDelimiter(marks[0]) || !validDelimiter(marks[1]) {
		return bad
	}
	s.open, s.close = marks[0], marks[1]
	return nil
}

func validDelimiter(d string) bool {
	return d != "" && len(d) <= 16 && !strings.Contains(d, "=")
}
