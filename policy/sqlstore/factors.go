package sqlstore

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

const (
	aPassword = "password"
	aPasskey  = "passkey"

	maxPasskeys = 20 // of one account
)

// PasswordOf implements policy.Factors.
func (s *Store) PasswordOf(ctx context.Context, user string) (policy.Password, error) {
	row := passwordRow{UserID: user}
	err := find(ctx, s, aPassword, &row, "p.user_id = ?", user)
	return policy.Password{UserID: user, Sealed: row.Hash, SetAt: at(row.SetAt)}, err
}

// factor changes how an account signs in, which ends its sessions.
func (s *Store) factor(ctx context.Context, by journal.Origin, action, user string, do func(ctx context.Context, w *writes) error) (policy.User, error) {
	var u userRow
	ev := &journal.Event{Origin: by, Action: action, Object: "user:" + user, Touches: []journal.Touch{{Kind: policy.TouchUser, Key: user}}}
	err := s.change(ctx, ev, func(ctx context.Context, w *writes) (err error) {
		if u, err = s.signer(ctx, user); err != nil {
			return err
		}
		u.reached()
		u.Epoch++
		w.sets = append(w.sets, &u)
		return do(ctx, w)
	})
	return u.user(), err
}

// SetPassword implements policy.Factors.
func (s *Store) SetPassword(ctx context.Context, by journal.Origin, p policy.Password) (policy.User, error) {
	return s.factor(ctx, by, "password.set", p.UserID, func(ctx context.Context, w *writes) error {
		row := passwordRow{UserID: p.UserID}
		err := find(ctx, s, aPassword, &row, "p.user_id = ?", p.UserID)
		is := row.Revision != 0
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		row.Hash, row.SetAt = p.Sealed, micros(s.clock())
		if is {
			w.sets = append(w.sets, &row)
		} else {
			w.adds = append(w.adds, &row)
		}
		return nil
	})
}

// PasskeysOf implements policy.Factors.
func (s *Store) PasskeysOf(ctx context.Context, user string) ([]policy.Passkey, error) {
	rows, err := findAll[passkeyRow](ctx, s, "passkeys of a user", &passkeyRow{UserID: user}, func(q *bun.SelectQuery) { q.Where("p.user_id = ?", user).Order("p.id") })
	out := make([]policy.Passkey, len(rows))
	for i := range rows {
		out[i] = rows[i].passkey()
	}
	return out, err
}

// AddPasskey implements policy.Factors.
func (s *Store) AddPasskey(ctx context.Context, by journal.Origin, p policy.Passkey) (policy.User, error) {
	u, err := s.factor(ctx, by, "passkey.add", p.UserID, func(ctx context.Context, w *writes) error {
		held, err := s.PasskeysOf(ctx, p.UserID)
		if err != nil {
			return err
		}
		if len(held) >= maxPasskeys {
			return fault.New(fault.Conflict, "An account has at most %d passkeys: remove one that is not used.", maxPasskeys)
		}
		p.CreatedAt = s.clock()
		row := rowOfPasskey(p)
		w.adds = append(w.adds, &row)
		return nil
	})
	return u, taken(err, "id", "This passkey is registered already.")
}

// RemovePasskey implements policy.Factors.
func (s *Store) RemovePasskey(ctx context.Context, by journal.Origin, user, id string) (policy.User, error) {
	return s.factor(ctx, by, "passkey.remove", user, func(ctx context.Context, w *writes) error {
		row := passkeyRow{UserID: user, ID: id}
		if err := find(ctx, s, aPasskey, &row, "p.user_id = ? AND p.id = ?", user, id); err != nil {
			return err
		}
		w.drops = append(w.drops, &row)
		return nil
	})
}

// Requires implements policy.Factors.
func (s *Store) Requires(ctx context.Context, project string) (policy.Method, error) {
	row := requireRow{Project: project}
	err := find(ctx, s, "sign-in policy", &row, "q.project = ?", project)
	if fault.Is(err, fault.NotFound) {
		return "", nil
	}
	return policy.Method(row.Require), err
}

// Require implements policy.Factors.
func (s *Store) Require(ctx context.Context, by journal.Origin, project string, m policy.Method) error {
	if m != "" && m != policy.ByPassword && m != policy.ByPasskey && m != policy.BySSO {
		return fault.New(fault.InvalidRequest, "a project requires %s, %s, %s or nothing, not %q", policy.ByPassword, policy.ByPasskey, policy.BySSO, m).WithParam("require")
	}
	ev := &journal.Event{
		Project: project, Origin: by, Action: "sign_in_policy.set", Object: "project:" + project,
		Touches: []journal.Touch{{Kind: policy.TouchRequire, Key: project}},
	}
	return s.change(ctx, ev, func(ctx context.Context, w *writes) error {
		row := requireRow{Project: project}
		err := find(ctx, s, "sign-in policy", &row, "q.project = ?", project)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		is := row.Revision != 0
		if row.Require == string(m) {
			return errUnchanged
		}
		ev.Before, ev.After = row.Require, m
		row.Require = string(m)
		if is {
			w.sets = append(w.sets, &row)
		} else {
			w.adds = append(w.adds, &row)
		}
		return nil
	})
}
