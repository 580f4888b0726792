package wire

import (
	"encoding/json"
	"net/http"

	"github.com/promptgate/promptgate/registry"
)

// Reference is how a request names a prompt, whichever form it used.
type Reference struct {
	Present   bool                       // false: the request names no prompt and runs no prompt code
	Handle    string                     // name, alias, id or foreign id; with Draft it may be ""
	Selector  registry.Selector          // SelectDefault when neither version nor label is named
	Draft     string                     // "drf_…": excludes version and label
	Variables map[string]json.RawMessage // nil when none was sent; values point into the body and are not to be changed
	Fields    []string                   // top-level members of the body that named it, "model" never among them
}

// ParseReference reads every form of WIRE "Naming a prompt" from the body and the headers. Forms that agree are one; forms that
// disagree, a version beside a label, a wrong type, an unknown member of the prompt object, and parts of a reference without a prompt
// are fault.InvalidPromptReference, Param naming the field (a header's name when it stood there).
func ParseReference(b *Body, h http.Header) (Reference, error) { return Reference{}, nil }

// ParsePathReference is ParseReference for a route that names the prompt: name is the decoded path part, "name", "name@label" or
// "name@7". The body may then also hold "variables", "version", "label" and "draft" at its top level.
func ParsePathReference(name string, b *Body, h http.Header) (Reference, error) {
	return Reference{}, nil
}

// Strip appends the edits that keep the reference from the provider. It leaves "model" to the caller, who sets it.
func (r *Reference) Strip(edits []Edit) []Edit { return edits }

// PrivateHeader reports whether a request header is between the caller and us, never to be forwarded: x-promptgate-*.
func PrivateHeader(name string) bool { return false }
