package seal

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/promptgate/promptgate/internal/sqldb"
)

// exported is the keyset row as a snapshot keeps it: sealed by the master key, as in the database. Shredded projects have no keys in it.
type exported struct {
	Master    string            `json:"master"`
	Keyset    []byte            `json:"keyset"`
	Root      []byte            `json:"root"`
	Revision  int64             `json:"revision"`
	CreatedAt int64             `json:"created_at"`
	Wraps     string            `json:"wraps,omitempty"`
	Previous  string            `json:"previous,omitempty"`
	Projects  map[string][]byte `json:"projects,omitempty"`
	Shredded  []string          `json:"shredded,omitempty"`
}

// Export is the data keys as the database holds them, sealed by the master key: enough for OpenExported to open what was sealed while
// the database is down.
func (s *Sealer) Export() ([]byte, error) {
	r := s.keys.Load().stored
	if r == nil {
		return nil, errors.New("seal: these keys were not read from a database")
	}
	e := exported{
		Master: r.Master, Keyset: r.Keyset, Root: r.Root, Revision: r.Revision, CreatedAt: r.CreatedAt, Wraps: r.Wraps, Previous: r.Previous,
		Projects: map[string][]byte{},
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for name, p := range s.projects {
		if p.ring == nil {
			e.Shredded = append(e.Shredded, name)
		} else {
			e.Projects[name] = p.stored.Keyset
		}
	}
	for name := range s.gone {
		e.Shredded = append(e.Shredded, name)
	}
	slices.SortFunc(e.Shredded, strings.Compare)
	e.Shredded = slices.Compact(e.Shredded)
	return json.Marshal(e)
}

// OpenExported is OpenKeys without asking the database: with the keys that Export gave. The master key must be the same; one that a key management
// service wraps is unwrapped by it, or by the recovery key.
func OpenExported(ctx context.Context, blob []byte, db *sqldb.DB, o Options) (*Sealer, error) {
	o = o.withDefaults()
	var e exported
	if err := json.Unmarshal(blob, &e); err != nil {
		return nil, errors.New("seal: the exported keys cannot be read")
	}
	r := &row{
		ID: 1, Master: e.Master, Keyset: e.Keyset, Root: e.Root, Revision: e.Revision, CreatedAt: e.CreatedAt, Wraps: e.Wraps, Previous: e.Previous,
	}
	m, err := findMaster(ctx, o, r)
	if err != nil {
		return nil, err
	}
	s, err := unseal(db, m, r, o)
	if err != nil {
		return nil, err
	}
	rows := make([]projectRow, 0, len(e.Projects))
	for name, keys := range e.Projects {
		rows = append(rows, projectRow{Project: name, Keyset: keys})
	}
	s.MarkShredded(e.Shredded...)
	return s, s.take(rows)
}
