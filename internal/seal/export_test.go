package seal_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/testenv"
)

func TestExportedKeysOpenWithoutTheDatabase(t *testing.T) {
	db := testenv.Open(t, testenv.SQLite(t))
	s, err := seal.OpenKeys(t.Context(), db, seal.Options{Key: newKey(1)})
	require.NoError(t, err)
	sealed, err := s.Seal([]byte("kept"), place)
	require.NoError(t, err)
	blob, err := s.Export()
	require.NoError(t, err)
	require.NoError(t, db.Close())

	again, err := seal.OpenExported(t.Context(), blob, db, seal.Options{Key: newKey(1)})
	require.NoError(t, err)
	opened, err := again.Open(sealed, place)
	require.NoError(t, err)
	require.Equal(t, "kept", string(opened))
	require.Equal(t, s.DeriveKey("p"), again.DeriveKey("p"))

	_, err = seal.OpenExported(t.Context(), blob, db, seal.Options{Key: newKey(2)})
	require.ErrorContains(t, err, "not the master key")
	_, err = seal.OpenExported(t.Context(), blob, db, seal.Options{DataDir: t.TempDir(), AllowCreate: true})
	require.ErrorContains(t, err, "put the key back", "no new key is made for old data")
	_, err = seal.OpenExported(t.Context(), blob[1:], db, seal.Options{Key: newKey(1)})
	require.Error(t, err)
}
