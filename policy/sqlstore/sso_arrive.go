package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/policy"
)

const anIdentity = "identity"

// IdentityOf implements policy.SSO.
func (s *Store) IdentityOf(ctx context.Context, issuer, subject string) (policy.Identity, error) {
	row := identityRow{Issuer: issuer, Subject: subject}
	err := find(ctx, s, anIdentity, &row, "issuer = ? AND subject = ?", issuer, subject)
	return row.identity(), err
}

// Arrive implements policy.SSO.
func (s *Store) Arrive(ctx context.Context, by journal.Origin, a policy.Assertion) (policy.User, error) {
	var u userRow
	ev := &journal.Event{Origin: by, Action: "identity.arrive", Object: "issuer:" + a.Issuer}
	err := s.change(ctx, ev, func(ctx context.Context, w *writes) error {
		if err := s.lockPeople(ctx, ""); err != nil {
			return err
		}
		issuer, err := s.IssuerByID(ctx, a.Issuer)
		if err != nil {
			return err
		}
		var known bool
		if u, known, err = s.whoArrives(ctx, w, issuer, a); err != nil {
			return err
		}
		switch {
		case u.BreakGlass:
			return fault.New(fault.PermissionDenied, "This is a break-glass account: it does not sign in through an identity provider, so that it can when that is down.")
		case policy.UserState(u.State) == policy.UserDeactivated:
			return fault.New(fault.PermissionDenied, "Your account here is deactivated: ask whoever looks after promptgate.")
		}
		before := u
		if policy.UserState(u.State) == policy.UserInvited {
			u.State = string(policy.UserActive) // it has signed in
		}
		switch {
		case !known:
			w.adds = append([]any{&u}, w.adds...) // first: its identity refers to it
		case u != before:
			w.sets = append(w.sets, &u)
		}
		moved, err := s.moveByClaim(ctx, w, issuer, u.ID, a.Groups)
		if err != nil {
			return err
		}
		if len(w.adds)+len(w.sets)+len(w.drops) == 0 {
			return errUnchanged
		}
		ev.Object = "user:" + u.ID
		ev.After = map[string]any{"issuer": issuer.ID, "subject": a.Subject, "account": u.user().Public(), "groups": moved}
		ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchUser, Key: u.ID})
		return nil
	})
	return u.user(), err
}

// whoArrives finds the account of somebody by identity, else links one by address, else makes one; known says that it was there.
func (s *Store) whoArrives(ctx context.Context, w *writes, issuer policy.Issuer, a policy.Assertion) (u userRow, known bool, err error) {
	identity := identityRow{Issuer: a.Issuer, Subject: a.Subject}
	err = find(ctx, s, anIdentity, &identity, "issuer = ? AND subject = ?", a.Issuer, a.Subject)
	if err == nil {
		u.ID = identity.UserID
		return u, true, find(ctx, s, aUser, &u, "id = ?", identity.UserID)
	}
	if !fault.Is(err, fault.NotFound) {
		return u, false, err
	}
	email, bad := policy.NormalEmail(a.Email)
	switch {
	case bad != nil || !a.Verified:
		return u, false, fault.New(fault.PermissionDenied,
			"%s does not vouch for your e-mail address, so it cannot be told which account is yours. Have it verified there.", issuer.Name)
	case !issuer.Claims(email):
		return u, false, fault.New(fault.PermissionDenied,
			"%s may not speak for e-mail addresses of %s here: an operator has to claim the domain for it.", issuer.Name, policy.DomainOf(email))
	}
	err = find(ctx, s, aUser, &u, "email = ?", email)
	if known = err == nil; known && !u.BreakGlass {
		w.adds = append(w.adds, &identityRow{Issuer: a.Issuer, Subject: a.Subject, UserID: u.ID, Email: email, CreatedAt: micros(s.clock())})
	}
	if known || !fault.Is(err, fault.NotFound) {
		return u, known, err
	}
	if !issuer.Creates {
		return u, false, fault.New(fault.PermissionDenied, "There is no account for %s here: ask for an invitation.", email)
	}
	fresh := policy.User{ID: newID(policy.UserPrefix), Email: email, Name: a.Name, State: policy.UserActive, CreatedBy: issuer.ID, CreatedAt: s.clock()}
	if fresh.Validate() != nil { // a name that we would not take from anybody
		fresh.Name = ""
	}
	u = rowOfUser(fresh)
	w.adds = append(w.adds, &identityRow{Issuer: a.Issuer, Subject: a.Subject, UserID: u.ID, Email: email, CreatedAt: micros(s.clock())})
	return u, false, nil
}

// moved says which groups a sign-in changed.
type moved struct {
	Joined []string `json:"joined,omitempty"`
	Left   []string `json:"left,omitempty"`
}

// moveByClaim puts a user into the groups that the claim says, and takes it out of those that this provider once put it into and does not any more. Who is
// in one for another reason stays.
func (s *Store) moveByClaim(ctx context.Context, w *writes, issuer policy.Issuer, user string, values []string) (moved, error) {
	var m moved
	held, err := findAll[memberRow](ctx, s, "groups of a user", &memberRow{UserID: user}, func(q *bun.SelectQuery) { q.Where("user_id = ?", user).Order("group_id") })
	if err != nil {
		return m, err
	}
	in := issuer.GroupsFor(values)
	for n := range held {
		if held[n].claimedBy(issuer.ID) && !slices.Contains(in, held[n].GroupID) {
			w.drops = append(w.drops, &held[n])
			m.Left = append(m.Left, held[n].GroupID)
		}
	}
	for _, group := range in {
		if slices.ContainsFunc(held, func(r memberRow) bool { return r.GroupID == group }) {
			continue
		}
		g := groupRow{ID: group}
		err := find(ctx, s, aGroup, &g, "id = ?", group)
		if fault.Is(err, fault.NotFound) { // deleted since it was mapped
			continue
		}
		if err != nil {
			return m, err
		}
		w.adds = append(w.adds, &memberRow{UserID: user, GroupID: group, Source: string(policy.ByClaim), AddedBy: issuer.ID, AddedAt: micros(s.clock())})
		m.Joined = append(m.Joined, group)
	}
	return m, s.leavable(ctx, m.Left, func(u string) bool { return u == user })
}

func (r *memberRow) claimedBy(issuer string) bool {
	return policy.MemberSource(r.Source) == policy.ByClaim && r.AddedBy == issuer
}

// unclaim takes everybody out of the groups that an identity provider put them into, but for those that it still does.
func (s *Store) unclaim(ctx context.Context, ev *journal.Event, w *writes, issuer string, still []string) error {
	held, err := findAll[memberRow](ctx, s, "members by a claim", nil, func(q *bun.SelectQuery) {
		q.Where("added_by = ? AND source = ?", issuer, string(policy.ByClaim)).Order("user_id", "group_id")
	})
	if err != nil {
		return err
	}
	var groups []string
	leaves := map[string]bool{}
	for n := range held {
		r := &held[n]
		if slices.Contains(still, r.GroupID) {
			continue
		}
		w.drops = append(w.drops, r)
		ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchUser, Key: r.UserID})
		groups, leaves[r.GroupID+" "+r.UserID] = append(groups, r.GroupID), true
	}
	slices.Sort(groups)
	return s.leavableBy(ctx, slices.Compact(groups), func(group, user string) bool { return leaves[group+" "+user] })
}

// leavable refuses (Conflict) that users leave groups when a project would be without an admin.
func (s *Store) leavable(ctx context.Context, groups []string, leaves func(user string) bool) error {
	return s.leavableBy(ctx, groups, func(_, user string) bool { return leaves(user) })
}

func (s *Store) leavableBy(ctx context.Context, groups []string, leaves func(group, user string) bool) error {
	if len(groups) == 0 {
		return nil
	}
	bindings, err := findAll[bindingRow](ctx, s, "bindings", nil, func(q *bun.SelectQuery) { q.Where("subject IN ?", bun.Tuple(groups)) })
	if err != nil {
		return err
	}
	for _, project := range projectsIn(bindings) {
		if err := s.lockPeople(ctx, project); err != nil {
			return err
		}
		gone := func(b policy.Binding, user string) bool {
			return slices.Contains(groups, b.Subject) && user != "" && leaves(b.Subject, user)
		}
		if err := s.keepsAnAdmin(ctx, project, gone); err != nil {
			return err
		}
	}
	return nil
}

// maxForgotten bounds what one note takes away of what has ended.
const maxForgotten = 100

// Once implements policy.SSO.
func (s *Store) Once(ctx context.Context, kind, id, value string, until time.Time) (bool, error) {
	return s.note(ctx, noteRow{Kind: kind, ID: id, Value: value, EndsAt: micros(until)}, func(q *bun.InsertQuery) { q.On("CONFLICT (kind, id) DO NOTHING") })
}

// Note implements policy.SSO.
func (s *Store) Note(ctx context.Context, kind, id, value string, until time.Time) error {
	_, err := s.note(ctx, noteRow{Kind: kind, ID: id, Value: value, EndsAt: micros(until)}, func(q *bun.InsertQuery) {
		q.On("CONFLICT (kind, id) DO UPDATE").Set("value = EXCLUDED.value").Set("ends_at = EXCLUDED.ends_at")
	})
	return err
}

func (s *Store) note(ctx context.Context, row noteRow, conflict func(q *bun.InsertQuery)) (wrote bool, err error) {
	if !storable(row.ID) || !storable(row.Value) {
		return false, nil
	}
	unlock, err := s.db.LockWriter(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	now := micros(s.clock())
	old := s.db.NewSelect().Model((*noteRow)(nil)).Column("id").Where("kind = ? AND ends_at < ?", row.Kind, now).Limit(maxForgotten)
	if _, err := s.db.NewDelete().Model((*noteRow)(nil)).Where("kind = ? AND ends_at < ? AND id IN (?)", row.Kind, now, old).Exec(ctx); err != nil {
		return false, sqldb.Classify(err)
	}
	q := s.db.NewInsert().Model(&row)
	conflict(q)
	res, err := q.Exec(ctx)
	if err != nil {
		return false, sqldb.Classify(err)
	}
	n, err := res.RowsAffected()
	return n == 1, err
}

// Noted implements policy.SSO.
func (s *Store) Noted(ctx context.Context, kind, id string) (string, error) {
	var row noteRow
	if !storable(id) {
		return "", absent("note")
	}
	err := s.db.NewSelect().Model(&row).Where("kind = ? AND id = ? AND ends_at > ?", kind, id, micros(s.clock())).Scan(ctx)
	if err != nil {
		return "", noted(err)
	}
	return row.Value, nil
}

func noted(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return absent("note")
	}
	return sqldb.Classify(err)
}
