package seal_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
)

func newKey(fill byte) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32))
}

func TestFirstStartWritesTheMasterKey(t *testing.T) {
	db, dir := testenv.Open(t, testenv.SQLite(t)), filepath.Join(t.TempDir(), "data")
	var log bytes.Buffer
	o := seal.Options{DataDir: dir, AllowCreate: true, Log: slog.New(slog.NewTextHandler(&log, nil))}
	s, err := seal.OpenKeys(t.Context(), db, o)
	require.NoError(t, err)

	path := filepath.Join(dir, "master.key")
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Contains(t, log.String(), path, "it says so")
	assert.Contains(t, log.String(), "backup")
	assert.NotContains(t, log.String(), strings.TrimSpace(string(text)))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, left, 1, "no temporary file stays")

	sealed, err := s.Seal([]byte("kept"), place)
	require.NoError(t, err)
	log.Reset()
	again, err := seal.OpenKeys(t.Context(), db, o)
	require.NoError(t, err)
	assert.Empty(t, log.String())
	opened, err := again.Open(sealed, place)
	require.NoError(t, err)
	assert.Equal(t, "kept", string(opened))
	assert.Equal(t, s.DeriveKey("x"), again.DeriveKey("x"))
}

func TestRefusesToStart(t *testing.T) {
	withKeys := func(t *testing.T) *sqldb.DB {
		db := testenv.Open(t, testenv.SQLite(t))
		_, err := seal.OpenKeys(t.Context(), db, seal.Options{Key: newKey(1)})
		require.NoError(t, err)
		return db
	}
	empty := func(t *testing.T) *sqldb.DB { return testenv.Open(t, testenv.SQLite(t)) }
	orphaned := func(t *testing.T) *sqldb.DB {
		db := empty(t)
		_, err := db.ExecContext(t.Context(), "UPDATE journal_head SET revision = 7")
		require.NoError(t, err)
		return db
	}
	damaged := func(column string) func(t *testing.T) *sqldb.DB {
		return func(t *testing.T) *sqldb.DB {
			db := withKeys(t)
			_, err := db.ExecContext(t.Context(), "UPDATE journal_keyset SET "+column+" = X'00'")
			require.NoError(t, err)
			return db
		}
	}
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "key")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	for name, c := range map[string]struct {
		db   func(t *testing.T) *sqldb.DB
		o    seal.Options
		says string
	}{
		"data without its key":     {withKeys, seal.Options{DataDir: t.TempDir(), AllowCreate: true}, "put the key back"},
		"wrong key":                {withKeys, seal.Options{Key: newKey(2)}, "not the master key"},
		"wrong key in a file":      {withKeys, seal.Options{KeyFile: file(newKey(2))}, "not the master key"},
		"no key configured":        {empty, seal.Options{}, "configure a key"},
		"no key, may not make one": {empty, seal.Options{DataDir: t.TempDir()}, "configure a key"},
		"named key file missing":   {empty, seal.Options{KeyFile: "/nonexistent/key", AllowCreate: true}, "does not exist"},
		"key and key file":         {empty, seal.Options{Key: newKey(1), KeyFile: file(newKey(1))}, "keep one"},
		"key too short":            {empty, seal.Options{Key: base64.StdEncoding.EncodeToString([]byte("short"))}, "32 bytes"},
		"key is no base64":         {empty, seal.Options{KeyFile: file("%%%")}, "32 bytes"},
		"keys lost from database":  {orphaned, seal.Options{Key: newKey(1)}, "journal_keyset is empty"},
		"keyset damaged":           {damaged("keyset"), seal.Options{Key: newKey(1)}, "restore them"},
		"root damaged":             {damaged("root"), seal.Options{Key: newKey(1)}, "restore them"},
	} {
		t.Run(name, func(t *testing.T) {
			db := c.db(t)
			_, err := seal.OpenKeys(t.Context(), db, c.o)
			require.ErrorContains(t, err, c.says)
			if c.o.DataDir != "" {
				assert.NoFileExists(t, filepath.Join(c.o.DataDir, "master.key"))
			}
		})
	}
}

func TestMasterKeySpellings(t *testing.T) {
	db := testenv.Open(t, testenv.SQLite(t))
	raw := bytes.Repeat([]byte{0xfb, 0xff}, 16) // has both of the characters in which the alphabets differ
	for _, text := range []string{
		base64.StdEncoding.EncodeToString(raw), base64.RawStdEncoding.EncodeToString(raw),
		base64.URLEncoding.EncodeToString(raw), "  " + base64.RawURLEncoding.EncodeToString(raw) + "\n",
	} {
		_, err := seal.OpenKeys(t.Context(), db, seal.Options{Key: text})
		require.NoError(t, err, "%q", text)
	}
}

func TestWarnsOfAReadableKeyFile(t *testing.T) {
	db := testenv.Open(t, testenv.SQLite(t))
	path := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(path, []byte(newKey(1)), 0o644))
	var log bytes.Buffer
	_, err := seal.OpenKeys(t.Context(), db, seal.Options{KeyFile: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	assert.Contains(t, log.String(), "chmod 600")
}

func TestRacingFirstStartsAgree(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		testenv.Open(t, url)
		const racers = 8
		dir := t.TempDir()
		sealers := make([]*seal.Sealer, racers)
		var wg sync.WaitGroup
		for i := range racers {
			db := testenv.Open(t, url) // a pool of its own, as another process has
			wg.Go(func() {
				var err error
				sealers[i], err = seal.OpenKeys(t.Context(), db, seal.Options{DataDir: dir, AllowCreate: true})
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		require.False(t, t.Failed())
		sealed, err := sealers[0].Seal([]byte("x"), place)
		require.NoError(t, err)
		for _, s := range sealers {
			_, err := s.Open(sealed, place)
			require.NoError(t, err)
			require.Equal(t, sealers[0].DeriveKey("p"), s.DeriveKey("p"))
		}
	})
}

func TestRotation(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		db := testenv.Open(t, url)
		now := time.Now()
		o := seal.Options{Key: newKey(1), Clock: func() time.Time { return now }}
		here, err := seal.OpenKeys(t.Context(), db, o)
		require.NoError(t, err)
		there, err := seal.OpenKeys(t.Context(), db, o)
		require.NoError(t, err)
		old, err := here.Seal([]byte("old"), place)
		require.NoError(t, err)
		first, derived := here.Primary(""), here.DeriveKey("p")

		var id uint32
		require.NoError(t, db.Write(t.Context(), func(ctx context.Context, tx bun.Tx) error {
			id, err = here.AddKey(ctx, tx, "")
			return err
		}))
		require.NoError(t, here.Reload(t.Context()))
		require.Equal(t, first, here.Primary(""), "a new key opens before it seals")
		require.NoError(t, db.Write(t.Context(), func(ctx context.Context, tx bun.Tx) error { return here.Promote(ctx, tx, "", id) }))
		require.NoError(t, here.Reload(t.Context()))
		require.Equal(t, id, here.Primary(""))

		sealed, err := here.Seal([]byte("new"), place)
		require.NoError(t, err)
		got, ok := seal.KeyID(sealed)
		require.True(t, ok)
		require.Equal(t, id, got)
		opened, err := there.Open(sealed, place)
		require.NoError(t, err, "a replica that has not heard of the rotation looks for the key")
		require.Equal(t, "new", string(opened))
		for _, s := range []*seal.Sealer{here, there} {
			opened, err := s.Open(old, place)
			require.NoError(t, err)
			require.Equal(t, "old", string(opened))
			require.Equal(t, derived, s.DeriveKey("p"), "derived keys survive rotation")
		}
	})
}

func TestRotationRollsBackWithItsTransaction(t *testing.T) {
	db := testenv.Open(t, testenv.SQLite(t))
	s, err := seal.OpenKeys(t.Context(), db, seal.Options{Key: newKey(1)})
	require.NoError(t, err)
	before := s.Primary("")
	err = db.Write(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		id, err := s.AddKey(ctx, tx, "")
		require.NoError(t, err)
		require.NoError(t, s.Promote(ctx, tx, "", id))
		return context.Canceled
	})
	require.Error(t, err)
	require.NoError(t, s.Reload(t.Context()))
	require.Equal(t, before, s.Primary(""))
}

func TestPromoteOfAnUnknownKey(t *testing.T) {
	db := testenv.Open(t, testenv.SQLite(t))
	s, err := seal.OpenKeys(t.Context(), db, seal.Options{Key: newKey(1)})
	require.NoError(t, err)
	err = db.Write(t.Context(), func(ctx context.Context, tx bun.Tx) error { return s.Promote(ctx, tx, "", s.Primary("")+1) })
	require.True(t, fault.Is(err, fault.NotFound), "%v", err)
}

// While the master key is being replaced, processes with the old one and with the new one start and work; afterwards the new one alone does.
func TestRewrap(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		db := testenv.Open(t, url)
		change := func(f func(ctx context.Context, tx bun.Tx) error) error { return db.Write(t.Context(), f) }
		open := func(key byte) (*seal.Sealer, error) {
			return seal.OpenKeys(t.Context(), db, seal.Options{Key: newKey(key)})
		}
		finish := func(s *seal.Sealer) func(context.Context, bun.Tx) error {
			return func(ctx context.Context, tx bun.Tx) error { return s.FinishRewrap(ctx, tx) }
		}
		old, err := open(1)
		require.NoError(t, err)
		require.NoError(t, change(func(ctx context.Context, tx bun.Tx) error { return old.AddProject(ctx, tx, "p1") }))
		require.NoError(t, old.Reload(t.Context()))
		sealed, err := old.Seal([]byte("x"), place)
		require.NoError(t, err)
		_, err = old.PrepareRewrap(t.Context(), seal.Options{Key: newKey(1)})
		require.True(t, fault.Is(err, fault.Conflict), "%v", err)
		require.True(t, fault.Is(change(finish(old)), fault.Conflict), "nothing to finish")

		next, err := old.PrepareRewrap(t.Context(), seal.Options{Key: newKey(2)})
		require.NoError(t, err)
		rewrap := func(ctx context.Context, tx bun.Tx) error { return old.Rewrap(ctx, tx, next) }
		require.NoError(t, change(rewrap))
		require.True(t, fault.Is(change(rewrap), fault.Conflict), "one at a time")
		err = change(func(ctx context.Context, tx bun.Tx) error { _, err := old.AddKey(ctx, tx, ""); return err })
		require.ErrorContains(t, err, "finish that first", "a key that one of the copies lacks would be lost")
		require.True(t, fault.Is(change(finish(old)), fault.Conflict), "with the old key")
		for key := range byte(2) {
			s, err := open(key + 1)
			require.NoError(t, err)
			require.NoError(t, s.Reload(t.Context()))
			opened, err := s.Open(sealed, place)
			require.NoError(t, err)
			require.Equal(t, "x", string(opened))
			require.Equal(t, old.DeriveKey("p"), s.DeriveKey("p"))
		}
		fresh, err := open(2)
		require.NoError(t, err)
		require.NoError(t, change(finish(fresh)))
		_, err = open(1)
		require.ErrorContains(t, err, "not the master key")
		require.Error(t, old.Reload(t.Context()))
		_, err = old.Open(sealed, place)
		require.NoError(t, err, "what is in memory goes on")
		again, err := open(2)
		require.NoError(t, err)
		_, err = again.Open(sealed, place)
		require.NoError(t, err)
	})
}

func TestOpenWithTheDatabaseGone(t *testing.T) {
	db := testenv.Open(t, testenv.SQLite(t))
	s, err := seal.OpenKeys(t.Context(), db, seal.Options{Key: newKey(1)})
	require.NoError(t, err)
	sealed, err := s.Seal([]byte("x"), place)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	_, err = s.Open(sealed, place)
	require.NoError(t, err, "known keys need no database")
	sealed[1] ^= 1
	_, err = s.Open(sealed, place)
	require.ErrorIs(t, err, seal.ErrOpen)
}
