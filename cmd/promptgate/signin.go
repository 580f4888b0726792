package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/gateway/admin"
	"github.com/promptgate/promptgate/gateway/provider/egress"
	signinpages "github.com/promptgate/promptgate/gateway/signin"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/passwords"
	"github.com/promptgate/promptgate/policy/sessions"
	"github.com/promptgate/promptgate/policy/signin"
	policystore "github.com/promptgate/promptgate/policy/sqlstore"
	"github.com/promptgate/promptgate/policy/sso"
)

// defaultProject is the one that a set-up link makes its account the admin of, and that commands with --local work on.
const defaultProject = "default"

// siteURL is where browsers reach the gateway; "" when that is not known, and nobody can sign in. Loopback is named localhost: there are no passkeys for
// addresses without a name.
func siteURL(cfg configs.Config, addr string) string {
	if cfg.Console.URL != "" {
		return strings.TrimSuffix(cfg.Console.URL, "/")
	}
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return ""
	}
	scheme := "http"
	if cfg.TLS.CertFile != "" {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort("localhost", port)
}

// signingIn is how people sign in.
type signingIn struct {
	*policystore.Store
	*signin.Service

	keeper *sessions.Keeper
	cookie sessions.Cookie
	origin *http.CrossOriginProtection
}

// uncounted is a meter where nobody asks.
type uncounted struct{}

func (uncounted) SignIn(string, string) {}

// accounts are what sessions ask about people.
type accounts interface {
	sessions.People
}

// storedPeople answers from the database, for commands.
type storedPeople struct{ *policystore.Store }

func (s storedPeople) Member(ctx context.Context, project, id string) (*policy.Principal, error) {
	return policy.Member(ctx, s.Store, project, id)
}

// signIns builds how people sign in at a site.
func (s *stores) signIns(cfg configs.Config, site string, people accounts, meter signin.Meter, log *slog.Logger) (*signingIn, error) {
	out := &signingIn{Store: s.keys, cookie: sessions.Cookie{Secure: strings.HasPrefix(site, "https://")}, origin: http.NewCrossOriginProtection()}
	if err := out.origin.AddTrustedOrigin(site); err != nil { // a proxy may change the Host
		return nil, err
	}
	hasher, err := sessions.NewHasher(s.sealer.DeriveKey(sessions.Purpose))
	if err != nil {
		return nil, err
	}
	links, err := sessions.NewLinkHasher(s.sealer.DeriveKey(sessions.LinkPurpose))
	if err != nil {
		return nil, err
	}
	out.keeper, err = sessions.New(sessions.Deps{Source: s.keys, People: people, Hasher: hasher, Sealer: s.sealer, Feed: s.feed},
		sessions.Options{Idle: cfg.Console.SessionIdle, Max: cfg.Console.SessionMax, StaleAfter: cfg.Stale.Keys})
	if err != nil {
		return nil, err
	}
	argon, err := passwords.New(passwords.Options{})
	if err != nil {
		return nil, err
	}
	limits, err := passwords.NewLimits(nil)
	if err != nil {
		return nil, err
	}
	mailer, err := mailer(cfg.SMTP)
	if err != nil {
		return nil, err
	}
	verifier, err := sso.NewVerifier(network(cfg.SSO.AllowPrivate), time.Now)
	if err != nil {
		return nil, err
	}
	out.Service, err = signin.New(signin.Deps{
		Mail: mailer, Store: s.keys, Sessions: out.keeper, Hasher: argon, Limits: limits, Links: links, Device: s.sealer.DeriveKey(signin.DevicePurpose), Sealer: s.sealer,
		Verifier: verifier, Meter: meter, Log: log, Clock: time.Now, Random: rand.Reader, URL: site,
	})
	return out, err
}

// signIn mounts the pages and has the management API take sessions, where browsers can reach the gateway.
func (a *App) signIn(engine *gin.Engine, reg prometheus.Registerer, deps *admin.Deps) error {
	site := siteURL(a.cfg, a.addr())
	if site == "" {
		a.log.Info("nobody can sign in: set console.url (PROMPTGATE_CONSOLE_URL) to the address at which browsers reach this gateway", "addr", a.addr())
		return nil
	}
	meter, err := metrics.NewSignIns(reg)
	if err != nil {
		return err
	}
	if a.signing, err = a.stores.signIns(a.cfg, site, a.people, meter, a.log); err != nil {
		return err
	}
	deps.Browsers = &admin.Browsers{Sessions: a.signing.keeper, Cookie: a.signing.cookie, Origins: a.signing.origin}
	deps.SignIns, deps.Identity, deps.Site = a.signing, a.signing, site
	_, err = signinpages.Mount(engine, signinpages.Deps{
		Service: a.signing.Service, Sessions: a.signing.keeper, Cookie: a.signing.cookie, Origins: a.signing.origin, Registry: a.stores.service,
		Default: defaultProject, Buttons: a.buttons, Log: a.log, Clock: time.Now,
	})
	return err
}

// network is how identity providers are reached.
func network(allowPrivate bool) sso.Network {
	return sso.Network{
		Check: func(u *url.URL) error {
			bare := *u
			bare.RawQuery = "" // of an endpoint
			_, err := egress.ParseURL(bare.String(), allowPrivate)
			return err
		},
		Dial: egress.Dialer(sso.DialTime, allowPrivate).DialContext,
	}
}

// buttons are the identity providers as the sign-in page shows them. When they cannot be read there are other ways in.
func (a *App) buttons(ctx context.Context) []signinpages.Button {
	found, err := a.signing.Providers(ctx)
	if err != nil {
		a.log.Debug("the sign-in page shows no identity providers: they could not be read", "error", err)
	}
	out := make([]signinpages.Button, len(found))
	for n, i := range found {
		out[n] = signinpages.Button{Name: i.Name, URL: signin.SSOPath + i.ID}
	}
	return out
}

// setUpLink is a link that makes the first account, where there is neither an account nor a key; "" where there is, or where one was printed that can still
// be used.
func (a *App) setUpLink(ctx context.Context) (string, error) {
	if a.signing == nil || a.stores.lastKnown != nil {
		return "", nil
	}
	empty, err := a.stores.keys.Unused(ctx)
	if err != nil || !empty {
		return "", err
	}
	by := journal.Origin{Actor: journal.Actor{Kind: policy.KindSystem, ID: "serve", Name: "serve"}, Why: "first start"}
	if _, err := a.stores.ensureProject(ctx, by, defaultProject); err != nil {
		return "", err
	}
	link, err := a.signing.Link(ctx, by, policy.ToSetUp, "", true)
	if fault.Is(err, fault.Conflict) {
		a.log.Info("a set-up link was printed before and can still be used; a new one: promptgate user setup --local")
		return "", nil
	}
	return link, err
}

// demoLink is a one-time sign-in link of the demo's admin, whose account it makes the first time. Those of earlier starts are void.
func (a *App) demoLink(ctx context.Context, by journal.Origin, project string) (string, error) {
	if a.signing == nil {
		return "", nil
	}
	s := a.stores.keys
	u, err := s.UserByEmail(ctx, demoEmail)
	if fault.Is(err, fault.NotFound) {
		if u, err = s.CreateUser(ctx, by, policy.User{Email: demoEmail, Name: "Demo Admin", State: policy.UserActive, Operator: true}); err != nil {
			return "", err
		}
		system := &policy.Principal{Kind: policy.KindSystem, ID: by.Actor.ID, Project: project}
		_, err = s.Bind(ctx, by, system, policy.Binding{Project: project, Subject: u.ID, Role: policy.RoleAdmin, Prompts: []string{"**"}})
	}
	if err != nil {
		return "", err
	}
	if !u.Active() {
		return "", nil // somebody deactivated it: it stays so
	}
	return a.signing.Link(ctx, by, policy.ToSignIn, u.ID, false)
}

// printSetUp shows the link to whoever started the gateway: on the terminal, or in the log where that is what programs read.
func (a *App) printSetUp(io *streams, link string) {
	const says = "Nobody can sign in here yet. This link makes the first account, once, within 15 minutes"
	const again = "It is not printed again. A new one: promptgate user setup --local"
	if a.cfg.LogFormat == "json" {
		a.log.Warn(says+". "+again, "link", link)
		return
	}
	fmt.Fprintf(io.err, "\n%s:\n\n  %s\n\n%s\n\n", says, link, again)
}

var _ admin.SignIns = (*signingIn)(nil)
