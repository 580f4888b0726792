package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/promptgate/promptgate/internal/journal"
)

type restoreCmd struct {
	settings
	Accept bool `help:"Take the database as it is now for the newest: keys that were revoked after the backup are valid again, labels point where they did."`
}

// Help implements kong's detailed help.
func (restoreCmd) Help() string {
	return "A gateway keeps the newest revision that it saw in its data folder and refuses a database that is older, or has another history: " +
		"who can write the database could else bring back what was revoked. After a backup was restored on purpose, stop every gateway, " +
		"run this with the data folder of each, then start them."
}

// Run verifies the database and notes its revision as the newest that was seen here.
func (c restoreCmd) Run(ctx context.Context, io *streams) error {
	if !c.Accept {
		return errUsage{errors.New("this makes an older database count: look at what it holds (`promptgate audit verify`), then pass --accept")}
	}
	cfg, err := c.load(nil)
	if err != nil {
		return err
	}
	s, err := openStoresAs(ctx, cfg, logger(cfg, io.err), nil, opening{whateverAge: true})
	if err != nil {
		return err
	}
	defer s.close()
	head, err := verifyAll(ctx, s, io)
	if err != nil {
		return err
	}
	if err := journal.WriteSeen(cfg.Data, s.sealer, journal.Seen{Anchor: head, Since: head.Revision}); err != nil {
		return err
	}
	// What was served last is from a future that is gone.
	if err := os.Remove(filepath.Join(cfg.Data, lastKnownName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err = fmt.Fprintf(io.out, "revision %d is the newest from now on; start the gateway\n", head.Revision)
	return err
}
