package sqlstore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/policy"
)

const aSession = "session"

// SessionByID implements policy.SignInSessions.
func (s *Store) SessionByID(ctx context.Context, id string) (policy.Session, error) {
	row := sessionRow{ID: id}
	err := find(ctx, s, aSession, &row, "s.id = ?", id)
	return row.session(), err
}

// SessionsOf implements policy.SignInSessions.
func (s *Store) SessionsOf(ctx context.Context, user string) ([]policy.Session, error) {
	u := userRow{ID: user}
	if err := find(ctx, s, aUser, &u, "u.id = ?", user); err != nil {
		return nil, err
	}
	rows, err := findAll[sessionRow](ctx, s, "sessions", nil, func(q *bun.SelectQuery) {
		q.Where("s.user_id = ? AND s.epoch = ? AND s.ends_at > ?", user, u.Epoch, micros(s.clock())).Order("s.created_at", "s.id")
	})
	out := make([]policy.Session, len(rows))
	for i := range rows {
		out[i] = rows[i].session()
	}
	return out, err
}

// BeginSession implements policy.SignInSessions.
func (s *Store) BeginSession(ctx context.Context, by journal.Origin, session policy.Session, proven *policy.Passkey) (policy.Session, error) {
	given := session
	ev := &journal.Event{Origin: by, Action: "session.begin", Object: "user:" + given.UserID}
	err := s.change(ctx, ev, func(ctx context.Context, w *writes) error {
		session = given
		u, err := s.signer(ctx, given.UserID)
		if err != nil {
			return err
		}
		if given.Epoch != 0 && given.Epoch != u.Epoch {
			return fault.New(fault.Conflict, "The account was changed while you signed in: sign in again.")
		}
		if proven != nil {
			if err := s.proves(ctx, w, *proven); err != nil {
				return err
			}
		}
		if u.reached() {
			w.sets = append(w.sets, &u)
			ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchUser, Key: u.ID})
		}
		ev.After = session.Public()
		return s.begin(ctx, ev, w, &u, &session)
	})
	return session, err
}

// proves writes a passkey that was used. Its challenge must be newer than the newest that was answered: an answer that is played back is not.
func (s *Store) proves(ctx context.Context, w *writes, p policy.Passkey) error {
	var row passkeyRow
	row.UserID, row.ID = p.UserID, p.ID
	if err := find(ctx, s, aPasskey, &row, "p.user_id = ? AND p.id = ?", p.UserID, p.ID); err != nil {
		return err
	}
	if micros(p.IssuedAt) <= row.IssuedAt {
		return fault.New(fault.PermissionDenied, "This answer of the passkey was used already: sign in again.")
	}
	row.Credential, row.IssuedAt, row.UsedAt = string(p.Credential), micros(p.IssuedAt), micros(s.clock())
	w.sets = append(w.sets, &row)
	return nil
}

// RenewSession implements policy.SignInSessions.
func (s *Store) RenewSession(ctx context.Context, by journal.Origin, id string, next policy.Session) (policy.Session, error) {
	ev := &journal.Event{Origin: by, Action: "session.renew", Object: "user:" + next.UserID, Touches: []journal.Touch{{Kind: policy.TouchSession, Key: id}}}
	err := s.change(ctx, ev, func(ctx context.Context, w *writes) error {
		old := sessionRow{ID: id}
		if err := find(ctx, s, aSession, &old, "s.id = ?", id); err != nil {
			return err
		}
		if old.UserID != next.UserID {
			return absent(aSession)
		}
		w.dropSession(&old)
		w.addSession(ev, &next)
		return nil
	})
	return next, err
}

// EndSession implements policy.SignInSessions.
func (s *Store) EndSession(ctx context.Context, by journal.Origin, user, id string) error {
	ev := &journal.Event{Origin: by, Action: "session.end", Object: "user:" + user, Touches: []journal.Touch{{Kind: policy.TouchSession, Key: id}}}
	return s.change(ctx, ev, func(ctx context.Context, w *writes) error {
		row := sessionRow{ID: id}
		if err := find(ctx, s, aSession, &row, "s.id = ?", id); err != nil {
			return err
		}
		if row.UserID != user {
			return absent(aSession)
		}
		ev.Before = row.session().Public()
		w.dropSession(&row)
		return nil
	})
}

// Seen implements policy.SignInSessions. It is bookkeeping: no cache depends on it, and a journal of it would hold nothing but clicks.
func (s *Store) Seen(ctx context.Context, seen policy.SessionSeen) error {
	unlock, err := s.db.LockWriter(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	row := seenRow{SessionID: seen.ID, Sealed: seen.Sealed}
	_, err = s.db.NewInsert().Model(&row).On("CONFLICT (session_id) DO UPDATE").Set("sealed = EXCLUDED.sealed").Exec(ctx)
	return sqldb.Classify(err)
}

// LastSeen implements policy.SignInSessions.
func (s *Store) LastSeen(ctx context.Context, id string) (policy.SessionSeen, error) {
	var row seenRow
	err := s.db.NewSelect().Model(&row).Where("seen.session_id = ?", id).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return policy.SessionSeen{}, absent(aSession)
	}
	return policy.SessionSeen{ID: id, Sealed: row.Sealed}, sqldb.Classify(err)
}
