package template

import (
	"encoding/json"

	"github.com/promptgate/promptgate/internal/fault"
)

// Compiled is a version's content parsed to trees, ready to render; safe for concurrent use.
type Compiled struct {
	content Content
}

// References lists the spellings of the text prompts that c includes ("name@label" or "name@3"), each once, in order.
//
// Saving a version is, in this order: References, look each up and pin it in c.References, Infer, Check, Compile, Digest.
func References(c Content) ([]string, error) { return nil, nil }

// Infer returns c's variables completed by those that its templates, and the texts that they include, use without declaring.
// refs holds the included contents by digest, as Compile takes them.
func Infer(c Content, refs map[string]Content) (map[string]Variable, error) { return c.Variables, nil }

// Check refuses, with InvalidTemplate and the path at fault as Param, all that can be refused when a version is saved.
// References must be pinned already.
func Check(c Content) error { return nil }

// Compile prepares c for rendering. refs holds every included content by its digest (Reference.Digest), those of included
// contents as well: a digest means the same text wherever it is included, so one flat map serves includes of includes.
func Compile(c Content, refs map[string]Content) (*Compiled, error) { return &Compiled{content: c}, nil }

// Content is what was compiled, variables completed. Read only.
func (c *Compiled) Content() *Content { return &c.content }

// CheckVariables judges a call's variables: MissingVariable, UnknownVariable or InvalidVariable with Param
// "prompt.variables.<name>". known tells whether any version of the prompt declares a name; nil: none does.
func (c *Compiled) CheckVariables(vars map[string]json.RawMessage, known func(name string) bool) error {
	return nil
}

// AppendMessages appends the JSON array of messages for the provider to dst. caller is the JSON array of messages that the
// caller sent, nil for none; it goes verbatim to the placeholder that no variable fills, else to the end.
func (c *Compiled) AppendMessages(dst []byte, vars map[string]json.RawMessage, caller []byte) ([]byte, error) {
	return nil, fault.New(fault.NotImplemented, "rendering comes with the next commit")
}
