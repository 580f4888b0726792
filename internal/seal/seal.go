// Package seal encrypts what promptgate keeps: rows, cache entries and snapshots, each bound to the place it belongs to. The
// data keys live in the database, sealed by a master key that never does.
package seal

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/promptgate/promptgate/internal/sqldb"
)

// ErrOpen says that a ciphertext was altered, belongs to another place, or was sealed by keys that are not ours.
var ErrOpen = errors.New("seal: cannot open: altered, misplaced or sealed by another installation's keys")

// ErrShredded says that the keys of a project were destroyed: what they sealed is gone for good.
var ErrShredded = errors.New("seal: the project was shredded")

// Bind is the place a ciphertext belongs to. It opens under exactly the four strings it was sealed under, so a row that is
// copied over another one, or into another project, does not open.
type Bind struct {
	Table   string
	Row     string // primary key; parts of a compound one joined by "\x00"
	Column  string
	Project string // "" for what belongs to the whole installation
}

// associated encodes b injectively: each string behind its length.
func (b Bind) associated() []byte {
	out := make([]byte, 0, 1+4*4+len(b.Table)+len(b.Row)+len(b.Column)+len(b.Project))
	out = append(out, 1) // the encoding's version
	for _, s := range [...]string{b.Table, b.Row, b.Column, b.Project} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(s)))
		out = append(out, s...)
	}
	return out
}

// Sealer seals and opens in process, without I/O but for keys that another replica has just added. It is safe for concurrent
// use. OpenKeys makes one.
type Sealer struct {
	keys  atomic.Pointer[keys] // the installation's
	root  []byte
	db    *sqldb.DB
	o     Options
	clock func() time.Time

	shredded atomic.Pointer[map[string]bool] // for whoever asks with each call; nil: none is

	mu       sync.RWMutex
	projects map[string]*projectKeys
	gone     map[string]bool         // shredded, whatever the database says
	absent   map[string]time.Time    // when it had no keys for a project, or was to be asked
	made     map[string]*projectKeys // of projects whose transaction has not ended
	stale    map[string]bool         // projects whose keys changed; "" is the installation
	wake     chan struct{}           // holds one: there is something stale

	reloading  sync.Mutex // guards reloadedAt
	reloadedAt time.Time
}

// ring is a set of data keys, one of which seals.
type ring struct {
	handle *keyset.Handle
	aead   tink.AEAD
	known  map[uint32]bool
}

// keys is one state of the installation's keyset.
type keys struct {
	ring   *ring
	newest int64 // revision of the stored keyset
	stored *row  // as the database holds it, for Export
	master *master
}

func newRing(h *keyset.Handle) (*ring, error) {
	a, err := aead.New(h)
	if err != nil {
		return nil, fmt.Errorf("seal: keyset: %w", err)
	}
	r := &ring{handle: h, aead: a, known: map[uint32]bool{}}
	for _, info := range h.KeysetInfo().GetKeyInfo() {
		r.known[info.GetKeyId()] = true
	}
	return r, nil
}

func (r *ring) primary() uint32 { return r.handle.KeysetInfo().GetPrimaryKeyId() }

// Seal encrypts plaintext, which may be empty, for the place b, by the keys of its project; by the installation's where it has none. The result is
// Overhead bytes longer. It fails with ErrShredded, else only for plaintexts near the limits of memory.
func (s *Sealer) Seal(plaintext []byte, b Bind) ([]byte, error) {
	r := s.keys.Load().ring
	if b.Project != "" {
		p, known, err := s.project(b.Project)
		if err != nil {
			return nil, err
		}
		if !known {
			// Not asked about here: whoever seals may hold the last connection to the database. The installation's keys are every replica's, and
			// sealing again mends it.
			s.want(b.Project)
		}
		if p != nil {
			r = p.ring
		}
	}
	out, err := r.aead.Encrypt(plaintext, b.associated())
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return out, nil
}

// Open decrypts what Seal made for the same place. The error is ErrShredded, or is or wraps ErrOpen, and tells neither key nor content.
func (s *Sealer) Open(ciphertext []byte, b Bind) ([]byte, error) {
	id, ok := KeyID(ciphertext)
	rings, err := s.rings(b.Project, id)
	if err == nil && ok && len(rings) == 0 {
		// Sealed by a key this process has not seen: another replica may have promoted it a moment ago.
		if err := s.reloadSometimes(b.Project); err != nil {
			return nil, fmt.Errorf("%w (and the keys could not be read again: %w)", ErrOpen, err)
		}
		rings, err = s.rings(b.Project, id)
	}
	if err != nil {
		return nil, err
	}
	for _, r := range rings {
		if out, err := r.aead.Decrypt(ciphertext, b.associated()); err == nil {
			return out, nil
		}
	}
	return nil, fmt.Errorf("%w: %s, row %q", ErrOpen, b.Table, b.Row)
}

// rings are those that have a key of this number: the project's, and the installation's, by which rows were sealed before it had its own.
func (s *Sealer) rings(project string, id uint32) (out []*ring, err error) {
	if project != "" {
		p, _, err := s.project(project)
		if err != nil {
			return nil, err
		}
		if p != nil && p.ring.known[id] {
			out = append(out, p.ring)
		}
	}
	if r := s.keys.Load().ring; r.known[id] {
		out = append(out, r)
	}
	return out, nil
}

// Overhead is by how many bytes a ciphertext is longer than its plaintext: key, nonce and tag.
const Overhead = 5 + 24 + 16

// KeyID reads the key that a ciphertext names, which tells whether it is still to be sealed again after a rotation. ok is false
// for what Seal cannot have made.
func KeyID(ciphertext []byte) (id uint32, ok bool) {
	// Tink writes 0x01 and the key's number before the nonce.
	if len(ciphertext) < Overhead || ciphertext[0] != 1 {
		return 0, false
	}
	return binary.BigEndian.Uint32(ciphertext[1:5]), true
}

// KeyPrefix is what every ciphertext of a key begins with, for queries.
func KeyPrefix(id uint32) []byte { return binary.BigEndian.AppendUint32([]byte{1}, id) }

// PrefixKey reads it.
func PrefixKey(prefix []byte) uint32 {
	if len(prefix) < 5 {
		return 0
	}
	return binary.BigEndian.Uint32(prefix[1:5])
}

// SealFile is Seal for small files beside the database that may be opened long after every data key was replaced: by a key that never is.
func (s *Sealer) SealFile(plaintext []byte, b Bind) ([]byte, error) {
	a, err := subtle.NewXChaCha20Poly1305(s.DeriveKey("files"))
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return a.Encrypt(plaintext, b.associated())
}

// OpenFile opens what SealFile made, or Seal in earlier times.
func (s *Sealer) OpenFile(ciphertext []byte, b Bind) ([]byte, error) {
	a, err := subtle.NewXChaCha20Poly1305(s.DeriveKey("files"))
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if plain, err := a.Decrypt(ciphertext, b.associated()); err == nil {
		return plain, nil
	}
	return s.Open(ciphertext, b)
}

// DeriveKey returns 32 bytes that are secret, the same on every replica and after every rotation, and different for each
// purpose.
func (s *Sealer) DeriveKey(purpose string) []byte {
	return derive(s.root, "promptgate/derive/"+purpose)
}

// derive cannot fail: 32 bytes are far below HKDF's limit.
func derive(secret []byte, info string) []byte {
	out, err := hkdf.Key(sha256.New, secret, nil, info, keySize)
	if err != nil {
		panic("seal: hkdf: " + err.Error()) //nolint:forbidigo // unreachable, and nothing could be kept safe without it
	}
	return out
}
