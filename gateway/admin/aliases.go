package admin

import (
	"context"
	"net/http"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/names"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// Alias is a model name of the project's own for an ordered list of targets.
type Alias struct {
	Name     string                 `json:"name" example:"fast"`
	Targets  []provider.AliasTarget `json:"targets"`
	Revision int64                  `json:"revision"`
}

// AliasPut creates or replaces an alias.
type AliasPut struct {
	Targets []provider.AliasTarget `json:"targets" minItems:"1" maxItems:"16" doc:"The first is used, the next ones when it fails"`
}

// AliasInput names a model alias.
type AliasInput struct {
	Credentials
	Name string `path:"alias" example:"fast"`
}

type deleteAliasInput struct {
	AliasInput
	Removal
}

type putAliasInput struct {
	AliasInput
	Replacement
	Body AliasPut
}

type aliasAnswer struct {
	Changed
	ETag string `header:"ETag"`
	Body Alias
}

type aliasList struct {
	Body struct {
		Aliases []Alias `json:"aliases"`
	}
}

// aliases are a project's own names for models.
type aliases struct {
	store    Providers
	registry *registry.Service
}

func (n aliases) routes(a *API) {
	manage := func(id, method, path, summary string, status int) op {
		return op{id: id, method: method, path: path, action: policy.ActionManageProject, kind: policy.ObjectSystem, tag: "providers", summary: summary, status: status}
	}
	handle(a, manage("list-aliases", http.MethodGet, "/model-aliases", "List the project's model aliases", 0), n.listAliases)
	handle(a, manage("put-alias", http.MethodPut, "/model-aliases/{alias}", "Create or replace a model alias", 0), n.putAlias)
	handle(a, manage("delete-alias", http.MethodDelete, "/model-aliases/{alias}", "Remove a model alias", http.StatusNoContent), n.deleteAlias)
}

func (n aliases) listAliases(ctx context.Context, c *caller, _ *Credentials) (*aliasList, error) {
	found, err := n.store.ListAliases(ctx, c.Project)
	if err != nil {
		return nil, err
	}
	out := &aliasList{}
	out.Body.Aliases = []Alias{}
	for _, al := range found {
		out.Body.Aliases = append(out.Body.Aliases, Alias{Name: al.Name, Targets: al.Targets, Revision: al.Revision})
	}
	return out, nil
}

func (n aliases) putAlias(ctx context.Context, c *caller, in *putAliasInput) (*aliasAnswer, error) {
	al := provider.Alias{Project: c.Project, Name: in.Name, Targets: in.Body.Targets}
	if in.IfMatch == "*" {
		return nil, fault.New(fault.PreconditionFailed, "An alias is replaced by its ETag: list the aliases to read it.").WithParam("If-Match")
	}
	var err error
	if al.Revision, err = in.revision(); err != nil {
		return nil, err
	}
	if err := n.checkPrompt(ctx, c, &al); err != nil {
		return nil, err
	}
	if al, err = n.store.PutAlias(ctx, c.Origin, al); err != nil {
		return nil, err
	}
	return &aliasAnswer{
		Changed: changed(al.Revision), ETag: etag(al.Revision), Body: Alias{Name: al.Name, Targets: al.Targets, Revision: al.Revision},
	}, nil
}

// checkPrompt refuses an alias for a prompt that is not there: its calls would fail.
func (n aliases) checkPrompt(ctx context.Context, c *caller, al *provider.Alias) error {
	for i := range al.Targets {
		t := &al.Targets[i]
		if t.Prompt == "" {
			continue
		}
		t.Prompt = names.Normal(t.Prompt)
		ref, err := wire.ParseSpelled(t.Prompt)
		if err != nil {
			return fault.New(fault.InvalidRequest, "Target %d: %q names no prompt: write it as name@label or name@version.", i+1, t.Prompt).WithParam("targets")
		}
		if _, err = n.registry.Prompt(ctx, c.Project, ref.Handle); fault.Is(err, fault.PromptNotFound) {
			return fault.New(fault.InvalidRequest, "Target %d names the prompt %q, which is not there: create it first.", i+1, ref.Handle).WithParam("targets")
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (n aliases) deleteAlias(ctx context.Context, c *caller, in *deleteAliasInput) (*removedAnswer, error) {
	rev, err := in.revision()
	if err != nil {
		return nil, err
	}
	rev, err = n.store.DeleteAlias(ctx, c.Origin, c.Project, in.Name, rev)
	return &removedAnswer{Changed: changed(rev)}, err
}
