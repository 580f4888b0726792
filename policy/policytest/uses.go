package policytest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/policy/uses"
)

// Uses is one empty store of uses.
type Uses interface {
	uses.Keeper
	Uses(ctx context.Context, project string, holdings ...string) ([]uses.Use, error)
}

// UseStore checks how uses of several replicas, and batches that are told twice, come together.
func UseStore(t *testing.T, s Uses) {
	ctx := context.Background()
	noon := time.Date(2027, 1, 2, 12, 0, 0, 0, time.UTC)
	use := func(holding, subject string, first, last int, minutes int64) uses.Use {
		return uses.Use{Project: "prj", Holding: holding, Subject: subject, First: noon.Add(time.Duration(first) * time.Minute), Last: noon.Add(time.Duration(last) * time.Minute), Minutes: minutes}
	}
	keep := func(batch ...uses.Use) { require.NoError(t, s.KeepUses(ctx, batch)) }
	keep(use("bnd_1", "usr_1", 0, 0, 1), use("bnd_1", "usr_2", 5, 9, 3), use("key_1", "key_1", 1, 1, 1))
	keep(use("bnd_1", "usr_1", 0, 0, 1))                                  // the same minute, of another replica or told twice
	keep(use("bnd_1", "usr_2", 9, 10, 2), use("bnd_1", "usr_1", 2, 2, 1)) // one of both is new
	keep(use("bnd_1", "usr_2", 3, 4, 2))                                  // late: what is known stays
	keep(use("bnd_1", "usr_1", 4, 20, 7))
	other := use("bnd_1", "usr_1", 3, 3, 1)
	other.Project = "other"
	keep(other)
	got, err := s.Uses(ctx, "prj")
	require.NoError(t, err)
	require.Equal(t, []uses.Use{
		use("bnd_1", "usr_1", 0, 20, 9), use("bnd_1", "usr_2", 3, 10, 4), use("key_1", "key_1", 1, 1, 1),
	}, got)
	got, err = s.Uses(ctx, "prj", "key_1", "key_none")
	require.NoError(t, err)
	require.Len(t, got, 1)
	got, err = s.Uses(ctx, "none")
	require.NoError(t, err)
	require.Empty(t, got)
}
