package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// valueKind is how a variable's value enters a text.
type valueKind uint8

const (
	valueAbsent valueKind = iota // prints nothing
	valueString                  // raw is a whole JSON string: what stands between its quotes is copied
	valuePlain                   // a number or boolean as it is spelled; empty for null
	valueJSON                    // an object or array in canonical spelling: printed as JSON
	valueParts                   // parts that take a place of their own among a message's content parts
)

// value is a variable's value, classified and found well formed.
type value struct {
	kind  valueKind
	raw   []byte
	parts *[]InputPart // of valueParts; a pointer, because it is rare
}

// classify accepts any well formed JSON value. OpenAI's input_text is its text; other content parts, and lists of parts, stay parts.
func classify(raw json.RawMessage) (value, error) {
	raw = trimSpace(raw)
	switch kindOf(raw) {
	case '"':
		if !plainString(raw) {
			return value{}, errors.New("it is not a valid JSON string of UTF-8 text; encode it as one")
		}
		return value{kind: valueString, raw: raw}, nil
	case '0', 't', 'f', 'n':
		if !jsontext.Value(raw).IsValid() {
			return value{}, errMalformed
		}
		return plainValue(raw), nil
	case '[':
		if err := checkJSON(raw); err != nil {
			return value{}, err
		}
		return classifyList(raw)
	case '{':
		if err := checkJSON(raw); err != nil {
			return value{}, err
		}
		return classifyObject(raw)
	}
	return value{}, errMalformed
}

func classifyObject(raw []byte) (value, error) {
	p, ok, err := inputPart(raw)
	switch {
	case !ok:
		return value{kind: valueJSON, raw: canonicalJSON(raw)}, nil
	case err != nil:
		return value{}, err
	case p.Type == InputText:
		return value{kind: valueString, raw: p.Text}, nil
	}
	return value{kind: valueParts, parts: &[]InputPart{p}}, nil
}

func classifyList(raw []byte) (value, error) {
	parts, ok, err := inputParts(raw)
	switch {
	case err != nil:
		return value{}, err
	case ok:
		return value{kind: valueParts, parts: &parts}, nil
	}
	return value{kind: valueJSON, raw: canonicalJSON(raw)}, nil
}

// plainValue is valid JSON as data, whatever it looks like.
func plainValue(raw []byte) value {
	switch kindOf(raw) {
	case '"':
		return value{kind: valueString, raw: raw}
	case '{', '[':
		return value{kind: valueJSON, raw: raw}
	case 'n':
		return value{kind: valuePlain}
	}
	return value{kind: valuePlain, raw: raw}
}

// appendTo appends the value as text between the quotes of a JSON string.
func (v *value) appendTo(dst []byte) []byte {
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

// checkable is the value as a schema sees it: an input_text is the string that it holds.
func (v *value) checkable(raw json.RawMessage) json.RawMessage {
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
	raw = trimSpace(raw)
	if kindOf(raw) != '[' {
		return errors.New("it takes the place of messages; send an array of messages")
	}
	i := 0
	_, err := eachItem(raw, func(at int) (int, error) {
		if raw[at] != '{' {
			return 0, fmt.Errorf("item %d is %s; send messages, objects with a role", i, kindName(kindOf(raw[at:at+1])))
		}
		n, err := checkHistoryRole(raw[at:])
		if err != nil {
			return 0, fmt.Errorf("item %d %w", i, err)
		}
		i++
		return at + n, nil
	})
	return err
}

// checkHistoryRole checks the message that begins at raw[0] and returns its length.
func checkHistoryRole(raw []byte) (int, error) {
	var role []byte
	n, err := eachMember(raw, func(key []byte, value int) (int, error) {
		if name := keyText(key); string(name) != "role" {
			if bytes.EqualFold(name, []byte("role")) {
				return 0, errors.New("spells the key \"role\" with other capitals; write it in small letters")
			}
			return 0, nil
		}
		end := skipValue(raw, value)
		role = raw[value:end]
		return end, nil
	})
	if err != nil {
		return 0, err
	}
	if kindOf(role) != '"' {
		return 0, errors.New("has no role; add \"role\": \"user\", \"assistant\" or \"tool\"")
	}
	switch string(keyText(role)) {
	case "user", "assistant", "tool", "function":
		return n, nil
	}
	return 0, errors.New("has a role that a variable may not bring; only user, assistant and tool are taken, so put instructions in the prompt itself")
}
