package sqlstore

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

var _ policy.SignIns = (*Store)(nil)

// signer is an account that signs in, kept from changing. NotFound when it may not.
func (s *Store) signer(ctx context.Context, id string) (userRow, error) {
	row := userRow{ID: id}
	if err := s.readUser(id)(ctx, &row); err != nil {
		return row, err
	}
	if policy.UserState(row.State) == policy.UserDeactivated {
		return row, absent(aUser)
	}
	return row, nil
}

// maxSessions of one account: past it, the oldest ends.
const maxSessions = 50

// begin adds a session of u, and takes away those that have ended.
func (s *Store) begin(ctx context.Context, ev *journal.Event, w *writes, u *userRow, session *policy.Session) error {
	held, err := findAll[sessionRow](ctx, s, "sessions", nil, func(q *bun.SelectQuery) { q.Where("s.user_id = ?", u.ID).Order("created_at", "id") })
	if err != nil {
		return err
	}
	now, live := micros(s.clock()), 0
	for i := len(held) - 1; i >= 0; i-- { // the newest first
		r := &held[i]
		if r.Epoch == u.Epoch && r.EndsAt > now && live < maxSessions-1 {
			live++
			continue
		}
		w.dropSession(r)
		ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchSession, Key: r.ID})
	}
	session.UserID, session.Epoch = u.ID, u.Epoch
	w.addSession(ev, session)
	return nil
}

func (w *writes) dropSession(r *sessionRow) {
	w.drops, w.unseen = append(w.drops, r), append(w.unseen, &seenRow{SessionID: r.ID})
}

func (w *writes) addSession(ev *journal.Event, session *policy.Session) {
	row := rowOfSession(*session)
	w.adds = append(w.adds, &row)
	ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchSession, Key: row.ID})
}

// reached makes an invited account an active one: it has signed in.
func (u *userRow) reached() (changed bool) {
	if policy.UserState(u.State) != policy.UserInvited {
		return false
	}
	u.State = string(policy.UserActive)
	return true
}

// Link.

// PutLink implements policy.SignInLinks.
func (s *Store) PutLink(ctx context.Context, by journal.Origin, l policy.Link, once bool) (policy.Link, error) {
	l.CreatedBy, l.CreatedAt = by.Actor.ID, s.clock()
	l.EndsAt = l.CreatedAt.Add(l.Purpose.Lifetime())
	row := rowOfLink(l)
	ev := &journal.Event{Origin: by, Action: "link.create", Object: "user:" + l.UserID, After: l.Public()}
	err := s.change(ctx, ev, func(ctx context.Context, w *writes) error {
		if err := s.lockPeople(ctx, ""); err != nil {
			return err
		}
		if l.UserID != "" {
			if _, err := s.signer(ctx, l.UserID); err != nil {
				return err
			}
		}
		older, err := findAll[linkRow](ctx, s, "links", nil, func(q *bun.SelectQuery) { q.Where("l.user_id = ? AND l.purpose = ?", l.UserID, string(l.Purpose)) })
		if err != nil {
			return err
		}
		for i := range older {
			if once && older[i].EndsAt > micros(l.CreatedAt) {
				return fault.New(fault.Conflict, "There is such a link already, which can still be used.")
			}
			w.drops = append(w.drops, &older[i])
		}
		w.adds = append(w.adds, &row)
		return nil
	})
	return row.link(), err
}

const aLink = "link: it was used, replaced by a newer one, or is too old. Ask for a new one"

// LinkByID implements policy.SignInLinks.
func (s *Store) LinkByID(ctx context.Context, id string) (policy.Link, error) {
	row := linkRow{ID: id}
	if err := find(ctx, s, aLink, &row, "l.id = ?", id); err != nil {
		return policy.Link{}, err
	}
	if row.EndsAt <= micros(s.clock()) {
		return policy.Link{}, absent(aLink)
	}
	return row.link(), nil
}

// Redeem implements policy.SignInLinks.
func (s *Store) Redeem(ctx context.Context, by journal.Origin, r policy.Redemption) (policy.User, policy.Session, error) {
	var u userRow
	session := r.Session
	given := by
	ev := &journal.Event{Action: "link.redeem"}
	err := s.change(ctx, ev, func(ctx context.Context, w *writes) error {
		link := linkRow{ID: r.Link}
		if err := s.lockPeople(ctx, ""); err != nil {
			return err
		}
		if err := find(ctx, s, aLink, &link, "l.id = ?", r.Link); err != nil {
			return err
		}
		if link.EndsAt <= micros(s.clock()) {
			return absent(aLink)
		}
		w.drops = append(w.drops, &link)
		var err error
		if policy.Purpose(link.Purpose) == policy.ToSetUp {
			u, err = s.firstAccount(ctx, ev, w, r.First)
		} else {
			u, err = s.redeemer(ctx, w, link)
		}
		if err != nil {
			return err
		}
		ev.Origin = given
		ev.Origin.Actor = journal.Actor{Kind: policy.KindUser, ID: u.ID, Name: u.Email}
		ev.Object, ev.Before = "user:"+u.ID, link.link().Public()
		ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchUser, Key: u.ID})
		session = r.Session
		return s.begin(ctx, ev, w, &u, &session)
	})
	return u.user(), session, err
}

// redeemer is the account of a link, as the link makes it.
func (s *Store) redeemer(ctx context.Context, w *writes, link linkRow) (userRow, error) {
	u, err := s.signer(ctx, link.UserID)
	if err != nil {
		return u, err
	}
	changed := u.reached()
	if policy.Purpose(link.Purpose) == policy.ToReset {
		old := passwordRow{UserID: u.ID}
		switch err := find(ctx, s, aPassword, &old, "p.user_id = ?", u.ID); {
		case err == nil:
			w.drops = append(w.drops, &old)
		case !fault.Is(err, fault.NotFound):
			return u, err
		}
		u.Epoch++
		changed = true
	}
	if changed {
		w.sets = append(w.sets, &u)
	}
	return u, nil
}

// firstAccount makes the operator that a set-up link is for, and binds it to be admin of a project. Where there is an account already, nobody is let in by it.
func (s *Store) firstAccount(ctx context.Context, ev *journal.Event, w *writes, first *policy.FirstAccount) (userRow, error) {
	if first == nil {
		return userRow{}, fault.New(fault.InvalidRequest, "This link makes the first account: say whose it is.").WithParam("email")
	}
	there, err := findAll[userRow](ctx, s, "users", nil, func(q *bun.SelectQuery) { q.Limit(1) })
	if err != nil {
		return userRow{}, err
	}
	if len(there) > 0 {
		return userRow{}, absent(aLink)
	}
	u := first.User
	if err := u.Validate(); err != nil {
		return userRow{}, err
	}
	u.ID, u.State, u.Operator, u.CreatedAt = newID(policy.UserPrefix), policy.UserActive, true, s.clock()
	u.CreatedBy = u.ID
	row := rowOfUser(u)
	b, err := rowOfBinding(policy.Binding{
		ID: newID(policy.BindingPrefix), Project: first.Project, Subject: u.ID, Role: policy.RoleAdmin, Effect: policy.EffectAllow, Prompts: []string{"**"},
		GrantedBy: u.ID, GrantedAt: s.clock(), Reason: "first account",
	})
	if err != nil {
		return row, err
	}
	w.adds = append(w.adds, &row, &b)
	ev.After = u.Public()
	ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchBindings, Project: first.Project, Key: u.ID})
	return row, nil
}

// Unused reports whether there is neither an account nor a key: nobody can do anything here yet.
func (s *Store) Unused(ctx context.Context) (bool, error) {
	users, err := findAll[userRow](ctx, s, "users", nil, func(q *bun.SelectQuery) { q.Limit(1) })
	if err != nil || len(users) > 0 {
		return false, err
	}
	keys, err := findAll[keyRow](ctx, s, "keys", nil, func(q *bun.SelectQuery) { q.Limit(1) })
	return len(keys) == 0, err
}
