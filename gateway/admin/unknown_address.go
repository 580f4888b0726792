package admin

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/promptgate/promptgate/internal/fault"
)

// headers go with every answer of this API: what it says is the caller's alone, and never more than data to a browser. The document is the
// same for everybody.
func headers(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	if ours(c) {
		h.Set("Cache-Control", "no-store")
	}
}

// ours reports whether a request is for this API, served address or not.
func ours(c *gin.Context) bool {
	rest, found := strings.CutPrefix(c.Request.URL.Path, Base)
	return found && (rest == "" || rest[0] == '/')
}

// NoRoute answers what asks for an address below Base that is not there, and leaves the rest to the next handler: gin has one for all.
func (a *API) NoRoute(c *gin.Context) {
	a.refuseAddress(c, http.StatusNotFound,
		fault.New(fault.NotFound, "There is nothing at this address; /openapi.json lists what there is. A prompt's name is percent-encoded in it: support%%2Ftriage."))
}

// NoMethod is NoRoute for a method that an address does not take.
func (a *API) NoMethod(c *gin.Context) {
	a.refuseAddress(c, http.StatusMethodNotAllowed,
		fault.New(fault.InvalidRequest, "This address takes %s; /openapi.json describes it.", c.Writer.Header().Get("Allow")))
}

// refuseAddress answers with err and status when the request is below Base, and does nothing otherwise.
func (a *API) refuseAddress(c *gin.Context, status int, err error) {
	if !ours(c) {
		return
	}
	c.Abort()
	headers(c)
	p := a.problem(c.Request.Context(), err)
	p.Status, p.Title = status, http.StatusText(status)
	c.Header("Content-Type", problemType)
	c.Status(status)
	if err := writeJSON(c.Writer, p); err != nil {
		a.log.DebugContext(c.Request.Context(), "the caller left before its answer", "error", err)
	}
}
