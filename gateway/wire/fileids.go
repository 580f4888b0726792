package wire

import (
	"bytes"
	"strings"
)

// FileIDs are the ids of files, and of stores of files, that a request refers to as its provider gets it, by any of the fields by which APIs do; none of
// what a function, a schema or a result calls so. It costs next to nothing where a body holds no such field.
func (b *Body) FileIDs(edits []Edit) (ids []string) {
	some := mayRefer(b.raw)
	for i := range edits {
		some = some || mayRefer(edits[i].Value)
	}
	if !some {
		return nil
	}
	for i := range b.members {
		if m := &b.members[i]; editOf(edits, m.Name) == nil {
			ids = memberFileIDs(ids, m.Name, b.raw[m.ValueStart:m.ValueEnd])
		}
	}
	for i := range edits {
		if e := &edits[i]; e.Value != nil && editOf(edits, e.Name) == e {
			ids = memberFileIDs(ids, e.Name, e.Value)
		}
	}
	return ids
}

// FileIDsIn are those in one value, such as the items of a conversation.
func FileIDsIn(value []byte) []string {
	if !mayRefer(value) {
		return nil
	}
	return memberFileIDs(nil, "", value)
}

// mayRefer reports whether a text can hold one of the fields, spelled plainly or with escapes.
func mayRefer(text []byte) bool {
	if bytes.Contains(text, []byte(`_id`)) && (bytes.Contains(text, []byte(`file_id`)) || bytes.Contains(text, []byte(`vector_store_ids`))) {
		return true
	}
	for {
		at := bytes.Index(text, []byte(`\u00`))
		if at < 0 || at+4 >= len(text) {
			return false
		}
		if c := text[at+4]; c >= '5' && c <= '7' { // an underscore or a small letter
			return true
		}
		text = text[at+4:]
	}
}

// inert are members in which callers and providers keep what nobody takes for a reference: metadata, schemas of functions, and what an answer quoted.
func inert(name string) bool {
	switch name {
	case "metadata", "parameters", "input_schema", "schema", "json_schema", "annotations", "citations", "results", "arguments":
		return true
	}
	return false
}

// memberFileIDs appends the ids in one member of an object.
func memberFileIDs(ids []string, name string, value []byte) []string {
	switch {
	case len(value) == 0 || inert(name):
		return ids
	case value[0] == '{':
		return objectFileIDs(ids, value)
	case value[0] == '"':
		if name == "file_id" {
			ids = appendID(ids, value)
		}
	case value[0] == '[':
		for element := range elementsOf(value) {
			if element[0] == '"' && (name == "file_ids" || name == "vector_store_ids" || name == "file_id") {
				ids = appendID(ids, element)
			} else if element[0] == '{' || element[0] == '[' {
				ids = memberFileIDs(ids, "", element)
			}
		}
	}
	return ids
}

func appendID(ids []string, value []byte) []string {
	id, _ := stringOf(value)
	return append(ids, id)
}

// objectFileIDs appends the ids in an object. What a model gave to a tool is the tool's to read.
func objectFileIDs(ids []string, object []byte) []string {
	called := strings.HasSuffix(Word(memberOf(object, "type")), "tool_use")
	for key, value := range membersOf(object) {
		name, _ := stringOf(key)
		if called && name == "input" {
			continue
		}
		ids = memberFileIDs(ids, name, value)
	}
	return ids
}
