package sqlstore

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

// provisionOf is what a directory provisions under an id; there is none when its Revision is 0. The absence is believed only when the journal says so.
func (s *Store) provisionOf(ctx context.Context, id string) (provisionRow, error) {
	row := provisionRow{ID: id}
	err := find(ctx, s, "provisioned resource", &row, "id = ?", id)
	if fault.Is(err, fault.NotFound) {
		return provisionRow{ID: id}, nil
	}
	return row, err
}

// mine reports whether a directory may know of an account, and so write it: its own, or one of its domains that nobody provisions. Break-glass accounts
// are nobody's.
func mine(d policy.Directory, u *userRow, p *provisionRow) bool {
	switch {
	case u.BreakGlass:
		return false
	case p.Revision == 0:
		return d.Claims(u.Email)
	}
	return p.Directory == d.Name && !p.Deleted
}

func joined(u *userRow, p *provisionRow) (policy.ProvisionedUser, error) {
	kept, err := policy.Provision{UserName: u.Email}, error(nil)
	if p.Revision > 0 {
		kept, err = p.provision()
	}
	kept.Active = policy.UserState(u.State) != policy.UserDeactivated
	return policy.ProvisionedUser{User: u.user(), Provision: kept}, err
}

// ProvisionUser implements policy.ProvisioningStore.
func (s *Store) ProvisionUser(ctx context.Context, by journal.Origin, d policy.Directory, in policy.ProvisionedUser) (policy.ProvisionedUser, error) {
	if err := in.Validate(); err != nil {
		return in, err
	}
	if !d.Claims(in.Email) {
		return in, notItsDomain(d, in.Email)
	}
	var u userRow
	var p provisionRow
	ev := &journal.Event{Origin: by, Action: "user.provision"}
	err := s.change(ctx, ev, func(ctx context.Context, w *writes) error {
		if err := s.lockPeople(ctx, ""); err != nil {
			return err
		}
		u = userRow{}
		err := find(ctx, s, aUser, &u, "email = ?", in.Email)
		switch {
		case fault.Is(err, fault.NotFound):
			fresh := policy.User{
				ID: newID(policy.UserPrefix), Email: in.Email, Name: in.Name, State: policy.UserInvited, External: in.Provision.External, CreatedBy: by.Actor.ID, CreatedAt: s.clock(),
			}
			if !in.Provision.Active {
				fresh.State, fresh.EndedAt = policy.UserDeactivated, s.clock()
			}
			u, p = rowOfUser(fresh), provisionRow{ID: fresh.ID, CreatedAt: micros(s.clock()), EndedAt: micros(fresh.EndedAt)}
			w.adds = append(w.adds, &u)
		case err != nil:
			return err
		default:
			if p, err = s.takeOver(ctx, d, &u); err != nil {
				return err
			}
			ev.Before = u.user().Public()
			if err := s.provisioned(ctx, ev, &u, &p, in); err != nil {
				return err
			}
			w.sets = append(w.sets, &u)
		}
		if err := s.nameIsFree(ctx, d, in.Provision.UserName, u.ID); err != nil {
			return err
		}
		fresh := p.Revision == 0
		p.Directory, p.Deleted = d.Name, false
		if err := p.take(in.Provision); err != nil {
			return err
		}
		if fresh {
			w.adds = append(w.adds, &p)
		} else {
			w.sets = append(w.sets, &p)
		}
		ev.Object, ev.After = "user:"+u.ID, u.user().Public()
		ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchUser, Key: u.ID})
		return nil
	})
	if err != nil {
		return in, taken(err, "userName", "There is an account with this e-mail address.")
	}
	return joined(&u, &p)
}

func notItsDomain(d policy.Directory, email string) error {
	return fault.New(fault.PermissionDenied, "The token of %s is not for e-mail addresses of %s: an operator makes one that names the domain.", d.Name, policy.DomainOf(email)).WithParam("emails")
}

// takeOver is the provision of an account that is there already, when the directory may have it.
func (s *Store) takeOver(ctx context.Context, d policy.Directory, u *userRow) (provisionRow, error) {
	p, err := s.provisionOf(ctx, u.ID)
	if err != nil {
		return p, err
	}
	gone := p.Deleted && p.Directory == d.Name
	switch {
	case u.BreakGlass || !gone && p.Revision > 0 || p.Revision == 0 && !d.Claims(u.Email):
		return p, fault.New(fault.Conflict, "There is an account with this e-mail address.").WithParam("userName")
	case p.Revision == 0:
		p.CreatedAt = micros(s.clock())
	}
	return p, nil
}

// nameIsFree refuses a user name that another account of the directory has.
func (s *Store) nameIsFree(ctx context.Context, d policy.Directory, name, but string) error {
	rows, err := findAll[provisionRow](ctx, s, "provisioned accounts", nil, func(q *bun.SelectQuery) {
		q.Where("directory = ? AND user_name = ? AND NOT deleted AND id <> ? AND id LIKE ?", d.Name, policy.FoldedUserName(name), but, policy.UserPrefix+"%")
	})
	if err == nil && len(rows) > 0 {
		return fault.New(fault.Conflict, "Another account of this directory has this userName.").WithParam("userName")
	}
	return err
}

// provisioned writes what a directory says into the account's row, and into p whether it was the directory that deactivated it.
func (s *Store) provisioned(ctx context.Context, ev *journal.Event, u *userRow, p *provisionRow, in policy.ProvisionedUser) error {
	before := u.user()
	after := before
	after.Name, after.External = in.Name, in.Provision.External
	if in.Email != before.Email {
		if before.Operator {
			return fault.New(fault.PermissionDenied, "An operator's e-mail address is changed by an operator, not by a directory.").WithParam("emails")
		}
		other := userRow{}
		err := find(ctx, s, aUser, &other, "email = ?", in.Email)
		if err == nil {
			return fault.New(fault.Conflict, "There is an account with this e-mail address.").WithParam("emails")
		}
		if !fault.Is(err, fault.NotFound) {
			return err
		}
		after.Email = in.Email
		after.Epoch++
	}
	switch {
	case !in.Provision.Active && before.State != policy.UserDeactivated:
		after.State, after.EndedAt = policy.UserDeactivated, s.clock()
		after.Epoch++
		ev.Action, p.EndedAt = "user.deactivate", micros(after.EndedAt)
	case in.Provision.Active && before.State == policy.UserDeactivated && p.EndedAt == micros(before.EndedAt): // nobody but the directory did
		after.State, after.EndedAt = policy.UserActive, time.Time{}
		ev.Action, p.EndedAt = "user.reactivate", 0
	}
	if err := s.judgeUser(ctx, before, after); err != nil {
		return err
	}
	*u = rowOfUser(after)
	return nil
}

// ProvisionedUser implements policy.ProvisioningStore.
func (s *Store) ProvisionedUser(ctx context.Context, d policy.Directory, id string) (policy.ProvisionedUser, error) {
	u, p, err := s.accountOf(ctx, d, id)
	if err != nil {
		return policy.ProvisionedUser{}, err
	}
	return joined(&u, &p)
}

// accountOf reads an account that a directory may know of.
func (s *Store) accountOf(ctx context.Context, d policy.Directory, id string) (userRow, provisionRow, error) {
	u := userRow{ID: id}
	if err := find(ctx, s, aUser, &u, "id = ?", id); err != nil {
		return u, provisionRow{}, err
	}
	p, err := s.provisionOf(ctx, id)
	if err == nil && !mine(d, &u, &p) {
		err = absent(aUser)
	}
	return u, p, err
}

// Reprovision implements policy.ProvisioningStore.
func (s *Store) Reprovision(ctx context.Context, by journal.Origin, d policy.Directory, in policy.ProvisionedUser, version int64) (policy.ProvisionedUser, error) {
	if err := in.Validate(); err != nil {
		return in, err
	}
	var u userRow
	var p provisionRow
	ev := &journal.Event{Origin: by, Action: "user.provision", Object: "user:" + in.ID}
	err := s.change(ctx, ev, func(ctx context.Context, w *writes) (err error) {
		if err := s.lockPeople(ctx, ""); err != nil {
			return err
		}
		if u, p, err = s.accountOf(ctx, d, in.ID); err != nil {
			return err
		}
		if err := sameRevision(max(u.Revision, p.Revision), version, aUser); err != nil {
			return err
		}
		if in.Email != u.Email && !d.Claims(in.Email) {
			return notItsDomain(d, in.Email)
		}
		if err := s.nameIsFree(ctx, d, in.Provision.UserName, in.ID); err != nil {
			return err
		}
		beforeUser, beforeP := u, p
		if p.Revision == 0 {
			p.Directory, p.CreatedAt = d.Name, micros(s.clock())
		}
		if err := s.provisioned(ctx, ev, &u, &p, in); err != nil {
			return err
		}
		if err := p.take(in.Provision); err != nil {
			return err
		}
		if p.Revision == 0 {
			w.adds = append(w.adds, &p)
		} else if p != beforeP {
			w.sets = append(w.sets, &p)
		}
		if u != beforeUser {
			w.sets = append(w.sets, &u)
			ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchUser, Key: u.ID})
		}
		if len(w.adds)+len(w.sets) == 0 {
			return errUnchanged
		}
		ev.Before, ev.After = beforeUser.user().Public(), u.user().Public()
		return nil
	})
	if err != nil {
		return in, taken(err, "emails", "There is an account with this e-mail address.")
	}
	return joined(&u, &p)
}

// EndProvision implements policy.ProvisioningStore.
func (s *Store) EndProvision(ctx context.Context, by journal.Origin, d policy.Directory, id string, version int64) error {
	ev := &journal.Event{Origin: by, Action: "user.deactivate", Object: "user:" + id, Touches: []journal.Touch{{Kind: policy.TouchUser, Key: id}}}
	return s.change(ctx, ev, func(ctx context.Context, w *writes) error {
		if err := s.lockPeople(ctx, ""); err != nil {
			return err
		}
		u, p, err := s.accountOf(ctx, d, id)
		if err != nil {
			return err
		}
		if version > 0 {
			if err := sameRevision(max(u.Revision, p.Revision), version, aUser); err != nil {
				return err
			}
		}
		before := u
		in := policy.ProvisionedUser{User: u.user(), Provision: policy.Provision{External: u.External, Active: false}}
		if err := s.provisioned(ctx, ev, &u, &p, in); err != nil {
			return err
		}
		if u != before {
			w.sets = append(w.sets, &u)
		}
		held, err := findAll[memberRow](ctx, s, "groups of a user", &memberRow{UserID: id}, func(q *bun.SelectQuery) { q.Where("user_id = ?", id) })
		if err != nil {
			return err
		}
		for n := range held {
			if policy.MemberSource(held[n].Source) == policy.BySCIM {
				w.drops = append(w.drops, &held[n])
			}
		}
		fresh := p.Revision == 0
		p.Directory, p.Deleted = d.Name, true
		if fresh {
			p.CreatedAt, p.Profile = micros(s.clock()), "{}"
			p.UserName = policy.FoldedUserName(u.Email)
			w.adds = append(w.adds, &p)
		} else {
			w.sets = append(w.sets, &p)
		}
		ev.Before, ev.After = before.user().Public(), u.user().Public()
		return nil
	})
}
