package wire

import (
	"errors"
	"net/http"

	"github.com/promptgate/promptgate/internal/fault"
)

// StatusClientClosed is logged for a caller that went away; nobody sees it.
const StatusClientClosed = 499

// Status is the HTTP status of a code; 500 for a code that is not in the table.
func Status(code fault.Code) int {
	switch code {
	case fault.InvalidJSON, fault.InvalidRequest, fault.InvalidPromptReference, fault.MissingVariable, fault.UnknownVariable,
		fault.InvalidVariable, fault.InvalidTemplate, fault.ParameterLocked, fault.StatefulReferenceRefused:
		return http.StatusBadRequest
	case fault.RequestTooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.HeadersTooLarge:
		return http.StatusRequestHeaderFieldsTooLarge
	case fault.InvalidAPIKey:
		return http.StatusUnauthorized
	case fault.PermissionDenied:
		return http.StatusForbidden
	case fault.NotFound, fault.PromptNotFound, fault.VersionNotFound, fault.LabelNotFound, fault.ModelNotFound, fault.CallNotFound:
		return http.StatusNotFound
	case fault.ProjectShredded:
		return http.StatusGone
	case fault.Conflict:
		return http.StatusConflict
	case fault.PreconditionFailed:
		return http.StatusPreconditionFailed
	case fault.RateLimitExceeded, fault.BudgetExceeded:
		return http.StatusTooManyRequests
	case fault.ProviderError, fault.ProviderTruncated, fault.ProviderAuth:
		return http.StatusBadGateway
	case fault.ProviderTimeout:
		return http.StatusGatewayTimeout
	case fault.RegistryUnavailable, fault.Overloaded:
		return http.StatusServiceUnavailable
	case fault.StorageFull:
		return http.StatusInsufficientStorage
	case fault.NotImplemented:
		return http.StatusNotImplemented
	case fault.ClientClosed:
		return StatusClientClosed
	case fault.Internal:
		return http.StatusInternalServerError
	}
	return http.StatusInternalServerError
}

// errorType is OpenAI's "type" for a code. SDKs choose their exception by the status; this is for people and for older clients.
func errorType(code fault.Code) string {
	switch status := Status(code); {
	case code == fault.BudgetExceeded:
		return "insufficient_quota"
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusForbidden:
		return "permission_error"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status >= http.StatusInternalServerError:
		return "server_error"
	}
	return "invalid_request_error"
}

// internalMessage is all that a caller learns of a fault of ours.
const internalMessage = "The gateway failed to handle this request. Try again; if it happens again, give the x-promptgate-call-id of this " +
	"answer to whoever runs the gateway."

// appendErrorBody appends err in OpenAI's envelope {"error":{"message","type","param","code"}}.
func appendErrorBody(dst []byte, err error) []byte {
	code, message, param := Told(err)
	dst = append(dst, `{"error":{"message":`...)
	dst = appendString(dst, message)
	dst = append(dst, `,"type":`...)
	dst = appendString(dst, errorType(code))
	dst = append(dst, `,"param":`...)
	if param == "" {
		dst = append(dst, "null"...)
	} else {
		dst = appendString(dst, param)
	}
	dst = append(dst, `,"code":`...)
	dst = appendString(dst, string(code))
	return append(dst, "}}"...)
}

// Told is what a caller is told of an error, in whichever shape. An error that is no fault, or a fault with the code Internal, says nothing but that
// something went wrong.
func Told(err error) (code fault.Code, message, param string) {
	var f *fault.Error
	if errors.As(err, &f) && Status(f.Code) != http.StatusInternalServerError {
		return f.Code, f.Message, f.Param
	}
	return fault.Internal, internalMessage, ""
}

// messageOf is the public message of a fault.
func messageOf(err error) string {
	var f *fault.Error
	if errors.As(err, &f) {
		return f.Message
	}
	return internalMessage
}
