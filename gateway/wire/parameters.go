package wire

import "github.com/promptgate/promptgate/registry/template"

// Merged is what a version's fields and a caller's come to.
type Merged struct {
	Edits         []Edit // the version's fields that the caller did not override, sorted by name; never model or messages
	Model         string // the model to call, "" when neither names one
	ModelByCaller bool   // the caller chose it: it has to be authorized
}

// Merge lets the caller's fields override the version's, whole, unless they are locked by the version or by locked (the label's
// protection). null counts as present; max_tokens and max_completion_tokens are one field; a model of "default" or of a prompt form
// counts as absent. A locked field sent with another value is fault.ParameterLocked, Param naming it; the same value is fine.
// The edits are appended to edits.
func Merge(b *Body, c *template.Content, locked []string, edits []Edit) (Merged, error) {
	return Merged{}, nil
}

// NamesNoModel reports whether a model field says nothing about the model: "", "default", or a form that names a prompt.
func NamesNoModel(model string) bool { return false }

// UsageEdit is the edit that asks the provider for usage on a stream, keeping the other members of stream_options. needed is false when
// the caller asked already, or sent stream_options that are no object: then there is nothing to withhold. Call it for streams only.
func UsageEdit(b *Body) (e Edit, needed bool) { return Edit{}, false }
