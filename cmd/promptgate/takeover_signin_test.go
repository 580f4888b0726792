package main

import (
	"context"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/policy"
)

// takenSignIns are sessions, links, passwords and passkeys, for takeover.
type takenSignIns struct{ sessions, links []string }

func aSession(id, user string) policy.Session {
	now := time.Now().Truncate(time.Microsecond)
	return policy.Session{
		ID: id, UserID: user, Method: policy.ByPassword, Factor: policy.ByPasskey, Address: "192.0.2.1", UserAgent: "browser " + id, CreatedAt: now, RotatedAt: now,
		Idle: time.Hour, EndsAt: now.Add(24 * time.Hour),
	}
}

func (p *takenSignIns) fill(o *takeover, users []string) {
	ctx, s, t := o.t.Context(), o.running.keys, o.t
	for _, u := range users {
		_, err := s.SetPassword(ctx, stage, policy.Password{UserID: u, Sealed: []byte("first of " + u)})
		require.NoError(t, err)
		for _, name := range []string{"one", "two"} {
			_, err = s.AddPasskey(ctx, stage, policy.Passkey{UserID: u, ID: name + u, Name: name, Credential: []byte(`{"of":"` + u + `"}`), IssuedAt: time.Now()})
			require.NoError(t, err)
		}
		for _, name := range []string{"used", "kept"} {
			id := "ses_" + name + u
			_, err := s.BeginSession(ctx, stage, aSession(id, u), nil)
			require.NoError(t, err)
			p.sessions = append(p.sessions, id)
		}
		for _, purpose := range []policy.Purpose{policy.ToJoin, policy.ToReset} {
			id := "lnk_" + string(purpose) + u
			_, err := s.PutLink(ctx, stage, policy.Link{ID: id, Purpose: purpose, UserID: u}, false)
			require.NoError(t, err)
			p.links = append(p.links, id)
		}
	}
	for _, project := range o.project {
		require.NoError(t, s.Require(ctx, stage, project, policy.ByPasskey))
	}
}

// change writes what can be written again, ends a session of each and uses a link up.
func (p *takenSignIns) change(o *takeover, users []string) {
	ctx, s, t := o.t.Context(), o.running.keys, o.t
	for _, u := range users {
		_, err := s.SetPassword(ctx, stage, policy.Password{UserID: u, Sealed: []byte("second of " + u)})
		require.NoError(t, err)
		_, _, err = s.Redeem(ctx, stage, policy.Redemption{Link: "lnk_invite" + u, Session: aSession("ses_new"+u, "")})
		require.NoError(t, err)
		proof := policy.Passkey{UserID: u, ID: "one" + u, Credential: []byte(`{"used":1}`), IssuedAt: time.Now().Add(time.Second)}
		_, err = s.BeginSession(ctx, stage, aSession("ses_more"+u, u), &proof)
		require.NoError(t, err)
		p.sessions = append(p.sessions, "ses_new"+u, "ses_more"+u)
	}
	for _, project := range o.project {
		require.NoError(t, s.Require(ctx, stage, project, policy.ByPassword))
	}
}

// answers asks what signing in asks. That something is gone is an answer, too.
func (p *takenSignIns) answers(ctx context.Context, o *takeover, s *stores, users []string, ask func(question string, answer any, err error)) {
	there := func(question string, answer any, err error) {
		if fault.Is(err, fault.NotFound) {
			answer, err = "gone", nil
		}
		ask(question, answer, err)
	}
	for _, id := range p.sessions {
		v, err := s.keys.SessionByID(ctx, id)
		there("session "+id, v, err)
	}
	for _, id := range p.links {
		v, err := s.keys.LinkByID(ctx, id)
		there("link "+id, v, err)
	}
	for _, u := range users {
		v, err := s.keys.PasswordOf(ctx, u)
		there("password "+u, v, err)
		keys, err := s.keys.PasskeysOf(ctx, u)
		ask("passkeys "+u, keys, err)
	}
	for _, project := range o.project {
		m, err := s.keys.Requires(ctx, project)
		ask("requires "+project, m, err)
	}
}
