package gateway

import (
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"
)

// preflight answers a browser that asks whether a page may send feedback from its origin. Authorization is not among the headers: pages
// score by a call's token, and keys do not belong into them.
func (g *Gateway) preflight(c *gin.Context) {
	if g.allowOrigin(c) {
		h := c.Writer.Header()
		h.Set("Access-Control-Allow-Methods", http.MethodPost)
		h.Set("Access-Control-Allow-Headers", "Content-Type")
		h.Set("Access-Control-Max-Age", "600")
	}
	c.Status(http.StatusNoContent)
}

// allowOrigin lets pages of the configured origins read the answer, and no others.
func (g *Gateway) allowOrigin(c *gin.Context) bool {
	origins := g.opts.FeedbackOrigins
	if len(origins) == 0 {
		return false
	}
	h := c.Writer.Header()
	if slices.Contains(origins, "*") {
		h.Set("Access-Control-Allow-Origin", "*")
		return true
	}
	h.Add("Vary", "Origin")
	origin := c.GetHeader("Origin")
	if !slices.Contains(origins, origin) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	return true
}
