package admin

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// SCIMError is an error answer of SCIM.
type SCIMError struct {
	Schemas  []string `json:"schemas"`
	Status   string   `json:"status" example:"409"`
	SCIMType string   `json:"scimType,omitempty" example:"uniqueness"`
	Detail   string   `json:"detail" doc:"What is wrong and what to do"`
}

// provisioning adds what directories call to the document. gateway/scim serves it.
func (a *API) provisioning() {
	object := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
	reading := []int{400, 401, 404, 500, 503}
	writing := []int{400, 401, 403, 404, 409, 412, 413, 415, 500, 503, 507}
	one := func(id, method, path, summary string) {
		e := endpoint{id: id, method: method, path: "/scim/v2" + path, summary: summary, tag: "scim", refused: reading, scim: true,
			about: "RFC 7644. Takes a directory's token (scim_…), and neither API keys nor sessions.", envelope: reflect.TypeFor[SCIMError](), answer: answerOf("RFC 7643's form", "application/scim+json")}
		switch method {
		case http.MethodPost:
			e.body, e.status, e.refused = object, http.StatusCreated, writing
		case http.MethodPut, http.MethodPatch:
			e.body, e.refused = object, writing
		case http.MethodDelete:
			e.status, e.refused, e.answer = http.StatusNoContent, writing, answerOf("It is gone")
		}
		a.describe(e)
	}
	one("scim-config", http.MethodGet, "/ServiceProviderConfig", "What this SCIM server can do")
	one("scim-schemas", http.MethodGet, "/Schemas", "The schemas of accounts and groups")
	one("scim-schema", http.MethodGet, "/Schemas/{id}", "One schema")
	one("scim-types", http.MethodGet, "/ResourceTypes", "The types of resources")
	one("scim-type", http.MethodGet, "/ResourceTypes/{id}", "One type of resource")
	for _, noun := range []struct{ name, path, about string }{{"user", "/Users", "an account"}, {"group", "/Groups", "a group"}} {
		one("scim-list-"+noun.name+"s", http.MethodGet, noun.path, "List or find "+noun.about+" that the directory provisions")
		one("scim-create-"+noun.name, http.MethodPost, noun.path, "Provision "+noun.about)
		one("scim-get-"+noun.name, http.MethodGet, noun.path+"/{id}", "Get "+noun.about)
		one("scim-replace-"+noun.name, http.MethodPut, noun.path+"/{id}", "Replace "+noun.about)
		one("scim-patch-"+noun.name, http.MethodPatch, noun.path+"/{id}", "Change "+noun.about)
		one("scim-delete-"+noun.name, http.MethodDelete, noun.path+"/{id}", "Take "+noun.about+" away; an account is deactivated")
	}
}
