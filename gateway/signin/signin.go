// Package signin is the pages on which people sign in, use one-time links and look after their account. They are plain HTML: only passkeys need their
// small script. They ask policy/signin for everything that matters.
package signin

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/promptgate/promptgate/gateway/wire"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy/sessions"
	"github.com/promptgate/promptgate/policy/signin"
	"github.com/promptgate/promptgate/registry"
)

//go:embed pages
var pages embed.FS

// Button is another way to sign in, such as single sign-on.
type Button struct{ Name, URL string }

// Deps is what the pages work with. All are needed but Buttons.
type Deps struct {
	Service  *signin.Service
	Sessions *sessions.Keeper
	Cookie   sessions.Cookie
	Origins  *http.CrossOriginProtection
	Registry *registry.Service
	Default  string // name of the project that a set-up link makes its account the admin of
	Buttons  func(ctx context.Context) []Button
	Log      *slog.Logger
	Clock    func() time.Time
}

// Pages are the mounted pages.
type Pages struct {
	Deps

	templates *template.Template
	repeats   fault.Repeats
}

// The suffixes of the cookies beside the session's.
const (
	linkCookie     = "-link"
	deviceCookie   = "-device"
	ceremonyCookie = "-ceremony"
	flowCookie     = "-sso"

	deviceTime = 180 * 24 * time.Hour
	linkTime   = time.Hour

	maxForm   = 16 << 10
	maxAnswer = 64 << 10 // of an authenticator
)

// Mount registers the pages.
func Mount(engine *gin.Engine, d Deps) (*Pages, error) {
	if d.Service == nil || d.Sessions == nil || d.Origins == nil || d.Registry == nil || d.Log == nil || d.Clock == nil {
		return nil, errors.New("signin: a dependency is missing")
	}
	p := &Pages{Deps: d}
	var err error
	if p.templates, err = template.ParseFS(pages, "pages/*.html"); err != nil {
		return nil, err
	}
	r := engine.Group("", p.before)
	r.GET("/signin", p.signInPage)
	r.POST("/signin", p.signIn)
	r.GET("/signin/forgot", p.forgotPage)
	r.POST("/signin/forgot", p.forgot)
	r.GET("/signin/link/:token", p.keepLink)
	r.GET("/signin/link", p.linkPage)
	r.POST("/signin/link", p.redeem)
	r.POST("/signin/passkey/begin", p.beginPasskey)
	r.POST("/signin/passkey/finish", p.finishPasskey)
	r.GET(signin.SSOPath+":provider", p.leaveBy)
	r.GET(signin.CallbackPath, p.comeBack)
	r.POST(signin.LogoutPath, p.signedOut)
	r.GET("/signin/assets/:file", p.asset)
	r.GET("/account", p.held(p.account))
	r.POST("/account/password", p.held(p.setPassword))
	r.POST("/account/passkeys/begin", p.held(p.beginRegister))
	r.POST("/account/passkeys/finish", p.held(p.finishRegister))
	r.POST("/account/passkeys/remove", p.held(p.removePasskey))
	r.POST("/account/sessions/end", p.held(p.endSession))
	r.POST("/account/sign-out", p.held(p.signOut))
	r.POST("/account/sign-out-everywhere", p.held(p.signOutEverywhere))
	return p, nil
}

// before every page: what browsers may do with it, how much is read, and that no other site sends to it.
func (p *Pages) before(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "same-origin") // with no-referrer, browsers send forms from nowhere
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	if err := p.Origins.Check(c.Request); err != nil {
		p.refuse(c, fault.Wrap(err, fault.PermissionDenied, "A page of another site had your browser send this: it was not done."))
		c.Abort()
		return
	}
	most := int64(maxForm)
	if c.ContentType() == "application/json" {
		most = maxAnswer
	}
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, most)
}

// browser is where a request comes from.
func browser(r *http.Request) sessions.Browser {
	address := r.RemoteAddr
	if from, err := netip.ParseAddrPort(address); err == nil {
		address = from.Addr().Unmap().String()
	}
	return sessions.Browser{Address: address, UserAgent: r.UserAgent()}
}

func (p *Pages) cookie(c *gin.Context, suffix string) string {
	token, err := p.Cookie.Token(c.Request.Header, suffix)
	if err != nil {
		return ""
	}
	return token
}

func (p *Pages) keep(c *gin.Context, suffix, value string, d time.Duration) {
	c.Writer.Header().Add("Set-Cookie", p.Cookie.Set(suffix, value, d))
}

// granted gives the browser its new session. What it had before is void, or stays another's: nothing of it goes on.
func (p *Pages) granted(c *gin.Context, g signin.Grant) {
	p.keep(c, "", g.Token, p.Sessions.Lifetime())
	if g.Device != "" {
		p.keep(c, deviceCookie, g.Device, deviceTime)
	}
}

// held has a page see who is signed in; who is not is sent to sign in.
func (p *Pages) held(page func(*gin.Context, sessions.Held)) gin.HandlerFunc {
	return func(c *gin.Context) {
		token, err := p.Cookie.Token(c.Request.Header, "")
		var h sessions.Held
		if err == nil {
			h, err = p.Sessions.Session(c.Request.Context(), token)
		}
		switch {
		case err == nil:
			page(c, h)
		case fault.Is(err, fault.InvalidAPIKey) && !wantsJSON(c):
			p.keep(c, "", "", -1)
			c.Redirect(http.StatusSeeOther, "/signin")
		default:
			p.refuse(c, err)
		}
	}
}

func wantsJSON(c *gin.Context) bool { return c.ContentType() == "application/json" }

// view is what a page shows.
type view struct {
	Title, Email, Name, Error, Done, Typed string
	Wide, Mails                            bool
	Buttons                                []Button

	Purpose, LinkEmail, Project string

	Operator, HasPassword, NoWayBack bool
	Projects                         []projectView
	Passkeys                         []passkeyView
	Sessions                         []sessionView
}

type projectView struct{ Name, Roles string }

type passkeyView struct{ ID, Name, Created, Used string }

type sessionView struct {
	ID, Browser, Address, Created, Method string
	Current                               bool
}

func (p *Pages) show(c *gin.Context, status int, name string, v view) {
	var b bytes.Buffer
	if err := p.templates.ExecuteTemplate(&b, name, v); err != nil {
		p.Log.Error("a page could not be made", "page", name, "error", err)
		c.String(http.StatusInternalServerError, "Something failed inside the gateway. Try again.")
		return
	}
	c.Data(status, "text/html; charset=utf-8", b.Bytes())
}

// told is a refusal's status and text. Causes are logged here, once, and never shown.
func (p *Pages) told(ctx context.Context, err error) (int, string) {
	code, message, _ := wire.Told(err)
	status := wire.Status(code)
	if status >= http.StatusInternalServerError {
		level := slog.LevelDebug
		hidden, worth := p.repeats.Worth(code, p.Clock())
		if worth {
			level = slog.LevelError
		}
		p.Log.Log(ctx, level, "sign-in page failed", "code", code, "others_like_it", hidden, "error", err)
	}
	if code == fault.Internal {
		message = "Something failed inside the gateway. Try again; if it stays, tell its operator the time."
	}
	return status, message
}

// refuse answers what has no page of its own to say it on.
func (p *Pages) refuse(c *gin.Context, err error) {
	status, message := p.told(c.Request.Context(), err)
	if wantsJSON(c) {
		c.JSON(status, gin.H{"error": message})
		return
	}
	p.show(c, status, "message", view{Title: "That did not work", Error: message})
}

func (p *Pages) asset(c *gin.Context) {
	kind := map[string]string{"style.css": "text/css; charset=utf-8", "passkey.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"}[c.Param("file")]
	if kind == "" {
		p.refuse(c, fault.New(fault.NotFound, "There is nothing at this address."))
		return
	}
	text, err := pages.ReadFile("pages/" + c.Param("file"))
	if err != nil {
		p.refuse(c, err)
		return
	}
	c.Data(http.StatusOK, kind, text)
}

// form reads a form's field; a body that is no form has none.
func form(c *gin.Context, name string) string { return c.PostForm(name) }

// answerOf reads what an authenticator answered.
func answerOf(c *gin.Context) (name string, credential []byte, err error) {
	var in struct {
		Name       string          `json:"name"`
		Credential json.RawMessage `json:"credential"`
	}
	b, err := io.ReadAll(c.Request.Body)
	if err == nil {
		err = json.Unmarshal(b, &in)
	}
	if err != nil {
		return "", nil, fault.Wrap(err, fault.InvalidRequest, "The passkey's answer cannot be read.")
	}
	return in.Name, in.Credential, nil
}
