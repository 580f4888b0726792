package admin

import (
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// maxBody bounds the management API's bodies, in bytes; a version with all its messages is the largest.
const maxBody = 4 << 20

// document is what the OpenAPI document says of an operation, and what huma enforces of it.
func (a *API) document(o op, conditional bool) huma.Operation {
	needs := "Needs a valid key and nothing more."
	switch {
	case o.person:
		needs = "Needs a person: a session, or a personal key."
	case o.session:
		needs = "Needs a browser's session; no key is taken."
	}
	if o.action != "" {
		needs = "Needs the permission `" + string(o.action) + "` on the " + o.kind
		if o.kind == "system" {
			needs = "Needs the permission `" + string(o.action) + "` on the project as a whole"
		}
		if o.access().Label {
			needs += ", under the label in the path"
		}
		needs += "."
		if o.installation() {
			needs = "Needs an operator of the installation (`" + string(o.action) + "`)."
		}
		if o.or != "" {
			needs += " `" + string(o.or) + "` does as well."
		}
	}
	doc := huma.Operation{
		OperationID: o.id, Method: o.method, Path: Base + o.path, Summary: o.summary, Description: strings.TrimSpace(o.about + "\n\n" + needs),
		Tags: []string{o.tag}, DefaultStatus: o.status, MaxBodyBytes: maxBody,
		Extensions: map[string]any{"x-permission": o.permission()},
	}
	switch {
	case o.session:
		doc.Security = []map[string][]string{{"session": {}}}
	case a.browsers != nil:
		doc.Security = []map[string][]string{{"key": {}}, {"session": {}}}
	}
	doc.Responses = a.refusals(o.refusedWith(conditional)...)
	return doc
}

// permission is what an operation asks for, as the document spells it.
func (o op) permission() string {
	if o.session {
		return "session"
	}
	return strings.TrimSpace(string(o.action) + " " + o.kind)
}

// refusedWith are the statuses that an operation can be refused with.
func (o op) refusedWith(conditional bool) []int {
	status := []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusInternalServerError, http.StatusServiceUnavailable,
	}
	if strings.Contains(o.path, "{") || o.method != http.MethodGet && o.kind == "prompt" {
		status = append(status, http.StatusNotFound, http.StatusGone)
	}
	if o.method != http.MethodGet {
		status = append(status, http.StatusConflict, http.StatusGone, http.StatusInsufficientStorage)
	}
	if o.method != http.MethodGet && o.method != http.MethodDelete {
		status = append(status, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	if conditional {
		status = append(status, http.StatusPreconditionFailed)
	}
	slices.Sort(status)
	return slices.Compact(status)
}

// meaning says what each refusal is for; the manual tells its codes apart.
func meaning(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "The body or a parameter breaks a rule: invalid_request, invalid_template"
	case http.StatusUnauthorized:
		return "The key is missing, wrong, expired or revoked: invalid_api_key"
	case http.StatusForbidden:
		return "The key lacks the permission that the answer names: permission_denied"
	case http.StatusNotFound:
		return "It is not there, or not this key's to know of: the answers are the same"
	case http.StatusGone:
		return "The project's keys were destroyed, its texts are gone for good: project_shredded"
	case http.StatusConflict:
		return "A name is taken, or things are not as the request supposed: conflict"
	case http.StatusPreconditionFailed:
		return "It was changed since it was read, or If-Match is missing: precondition_failed"
	case http.StatusRequestEntityTooLarge:
		return "The body is larger than 4 MiB: request_too_large"
	case http.StatusUnsupportedMediaType:
		return "The body is not application/json: invalid_request"
	case http.StatusInternalServerError:
		return "A fault of the gateway: internal_error"
	case http.StatusServiceUnavailable:
		return "The database cannot be reached; nothing was changed: registry_unavailable"
	case http.StatusInsufficientStorage:
		return "The disk is full; nothing was changed: storage_full"
	}
	return http.StatusText(status)
}

func (a *API) refusals(status ...int) map[string]*huma.Response {
	schema := a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")
	out := map[string]*huma.Response{}
	for _, s := range status {
		out[strconv.Itoa(s)] = &huma.Response{
			Description: meaning(s), Content: map[string]*huma.MediaType{problemType: {Schema: schema}},
		}
	}
	return out
}

// tidy ends the document: huma leaves its own error schemas behind, and the reason of a change stands at reads too.
func (a *API) tidy() {
	doc := a.huma.OpenAPI()
	for _, name := range []string{"ErrorModel", "ErrorDetail"} {
		delete(doc.Components.Schemas.Map(), name)
	}
	for _, path := range doc.Paths {
		if path.Get != nil {
			path.Get.Parameters = slices.DeleteFunc(path.Get.Parameters, func(p *huma.Param) bool { return p.Name == "X-Promptgate-Why" })
		}
	}
}
