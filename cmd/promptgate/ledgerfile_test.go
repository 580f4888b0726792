package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/configs"
)

// TestADamagedLedgerDoesNotStopTheStart: it is set aside, told of, and a new one begun; a sound one stays.
func TestADamagedLedgerDoesNotStopTheStart(t *testing.T) {
	for name, damage := range map[string]func(b []byte) []byte{
		"a page":         func(b []byte) []byte { copy(b[4096:8192], strings.Repeat("\xff", 4096)); return b },
		"the first page": func(b []byte) []byte { copy(b[100:4096], strings.Repeat("\xa5", 3996)); return b },
		"no database":    func([]byte) []byte { return []byte(strings.Repeat("this is no database. ", 1000)) },
		"cut":            func(b []byte) []byte { return b[:len(b)/2] },
		"nothing at all": func([]byte) []byte { return nil },
		"untouched":      func(b []byte) []byte { return b },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := configs.Default()
			cfg.Data = t.TempDir()
			db, aside, err := openLedgerFile(t.Context(), cfg, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			require.Empty(t, aside)
			_, err = db.NewRaw("INSERT INTO metrics_calls VALUES ('call_1', 0, 1)").Exec(t.Context())
			require.NoError(t, err)
			_, err = db.NewRaw("PRAGMA wal_checkpoint(TRUNCATE)").Exec(t.Context())
			require.NoError(t, err)
			require.NoError(t, db.Close())
			file := filepath.Join(cfg.Data, "ledger.db")
			b, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(file, damage(b), 0o600))

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
			}
			_, err = db.NewRaw("INSERT INTO metrics_calls VALUES ('call_2', 0, 1)").Exec(t.Context())
			require.NoError(t, err)
		})
	}
}
