package seal

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/sqldb"
)

// TouchKeys is the kind of touch of a change to data keys: of a project's, or without a project of the installation's. Give it to Changed.
const TouchKeys = "data-keys"

// projectRow is journal_project_keys: a project's data keys, sealed by the installation's; empty once it was shredded.
type projectRow struct {
	bun.BaseModel `bun:"table:journal_project_keys,alias:pk"`

	Project    string `bun:",pk"`
	Keyset     []byte
	Facts      string
	Revision   int64
	CreatedAt  int64
	ShreddedAt int64
}

// projectKeys are a project's keys as they were read; ring is nil when it was shredded.
type projectKeys struct {
	stored projectRow
	ring   *ring
}

func projectAD(project string) []byte {
	return Bind{Table: "journal_project_keys", Row: project, Column: "keyset", Project: project}.associated()
}

// openProject opens a row that was read.
func (k *keys) openProject(r projectRow) (*projectKeys, error) {
	p := &projectKeys{stored: r}
	if len(r.Keyset) == 0 {
		return p, nil
	}
	plain, err := k.ring.aead.Decrypt(r.Keyset, projectAD(r.Project))
	if err != nil {
		return nil, fmt.Errorf("seal: the keys of project %s (journal_project_keys) were altered, or are another installation's: restore them from a backup", r.Project)
	}
	h, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(plain)))
	if err != nil {
		return nil, fmt.Errorf("seal: the keys of project %s: %w", r.Project, err)
	}
	p.ring, err = newRing(h)
	return p, err
}

// sealProject is the reverse: the keys for the column.
func (k *keys) sealProject(project string, h *keyset.Handle) ([]byte, error) {
	var buf bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewBinaryWriter(&buf)); err != nil {
		return nil, fmt.Errorf("seal: keyset: %w", err)
	}
	return k.ring.aead.Encrypt(buf.Bytes(), projectAD(project))
}

// AddProject makes the data keys of a new project, in the transaction that makes the project. It does nothing where they are there.
func (s *Sealer) AddProject(ctx context.Context, tx bun.IDB, project string) error {
	h, err := keyset.NewHandle(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		return fmt.Errorf("seal: make keys: %w", err)
	}
	now := s.clock()
	r := projectRow{Project: project, Facts: firstFacts(h, now).text(), Revision: 1, CreatedAt: now.UnixMicro()}
	if r.Keyset, err = s.keys.Load().sealProject(project, h); err != nil {
		return err
	}
	res, err := tx.NewInsert().Model(&r).On("CONFLICT (project) DO NOTHING").Exec(ctx)
	if err != nil {
		return fmt.Errorf("seal: store keys: %w", sqldb.Classify(err))
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return nil //nolint:nilerr // they are read when they are needed
	}
	own, err := newRing(h)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.made) > maxAbsent {
		clear(s.made)
	}
	s.made[project] = &projectKeys{stored: r, ring: own}
	return nil
}

// Projects are those that have keys of their own, shredded ones included.
func (s *Sealer) Projects(ctx context.Context) (have map[string]bool, err error) {
	var names []string
	if err := s.db.NewSelect().Model((*projectRow)(nil)).Column("project").Scan(ctx, &names); err != nil {
		return nil, fmt.Errorf("seal: read keys: %w", sqldb.Classify(err))
	}
	have = map[string]bool{}
	for _, n := range names {
		have[n] = true
	}
	return have, nil
}

// loadProjects reads all of them. One that cannot be opened is logged and its project is sealed and opened by nobody.
func (s *Sealer) loadProjects(ctx context.Context) error {
	var rows []projectRow
	if err := s.db.NewSelect().Model(&rows).Scan(ctx); err != nil {
		return fmt.Errorf("seal: read keys: %w", sqldb.Classify(err))
	}
	return s.take(rows)
}

// take puts rows into memory, never an older one over a newer.
func (s *Sealer) take(rows []projectRow) (err error) {
	k := s.keys.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rows {
		delete(s.absent, r.Project)
		if s.gone[r.Project] {
			continue
		}
		if old := s.projects[r.Project]; old != nil && (old.ring == nil || old.stored.Revision > r.Revision) {
			continue // what was shredded stays so
		}
		p, openErr := k.openProject(r)
		if openErr != nil {
			err = errors.Join(err, openErr)
			continue
		}
		s.projects[r.Project] = p
		if p.ring == nil {
			s.noteShredded(r.Project)
		}
	}
	return err
}

// noteShredded puts projects on the list that Shredded reads. The caller holds mu.
func (s *Sealer) noteShredded(projects ...string) {
	next := map[string]bool{}
	if old := s.shredded.Load(); old != nil {
		maps.Copy(next, *old)
	}
	for _, p := range projects {
		next[p] = true
	}
	s.shredded.Store(&next)
}

// loadProject reads one project's keys.
func (s *Sealer) loadProject(ctx context.Context, project string) error {
	r := projectRow{Project: project}
	err := s.db.NewSelect().Model(&r).WherePK().Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.absent) > maxAbsent {
			clear(s.absent)
		}
		s.absent[project] = s.clock()
		return nil
	}
	if err != nil {
		return fmt.Errorf("seal: read keys: %w", sqldb.Classify(err))
	}
	return s.take([]projectRow{r})
}

const (
	maxAbsent   = 1000
	absentFor   = 5 * time.Second // a project without keys of its own is asked about again
	reloadAgain = time.Second     // after a reload that failed
)

// project finds a project's keys in memory. known is false when the database has to be asked.
func (s *Sealer) project(name string) (p *projectKeys, known bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p = s.projects[name]
	if s.gone[name] || p != nil && p.ring == nil {
		return nil, true, ErrShredded
	}
	if p == nil {
		at, asked := s.absent[name]
		return nil, asked && s.clock().Sub(at) < absentFor, nil
	}
	return p, true, nil
}

// Shredded reports whether a project's keys were destroyed. It asks nobody.
func (s *Sealer) Shredded(project string) bool {
	list := s.shredded.Load()
	return list != nil && (*list)[project]
}

// MarkShredded says of projects, by what cannot be put back, that they were shredded, whatever the table holds.
func (s *Sealer) MarkShredded(projects ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range projects {
		s.gone[p] = true
		delete(s.projects, p)
	}
	if len(projects) > 0 {
		s.noteShredded(projects...)
	}
}

// ShredProject destroys a project's data keys in the transaction of a journal.Change. What they sealed opens nowhere again.
func (s *Sealer) ShredProject(ctx context.Context, tx bun.IDB, project string) error {
	now := s.clock().UnixMicro()
	r := projectRow{Project: project, Keyset: []byte{}, Facts: "[]", Revision: 1, CreatedAt: now, ShreddedAt: now}
	_, err := tx.NewInsert().Model(&r).On("CONFLICT (project) DO UPDATE").
		Set("keyset = EXCLUDED.keyset").Set("facts = EXCLUDED.facts").Set("shredded_at = EXCLUDED.shredded_at").
		Set("revision = ?TableAlias.revision + 1").Exec(ctx)
	if err != nil {
		return fmt.Errorf("seal: destroy keys: %w", sqldb.Classify(err))
	}
	return nil
}
