package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

var errMalformed = errors.New("it is not valid JSON (or not UTF-8, or names a key twice); correct it")

// checkJSON accepts one JSON value: UTF-8, no key twice, no lone surrogate, nesting within MaxJSONDepth.
func checkJSON(raw []byte) error {
	depth := 0
	inString := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > MaxJSONDepth {
				return fmt.Errorf("it is nested more than %d deep; flatten it", MaxJSONDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	if !jsontext.Value(raw).IsValid() {
		return errMalformed
	}
	return nil
}

// compactJSON is valid JSON without white space between tokens; strings and numbers keep their spelling.
func compactJSON(raw []byte) []byte {
	out, err := jsontext.AppendFormat(nil, raw, jsontext.PreserveRawStrings(true), jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false))
	if err != nil {
		return raw
	}
	return out
}

// kindOf is the kind of valid JSON by its first byte, numbers as '0'; 0 when there is none.
func kindOf(raw []byte) jsontext.Kind {
	raw = trimSpace(raw)
	if len(raw) == 0 {
		return 0
	}
	switch c := raw[0]; c {
	case '"', '{', '[', 't', 'f', 'n':
		return jsontext.Kind(c)
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return '0'
	}
	return 0
}

func kindName(k jsontext.Kind) string {
	switch k {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	case '0':
		return "a number"
	}
	return "not JSON"
}

// trimSpace cuts JSON's white space.
func trimSpace(raw []byte) []byte {
	for len(raw) > 0 && isSpace(raw[0]) {
		raw = raw[1:]
	}
	for len(raw) > 0 && isSpace(raw[len(raw)-1]) {
		raw = raw[:len(raw)-1]
	}
	return raw
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// plainString reports whether raw is one whole JSON string of valid UTF-8 whose escapes are well formed, so that what stands
// between its quotes may be copied into another JSON string as it is.
func plainString(raw []byte) bool {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return false
	}
	inner := raw[1 : len(raw)-1]
	ascii := true
	for _, c := range inner {
		if c == '\\' {
			return jsontext.Value(raw).IsValid()
		}
		if c < 0x20 || c == '"' {
			return false
		}
		if c >= utf8.RuneSelf {
			ascii = false
		}
	}
	return ascii || utf8.Valid(inner)
}

const hexDigits = "0123456789abcdef"

// appendEscaped appends s as it stands between the quotes of a JSON string. U+2028 and U+2029 are escaped for those who read JSON
// as JavaScript; bytes that are no UTF-8 become U+FFFD (values with such bytes are refused before, see value.go).
func appendEscaped[T ~string | ~[]byte](dst []byte, s T) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			dst = appendEscapedByte(dst, c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(append(dst, s[start:i]...), `\ufffd`...)
			start = i + 1
		case r == '\u2028' || r == '\u2029':
			dst = append(append(dst, s[start:i]...), `\u202`...)
			dst = append(dst, hexDigits[r&0xF])
			start = i + size
		}
		i += size
	}
	return append(dst, s[start:]...)
}

func appendEscapedByte(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xF])
}

// appendString appends s as a JSON string.
func appendString(dst []byte, s string) []byte {
	return append(appendEscaped(append(dst, '"'), s), '"')
}

// unquote is the text of a JSON string that plainString accepts.
func unquote(raw []byte) string {
	inner := raw[1 : len(raw)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	text, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return "" // not reached: plainString accepted it
	}
	return string(text)
}

// inexactNumber finds a number in valid JSON whose value double precision would change, "" when there is none. RFC 8785, and with
// it a digest, knows doubles only: two versions that differ beyond them would have one digest.
func inexactNumber(raw json.RawMessage) string {
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	for {
		switch kind := dec.PeekKind(); kind {
		case 0:
			return ""
		case '0':
			number, err := dec.ReadValue()
			if err != nil {
				return ""
			}
			if !exactDouble(string(number)) {
				if len(number) > 40 {
					return string(number[:40]) + "…"
				}
				return string(number)
			}
		default:
			if _, err := dec.ReadToken(); err != nil {
				return ""
			}
		}
	}
}

// exactDouble reports whether a JSON number survives being read as a double and written in the shortest form.
func exactDouble(number string) bool {
	f, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return false
	}
	shortest := strconv.FormatFloat(f, 'e', -1, 64)
	digits1, exp1 := decimal(number)
	digits2, exp2 := decimal(shortest)
	return digits1 == digits2 && exp1 == exp2
}

// decimal is a number's significant digits, without zeros at either end, and the power of ten of the first one. Zero has no digits.
func decimal(number string) (digits string, exponent int) {
	number = strings.TrimPrefix(strings.ToLower(number), "-")
	mantissa, exp, _ := strings.Cut(number, "e")
	exponent, _ = strconv.Atoi(exp) // "" is 0; too long ones failed as doubles, or belong to a zero
	whole, fraction, _ := strings.Cut(mantissa, ".")
	exponent += len(whole)
	digits = whole + fraction
	trimmed := strings.TrimLeft(digits, "0")
	exponent -= len(digits) - len(trimmed)
	trimmed = strings.TrimRight(trimmed, "0")
	if trimmed == "" {
		return "", 0
	}
	return trimmed, exponent
}
