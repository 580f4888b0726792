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
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/promptgate/promptgate/internal/sqldb"
)

// ErrOpen says that a ciphertext was altered, belongs to another place, or was sealed by keys that are not ours.
var ErrOpen = errors.New("seal: cannot open: altered, misplaced or sealed by another installation's keys")

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
	keys   atomic.Pointer[keys]
	root   []byte
	db     *sqldb.DB
	master *master
	clock  func() time.Time

	reloading  sync.Mutex // guards reloadedAt
	reloadedAt time.Time
}

// keys is one state of the keyset.
type keys struct {
	handle *keyset.Handle
	aead   tink.AEAD
	known  map[uint32]bool
	newest int64 // revision of the stored keyset
	stored *row  // as the database holds it, for Export
}

func newKeys(h *keyset.Handle, revision int64) (*keys, error) {
	a, err := aead.New(h)
	if err != nil {
		return nil, fmt.Errorf("seal: keyset: %w", err)
	}
	k := &keys{handle: h, aead: a, known: map[uint32]bool{}, newest: revision}
	for _, info := range h.KeysetInfo().GetKeyInfo() {
		k.known[info.GetKeyId()] = true
	}
	return k, nil
}

// Seal encrypts plaintext, which may be empty, for the place b. The result is Overhead bytes longer. It fails only for
// plaintexts near the limits of memory.
func (s *Sealer) Seal(plaintext []byte, b Bind) ([]byte, error) {
	out, err := s.keys.Load().aead.Encrypt(plaintext, b.associated())
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return out, nil
}

// Open decrypts what Seal made for the same place. The error is, or wraps, ErrOpen, and tells neither key nor content.
func (s *Sealer) Open(ciphertext []byte, b Bind) ([]byte, error) {
	if id, ok := KeyID(ciphertext); ok && !s.keys.Load().known[id] {
		// Sealed by a key this process has not seen: another replica may have promoted it a moment ago.
		if err := s.reloadSometimes(); err != nil {
			return nil, fmt.Errorf("%w (and the keys could not be read again: %w)", ErrOpen, err)
		}
	}
	out, err := s.keys.Load().aead.Decrypt(ciphertext, b.associated())
	if err != nil {
		return nil, fmt.Errorf("%w: %s, row %q", ErrOpen, b.Table, b.Row)
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
