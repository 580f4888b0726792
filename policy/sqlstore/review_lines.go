package sqlstore

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/policy"
)

// DecideLine implements policy.ReviewStore. The decision, and what it does to the binding or key, are one change.
func (s *Store) DecideLine(ctx context.Context, by journal.Origin, reviewer *policy.Principal, d policy.LineDecision) (policy.ReviewLine, error) {
	var err error
	if d.Comment, err = policy.ValidComment(d.Comment); err != nil {
		return policy.ReviewLine{}, err
	}
	if (d.Decision == policy.DecideChange) != (d.Change != nil) {
		return policy.ReviewLine{}, fault.New(fault.InvalidRequest, "change goes with the decision change, and with no other").WithParam("change")
	}
	var who userRow
	if err := find(ctx, s, aUser, &who, "id = ?", d.Person); err != nil {
		return policy.ReviewLine{}, err
	}
	row, err := s.open(ctx, d) // judged again inside the change
	if err != nil {
		return policy.ReviewLine{}, err
	}
	by.Why = strings.TrimSpace(fmt.Sprintf("access review %s, line %d: %s", d.ReviewID, d.N, d.Comment))
	decide := func(ctx context.Context, ev *journal.Event) error {
		if row, err = s.open(ctx, d); err != nil {
			return err
		}
		row.Decision, row.Outcome, row.Comment = string(d.Decision), string(policy.OutcomeDone), d.Comment
		row.DecidedBy, row.DecidedByName, row.DecidedAt = d.Person, who.Email, s.clock().UnixMicro()
		if d.Change != nil {
			if err := encode(&row.Change, d.Change); err != nil {
				return err
			}
		}
		stampLine(ev, row)
		return nil
	}
	switch d.Decision {
	case policy.DecideKeep:
		err = s.keepLine(ctx, by, row, decide)
	case policy.DecideChange:
		err = s.changeLine(ctx, by, reviewer, row, d.Change, decide)
	case policy.DecideRevoke:
		err = s.revokeLine(ctx, by, reviewer, row, decide)
	default:
		err = fault.New(fault.InvalidRequest, "%q is no decision: keep, change or revoke", d.Decision).WithParam("decision")
	}
	if fault.Is(err, fault.NotFound) {
		err = fault.New(fault.PreconditionFailed, "What this line is about was taken away since the review began: there is nothing left to decide.")
	}
	if err != nil {
		return policy.ReviewLine{}, err
	}
	return row.line()
}

// stampLine has a line written with its change.
func stampLine(ev *journal.Event, row *lineRow) {
	before := ev.Stamp
	ev.Stamp = func(ctx context.Context, tx bun.Tx, revision int64) error {
		if before != nil {
			if err := before(ctx, tx, revision); err != nil {
				return err
			}
		}
		row.Revision = revision
		ev.Sets(row)
		_, err := tx.NewUpdate().Model(row).WherePK().Exec(ctx)
		return err
	}
}

// open reads a line that a person may decide, now.
func (s *Store) open(ctx context.Context, d policy.LineDecision) (*lineRow, error) {
	r, err := s.ReviewByID(ctx, d.Project, d.ReviewID)
	if err != nil {
		return nil, err
	}
	switch ok, err := s.Reviews(ctx, r, d.Person); {
	case err != nil:
		return nil, err
	case !ok:
		return nil, fault.New(fault.PermissionDenied, "You are not one of the reviewers: ask %s, who started the review.", cmp.Or(r.StartedByName, r.StartedBy))
	case r.Closed() || !s.clock().Before(r.Deadline):
		return nil, fault.New(fault.Conflict, "The review is over: change the binding or the key itself.")
	}
	row := &lineRow{Project: d.Project, ReviewID: d.ReviewID, N: int64(d.N)}
	if err := find(ctx, s, aLine, row, "project = ? AND review_id = ? AND n = ?", d.Project, d.ReviewID, fmt.Sprint(d.N)); err != nil {
		return nil, err
	}
	if own, err := s.ownLine(ctx, row, d.Person); err != nil || own {
		if err == nil {
			err = fault.New(fault.PermissionDenied, "This is your own access, of a group that you are in, or a key that you made: another reviewer has to decide.")
		}
		return nil, err
	}
	if d.Revision > 0 {
		if err := sameRevision(row.Revision, d.Revision, aLine); err != nil {
			return nil, err
		}
	}
	if row.Decision == string(policy.DecideRevoke) || row.Decision == string(policy.DecideChange) {
		return nil, fault.New(fault.Conflict, "%s has decided this line, and it was carried out.", cmp.Or(row.DecidedByName, row.DecidedBy))
	}
	return row, nil
}

// ownLine is policy.OwnLine as things are now: whoever was alone in a group when the review began may have company, or have lost it.
func (s *Store) ownLine(ctx context.Context, row *lineRow, person string) (bool, error) {
	var members []string
	if strings.HasPrefix(row.Subject, policy.GroupPrefix) {
		var err error
		if members, err = s.activeUsersOf(ctx, row.Subject); err != nil {
			return false, err
		}
	}
	rows, err := findAll[keyRow](ctx, s, "keys", nil, func(q *bun.SelectQuery) { q.Where("project = ? AND owner = ?", row.Project, person) })
	if err != nil {
		return false, err
	}
	keys := make([]string, len(rows))
	for i := range rows {
		keys[i] = rows[i].ID
	}
	return policy.OwnLine(policy.Access{Holding: row.Holding, Subject: row.Subject, GrantedBy: row.MadeBy}, person, members, keys), nil
}

func (row *lineRow) ofKey() bool { return strings.HasPrefix(row.Holding, "key_") }

// unchanged reads what a line is about and refuses (PreconditionFailed) when it is not what it was.
func (s *Store) unchanged(ctx context.Context, row *lineRow) error {
	var revision int64
	if row.ofKey() {
		k, err := s.keyWithin(ctx, row.Project, row.Holding)
		if err != nil {
			return err
		}
		revision = k.Revision
	} else {
		var b bindingRow
		if err := find(ctx, s, aBinding, &b, "project = ? AND id = ?", row.Project, row.Holding); err != nil {
			return err
		}
		revision = b.Revision
	}
	return sameRevision(revision, row.HeldRevision, "binding or key")
}

// keyWithin is a key that is in force, or NotFound.
func (s *Store) keyWithin(ctx context.Context, project, id string) (keyRow, error) {
	var k keyRow
	err := find(ctx, s, "API key", &k, "project = ? AND id = ?", project, id)
	if err == nil && k.RevokedAt != 0 {
		err = absent("API key")
	}
	return k, err
}

func (s *Store) keepLine(ctx context.Context, by journal.Origin, row *lineRow, decide also) error {
	ev := &journal.Event{Project: row.Project, Origin: by, Action: "review.decide", Object: "review:" + row.ReviewID}
	_, err := s.journal.Change(ctx, ev, func(ctx context.Context, _ bun.Tx) error {
		if err := s.lockPeople(ctx, row.Project); err != nil {
			return err
		}
		if err := s.unchanged(ctx, row); err != nil {
			return err
		}
		if err := decide(ctx, ev); err != nil {
			return err
		}
		ev.After = map[string]any{"line": row.N, "holding": row.Holding, "decision": policy.DecideKeep}
		return nil
	})
	return err
}

func (s *Store) changeLine(ctx context.Context, by journal.Origin, reviewer *policy.Principal, row *lineRow, c *policy.ReviewChange, decide also) error {
	if row.ofKey() {
		return fault.New(fault.InvalidRequest, "a key is kept or revoked: what it may do is changed where keys are").WithParam("decision")
	}
	old, err := s.BindingByID(ctx, row.Project, row.Holding)
	if err != nil {
		return err
	}
	if err := sameRevision(old.Revision, row.HeldRevision, aBinding); err != nil {
		return err
	}
	b, err := c.Of(old)
	if err != nil {
		return err
	}
	if err := s.setActions(ctx, &b); err != nil {
		return err
	}
	if err := b.Validate(); err != nil {
		return err
	}
	if err := b.Within(old, s.clock()); err != nil {
		return err
	}
	_, err = s.updateBinding(ctx, by, reviewer, b, decide)
	return err
}

func (s *Store) revokeLine(ctx context.Context, by journal.Origin, reviewer *policy.Principal, row *lineRow, decide also) error {
	if !row.ofKey() {
		_, err := s.unbind(ctx, by, reviewer, unbinding{project: row.Project, id: row.Holding, revision: row.HeldRevision, also: decide})
		return err
	}
	if reviewer != nil && reviewer.ID == row.Holding {
		return fault.New(fault.PermissionDenied, "This is the key that you are using: another reviewer has to decide.")
	}
	now := s.clock().UnixMicro()
	_, err := s.edit(ctx, by, reviewer, edit{"key.revoke", row.Project, row.Holding, false, decide, func(k *keyRow) (bool, error) {
		if k.RevokedAt != 0 {
			return false, absent("API key")
		}
		k.RevokedAt = now
		return true, sameRevision(k.Revision, row.HeldRevision, "key")
	}})
	return err
}
