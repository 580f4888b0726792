package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/promptgate/promptgate/configs"
	"github.com/promptgate/promptgate/internal/sqldb"
)

type migrateCmd struct {
	Up     migrateUpCmd     `cmd:"" help:"Bring the schema up to this binary's. serve does it too."`
	Status migrateStatusCmd `cmd:"" help:"List the migrations and when they were applied."`
	Down   migrateDownCmd   `cmd:"" help:"Undo the last migration: data in what it removes is lost."`
}

type migrateUpCmd struct {
	settings
	Init bool `help:"Begin a new installation where there is none."`
}

// Run migrates.
func (c migrateUpCmd) Run(ctx context.Context, io *streams) error {
	return c.each(ctx, c.Init, func(db *sqldb.DB, set sqldb.Set, cfg configs.Config) error {
		return sqldb.Migrate(ctx, db, logger(cfg, io.err), set)
	})
}

type migrateStatusCmd struct{ settings }

// Run prints a line for each migration.
func (c migrateStatusCmd) Run(ctx context.Context, io *streams) error {
	w := newTable(io.out, "SET", "VERSION", "NAME", "APPLIED")
	err := c.each(ctx, false, func(db *sqldb.DB, set sqldb.Set, _ configs.Config) error {
		list, err := sqldb.Status(ctx, db, set)
		for _, m := range list {
			at := "pending"
			if m.Applied {
				at = stamp(m.At)
			}
			w.row(m.Set, m.Version, m.Name, at)
		}
		return err
	})
	return errors.Join(err, w.flush())
}

type migrateDownCmd struct {
	settings
	Set string `help:"Which schema." enum:"main,ledger" default:"main"`
	Yes bool   `help:"Really."`
}

// Run undoes one migration.
func (c migrateDownCmd) Run(ctx context.Context, _ *streams) error {
	if !c.Yes {
		return errUsage{errors.New("data in the tables that the last migration made will be lost; stop every gateway, take a backup, then pass --yes")}
	}
	return c.each(ctx, false, func(db *sqldb.DB, set sqldb.Set, _ configs.Config) error {
		if string(set) != c.Set {
			return nil
		}
		return sqldb.Down(ctx, db, set)
	})
}

// each opens the database of each set in turn. Without create there must be one already.
func (s settings) each(ctx context.Context, create bool, fn func(*sqldb.DB, sqldb.Set, configs.Config) error) error {
	cfg, err := s.load(nil)
	if err != nil {
		return err
	}
	for set, url := range map[sqldb.Set]string{sqldb.Main: cfg.DatabaseURL(), sqldb.Ledger: cfg.LedgerURL()} {
		if name, file := strings.CutPrefix(url, "sqlite:"); file && !create {
			name, _, _ = strings.Cut(strings.TrimPrefix(name, "//"), "?")
			if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
				return notInstalled(name, "; `promptgate serve` and `promptgate migrate up --init` begin one")
			}
		}
		db, err := sqldb.Open(ctx, sqldb.Options{URL: url})
		if err != nil {
			return err
		}
		err = errors.Join(fn(db, set, cfg), db.Close())
		if err != nil {
			return fmt.Errorf("%s: %w", set, err)
		}
	}
	return nil
}
