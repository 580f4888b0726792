package seal

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Wrapper is a key of a key management service: it encrypts the master key, which is then kept beside the data. It is asked at a start and when the
// master key is replaced.
type Wrapper interface {
	// ID names service and key. What one wrapped is given to one of the same ID only.
	ID() string
	Wrap(ctx context.Context, secret []byte) ([]byte, error)
	Unwrap(ctx context.Context, wrapped []byte) ([]byte, error)
}

// wrap is the master key as one way of having it keeps it.
type wrap struct {
	By   string `json:"by"`
	Blob []byte `json:"blob"`
}

// sealedKeys are the data keys under one master key.
type sealedKeys struct {
	Master string `json:"master"`
	Keyset []byte `json:"keyset"`
	Root   []byte `json:"root"`
	Wraps  []wrap `json:"wraps,omitempty"`
}

// What the master key seals; the names keep one from being put in the other's place.
const (
	adKeyset   = "promptgate/journal_keyset/keyset"
	adRoot     = "promptgate/journal_keyset/root"
	adRecovery = "promptgate/journal_keyset/recovery"
)

// current is what a row holds now.
func (r *row) current() (sealedKeys, error) {
	k := sealedKeys{Master: r.Master, Keyset: r.Keyset, Root: r.Root}
	if r.Wraps != "" {
		if err := json.Unmarshal([]byte(r.Wraps), &k.Wraps); err != nil {
			return k, errors.New("seal: the stored keys (journal_keyset.wraps) were altered: restore them from a backup")
		}
	}
	return k, nil
}

// copies are the present data keys, then those under the master key that is being replaced.
func (r *row) copies() ([]sealedKeys, error) {
	now, err := r.current()
	if err != nil || r.Previous == "" {
		return []sealedKeys{now}, err
	}
	var old sealedKeys
	if err := json.Unmarshal([]byte(r.Previous), &old); err != nil {
		return nil, errors.New("seal: the stored keys (journal_keyset.previous) were altered: restore them from a backup")
	}
	return []sealedKeys{now, old}, nil
}

// under is the copy that this master key opens.
func (r *row) under(m *master) (sealedKeys, bool, error) {
	copies, err := r.copies()
	for _, k := range copies {
		if err == nil && k.Master == m.id {
			return k, true, nil
		}
	}
	return sealedKeys{}, false, err
}

// makeMaster is the master key for data that is not there yet, and what is kept of it.
func makeMaster(ctx context.Context, o Options) (*master, []wrap, error) {
	if o.KMS == nil {
		m, err := directMaster(o, false)
		return m, nil, err
	}
	secret := make([]byte, keySize)
	if _, err := rand.Read(secret); err != nil {
		return nil, nil, fmt.Errorf("seal: make keys: %w", err)
	}
	m, err := newMaster(secret)
	if err != nil {
		return nil, nil, err
	}
	blob, err := o.KMS.Wrap(ctx, secret)
	if err != nil {
		return nil, nil, fmt.Errorf("seal: the master key could not be wrapped: %w", err)
	}
	wraps := []wrap{{o.KMS.ID(), blob}}
	recovery, err := recoveryKey(o)
	if err != nil || recovery == nil {
		return m, wraps, err
	}
	if blob, err = recovery.aead.Encrypt(secret, []byte(adRecovery)); err != nil {
		return nil, nil, fmt.Errorf("seal: recovery key: %w", err)
	}
	return m, append(wraps, wrap{recovery.by(), blob}), nil
}

// by names a recovery key in a list of wraps.
func (m *master) by() string { return "recovery:" + m.id }

func recoveryKey(o Options) (*master, error) {
	if o.RecoveryKeyFile == "" {
		return nil, nil
	}
	secret, err := readMaster(o.RecoveryKeyFile)
	if err != nil {
		return nil, fmt.Errorf("seal: recovery key: %w", err)
	}
	return newMaster(secret)
}

// findMaster is the master key of data that is there, as o says that it is to be had.
func findMaster(ctx context.Context, o Options, r *row) (*master, error) {
	copies, err := r.copies()
	if err != nil {
		return nil, err
	}
	if o.KMS == nil {
		m, err := directMaster(o, true)
		if err != nil {
			return nil, err
		}
		for _, k := range copies {
			if k.Master == m.id {
				return m, nil
			}
		}
		if len(copies[0].Wraps) > 0 {
			return nil, fmt.Errorf("seal: the master key is wrapped by %s, and the configuration names a key: configure encryption.kms, or run "+
				"`promptgate seal rewrap` from the configuration that has it", copies[0].Wraps[0].By)
		}
		return nil, fmt.Errorf("seal: this is not the master key that the data was sealed with (it is key %s, the data wants %s): "+
			"configure the right one", m.id, copies[0].Master)
	}
	for _, k := range copies {
		if blob, ok := wrappedBy(k.Wraps, o.KMS.ID()); ok {
			return unwrap(ctx, o, k, blob)
		}
	}
	if len(copies[0].Wraps) == 0 {
		return nil, fmt.Errorf("seal: the data's master key %s is wrapped by no key management service yet: run `promptgate seal rewrap --to FILE` with the "+
			"configuration that has the key, FILE being the one that names encryption.kms", copies[0].Master)
	}
	return nil, fmt.Errorf("seal: the master key is wrapped by %s, and the configuration names %s: configure that one, or run "+
		"`promptgate seal rewrap --to FILE` from it", copies[0].Wraps[0].By, o.KMS.ID())
}

func wrappedBy(wraps []wrap, by string) ([]byte, bool) {
	for _, w := range wraps {
		if w.By == by {
			return w.Blob, true
		}
	}
	return nil, false
}

// unwrap asks the service, and the recovery key when that fails.
func unwrap(ctx context.Context, o Options, k sealedKeys, blob []byte) (*master, error) {
	secret, failed := o.KMS.Unwrap(ctx, blob)
	if failed != nil {
		failed = fmt.Errorf("seal: the master key could not be unwrapped: %w", failed)
		recovery, err := recoveryKey(o)
		if err != nil || recovery == nil {
			return nil, errors.Join(failed, err)
		}
		kept, ok := wrappedBy(k.Wraps, recovery.by())
		if !ok {
			return nil, fmt.Errorf("%w; encryption.recovery_key_file is another key than the one that was there when the master key was made", failed)
		}
		if secret, err = recovery.aead.Decrypt(kept, []byte(adRecovery)); err != nil {
			return nil, errors.Join(failed, errors.New("seal: the stored keys (journal_keyset.wraps) were altered: restore them from a backup"))
		}
		o.Log.Warn("starting with the recovery key: the key management service did not unwrap the master key", "error", failed)
	}
	if len(secret) != keySize {
		return nil, fmt.Errorf("seal: %s unwrapped something else than a master key: was journal_keyset altered? Restore it from a backup", o.KMS.ID())
	}
	m, err := newMaster(secret)
	if err == nil && m.id != k.Master {
		err = fmt.Errorf("seal: %s unwrapped another master key (%s) than the data's (%s): restore journal_keyset from a backup", o.KMS.ID(), m.id, k.Master)
	}
	return m, err
}

// withDefaults fills in what may be left out.
func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = discard()
	}
	return o
}
