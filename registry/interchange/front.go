package interchange

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/promptgate/promptgate/registry"
	"github.com/promptgate/promptgate/registry/template"
)

// readFront reads the front matter's keys into f.
func readFront(front []byte, f *File) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(front, &doc); err != nil {
		return yamlError(err)
	}
	if len(doc.Content) == 0 {
		return nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return wrong(root, "the front matter must be keys with values, such as name: support/triage")
	}
	if err := checkNode(root, 0); err != nil {
		return err
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if err := readKey(root.Content[i], root.Content[i+1], f); err != nil {
			return err
		}
	}
	return nil
}

// yamlError takes the line out of the library's message.
func yamlError(err error) error {
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(msg, "line "); ok {
		if number, text, ok := strings.Cut(rest, ": "); ok {
			if line, err := strconv.Atoi(number); err == nil {
				return &lineError{line, "the front matter is not valid YAML: " + text}
			}
		}
	}
	return &lineError{1, "the front matter is not valid YAML: " + msg}
}

func readKey(key, value *yaml.Node, f *File) error {
	c := &f.Content
	switch key.Value {
	case "name":
		return readText(key, value, &f.Name)
	case "kind":
		kind := ""
		if err := readText(key, value, &kind); err != nil {
			return err
		}
		if f.Kind = registry.Kind(kind); f.Kind != registry.KindChat && f.Kind != registry.KindText {
			return wrong(value, "the kind must be chat or text")
		}
		return nil
	case "base":
		return readBase(key, value, &f.Base)
	case "description":
		f.Description = new(string)
		return readText(key, value, f.Description)
	case "category":
		f.Category = new(string)
		return readText(key, value, f.Category)
	case "owner":
		f.Owner = new(string)
		return readText(key, value, f.Owner)
	case "note":
		return readText(key, value, &f.Note)
	case "model":
		return readText(key, value, &c.Model)
	case "tags":
		f.Tags = new([]string)
		return readTexts(key, value, f.Tags)
	case "aliases":
		f.Aliases = new([]string)
		return readTexts(key, value, f.Aliases)
	case "labels":
		return readTexts(key, value, &f.Labels)
	case "locked":
		err := readTexts(key, value, &c.Locked)
		slices.Sort(c.Locked)
		return err
	case "ignored":
		err := readTexts(key, value, &c.Ignored)
		slices.Sort(c.Ignored)
		return err
	case "tools":
		return readJSON(value, &c.Tools)
	case "response_format":
		return readJSON(value, &c.ResponseFormat)
	case "parameters":
		return readParameters(value, c)
	case "variables":
		return readVariables(value, c)
	case "references":
		return readReferences(value, c)
	}
	return wrong(key, "the key %q is not known; use one of %s", key.Value, strings.Join(Keys(), ", "))
}

// Keys are the keys of a front matter, in the order in which files have them.
func Keys() []string {
	return []string{"name", "kind", "base", "description", "category", "owner", "tags", "aliases", "labels", "model", "parameters", "locked", "ignored",
		"response_format", "tools", "variables", "references", "note"}
}

// readText reads a string. A plain number or boolean is one here, as it is spelled.
func readText(key, n *yaml.Node, into *string) error {
	if n.Kind != yaml.ScalarNode {
		return wrong(n, "%s must be a text; write it on one line or as a block behind |", key.Value)
	}
	if n.Style == 0 && n.ShortTag() == "!!null" {
		return wrong(n, "%s is empty; write a text or remove the key", key.Value)
	}
	*into = n.Value
	return nil
}

func readTexts(key, n *yaml.Node, into *[]string) error {
	if n.Kind != yaml.SequenceNode {
		return wrong(n, "%s must be a list: [one, two]", key.Value)
	}
	*into = []string{}
	for _, item := range n.Content {
		text := ""
		if err := readText(key, item, &text); err != nil {
			return err
		}
		*into = append(*into, text)
	}
	return nil
}

func readJSON(n *yaml.Node, into *json.RawMessage) error {
	raw, err := appendJSON(nil, n)
	*into = raw
	return err
}

// entries calls read for each key of a mapping.
func entries(n *yaml.Node, read func(key, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return wrong(n, "this must be keys with values, one a line and indented")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if err := read(n.Content[i], n.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func readParameters(n *yaml.Node, c *template.Content) error {
	c.Parameters = map[string]json.RawMessage{}
	return entries(n, func(key, value *yaml.Node) error {
		raw, err := appendJSON(nil, value)
		c.Parameters[key.Value] = raw
		return err
	})
}

func readVariables(n *yaml.Node, c *template.Content) error {
	c.Variables = map[string]template.Variable{}
	return entries(n, func(name, value *yaml.Node) error {
		var v template.Variable
		err := entries(value, func(key, value *yaml.Node) error {
			switch key.Value {
			case "schema":
				return readJSON(value, &v.Schema)
			case "default":
				return readJSON(value, &v.Default)
			case "required":
				return readBool(value, &v.Required)
			case "last_user_message":
				return readBool(value, &v.LastUserMessage)
			}
			return wrong(key, "the key %q is not known; a variable has schema, required, default and last_user_message", key.Value)
		})
		c.Variables[name.Value] = v
		return err
	})
}

func readBool(n *yaml.Node, into *bool) error {
	switch {
	case n.Style == 0 && n.Value == "true":
		*into = true
	case n.Style == 0 && n.Value == "false":
		*into = false
	default:
		return wrong(n, "this must be true or false")
	}
	return nil
}

func readReferences(n *yaml.Node, c *template.Content) error {
	if n.Kind != yaml.SequenceNode {
		return wrong(n, "references must be a list")
	}
	for _, item := range n.Content {
		var r template.Reference
		err := entries(item, func(key, value *yaml.Node) error {
			switch key.Value {
			case "spelling":
				return readText(key, value, &r.Spelling)
			case "prompt_id":
				return readText(key, value, &r.PromptID)
			case "digest":
				return readText(key, value, &r.Digest)
			case "version":
				var err error
				if r.Version, err = strconv.Atoi(value.Value); err != nil {
					return wrong(value, "the version must be a whole number")
				}
				return nil
			}
			return wrong(key, "the key %q is not known; a reference has spelling, prompt_id, version and digest", key.Value)
		})
		if err != nil {
			return err
		}
		c.References = append(c.References, r)
	}
	return nil
}

// lineOf is the line that err names, 1 when it names none.
func lineOf(err error) int {
	var at *lineError
	if errors.As(err, &at) {
		return at.line
	}
	return 1
}
