package signin

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

const accountPath = "/account"

func (p *Pages) signInPage(c *gin.Context) {
	if token := p.cookie(c, ""); token != "" {
		if _, err := p.Sessions.Session(c.Request.Context(), token); err == nil {
			c.Redirect(http.StatusSeeOther, accountPath)
			return
		}
	}
	p.showSignIn(c, http.StatusOK, view{})
}

func (p *Pages) showSignIn(c *gin.Context, status int, v view) {
	v.Title, v.Mails = "Sign in", p.Service.Mails()
	if p.Buttons != nil {
		v.Buttons = p.Buttons(c.Request.Context())
	}
	p.show(c, status, "signin", v)
}

func (p *Pages) signIn(c *gin.Context) {
	email := form(c, "email")
	g, err := p.Service.Password(c.Request.Context(), email, form(c, "password"), p.cookie(c, deviceCookie), browser(c.Request))
	if err != nil {
		status, message := p.told(c.Request.Context(), err)
		p.showSignIn(c, status, view{Error: message, Typed: email})
		return
	}
	p.granted(c, g)
	c.Redirect(http.StatusSeeOther, accountPath)
}

func (p *Pages) forgotPage(c *gin.Context) { p.showForgot(c, http.StatusOK, view{}) }

func (p *Pages) showForgot(c *gin.Context, status int, v view) {
	if !p.Service.Mails() {
		p.refuse(c, fault.New(fault.NotFound, "This gateway sends no e-mail: ask an operator for a reset link."))
		return
	}
	v.Title = "Get back in"
	p.show(c, status, "forgot", v)
}

// forgot answers the same whether somebody has that address here or not.
func (p *Pages) forgot(c *gin.Context) {
	email := form(c, "email")
	if err := p.Service.Forgot(email, browser(c.Request)); err != nil {
		status, message := p.told(c.Request.Context(), err)
		p.showForgot(c, status, view{Error: message, Typed: email})
		return
	}
	p.showForgot(c, http.StatusOK, view{Done: "If there is an account with this address, a message with a link is on its way. It can take some minutes. Another one can be asked for in an hour."})
}

// keepLink moves a link's token out of the address at once, to where no history, no log of a proxy behind it and no other site sees it. Nothing is used
// up: programs that look at links in messages get as far as here.
func (p *Pages) keepLink(c *gin.Context) {
	p.keep(c, linkCookie, c.Param("token"), linkTime)
	c.Writer.Header().Set("Referrer-Policy", "no-referrer")
	c.Redirect(http.StatusSeeOther, "/signin/link")
}

func (p *Pages) linkPage(c *gin.Context) { p.showLink(c, http.StatusOK, view{}) }

func (p *Pages) showLink(c *gin.Context, status int, v view) {
	shown, err := p.Service.Look(c.Request.Context(), p.cookie(c, linkCookie))
	if err != nil {
		p.refuse(c, err)
		return
	}
	v.Purpose, v.LinkEmail, v.Project = string(shown.Purpose), shown.Email, p.Default
	switch shown.Purpose {
	case policy.ToSetUp:
		v.Title = "Set up promptgate"
	case policy.ToJoin:
		v.Title = "Join promptgate"
	case policy.ToReset:
		v.Title = "Reset your account"
	case policy.ToSignIn:
		v.Title = "Sign in"
	}
	p.show(c, status, "link", v)
}

func (p *Pages) redeem(c *gin.Context) {
	ctx := c.Request.Context()
	token := p.cookie(c, linkCookie)
	shown, err := p.Service.Look(ctx, token)
	if err != nil {
		p.refuse(c, err)
		return
	}
	var first *policy.FirstAccount
	if shown.Purpose == policy.ToSetUp {
		project, err := p.Registry.Project(ctx, p.Default)
		if err != nil {
			p.refuse(c, err)
			return
		}
		first = &policy.FirstAccount{Project: project.ID, User: policy.User{Email: form(c, "email"), Name: form(c, "name")}}
	}
	g, err := p.Service.Redeem(ctx, token, first, browser(c.Request))
	if fault.Is(err, fault.InvalidRequest) {
		status, message := p.told(ctx, err)
		p.showLink(c, status, view{Error: message, Typed: form(c, "email")})
		return
	}
	if err != nil {
		p.refuse(c, err)
		return
	}
	p.keep(c, linkCookie, "", -1)
	p.granted(c, g)
	c.Redirect(http.StatusSeeOther, accountPath)
}

func (p *Pages) beginPasskey(c *gin.Context) {
	options, state, err := p.Service.BeginPasskey()
	p.challenge(c, options, state, err)
}

func (p *Pages) finishPasskey(c *gin.Context) {
	_, answer, err := answerOf(c)
	if err != nil {
		p.refuse(c, err)
		return
	}
	g, err := p.Service.Passkey(c.Request.Context(), p.cookie(c, ceremonyCookie), answer, browser(c.Request))
	if err != nil {
		p.refuse(c, err)
		return
	}
	p.keep(c, ceremonyCookie, "", -1)
	p.granted(c, g)
	c.JSON(http.StatusOK, gin.H{"next": accountPath})
}
