package gateway

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

// Engine is a Gin engine with the middleware and fallbacks of the gateway and, on demand, its routes; the management API goes onto the
// same one. Gin's own mode is the process's: set it to release in main.
func (g *Gateway) Engine() *gin.Engine {
	e := gin.New()
	_ = e.SetTrustedProxies(nil) // nil cannot be malformed
	e.HandleMethodNotAllowed = true
	e.RedirectTrailingSlash, e.RedirectFixedPath = false, false
	e.ContextWithFallback = false
	e.Use(g.Guard)
	e.NoRoute(g.NoRoute)
	e.NoMethod(g.NoMethod)
	return e
}

// Handler serves the data plane and the operations' endpoints alone.
func (g *Gateway) Handler() http.Handler {
	e := g.Engine()
	g.Routes(e)
	g.OpsRoutes(e)
	return e
}

// Routes adds the data plane. The router must run Guard first, as Engine's does.
func (g *Gateway) Routes(r gin.IRouter) {
	r.POST("/v1/chat/completions", g.Calls(wire.Chat{}))
	r.POST("/v1/prompts/*path", g.byPath)
	r.GET("/v1/models", g.models)
	r.GET("/v1/models/*id", g.modelByID)
	// Azure's addresses. Its api-version is not looked at: it versions that vendor's API, not ours.
	r.POST("/openai/deployments/*path", g.byDeployment)
	r.POST("/openai/v1/chat/completions", g.Calls(wire.Chat{}))
	r.GET("/openai/v1/models", g.models)
	r.GET("/openai/v1/models/*id", g.modelByID)
	r.POST("/v1/feedback", g.feedback)
	if len(g.opts.FeedbackOrigins) > 0 {
		r.OPTIONS("/v1/feedback", g.preflight) // the one address that pages may send to
	}
	for _, path := range []string{
		"/v1/responses", "/v1/messages", "/v1/embeddings", "/v1/completions", "/v1/moderations",
		"/v1/images/*path", "/v1/audio/*path",
	} {
		r.POST(path, g.notImplemented)
	}
}

// OpsRoutes adds what operators and their machines ask: /livez, /readyz and, when there is a handler for it, /metrics.
// Metrics name prompts and ask nobody for a key: where strangers reach the listener, add HealthRoutes.
func (g *Gateway) OpsRoutes(r gin.IRouter) {
	g.HealthRoutes(r)
	if g.deps.Metrics != nil {
		r.GET("/metrics", gin.WrapH(g.deps.Metrics))
	}
}

// HealthRoutes adds /livez and /readyz alone.
func (g *Gateway) HealthRoutes(r gin.IRouter) {
	get := []string{http.MethodGet, http.MethodHead} // some health checks send HEAD
	r.Match(get, "/livez", g.livez)
	r.Match(get, "/readyz", g.readyz)
}

// Calls serves the calls of one shape. The router must run Guard first.
func (g *Gateway) Calls(api wire.API) gin.HandlerFunc {
	return func(c *gin.Context) {
		g.serveHTTP(c, g.borrow(c.Writer, requestOf(c.Request), api, policy.ActionCall), g.calling)
	}
}

// byDeployment serves Azure's form of a call, /openai/deployments/{model}/chat/completions: the address names the model.
func (g *Gateway) byDeployment(c *gin.Context) {
	rest := strings.TrimPrefix(c.Request.URL.EscapedPath(), "/openai/deployments/")
	name, found := strings.CutSuffix(rest, "/"+wire.Chat{}.Endpoint())
	model, err := url.PathUnescape(name)
	if !found || err != nil || model == "" {
		g.NoRoute(c)
		return
	}
	call := g.borrow(c.Writer, requestOf(c.Request), wire.Chat{}, policy.ActionCall)
	call.pathModel = model
	g.serveHTTP(c, call, g.calling)
}

// byPath serves /v1/prompts/{name}/render and /completions. Names hold slashes, as such or percent-encoded.
func (g *Gateway) byPath(c *gin.Context) {
	name, verb, ok := splitPath(c.Request.URL)
	switch {
	case ok && verb == "completions":
		call := g.borrow(c.Writer, requestOf(c.Request), wire.Chat{}, policy.ActionCall)
		call.byPath, call.pathName = true, name
		g.serveHTTP(c, call, g.calling)
	case ok && verb == "render":
		call := g.borrow(c.Writer, requestOf(c.Request), wire.Chat{}, policy.ActionRead)
		call.rec.Endpoint = "render"
		call.byPath, call.pathName = true, name
		g.serveHTTP(c, call, g.rendering)
	default:
		g.NoRoute(c)
	}
}

// splitPath takes "/v1/prompts/a/b/render" apart. It looks at the path as it was sent, so that an encoded slash is always part of the name.
func splitPath(u *url.URL) (name, verb string, ok bool) {
	rest, found := strings.CutPrefix(u.EscapedPath(), "/v1/prompts/")
	at := strings.LastIndexByte(rest, '/')
	if !found || at <= 0 {
		return "", "", false
	}
	name, err := url.PathUnescape(rest[:at])
	return name, rest[at+1:], err == nil && name != ""
}

func (g *Gateway) notImplemented(c *gin.Context) {
	g.refuseHere(c, fault.New(fault.NotImplemented, "This endpoint is not served yet. Use POST /v1/chat/completions."))
}

// NoRoute answers for an address that is not there.
func (g *Gateway) NoRoute(c *gin.Context) {
	g.refuseHere(c, fault.New(fault.NotFound, "There is nothing at this address. The data plane is below /v1, for example POST /v1/chat/completions."))
}

// NoMethod answers for a method that an address does not take.
func (g *Gateway) NoMethod(c *gin.Context) {
	g.refuseAs(c, http.StatusMethodNotAllowed, fault.New(fault.InvalidRequest, "This address does not take that method."))
}

// refuseHere answers a request that never was a call of anybody.
func (g *Gateway) refuseHere(c *gin.Context, err error) {
	g.refuseAs(c, statusOf(fault.CodeOf(err)), err)
}

func (g *Gateway) refuseAs(c *gin.Context, status int, err error) {
	id, idErr := g.deps.CallIDs.Mint("", "")
	if idErr != nil {
		id = ""
	}
	h := newHead(c.Writer.Header())
	h.explain(err)
	writeOwn(c.Writer, h, id, status, wire.Chat{}.AppendError(nil, err))
}
