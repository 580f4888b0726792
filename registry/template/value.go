package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// valueKind is how a variable's value enters a text.
type valueKind uint8

const (
	valueAbsent valueKind = iota // prints nothing
	valueString                  // raw is a whole JSON string: what stands between its quotes is copied
	valuePlain                   // a number or boolean as it is spelled; empty for null
	valueJSON                    // an object or array, compact: printed as JSON
	valueMedia                   // raw is a content part for the provider: it becomes one
)

// value is a variable's value, classified and found well formed.
type value struct {
	kind valueKind
	raw  []byte
}

// classify accepts any well formed JSON value. OpenAI's input_text is its text; input_image and input_file become media.
func classify(raw json.RawMessage) (value, error) {
	raw = trimSpace(raw)
	switch kindOf(raw) {
	case '"':
		if !plainString(raw) {
			return value{}, errors.New("it is not a valid JSON string of UTF-8 text; encode it as one")
		}
		return value{valueString, raw}, nil
	case '0', 't', 'f', 'n':
		if !jsontext.Value(raw).IsValid() {
			return value{}, errMalformed
		}
		if raw[0] == 'n' {
			raw = nil
		}
		return value{valuePlain, raw}, nil
	case '[':
		if err := checkJSON(raw); err != nil {
			return value{}, err
		}
		return value{valueJSON, compactJSON(raw)}, nil
	case '{':
		if err := checkJSON(raw); err != nil {
			return value{}, err
		}
		return classifyObject(raw)
	}
	return value{}, errMalformed
}

func classifyObject(raw json.RawMessage) (value, error) {
	kind := findMember(raw, "type")
	if kindOf(kind) != '"' {
		return value{valueJSON, compactJSON(raw)}, nil
	}
	members, err := objectMembers(raw)
	if err != nil {
		return value{}, err
	}
	switch unquote(kind) {
	case "input_text":
		if text := members["text"]; len(text) > 0 && text[0] == '"' && plainString(text) {
			return value{valueString, text}, nil
		}
		return value{}, errors.New("an input_text part needs its text as a string under \"text\"")
	case "input_image":
		return imagePart(members)
	case "input_file":
		return filePart(members)
	}
	return value{valueJSON, compactJSON(raw)}, nil
}

// objectMembers splits a valid JSON object into its members, keys exactly as spelled.
func objectMembers(raw []byte) (map[string]json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '{' {
		return nil, errMalformed
	}
	for dec.PeekKind() == '"' {
		key, err := dec.ReadToken()
		if err != nil {
			return nil, errMalformed
		}
		name := key.String()
		v, err := dec.ReadValue()
		if err != nil {
			return nil, errMalformed
		}
		members[name] = json.RawMessage(v.Clone())
	}
	return members, nil
}

// imagePart turns an input_image into the image_url part of chat completions.
func imagePart(m map[string]json.RawMessage) (value, error) {
	url := m["image_url"]
	if kindOf(url) != '"' {
		return value{}, errors.New("an input_image part needs its address, https: or data:, as a string under \"image_url\"")
	}
	out := append([]byte(`{"type":"image_url","image_url":{"url":`), url...)
	if detail := m["detail"]; kindOf(detail) == '"' {
		out = append(append(out, `,"detail":`...), detail...)
	}
	return value{valueMedia, append(out, `}}`...)}, nil
}

// filePart turns an input_file into the file part of chat completions.
func filePart(m map[string]json.RawMessage) (value, error) {
	if kindOf(m["file_url"]) == '"' {
		return value{}, errors.New("an input_file part with \"file_url\" cannot be sent in a chat; upload the file and send its \"file_id\", or send \"file_data\"")
	}
	out := []byte(`{"type":"file","file":`)
	sep := byte('{')
	for _, key := range [...]string{"file_id", "file_data", "filename"} {
		if v := m[key]; kindOf(v) == '"' {
			out = append(appendString(append(out, sep), key), ':')
			out = append(out, v...)
			sep = ','
		}
	}
	if kindOf(m["file_id"]) != '"' && kindOf(m["file_data"]) != '"' {
		return value{}, errors.New("an input_file part needs \"file_id\", or \"file_data\" with \"filename\"")
	}
	return value{valueMedia, append(out, `}}`...)}, nil
}

// appendTo appends the value as text between the quotes of a JSON string.
func (v value) appendTo(dst []byte) []byte {
	switch v.kind {
	case valueString:
		return append(dst, v.raw[1:len(v.raw)-1]...)
	case valuePlain:
		return append(dst, v.raw...)
	case valueJSON:
		return appendEscaped(dst, v.raw)
	}
	return dst
}

// member is what a dotted name reaches inside an object, absent when it reaches nothing. Members are plain data: an object that looks
// like an input part is printed as JSON.
func (v value) member(path string) value {
	raw := v.raw
	if v.kind != valueJSON {
		return value{}
	}
	for path != "" {
		var name string
		name, path, _ = strings.Cut(path, ".")
		if raw = findMember(raw, name); raw == nil {
			return value{}
		}
	}
	switch kindOf(raw) {
	case '"':
		return value{valueString, raw}
	case '{', '[':
		return value{valueJSON, raw}
	case 'n':
		return value{valuePlain, nil}
	}
	return value{valuePlain, raw}
}

// findMember is the member of a valid JSON object, nil when raw is no object or has none of that name.
func findMember(raw []byte, name string) []byte {
	if kindOf(raw) != '{' {
		return nil
	}
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.ReadToken(); err != nil {
		return nil
	}
	for dec.PeekKind() == '"' {
		key, err := dec.ReadToken()
		if err != nil {
			return nil
		}
		found := key.String() == name
		v, err := dec.ReadValue()
		if err != nil {
			return nil
		}
		if found {
			return v.Clone()
		}
	}
	return nil
}

// checkable is the value as a schema sees it: an input_text is the string that it holds.
func (v value) checkable(raw json.RawMessage) json.RawMessage {
	if v.kind == valueString {
		return v.raw
	}
	return raw
}

// checkHistory accepts what a variable may put in the place of a placeholder: an array of messages, none of which speaks with
// authority. Only the template itself and the caller's own messages may have the roles system and developer.
func checkHistory(raw json.RawMessage) error {
	if err := checkJSON(raw); err != nil {
		return err
	}
	if kindOf(raw) != '[' {
		return errors.New("it takes the place of messages; send an array of messages")
	}
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.ReadToken(); err != nil {
		return errMalformed
	}
	for i := 0; dec.PeekKind() != ']'; i++ {
		message, err := dec.ReadValue()
		if err != nil {
			return errMalformed
		}
		if message.Kind() != '{' {
			return fmt.Errorf("item %d is %s; send messages, objects with a role", i, kindName(kindOf(message)))
		}
		members, err := objectMembers(message)
		if err != nil {
			return err
		}
		if err := checkHistoryRole(members); err != nil {
			return fmt.Errorf("item %d %w", i, err)
		}
	}
	return nil
}

func checkHistoryRole(members map[string]json.RawMessage) error {
	for key := range members {
		if key != "role" && strings.EqualFold(key, "role") {
			return errors.New("spells the key \"role\" with other capitals; write it in small letters")
		}
	}
	role := members["role"]
	if kindOf(role) != '"' {
		return errors.New("has no role; add \"role\": \"user\", \"assistant\" or \"tool\"")
	}
	switch unquote(role) {
	case "user", "assistant", "tool", "function":
		return nil
	}
	return errors.New("has a role that a variable may not bring; only user, assistant and tool are taken, so put instructions in the prompt itself")
}
