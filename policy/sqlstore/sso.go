package sqlstore

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

var _ policy.SSO = (*Store)(nil)

const (
	anIssuer = "identity provider"
	aDomain  = "claimed domain"
)

// CreateIssuer implements policy.SSO.
func (s *Store) CreateIssuer(ctx context.Context, by journal.Origin, i policy.Issuer) (policy.Issuer, error) {
	if err := i.Validate(); err != nil {
		return i, err
	}
	i.CreatedBy, i.CreatedAt = by.Actor.ID, s.clock()
	if i.ID == "" {
		i.ID = policy.NewIssuerID()
	}
	row, err := rowOfIssuer(i)
	if err != nil {
		return i, err
	}
	ev := &journal.Event{Origin: by, Action: "issuer.create", Object: "issuer:" + i.ID, After: i.Public()}
	err = s.change(ctx, ev, func(ctx context.Context, w *writes) error {
		if err := s.lockPeople(ctx, ""); err != nil {
			return err
		}
		all, err := findAll[issuerRow](ctx, s, "identity providers", nil, func(*bun.SelectQuery) {})
		if err != nil {
			return err
		}
		if len(all) >= policy.MaxIssuers {
			return fault.New(fault.Conflict, "There are %d identity providers already: remove one first.", len(all))
		}
		if slices.ContainsFunc(all, func(r issuerRow) bool { return r.Name == i.Name }) {
			return nameTaken()
		}
		if err := s.groupsAreThere(ctx, i); err != nil {
			return err
		}
		w.adds = append(w.adds, &row)
		return s.claim(ctx, ev, w, i)
	})
	if err != nil {
		return i, taken(err, "name", "There is an identity provider of this name.")
	}
	return row.issuer()
}

func nameTaken() error {
	return fault.New(fault.Conflict, "There is an identity provider of this name.").WithParam("name")
}

// groupsAreThere refuses a mapping to a group that is not.
func (s *Store) groupsAreThere(ctx context.Context, i policy.Issuer) error {
	for _, id := range i.Mapped() {
		row := groupRow{ID: id}
		err := find(ctx, s, aGroup, &row, "id = ?", id)
		if fault.Is(err, fault.NotFound) {
			return fault.New(fault.InvalidRequest, "groups names %s, and there is no such group", id).WithParam("groups")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// claim makes the domains of an issuer those that it names.
func (s *Store) claim(ctx context.Context, ev *journal.Event, w *writes, i policy.Issuer) error {
	held, err := s.domainsOf(ctx, i.ID)
	if err != nil {
		return err
	}
	for n := range held {
		if !slices.ContainsFunc(i.Domains, func(d policy.Domain) bool { return d.Domain == held[n].Domain }) {
			w.drops = append(w.drops, &held[n])
			ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchDomain, Key: held[n].Domain})
		}
	}
	for _, d := range i.Domains {
		at := slices.IndexFunc(held, func(r domainRow) bool { return r.Domain == d.Domain })
		if at >= 0 && held[at].Enforced == d.Enforced {
			continue
		}
		row := &domainRow{Domain: d.Domain, Issuer: i.ID, Enforced: d.Enforced}
		ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchDomain, Key: d.Domain})
		if at >= 0 {
			w.sets = append(w.sets, row)
		} else {
			other := domainRow{Domain: d.Domain}
			err := find(ctx, s, aDomain, &other, "domain = ?", d.Domain)
			if err == nil {
				return fault.New(fault.Conflict, "Another identity provider claims %s already.", d.Domain).WithParam("domains")
			}
			if !fault.Is(err, fault.NotFound) {
				return err
			}
			w.adds = append(w.adds, row)
		}
	}
	ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchIssuer, Key: i.ID})
	return nil
}

func (s *Store) domainsOf(ctx context.Context, issuer string) ([]domainRow, error) {
	return findAll[domainRow](ctx, s, "domains", nil, func(q *bun.SelectQuery) { q.Where("d.issuer = ?", issuer).Order("domain") })
}

// IssuerByID implements policy.SSO.
func (s *Store) IssuerByID(ctx context.Context, id string) (policy.Issuer, error) {
	row := issuerRow{ID: id}
	if err := find(ctx, s, anIssuer, &row, "id = ?", id); err != nil {
		return policy.Issuer{}, err
	}
	return row.issuer()
}

// ListIssuers implements policy.SSO.
func (s *Store) ListIssuers(ctx context.Context) ([]policy.Issuer, error) {
	rows, err := findAll[issuerRow](ctx, s, "identity providers", nil, func(q *bun.SelectQuery) { q.Order("created_at", "id") })
	if err != nil {
		return nil, err
	}
	out := make([]policy.Issuer, len(rows))
	for n := range rows {
		if out[n], err = rows[n].issuer(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// UpdateIssuer implements policy.SSO.
func (s *Store) UpdateIssuer(ctx context.Context, by journal.Origin, i policy.Issuer) (policy.Issuer, error) {
	if err := i.Validate(); err != nil {
		return i, err
	}
	row := issuerRow{ID: i.ID}
	ev := &journal.Event{Origin: by, Action: "issuer.update", Object: "issuer:" + i.ID}
	err := s.change(ctx, ev, func(ctx context.Context, w *writes) error {
		if err := s.lockPeople(ctx, ""); err != nil {
			return err
		}
		if err := find(ctx, s, anIssuer, &row, "id = ?", i.ID); err != nil {
			return err
		}
		if err := sameRevision(row.Revision, i.Revision, anIssuer); err != nil {
			return err
		}
		if i.URL != row.URL || i.ClientID != row.ClientID {
			return fault.New(fault.Conflict, "An identity provider's address and client id are for good, since people are linked to it: add another one.").WithParam("url")
		}
		before, err := row.issuer()
		if err != nil {
			return err
		}
		if err := s.groupsAreThere(ctx, i); err != nil {
			return err
		}
		i.CreatedBy, i.CreatedAt = before.CreatedBy, before.CreatedAt
		if row, err = rowOfIssuer(i); err != nil {
			return err
		}
		ev.Before, ev.After = before.Public(), i.Public()
		w.sets = append(w.sets, &row)
		if err := s.unclaim(ctx, ev, w, i.ID, i.Mapped()); err != nil {
			return err
		}
		return s.claim(ctx, ev, w, i)
	})
	if err != nil {
		return i, taken(err, "name", "There is an identity provider of this name.")
	}
	return row.issuer()
}

// DeleteIssuer implements policy.SSO.
func (s *Store) DeleteIssuer(ctx context.Context, by journal.Origin, id string, revision int64) error {
	ev := &journal.Event{Origin: by, Action: "issuer.delete", Object: "issuer:" + id}
	return s.change(ctx, ev, func(ctx context.Context, w *writes) error {
		if err := s.lockPeople(ctx, ""); err != nil {
			return err
		}
		row := issuerRow{ID: id}
		if err := find(ctx, s, anIssuer, &row, "id = ?", id); err != nil {
			return err
		}
		if revision > 0 {
			if err := sameRevision(row.Revision, revision, anIssuer); err != nil {
				return err
			}
		}
		domains, err := s.domainsOf(ctx, id)
		if err != nil {
			return err
		}
		before, err := row.issuer()
		if err != nil {
			return err
		}
		ev.Before = before.Public()
		identities, err := findAll[identityRow](ctx, s, "identities", nil, func(q *bun.SelectQuery) { q.Where("n.issuer = ?", id) })
		if err != nil {
			return err
		}
		ended := map[string]bool{}
		for n := range identities {
			w.drops = append(w.drops, &identities[n])
			if user := identities[n].UserID; !ended[user] { // whoever signed in by it signs in again, in another way
				ended[user] = true
				u := userRow{ID: user}
				if err := find(ctx, s, aUser, &u, "id = ?", user); err != nil {
					return err
				}
				u.Epoch++
				w.sets = append(w.sets, &u)
				ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchUser, Key: user})
			}
		}
		if err := s.unclaim(ctx, ev, w, id, nil); err != nil {
			return err
		}
		for n := range domains {
			w.drops = append(w.drops, &domains[n])
			ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchDomain, Key: domains[n].Domain})
		}
		w.drops = append(w.drops, &row) // last: others refer to it
		ev.Touches = append(ev.Touches, journal.Touch{Kind: policy.TouchIssuer, Key: id})
		return nil
	})
}

// DomainOf implements policy.SSO.
func (s *Store) DomainOf(ctx context.Context, domain string) (policy.Domain, error) {
	row := domainRow{Domain: domain}
	err := find(ctx, s, aDomain, &row, "domain = ?", domain)
	return row.domain(), err
}
