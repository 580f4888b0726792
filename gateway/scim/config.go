package scim

import (
	"context"
	"net/http"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
)

func (s *Server) config(context.Context, *request) (answer, error) {
	no := map[string]any{"supported": false}
	return answer{status: http.StatusOK, body: map[string]any{
		"schemas": []string{schemaConfig}, "patch": map[string]any{"supported": true}, "etag": map[string]any{"supported": true},
		"bulk":   map[string]any{"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
		"filter": map[string]any{"supported": true, "maxResults": maxCount}, "changePassword": no, "sort": no,
		"authenticationSchemes": []any{map[string]any{
			"type": "oauthbearertoken", "name": "SCIM token", "description": "A directory's token, scim_…, which an operator makes", "primary": true,
		}},
		"meta": map[string]any{"resourceType": "ServiceProviderConfig", "location": Base + "/ServiceProviderConfig"},
	}}, nil
}

// described is an attribute as /Schemas tells of it.
type described struct {
	Name            string      `json:"name"`
	Type            string      `json:"type"`
	MultiValued     bool        `json:"multiValued"`
	Description     string      `json:"description"`
	Required        bool        `json:"required"`
	CaseExact       bool        `json:"caseExact"`
	Mutability      string      `json:"mutability"`
	Returned        string      `json:"returned"`
	Uniqueness      string      `json:"uniqueness"`
	ReferenceTypes  []string    `json:"referenceTypes,omitempty"`
	SubAttributes   []described `json:"subAttributes,omitempty"`
	CanonicalValues []string    `json:"canonicalValues,omitempty"`
}

func text(name, about string) described {
	return described{Name: name, Type: "string", Description: about, Mutability: "readWrite", Returned: "default", Uniqueness: "none"}
}

func complexOf(name, about string, many bool, parts ...described) described {
	d := text(name, about)
	d.Type, d.MultiValued, d.SubAttributes = "complex", many, parts
	return d
}

func (d described) as(kind string) described {
	d.Type = kind
	return d
}

func knownSchemas() []map[string]any {
	userName := text("userName", "The name that the directory knows the account by")
	userName.Required, userName.Uniqueness = true, "server"
	shown := text("displayName", "The group's name")
	shown.Required, shown.Uniqueness = true, "server"
	ref := text("$ref", "Where the account stands").as("reference")
	ref.ReferenceTypes = []string{"User"}
	member := text("value", "The account's id")
	member.Mutability = "immutable"
	one := func(id, name, about string, attributes ...described) map[string]any {
		return map[string]any{
			"schemas": []string{schemaSchema}, "id": id, "name": name, "description": about, "attributes": attributes,
			"meta": map[string]any{"resourceType": "Schema", "location": Base + "/Schemas/" + id},
		}
	}
	return []map[string]any{
		one(schemaUser, "User", "An account", userName, text("displayName", "The name that people see"), text("title", "Title"), text("nickName", "Nickname"),
			text("userType", "Kind of user"), text("preferredLanguage", "Language"), text("locale", "Locale"), text("timezone", "Time zone"),
			text("active", "Whether the account may do anything").as("boolean"),
			complexOf("name", "The parts of the name", false, text("formatted", "All of it"), text("familyName", "Family name"), text("givenName", "Given name"),
				text("middleName", "Middle name"), text("honorificPrefix", "Title before"), text("honorificSuffix", "Title behind")),
			complexOf("emails", "E-mail addresses; the primary one, else that of work, is the account's", true,
				text("value", "The address"), text("type", "work, home, other"), text("primary", "Whether it is the account's").as("boolean"), text("display", "How it is shown"))),
		one(schemaGroup, "Group", "A group of accounts", shown,
			complexOf("members", "The accounts in it that the directory put there", true, member, ref, text("type", "User"))),
	}
}

func (s *Server) schemas(_ context.Context, r *request) (answer, error) {
	var found []any
	for _, one := range knownSchemas() {
		found = append(found, one)
	}
	return r.list(len(found), 0, found), nil
}

func (s *Server) schema(_ context.Context, r *request) (answer, error) {
	for _, one := range knownSchemas() {
		if id, _ := one["id"].(string); strings.EqualFold(id, r.id) {
			return answer{status: http.StatusOK, body: one}, nil
		}
	}
	return answer{}, fault.New(fault.NotFound, "There is no such schema.")
}

func typeOf(k kind, schema string) map[string]any {
	return map[string]any{
		"schemas": []string{schemaType}, "id": string(k), "name": string(k), "endpoint": "/" + string(k) + "s", "schema": schema, "schemaExtensions": []any{},
		"meta": map[string]any{"resourceType": "ResourceType", "location": Base + "/ResourceTypes/" + string(k)},
	}
}

func (s *Server) types(_ context.Context, r *request) (answer, error) {
	return r.list(2, 0, []any{typeOf(users, schemaUser), typeOf(groups, schemaGroup)}), nil
}

func (s *Server) typ(_ context.Context, r *request) (answer, error) {
	switch kind(r.id) {
	case users:
		return answer{status: http.StatusOK, body: typeOf(users, schemaUser)}, nil
	case groups:
		return answer{status: http.StatusOK, body: typeOf(groups, schemaGroup)}, nil
	}
	return answer{}, fault.New(fault.NotFound, "There is no such type of resource.")
}
