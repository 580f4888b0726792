package admin

import (
	"context"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/sessions"
	"github.com/promptgate/promptgate/registry"
)

// Access is a row of the authorization table.
type Access struct {
	Method string
	Path   string
	Action policy.Action // "" asks for a valid key and nothing more
	Kind   string        // policy.ObjectPrompt or policy.ObjectSystem
	Label  bool          // the label in the path is part of the question
	Or     policy.Action // another one that does as well; "" for none
	Person bool          // only a person may, by its session or a key of its own
}

// caller is who an authorized request comes from and what it was authorized for.
type caller struct {
	*policy.Principal
	Origin journal.Origin
	Held   *sessions.Held  // the browser's session; nil when a key calls
	Prompt registry.Prompt // of a path that names one
	check  policy.Checker
}

// Credentials is embedded in every input. The guard has read these headers before an input is parsed; they stand here for the document.
type Credentials struct {
	Authorization string `header:"Authorization" doc:"Bearer pg_…" hidden:"true"`
	Project       string `header:"X-Promptgate-Project" doc:"With a session cookie: the project, by id or name. A key is of one project" hidden:"true"`
	Why           string `header:"X-Promptgate-Why" doc:"Why; kept in the journal" maxLength:"1000"`
}

// naming is an input whose body names a prompt that need not exist yet.
type naming interface{ newName() string }

// OnPrompt is embedded in inputs whose path names a prompt.
type OnPrompt struct {
	Credentials
	Prompt string `path:"prompt" doc:"The prompt's name (percent-encoded: support%2Ftriage), alias or id" example:"support%2Ftriage"`
}

// OnLabel is embedded in inputs whose path names a label of a prompt.
type OnLabel struct {
	OnPrompt
	Label string `path:"label" example:"production"`
}

// op describes one operation.
type op struct {
	id      string
	method  string
	path    string // below Base
	action  policy.Action
	or      policy.Action // another one that does as well; "" for none
	person  bool          // only a person may, by its session or a key of its own
	kind    string
	summary string
	about   string // more than the summary says; may be ""
	tag     string
	status  int // of success; 0 means 200

	session  bool // needs a browser's session, of whoever is signed in; it names no project
	anywhere bool // a session need not name a project
}

// access is the operation's row of the authorization table.
func (o op) access() Access {
	return Access{Method: o.method, Path: Base + o.path, Action: o.action, Kind: o.kind, Label: o.action == policy.ActionMoveLabel, Or: o.or, Person: o.person}
}

// handle registers an operation. It is the only way to add one. The guard runs before anything of the request but its path and
// headers is read, so who may not do something learns nothing about what a body should look like, and has none read.
func handle[I, O any](a *API, o op, h func(ctx context.Context, c *caller, in *I) (*O, error)) {
	a.access[o.id] = o.access()
	doc := a.document(o, conditional[I]())
	_, named := any((*I)(nil)).(naming) // authorized once the body is read
	doc.Middlewares = huma.Middlewares{a.guard(o, named)}
	huma.Register(a.huma, doc, func(ctx context.Context, in *I) (*O, error) {
		c, ok := ctx.Value(callerKey{}).(*caller)
		if !ok { // the guard did not run: refuse rather than guess
			return nil, a.problem(ctx, fault.New(fault.Internal, "an operation without its guard"))
		}
		if n, ok := any(in).(naming); ok {
			if err := c.need(ctx, policy.Permission{Action: o.action, Kind: o.kind, Name: n.newName()}); err != nil {
				return nil, a.problem(ctx, err)
			}
		}
		out, err := h(ctx, c, in)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return out, nil
	})
}

type callerKey struct{}

// guard stands before every operation: it finds out who calls, refuses what it may not do, and hands the caller on.
func (a *API) guard(o op, named bool) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		from := ctx
		ctx = answer{ctx}
		c, err := a.admit(ctx, o)
		if err == nil && !named {
			err = a.authorize(ctx, o, c)
		}
		if err == nil {
			err = readable(ctx.URL())
		}
		if err != nil {
			a.refuse(ctx, err)
			return
		}
		done, err := a.readBody(from, c)
		if done != nil {
			defer done()
		}
		if err != nil {
			a.refuse(ctx, err)
			return
		}
		next(huma.WithValue(ctx, callerKey{}, c))
	}
}

// authorize refuses what the caller may not do. Like the data plane it authorizes before it tells what exists.
func (a *API) authorize(ctx huma.Context, o op, c *caller) error {
	if o.person {
		if _, err := c.person(); err != nil {
			return err
		}
	}
	if o.action == "" {
		return nil
	}
	want := policy.Permission{Action: o.action, Kind: o.kind}
	if o.access().Label {
		want.Label = ctx.Param("label")
	}
	if o.or != "" {
		ok, err := c.may(ctx.Context(), policy.Permission{Action: o.or, Kind: o.kind})
		if ok || err != nil {
			return err
		}
	}
	if !strings.Contains(o.path, "{prompt}") {
		return c.need(ctx.Context(), want)
	}
	named := policy.Named{Spelled: ctx.Param("prompt")}
	found, err := a.registry.Prompt(ctx.Context(), c.Project, named.Spelled)
	switch {
	case err == nil:
		named.Current = found.Name
	case !fault.Is(err, fault.PromptNotFound):
		return err
	}
	verdict, d, err := policy.Decide(ctx.Context(), c.check, c.Principal, want, named)
	switch {
	case err != nil:
		return err
	case verdict == policy.Refused:
		return policy.Lacks(d.Missing)
	case verdict == policy.Unseen:
		return registry.ErrPromptNotFound()
	}
	c.Prompt = found
	return nil
}

// may asks for a permission beside the operation's own.
func (c *caller) may(ctx context.Context, want policy.Permission) (bool, error) {
	d, err := c.check.Check(ctx, c.Principal, want)
	return d.Allowed && err == nil, err
}

// need refuses (PermissionDenied) without a permission beside the operation's own. The answer depends on the name that was asked
// for and never on what stands there.
func (c *caller) need(ctx context.Context, want policy.Permission) error {
	ok, err := c.may(ctx, want)
	if err != nil || ok {
		return err
	}
	return policy.Lacks(want.Describe())
}

// readable refuses addresses that would be understood in part only: net/url leaves out parameters that it cannot decode, and of one that
// is given twice only the first would count.
func readable(u url.URL) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fault.New(fault.InvalidRequest, "The query cannot be decoded: percent-encode its values.")
	}
	if !storable(u.Path) {
		return fault.New(fault.InvalidRequest, "The path must be UTF-8 without control characters.")
	}
	for name, values := range query {
		switch {
		case len(values) > 1:
			return fault.New(fault.InvalidRequest, "The query names a parameter twice.").WithParam(name)
		case values[0] == "" && name != "after": // an empty variable in a script must not select everything
			return fault.New(fault.InvalidRequest, "The query's parameter %s is empty: leave it out, or say what it shall be.", name).WithParam(name)
		case !storable(name + values[0]):
			return fault.New(fault.InvalidRequest, "The query must be UTF-8 without control characters.")
		}
	}
	return nil
}

// storable reports whether every database can hold a text and every log show it.
func storable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
