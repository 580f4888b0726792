package sqldb

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

const (
	fileMode = 0o600
	dirMode  = 0o700
)

// prepareFile makes path absolute and the file exist, readable by its owner only. SQLite gives the -wal and -shm files beside
// it the same mode.
func prepareFile(path string) (string, error) {
	path = strings.TrimPrefix(path, "//") // sqlite:///abs and sqlite:/abs are the same file
	if path == "" || strings.HasPrefix(path, ":memory:") {
		return "", errors.New("database URL must name a file: sqlite:<path>")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("database path: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return "", fmt.Errorf("database directory: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return "", fmt.Errorf("database file: %w", err)
	}
	defer f.Close()
	if err := f.Chmod(fileMode); err != nil { // a file from an older or careless hand
		return "", fmt.Errorf("database file: %w", err)
	}
	return path, nil
}

// sqliteDSN is the driver's name for a file. synchronous(FULL) makes an acknowledged commit survive a power cut in WAL mode;
// secure_delete overwrites what is deleted, or shredding would leave the bytes in the file;
// wal_autocheckpoint (pages, 16 MB) writes a page that many commits change once for several of them;
// txlock immediate takes the write lock at BEGIN, so that a transaction that read cannot fail for having to upgrade.
func sqliteDSN(path string, noSync bool) string {
	synchronous := "synchronous(FULL)"
	if noSync {
		synchronous = "synchronous(OFF)"
	}
	q := url.Values{
		"_pragma": {
			"busy_timeout(5000)", "journal_mode(WAL)", synchronous, "foreign_keys(1)",
			"journal_size_limit(67108864)", "wal_autocheckpoint(4000)", "secure_delete(1)",
		},
		"_txlock":      {"immediate"},
		"_time_format": {"sqlite"},
	}
	return "file:" + escapePath(path) + "?" + q.Encode()
}

// escapePath writes a path as SQLite's URI syntax wants it.
func escapePath(path string) string {
	return (&url.URL{Path: path}).EscapedPath()
}

// Sound walks both ends of every table and index of an SQLite database, so that damage shows now (IsDamaged) and not at the first call that meets it. It
// costs a few pages for each, however large they are: what is damaged in the middle of them stays for a full check to find.
func Sound(ctx context.Context, db *DB) error {
	var tables []string
	if err := db.NewRaw("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").Scan(ctx, &tables); err != nil {
		return err
	}
	for _, table := range tables {
		for _, order := range []string{"ASC", "DESC"} {
			var n int
			query := fmt.Sprintf("SELECT COUNT(*) FROM (SELECT * FROM %q ORDER BY 1 %s LIMIT 100)", table, order)
			if err := db.NewRaw(query).Scan(ctx, &n); err != nil {
				return err
			}
		}
	}
	return nil
}
