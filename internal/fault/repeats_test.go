package fault_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
)

func TestAnOutageIsLoggedOnceAMinute(t *testing.T) {
	var r fault.Repeats
	now := time.Unix(1_000_000, 0)
	worth := func(code fault.Code) int64 {
		hidden, ok := r.Worth(code, now)
		if !ok {
			return -1
		}
		return hidden
	}
	require.EqualValues(t, 0, worth(fault.RegistryUnavailable))
	for range 7 {
		require.EqualValues(t, -1, worth(fault.RegistryUnavailable))
		require.EqualValues(t, 0, worth(fault.Internal), "each fault of ours has its own cause")
	}
	now = now.Add(fault.RepeatsEvery)
	require.EqualValues(t, 7, worth(fault.RegistryUnavailable))
	require.EqualValues(t, -1, worth(fault.RegistryUnavailable))
}
