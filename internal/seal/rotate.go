package seal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/sqldb"
)

// A rotation has two steps so that no replica ever meets a ciphertext it cannot open: AddKey, Reload everywhere, Promote, Reload
// everywhere. Both take the transaction of a journal.Change, whose event touches the keyset; the journal's subscriber reloads.
// Old keys stay: what they sealed opens until somebody has sealed it again.

// AddKey stores a new data key that opens and does not yet seal, and returns its number.
func (s *Sealer) AddKey(ctx context.Context, tx bun.IDB) (id uint32, err error) {
	err = s.edit(ctx, tx, func(m *keyset.Manager) error {
		id, err = m.Add(aead.XAES256GCM192BitNonceKeyTemplate())
		return err
	})
	return id, err
}

// Promote makes a key that AddKey stored the one that seals. It fails with NotFound when there is no such key.
func (s *Sealer) Promote(ctx context.Context, tx bun.IDB, id uint32) error {
	return s.edit(ctx, tx, func(m *keyset.Manager) error {
		if err := m.SetPrimary(id); err != nil {
			return fault.Wrap(err, fault.NotFound, "There is no data key %d.", id)
		}
		return nil
	})
}

// Rewrap seals the data keys under another master key, given in base64. Running replicas keep working with the keys in their
// memory; every start from then on needs the new master key.
func (s *Sealer) Rewrap(ctx context.Context, tx bun.IDB, newKey string) error {
	secret, err := parseMaster(newKey)
	if err != nil {
		return fault.Wrap(err, fault.InvalidRequest, "The new master key must be 32 bytes in base64.")
	}
	m, err := newMaster(secret)
	if err != nil {
		return err
	}
	return s.rewrite(ctx, tx, m, func(*keyset.Manager) error { return nil })
}

// Primary is the number of the key that seals now.
func (s *Sealer) Primary() uint32 { return s.keys.Load().handle.KeysetInfo().GetPrimaryKeyId() }

// Reload reads the data keys again.
func (s *Sealer) Reload(ctx context.Context) error {
	r, err := load(ctx, s.db.DB, false)
	if err != nil {
		return err
	}
	if r == nil {
		return errors.New("seal: journal_keyset is empty: restore it from a backup")
	}
	k, err := openKeyset(s.master, r)
	if err != nil {
		return err
	}
	for { // never back to an older keyset than one another goroutine has just read
		old := s.keys.Load()
		if old.newest >= k.newest || s.keys.CompareAndSwap(old, k) {
			return nil
		}
	}
}

const (
	reloadEvery   = 100 * time.Millisecond
	reloadTimeout = 2 * time.Second
)

// reloadSometimes keeps rubbish that looks sealed from costing a query each: it reads at most once in reloadEvery.
//
//nolint:contextcheck // all who open sealed text share one read, whoever of them leaves
func (s *Sealer) reloadSometimes() error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	now := s.clock()
	if now.Sub(s.reloadedAt) < reloadEvery {
		return nil
	}
	s.reloadedAt = now
	ctx, cancel := context.WithTimeout(context.Background(), reloadTimeout)
	defer cancel()
	return s.Reload(ctx)
}

func (s *Sealer) edit(ctx context.Context, tx bun.IDB, change func(*keyset.Manager) error) error {
	return s.rewrite(ctx, tx, s.master, change)
}

// rewrite changes the stored keyset, not the one in memory, and seals it under m.
func (s *Sealer) rewrite(ctx context.Context, tx bun.IDB, m *master, change func(*keyset.Manager) error) error {
	r, err := load(ctx, tx, true)
	if err != nil {
		return err
	}
	if r == nil {
		return errors.New("seal: journal_keyset is empty: restore it from a backup")
	}
	k, err := openKeyset(s.master, r)
	if err != nil {
		return err
	}
	manager := keyset.NewManagerFromHandle(k.handle)
	if err := change(manager); err != nil {
		return err
	}
	h, err := manager.Handle()
	if err != nil {
		return fmt.Errorf("seal: keyset: %w", err)
	}
	sealed, err := sealKeyset(h, m)
	if err != nil {
		return err
	}
	root, err := m.aead.Encrypt(s.root, []byte(adRoot))
	if err != nil {
		return fmt.Errorf("seal: root: %w", err)
	}
	res, err := tx.NewUpdate().Model((*row)(nil)).
		Set("master = ?", m.id).Set("keyset = ?", sealed).Set("root = ?", root).Set("revision = ?", r.Revision+1).
		Where("id = 1 AND revision = ?", r.Revision).Exec(ctx)
	if err != nil {
		return fmt.Errorf("seal: store keys: %w", sqldb.Classify(err))
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return fault.Wrap(err, fault.Conflict, "The data keys were changed at the same moment: try again.")
	}
	return nil
}
