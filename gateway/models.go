package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/maypok86/otter/v2"

	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

const (
	// maxListed bounds the prompts that GET /v1/models looks at; a longer list is of no use in a model picker.
	maxListed = 1000
	// listPage is how many are read at a time.
	listPage = 200
	// maxCatalogs bounds the projects whose lists are kept.
	maxCatalogs = 256
)

// entry is a prompt under one label.
type entry struct {
	name, label string
	created     int64 // Unix seconds
}

// catalogKey makes a list void with the registry's next revision.
type catalogKey struct {
	project  string
	revision int64
}

// catalog keeps each project's list of callable prompts, read once a revision, one reader at a time.
type catalog struct {
	source Catalog
	feed   Feed
	lists  *otter.Cache[catalogKey, []entry]
}

func newCatalog(source Catalog, feed Feed) (*catalog, error) {
	lists, err := otter.New(&otter.Options[catalogKey, []entry]{MaximumSize: maxCatalogs})
	if err != nil {
		return nil, err
	}
	return &catalog{source: source, feed: feed, lists: lists}, nil
}

// list is every prompt of a project with each of its labels, by name; archived ones are not in it.
func (c *catalog) list(ctx context.Context, project string) ([]entry, error) {
	key := catalogKey{project: project, revision: c.feed.Revision()}
	return c.lists.Get(ctx, key, otter.LoaderFunc[catalogKey, []entry](func(ctx context.Context, _ catalogKey) ([]entry, error) {
		return c.load(ctx, project)
	}))
}

func (c *catalog) load(ctx context.Context, project string) ([]entry, error) {
	var entries []entry
	seen, after := 0, ""
	for seen < maxListed {
		prompts, next, err := c.source.ListPrompts(ctx, project, registry.PromptFilter{}, registry.Page{After: after, Limit: listPage})
		if err != nil {
			return nil, err
		}
		for i := range prompts {
			labels, err := c.source.ListLabels(ctx, project, prompts[i].ID)
			if err != nil {
				return nil, err
			}
			for _, l := range labels {
				entries = append(entries, entry{name: prompts[i].Name, label: l.Name, created: prompts[i].CreatedAt.Unix()})
			}
		}
		seen += len(prompts)
		if next == "" {
			break
		}
		after = next
	}
	slices.SortFunc(entries, func(a, b entry) int {
		if d := strings.Compare(a.name, b.name); d != 0 {
			return d
		}
		return strings.Compare(a.label, b.label)
	})
	return entries, nil
}

// model is one line of GET /v1/models, as OpenAI has it.
type model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

type modelList struct {
	Object string  `json:"object"`
	Data   []model `json:"data"`
}

// models lists what this key may use: models by name, prompts as prompt/<name>@<label>.
func (g *Gateway) models(c *gin.Context) {
	ctx := c.Request.Context()
	who, id, err := g.identified(ctx, c.Request)
	if err != nil {
		g.refuseCall(c, id, err)
		return
	}
	list, err := g.modelsOf(ctx, who)
	if err != nil {
		g.refuseCall(c, id, err)
		return
	}
	if asAnthropic(c.Request) {
		g.answer(c, id, http.StatusOK, anthropicListOf(list))
		return
	}
	g.answer(c, id, http.StatusOK, list)
}

// modelByID answers for one model: each that the list names, and each that a pattern of a provider serves.
func (g *Gateway) modelByID(c *gin.Context) {
	ctx := c.Request.Context()
	who, id, err := g.identified(ctx, c.Request)
	if err != nil {
		g.refuseCall(c, id, err)
		return
	}
	found, err := g.modelOf(ctx, who, strings.TrimPrefix(c.Param("id"), "/"))
	if err != nil {
		g.refuseCall(c, id, err)
		return
	}
	if asAnthropic(c.Request) {
		g.answer(c, id, http.StatusOK, anthropicModelOf(found))
		return
	}
	g.answer(c, id, http.StatusOK, found)
}

// modelOf is one model as the list has it. ModelNotFound for one that this key may not call as for one that is not there.
func (g *Gateway) modelOf(ctx context.Context, who *policy.Principal, name string) (model, error) {
	list, err := g.modelsOf(ctx, who)
	if err != nil {
		return model{}, err
	}
	for _, m := range list.Data {
		if m.ID == name {
			return m, nil
		}
	}
	unknown := fault.New(fault.ModelNotFound, "There is no model of this name that this key may call. GET /v1/models lists those that there are.").WithParam("model")
	if wire.NamesNoModel(name) {
		return model{}, unknown // a prompt that the list does not have
	}
	ok, err := g.mayCall(ctx, who, policy.Permission{Action: policy.ActionCall, Kind: policy.ObjectModel, Name: name})
	switch {
	case err != nil:
		return model{}, err
	case !ok:
		return model{}, unknown
	}
	switch _, err = g.deps.Router.Route(ctx, who.Project, name); {
	case fault.Is(err, fault.ModelNotFound):
		return model{}, unknown
	case err != nil:
		return model{}, err
	}
	return model{ID: name, Object: "model", OwnedBy: "provider"}, nil
}

func (g *Gateway) modelsOf(ctx context.Context, who *policy.Principal) (*modelList, error) {
	list := &modelList{Object: "list", Data: []model{}}
	names, err := g.deps.Router.Models(ctx, who.Project)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		want, err := g.toCall(ctx, who.Project, name)
		if err != nil {
			return nil, err
		}
		ok, err := g.mayCall(ctx, who, want)
		if err != nil {
			return nil, err
		}
		if ok {
			list.Data = append(list.Data, model{ID: name, Object: "model", OwnedBy: "provider"})
		}
	}
	entries, err := g.catalog.list(ctx, who.Project)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		ok, err := g.mayCall(ctx, who, policy.Permission{Action: policy.ActionCall, Kind: policy.ObjectPrompt, Name: e.name, Label: e.label})
		if err != nil {
			return nil, err
		}
		if ok {
			list.Data = append(list.Data, model{ID: "prompt/" + e.name + "@" + e.label, Object: "model", Created: e.created, OwnedBy: "promptgate"})
		}
	}
	return list, nil
}

// toCall is the permission that a call of this model needs: that of the prompt where the model is an alias of one.
func (g *Gateway) toCall(ctx context.Context, project, model string) (policy.Permission, error) {
	named, err := g.deps.Router.Prompt(ctx, project, model)
	if err != nil || named == "" {
		return policy.Permission{Action: policy.ActionCall, Kind: policy.ObjectModel, Name: model}, err
	}
	want := policy.Permission{Action: policy.ActionCall, Kind: policy.ObjectPrompt}
	if want.Name, want.Label, err = g.labelled(ctx, project, named); err != nil {
		return want, err
	}
	found, err := g.deps.Registry.Identify(ctx, project, want.Name)
	switch {
	case err == nil:
		want.Name = found.Name
	case fault.Is(err, fault.PromptNotFound):
		err = nil // nobody may call what is not there, and nobody is told
	}
	return want, err
}

// labelled takes name, name@label or name@version apart. The label is what a permission has to cover.
func (g *Gateway) labelled(ctx context.Context, project, spelled string) (name, label string, err error) {
	ref, err := wire.ParseSpelled(spelled)
	if err != nil {
		return "", "", err
	}
	switch ref.Selector.Kind {
	case registry.SelectVersion:
		return ref.Handle, policy.LabelVersion, nil
	case registry.SelectLabel:
		return ref.Handle, ref.Selector.Label, nil
	}
	label, err = g.deps.Registry.DefaultLabel(ctx, project)
	return ref.Handle, label, err
}

func (g *Gateway) mayCall(ctx context.Context, who *policy.Principal, want policy.Permission) (bool, error) {
	d, err := g.deps.Checker.Check(ctx, who, want)
	return err == nil && d.Allowed, err
}

// identified is who sends a request that is no call, and an id to name the request by.
func (g *Gateway) identified(ctx context.Context, r *http.Request) (*policy.Principal, string, error) {
	who, err := g.principal(ctx, r.Header)
	if err == nil {
		err = who.ComesFrom(r.RemoteAddr)
	}
	if err != nil {
		id, _ := g.deps.CallIDs.Mint("", "") // without randomness there is no id to show, and the error stays the one to tell
		return nil, id, err
	}
	id, err := g.deps.CallIDs.Mint(who.Project, who.ID)
	if err != nil {
		return nil, "", fault.Wrap(err, fault.Internal, internalMessage)
	}
	return who, id, nil
}

// refuseCall ends a request that is no call.
func (g *Gateway) refuseCall(c *gin.Context, id string, err error) {
	if fault.Is(err, fault.InvalidAPIKey) {
		g.deps.Events.count(eventUnauthenticated)
	}
	if f := ended(c.Request.Context(), err); f != nil {
		err = f
	}
	g.logFault(c.Request.Context(), id, err)
	g.refuse(c.Writer, newHead(c.Writer.Header()), shapeOf(c.Request), id, err)
}

// answer ends a request that is no call with a body of ours.
func (g *Gateway) answer(c *gin.Context, id string, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		g.refuseCall(c, id, fault.Wrap(err, fault.Internal, internalMessage))
		return
	}
	writeOwn(c.Writer, newHead(c.Writer.Header()), id, status, body)
}
