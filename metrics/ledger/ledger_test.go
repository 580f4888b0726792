package ledger_test

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/metrics/ledger"
	"github.com/promptgate/promptgate/metrics/metricstest"
)

func TestMain(m *testing.M) {
	if child() {
		return
	}
	goleak.VerifyTestMain(m)
}

// open makes a ledger over url, whose sealer lives in a database of its own.
func open(t *testing.T, url string, change func(*ledger.Options)) *ledger.Ledger {
	t.Helper()
	o := ledger.Options{
		DB: testenv.Open(t, url, sqldb.Ledger), Dir: filepath.Join(t.TempDir(), "spool"), Log: slog.New(slog.DiscardHandler),
		Sealer: testenv.Sealer(t, testenv.Open(t, testenv.SQLite(t))),
	}
	if change != nil {
		change(&o)
	}
	l, err := ledger.Open(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close(t.Context()) })
	return l
}

func TestConformance(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, _ string) {
		fresh := testenv.SQLite
		if t.Name() == "TestConformance/postgres" {
			fresh = testenv.Postgres
		}
		metricstest.Run(t, func(t *testing.T) metricstest.Ledger { return open(t, fresh(t), nil) })
	})
}
