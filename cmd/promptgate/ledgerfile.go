package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/internal/sqldb"
)

// openLedgerFile opens and migrates the ledger's own file. A file that is damaged is set aside with its log: figures and lists begin anew, calls go on
// being served and recorded, and what the old file still holds can be read from its copy. aside is where it was put, "" when it is sound.
func openLedgerFile(ctx context.Context, cfg configs.Config, log *slog.Logger) (db *sqldb.DB, aside string, err error) {
	db, err = soundLedger(ctx, cfg, log)
	if err == nil || !sqldb.IsDamaged(err) {
		return db, "", err
	}
	file := filepath.Join(cfg.Data, "ledger.db")
	aside = file + ".damaged-" + time.Now().UTC().Format("20060102T150405Z")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if moved := os.Rename(file+suffix, aside+suffix); moved != nil && !os.IsNotExist(moved) {
			return nil, "", fmt.Errorf("the ledger is damaged (%w) and cannot be set aside: %w", err, moved)
		}
	}
	log.Error("the ledger is damaged: it is set aside and a new one begun; recorded calls and figures before this start are not shown any more",
		"kept_as", aside, "error", err)
	db, err = soundLedger(ctx, cfg, log)
	return db, aside, err
}

// soundLedger opens the file and reads a little of each table: damage shows where a page is read.
func soundLedger(ctx context.Context, cfg configs.Config, log *slog.Logger) (*sqldb.DB, error) {
	db, err := sqldb.Open(ctx, sqldb.Options{URL: cfg.LedgerURL()})
	if err != nil {
		return nil, err
	}
	if err = sqldb.Sound(ctx, db); err == nil { // before anything is written to it, or taken for something else than damage
		err = sqldb.Migrate(ctx, db, log, sqldb.Ledger)
	}
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}
