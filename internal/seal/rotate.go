package seal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/sqldb"
)

type keyInfo = tinkpb.KeysetInfo_KeyInfo

// A rotation has two steps so that no replica ever meets a ciphertext it cannot open: AddKey, Reload everywhere, Promote, Reload
// everywhere. Both take the transaction of a journal.Change, whose event touches the keys (TouchKeys); Changed and Run reload. project is "" for
// the installation's keys. Old keys stay until DropKey: what they sealed opens until it was sealed again.

// AddKey stores a new data key that opens and does not yet seal, and returns its number.
func (s *Sealer) AddKey(ctx context.Context, tx bun.IDB, project string) (id uint32, err error) {
	err = s.edit(ctx, tx, project, func(m *keyset.Manager, f *factList) error {
		if id, err = m.Add(aead.XAES256GCM192BitNonceKeyTemplate()); err != nil {
			return err
		}
		*f = append(*f, KeyFacts{ID: id, MadeAt: s.clock().UnixMicro()})
		return nil
	})
	return id, err
}

// Promote makes a key that AddKey stored the one that seals. It fails with NotFound when there is no such key.
func (s *Sealer) Promote(ctx context.Context, tx bun.IDB, project string, id uint32) error {
	return s.edit(ctx, tx, project, func(m *keyset.Manager, f *factList) error {
		if err := m.SetPrimary(id); err != nil {
			return fault.Wrap(err, fault.NotFound, "There is no data key %d.", id)
		}
		f.promoted(id, s.clock())
		return nil
	})
}

// DropKey destroys a data key for good. Whoever calls it knows that nothing is sealed by it any more; the one that seals is refused.
func (s *Sealer) DropKey(ctx context.Context, tx bun.IDB, project string, id uint32) error {
	return s.edit(ctx, tx, project, func(m *keyset.Manager, _ *factList) error {
		if err := m.Delete(id); err != nil {
			return fault.Wrap(err, fault.Conflict, "The data key %d is not there, or is the one that seals.", id)
		}
		return nil
	})
}

// Rewrapping is a new master key, made ready before the transaction that stores it: key management services are asked outside of it.
type Rewrapping struct {
	master *master
	wraps  []wrap
}

// PrepareRewrap makes the master key as `to` says: a new one where a key management service wraps it, else the one that is configured.
func (s *Sealer) PrepareRewrap(ctx context.Context, to Options) (*Rewrapping, error) {
	m, wraps, err := makeMaster(ctx, to.withDefaults())
	if err != nil {
		return nil, err
	}
	if m.id == s.keys.Load().master.id {
		return nil, fault.New(fault.Conflict, "The new master key is the present one: make another (openssl rand -base64 32).")
	}
	return &Rewrapping{m, wraps}, nil
}

// Rewrap seals the data keys under the new master key, and keeps a copy under the present one until FinishRewrap: processes with either start and
// work meanwhile.
func (s *Sealer) Rewrap(ctx context.Context, tx bun.IDB, to *Rewrapping) error {
	return s.rewrite(ctx, tx, func(k *keys, r *row) error {
		if r.Previous != "" {
			return fault.New(fault.Conflict, "The master key is being replaced already: give every gateway the new one, then finish it (`promptgate seal rewrap --finish`).")
		}
		old, err := r.current()
		if err != nil {
			return err
		}
		text, err := json.Marshal(old)
		if err != nil {
			return err
		}
		next, err := sealUnder(to.master, to.wraps, k.ring.handle, s.root)
		if err != nil {
			return err
		}
		r.Previous = string(text)
		return r.put(next)
	})
}

// FinishRewrap drops the copy under the old master key. It must be asked with the new one.
func (s *Sealer) FinishRewrap(ctx context.Context, tx bun.IDB) error {
	return s.rewrite(ctx, tx, func(k *keys, r *row) error {
		switch {
		case r.Previous == "":
			return fault.New(fault.Conflict, "The master key is not being replaced: there is nothing to finish.")
		case r.Master != k.master.id:
			return fault.New(fault.Conflict, "This is the old master key: finish with the configuration that has the new one.")
		}
		r.Previous = ""
		return nil
	})
}

// Primary is the number of the key that seals what belongs to a project; "" is the installation.
func (s *Sealer) Primary(project string) uint32 {
	if p, _, err := s.project(project); project != "" && err == nil && p != nil {
		return p.ring.primary()
	}
	return s.keys.Load().ring.primary()
}

// edit changes the stored keys of a project, or the installation's, not those in memory.
func (s *Sealer) edit(ctx context.Context, tx bun.IDB, project string, change func(*keyset.Manager, *factList) error) error {
	if project != "" {
		return s.editProject(ctx, tx, project, change)
	}
	return s.rewrite(ctx, tx, func(k *keys, r *row) error {
		if r.Previous != "" {
			return fault.New(fault.Conflict, "The master key is being replaced: finish that first (`promptgate seal rewrap --finish`).")
		}
		h, facts, err := changed(k.ring.handle, readFacts(r.Facts, k.ring.handle, r.CreatedAt), change)
		if err != nil {
			return err
		}
		now, err := r.current()
		if err != nil {
			return err
		}
		sealed, err := sealUnder(k.master, now.Wraps, h, s.root)
		if err != nil {
			return err
		}
		r.Facts = facts
		return r.put(sealed)
	})
}

// changed is a keyset with its facts after a change.
func changed(h *keyset.Handle, f factList, change func(*keyset.Manager, *factList) error) (*keyset.Handle, string, error) {
	manager := keyset.NewManagerFromHandle(h)
	if err := change(manager, &f); err != nil {
		return nil, "", err
	}
	out, err := manager.Handle()
	if err != nil {
		return nil, "", fmt.Errorf("seal: keyset: %w", err)
	}
	return out, readFacts(f.text(), out, 0).text(), nil
}

// rewrite changes the stored row. Whoever holds it has opened it with the master key of this process.
func (s *Sealer) rewrite(ctx context.Context, tx bun.IDB, change func(k *keys, r *row) error) error {
	r, err := load(ctx, tx, true)
	if err != nil {
		return err
	}
	if r == nil {
		return errNoKeys
	}
	k, _, err := openKeyset(s.keys.Load().master, r)
	if err != nil {
		return err
	}
	next := *r
	if err := change(k, &next); err != nil {
		return err
	}
	res, err := tx.NewUpdate().Model((*row)(nil)).
		Set("master = ?", next.Master).Set("keyset = ?", next.Keyset).Set("root = ?", next.Root).Set("wraps = ?", next.Wraps).
		Set("previous = ?", next.Previous).Set("facts = ?", next.Facts).Set("revision = ?", r.Revision+1).
		Where("id = 1 AND revision = ?", r.Revision).Exec(ctx)
	return moved(res, err)
}

var errNoKeys = errors.New("seal: journal_keyset is empty: restore it from a backup")

func moved(res sql.Result, err error) error {
	if err != nil {
		return fmt.Errorf("seal: store keys: %w", sqldb.Classify(err))
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return fault.Wrap(err, fault.Conflict, "The data keys were changed at the same moment: try again.")
	}
	return nil
}

// editProject is edit for a project's keys. They are sealed by the installation's key of now.
func (s *Sealer) editProject(ctx context.Context, tx bun.IDB, project string, change func(*keyset.Manager, *factList) error) error {
	r := projectRow{Project: project}
	q := tx.NewSelect().Model(&r).WherePK()
	if tx.Dialect().Name() == dialect.PG {
		q = q.For("UPDATE")
	}
	if err := q.Scan(ctx); err != nil {
		return fmt.Errorf("seal: read the keys of project %s: %w", project, sqldb.Classify(err))
	}
	k := s.keys.Load()
	p, err := k.openProject(r)
	if err != nil {
		return err
	}
	if p.ring == nil {
		return ErrShredded
	}
	h, facts, err := changed(p.ring.handle, readFacts(r.Facts, p.ring.handle, r.CreatedAt), change)
	if err != nil {
		return err
	}
	sealed, err := k.sealProject(project, h)
	if err != nil {
		return err
	}
	res, err := tx.NewUpdate().Model((*projectRow)(nil)).Set("keyset = ?", sealed).Set("facts = ?", facts).Set("revision = ?", r.Revision+1).
		Where("project = ? AND revision = ?", project, r.Revision).Exec(ctx)
	return moved(res, err)
}

// ResealKeys seals a project's keys again, by the installation's key of now.
func (s *Sealer) ResealKeys(ctx context.Context, tx bun.IDB, project string) error {
	return s.editProject(ctx, tx, project, func(*keyset.Manager, *factList) error { return nil })
}

// Held is a set of data keys as the database holds it.
type Held struct {
	Project  string // "" is the installation
	SealedBy uint32 // the installation's key that seals a project's; 0 for the installation's
	Primary  uint32
	Keys     []KeyFacts
	Shredded time.Time // zero: it was not
}

// Pending is the newest key that does not seal yet.
func (h *Held) Pending() (KeyFacts, bool) { return factList(h.Keys).pending() }

// Holdings are all keys as the database holds them now, the installation's first.
func (s *Sealer) Holdings(ctx context.Context) ([]Held, error) {
	r, err := load(ctx, s.db.DB, false)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, errNoKeys
	}
	k, _, err := openKeyset(s.keys.Load().master, r)
	if err != nil {
		return nil, err
	}
	out := []Held{{Primary: k.ring.primary(), Keys: readFacts(r.Facts, k.ring.handle, r.CreatedAt)}}
	var rows []projectRow
	if err := s.db.NewSelect().Model(&rows).Order("project").Scan(ctx); err != nil {
		return nil, fmt.Errorf("seal: read keys: %w", sqldb.Classify(err))
	}
	for _, r := range rows {
		h := Held{Project: r.Project}
		if len(r.Keyset) == 0 {
			h.Shredded = time.UnixMicro(r.ShreddedAt).UTC()
			out = append(out, h)
			continue
		}
		p, err := k.openProject(r)
		if err != nil {
			return nil, err
		}
		h.SealedBy, _ = KeyID(r.Keyset)
		h.Primary, h.Keys = p.ring.primary(), readFacts(r.Facts, p.ring.handle, r.CreatedAt)
		out = append(out, h)
	}
	return out, nil
}

// Replacing reports whether the master key is being replaced, and names the present one as a database row does.
func (s *Sealer) Replacing(ctx context.Context) (master, by string, replacing bool, err error) {
	r, err := load(ctx, s.db.DB, false)
	if err != nil || r == nil {
		return "", "", false, errors.Join(err, errNoKeys)
	}
	now, err := r.current()
	if err != nil {
		return "", "", false, err
	}
	by = "configuration"
	if len(now.Wraps) > 0 {
		by = now.Wraps[0].By
	}
	return now.Master, by, r.Previous != "", nil
}
