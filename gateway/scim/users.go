package scim

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

const (
	defaultCount = 100
	maxCount     = 200
	editTries    = 10
)

// page is the part of a list that a request asks for.
func (r *request) page() (policy.Slice, error) {
	p := policy.Slice{Count: defaultCount}
	q := r.URL.Query()
	for name, set := range map[string]func(int){
		"startIndex": func(n int) { p.From = max(n, 1) - 1 }, "count": func(n int) { p.Count = min(max(n, 0), maxCount) },
	} {
		if text := q.Get(name); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil {
				return p, problem(http.StatusBadRequest, "invalidValue", "%s is a number.", name)
			}
			set(n)
		}
	}
	return p, nil
}

// without reports whether a request asks for answers without an attribute.
func (r *request) without(name string) bool {
	q := r.URL.Query()
	for _, left := range strings.Split(q.Get("excludedAttributes"), ",") {
		if strings.EqualFold(strings.TrimSpace(left), name) {
			return true
		}
	}
	only := q.Get("attributes")
	if only == "" {
		return false
	}
	for _, wanted := range strings.Split(only, ",") {
		wanted, _, _ = strings.Cut(strings.TrimSpace(wanted), ".")
		if strings.EqualFold(wanted, name) {
			return false
		}
	}
	return true
}

// chosen leaves out what a request does not ask for. id, schemas and meta stay.
func (r *request) chosen(out resource) resource {
	for name := range out {
		if name != "id" && name != "schemas" && name != "meta" && r.without(name) {
			delete(out, name)
		}
	}
	return out
}

// version is what If-Match demands, 0 for anything.
func (r *request) version() (int64, error) {
	tag := r.Header.Get("If-Match")
	if tag == "" || tag == "*" {
		return 0, nil
	}
	n, err := strconv.ParseInt(strings.Trim(strings.TrimPrefix(tag, "W/"), `"`), 10, 64)
	if err != nil || n <= 0 {
		return 0, fault.New(fault.PreconditionFailed, "If-Match is no ETag of this API.")
	}
	return n, nil
}

func (r *request) list(total int, from int, found []any) answer {
	if found == nil {
		found = []any{}
	}
	return answer{status: http.StatusOK, body: map[string]any{
		"schemas": []string{schemaList}, "totalResults": total, "startIndex": from + 1, "itemsPerPage": len(found), "Resources": found,
	}}
}

// got is the answer to a read.
func (r *request) got(body resource, version int64) answer {
	if tag := r.Header.Get("If-None-Match"); tag != "" && tag == etag(version) {
		return answer{status: http.StatusNotModified, version: version}
	}
	return answer{status: http.StatusOK, body: r.chosen(body), version: version}
}

func (s *Server) listUsers(ctx context.Context, r *request) (answer, error) {
	f, err := parseFilter(r.URL.Query().Get("filter"))
	if err != nil {
		return answer{}, err
	}
	p, err := r.page()
	if err != nil {
		return answer{}, err
	}
	list, total, err := s.Store.ProvisionedUsers(ctx, r.directory, f, p)
	if err != nil {
		return answer{}, err
	}
	var found []any
	for _, u := range list {
		found = append(found, r.chosen(shownUser(u)))
	}
	return r.list(total, p.From, found), nil
}

func (s *Server) createUser(ctx context.Context, r *request) (answer, error) {
	in, err := users.read(r.body)
	if err != nil {
		return answer{}, err
	}
	var u policy.ProvisionedUser
	if err := in.account(&u); err != nil {
		return answer{}, err
	}
	u, err = s.Store.ProvisionUser(ctx, r.origin, r.directory, u)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusCreated, body: r.chosen(shownUser(u)), version: u.Version(), location: Base + "/Users/" + u.ID}, nil
}

func (s *Server) getUser(ctx context.Context, r *request) (answer, error) {
	u, err := s.Store.ProvisionedUser(ctx, r.directory, r.id)
	if err != nil {
		return answer{}, err
	}
	return r.got(shownUser(u), u.Version()), nil
}

func (s *Server) putUser(ctx context.Context, r *request) (answer, error) {
	in, err := users.read(r.body)
	if err != nil {
		return answer{}, err
	}
	return s.editUser(ctx, r, func(policy.ProvisionedUser) (resource, error) { return in, nil })
}

func (s *Server) patchUser(ctx context.Context, r *request) (answer, error) {
	ops, err := operations(r.body)
	if err != nil {
		return answer{}, err
	}
	return s.editUser(ctx, r, func(u policy.ProvisionedUser) (resource, error) {
		now := sent(u)
		return now, now.apply(users, ops)
	})
}

func operations(raw json.RawMessage) ([]operation, error) {
	var in struct {
		Schemas    []string
		Operations []operation
	}
	if err := json.Unmarshal(raw, &in); err != nil { // whatever the case of their names: Entra's and Okta's differ
		return nil, problem(http.StatusBadRequest, "invalidSyntax", "The body is no PATCH: it has schemas and Operations.")
	}
	for _, schema := range in.Schemas {
		if strings.EqualFold(schema, schemaPatch) {
			return in.Operations, nil
		}
	}
	return nil, problem(http.StatusBadRequest, "invalidValue", "schemas must name %s.", schemaPatch)
}

// editUser makes an account what edit makes of it. Without If-Match it is done again when somebody else came between.
func (s *Server) editUser(ctx context.Context, r *request, edit func(policy.ProvisionedUser) (resource, error)) (answer, error) {
	demanded, err := r.version()
	if err != nil {
		return answer{}, err
	}
	for try := 1; ; try++ {
		u, err := s.Store.ProvisionedUser(ctx, r.directory, r.id)
		if err != nil {
			return answer{}, err
		}
		version := u.Version()
		if demanded > 0 {
			version = demanded
		}
		now, err := edit(u)
		if err != nil {
			return answer{}, err
		}
		if err := now.account(&u); err != nil {
			return answer{}, err
		}
		u, err = s.Store.Reprovision(ctx, r.origin, r.directory, u, version)
		switch {
		case err == nil:
			return answer{status: http.StatusOK, body: r.chosen(shownUser(u)), version: u.Version()}, nil
		case demanded > 0 || try == editTries || !fault.Is(err, fault.PreconditionFailed):
			return answer{}, err
		}
	}
}

func (s *Server) deleteUser(ctx context.Context, r *request) (answer, error) {
	version, err := r.version()
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, s.Store.EndProvision(ctx, r.origin, r.directory, r.id, version)
}
