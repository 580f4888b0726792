package admin

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
)

// Who loses every race is told to try again, in the end.
func TestEditsEnd(t *testing.T) {
	tries := 0
	lose := func(int64) (int, error) {
		if tries++; tries > 1000 {
			t.Fatal("for ever")
		}
		return 0, fault.New(fault.PreconditionFailed, "lost")
	}
	_, err := edit(Precondition{IfMatch: "*"}, lose)
	require.Equal(t, fault.Conflict, fault.CodeOf(err))
	require.Equal(t, editTries, tries)

	tries = 0
	_, err = edit(Precondition{IfMatch: `"7"`}, lose)
	require.Equal(t, fault.PreconditionFailed, fault.CodeOf(err), "who read it before must read it again")
	require.Equal(t, 1, tries)
}
