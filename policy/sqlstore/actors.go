package sqlstore

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/policy"
)

// PrincipalIn implements policy.Actors. What decides about the actor is held as it is until tx ends.
func (s *Store) PrincipalIn(ctx context.Context, tx journal.Transaction, project string, actor journal.Actor) (*policy.Principal, error) {
	gone := fault.New(fault.PermissionDenied, "You may not change anything here any more: the key was revoked, the account deactivated, or either is of another project.")
	if !storable(project) || !storable(actor.ID) {
		return nil, gone
	}
	var p *policy.Principal
	var err error
	switch actor.Kind {
	case policy.KindKey:
		p, err = s.keyIn(ctx, tx, project, actor.ID)
	case policy.KindUser:
		p, err = s.memberIn(ctx, tx, project, actor.ID)
	default:
		return nil, gone
	}
	if fault.Is(err, fault.NotFound) {
		return nil, gone
	}
	return p, err
}

// keyIn is the principal of a key that is in force. The key's row is held until tx ends.
func (s *Store) keyIn(ctx context.Context, tx bun.Tx, project, id string) (*policy.Principal, error) {
	var row keyRow
	q := tx.NewSelect().Model(&row).Where("project = ? AND id = ?", project, id)
	if s.db.Dialect == sqldb.Postgres {
		q = q.For("SHARE") // SQLite's transaction has the whole file
	}
	if err := s.scan(ctx, &row, q); err != nil {
		return nil, notFound(err)
	}
	if row.RevokedAt != 0 {
		return nil, absent("API key")
	}
	rec, err := row.record()
	if err != nil {
		return nil, err
	}
	p, err := rec.Principal()
	if err != nil || rec.Owner == "" {
		return p, err
	}
	owner, err := s.memberIn(ctx, tx, project, rec.Owner)
	if err != nil {
		return nil, err
	}
	return p.OwnedBy(owner), nil
}

// memberIn is policy.Member under a lock that changes of what people may do wait for.
func (s *Store) memberIn(ctx context.Context, tx bun.Tx, project, id string) (*policy.Principal, error) {
	if s.db.Dialect == sqldb.Postgres {
		for _, of := range []string{"", project} {
			if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock_shared(hashtextextended(?, 0))", "promptgate people "+of); err != nil {
				return nil, sqldb.Classify(err)
			}
		}
	}
	return policy.Member(ctx, s, project, id)
}

// ownerIsThere refuses a key of somebody who is no member of the project, one that is made for a person by another, and one that inherits more than its
// maker holds.
func (s *Store) ownerIsThere(ctx context.Context, granter *policy.Principal, k policy.KeyRecord) error {
	if k.Owner == "" {
		return nil
	}
	owner, err := policy.Member(ctx, s, k.Project, k.Owner)
	switch {
	case fault.Is(err, fault.NotFound):
		return fault.New(fault.InvalidRequest, "there is no such owner in this project: name a member (usr_…) or a service account (svc_…)").WithParam("owner")
	case err != nil || granter != nil && granter.Kind == policy.KindSystem:
		return err
	case owner.Kind == policy.KindUser:
		switch {
		case granter != nil && granter.ID == k.Owner:
			return nil
		case granter == nil || granter.Owner == nil || granter.Owner.ID != k.Owner:
			return fault.New(fault.PermissionDenied, "a personal key is made by the person whose it is: make a service account's, or the project's own").WithParam("owner")
		case k.Inherits && !granter.Inherits:
			return fault.New(fault.PermissionDenied, "your key may do less than you may, so it cannot make one that inherits: sign in, or name what it may do").WithParam("inherits")
		}
		return nil
	case k.Inherits:
		return policy.DelegateBindings(granter, k.Project, owner.Bindings, s.clock())
	}
	return nil
}

// governOwned is policy.Govern for a key that may do what its owner may: whoever ends it must hold as much, or be the owner.
func (s *Store) governOwned(ctx context.Context, manager *policy.Principal, k policy.KeyRecord) error {
	if k.Owner == "" || manager != nil && (manager.Kind == policy.KindSystem || manager.ID == k.Owner || manager.ID == k.ID) {
		return nil
	}
	owner, err := policy.Member(ctx, s, k.Project, k.Owner)
	if fault.Is(err, fault.NotFound) { // it may do nothing
		return nil
	}
	if err != nil || !k.Inherits {
		return err
	}
	held := owner.Bindings
	for _, g := range owner.Groups {
		held = slices.Concat(held, g.Bindings)
	}
	return policy.GovernBindings(manager, k.Project, held, s.clock())
}
