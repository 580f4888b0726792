package gateway

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/promptgate/promptgate/gateway/provider"
	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// keptRoute is an address by which callers ask about something that a provider keeps for them, or change it.
type keptRoute struct {
	method string
	path   string   // below the base, as Gin has it: ":id" is the provider's id
	api    wire.API // how it answers
	noun   string   // what is kept, for people
	body   bool     // it takes JSON
	hides  bool     // it repeats what a prompt says
	events bool     // it answers with events when it is asked to
	ends   bool     // what is kept is there no more after it
	list   bool     // it would list what everybody made
}

// name is how the ledger calls it: "GET responses/{id}".
func (r *keptRoute) name() string {
	name := strings.NewReplacer(":id", "{id}", ":item", "{item}").Replace(strings.TrimPrefix(r.path, "/"))
	if r.method == http.MethodPost {
		return name
	}
	return r.method + " " + name
}

// keptRoutes are all of them.
func keptRoutes() []keptRoute {
	return []keptRoute{
		{method: http.MethodGet, path: "/responses/:id", api: wire.KeptResponse{}, noun: "response", hides: true, events: true},
		{method: http.MethodDelete, path: "/responses/:id", api: wire.KeptResponse{}, noun: "response", hides: true, ends: true},
		{method: http.MethodPost, path: "/responses/:id/cancel", api: wire.KeptResponse{}, noun: "response", hides: true},
		{method: http.MethodGet, path: "/responses/:id/input_items", api: wire.KeptItems{}, noun: "response", hides: true},
		{method: http.MethodGet, path: "/conversations/:id", api: wire.KeptResponse{}, noun: "conversation"},
		{method: http.MethodPost, path: "/conversations/:id", api: wire.KeptResponse{}, noun: "conversation", body: true},
		{method: http.MethodDelete, path: "/conversations/:id", api: wire.KeptResponse{}, noun: "conversation"},
		{method: http.MethodGet, path: "/conversations/:id/items", api: wire.KeptResponse{}, noun: "conversation"},
		{method: http.MethodPost, path: "/conversations/:id/items", api: wire.KeptResponse{}, noun: "conversation", body: true},
		{method: http.MethodGet, path: "/conversations/:id/items/:item", api: wire.KeptResponse{}, noun: "conversation"},
		{method: http.MethodDelete, path: "/conversations/:id/items/:item", api: wire.KeptResponse{}, noun: "conversation"},
		{method: http.MethodGet, path: "/files", api: wire.KeptFile{}, noun: "file", list: true},
		{method: http.MethodGet, path: "/files/:id", api: wire.KeptFile{}, noun: "file"},
		{method: http.MethodDelete, path: "/files/:id", api: wire.KeptFile{}, noun: "file"},
		{method: http.MethodGet, path: "/files/:id/content", api: wire.FileContent{}, noun: "file"},
		{method: http.MethodGet, path: "/batches", api: wire.KeptBatch{}, noun: "batch", list: true},
		{method: http.MethodGet, path: "/batches/:id", api: wire.KeptBatch{}, noun: "batch"},
		{method: http.MethodPost, path: "/batches/:id/cancel", api: wire.KeptBatch{}, noun: "batch"},
	}
}

// kept is what a call asks about something that a provider keeps.
type kept struct {
	route *keptRoute // nil for every other call
	id    string     // "" for one that no provider gives
	path  string     // at the provider
	query string
}

// Kept serves an address of something that a provider keeps.
//
//nolint:contextcheck // the request brings its context
func (g *Gateway) kept(route *keptRoute) gin.HandlerFunc {
	return func(c *gin.Context) {
		call := g.borrow(c.Writer, requestOf(c.Request), route.api, policy.ActionCall)
		call.rec.Endpoint = route.name()
		path, id := strings.TrimPrefix(route.path, "/"), c.Param("id")
		for _, p := range c.Params {
			path = strings.Replace(path, ":"+p.Key, p.Value, 1)
			if !plainID(p.Value) {
				id = ""
			}
		}
		call.kept = kept{route: route, id: id, path: path, query: c.Request.URL.RawQuery}
		g.serveHTTP(c, call, g.asking)
	}
}

// keptPipeline is what happens to a call about something that a provider keeps. It costs nothing, and counts for no prompt.
func (g *Gateway) keptPipeline() pipeline {
	return inOrder(
		g.authenticate, // who asks
		g.admit,        // from where
		g.find,         // is it the caller's, and may it still run what made it
		g.reserve,
		g.bill,    // what would cost nothing once it is gone
		g.forward, // to the provider that keeps it
	).andAlways(g.settle, g.record, g.spend)
}

// maxKeptQuery bounds what a query may say, in bytes.
const maxKeptQuery = 4 << 10

// find makes sure that what is asked about is the caller's, and finds who keeps it. What is another's does not exist; nor does what a prompt made
// that the caller may no longer run.
func (g *Gateway) find(ctx context.Context, c *call) error {
	route := c.kept.route
	if err := c.readKept(); err != nil {
		return err
	}
	if route.list {
		return fault.New(fault.NotImplemented, "Lists are not served: a provider lists what every key made, and our records are not in its order. Ask by id for what this key made.")
	}
	none := fault.New(fault.NotFound, "There is no such %s of this key's: it may be another's, or older than the records.", route.noun).WithParam("id")
	if c.kept.id == "" {
		return none
	}
	by, ok, err := g.storedBy(ctx, c.who.Project, c.kept.id)
	if err != nil {
		return err
	}
	if !ok || by.principal != c.who.ID {
		return none
	}
	c.ref.reads = may
	if by.prompt != "" {
		prompt, reads, err := g.stillRuns(ctx, c, by)
		if err != nil {
			return err
		}
		if prompt == nil {
			return none
		}
		if !reads && route.hides {
			c.ref.reads = mayNot
			if c.out.echoed, err = g.echoes(ctx, prompt, by.version); err != nil {
				return err
			}
		}
	}
	t, err := g.deps.Router.Provider(ctx, c.who.Project, by.provider)
	if err != nil {
		return err
	}
	if !t.Provider.Capabilities().Speaks(c.api.Name()) {
		return fault.New(fault.NotImplemented, "The provider %q does not speak the API %q any more.", by.provider, c.api.Name())
	}
	t.Model = by.model
	c.out.targets = []provider.Target{t}
	return g.checkFiles(ctx, c)
}

// readKept reads what the request says beside the id.
func (c *call) readKept() error {
	if len(c.kept.query) > maxKeptQuery {
		return fault.New(fault.InvalidRequest, "The query is longer than %d bytes.", maxKeptQuery)
	}
	query, err := url.ParseQuery(c.kept.query)
	if err != nil {
		return fault.New(fault.InvalidRequest, "The query cannot be read: percent-encode it.")
	}
	c.kept.query = query.Encode()
	c.in.stream = c.kept.route.events && query.Get("stream") == "true"
	if c.kept.route.body {
		if err := c.in.body.Scan(c.in.buf.B); err != nil {
			return err
		}
		if field := (wire.Conversations{}).Unserved(&c.in.body); field != "" {
			return unserved(field)
		}
		return nil
	}
	c.in.buf.B = c.in.buf.B[:0] // nothing that it could say is taken
	return nil
}

// plainID reports whether an id of a provider can stand in an address as it is.
func plainID(id string) bool {
	return id != "" && len(id) <= 256 && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	})
}

// echoes are the fields in which something kept can repeat what the version says that it was made by.
func (g *Gateway) echoes(ctx context.Context, prompt *registry.Identified, version int) ([]string, error) {
	made, err := g.deps.Registry.Resolve(ctx, prompt, registry.Selector{Kind: registry.SelectVersion, Version: version})
	if err != nil {
		return nil, err
	}
	return wire.Responses{}.Echoes(made.Template)
}

// stillRuns is the prompt that something kept was made by, nil when the caller may not run it any more, and whether it may read that version.
func (g *Gateway) stillRuns(ctx context.Context, c *call, by storedBy) (prompt *registry.Identified, reads bool, err error) {
	prompt, err = g.deps.Registry.Identify(ctx, c.who.Project, by.prompt)
	switch {
	case fault.Is(err, fault.PromptNotFound), err == nil && prompt == nil:
		return nil, false, nil
	case err != nil:
		return nil, false, err
	}
	ask := policy.Permission{Action: policy.ActionCall, Kind: policy.ObjectPrompt, Name: prompt.Name, Label: by.label}
	if by.label == "" {
		ask.Label = policy.LabelVersion
	}
	d, err := g.deps.Checker.Check(ctx, c.who, ask)
	if err != nil || !d.Allowed {
		return nil, false, err
	}
	ask.Action = policy.ActionRead
	d, err = g.deps.Checker.Check(ctx, c.who, ask)
	return prompt, d.Allowed, err
}

// keptRequest is the call as the provider that keeps it gets it.
func (c *call) keptRequest() *provider.Request {
	c.out.request = provider.Request{
		API: c.api.Name(), Method: c.kept.route.method, Endpoint: c.kept.path, Query: c.kept.query, Body: c.in.body.Raw(), Stream: c.in.stream,
		Header: c.api.Onward(c.req.Header, nil), CallID: c.rec.ID,
	}
	if _, content := c.api.(wire.FileContent); content {
		c.out.request.Accept, c.out.request.Opaque = "*/*", true
	}
	if c.out.request.Method == http.MethodPost {
		c.out.request.Method = ""
	}
	return &c.out.request
}
