package signin

import (
	"context"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/passwords"
	"github.com/promptgate/promptgate/policy/sessions"
)

// forgotten is somebody who asks for a way back in.
type forgotten struct {
	email string
	from  sessions.Browser
}

const (
	maxForgotten   = 100 // that wait for their message
	forgottenTries = 3   // to hand a message over
	betweenTries   = 5 * time.Second
)

// Mails reports whether people can be sent a message.
func (s *Service) Mails() bool { return s.Mail != nil }

// Forgot has a reset link, or for who was invited and never came their invitation once more, sent to an address, if somebody has it here. What becomes of it is
// nothing that the one who asks learns, nor how long it takes: Run does it.
func (s *Service) Forgot(email string, from sessions.Browser) error {
	if s.Mail == nil {
		return fault.New(fault.NotFound, "This gateway sends no e-mail: ask an operator for a reset link.")
	}
	typed, bad := policy.NormalEmail(email)
	if bad != nil {
		return fault.New(fault.InvalidRequest, "This is no e-mail address.").WithParam("email")
	}
	if err := s.asks.Admit(passwords.Try{Account: typed, Address: from.Address}); err != nil {
		return fault.New(fault.RateLimitExceeded, "There were many requests for this: wait some minutes, and look into your mail.")
	}
	select {
	case s.forgotten <- forgotten{email: typed, from: from}:
		return nil
	default:
		return fault.New(fault.Overloaded, "Too many people ask for this just now: try again in a minute.")
	}
}

// Run sends what Forgot was asked for, until ctx is done.
func (s *Service) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-s.forgotten:
			if err := s.remind(ctx, f); err != nil && ctx.Err() == nil {
				s.Log.Error("a link that somebody asked for on the sign-in page could not be sent: they can ask again in an hour, or an operator make one", "error", err)
			}
		}
	}
}

// remind makes the link and sends it. One that can still be used stays: who asks again and again neither fills a mailbox nor voids the link in it.
func (s *Service) remind(ctx context.Context, f forgotten) error {
	u, err := s.Store.UserByEmail(ctx, f.email)
	if fault.Is(err, fault.NotFound) || err == nil && u.State == policy.UserDeactivated {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.freely(ctx, u); err != nil { // its provider lets it in, and no link
		if fault.Is(err, fault.PermissionDenied) {
			return nil
		}
		return err
	}
	p := policy.ToReset
	if u.State == policy.UserInvited {
		p = policy.ToJoin
	}
	by := journal.Origin{
		Actor: journal.Actor{Kind: policy.KindSystem, ID: "sign-in", Name: "sign-in page"}, From: f.from.Address,
		Why: "somebody asked for it on the sign-in page; the link was sent by e-mail",
	}
	url, err := s.Link(ctx, by, p, u.ID, p == policy.ToReset)
	if fault.Is(err, fault.Conflict) {
		return nil
	}
	if err != nil {
		return err
	}
	subject, text := letter(p, s.URL, url)
	for try := 1; ; try++ {
		if err = s.Mail.Send(ctx, u.Email, subject, text); err == nil || try == forgottenTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(betweenTries):
		}
	}
}
