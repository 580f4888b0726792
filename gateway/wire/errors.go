package wire

import "github.com/promptgate/promptgate/internal/fault"

// StatusClientClosed is logged for a caller that went away; nobody sees it.
const StatusClientClosed = 499

// Status is the HTTP status of a code; 500 for a code that is not in the table.
func Status(code fault.Code) int { return 500 }

// ErrorBody is err in OpenAI's envelope {"error":{"message","type","param","code"}}. An error that is no fault says nothing but that
// something went wrong.
func ErrorBody(err error) []byte { return nil }
