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
	for _, base := range [...]string{"/v1", "/openai/v1"} { // the second is Azure's
		r.POST(base+"/chat/completions", g.Calls(wire.Chat{}))
		r.POST(base+"/responses", g.Calls(wire.Responses{}))
		r.POST(base+"/responses/input_tokens", g.Calls(wire.InputTokens{}))
		r.POST(base+"/responses/compact", g.Calls(wire.Compaction{}))
		r.POST(base+"/conversations", g.Calls(wire.Conversations{}))
		r.POST(base+"/files", g.Calls(wire.Files{}))
		r.POST(base+"/batches", g.batches)
		for _, route := range keptRoutes() {
			r.Handle(route.method, base+route.path, g.kept(&route))
		}
		for _, api := range wire.Passing() {
			r.POST(base+"/"+api.Endpoint(), g.Calls(api))
		}
		r.GET(base+"/models", g.models)
		r.GET(base+"/models/*id", g.modelByID)
	}
	r.POST("/v1/messages", g.Calls(wire.Messages{}))
	r.POST("/v1/messages/count_tokens", g.Calls(wire.CountTokens{}))
	r.POST("/v1/prompts/*path", g.byPath)
	// Azure's older addresses. Their api-version is not looked at: it versions that vendor's API, not ours.
	r.POST("/openai/deployments/*path", g.byDeployment)
	r.POST("/v1/feedback", g.feedback)
	if len(g.opts.FeedbackOrigins) > 0 {
		r.OPTIONS("/v1/feedback", g.preflight) // the one address that pages may send to
	}
}

// isUnserved reports whether an address is one of OpenAI's or Anthropic's APIs that clients may expect here.
func isUnserved(path string) bool {
	rest, found := strings.CutPrefix(strings.TrimPrefix(path, "/openai"), "/v1/")
	if deployed, azure := strings.CutPrefix(path, "/openai/deployments/"); azure {
		_, rest, found = strings.Cut(deployed, "/")
	}
	noun, _, _ := strings.Cut(rest, "/")
	switch noun {
	case "responses", "messages", "conversations", "audio", "files", "batches", "uploads",
		"vector_stores", "containers", "realtime", "videos", "fine_tuning", "evals", "assistants", "threads":
		return found
	}
	return false
}

const served = "POST /v1/chat/completions, POST /v1/responses (and /input_tokens, /compact), /v1/responses/{id}, /v1/conversations, POST /v1/messages (and /count_tokens), POST /v1/embeddings, /v1/completions, /v1/moderations, /v1/images/generations, /edits and /variations, " +
	"/v1/audio/speech, /transcriptions and /translations, /v1/files, /v1/batches, POST /v1/prompts/{name}/completions and /render, GET /v1/models and POST /v1/feedback"

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
//
//nolint:contextcheck // the request brings its context
func (g *Gateway) Calls(api wire.API) gin.HandlerFunc {
	return func(c *gin.Context) {
		g.serveHTTP(c, g.borrow(c.Writer, requestOf(c.Request), api, policy.ActionCall), g.calling)
	}
}

// deployed takes "{model}/chat/completions" apart; the model stays encoded. api is nil for any other address.
func deployed(rest string) (api wire.API, model string) {
	if name, found := strings.CutSuffix(rest, "/"+wire.Chat{}.Endpoint()); found {
		return wire.Chat{}, name
	}
	for _, api := range wire.Passing() {
		if name, found := strings.CutSuffix(rest, "/"+api.Endpoint()); found {
			return api, name
		}
	}
	return nil, ""
}

// byDeployment serves Azure's form of a call, /openai/deployments/{model}/chat/completions and the like: the address names the model.
func (g *Gateway) byDeployment(c *gin.Context) {
	rest := strings.TrimPrefix(c.Request.URL.EscapedPath(), "/openai/deployments/")
	api, name := deployed(rest)
	model, err := url.PathUnescape(name)
	if api == nil || err != nil || model == "" {
		g.NoRoute(c)
		return
	}
	call := g.borrow(c.Writer, requestOf(c.Request), api, policy.ActionCall)
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

// NoRoute answers for an address that is not there, or not yet.
func (g *Gateway) NoRoute(c *gin.Context) {
	if isUnserved(c.Request.URL.Path) {
		g.refuseHere(c, fault.New(fault.NotImplemented, "This address is not served yet. Served are "+served+"."))
		return
	}
	g.refuseHere(c, fault.New(fault.NotFound, "There is nothing at this address. Served are "+served+"."))
}

// NoMethod answers for a method that an address does not take.
func (g *Gateway) NoMethod(c *gin.Context) {
	if asksForWebSocket(c.Request) {
		// 426 is what sends clients that try this first to HTTP at once; they take others for faults that pass and try again.
		c.Header("Upgrade", "HTTP/1.1")
		c.Header("Connection", "Upgrade")
		g.refuseAs(c, http.StatusUpgradeRequired, fault.New(fault.NotImplemented, "WebSockets are not served: send the request by POST and read its events."))
		return
	}
	g.refuseAs(c, http.StatusMethodNotAllowed, fault.New(fault.InvalidRequest, "This address does not take that method."))
}

// asksForWebSocket reports whether a request wants to become a WebSocket.
func asksForWebSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
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
	api := shapeOf(c.Request)
	h.namedAs(api.RequestID(), id)
	writeOwn(c.Writer, h, id, status, api.AppendError(nil, err, id))
}

// shapeOf is the shape in which a client that made no call expects a refusal: Anthropic's send its version with every request.
func shapeOf(r *http.Request) wire.API {
	if asAnthropic(r) || r.URL.Path == "/v1/messages" || strings.HasPrefix(r.URL.Path, "/v1/messages/") {
		return wire.Messages{}
	}
	return wire.Chat{}
}

// asAnthropic reports whether a request comes from a client of Anthropic's API.
func asAnthropic(r *http.Request) bool { return len(r.Header["Anthropic-Version"]) > 0 }
