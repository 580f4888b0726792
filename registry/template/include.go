package template

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/promptgate/promptgate/internal/fault"
)

// textAt is one template text of a content and its path in it.
type textAt struct {
	path string
	text string
}

// texts lists the template texts of c in order.
func texts(c *Content) []textAt {
	var all []textAt
	for i := range c.Messages {
		m := &c.Messages[i]
		path := "messages[" + strconv.Itoa(i) + "]"
		if m.Text != "" {
			all = append(all, textAt{path + ".text", m.Text})
		}
		for j := range m.Parts {
			if p := &m.Parts[j]; p.Type == partText {
				all = append(all, textAt{path + ".parts[" + strconv.Itoa(j) + "].text", p.Text})
			}
		}
	}
	return all
}

// invalid is the fault for something in a version that cannot be saved.
func invalid(path, format string, args ...any) *fault.Error {
	f := fault.New(fault.InvalidTemplate, format, args...).WithParam(path)
	f.Message = path + ": " + f.Message
	return f
}

// scanAt scans the text at a path of c.
func scanAt(t textAt) ([]token, error) {
	tokens, err := scan(t.text)
	if err != nil {
		return nil, invalid(t.path, "%s", err)
	}
	return tokens, nil
}

// References lists the spellings of the text prompts that c includes ("name@label" or "name@3"), each once, in order.
//
// Saving a version is, in this order: References; look each up and pin it in c.References; Infer, for c.Variables; Check; Compile,
// which finds what only the included texts can show; Digest.
func References(c Content) ([]string, error) {
	var found []string
	seen := map[string]bool{}
	for _, t := range texts(&c) {
		tokens, err := scanAt(t)
		if err != nil {
			return nil, err
		}
		for _, tok := range tokens {
			if tok.kind == tokInclude && !seen[tok.text] {
				seen[tok.text] = true
				found = append(found, tok.text)
			}
		}
	}
	return found, nil
}

// includer replaces includes by the tokens of what they include. Tokens, not text: whatever delimiters or braces stand around an
// include, nothing in the included text is read twice.
type includer struct {
	refs      map[string]Content             // by digest
	expanded  map[string][]token             // by digest
	variables map[string]map[string]Variable // declared by a text and those below it, by digest
	bytes     int                            // of literals in all texts
	tags      int
}

func newIncluder(refs map[string]Content) *includer {
	return &includer{refs: refs, expanded: map[string][]token{}, variables: map[string]map[string]Variable{}}
}

// expand returns the tokens of one text of c with its includes replaced.
func (in *includer) expand(t textAt, c *Content) ([]token, error) {
	tokens, err := scanAt(t)
	if err != nil {
		return nil, err
	}
	if tokens, err = in.replace(tokens, c.References, 0); err == nil {
		err = checkDepth(tokens)
	}
	if err == nil {
		err = in.account(tokens)
	}
	if err != nil {
		return nil, invalid(t.path, "%s", err)
	}
	return tokens, nil
}

func (in *includer) replace(tokens []token, pins []Reference, depth int) ([]token, error) {
	out := make([]token, 0, len(tokens))
	for _, tok := range tokens {
		if tok.kind != tokInclude {
			out = append(out, tok)
			continue
		}
		included, err := in.include(tok.text, pins, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, included...)
		if len(out) > 3*MaxTags {
			return nil, fmt.Errorf("with the texts that it includes it has more than %d tags; include less", MaxTags)
		}
	}
	return out, nil
}

// include returns the tokens of the text that pins say a spelling stands for.
func (in *includer) include(spelling string, pins []Reference, depth int) ([]token, error) {
	if depth > MaxIncludeDepth {
		return nil, fmt.Errorf("{{> %s}} includes texts more than %d deep; include the innermost ones directly", spelling, MaxIncludeDepth)
	}
	digest := ""
	for _, pin := range pins {
		if pin.Spelling == spelling {
			digest = pin.Digest
		}
	}
	if digest == "" {
		return nil, fmt.Errorf("{{> %s}} is not pinned to a version; save the version anew so that it is looked up", spelling)
	}
	if tokens, ok := in.expanded[digest]; ok {
		return tokens, nil
	}
	c, ok := in.refs[digest]
	if !ok {
		return nil, fmt.Errorf("the text that {{> %s}} is pinned to was not loaded", spelling)
	}
	if actual, err := c.Digest(); err != nil || actual != digest {
		return nil, fmt.Errorf("the text that {{> %s}} is pinned to is not the one that was pinned; its digest differs", spelling)
	}
	text, err := includedText(&c)
	if err != nil {
		return nil, fmt.Errorf("{{> %s}}: %w", spelling, err)
	}
	tokens, err := scan(text)
	if err == nil {
		tokens, err = in.replace(tokens, c.References, depth)
	}
	if err != nil {
		return nil, fmt.Errorf("{{> %s}}: %w", spelling, err)
	}
	in.expanded[digest] = tokens
	return tokens, nil
}

// includedText is the text of a text prompt, the only kind that may be included: an include can bring no message and no role.
func includedText(c *Content) (string, error) {
	if len(c.Messages) != 1 || c.Messages[0].Type != "" || len(c.Messages[0].Parts) > 0 || len(c.Messages[0].ToolCalls) > 0 {
		return "", errors.New("only a prompt of kind text, with its one text, can be included")
	}
	return c.Messages[0].Text, nil
}

// account bounds what all texts of a version come to.
func (in *includer) account(tokens []token) error {
	for _, t := range tokens {
		in.bytes += len(t.text)
		if t.kind != tokText {
			in.tags++
		}
	}
	if in.tags > MaxContentTags {
		return fmt.Errorf("with the texts that it includes the version has more than %d tags; use sections over lists instead", MaxContentTags)
	}
	if in.bytes > MaxContentBytes {
		return fmt.Errorf("with the texts that it includes the version has more than %d bytes; shorten it or pass long material as a variable", MaxContentBytes)
	}
	return nil
}

// checkDepth bounds the nesting of sections across includes.
func checkDepth(tokens []token) error {
	depth, tags := 0, 0
	for _, t := range tokens {
		if t.kind != tokText {
			tags++
		}
		switch t.kind {
		case tokOpen, tokInverted:
			depth++
		case tokClose:
			depth--
		}
		if depth > MaxSectionDepth {
			return fmt.Errorf("with the texts that it includes its sections are nested more than %d deep; flatten them", MaxSectionDepth)
		}
	}
	if tags > MaxTags {
		return fmt.Errorf("with the texts that it includes it has more than %d tags; include less", MaxTags)
	}
	return nil
}
