package signin

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/promptgate/promptgate/policy/signin"
	"github.com/promptgate/promptgate/policy/sso"
)

// leaveBy sends the browser to an identity provider.
func (p *Pages) leaveBy(c *gin.Context) {
	to, state, err := p.Service.Leave(c.Request.Context(), c.Param("provider"))
	if err != nil {
		p.back(c, err)
		return
	}
	p.keep(c, flowCookie, state, signin.FlowTime)
	c.Redirect(http.StatusSeeOther, to)
}

// comeBack is where identity providers send browsers to. What the browser left with is used up, whatever comes of it.
func (p *Pages) comeBack(c *gin.Context) {
	state := p.cookie(c, flowCookie)
	p.keep(c, flowCookie, "", -1)
	g, err := p.Service.Return(c.Request.Context(), state, sso.Return{
		State: c.Query("state"), Code: c.Query("code"), Issuer: c.Query("iss"), Error: c.Query("error"),
	}, browser(c.Request))
	if err != nil {
		p.back(c, err)
		return
	}
	p.granted(c, g)
	c.Redirect(http.StatusSeeOther, accountPath)
}

// back shows the sign-in page, with what went wrong: there are other ways in, and the same one again.
func (p *Pages) back(c *gin.Context, err error) {
	status, message := p.told(c.Request.Context(), err)
	p.showSignIn(c, status, view{Error: message})
}

// signedOut is what identity providers call when somebody signs out there (OpenID Connect Back-Channel Logout): no browser is involved.
func (p *Pages) signedOut(c *gin.Context) {
	if err := p.Service.SignedOut(c.Request.Context(), form(c, "logout_token"), browser(c.Request)); err != nil {
		status, message := p.told(c.Request.Context(), err)
		c.JSON(status, gin.H{"error": "invalid_request", "error_description": message})
		return
	}
	c.Status(http.StatusOK)
}
