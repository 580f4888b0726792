package sqlstore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/registry/registrytest"
	"github.com/promptgate/promptgate/registry/sqlstore"
)

// opened is a store with what it stands on.
type opened struct {
	db      *sqldb.DB
	journal *journal.Journal
	store   *sqlstore.Store
}

func open(t testing.TB, url string) opened {
	t.Helper()
	db := testenv.Open(t, url)
	sealer := testenv.Sealer(t, db)
	j := journal.New(db, sealer, journal.Options{})
	require.NoError(t, j.Load(t.Context()))
	return opened{db: db, journal: j, store: sqlstore.New(db, j, sealer, sqlstore.Options{})}
}

func harness(t *testing.T, url string) registrytest.Harness {
	o := open(t, url)
	return registrytest.Harness{
		Store: o.store, Subscribe: o.journal.Subscribe,
		BreakJournal: func(t *testing.T) func() {
			rename := func(from, to string) {
				_, err := o.db.ExecContext(t.Context(), "ALTER TABLE "+from+" RENAME TO "+to)
				require.NoError(t, err)
			}
			rename("journal_events", "journal_broken")
			return func() { rename("journal_broken", "journal_events") }
		},
	}
}

func TestStoreSQLite(t *testing.T) {
	registrytest.Store(t, func(t *testing.T) registrytest.Harness { return harness(t, testenv.SQLite(t)) })
}

func TestStorePostgres(t *testing.T) {
	registrytest.Store(t, func(t *testing.T) registrytest.Harness { return harness(t, testenv.Postgres(t)) })
}
