package admin

import (
	"context"
	"net/http"
	"net/netip"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/registry"
)

// Access is a row of the authorization table.
type Access struct {
	Method string
	Path   string
	Action policy.Action // "" asks for a valid key and nothing more
	Kind   string        // policy.ObjectPrompt or policy.ObjectSystem
	Label  bool          // the label in the path is part of the question
}

// caller is who an authorized request comes from and what it was authorized for.
type caller struct {
	*policy.Principal
	Origin journal.Origin
	Prompt registry.Prompt // of a path that names one
	may    func(ctx context.Context, want policy.Permission) (bool, error)
}

// Credentials is embedded in every input.
type Credentials struct {
	Authorization string `header:"Authorization" doc:"Bearer pg_…" hidden:"true"`
	Why           string `header:"X-Promptgate-Why" doc:"Why; kept in the journal" maxLength:"1000"`

	client string
}

// Resolve implements huma.Resolver: it keeps the address that the request came from.
func (c *Credentials) Resolve(ctx huma.Context) []error {
	c.client = ctx.RemoteAddr()
	return nil
}

func (c *Credentials) creds() *Credentials { return c }

// input is what every operation's input offers by embedding Credentials.
type input interface{ creds() *Credentials }

// named is an input whose path names a prompt, by any handle.
type named interface{ handle() string }

// labelled is an input whose path names a label.
type labelled interface{ label() string }

// naming is an input whose body names a prompt that need not exist yet.
type naming interface{ newName() string }

// OnPrompt is embedded in inputs whose path names a prompt.
type OnPrompt struct {
	Credentials
	Prompt string `path:"prompt" doc:"The prompt's name (percent-encoded: support%2Ftriage), alias or id" example:"support%2Ftriage"`
}

func (o *OnPrompt) handle() string { return o.Prompt }

// OnLabel is embedded in inputs whose path names a label of a prompt.
type OnLabel struct {
	OnPrompt
	Label string `path:"label" example:"production"`
}

func (o *OnLabel) label() string { return o.Label }

// op describes one operation.
type op struct {
	id      string
	method  string
	path    string // below Base
	action  policy.Action
	kind    string
	summary string
	tag     string
	status  int // of success; 0 means 200
}

// handle registers an operation. It is the only way to add one.
func handle[I any, P interface {
	*I
	input
}, O any](a *API, o op, h func(ctx context.Context, c *caller, in P) (*O, error)) {
	_, hasLabel := any(P(nil)).(labelled)
	a.access[o.id] = Access{Method: o.method, Path: Base + o.path, Action: o.action, Kind: o.kind, Label: hasLabel}
	huma.Register(a.huma, huma.Operation{
		OperationID: o.id, Method: o.method, Path: Base + o.path, Summary: o.summary, Tags: []string{o.tag},
		DefaultStatus: o.status, MaxBodyBytes: 4 << 20,
		Errors:     []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusServiceUnavailable},
		Extensions: map[string]any{"x-permission": strings.TrimSpace(string(o.action) + " " + o.kind)},
	}, func(ctx context.Context, in *I) (*O, error) {
		c, err := a.authorize(ctx, o, P(in))
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		out, err := h(ctx, c, P(in))
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return out, nil
	})
}

// authorize answers who calls, or why it may not. Like the data plane it authorizes before it tells what exists.
func (a *API) authorize(ctx context.Context, o op, in input) (*caller, error) {
	cr := in.creds()
	p, err := a.principal(ctx, cr.Authorization)
	if err != nil {
		return nil, err
	}
	if !admitted(p, cr.client) {
		return nil, fault.New(fault.PermissionDenied, "This key may not be used from this address; ask an admin to widen its networks.")
	}
	c := &caller{Principal: p, Origin: origin(p, cr)}
	c.may = func(ctx context.Context, want policy.Permission) (bool, error) {
		d, err := a.deps.Checker.Check(ctx, p, want)
		return d.Allowed && err == nil, err
	}
	if o.action == "" {
		return c, nil
	}
	want := policy.Permission{Action: o.action, Kind: o.kind}
	var missing error
	switch in := in.(type) {
	case named:
		c.Prompt, missing = a.deps.Registry.Prompt(ctx, p.Project, in.handle())
		if missing != nil && !fault.Is(missing, fault.PromptNotFound) {
			return nil, missing
		}
		want.Name = c.Prompt.Name
		if missing != nil {
			want.Name = in.handle() // what is not there is authorized by its spelling
		}
	case naming:
		want.Name = in.newName()
	}
	if l, ok := in.(labelled); ok {
		want.Label = l.label()
	}
	d, err := a.deps.Checker.Check(ctx, p, want)
	switch {
	case err != nil:
		return nil, err
	case d.Allowed:
		return c, missing
	case d.Holds || o.kind == policy.ObjectSystem:
		return nil, fault.New(fault.PermissionDenied, "This key lacks the permission %q; ask an admin of the project for it.", d.Missing)
	}
	return nil, registry.ErrPromptNotFound()
}

func origin(p *policy.Principal, cr *Credentials) journal.Origin {
	from := cr.client
	if ap, err := netip.ParseAddrPort(from); err == nil {
		from = ap.Addr().Unmap().String()
	}
	return journal.Origin{Actor: journal.Actor{Kind: p.Kind, ID: p.ID, Name: p.Name}, From: from, Why: cr.Why}
}

func admitted(p *policy.Principal, client string) bool {
	if len(p.Networks) == 0 {
		return true
	}
	ap, err := netip.ParseAddrPort(client)
	return err == nil && p.AllowsAddr(ap.Addr())
}

func bearer(header string) string {
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
