package template

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/promptgate/promptgate/internal/names"
	"github.com/promptgate/promptgate/internal/schemacost"
)

// The types of parts that a message may have.
const (
	partText  = "text"
	partImage = "image_url"
	partFile  = "file"
	partAudio = "input_audio"
)

var (
	fieldPattern  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,63}$`)
	digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// Check refuses, with InvalidTemplate and the path at fault as Param, all that can be refused when a version is saved and its
// references are pinned; what only the included texts can show is Compile's to refuse. It does not change c.
func Check(c Content) error {
	_, err := check(&c)
	return err
}

// check is Check, and the variables' schemas, which cost too much to be compiled twice.
func check(c *Content) (map[string]*schema, error) {
	for _, check := range []func(*Content) error{checkMessages, checkTexts, checkModel, checkParameters, checkLocked} {
		if err := check(c); err != nil {
			return nil, err
		}
	}
	return checkVariables(c)
}

func checkMessages(c *Content) error {
	if len(c.Messages) == 0 {
		return invalid("messages", "there are none; add at least one message")
	}
	if len(c.Messages) > MaxMessages {
		return invalid("messages", "there are %d; at most %d are taken, so put examples in a placeholder's variable", len(c.Messages), MaxMessages)
	}
	places := map[string]bool{}
	for i := range c.Messages {
		m := &c.Messages[i]
		path := fmt.Sprintf("messages[%d]", i)
		switch m.Type {
		case "":
			if err := checkMessage(path, m, len(c.Messages) == 1); err != nil {
				return err
			}
		case TypePlaceholder:
			if m.Role != "" || m.Text != "" || len(m.Parts) > 0 || len(m.ToolCalls) > 0 || m.ToolCallID != "" {
				return invalid(path, "a placeholder has a name and nothing else; remove the rest")
			}
			if !ValidName(m.Name) {
				return invalid(path+".name", "a placeholder needs a name of letters, digits, _ and -, for example history")
			}
			if places[m.Name] {
				return invalid(path+".name", "another placeholder is named %q; rename one", m.Name)
			}
			places[m.Name] = true
		default:
			return invalid(path+".type", "the type must be left out, or be %q for the place of the caller's messages", TypePlaceholder)
		}
	}
	return nil
}

// checkMessage checks a message; alone tells that the content has no other, so that it may be a text prompt's, without a role.
func checkMessage(path string, m *Message, alone bool) error {
	switch m.Role {
	case "system", "developer", "user", "assistant", "tool":
	case "":
		if !alone || len(m.Parts) > 0 {
			return invalid(path+".role", "a role is missing; add system, developer, user, assistant or tool")
		}
	default:
		return invalid(path+".role", "the role must be system, developer, user, assistant or tool")
	}
	if !utf8.ValidString(m.Name) || len(m.Name) > 64 {
		return invalid(path+".name", "a message's name has at most 64 bytes of UTF-8; shorten it")
	}
	if !utf8.ValidString(m.ToolCallID) || len(m.ToolCallID) > 256 {
		return invalid(path+".tool_call_id", "it has at most 256 bytes of UTF-8; shorten it")
	}
	if (m.Role == "tool") != (m.ToolCallID != "") {
		return invalid(path+".tool_call_id", "a message of role tool, and no other, names the call that it answers; correct one of the two")
	}
	if len(m.ToolCalls) > 0 {
		if m.Role != "assistant" {
			return invalid(path+".tool_calls", "only a message of role assistant has tool calls; remove them or change the role")
		}
		if err := checkObjects(path+".tool_calls", m.ToolCalls); err != nil {
			return err
		}
	}
	if m.Text != "" && len(m.Parts) > 0 {
		return invalid(path, "a message has either text or parts; move the text into a part of type text")
	}
	if m.Text == "" && len(m.Parts) == 0 && len(m.ToolCalls) == 0 {
		return invalid(path+".text", "the message is empty; write its text or remove it")
	}
	return checkParts(path, m.Parts)
}

func checkParts(path string, parts []Part) error {
	if len(parts) > MaxParts {
		return invalid(path+".parts", "there are %d parts; at most %d are taken, so split the message", len(parts), MaxParts)
	}
	for i, p := range parts {
		at := fmt.Sprintf("%s.parts[%d]", path, i)
		switch p.Type {
		case partText:
			if p.Text == "" || len(p.Value) > 0 {
				return invalid(at, "a part of type text has a text and no value; correct it or remove it")
			}
		case partImage, partFile, partAudio:
			if p.Text != "" {
				return invalid(at+".text", "a part of type %s has no text; put it in a part of its own", p.Type)
			}
			if err := checkRaw(at+".value", p.Value, '{'); err != nil {
				return err
			}
			if bytes.Contains(canonicalJSON(p.Value), []byte("{{")) {
				return invalid(at+".value", "what a part of type %s holds is sent as it is, and no variable is put into it; let a variable bring the whole part, in a text part that is just {{name}}", p.Type)
			}
		default:
			return invalid(at+".type", "the type must be text, image_url, file or input_audio")
		}
	}
	return nil
}

// checkTexts reads every text, and holds the lock list to what they include: no less, because nothing unpinned may run; no more,
// because the digest covers it.
func checkTexts(c *Content) error {
	used, total := map[string]string{}, 0
	for _, t := range texts(c) {
		tokens, err := scanAt(t)
		if err != nil {
			return err
		}
		if total += len(t.text); total > MaxContentBytes {
			return invalid(t.path, "the texts of this version have more than %d bytes together; shorten them or pass long material as a variable", MaxContentBytes)
		}
		for _, tok := range tokens {
			if tok.kind == tokInclude && used[tok.text] == "" {
				used[tok.text] = t.path
			}
		}
	}
	for i, r := range c.References {
		path := fmt.Sprintf("references[%d]", i)
		if i > 0 && c.References[i-1].Spelling >= r.Spelling {
			return invalid(path, "references must be sorted by spelling, each once; sort them")
		}
		if _, ok := used[r.Spelling]; !ok {
			return invalid(path, "no text includes %q; remove the reference", r.Spelling)
		}
		if r.PromptID == "" || r.Version < 1 || !digestPattern.MatchString(r.Digest) {
			return invalid(path, "%q is not pinned completely; it needs a prompt id, a version and a digest", r.Spelling)
		}
		delete(used, r.Spelling)
	}
	for _, spelling := range slices.Sorted(maps.Keys(used)) {
		return invalid(used[spelling], "{{> %s}} is not pinned to a version; check that the prompt and its label or version exist", spelling)
	}
	return nil
}

func checkModel(c *Content) error {
	if len(c.Model) > 200 || strings.TrimSpace(c.Model) != c.Model || !names.Printable(c.Model) {
		return invalid("model", "a model's name has at most 200 bytes of printable UTF-8, which a header may carry, and no white space around it; correct it")
	}
	if c.Model == "default" || strings.HasPrefix(c.Model, "prompt/") || strings.HasPrefix(c.Model, "@prompt/") {
		return invalid("model", "%q stands for a prompt or for no model; name a model", c.Model)
	}
	if len(c.Tools) > 0 {
		if err := checkObjects("tools", c.Tools); err != nil {
			return err
		}
	}
	if len(c.ResponseFormat) > 0 {
		return checkRaw("response_format", c.ResponseFormat, '{')
	}
	return nil
}

func checkParameters(c *Content) error {
	if len(c.Parameters) > MaxParameters {
		return invalid("parameters", "there are %d; at most %d are taken, so remove those that the provider does not know", len(c.Parameters), MaxParameters)
	}
	total := 0
	for _, name := range slices.Sorted(maps.Keys(c.Parameters)) {
		path := "parameters." + name
		if !fieldPattern.MatchString(name) {
			return invalid("parameters", "%q is no field name; use letters, digits, _ . and -", name)
		}
		switch strings.ToLower(name) {
		case "messages", "input", "instructions":
			return invalid(path, "messages belong to the version's messages; move the text there")
		case "model", "tools", "response_format":
			return invalid(path, "%s has its own place in a version; move it there", name)
		case "prompt", "prompt_id", "stream", "stream_options":
			return invalid(path, "%s is the caller's to set; remove it", name)
		case "prompt_variables", "prompt_version", "prompt_label", "variables", "inputs", "version_id", "environment":
			return invalid(path, "%s is how a request names a prompt or its variables, and not for a provider; remove it (a variable's default stands with the variable)", name)
		}
		if err := checkRaw(path, c.Parameters[name], 0); err != nil {
			return err
		}
		if total += len(c.Parameters[name]); total > MaxParameterBytes {
			return invalid("parameters", "they have more than %d bytes together; shorten them", MaxParameterBytes)
		}
	}
	if c.Parameters["max_tokens"] != nil && c.Parameters["max_completion_tokens"] != nil {
		return invalid("parameters.max_tokens", "max_tokens and max_completion_tokens are one field; keep one of them")
	}
	return nil
}

// checkLocked checks both forms of locks. A field that is ignored must be one that can be left out of a call: what names the prompt, or says how the
// answer comes, is the caller's.
func checkLocked(c *Content) error {
	for _, list := range []struct {
		key   string
		names []string
	}{{"locked", c.Locked}, {"ignored", c.Ignored}} {
		if len(list.names) > MaxLocked {
			return invalid(list.key, "there are %d; at most %d are taken", len(list.names), MaxLocked)
		}
		for i, name := range list.names {
			path := fmt.Sprintf("%s[%d]", list.key, i)
			if !fieldPattern.MatchString(name) {
				return invalid(path, "%q is no field name; use letters, digits, _ . and -", name)
			}
			if i > 0 && list.names[i-1] >= name {
				return invalid(path, "%s fields must be sorted, each once; sort them", list.key)
			}
		}
	}
	for i, name := range c.Ignored {
		path := fmt.Sprintf("ignored[%d]", i)
		switch strings.ToLower(name) {
		case "prompt", "prompt_id", "prompt_variables", "prompt_version", "prompt_label", "stream", "stream_options":
			return invalid(path, "%s is the caller's to set; remove it", name)
		}
		if slices.Contains(c.Locked, name) {
			return invalid(path, "%s is locked as well: another value is either refused or ignored; remove it from one of the lists", name)
		}
	}
	return nil
}

func checkVariables(c *Content) (map[string]*schema, error) {
	if len(c.Variables) > MaxVariables {
		return nil, invalid("variables", "there are %d; at most %d are taken, so gather some in an object", len(c.Variables), MaxVariables)
	}
	last, budget, schemas := "", schemacost.NewBudget(), make(map[string]*schema, len(c.Variables))
	for _, name := range slices.Sorted(maps.Keys(c.Variables)) {
		if c.Variables[name].LastUserMessage {
			if last != "" {
				return nil, invalid("variables."+name+".last_user_message", "the variable %q takes the last user message already; let one of them", last)
			}
			if slices.ContainsFunc(c.Messages, func(m Message) bool { return m.Type == TypePlaceholder && m.Name == name }) {
				return nil, invalid("variables."+name+".last_user_message", "a placeholder takes messages, not the text of one; remove it here")
			}
			last = name
		}
		if !ValidName(name) || !names.IsNormal(name) {
			return nil, invalid("variables", "%q is no variable name; use letters, digits, _ and -, at most %d bytes", name, MaxNameBytes)
		}
		s, err := compileVariable(name, c.Variables[name], budget)
		if err != nil {
			return nil, err
		}
		if s != nil {
			s.inferred = c.Variables[name].Inferred
		}
		schemas[name] = s
	}
	budget.Seal()
	return schemas, nil
}

// compileVariable compiles a variable's schema and holds its default to it.
func compileVariable(name string, v Variable, budget *schemacost.Budget) (*schema, error) {
	path := "variables." + name
	if n := inexactIn(v.Schema); n != "" {
		return nil, invalid(path+".schema", "the number %s cannot be kept exactly; round it", n)
	}
	s, err := compileSchema(v.Schema, budget)
	if err != nil {
		return nil, invalid(path+".schema", "the JSON Schema cannot be used: %s", err)
	}
	if len(v.Default) == 0 {
		return s, nil
	}
	if err := checkRaw(path+".default", v.Default, 0); err != nil {
		return nil, err
	}
	def, err := classify(v.Default)
	if err == nil {
		meter := schemacost.NewMeter()
		err = s.check(def.checkable(v.Default), &meter)
	}
	if err != nil {
		return nil, invalid(path+".default", "the default does not fit the variable: %s", err)
	}
	return s, nil
}

func inexactIn(raw json.RawMessage) string {
	if checkJSON(raw) != nil {
		return ""
	}
	return inexactNumber(raw)
}

// checkRaw checks a raw JSON field, of a kind unless want is 0.
func checkRaw(path string, raw json.RawMessage, want byte) error {
	if len(raw) > MaxRawBytes {
		return invalid(path, "it has %d bytes; at most %d are taken", len(raw), MaxRawBytes)
	}
	if err := checkJSON(raw); err != nil {
		return invalid(path, "%s", err)
	}
	if got := kindOf(raw); want != 0 && byte(got) != want {
		return invalid(path, "it is %s; write %s", kindName(got), kindName(kindOf([]byte{want})))
	}
	if n := inexactNumber(raw); n != "" {
		return invalid(path, "the number %s cannot be kept exactly as a double; round it or write it as a string", n)
	}
	return nil
}

// checkObjects checks a raw JSON field that is a list of objects.
func checkObjects(path string, raw json.RawMessage) error {
	if err := checkRaw(path, raw, '['); err != nil {
		return err
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return invalid(path, "%s", errMalformed)
	}
	if len(items) > MaxTools {
		return invalid(path, "there are %d; at most %d are taken", len(items), MaxTools)
	}
	for i, item := range items {
		if kindOf(item) != '{' {
			return invalid(fmt.Sprintf("%s[%d]", path, i), "it is %s; write an object", kindName(kindOf(item)))
		}
	}
	return nil
}
