package sqldb

import (
	"context"
	"io/fs"
)

// UpFS runs the migrations in files as if they were Main.
func UpFS(ctx context.Context, db *DB, files fs.FS) error {
	p, err := providerFS(db, Main, files)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// LockMigrations is lockMigrations.
func LockMigrations(ctx context.Context, db *DB) (release func(), err error) {
	return db.lockMigrations(ctx)
}
