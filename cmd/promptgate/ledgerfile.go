package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/internal/sqldb"
)

// openLedgerFile opens and migrates the ledger's own file. A file that is damaged, or another database, is set aside with its log: figures and lists begin
// anew, calls go on being served and recorded, and what the old file still holds can be read from its copy. aside is where it was put, "" when it is
// sound.
func openLedgerFile(ctx context.Context, cfg configs.Config, log *slog.Logger) (db *sqldb.DB, aside string, err error) {
	file, marker := filepath.Join(cfg.Data, "ledger.db"), damageMarker(cfg)
	var damage error
	if _, missing := os.Stat(marker); missing == nil {
		damage = errors.New("damage was met while calls were recorded")
	} else {
		db, err = soundLedger(ctx, cfg, log)
		if err == nil || !sqldb.IsDamaged(err) && !errors.Is(err, errOtherDatabase) {
			return db, "", err
		}
		damage = err
	}
	aside = file + ".damaged-" + time.Now().UTC().Format("20060102T150405Z")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if moved := os.Rename(file+suffix, aside+suffix); moved != nil && !os.IsNotExist(moved) {
			return nil, "", fmt.Errorf("the ledger is damaged (%w) and cannot be set aside: %w", damage, moved)
		}
	}
	if err := os.Remove(marker); err != nil && !os.IsNotExist(err) {
		return nil, "", fmt.Errorf("the mark that the ledger was damaged cannot be removed, and the next start would set the new one aside: %w", err)
	}
	log.Error("the ledger is damaged: it is set aside and a new one begun; recorded calls and figures before this start are not shown any more",
		"kept_as", aside, "error", damage)
	db, err = soundLedger(ctx, cfg, log)
	return db, aside, err
}

// damageMarker is the file that tells the next start of damage that this one met: a short look at the start does not find what stands in the middle.
func damageMarker(cfg configs.Config) string { return filepath.Join(cfg.Data, "ledger.db.damaged") }

// errOtherDatabase says that the file, or the log beside it, is of another database.
var errOtherDatabase = errors.New("the file holds tables that are not the ledger's")

// soundLedger opens the file and reads a little of each table: damage shows where a page is read.
func soundLedger(ctx context.Context, cfg configs.Config, log *slog.Logger) (*sqldb.DB, error) {
	db, err := sqldb.Open(ctx, sqldb.Options{URL: cfg.LedgerURL()})
	if err != nil {
		return nil, err
	}
	if err = sqldb.Sound(ctx, db); err == nil { // before anything is written to it, or taken for something else than damage
		err = ownTables(ctx, db)
	}
	if err == nil {
		err = sqldb.Migrate(ctx, db, log, sqldb.Ledger)
	}
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}

func ownTables(ctx context.Context, db *sqldb.DB) error {
	var tables []string
	if err := db.NewRaw("SELECT name FROM sqlite_schema WHERE type = 'table'").Scan(ctx, &tables); err != nil {
		return err
	}
	for _, table := range tables {
		if !strings.HasPrefix(table, "metrics_") && !strings.HasPrefix(table, "goose_") && !strings.HasPrefix(table, "sqlite_") {
			return fmt.Errorf("%w: %s", errOtherDatabase, table)
		}
	}
	return nil
}
