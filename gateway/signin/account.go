package signin

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/sessions"
	"github.com/promptgate/promptgate/policy/signin"
)

func (p *Pages) account(c *gin.Context, h sessions.Held) {
	p.showAccount(c, http.StatusOK, h, view{Done: doneText(c.Query("done"))})
}

// doneText says what was done, by the word in the address: what stands there is shown to nobody.
func doneText(word string) string {
	return map[string]string{
		"password": "Your password is set. Other browsers were signed out.",
		"passkey":  "The passkey was added. Other browsers were signed out.",
		"removed":  "The passkey was removed. Other browsers were signed out.",
		"ended":    "That browser was signed out.",
	}[word]
}

func (p *Pages) showAccount(c *gin.Context, status int, h sessions.Held, v view) {
	ctx := c.Request.Context()
	u := h.Account.User
	v.Title, v.Wide, v.Email, v.Name, v.Operator = "Your account", true, u.Email, u.Name, u.Operator
	if err := p.fill(ctx, &v, h); err != nil {
		p.refuse(c, err)
		return
	}
	p.show(c, status, "account", v)
}

func (p *Pages) fill(ctx context.Context, v *view, h sessions.Held) (err error) {
	store := p.Service.Store
	if v.HasPassword, err = p.Service.HasPassword(ctx, h.UserID); err != nil {
		return err
	}
	passkeys, err := store.PasskeysOf(ctx, h.UserID)
	if err != nil {
		return err
	}
	for _, k := range passkeys {
		v.Passkeys = append(v.Passkeys, passkeyView{ID: k.ID, Name: k.Name, Created: day(k.CreatedAt), Used: day(k.UsedAt)})
	}
	v.NoWayBack = !v.HasPassword && len(passkeys) == 0 && h.Method != policy.BySSO
	list, err := store.SessionsOf(ctx, h.UserID)
	if err != nil {
		return err
	}
	slices.Reverse(list)
	for _, s := range list {
		v.Sessions = append(v.Sessions, sessionView{
			ID: s.ID, Browser: browserName(s.UserAgent), Address: s.Address, Created: s.CreatedAt.UTC().Format("2 Jan 2006, 15:04 UTC"), Method: methodName(s.Method), Current: s.ID == h.ID,
		})
	}
	projects, err := store.ProjectsOf(ctx, h.UserID)
	if err != nil {
		return err
	}
	for _, id := range projects {
		shown, err := p.project(ctx, id, h.UserID)
		if err != nil {
			return err
		}
		v.Projects = append(v.Projects, shown)
	}
	return nil
}

func (p *Pages) project(ctx context.Context, id, user string) (projectView, error) {
	project, err := p.Registry.Project(ctx, id)
	if err != nil {
		return projectView{}, err
	}
	m, err := policy.Member(ctx, p.Service.Store, id, user)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return projectView{}, err
	}
	var roles []string
	if m != nil {
		held := m.Bindings
		for _, g := range m.Groups {
			held = append(held, g.Bindings...)
		}
		for _, b := range held {
			if b.Effect != policy.EffectDeny && !b.Expired(p.Clock()) && !slices.Contains(roles, b.Role) {
				roles = append(roles, b.Role)
			}
		}
	}
	return projectView{Name: project.Name, Roles: strings.Join(roles, ", ")}, nil
}

func day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2 Jan 2006")
}

func methodName(m policy.Method) string {
	return cmp.Or(map[policy.Method]string{policy.ByLink: "one-time link", policy.BySSO: "single sign-on"}[m], string(m))
}

// browserName is what people call a browser, as far as its User-Agent tells: it is shown to its owner, and nothing depends on it.
func browserName(agent string) string {
	name := "Unknown browser"
	for _, known := range [][2]string{{"Edg/", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}, {"curl/", "curl"}} {
		if strings.Contains(agent, known[0]) {
			name = known[1]
			break
		}
	}
	for _, known := range [][2]string{{"Android", "Android"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Windows", "Windows"}, {"Mac OS X", "macOS"}, {"Linux", "Linux"}} {
		if strings.Contains(agent, known[0]) {
			return name + " on " + known[1]
		}
	}
	return name
}

// changed has a browser go on after its person changed something.
func (p *Pages) changed(c *gin.Context, h sessions.Held, g signin.Grant, err error, done string) {
	if err != nil {
		if wantsJSON(c) {
			p.refuse(c, err)
			return
		}
		status, message := p.told(c.Request.Context(), err)
		p.showAccount(c, status, h, view{Error: message})
		return
	}
	if g.Token != "" {
		p.granted(c, g)
	}
	if wantsJSON(c) {
		c.JSON(http.StatusOK, gin.H{"next": accountPath + "?done=" + done})
		return
	}
	c.Redirect(http.StatusSeeOther, accountPath+"?done="+done)
}

func (p *Pages) setPassword(c *gin.Context, h sessions.Held) {
	g, err := p.Service.SetPassword(c.Request.Context(), h, form(c, "present"), form(c, "next"), browser(c.Request))
	p.changed(c, h, g, err, "password")
}

func (p *Pages) removePasskey(c *gin.Context, h sessions.Held) {
	g, err := p.Service.RemovePasskey(c.Request.Context(), h, form(c, "id"), browser(c.Request))
	p.changed(c, h, g, err, "removed")
}

func (p *Pages) endSession(c *gin.Context, h sessions.Held) {
	by := journal.Origin{Actor: journal.Actor{Kind: policy.KindUser, ID: h.UserID, Name: h.Account.Email}, From: browser(c.Request).Address}
	err := p.Service.Store.EndSession(c.Request.Context(), by, h.UserID, form(c, "id"))
	p.changed(c, h, signin.Grant{}, err, "ended")
}

func (p *Pages) signOut(c *gin.Context, h sessions.Held) {
	p.leave(c, p.Service.SignOut(c.Request.Context(), h, browser(c.Request)))
}

func (p *Pages) signOutEverywhere(c *gin.Context, h sessions.Held) {
	p.leave(c, p.Service.SignOutEverywhere(c.Request.Context(), h, browser(c.Request)))
}

func (p *Pages) leave(c *gin.Context, err error) {
	if err != nil {
		p.refuse(c, err)
		return
	}
	p.keep(c, "", "", -1)
	c.Redirect(http.StatusSeeOther, "/signin")
}

func (p *Pages) beginRegister(c *gin.Context, h sessions.Held) {
	options, state, err := p.Service.BeginRegister(c.Request.Context(), h)
	p.challenge(c, options, state, err)
}

func (p *Pages) challenge(c *gin.Context, options any, state string, err error) {
	if err != nil {
		p.refuse(c, err)
		return
	}
	p.keep(c, ceremonyCookie, state, signin.CeremonyTime)
	c.JSON(http.StatusOK, options)
}

func (p *Pages) finishRegister(c *gin.Context, h sessions.Held) {
	name, answer, err := answerOf(c)
	if err != nil {
		p.refuse(c, err)
		return
	}
	g, err := p.Service.Register(c.Request.Context(), h, p.cookie(c, ceremonyCookie), answer, name, browser(c.Request))
	p.keep(c, ceremonyCookie, "", -1)
	p.changed(c, h, g, err, "passkey")
}
