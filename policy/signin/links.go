package signin

import (
	"context"
	"fmt"
	"strings"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/sessions"
)

// LinkPath is below which links stand, before their token.
const LinkPath = "/signin/link/"

// Link makes a one-time link for an account ("" for a set-up link); an older one of the same kind is void from then on. once refuses (Conflict) while there
// is one that can still be used.
func (s *Service) Link(ctx context.Context, by journal.Origin, p policy.Purpose, user string, once bool) (url string, err error) {
	token, id, err := s.Links.Issue(s.Random)
	if err != nil {
		return "", err
	}
	if _, err := s.Store.PutLink(ctx, by, policy.Link{ID: id, Purpose: p, UserID: user}, once); err != nil {
		return "", err
	}
	return strings.TrimSuffix(s.URL, "/") + LinkPath + token, nil
}

// gone is the one answer for a link that is no link, was used, replaced or is too old.
func gone() error {
	return fault.New(fault.NotFound, "This link was used already, replaced by a newer one, or is too old. Ask for a new one.")
}

// Shown is what a link's page tells before it is used: nothing is changed by looking.
type Shown struct {
	Purpose policy.Purpose
	Email   string // "" for a set-up link
}

// Look is what a link is for (NotFound when it can not be used).
func (s *Service) Look(ctx context.Context, token string) (Shown, error) {
	id, ok := s.Links.ID(token)
	if !ok {
		return Shown{}, gone()
	}
	l, err := s.Store.LinkByID(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return Shown{}, gone()
	}
	if err != nil || l.UserID == "" {
		return Shown{Purpose: l.Purpose}, err
	}
	a, err := s.Store.Account(ctx, l.UserID)
	if fault.Is(err, fault.NotFound) {
		return Shown{}, gone()
	}
	if err == nil && a.State == policy.UserDeactivated {
		return Shown{}, gone()
	}
	if err == nil && !l.ByMachine() {
		err = s.freely(ctx, a.User)
	}
	if err != nil {
		return Shown{}, err
	}
	return Shown{Purpose: l.Purpose, Email: a.Email}, nil
}

// Redeem uses a link up and begins a session. first is whose account a set-up link makes.
func (s *Service) Redeem(ctx context.Context, token string, first *policy.FirstAccount, from sessions.Browser) (g Grant, err error) {
	defer func() { s.count(policy.ByLink, err) }()
	id, ok := s.Links.ID(token)
	if !ok {
		return Grant{}, gone()
	}
	link, err := s.Store.LinkByID(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return Grant{}, gone()
	}
	if err == nil {
		err = s.opens(ctx, link)
	}
	if err != nil {
		return Grant{}, err
	}
	session, token, err := s.Sessions.Fresh(policy.ByLink, from)
	if err != nil {
		return Grant{}, err
	}
	u, _, err := s.Store.Redeem(ctx, journal.Origin{From: from.Address}, policy.Redemption{Link: id, First: first, Session: session})
	if fault.Is(err, fault.NotFound) {
		return Grant{}, gone()
	}
	if err != nil {
		return Grant{}, err
	}
	return Grant{Token: token, Device: s.newDevice(u.ID), User: u}, nil
}

// Invitation is somebody to be added to a project.
type Invitation struct {
	Email, Name string
	Operator    bool             // it looks after the installation: only the machine itself gives that here
	Bindings    []policy.Binding // Subject is set here
}

// Sent is a link that was made for somebody.
type Sent struct {
	User   policy.User
	URL    string // to be handed over; "" when it was mailed or is not needed
	Mailed bool
}

// Invite makes the account when there is none, gives it what granter may give, and makes its link, which is sent where SMTP is configured and else for the
// granter to hand over. Who has signed in before needs no link.
func (s *Service) Invite(ctx context.Context, by journal.Origin, granter *policy.Principal, in Invitation) (Sent, error) {
	u, err := s.Store.UserByEmail(ctx, in.Email)
	switch {
	case fault.Is(err, fault.NotFound):
		// What may not be given is refused before there is an account that nobody asked for.
		if err := s.mayGive(ctx, granter, in.Bindings); err != nil {
			return Sent{}, err
		}
		u, err = s.Store.CreateUser(ctx, by, policy.User{Email: in.Email, Name: in.Name, Operator: in.Operator && granter.Kind == policy.KindSystem})
	case err == nil && u.State == policy.UserInvited:
		err = s.mayHand(ctx, granter, u)
	case err == nil && u.State == policy.UserDeactivated:
		err = fault.New(fault.Conflict, "This account was deactivated: an operator of the installation has to activate it first.").WithParam("email")
	}
	if err == nil && in.Operator && !u.Operator && granter.Kind == policy.KindSystem {
		u.Operator = true
		u, err = s.Store.UpdateUser(ctx, by, u)
	}
	if err != nil {
		return Sent{}, err
	}
	for _, b := range in.Bindings {
		b.Subject = u.ID
		if _, err := s.Store.Bind(ctx, by, granter, b); err != nil {
			return Sent{}, err
		}
	}
	if u.Active() {
		return Sent{User: u}, nil
	}
	return s.hand(ctx, by, policy.ToJoin, u)
}

func (s *Service) mayGive(ctx context.Context, granter *policy.Principal, bindings []policy.Binding) error {
	for _, b := range bindings {
		if policy.RoleActions(b.Role) == nil {
			role, err := s.Store.Role(ctx, b.Project, b.Role)
			if fault.Is(err, fault.NotFound) {
				return fault.New(fault.InvalidRequest, "%q is no role of this project.", b.Role).WithParam("role")
			}
			if err != nil {
				return err
			}
			b.Actions = role.Actions
		}
		if err := policy.DelegateBindings(granter, b.Project, []policy.Binding{b}, s.Clock()); err != nil {
			return err
		}
	}
	return nil
}

// mayHand refuses an invitation whose link would open more to who is shown it than that one holds: an account that others have invited, and given
// something. An e-mail goes to nobody but the account's own address.
func (s *Service) mayHand(ctx context.Context, granter *policy.Principal, u policy.User) error {
	if s.Mail != nil || granter != nil && granter.Kind == policy.KindSystem {
		return nil
	}
	elsewhere := fault.New(fault.PermissionDenied, "Others have invited this address, and its link would give you what they gave: ask an operator of the installation to make the link.").
		WithParam("email")
	a, err := s.Store.Account(ctx, u.ID)
	if err != nil {
		return err
	}
	projects, err := s.Store.ProjectsOf(ctx, u.ID)
	if err != nil {
		return err
	}
	if a.Operator || len(a.Groups) > 0 {
		return elsewhere
	}
	for _, project := range projects {
		if granter == nil || project != granter.Project {
			return elsewhere
		}
		held, err := s.Store.Bindings(ctx, project, u.ID)
		if err != nil {
			return err
		}
		if err := s.mayGive(ctx, granter, *held); err != nil {
			return err
		}
	}
	return nil
}

// Reset makes a link by which an account gets in again: used, it ends all sessions and takes the password away. machine says that the one who asks has the
// machine itself; else a break-glass account is reset by nobody but itself.
func (s *Service) Reset(ctx context.Context, by journal.Origin, user string, machine bool) (Sent, error) {
	a, err := s.Store.Account(ctx, user)
	switch {
	case err != nil:
		return Sent{}, err
	case a.State == policy.UserDeactivated:
		return Sent{}, fault.New(fault.Conflict, "This account was deactivated: activate it first.")
	case a.BreakGlass && !machine && by.Actor.ID != user:
		return Sent{}, fault.New(fault.PermissionDenied, "A break-glass account is reset by itself, or on the machine that has the data: promptgate user reset --local.")
	}
	return s.hand(ctx, by, policy.ToReset, a.User)
}

// hand makes a link and sends it, or has it shown. The journal says which before anybody has it.
func (s *Service) hand(ctx context.Context, by journal.Origin, p policy.Purpose, u policy.User) (Sent, error) {
	if !(policy.Link{CreatedBy: by.Actor.ID}).ByMachine() {
		switch err := s.freely(ctx, u); {
		case fault.Is(err, fault.PermissionDenied) && p == policy.ToJoin: // its provider lets it in
			return Sent{User: u}, nil
		case err != nil:
			return Sent{}, err
		}
	}
	how := "shown to " + by.Actor.Name
	if s.Mail != nil {
		how = "sent by e-mail"
	}
	by.Why = strings.TrimSuffix("the link was "+how+"; "+by.Why, "; ")
	url, err := s.Link(ctx, by, p, u.ID, false)
	if err != nil || s.Mail == nil {
		return Sent{User: u, URL: url}, err
	}
	subject, text := letter(p, s.URL, url)
	if err := s.Mail.Send(ctx, u.Email, subject, text); err != nil {
		return Sent{}, fault.Wrap(err, fault.RegistryUnavailable, "The account is there, but the e-mail could not be sent: try again, or have its operator look at smtp.")
	}
	return Sent{User: u, Mailed: true}, nil
}

func letter(p policy.Purpose, site, url string) (subject, text string) {
	subject, does, lasts := "Your promptgate account", "Join promptgate at "+site+":", "7 days"
	if p == policy.ToReset {
		subject, does, lasts = "Sign in to promptgate again", "Somebody asked for a new way into your account at "+site+". Using this link ends all of its sessions and takes its password away:", "an hour"
	}
	return subject, fmt.Sprintf("%s\n\n%s\n\nIt can be used once, for %s. If you expected no such message, leave it: nothing happens.\n", does, url, lasts)
}
