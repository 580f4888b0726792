// Package sqlstore keeps API keys in SQLite or PostgreSQL, by one implementation.
package sqlstore

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/authentic"
	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/policy"
)

const (
	defaultLimit = 50
	maxLimit     = 200
	hashBytes    = 32
)

// Store implements policy.KeyStore. It is safe for concurrent use.
type Store struct {
	db      *sqldb.DB
	journal *journal.Journal
	clock   func() time.Time
}

// New makes a store on a migrated database. A nil clock means time.Now.
func New(db *sqldb.DB, j *journal.Journal, clock func() time.Time) *Store {
	if clock == nil {
		clock = time.Now
	}
	return &Store{db: db, journal: j, clock: clock}
}

var _ policy.KeyStore = (*Store)(nil)

// KeyByLookup implements policy.KeySource.
func (s *Store) KeyByLookup(ctx context.Context, lookup string) (policy.KeyRecord, error) {
	return s.one(ctx, "lookup = ?", lookup)
}

// KeyByID implements policy.KeyStore.
func (s *Store) KeyByID(ctx context.Context, project, id string) (policy.KeyRecord, error) {
	return s.one(ctx, "project = ? AND id = ?", project, id)
}

// Tables are the models of the rows that decide something: every column of them is checked when it is read (journal.Read).
func Tables() []any {
	return []any{
		(*keyRow)(nil), (*userRow)(nil), (*groupRow)(nil), (*memberRow)(nil), (*roleRow)(nil), (*bindingRow)(nil), (*serviceRow)(nil),
		(*issuerRow)(nil), (*domainRow)(nil), (*identityRow)(nil), (*scimTokenRow)(nil), (*provisionRow)(nil),
		(*sessionRow)(nil), (*linkRow)(nil), (*passwordRow)(nil), (*passkeyRow)(nil), (*requireRow)(nil),
		(*reviewRow)(nil), (*lineRow)(nil),
	}
}

func (s *Store) one(ctx context.Context, where string, args ...string) (policy.KeyRecord, error) {
	var row keyRow
	for _, a := range args {
		if !storable(a) {
			return policy.KeyRecord{}, notFound(sql.ErrNoRows)
		}
	}
	if err := s.scan(ctx, &row, s.db.NewSelect().Model(&row).Where(where, bunArgs(args)...)); err != nil {
		return policy.KeyRecord{}, notFound(err)
	}
	return row.record()
}

// scan reads one key, and believes it only when the journal says the same. A key that is gone opens nothing, so that none is found is not doubted.
func (s *Store) scan(ctx context.Context, row *keyRow, q *bun.SelectQuery) error {
	return s.journal.Read(ctx, func(ctx context.Context, c *authentic.Claims) error {
		err := q.Scan(ctx)
		if err == nil {
			c.Is(row)
		}
		return err
	})
}

func bunArgs(args []string) []any {
	out := make([]any, len(args))
	for i, a := range args {
		out[i] = a
	}
	return out
}

// storable reports whether a text can be in the database at all: PostgreSQL fails on others where SQLite finds nothing.
func storable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fault.New(fault.NotFound, "There is no such API key.")
	}
	return fmt.Errorf("policy: read key: %w", sqldb.Classify(err))
}

// ListKeys implements policy.KeyStore.
func (s *Store) ListKeys(ctx context.Context, project string, page policy.Page) ([]policy.KeyRecord, string, error) {
	rows, next, err := list(ctx, s, "keys", page, order[keyRow]{"created_at", "id", func(r *keyRow) (int64, string) { return r.CreatedAt, r.ID }}, func(q *bun.SelectQuery) {
		q.Where("k.project = ?", project)
		if page.Owner != "" {
			q.Where("k.owner = ?", page.Owner)
		}
	})
	if err != nil {
		return nil, "", err
	}
	out := make([]policy.KeyRecord, len(rows))
	for i := range rows {
		if out[i], err = rows[i].record(); err != nil {
			return nil, "", err
		}
	}
	return out, next, nil
}

func cursorOf(at int64, id string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(at, 10) + " " + id))
}

func parseCursor(s string) (at int64, id string, err error) {
	bad := fault.New(fault.InvalidRequest, "the cursor is not one that a list returned: start without it").WithParam("after")
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return 0, "", bad
	}
	left, id, _ := strings.Cut(string(b), " ")
	if at, err = strconv.ParseInt(left, 10, 64); err != nil || !storable(id) {
		return 0, "", bad
	}
	return at, id, nil
}

// CreateKey implements policy.KeyStore.
func (s *Store) CreateKey(ctx context.Context, by journal.Origin, granter *policy.Principal, k policy.KeyRecord) (policy.KeyRecord, error) {
	now := s.clock()
	if k.Lookup == "" || len(k.Hash) != hashBytes || k.Project == "" {
		return policy.KeyRecord{}, fault.New(fault.Internal, "a key record without lookup, hash or project")
	}
	if err := admit(&k, now); err != nil {
		return policy.KeyRecord{}, err
	}
	if err := policy.Delegate(granter, k, now); err != nil {
		return policy.KeyRecord{}, err
	}
	if err := s.ownerIsThere(ctx, granter, k); err != nil {
		return policy.KeyRecord{}, err
	}
	k.ID, k.CreatedBy, k.CreatedAt, k.RevokedAt = "key_"+k.Lookup, by.Actor.ID, now, time.Time{}
	row, err := rowOf(k)
	if err != nil {
		return policy.KeyRecord{}, err
	}
	ev := event("key.create", by, row)
	ev.After = k.Public()
	// The revision is known only at the end, when the head is locked: one more statement sets it.
	ev.Stamp = stamp(ev.Adds, &row)
	if _, err := s.journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(&row).Exec(ctx)
		return err
	}); err != nil {
		return policy.KeyRecord{}, fmt.Errorf("policy: create key: %w", err)
	}
	return row.record()
}

// admit validates what people choose.
func admit(k *policy.KeyRecord, now time.Time) error {
	if err := k.Validate(); err != nil {
		return err
	}
	if !k.Expires.IsZero() && !now.Before(k.Expires) {
		return fault.New(fault.InvalidRequest, "the key's time of expiry has passed: choose a later one").WithParam("expires_at")
	}
	return nil
}

// UpdateKey implements policy.KeyStore.
func (s *Store) UpdateKey(ctx context.Context, by journal.Origin, granter *policy.Principal, k policy.KeyRecord) (policy.KeyRecord, error) {
	now := s.clock()
	if err := admit(&k, now); err != nil {
		return policy.KeyRecord{}, err
	}
	fresh, err := rowOf(k)
	if err != nil {
		return policy.KeyRecord{}, err
	}
	return s.edit(ctx, by, granter, edit{"key.update", k.Project, k.ID, false, nil, func(row *keyRow) (bool, error) {
		switch {
		case row.RevokedAt != 0:
			return false, fault.New(fault.Conflict, "The key is revoked, and that is for good: create a new one.")
		case row.Revision != k.Revision:
			return false, fault.New(fault.PreconditionFailed, "The key was changed meanwhile: read it again and repeat the change.")
		}
		if err := policy.Delegate(granter, k, now); err != nil {
			return false, err
		}
		row.Name, row.Roles, row.Grants, row.Networks, row.ExpiresAt = fresh.Name, fresh.Roles, fresh.Grants, fresh.Networks, fresh.ExpiresAt
		return true, nil
	}})
}

// RevokeKey implements policy.KeyStore.
func (s *Store) RevokeKey(ctx context.Context, by journal.Origin, manager *policy.Principal, r policy.Revocation) (policy.KeyRecord, error) {
	now := s.clock().UnixMicro()
	own := manager != nil && manager.Kind == policy.KindKey && manager.ID == r.ID && manager.Project == r.Project
	if own && !r.Force {
		return policy.KeyRecord{}, fault.New(fault.Conflict,
			"This is the key that you are using: revoke it with another one, or insist with force (?force=true, --force).").WithParam("force")
	}
	return s.edit(ctx, by, manager, edit{"key.revoke", r.Project, r.ID, r.Force, nil, func(row *keyRow) (bool, error) {
		if row.RevokedAt != 0 {
			return false, nil
		}
		row.RevokedAt = now
		return true, nil
	}})
}

// edit is a change of one key: do edits the row as it is now and reports whether there is anything to write.
type edit struct {
	action, project, id string
	force               bool // also the project's last admin
	also                also
	do                  func(row *keyRow) (bool, error)
}

// errUnchanged ends a transaction that has nothing to write and so nothing to record.
var errUnchanged = errors.New("policy: unchanged")

func (s *Store) edit(ctx context.Context, by journal.Origin, manager *policy.Principal, e edit) (policy.KeyRecord, error) {
	var row keyRow
	if !storable(e.project) || !storable(e.id) {
		return policy.KeyRecord{}, notFound(sql.ErrNoRows)
	}
	ev := event(e.action, by, keyRow{Project: e.project, ID: e.id})
	ev.Stamp = stamp(ev.Sets, &row)
	_, err := s.journal.Change(ctx, ev, func(ctx context.Context, tx bun.Tx) error {
		row = keyRow{}
		if err := s.lockPeople(ctx, e.project); err != nil {
			return err
		}
		if err := s.scan(ctx, &row, tx.NewSelect().Model(&row).Where("project = ? AND id = ?", e.project, e.id)); err != nil {
			return notFound(err)
		}
		before, err := row.record()
		if err != nil {
			return err
		}
		if err := policy.Govern(manager, before, s.clock()); err != nil { // judged on the row that is changed: it cannot have grown since
			return err
		}
		if err := s.governOwned(ctx, manager, before); err != nil {
			return err
		}
		changed, err := e.do(&row)
		if err != nil {
			return err
		}
		if !changed {
			return errUnchanged
		}
		after, err := row.record()
		if err != nil {
			return err
		}
		if err := s.leavesAnAdmin(ctx, manager, e, before, after); err != nil {
			return err
		}
		ev.Before, ev.After, ev.Touches = before.Public(), after.Public(), touches(row)
		if _, err = tx.NewUpdate().Model(&row).WherePK().
			Column("name", "roles", "grants", "networks", "expires_at", "revoked_at").Exec(ctx); err != nil {
			return err
		}
		return e.also.do(ctx, ev)
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		return policy.KeyRecord{}, fmt.Errorf("policy: %s: %w", e.action, err)
	}
	return row.record()
}

// leavesAnAdmin refuses to take a project's last admin key away, by revoking or by changing it. The system may: it can make another.
func (s *Store) leavesAnAdmin(ctx context.Context, manager *policy.Principal, e edit, before, after policy.KeyRecord) error {
	now := s.clock()
	if e.force || before.Owner != "" || !before.Administers(now) || after.Administers(now) || manager != nil && manager.Kind == policy.KindSystem {
		return nil
	}
	found, err := s.adminKey(ctx, e.project, e.id)
	if err != nil || found {
		return err
	}
	_, found, err = s.adminPeople(ctx, e.project, func(policy.Binding, string) bool { return false })
	if err != nil || found {
		return err
	}
	return fault.New(fault.Conflict, "This is the project's last admin key: make another one first, or insist when you revoke it (?force=true, --force).").
		WithParam("force")
}

func event(action string, by journal.Origin, row keyRow) *journal.Event {
	return &journal.Event{Project: row.Project, Origin: by, Action: action, Object: "key:" + row.ID, Touches: touches(row)}
}

func touches(row keyRow) []journal.Touch {
	return []journal.Touch{
		{Kind: policy.TouchKey, Key: row.Lookup},
		{Kind: policy.TouchPrincipal, Project: row.Project, Key: row.ID},
	}
}

// stamp writes the change's revision into the row.
func stamp(tell func(rows ...any), row *keyRow) func(context.Context, bun.Tx, int64) error {
	return func(ctx context.Context, tx bun.Tx, revision int64) error {
		row.Revision = revision
		tell(row)
		_, err := tx.NewUpdate().Model(row).WherePK().Column("revision").Exec(ctx)
		return err
	}
}
