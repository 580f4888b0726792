package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/internal/sqldb"
)

// TestADamagedLedgerDoesNotStopTheStart: it is set aside, told of, and a new one begun; a sound one stays.
func TestADamagedLedgerDoesNotStopTheStart(t *testing.T) {
	other := otherDatabase(t)
	for name, damage := range map[string]func(b []byte) []byte{
		"a page":         func(b []byte) []byte { copy(b[4096:8192], strings.Repeat("\xff", 4096)); return b },
		"the first page": func(b []byte) []byte { copy(b[100:4096], strings.Repeat("\xa5", 3996)); return b },
		"no database":    func([]byte) []byte { return []byte(strings.Repeat("this is no database. ", 1000)) },
		"cut":            func(b []byte) []byte { return b[:len(b)/2] },
		"nothing at all": func([]byte) []byte { return nil },
		"another one":    func([]byte) []byte { return other },
		"met before":     func(b []byte) []byte { return b },
		"untouched":      func(b []byte) []byte { return b },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := configs.Default()
			cfg.Data = t.TempDir()
			db, aside, err := openLedgerFile(t.Context(), cfg, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			require.Empty(t, aside)
			_, err = db.NewRaw("INSERT INTO metrics_calls (id, block) VALUES ('call_1', 1)").Exec(t.Context())
			require.NoError(t, err)
			_, err = db.NewRaw("PRAGMA wal_checkpoint(TRUNCATE)").Exec(t.Context())
			require.NoError(t, err)
			require.NoError(t, db.Close())
			file := filepath.Join(cfg.Data, "ledger.db")
			b, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(file, damage(b), 0o600))
			if name == "met before" {
				require.NoError(t, os.WriteFile(damageMarker(cfg), nil, 0o600))
			}

			var log strings.Builder
			db, aside, err = openLedgerFile(context.Background(), cfg, slog.New(slog.NewTextHandler(&log, nil)))
			require.NoError(t, err)
			defer db.Close()
			var n int
			require.NoError(t, db.NewRaw("SELECT COUNT(*) FROM metrics_calls").Scan(t.Context(), &n))
			switch name {
			case "untouched":
				require.Equal(t, 1, n)
				require.Empty(t, aside)
			case "nothing at all": // a file of no bytes is a new one
				require.Empty(t, aside)
			default:
				require.Zero(t, n)
				require.FileExists(t, aside)
				require.Contains(t, log.String(), "set aside")
				require.NoFileExists(t, damageMarker(cfg), "else the next start would do it again")
			}
			_, err = db.NewRaw("INSERT INTO metrics_calls (id, block) VALUES ('call_2', 1)").Exec(t.Context())
			require.NoError(t, err)
		})
	}
}

// otherDatabase is the file of a sound database that is no ledger.
func otherDatabase(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "other.db")
	db, err := sqldb.Open(t.Context(), sqldb.Options{URL: "sqlite:" + path})
	require.NoError(t, err)
	for _, statement := range []string{"CREATE TABLE metrics_calls (x TEXT)", "CREATE TABLE policy_keys (x TEXT)", "PRAGMA wal_checkpoint(TRUNCATE)"} {
		_, err = db.NewRaw(statement).Exec(t.Context())
		require.NoError(t, err)
	}
	require.NoError(t, db.Close())
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

// TestAForeignLogIsNoLedger: the write-ahead log of another database beside the ledger's file does not stop the start.
func TestAForeignLogIsNoLedger(t *testing.T) {
	cfg := configs.Default()
	cfg.Data = t.TempDir()
	log := slog.New(slog.DiscardHandler)
	db, _, err := openLedgerFile(t.Context(), cfg, log)
	require.NoError(t, err)
	require.NoError(t, db.Close())

	path := filepath.Join(t.TempDir(), "other.db")
	other, err := sqldb.Open(t.Context(), sqldb.Options{URL: "sqlite:" + path})
	require.NoError(t, err)
	_, err = other.NewRaw("CREATE TABLE policy_keys (x TEXT)").Exec(t.Context())
	require.NoError(t, err)
	wal, err := os.ReadFile(path + "-wal")
	require.NoError(t, err)
	require.NoError(t, other.Close())
	require.NotEmpty(t, wal)
	require.NoError(t, os.WriteFile(filepath.Join(cfg.Data, "ledger.db-wal"), wal, 0o600))

	db, aside, err := openLedgerFile(t.Context(), cfg, log)
	require.NoError(t, err)
	defer db.Close()
	require.FileExists(t, aside)
	_, err = db.NewRaw("INSERT INTO metrics_calls (id, block) VALUES ('call_1', 1)").Exec(t.Context())
	require.NoError(t, err)
}

// TestDamageThatARunMeets: the next start is told of it.
func TestDamageThatARunMeets(t *testing.T) {
	cfg := configs.Default()
	cfg.Data = t.TempDir()
	r := &recording{ownsDB: true}
	require.NoError(t, r.whole(t.Context()))
	r.onDamage(cfg, slog.New(slog.DiscardHandler))(errors.New("a page"))
	require.FileExists(t, damageMarker(cfg))
	require.ErrorContains(t, r.whole(t.Context()), "restart")
	require.Nil(t, (&recording{}).onDamage(cfg, nil), "PostgreSQL keeps its own files")
}
