package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/names"
	"github.com/promptgate/promptgate/metrics"
)

// Static is a configured provider, for every project.
type Static struct {
	Provider Provider
	Models   []string // names, or patterns with one "*"; none means every model
	Prices   metrics.PriceList
}

// RoutesOptions say where Routes gets its providers.
type RoutesOptions struct {
	Static  []Static                           // in their order of preference
	Source  Source                             // providers of single projects; nil: none
	Build   func(Definition) (Provider, error) // makes the provider of a stored definition; required with Source
	Breaker BreakerOptions                     // of every provider
	Timeout time.Duration                      // bounds one load from Source; default 2 s
	Log     *slog.Logger                       // nil discards
}

// Routes is the Router: a table per project, loaded when it is first asked for and again after a change. A project's own
// providers go before the configured ones; in each of both, an alias goes before a model listed by name, that before the longest
// pattern that matches. Safe for concurrent use.
type Routes struct {
	o        RoutesOptions
	static   *table
	none     table    // of a project when there is no Source
	projects sync.Map // string → *project
}

var _ Router = (*Routes)(nil)

// project is what Routes keeps of one project.
type project struct {
	table   atomic.Pointer[table]  // nil: must be loaded
	changes atomic.Int64           // counts what Changed heard of
	loading chan struct{}          // holds one token while somebody loads; guards built
	built   map[string]built       // by the definition's id
	source  atomic.Pointer[served] // what table was made of, for Served
}

// built is a provider that was made from one revision of a definition. It lives on through reloads, with its connections and what
// its breaker has learnt, until its definition changes.
type built struct {
	revision int64
	member   member
}

// NewRoutes makes a Router. It fails when the configured providers contradict each other.
func NewRoutes(o RoutesOptions) (*Routes, error) {
	if o.Source != nil && o.Build == nil {
		return nil, errors.New("provider: stored providers need something that builds them")
	}
	if o.Timeout <= 0 {
		o.Timeout = 2 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	members := make([]*member, 0, len(o.Static))
	for _, s := range o.Static {
		members = append(members, &member{s.Provider, NewBreaker(s.Provider.Name(), o.Breaker), s.Models, &s.Prices, true})
	}
	static, err := newTable(members, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("provider: %w", err)
	}
	return &Routes{o: o, static: static}, nil
}

// Route implements Router. The targets are shared: callers do not change them.
func (r *Routes) Route(ctx context.Context, project, model string) ([]Target, error) {
	own, err := r.own(ctx, project)
	if err != nil {
		return nil, err
	}
	targets, known := own.find(model)
	if !known {
		targets, known = r.static.find(model)
	}
	if known && model != "" && len(targets) > 0 {
		return targets, nil
	}
	switch {
	case own.prompts[model] != "":
		return nil, fault.New(fault.ModelNotFound, "The model %.100q stands for a prompt: nothing but a request's model can name it.", model).WithParam("model")
	case model == "":
		return nil, fault.New(fault.ModelNotFound, "No model is named: send one as model, or ask an admin to set one in the prompt's version.").WithParam("model")
	case known:
		return nil, fault.New(fault.ModelNotFound, "None of the providers behind the model %.100q is enabled: ask an admin to enable one.", model).WithParam("model")
	}
	return nil, fault.New(fault.ModelNotFound, "There is no provider for the model %.100q in this project: %s, or ask an admin to add it.", model, r.instead(own, model)).WithParam("model")
}

// Provider implements Router.
func (r *Routes) Provider(ctx context.Context, project, name string) (Target, error) {
	own, err := r.own(ctx, project)
	if err != nil {
		return Target{}, err
	}
	m := own.members[name]
	if m == nil {
		m = r.static.members[name]
	}
	if m == nil {
		return Target{}, fault.New(fault.NotFound, "The provider %q is not there any more, or disabled: ask an admin.", name)
	}
	return m.target("", true), nil
}

// Providers implements Router. A project's own provider hides a configured one of its name.
func (r *Routes) Providers(ctx context.Context, project string) ([]Target, error) {
	own, err := r.own(ctx, project)
	if err != nil {
		return nil, err
	}
	var all []Target
	for _, m := range own.members {
		all = append(all, m.target("", true))
	}
	for name, m := range r.static.members {
		if own.members[name] == nil {
			all = append(all, m.target("", true))
		}
	}
	return all, nil
}

// instead says what to ask for, where nobody serves a model: the name that was probably meant, else where all names are listed, else the
// patterns. Every key may list models, so none is told more than it may know.
func (r *Routes) instead(own *table, model string) string {
	all := slices.Concat(own.names, r.static.names)
	if near := names.Nearest(model, all); near != "" {
		return fmt.Sprintf("did you mean %q", near)
	}
	if len(all) > 0 {
		return "use one that GET /v1/models lists"
	}
	var patterns []string
	for _, p := range slices.Concat(own.patterns, r.static.patterns) {
		patterns = append(patterns, p.prefix+"*"+p.suffix)
	}
	if len(patterns) == 0 {
		return "it has no provider at all"
	}
	const most = 10
	slices.Sort(patterns)
	patterns = slices.Compact(patterns)
	if len(patterns) > most {
		patterns = append(patterns[:most], "…")
	}
	return "its providers serve " + strings.Join(patterns, ", ")
}

// Prompt implements Router.
func (r *Routes) Prompt(ctx context.Context, project, model string) (string, error) {
	own, err := r.own(ctx, project)
	if err != nil {
		return "", err
	}
	return own.prompts[model], nil
}

// Models implements Router: aliases and the models that providers list by name. Callers do not change the result.
func (r *Routes) Models(ctx context.Context, project string) ([]string, error) {
	own, err := r.own(ctx, project)
	if err != nil {
		return nil, err
	}
	if len(own.names) == 0 {
		return r.static.names, nil
	}
	all := slices.Concat(own.names, r.static.names)
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Changed forgets what a change made stale: pass it to journal.Subscribe. The next call of the project loads it anew; until that
// succeeds the project's calls fail, rather than go where an admin no longer wants them to go.
func (r *Routes) Changed(c journal.Change) {
	for _, t := range c.Touches {
		if t.Kind != TouchProvider {
			continue
		}
		if v, ok := r.projects.Load(t.Project); ok {
			p := v.(*project)
			p.changes.Add(1)
			p.table.Store(nil)
		}
	}
}

// Breakers calls fn for every provider that is in use, those of all projects too: for gauges. project is "" for configured ones.
func (r *Routes) Breakers(fn func(project, provider string, b *Breaker)) {
	for name, m := range r.static.members {
		fn("", name, m.breaker)
	}
	r.projects.Range(func(k, v any) bool {
		if t := v.(*project).table.Load(); t != nil {
			for name, m := range t.members {
				fn(k.(string), name, m.breaker)
			}
		}
		return true
	})
}

// Close lets go of idle connections. Calls in flight go on.
func (r *Routes) Close() error {
	var errs []error
	for _, m := range r.static.members {
		errs = append(errs, closeProvider(m.provider))
	}
	r.projects.Range(func(_, v any) bool {
		p := v.(*project)
		p.loading <- struct{}{}
		defer func() { <-p.loading }()
		for _, b := range p.built {
			errs = append(errs, closeProvider(b.member.provider))
		}
		return true
	})
	return errors.Join(errs...)
}

func closeProvider(p Provider) error {
	if c, ok := p.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// own is the project's table, from memory when it is there.
func (r *Routes) own(ctx context.Context, name string) (*table, error) {
	if r.o.Source == nil {
		return &r.none, nil
	}
	v, ok := r.projects.Load(name)
	if !ok {
		v, _ = r.projects.LoadOrStore(name, &project{loading: make(chan struct{}, 1), built: map[string]built{}})
	}
	p := v.(*project)
	if t := p.table.Load(); t != nil {
		return t, nil
	}
	return r.load(ctx, name, p)
}

// load fills the table of a project, one flight at a time.
func (r *Routes) load(ctx context.Context, name string, p *project) (*table, error) {
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	select {
	case p.loading <- struct{}{}:
		defer func() { <-p.loading }()
	case <-ctx.Done():
		return nil, unavailable(ctx.Err())
	}
	for ctx.Err() == nil {
		if t := p.table.Load(); t != nil {
			return t, nil // whoever held the token has loaded it
		}
		before := p.changes.Load()
		defs, aliases, err := r.o.Source.Load(ctx, name)
		if err != nil {
			return nil, unavailable(err)
		}
		t, err := r.build(defs, aliases, p)
		if err != nil {
			return nil, unavailable(err)
		}
		p.source.Store(&served{defs, aliases})
		p.table.Store(t)
		if p.changes.Load() == before {
			return t, nil
		}
		p.table.CompareAndSwap(t, nil) // a change came in between: what was read may be from before it
	}
	return nil, unavailable(ctx.Err())
}

func unavailable(err error) error {
	var f *fault.Error
	switch {
	case errors.As(err, &f):
		return err
	case errors.Is(err, context.Canceled):
		return fault.Wrap(err, fault.ClientClosed, "The request was cancelled.")
	}
	return fault.Wrap(err, fault.RegistryUnavailable, "The project's providers cannot be read now: try again shortly.")
}

// build makes a table of what was loaded, keeping providers that did not change and closing those that are gone.
func (r *Routes) build(defs []Definition, aliases []Alias, p *project) (*table, error) {
	next := make(map[string]built, len(defs))
	members := make([]*member, 0, len(defs))
	for _, d := range defs {
		b, ok := p.built[d.ID]
		if !ok || b.revision != d.Revision {
			b = built{d.Revision, r.member(d)}
		}
		next[d.ID] = b
		members = append(members, &b.member)
	}
	t, err := newTable(members, aliases, r.static)
	if err != nil {
		return nil, err
	}
	old := p.built
	p.built = next
	for id, b := range old {
		if n, kept := next[id]; !kept || n.revision != b.revision {
			if err := closeProvider(b.member.provider); err != nil {
				r.o.Log.Warn("a replaced provider did not close", "provider", b.member.provider.Name(), "error", err)
			}
		}
	}
	return t, nil
}

func (r *Routes) member(d Definition) member {
	p, err := r.o.Build(d)
	if err != nil {
		r.o.Log.Error("a stored provider cannot be used", "project", d.Project, "provider", d.Name, "error", err)
		p = unusable{d.Name, err}
	}
	prices := d.PriceList()
	return member{p, NewBreaker(d.Name, r.o.Breaker), slices.Clone(d.Models), &prices, false}
}

// unusable stands for a provider that could not be made, so that its models do not fall through to another one.
type unusable struct {
	name string
	err  error
}

func (u unusable) Name() string               { return u.name }
func (u unusable) Capabilities() Capabilities { return Capabilities{} }
func (u unusable) Do(context.Context, *Request) (*Response, error) {
	return nil, &Error{Provider: u.name, Kind: KindRefused, Err: u.err}
}
