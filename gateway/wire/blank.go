package wire

import (
	"bytes"
	"strconv"
)

// maxIdentifierShown bounds what is shown of one of a refusal's names, in bytes.
const maxIdentifierShown = 64

// BlankRefusal appends to dst a provider's refusal without its message, which may repeat the prompt: its type, its code and the parameter that it names stay,
// where they look like names. body may be what dst is cut from.
func BlankRefusal(dst, body []byte, status int) []byte {
	kind, code, param := refusalNames(body)
	dst = append(dst, `{"error":{"message":"The provider refused the request with status `...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, `. What it said may repeat the prompt, and is shown to keys that may read it: use such a key to find out more.","type":`...)
	for i, name := range [...]string{kind, param, code} {
		dst = append(dst, [...]string{"", `,"param":`, `,"code":`}[i]...)
		if name == "" {
			dst = append(dst, "null"...)
		} else {
			dst = append(append(append(dst, '"'), name...), '"')
		}
	}
	return append(dst, "}}"...)
}

// refusalNames reads the names in OpenAI's envelope, and in Anthropic's.
func refusalNames(body []byte) (kind, code, param string) {
	outer, ok := walkInto(body, '{')
	for ok {
		var key, value []byte
		if key, value, ok = outer.member(); !ok || string(key) != `"error"` {
			continue
		}
		inner, is := walkInto(value, '{')
		for is {
			var name, text []byte
			if name, text, is = inner.member(); !is {
				break
			}
			switch string(name) {
			case `"type"`:
				kind = identifier(text)
			case `"code"`:
				code = identifier(text)
			case `"param"`:
				param = identifier(text)
			}
		}
	}
	return kind, code, param
}

// identifier is a text that looks like a name: letters, digits, and what joins them. Anything else could be prose.
func identifier(v []byte) string {
	v = bytes.Trim(v, `"`)
	if len(v) > maxIdentifierShown || isNull(v) {
		return ""
	}
	for _, c := range v {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' && c != '[' && c != ']' {
			return ""
		}
	}
	return string(v)
}
