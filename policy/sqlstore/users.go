package sqlstore

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/policy"
)

const aUser = "user"

// Account implements policy.People.
func (s *Store) Account(ctx context.Context, id string) (*policy.Account, error) {
	row := userRow{ID: id}
	if err := find(ctx, s, aUser, &row, "id = ?", id); err != nil {
		return nil, err
	}
	members, err := findAll[memberRow](ctx, s, "groups of a user", &memberRow{UserID: id}, func(q *bun.SelectQuery) {
		q.Where("user_id = ?", id).Order("group_id")
	})
	if err != nil {
		return nil, err
	}
	a := &policy.Account{User: row.user()}
	for i := range members {
		a.Groups = append(a.Groups, members[i].member())
	}
	return a, nil
}

// UserByEmail implements policy.Users.
func (s *Store) UserByEmail(ctx context.Context, email string) (policy.User, error) {
	email, err := policy.NormalEmail(email)
	if err != nil {
		return policy.User{}, absent(aUser)
	}
	var row userRow
	err = find(ctx, s, aUser, &row, "email = ?", email)
	return row.user(), err
}

// CreateUser implements policy.Users.
func (s *Store) CreateUser(ctx context.Context, by journal.Origin, u policy.User) (policy.User, error) {
	if err := u.Validate(); err != nil {
		return policy.User{}, err
	}
	if u.State == "" {
		u.State = policy.UserInvited
	}
	u.ID, u.CreatedBy, u.CreatedAt, u.EndedAt = newID(policy.UserPrefix), by.Actor.ID, s.clock(), time.Time{}
	row := rowOfUser(u)
	ev := &journal.Event{Origin: by, Action: "user.create", Object: "user:" + u.ID, After: u.Public(), Touches: []journal.Touch{{Kind: policy.TouchUser, Key: u.ID}}}
	err := put(ctx, s, ev, &row, func(ctx context.Context) error {
		err := find(ctx, s, aUser, &userRow{}, "email = ?", u.Email)
		if err == nil {
			return fault.New(fault.Conflict, "There is an account with this e-mail address.").WithParam("email")
		}
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		return err
	})
	return row.user(), taken(err, "email", "There is an account with this e-mail address.")
}

// taken turns a broken unique key into a Conflict that says what to do.
func taken(err error, param, message string) error {
	if err == nil || !fault.Is(sqldb.Classify(err), fault.Conflict) {
		return err
	}
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Param != "" {
		return err
	}
	return fault.Wrap(err, fault.Conflict, "%s", message).WithParam(param)
}

// ListUsers implements policy.Users.
func (s *Store) ListUsers(ctx context.Context, f policy.UserFilter, page policy.Page) ([]policy.User, string, error) {
	rows, next, err := list(ctx, s, "users", page, order[userRow]{"created_at", "id", func(r *userRow) (int64, string) { return r.CreatedAt, r.ID }}, func(q *bun.SelectQuery) {
		if f.State != "" {
			q.Where("u.state = ?", string(f.State))
		}
		if f.External != "" {
			q.Where("u.external = ?", f.External)
		}
		if f.Group != "" {
			q.Where("u.id IN (SELECT user_id FROM policy_group_members WHERE group_id = ?)", f.Group)
		}
		if f.Project != "" {
			q.Where("(u.id IN (SELECT subject FROM policy_bindings WHERE project = ?) OR u.id IN (SELECT m.user_id FROM policy_group_members AS m "+
				"JOIN policy_bindings AS b ON b.subject = m.group_id WHERE b.project = ?))", f.Project, f.Project)
		}
		if f.Contains != "" {
			like := "%" + strings.NewReplacer(`\`, `\\`, "%", `\%`, "_", `\_`).Replace(strings.ToLower(f.Contains)) + "%"
			q.Where(`(LOWER(u.email) LIKE ? ESCAPE '\' OR LOWER(u.name) LIKE ? ESCAPE '\')`, like, like)
		}
	})
	out := make([]policy.User, len(rows))
	for i := range rows {
		out[i] = rows[i].user()
	}
	return out, next, err
}

// UpdateUser implements policy.Users.
func (s *Store) UpdateUser(ctx context.Context, by journal.Origin, u policy.User) (policy.User, error) {
	if err := u.Validate(); err != nil {
		return policy.User{}, err
	}
	var row userRow
	ev := &journal.Event{Origin: by, Action: "user.update", Object: "user:" + u.ID, Touches: []journal.Touch{{Kind: policy.TouchUser, Key: u.ID}}}
	err := amend(ctx, s, ev, &row, s.readUser(u.ID), func(ctx context.Context) (bool, error) {
		before := row.user()
		if err := sameRevision(row.Revision, u.Revision, aUser); err != nil {
			return false, err
		}
		if err := s.judgeUser(ctx, before, u); err != nil {
			return false, err
		}
		after := before
		after.Email, after.Name, after.State, after.Operator, after.BreakGlass, after.External = u.Email, u.Name, u.State, u.Operator, u.BreakGlass, u.External
		switch {
		case after == before:
			return false, nil
		case after.State == policy.UserDeactivated && before.State != policy.UserDeactivated:
			after.EndedAt, ev.Action = s.clock(), "user.deactivate"
		case after.State != policy.UserDeactivated:
			after.EndedAt = time.Time{}
		}
		if after.State == policy.UserDeactivated || after.Operator != before.Operator || after.BreakGlass != before.BreakGlass || after.Email != before.Email {
			after.Epoch++
		}
		ev.Before, ev.After = before.Public(), after.Public()
		row = rowOfUser(after)
		return true, nil
	})
	return row.user(), taken(err, "email", "There is an account with this e-mail address.")
}

func (s *Store) readUser(id string) func(ctx context.Context, row *userRow) error {
	return func(ctx context.Context, row *userRow) error {
		if err := s.lockPeople(ctx, ""); err != nil {
			return err
		}
		return find(ctx, s, aUser, row, "id = ?", id)
	}
}

// judgeUser refuses what would leave the installation without an operator, or a project without an admin.
func (s *Store) judgeUser(ctx context.Context, before, after policy.User) error {
	switch after.State {
	case policy.UserInvited, policy.UserActive, policy.UserDeactivated:
	default:
		return fault.New(fault.InvalidRequest, "an account is %s, %s or %s, not %q", policy.UserInvited, policy.UserActive, policy.UserDeactivated, after.State).WithParam("state")
	}
	if after.State == policy.UserInvited && before.State != policy.UserInvited {
		return fault.New(fault.Conflict, "The account was used already: it cannot be an invited one again. Reset it, or deactivate it.").WithParam("state")
	}
	if before.Active() && before.Operator && (!after.Active() || !after.Operator) {
		others, err := findAll[userRow](ctx, s, "operators", nil, func(q *bun.SelectQuery) {
			q.Where("u.operator AND u.state = ? AND u.id <> ?", string(policy.UserActive), before.ID).Limit(1)
		})
		if err != nil {
			return err
		}
		if len(others) == 0 {
			return fault.New(fault.Conflict, "This is the installation's last operator: make another one first.").WithParam("state")
		}
	}
	if !before.Active() || after.Active() {
		return nil
	}
	projects, err := s.ProjectsOf(ctx, before.ID)
	if err != nil {
		return err
	}
	for _, project := range projects {
		if err := s.lockPeople(ctx, project); err != nil {
			return err
		}
		if err := s.keepsAnAdmin(ctx, project, func(_ policy.Binding, user string) bool { return user == before.ID }); err != nil {
			return err
		}
	}
	return nil
}

// EndSessions implements policy.Users.
func (s *Store) EndSessions(ctx context.Context, by journal.Origin, id string) (policy.User, error) {
	var row userRow
	ev := &journal.Event{Origin: by, Action: "user.end_sessions", Object: "user:" + id, Touches: []journal.Touch{{Kind: policy.TouchUser, Key: id}}}
	err := amend(ctx, s, ev, &row, s.readUser(id), func(context.Context) (bool, error) {
		row.Epoch++
		return true, nil
	})
	return row.user(), err
}
