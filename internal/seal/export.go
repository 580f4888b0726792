package seal

import (
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/promptgate/promptgate/internal/sqldb"
)

// exported is the keyset row as a snapshot keeps it: sealed by the master key, as in the database.
type exported struct {
	Master    string `json:"master"`
	Keyset    []byte `json:"keyset"`
	Root      []byte `json:"root"`
	Revision  int64  `json:"revision"`
	CreatedAt int64  `json:"created_at"`
}

// Export is the data keys as the database holds them, sealed by the master key: enough for OpenExported to open what was sealed while
// the database is down.
func (s *Sealer) Export() ([]byte, error) {
	r := s.keys.Load().stored
	if r == nil {
		return nil, errors.New("seal: these keys were not read from a database")
	}
	return json.Marshal(exported{r.Master, r.Keyset, r.Root, r.Revision, r.CreatedAt})
}

// OpenExported is OpenKeys without asking the database: with the keys that Export gave. The master key must be the same.
func OpenExported(blob []byte, db *sqldb.DB, o Options) (*Sealer, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	var e exported
	if err := json.Unmarshal(blob, &e); err != nil {
		return nil, errors.New("seal: the exported keys cannot be read")
	}
	m, err := findMaster(o, true)
	if err != nil {
		return nil, err
	}
	return unseal(db, m, &row{ID: 1, Master: e.Master, Keyset: e.Keyset, Root: e.Root, Revision: e.Revision, CreatedAt: e.CreatedAt}, o.Clock)
}
