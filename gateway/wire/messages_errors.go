package wire

import (
	"bytes"
	"net/http"

	"github.com/promptgate/promptgate/internal/fault"
)

// AppendError implements API: Anthropic's envelope {"type":"error","error":{"type","message"},"request_id"}, with our code and the field at fault in it, and
// the code once more where its SDKs look for one.
func (Messages) AppendError(dst []byte, err error, id string) []byte {
	code, message, param := Told(err)
	dst = append(dst, `{"type":"error","error":{"type":"`...)
	dst = append(append(dst, messagesErrorType(code)...), `","message":`...)
	dst = appendString(dst, message)
	dst = append(dst, `,"code":`...)
	dst = appendString(dst, string(code))
	dst = appendNullable(append(dst, `,"param":`...), param)
	dst = append(dst, `,"details":{"error_code":`...)
	dst = appendString(dst, string(code))
	dst = appendNullable(append(dst, `}},"request_id":`...), id)
	return append(dst, '}')
}

// appendNullable appends a string, or null when it is empty.
func appendNullable(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "null"...)
	}
	return appendString(dst, s)
}

// messagesErrorType is Anthropic's "type" for a code.
func messagesErrorType(code fault.Code) string {
	switch status := Status(code); {
	case code == fault.Overloaded:
		return "overloaded_error"
	case status == http.StatusGatewayTimeout:
		return "timeout_error"
	case status >= http.StatusInternalServerError:
		return "api_error"
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusForbidden:
		return "permission_error"
	case status == http.StatusNotFound:
		return "not_found_error"
	case status == http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	}
	return "invalid_request_error"
}

// AppendErrorEvent implements API: an event called error, on which SDKs raise.
func (Messages) AppendErrorEvent(dst []byte, err error, id string) []byte {
	return append(Messages{}.AppendError(append(dst, "event: error\ndata: "...), err, id), '\n', '\n')
}

// AppendRefusal implements API: Anthropic's envelope around what BlankRefusal leaves.
func (Messages) AppendRefusal(dst, body []byte, status int) []byte {
	blank := BlankRefusal(nil, body, status)
	return append(append(append(dst, `{"type":"error",`...), bytes.TrimSuffix(blank[1:], []byte{'}'})...), `,"request_id":null}`...)
}
