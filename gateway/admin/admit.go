package admin

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/sessions"
)

// Browsers is how people's browsers are recognised.
type Browsers struct {
	Sessions *sessions.Keeper
	Cookie   sessions.Cookie
	// Origins refuses what a page of another site has a browser send.
	Origins *http.CrossOriginProtection
}

// projectHeader chooses the project of a session's request.
const projectHeader = "X-Promptgate-Project"

// admit answers who calls: a key, or a browser's session in the project that the request names. A request that carries both is refused: nobody could
// say whose it is.
func (a *API) admit(ctx huma.Context, o op) (*caller, error) {
	header := http.Header{}
	ctx.EachHeader(header.Add)
	key, err := policy.Credential(header)
	if err != nil {
		return nil, err
	}
	token := ""
	if a.browsers != nil {
		if token, err = a.browsers.Cookie.Token(header, ""); err != nil {
			return nil, err
		}
	}
	c := &caller{check: a.checker}
	switch {
	case token == "":
		err = a.admitKey(ctx, o, c, key)
	case key != "":
		err = fault.New(fault.InvalidRequest, "The request carries an API key and a session cookie: send one of the two.")
	default:
		err = a.admitBrowser(ctx, o, c, token)
	}
	if err != nil {
		return nil, err
	}
	why := ctx.Header("X-Promptgate-Why")
	if !storable(why) {
		return nil, fault.New(fault.InvalidRequest, "X-Promptgate-Why must be UTF-8 without control characters.").WithParam("X-Promptgate-Why")
	}
	c.Origin = journal.Origin{Actor: journal.Actor{Kind: c.Kind, ID: c.ID, Name: c.Name}, From: addressOf(ctx), Why: why}
	return c, nil
}

// admitKey finds the principal of a key.
func (a *API) admitKey(ctx huma.Context, o op, c *caller, key string) error {
	p, err := a.authenticator.Authenticate(ctx.Context(), key)
	if err != nil {
		return err
	}
	if p == nil || p.Project == "" {
		return fault.New(fault.Internal, "the authenticator returned no principal")
	}
	if o.session {
		return fault.New(fault.PermissionDenied, "This is about the browsers that somebody is signed in with: a key cannot ask for it. Sign in.")
	}
	c.Principal = p
	return p.ComesFrom(ctx.RemoteAddr())
}

// installation reports whether an operation lies outside every project.
func (o op) installation() bool {
	return o.action == policy.ActionCreateProject || o.action == policy.ActionManageAccounts
}

// admitBrowser finds the principal of a session. Where its token is changed, the answer carries the new one, whatever else it says.
func (a *API) admitBrowser(ctx huma.Context, o op, c *caller, token string) error {
	b := a.browsers
	if err := b.Origins.Check(humagin.Unwrap(ctx.(answer).humaContext).Request); err != nil { //nolint:forcetypeassert // the guard has made it one
		return fault.Wrap(err, fault.PermissionDenied, "A page of another site had your browser send this: it was not done.")
	}
	held, err := b.Sessions.Session(ctx.Context(), token)
	if err != nil {
		return err
	}
	c.Held = &held
	named := ctx.Header(projectHeader)
	if named == "" && (o.session || o.anywhere) {
		c.Principal = bare(held.Account.User)
		return nil
	}
	project, err := a.projectNamed(ctx.Context(), o, named)
	if err != nil {
		return err
	}
	p, renewed, err := b.Sessions.Principal(ctx.Context(), token, project, sessions.Browser{Address: addressOf(ctx), UserAgent: ctx.Header("User-Agent")})
	if renewed != "" {
		ctx.AppendHeader("Set-Cookie", b.Cookie.Set("", renewed, b.Sessions.Lifetime()))
	}
	c.Principal = p
	return err
}

// bare is somebody outside every project.
func bare(u policy.User) *policy.Principal {
	p := &policy.Principal{ID: u.ID, Kind: policy.KindUser, Name: u.Email, Revision: u.Revision}
	if u.Operator {
		p.Grants = []policy.Grant{policy.OperatorGrant()}
	}
	return p
}

// projectNamed is the id of the project that a session's request names. That there is none of a name is answered like that one is no member of it. Ids
// cost nothing; a name is looked up.
func (a *API) projectNamed(ctx context.Context, o op, named string) (string, error) {
	switch {
	case named == "" && o.installation():
		return "", nil
	case named == "":
		return "", fault.New(fault.InvalidRequest, "Say in %s which project this is about: its id or name.", projectHeader).WithParam(projectHeader)
	case !storable(named):
		return "", fault.New(fault.InvalidRequest, "%s must be UTF-8 without control characters.", projectHeader).WithParam(projectHeader)
	case isProjectID(named):
		return named, nil
	}
	p, err := a.registry.Project(ctx, named)
	if fault.Is(err, fault.NotFound) {
		return "none", nil // whose members nobody is
	}
	return p.ID, err
}

func addressOf(ctx huma.Context) string {
	address := ctx.RemoteAddr()
	if from, err := netip.ParseAddrPort(address); err == nil {
		return from.Addr().Unmap().String()
	}
	return address
}
