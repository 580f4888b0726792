// Package fault is the one error type that crosses package borders: a stable code for programs, a public
// message that says what to do, and a cause for the log that callers of the API never see.
package fault

import (
	"errors"
	"fmt"
)

// Code names what went wrong. The data plane's codes are the ones of its contract (`promptgate help errors`); the status that
// each one is answered with stands in one table, gateway/wire.Status.
type Code string

// The codes. Whoever adds one adds its status in gateway/wire/errors.go; a test fails otherwise.
const (
	InvalidJSON            Code = "invalid_json"
	InvalidRequest         Code = "invalid_request" // management API: the body or a parameter breaks a rule
	InvalidPromptReference Code = "invalid_prompt_reference"
	MissingVariable        Code = "missing_variable"
	UnknownVariable        Code = "unknown_variable"
	InvalidVariable        Code = "invalid_variable"
	InvalidTemplate        Code = "invalid_template"
	ParameterLocked        Code = "parameter_locked"
	// StatefulReferenceRefused: what a provider keeps, such as a response to go on from, is not this caller's.
	StatefulReferenceRefused Code = "stateful_reference_refused"
	RequestTooLarge          Code = "request_too_large"
	HeadersTooLarge          Code = "headers_too_large"
	InvalidAPIKey            Code = "invalid_api_key"
	PermissionDenied         Code = "permission_denied"
	NotFound                 Code = "not_found" // management API: anything that is not there, or not this caller's to see
	PromptNotFound           Code = "prompt_not_found"
	VersionNotFound          Code = "version_not_found"
	LabelNotFound            Code = "label_not_found"
	ModelNotFound            Code = "model_not_found"
	CallNotFound             Code = "call_not_found"
	ProjectShredded          Code = "project_shredded"    // its keys were destroyed: its texts are gone for good
	Conflict                 Code = "conflict"            // unique name taken, or a compare-and-set lost
	PreconditionFailed       Code = "precondition_failed" // If-Match does not match
	RateLimitExceeded        Code = "rate_limit_exceeded"
	BudgetExceeded           Code = "budget_exceeded"
	ProviderError            Code = "provider_error"
	ProviderTimeout          Code = "provider_timeout"
	ProviderTruncated        Code = "provider_truncated"
	ProviderAuth             Code = "provider_auth"
	RegistryUnavailable      Code = "registry_unavailable" // any store of ours that a request needs and cannot reach
	Overloaded               Code = "overloaded"
	StorageFull              Code = "storage_full"
	NotImplemented           Code = "not_implemented"
	ClientClosed             Code = "client_closed" // the caller went away; never seen by anyone but the log
	Internal                 Code = "internal_error"
)

// Error is a fault with a code, a message fit for the caller, and a cause fit for the log.
type Error struct {
	Code    Code
	Message string // shown to the caller; says what to do
	Param   string // the field at fault, "" when none is
	Err     error  // the cause: logged, never shown
}

// Error implements error; it holds the cause and so is for logs only.
func (e *Error) Error() string {
	s := string(e.Code) + ": " + e.Message
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New builds a fault whose message is formatted as by fmt.Sprintf.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap builds a fault around a cause.
func Wrap(err error, code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Err: err}
}

// WithParam returns a copy that names the field at fault.
func (e *Error) WithParam(param string) *Error {
	c := *e
	c.Param = param
	return &c
}

// CodeOf is the code of the first fault in err's chain: "" for nil, Internal for an error that is no fault.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if f, ok := errors.AsType[*Error](err); ok {
		return f.Code
	}
	return Internal
}

// Is reports whether err's chain holds a fault with this code.
func Is(err error, code Code) bool {
	f, ok := errors.AsType[*Error](err)
	return ok && f.Code == code
}
