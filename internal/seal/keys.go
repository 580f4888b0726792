package seal

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"

	"github.com/promptgate/promptgate/internal/sqldb"
)

// Options say where the master key comes from: KMS, else Key, else KeyFile, else <DataDir>/master.key. Naming two of them is an error.
type Options struct {
	DataDir string
	KeyFile string
	Key     string  // 32 bytes in base64
	KMS     Wrapper // wraps a master key that is made here
	// RecoveryKeyFile opens the master key beside KMS, when that does not: 32 bytes in base64.
	RecoveryKeyFile string
	// AllowCreate lets the first start write <DataDir>/master.key: for SQLite, where data and key grow up on one machine.
	AllowCreate bool
	Log         *slog.Logger
	Clock       func() time.Time // nil means time.Now
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// row is journal_keyset: one row, the data keys as the master key sealed them.
type row struct {
	bun.BaseModel `bun:"table:journal_keyset,alias:k"`

	ID        int64 `bun:",pk"`
	Master    string
	Keyset    []byte
	Root      []byte
	Revision  int64 // moved by every rotation, so that two of them cannot overwrite each other
	CreatedAt int64 // microseconds since 1970, UTC
	Wraps     string
	Previous  string
	Facts     string
}

// OpenKeys loads the data keys, or makes them at the first start. It refuses, saying what to do, when there is data and no
// master key, or another one than the data was sealed with. The database must be migrated.
func OpenKeys(ctx context.Context, db *sqldb.DB, o Options) (*Sealer, error) {
	o = o.withDefaults()
	stored, err := load(ctx, db.DB, false)
	if err != nil {
		return nil, err
	}
	if stored == nil {
		if err := refuseOrphans(ctx, db); err != nil {
			return nil, err
		}
		m, wraps, err := makeMaster(ctx, o)
		if err != nil {
			return nil, err
		}
		if stored, err = create(ctx, db, m, wraps, o.Clock()); err != nil {
			return nil, err
		}
	}
	m, err := findMaster(ctx, o, stored)
	if err != nil {
		return nil, err
	}
	s, err := unseal(db, m, stored, o)
	if err != nil {
		return nil, err
	}
	if err := s.loadProjects(ctx); err != nil {
		if sqldb.IsUnavailable(err) {
			return nil, err
		}
		o.Log.Error("the data keys of a project cannot be opened: its text cannot be read", "error", err)
	}
	return s, nil
}

// refuseOrphans keeps new keys from being made beside data that was sealed by lost ones.
func refuseOrphans(ctx context.Context, db *sqldb.DB) error {
	var revision int64
	if err := db.NewRaw("SELECT revision FROM journal_head").Scan(ctx, &revision); err != nil {
		return fmt.Errorf("seal: read the journal's head: %w", sqldb.Classify(err))
	}
	if revision > 0 {
		return errors.New("seal: the database holds data and no keys (journal_keyset is empty): " +
			"restore that table from a backup; without it nothing sealed can be read")
	}
	return nil
}

// directMaster is the master key that is configured itself.
func directMaster(o Options, haveData bool) (*master, error) {
	if o.Key != "" && o.KeyFile != "" {
		return nil, errors.New("seal: a master key and a master key file are both configured: keep one of them")
	}
	secret, err := masterSecret(o, haveData)
	if err != nil {
		return nil, err
	}
	return newMaster(secret)
}

func masterSecret(o Options, haveData bool) ([]byte, error) {
	if o.Key != "" {
		return parseMaster(o.Key)
	}
	path := o.KeyFile
	if path == "" && o.DataDir != "" {
		path = filepath.Join(o.DataDir, masterFileName)
	}
	if path == "" {
		return nil, errors.New("seal: no master key: configure a key or a key file (make one with: openssl rand -base64 32)")
	}
	secret, err := readMaster(path)
	switch {
	case err == nil:
		warnReadable(o.Log, path)
		return secret, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("seal: master key: %w", err)
	case haveData:
		return nil, fmt.Errorf("seal: the database holds sealed data and its master key %s is missing: put the key back there, "+
			"or configure it; a new key could not read the data", path)
	case o.KeyFile != "" || !o.AllowCreate:
		return nil, fmt.Errorf("seal: no master key: %s does not exist; configure a key or a key file "+
			"(make one with: openssl rand -base64 32)", path)
	}
	secret, created, err := createMaster(path)
	if err != nil {
		return nil, fmt.Errorf("seal: write master key: %w", err)
	}
	if created {
		o.Log.Warn("wrote a new master key: keep a copy apart from the data and out of its backups; without it the data cannot be read",
			"file", path)
	}
	return secret, nil
}

// warnReadable only warns: secrets mounted into containers are often readable by all of the one user there.
func warnReadable(log *slog.Logger, path string) {
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		log.Warn("the master key file can be read by others: chmod 600 it", "file", path, "mode", info.Mode().Perm().String())
	}
}

// load reads the stored keys, nil when there are none; lock keeps other replicas from moving them until the transaction ends.
func load(ctx context.Context, db bun.IDB, lock bool) (*row, error) {
	var r row
	q := db.NewSelect().Model(&r).Where("id = 1")
	if lock && db.Dialect().Name() == dialect.PG {
		q = q.For("UPDATE")
	}
	err := q.Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("seal: read keys: %w", sqldb.Classify(err))
	}
	return &r, nil
}

// create makes the keys and stores them, unless another replica does so first: then it returns that one's.
func create(ctx context.Context, db *sqldb.DB, m *master, wraps []wrap, now time.Time) (*row, error) {
	h, err := keyset.NewHandle(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("seal: make keys: %w", err)
	}
	root := make([]byte, keySize)
	if _, err := rand.Read(root); err != nil {
		return nil, fmt.Errorf("seal: make keys: %w", err)
	}
	r := &row{ID: 1, Revision: 1, CreatedAt: now.UnixMicro(), Facts: firstFacts(h, now).text()}
	sealed, err := sealUnder(m, wraps, h, root)
	if err != nil {
		return nil, err
	}
	if err := r.put(sealed); err != nil {
		return nil, err
	}
	err = db.Write(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(r).On("CONFLICT (id) DO NOTHING").Exec(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("seal: store keys: %w", err)
	}
	stored, err := load(ctx, db.DB, false)
	if err == nil && stored == nil {
		err = errors.New("seal: the keys just stored are gone")
	}
	return stored, err
}

// put makes k what the row holds.
func (r *row) put(k sealedKeys) error {
	r.Master, r.Keyset, r.Root, r.Wraps = k.Master, k.Keyset, k.Root, ""
	if len(k.Wraps) == 0 {
		return nil
	}
	text, err := json.Marshal(k.Wraps)
	r.Wraps = string(text)
	return err
}

// sealUnder seals the data keys by a master key.
func sealUnder(m *master, wraps []wrap, h *keyset.Handle, root []byte) (sealedKeys, error) {
	k := sealedKeys{Master: m.id, Wraps: wraps}
	var buf bytes.Buffer
	if err := h.WriteWithAssociatedData(keyset.NewBinaryWriter(&buf), m.aead, []byte(adKeyset)); err != nil {
		return k, fmt.Errorf("seal: keyset: %w", err)
	}
	k.Keyset = buf.Bytes()
	var err error
	if k.Root, err = m.aead.Encrypt(root, []byte(adRoot)); err != nil {
		return k, fmt.Errorf("seal: root: %w", err)
	}
	return k, nil
}

func unseal(db *sqldb.DB, m *master, r *row, o Options) (*Sealer, error) {
	k, root, err := openKeyset(m, r)
	if err != nil {
		return nil, err
	}
	s := &Sealer{
		root: root, db: db, o: o, clock: o.Clock, projects: map[string]*projectKeys{}, gone: map[string]bool{}, absent: map[string]time.Time{}, made: map[string]*projectKeys{},
		stale: map[string]bool{}, wake: make(chan struct{}, 1),
	}
	s.keys.Store(k)
	return s, nil
}

func openKeyset(m *master, r *row) (*keys, []byte, error) {
	sealed, ok, err := r.under(m)
	if err != nil {
		return nil, nil, err
	}
	if !ok {
		return nil, nil, fmt.Errorf("seal: this is not the master key that the data was sealed with (it is key %s, the data wants %s): "+
			"configure the right one", m.id, r.Master)
	}
	h, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(sealed.Keyset)), m.aead, []byte(adKeyset))
	if err != nil {
		return nil, nil, errors.New("seal: the stored keys (journal_keyset.keyset) were altered: restore them from a backup")
	}
	root, err := m.aead.Decrypt(sealed.Root, []byte(adRoot))
	if err != nil {
		return nil, nil, errors.New("seal: the stored keys (journal_keyset.root) were altered: restore them from a backup")
	}
	ring, err := newRing(h)
	if err != nil {
		return nil, nil, err
	}
	return &keys{ring: ring, newest: r.Revision, stored: r, master: m}, root, nil
}
