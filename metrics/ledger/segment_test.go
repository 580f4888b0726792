package ledger

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics/metricstest"
)

// TestUnusedRoomIsNoRecord: what a process that died leaves behind its records is neither damage nor a record, whether it died between two
// records or in the middle of one.
func TestUnusedRoomIsNoRecord(t *testing.T) {
	for name, rest := range map[string]func([]byte) []byte{
		"between":         func(first []byte) []byte { return nil },
		"before its mark": func(first []byte) []byte { return append([]byte{0}, first[1:]...) },
		"half of it":      func(first []byte) []byte { return append([]byte{0}, first[1:len(first)/2]...) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, Options{}, nil)
			f.record(t, 0, 1)
			first := f.SpoolStats().Bytes
			f.record(t, 1, 10)
			f.die()
			path := f.segmentPaths(t, "*.seg")[0]
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Len(t, b, int(f.SpoolStats().Bytes), "closed: the room that was not used is given back")
			b = append(b, rest(b[:first])...)
			require.NoError(t, os.WriteFile(path, append(b, make([]byte, 64<<10)...), 0o600))

			f.start(t, nil)
			require.NoError(t, f.Flush(t.Context()))
			assert.Equal(t, 10, f.committed(t))
			assert.Zero(t, f.SpoolStats().Damaged)
			assert.Zero(t, f.SpoolStats().Bytes)
			assert.Empty(t, f.segmentPaths(t, "*.seg*"))
		})
	}
}

// TestUnusedRoomDoesNotWait: nor does it take the bound's room while the database is down.
func TestUnusedRoomDoesNotWait(t *testing.T) {
	const room = 64 << 10
	f := newFixture(t, Options{MaxBytes: room, SegmentBytes: room}, nil)
	f.record(t, 0, 10)
	used := f.SpoolStats().Bytes
	f.die()
	path := f.segmentPaths(t, "*.seg")[0]
	require.NoError(t, os.Truncate(path, room))

	f.start(t, nil)
	assert.Equal(t, used, f.SpoolStats().Bytes)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, used, info.Size())
	f.record(t, 10, 20)
	require.NoError(t, f.Flush(t.Context()))
	assert.Equal(t, 20, f.committed(t))
}

// TestCutSegment: a file that somebody cut under us, as a disk that fails, refuses one record at most; it does not end the process.
func TestCutSegment(t *testing.T) {
	f := newFixture(t, Options{}, nil)
	f.record(t, 0, 5)
	require.NoError(t, f.Flush(t.Context()))
	require.NoError(t, os.Truncate(f.segmentPaths(t, "*.seg")[0], 0))
	if err := f.RecordCall(t.Context(), metricstest.Sample("p", 5)); runtime.GOOS == "linux" {
		require.True(t, fault.Is(err, fault.RegistryUnavailable), "%v", err)
		require.ErrorContains(t, err, "the file was cut")
	}
	f.record(t, 6, 10)
	require.NoError(t, f.Flush(t.Context()))
	assert.Equal(t, 9, f.committed(t))
}

// TestCutRecords: acknowledged records that are no longer there when they are read are damage, not room that was never used.
func TestCutRecords(t *testing.T) {
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("cut=%v", cut), func(t *testing.T) {
			f := newFixture(t, Options{}, nil)
			f.record(t, 0, 5)
			whole := f.SpoolStats().Bytes
			f.record(t, 5, 10)
			path := f.segmentPaths(t, "*.seg")[0]
			require.NoError(t, os.Truncate(path, whole))
			if !cut { // a disk that gives zeros
				require.NoError(t, os.Truncate(path, 4<<20))
			}
			require.NoError(t, f.Flush(t.Context()))
			assert.Equal(t, 5, f.committed(t))
			assert.EqualValues(t, 1, f.SpoolStats().Damaged)
			require.NoError(t, f.Close(t.Context()))
			assert.Len(t, f.segmentPaths(t, "*.damaged"), 1, "the evidence is kept")
		})
	}
}
