package journal_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
)

func TestSmoke(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	db, err := sqldb.Open(ctx, sqldb.Options{URL: "sqlite:" + filepath.Join(dir, "a b?#%.db")})
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, sqldb.Migrate(ctx, db, slog.Default()))
	require.NoError(t, sqldb.Migrate(ctx, db, slog.Default(), sqldb.Main, sqldb.Ledger))
	s, err := seal.OpenKeys(ctx, db, seal.Options{DataDir: dir, AllowCreate: true, Log: slog.Default()})
	require.NoError(t, err)
	j := journal.New(db, s, journal.Options{})
	var got []int64
	j.Subscribe(func(c journal.Change) { got = append(got, c.Revision) })
	require.NoError(t, j.Load(ctx))
	for i := range 3 {
		rev, err := j.Change(ctx, &journal.Event{Action: "x.y", Before: nil, After: map[string]int{"a": i}}, func(ctx context.Context, tx bun.Tx) error { return nil })
		require.NoError(t, err)
		require.EqualValues(t, i+1, rev)
	}
	require.Equal(t, []int64{1, 2, 3}, got)
	require.WithinDuration(t, time.Now(), j.ConfirmedAt(), time.Second)
	st, err := sqldb.Status(ctx, db)
	require.NoError(t, err)
	t.Log(st)
	require.NoError(t, sqldb.Down(ctx, db))
}
