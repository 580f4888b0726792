package seal_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
)

func openSealer(t *testing.T, db *sqldb.DB) *seal.Sealer {
	t.Helper()
	s, err := seal.OpenKeys(t.Context(), db, seal.Options{Key: newKey(1)})
	require.NoError(t, err)
	return s
}

func keyOf(t *testing.T, sealed []byte) uint32 {
	t.Helper()
	id, ok := seal.KeyID(sealed)
	require.True(t, ok)
	return id
}

func TestProjectsHaveKeysOfTheirOwn(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		db := testenv.Open(t, url)
		s, other := openSealer(t, db), openSealer(t, db)
		early, err := s.Seal([]byte("early"), place)
		require.NoError(t, err)
		require.Equal(t, s.Primary(""), keyOf(t, early), "a project without keys is sealed by the installation's")
		write := func(f func(ctx context.Context, tx bun.Tx) error) { require.NoError(t, db.Write(t.Context(), f)) }
		for range 2 { // the second does nothing
			write(func(ctx context.Context, tx bun.Tx) error { return s.AddProject(ctx, tx, "p1") })
		}
		write(func(ctx context.Context, tx bun.Tx) error { return s.AddProject(ctx, tx, "p2") })
		require.NoError(t, s.Reload(t.Context()))
		require.NotEqual(t, s.Primary(""), s.Primary("p1"))
		require.NotEqual(t, s.Primary("p2"), s.Primary("p1"))
		sealed, err := s.Seal([]byte("own"), place)
		require.NoError(t, err)
		require.Equal(t, s.Primary("p1"), keyOf(t, sealed))
		for _, at := range []*seal.Sealer{s, other, openSealer(t, db)} { // other has not heard of the keys
			for want, of := range map[string][]byte{"early": early, "own": sealed} {
				plain, err := at.Open(of, place)
				require.NoError(t, err)
				require.Equal(t, want, string(plain))
			}
			foreign := place
			foreign.Project = "p2"
			_, err = at.Open(sealed, foreign)
			require.ErrorIs(t, err, seal.ErrOpen)
		}

		// A rotation of the project's, then of the installation's which seals it.
		var id uint32
		write(func(ctx context.Context, tx bun.Tx) (err error) { id, err = s.AddKey(ctx, tx, "p1"); return err })
		write(func(ctx context.Context, tx bun.Tx) error { return s.Promote(ctx, tx, "p1", id) })
		require.NoError(t, s.Reload(t.Context()))
		require.Equal(t, id, s.Primary("p1"))
		var top uint32
		write(func(ctx context.Context, tx bun.Tx) (err error) { top, err = s.AddKey(ctx, tx, ""); return err })
		write(func(ctx context.Context, tx bun.Tx) error { return s.Promote(ctx, tx, "", top) })
		require.NoError(t, s.Reload(t.Context()))
		write(func(ctx context.Context, tx bun.Tx) error { return s.ResealKeys(ctx, tx, "p1") })
		held, err := s.Holdings(t.Context())
		require.NoError(t, err)
		require.Equal(t, top, held[0].Primary)
		require.Len(t, held, 3)
		require.Equal(t, top, held[1].SealedBy)
		require.NotEqual(t, top, held[2].SealedBy)
		require.Len(t, held[1].Keys, 2)
		require.NotZero(t, held[1].Keys[0].SealsUntil)
		again, err := openSealer(t, db).Open(sealed, place)
		require.NoError(t, err)
		require.Equal(t, "own", string(again))
		write(func(ctx context.Context, tx bun.Tx) error { return s.DropKey(ctx, tx, "p1", held[1].Keys[0].ID) })
		_, err = openSealer(t, db).Open(sealed, place)
		require.ErrorIs(t, err, seal.ErrOpen, "its key is gone")
		require.Error(t, db.Write(t.Context(), func(ctx context.Context, tx bun.Tx) error { return s.DropKey(ctx, tx, "p1", id) }), "the one that seals stays")
	})
}

func TestShreddedForGood(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		db := testenv.Open(t, url)
		s, other := openSealer(t, db), openSealer(t, db)
		early, err := s.Seal([]byte("early"), place)
		require.NoError(t, err)
		require.NoError(t, s.AddProject(t.Context(), db.DB, "p1"))
		require.NoError(t, s.Reload(t.Context()))
		require.NoError(t, other.Reload(t.Context()))
		sealed, err := s.Seal([]byte("x"), place)
		require.NoError(t, err)
		var kept []byte
		require.NoError(t, db.NewRaw("SELECT keyset FROM journal_project_keys").Scan(t.Context(), &kept))
		require.NoError(t, s.ShredProject(t.Context(), db.DB, "p1"))

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- other.Run(ctx) }()
		other.Changed("p1")
		require.Eventually(t, func() bool { return other.Shredded("p1") }, 10*time.Second, time.Millisecond)
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, s.Reload(t.Context()))
		for name, at := range map[string]*seal.Sealer{"here": s, "told": other, "anew": openSealer(t, db)} {
			for _, of := range [][]byte{sealed, early} {
				_, err = at.Open(of, place)
				require.ErrorIs(t, err, seal.ErrShredded, name)
			}
			_, err = at.Seal([]byte("new"), place)
			require.ErrorIs(t, err, seal.ErrShredded, name)
			_, err = at.Seal([]byte("new"), seal.Bind{Table: "t", Project: "p3"})
			require.NoError(t, err)
		}
		exported, err := s.Export()
		require.NoError(t, err)
		file, err := seal.OpenExported(t.Context(), exported, db, seal.Options{Key: newKey(1)})
		require.NoError(t, err)
		require.True(t, file.Shredded("p1"))
		require.False(t, file.Shredded("p3"))

		// Somebody puts the row back: nothing that runs believes it, and neither does a start that reads the chain (MarkShredded).
		_, err = db.ExecContext(t.Context(), "UPDATE journal_project_keys SET keyset = ?, revision = revision + 9", kept)
		require.NoError(t, err)
		require.NoError(t, s.Reload(t.Context()))
		_, err = s.Open(sealed, place)
		require.ErrorIs(t, err, seal.ErrShredded)
		anew := openSealer(t, db)
		anew.MarkShredded("p1")
		require.NoError(t, anew.Reload(t.Context()))
		_, err = anew.Open(sealed, place)
		require.ErrorIs(t, err, seal.ErrShredded)
	})
}

func TestFilesOutliveKeys(t *testing.T) {
	db := testenv.Open(t, testenv.SQLite(t))
	s := openSealer(t, db)
	at := seal.Bind{Table: "file", Row: "f"}
	before, err := s.Seal([]byte("earlier form"), at)
	require.NoError(t, err)
	sealed, err := s.SealFile([]byte("x"), at)
	require.NoError(t, err)
	plain, err := s.OpenFile(before, at)
	require.NoError(t, err)
	require.Equal(t, "earlier form", string(plain))
	old := s.Primary("")
	id, err := s.AddKey(t.Context(), db.DB, "")
	require.NoError(t, err)
	require.NoError(t, s.Promote(t.Context(), db.DB, "", id))
	require.NoError(t, s.DropKey(t.Context(), db.DB, "", old))
	anew := openSealer(t, db)
	_, err = anew.OpenFile(before, at)
	require.ErrorIs(t, err, seal.ErrOpen)
	plain, err = anew.OpenFile(sealed, at)
	require.NoError(t, err)
	require.Equal(t, "x", string(plain))
	_, err = anew.OpenFile(sealed, seal.Bind{Table: "file", Row: "g"})
	require.ErrorIs(t, err, seal.ErrOpen)
}

// Who can write the database swaps the keys of two projects, or damages them: neither project is read by the other's keys, and the rest goes on.
func TestKeysOfProjectsAreBoundToThem(t *testing.T) {
	db := testenv.Open(t, testenv.SQLite(t))
	s := openSealer(t, db)
	for _, p := range []string{"p1", "p2", "p3"} {
		require.NoError(t, s.AddProject(t.Context(), db.DB, p))
	}
	require.NoError(t, s.Reload(t.Context()))
	sealed, err := s.Seal([]byte("x"), place)
	require.NoError(t, err)
	third := seal.Bind{Table: "t", Row: "1", Column: "c", Project: "p3"}
	sealedThird, err := s.Seal([]byte("third"), third)
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), "UPDATE journal_project_keys AS k SET keyset = "+
		"(SELECT o.keyset FROM journal_project_keys AS o WHERE o.project <> k.project AND o.project <> 'p3') WHERE k.project <> 'p3'")
	require.NoError(t, err)
	anew := openSealer(t, db)
	swapped := place
	swapped.Project = "p2"
	for _, at := range []seal.Bind{place, swapped} {
		_, err = anew.Open(sealed, at)
		require.ErrorIs(t, err, seal.ErrOpen)
	}
	plain, err := anew.Open(sealedThird, third)
	require.NoError(t, err)
	require.Equal(t, "third", string(plain))
	require.Error(t, anew.Reload(t.Context()), "it is told")
}

// A project made in a transaction that is rolled back leaves nothing behind that could seal.
func TestKeysOfAProjectThatWasNotMade(t *testing.T) {
	db := testenv.Open(t, testenv.SQLite(t))
	s := openSealer(t, db)
	require.Error(t, db.Write(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		require.NoError(t, s.AddProject(ctx, tx, "p1"))
		return context.Canceled
	}))
	sealed, err := s.Seal([]byte("x"), place)
	require.NoError(t, err)
	require.Equal(t, s.Primary(""), keyOf(t, sealed))
	_, err = openSealer(t, db).Open(sealed, place)
	require.NoError(t, err)
}
