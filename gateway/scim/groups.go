package scim

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

// group writes what was sent into a group.
func (r resource) group(g *policy.ProvisionedGroup) (err error) {
	if g.Name, err = r.text("displayName", maxDisplayName); err == nil && strings.TrimSpace(g.Name) == "" {
		err = problem(http.StatusBadRequest, "invalidValue", "A Group needs a displayName.")
	}
	if err != nil {
		return err
	}
	g.Provision.External, err = r.text("externalId", maxExternal)
	return err
}

func (s *Server) listGroups(ctx context.Context, r *request) (answer, error) {
	f, err := parseFilter(r.URL.Query().Get("filter"))
	if err != nil {
		return answer{}, err
	}
	p, err := r.page()
	if err != nil {
		return answer{}, err
	}
	with := !r.without("members")
	list, total, err := s.Store.ProvisionedGroups(ctx, r.directory, f, p, with)
	if err != nil {
		return answer{}, err
	}
	var found []any
	for _, g := range list {
		found = append(found, r.chosen(shownGroup(g, with)))
	}
	return r.list(total, p.From, found), nil
}

func (s *Server) createGroup(ctx context.Context, r *request) (answer, error) {
	in, err := groups.read(r.body)
	if err != nil {
		return answer{}, err
	}
	var g policy.ProvisionedGroup
	if err := in.group(&g); err != nil {
		return answer{}, err
	}
	members, err := in.members()
	if err != nil {
		return answer{}, err
	}
	g, err = s.Store.ProvisionGroup(ctx, r.origin, r.directory, g, members)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusCreated, body: r.chosen(shownGroup(g, true)), version: g.Version(), location: Base + "/Groups/" + g.ID}, nil
}

func (s *Server) getGroup(ctx context.Context, r *request) (answer, error) {
	g, err := s.Store.ProvisionedGroup(ctx, r.directory, r.id)
	if err != nil {
		return answer{}, err
	}
	return r.got(shownGroup(g, true), g.Version()), nil
}

func (s *Server) putGroup(ctx context.Context, r *request) (answer, error) {
	in, err := groups.read(r.body)
	if err != nil {
		return answer{}, err
	}
	return s.editGroup(ctx, r, func(policy.ProvisionedGroup) (resource, error) { return in, nil })
}

func (s *Server) patchGroup(ctx context.Context, r *request) (answer, error) {
	ops, err := operations(r.body)
	if err != nil {
		return answer{}, err
	}
	return s.editGroup(ctx, r, func(g policy.ProvisionedGroup) (resource, error) {
		now := resource{"displayName": g.Name}
		if g.Provision.External != "" {
			now["externalId"] = g.Provision.External
		}
		members := []any{}
		for _, m := range g.Members {
			members = append(members, map[string]any{"value": m.UserID, "type": "User"})
		}
		now["members"] = members
		return now, now.apply(groups, ops)
	})
}

// editGroup makes a group what edit makes of it. Without If-Match it is done again when somebody else came between.
func (s *Server) editGroup(ctx context.Context, r *request, edit func(policy.ProvisionedGroup) (resource, error)) (answer, error) {
	demanded, err := r.version()
	if err != nil {
		return answer{}, err
	}
	for try := 1; ; try++ {
		g, err := s.Store.ProvisionedGroup(ctx, r.directory, r.id)
		if err != nil {
			return answer{}, err
		}
		version := g.Version()
		if demanded > 0 {
			version = demanded
		}
		var had []string
		for _, m := range g.Members {
			had = append(had, m.UserID)
		}
		now, err := edit(g)
		if err != nil {
			return answer{}, err
		}
		if err := now.group(&g); err != nil {
			return answer{}, err
		}
		want, err := now.members()
		if err != nil {
			return answer{}, err
		}
		slices.Sort(want)
		moves := policy.Moves{Join: missing(want, had), Leave: missing(had, want)}
		g, err = s.Store.Regroup(ctx, r.origin, r.directory, g, version, moves)
		switch {
		case err == nil && r.Method == http.MethodPatch && r.without("members"):
			return answer{status: http.StatusNoContent, version: g.Version()}, nil
		case err == nil:
			return answer{status: http.StatusOK, body: r.chosen(shownGroup(g, true)), version: g.Version()}, nil
		case demanded > 0 || try == editTries || !fault.Is(err, fault.PreconditionFailed):
			return answer{}, err
		}
	}
}

// missing are those of list that are not in from.
func missing(list, from []string) []string {
	in := map[string]bool{}
	for _, id := range from {
		in[id] = true
	}
	var out []string
	for _, id := range list {
		if !in[id] {
			out = append(out, id)
		}
	}
	return out
}

func (s *Server) deleteGroup(ctx context.Context, r *request) (answer, error) {
	version, err := r.version()
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, s.Store.UngroupProvision(ctx, r.origin, r.directory, r.id, version)
}
