package sqlstore_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/policy/policytest"
	"github.com/promptgate/promptgate/policy/sqlstore"
)

func TestSQLite(t *testing.T) {
	policytest.KeyStore(t, func(t *testing.T) policytest.Env {
		return open(t, "sqlite:"+filepath.Join(t.TempDir(), "promptgate.db"))
	})
}

func TestPostgres(t *testing.T) {
	policytest.KeyStore(t, func(t *testing.T) policytest.Env { return open(t, testenv.Postgres(t)) })
}

func open(t *testing.T, url string) policytest.Env {
	t.Helper()
	ctx := context.Background()
	db, err := sqldb.Open(ctx, sqldb.Options{URL: url})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, sqldb.Migrate(ctx, db, slog.New(slog.DiscardHandler)))
	sealer, err := seal.OpenKeys(ctx, db, seal.Options{DataDir: t.TempDir(), AllowCreate: true, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	j := journal.New(db, sealer, journal.Options{})
	var mu sync.Mutex
	var changes []journal.Change
	j.Subscribe(func(c journal.Change) {
		mu.Lock()
		defer mu.Unlock()
		changes = append(changes, c)
	})
	require.NoError(t, j.Load(ctx))
	return policytest.Env{
		Store: sqlstore.New(db, j, nil),
		Changes: func() []journal.Change {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(changes)
		},
	}
}
