package signin

import (
	"context"
	"time"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
	"github.com/promptgate/promptgate/policy/passwords"
	"github.com/promptgate/promptgate/policy/sessions"
)

// recently is how long after a sign-in somebody may change how to sign in without proving again who it is: a browser that was left open must not be
// enough to stay in for good.
const recently = 15 * time.Minute

func (s *Service) recent(h sessions.Held) error {
	if s.Clock().Sub(h.CreatedAt) <= recently {
		return nil
	}
	return fault.New(fault.PermissionDenied, "You signed in a while ago: to change how you sign in, sign out and in again.")
}

// HasPassword reports whether an account has a password.
func (s *Service) HasPassword(ctx context.Context, user string) (bool, error) {
	_, err := s.Store.PasswordOf(ctx, user)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// SetPassword gives an account its first password, or another one: then the present one has to be right. All sessions end; this browser gets a new one.
func (s *Service) SetPassword(ctx context.Context, h sessions.Held, present, next string, from sessions.Browser) (Grant, error) {
	u := h.Account.User
	has, err := s.HasPassword(ctx, u.ID)
	switch {
	case err != nil:
		return Grant{}, err
	case !has:
		if err := s.recent(h); err != nil {
			return Grant{}, err
		}
	default:
		try := passwords.Try{Account: u.Email, Address: from.Address, Device: "session " + h.ID}
		if err := s.Limits.Admit(try); err != nil {
			return Grant{}, err
		}
		ok, err := s.matches(ctx, u, present)
		if err != nil {
			return Grant{}, err
		}
		if !ok {
			return Grant{}, fault.New(fault.InvalidRequest, "The present password is wrong.").WithParam("present")
		}
		s.Limits.Right(try)
	}
	if err := s.checker.Check(next, u.Email, u.Name, "promptgate"); err != nil {
		return Grant{}, err
	}
	hash, err := s.Hasher.Hash(ctx, next)
	if err != nil {
		return Grant{}, err
	}
	sealed, err := s.Sealer.Seal([]byte(hash), policy.PasswordBind(u.ID))
	if err != nil {
		return Grant{}, fault.Wrap(err, fault.Internal, "The password could not be sealed.")
	}
	if u, err = s.Store.SetPassword(ctx, originOf(u, from), policy.Password{UserID: u.ID, Sealed: sealed}); err != nil {
		return Grant{}, err
	}
	return s.goOn(ctx, h, u, policy.ByPassword, from)
}

// goOn begins a session for a browser whose last one ended because its person changed how to sign in. It lasts no longer than that one. Who came by a link
// has now shown more.
func (s *Service) goOn(ctx context.Context, h sessions.Held, u policy.User, shown policy.Method, from sessions.Browser) (Grant, error) {
	next, token, err := s.Sessions.Fresh(h.Method, from)
	if err != nil {
		return Grant{}, err
	}
	next.UserID, next.Epoch, next.CreatedAt, next.EndsAt, next.Factor = u.ID, u.Epoch, h.CreatedAt, h.EndsAt, h.Factor
	if h.Method == policy.ByLink && shown != "" || shown == policy.ByPasskey {
		next.Factor = shown
	}
	if _, err := s.Store.BeginSession(ctx, originOf(u, from), next, nil); err != nil {
		return Grant{}, err
	}
	return Grant{Token: token, Device: s.newDevice(u.ID), User: u}, nil
}
