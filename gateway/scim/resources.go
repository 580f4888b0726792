package scim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/promptgate/promptgate/policy"
)

// The schemas that we speak.
const (
	schemaUser     = "urn:ietf:params:scim:schemas:core:2.0:User"
	schemaGroup    = "urn:ietf:params:scim:schemas:core:2.0:Group"
	schemaList     = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
	schemaPatch    = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
	schemaError    = "urn:ietf:params:scim:api:messages:2.0:Error"
	schemaConfig   = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"
	schemaType     = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
	schemaSchema   = "urn:ietf:params:scim:schemas:core:2.0:Schema"
	maxMembers     = 10_000
	maxProfile     = 16 << 10 // bytes that are kept of what a directory sends of an account
	maxUserName    = 300
	maxExternal    = 300
	maxDisplayName = 100
)

// kind is a type of resource.
type kind string

const (
	users  kind = "User"
	groups kind = "Group"
)

// attribute is our spelling of an attribute's name; ok is false for what is not kept.
func (k kind) attribute(name string) (string, bool) {
	for _, known := range k.attributes() {
		if strings.EqualFold(known, name) {
			return known, true
		}
	}
	return "", false
}

func (k kind) attributes() []string {
	if k == groups {
		return []string{"id", "meta", "schemas", "externalId", "displayName", "members"}
	}
	return []string{
		"id", "meta", "schemas", "groups", "externalId", "userName", "displayName", "active", "name", "emails", "title", "nickName", "userType", "preferredLanguage", "locale", "timezone",
	}
}

func (k kind) many(name string) bool { return name == "emails" || name == "members" }

// read takes what we keep out of what was sent.
func (k kind) read(raw json.RawMessage) (resource, error) {
	var in map[string]json.RawMessage
	if err := json.Unmarshal(raw, &in); err != nil || in == nil {
		return nil, problem(400, "invalidSyntax", "The body is no JSON object.")
	}
	out := resource{}
	for name, v := range in {
		known, ok := k.attribute(name)
		if !ok || known == "id" || known == "meta" || known == "groups" {
			continue
		}
		if _, twice := out[known]; twice {
			return nil, problem(400, "invalidSyntax", "%s stands there twice.", known)
		}
		var value any
		if err := json.Unmarshal(v, &value); err != nil {
			return nil, problem(400, "invalidSyntax", "The body is no JSON.")
		}
		if value != nil {
			out[known] = value
		}
	}
	list := elements(out["schemas"])
	want := map[kind]string{users: schemaUser, groups: schemaGroup}[k]
	if !slices.ContainsFunc(list, func(v any) bool { s, _ := v.(string); return strings.EqualFold(s, want) }) {
		return nil, problem(400, "invalidValue", "schemas must name %s.", want)
	}
	delete(out, "schemas")
	return out, nil
}

func (r resource) text(name string, most int) (string, error) {
	v, there := r[name]
	s, ok := v.(string)
	if there && !ok || len(s) > most {
		return "", problem(400, "invalidValue", "%s is a text of %d bytes at the most.", name, most)
	}
	return s, nil
}

// flag reads a truth value; Entra sends it as a word.
func (r resource) flag(name string, otherwise bool) (bool, error) {
	switch v := r[name].(type) {
	case nil:
		return otherwise, nil
	case bool:
		return v, nil
	case string:
		if is, ok := truth(v); ok {
			return is, nil
		}
	}
	return false, problem(400, "invalidValue", "%s is true or false.", name)
}

// email is the account's address: the primary one, else that of work, else the first; without any, a userName that is one.
func (r resource) email(userName string) (string, error) {
	best, rank := "", 0
	for _, v := range elements(r["emails"]) {
		m, ok := v.(map[string]any)
		value, text := m["value"].(string)
		if !ok || !text {
			return "", problem(400, "invalidValue", "emails are objects with a value.")
		}
		is := 1
		if t, _ := m["type"].(string); strings.EqualFold(t, "work") {
			is = 2
		}
		if primary, _ := m["primary"].(bool); primary {
			is = 3
		}
		if p, _ := m["primary"].(string); strings.EqualFold(p, "true") {
			is = 3
		}
		if is > rank {
			best, rank = value, is
		}
	}
	if best == "" {
		best = userName
	}
	email, err := policy.NormalEmail(best)
	if err != nil {
		return "", problem(400, "invalidValue", "An account needs an e-mail address: in emails, or as its userName.")
	}
	return email, nil
}

// account writes what was sent into an account.
func (r resource) account(u *policy.ProvisionedUser) error {
	name, err := r.text("userName", maxUserName)
	if err == nil && strings.TrimSpace(name) == "" {
		err = problem(400, "invalidValue", "A User needs a userName.")
	}
	if err != nil {
		return err
	}
	p := &u.Provision
	p.UserName = name
	if p.External, err = r.text("externalId", maxExternal); err != nil {
		return err
	}
	if p.Active, err = r.flag("active", true); err != nil {
		return err
	}
	if u.Email, err = r.email(name); err != nil {
		return err
	}
	if u.Name, err = r.shownName(); err != nil {
		return err
	}
	rest := resource{}
	for k, v := range r {
		if !slices.Contains([]string{"userName", "externalId", "active"}, k) {
			rest[k] = v
		}
	}
	p.Profile, err = json.Marshal(rest)
	if err != nil || len(p.Profile) > maxProfile {
		return problem(413, "", "The account's attributes are longer than %d bytes.", maxProfile)
	}
	return nil
}

// shownName is the displayName, else what the name's parts make.
func (r resource) shownName() (string, error) {
	shown, err := r.text("displayName", maxDisplayName)
	if err != nil || shown != "" {
		return shown, err
	}
	parts, ok := r["name"].(map[string]any)
	if r["name"] != nil && !ok {
		return "", problem(400, "invalidValue", "name is an object.")
	}
	if s, _ := parts["formatted"].(string); s != "" {
		return clipped(s), nil
	}
	given, _ := parts["givenName"].(string)
	family, _ := parts["familyName"].(string)
	return clipped(strings.TrimSpace(given + " " + family)), nil
}

func clipped(s string) string {
	out := ""
	for _, c := range s {
		if len(out)+len(string(c)) > maxDisplayName {
			break
		}
		out += string(c)
	}
	return out
}

// members are the ids that a group was sent with.
func (r resource) members() ([]string, error) {
	var out []string
	for _, v := range elements(r["members"]) {
		id := valueOf(v)
		if id == "" {
			return nil, problem(400, "invalidValue", "members are objects with a value: the id of a User.")
		}
		if m, ok := v.(map[string]any); ok {
			if t, _ := m["type"].(string); strings.EqualFold(t, "Group") {
				return nil, problem(400, "invalidValue", "Groups hold accounts, not groups.")
			}
		}
		out = append(out, id)
	}
	if len(out) > maxMembers {
		return nil, problem(413, "", "A group has at most %d members in a request.", maxMembers)
	}
	return out, nil
}

// sent is an account as its directory sent it, with what it is now.
func sent(u policy.ProvisionedUser) resource {
	r := resource{}
	_ = json.Unmarshal(u.Provision.Profile, &r) // nothing of it, for what nobody has provisioned yet
	if r == nil {
		r = resource{}
	}
	r["userName"], r["active"] = u.Provision.UserName, u.State != policy.UserDeactivated
	if u.Provision.External != "" {
		r["externalId"] = u.Provision.External
	}
	if r["displayName"] == nil && u.Name != "" {
		r["displayName"] = u.Name
	}
	if elements(r["emails"]) == nil {
		r["emails"] = []any{map[string]any{"value": u.Email, "type": "work", "primary": true}}
	}
	return r
}

func etag(version int64) string { return fmt.Sprintf(`W/"%d"`, version) }

func meta(k kind, id string, created time.Time, version int64) map[string]any {
	return map[string]any{
		"resourceType": string(k), "created": created.UTC().Format(time.RFC3339), "version": etag(version), "location": Base + "/" + string(k) + "s/" + id,
	}
}

func shownUser(u policy.ProvisionedUser) resource {
	r := sent(u)
	r["schemas"], r["id"], r["meta"] = []string{schemaUser}, u.ID, meta(users, u.ID, u.CreatedAt, u.Version())
	return r
}

func shownGroup(g policy.ProvisionedGroup, with bool) resource {
	r := resource{"schemas": []string{schemaGroup}, "id": g.ID, "displayName": g.Name, "meta": meta(groups, g.ID, g.CreatedAt, g.Version())}
	if g.Provision.External != "" {
		r["externalId"] = g.Provision.External
	}
	if with {
		members := []any{}
		for _, m := range g.Members {
			members = append(members, map[string]any{"value": m.UserID, "type": "User", "$ref": Base + "/Users/" + m.UserID})
		}
		r["members"] = members
	}
	return r
}
