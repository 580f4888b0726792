package ledger

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/metrics/metricstest"
)

// TestNoSharedMemory: where a file cannot be written through memory, as this one that may not be read, calls to the system write it.
func TestNoSharedMemory(t *testing.T) {
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "s"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(t, err)
	defer f.Close()
	m, err := mapSegment(f, 1<<16)
	require.NoError(t, err)
	require.Nil(t, m)
	info, err := f.Stat()
	require.NoError(t, err)
	assert.Zero(t, info.Size(), "what is appended must not stand behind the room that was reserved")
}

// TestFullFileSystem fills a real, small file system, where this process may mount one.
func TestFullFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no tmpfs here (%v); the injected failure above covers it", err)
	}
	f := newFixture(t, Options{Dir: filepath.Join(dir, "spool"), SegmentBytes: 16 << 10}, nil)
	t.Cleanup(func() { f.die(); _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	taken, refused := 0, 0
	for n := 0; refused < 5; n++ {
		require.Less(t, n, 10_000)
		err := f.RecordCall(t.Context(), metricstest.Sample("p", n))
		if err == nil {
			taken++
			continue
		}
		require.True(t, fault.Is(err, fault.StorageFull), "%v", err)
		refused++
	}
	require.NoError(t, f.Flush(t.Context()))
	require.NoError(t, f.spool.sync()) // Run does: it closes the deleted files, which frees the space
	f.record(t, 20_000, 20_010)
	require.NoError(t, f.Flush(t.Context()))
	assert.Equal(t, taken+10, f.committed(t))
}
