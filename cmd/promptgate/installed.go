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

// installed refuses, and creates nothing, where the configuration names no installation or one of another schema: a mistyped folder must not look
// like an installation that has nothing in it. remedy says what else the command can do.
func installed(ctx context.Context, cfg configs.Config, remedy string) error {
	where := "the database of database.url"
	if name, found := strings.CutPrefix(cfg.DatabaseURL(), "sqlite:"); found {
		name, _, _ = strings.Cut(strings.TrimPrefix(name, "//"), "?")
		where = name
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return notInstalled(where, remedy)
		} else if err != nil {
			return err
		}
	}
	db, err := sqldb.Open(ctx, sqldb.Options{URL: cfg.DatabaseURL()})
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := db.PingContext(ctx); err != nil {
		return sqldb.Classify(err)
	}
	if _, err := db.ExecContext(ctx, "SELECT 1 FROM journal_head"); err != nil {
		return notInstalled(where, remedy)
	}
	steps, err := sqldb.Status(ctx, db)
	for _, step := range steps {
		if !step.Applied {
			return fmt.Errorf("%s has an older schema: start the gateway, or run `promptgate migrate up`, first", where)
		}
	}
	return err
}

func notInstalled(where, remedy string) error {
	return errUsage{fmt.Errorf("%s: there is no installation here, and nothing was created; name one with --data or --config%s", where, remedy)}
}
