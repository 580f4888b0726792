package ledger

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/metrics/metricstest"
)

// fixture is a ledger on SQLite whose parts a test can break.
type fixture struct {
	*Ledger
	o Options
}

func newFixture(t testing.TB, o Options, create createFunc) *fixture {
	t.Helper()
	if o.DB == nil {
		o.DB = testenv.Open(t, testenv.SQLite(t), sqldb.Ledger)
	}
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "spool")
	}
	if o.Sealer == nil {
		o.Sealer = testenv.Sealer(t, testenv.Open(t, testenv.SQLite(t)))
	}
	o.Log = slog.New(slog.DiscardHandler)
	f := &fixture{o: o}
	f.start(t, create)
	t.Cleanup(func() { f.die() })
	return f
}

func (f *fixture) start(t testing.TB, create createFunc) {
	t.Helper()
	if create == nil {
		create = createSegment
	}
	l, err := open(f.o, create)
	require.NoError(t, err)
	f.Ledger = l
}

// die ends the ledger as the death of its process does: nothing is flushed.
func (f *fixture) die() {
	f.spool.stop()
	_ = f.spool.close()
}

func (f *fixture) record(t testing.TB, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		require.NoError(t, f.RecordCall(t.Context(), metricstest.Sample("p", n)))
	}
}

// committed is the number of rows; it checks that the figures agree.
func (f *fixture) committed(t testing.TB) int {
	t.Helper()
	var rows int
	require.NoError(t, f.db.NewRaw("SELECT COUNT(*) FROM metrics_calls").Scan(t.Context(), &rows))
	stats, err := f.Stats(t.Context(), "p", metrics.StatsQuery{Group: []metrics.Dimension{metrics.ByPrompt}})
	require.NoError(t, err)
	if rows > 0 {
		require.Len(t, stats, 1)
		assert.EqualValues(t, rows, stats[0].Calls, "figures and rows differ")
	}
	return rows
}

func (f *fixture) segmentPaths(t testing.TB, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(f.o.Dir, pattern))
	require.NoError(t, err)
	return paths
}

// disk is a file system that can be full.
type disk struct {
	full, stuck atomic.Bool // stuck: it cannot even truncate
}

type diskFile struct {
	*os.File
	disk *disk
}

func (d *disk) create(path string, _ int64) (segmentFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &diskFile{f, d}, nil
}

func (f *diskFile) Write(b []byte) (int, error) {
	if f.disk.full.Load() {
		n, _ := f.File.Write(b[:len(b)/2]) // what still fits
		return n, syscall.ENOSPC
	}
	return f.File.Write(b)
}

func (f *diskFile) Truncate(size int64) error {
	if f.disk.stuck.Load() {
		return syscall.EIO
	}
	return f.File.Truncate(size)
}

func TestFullDiskRefusesAndRecovers(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		t.Run(fmt.Sprintf("stuck=%v", stuck), func(t *testing.T) {
			d := &disk{}
			d.stuck.Store(stuck)
			f := newFixture(t, Options{}, d.create)
			f.record(t, 0, 5)
			d.full.Store(true)
			for range 3 {
				err := f.RecordCall(t.Context(), metricstest.Sample("p", 99))
				require.True(t, fault.Is(err, fault.StorageFull), "%v", err)
			}
			d.full.Store(false)
			f.record(t, 5, 10)
			assert.EqualValues(t, 3, f.SpoolStats().Refused)
			if stuck { // a new process sees the halves, and knows them for what they are
				f.die()
				f.start(t, nil)
			}
			require.NoError(t, f.Flush(t.Context()))
			assert.Equal(t, 10, f.committed(t))
			assert.Zero(t, f.SpoolStats().Damaged)
		})
	}
}

func TestBoundRefusesAndRecovers(t *testing.T) {
	f := newFixture(t, Options{MaxBytes: 4 << 10, SegmentBytes: 1 << 10}, nil)
	taken := 0
	for n := 0; ; n++ {
		if err := f.RecordCall(t.Context(), metricstest.Sample("p", n)); err != nil {
			require.True(t, fault.Is(err, fault.Overloaded), "%v", err)
			break
		}
		taken++
		require.Less(t, n, 1000)
	}
	s := f.SpoolStats()
	assert.EqualValues(t, 1, s.Refused)
	assert.LessOrEqual(t, s.Bytes, s.MaxBytes)
	require.NoError(t, f.Flush(t.Context()))
	assert.Zero(t, f.SpoolStats().Bytes)
	f.record(t, 2000, 2003)
	require.NoError(t, f.Flush(t.Context()))
	assert.Equal(t, taken+3, f.committed(t))
	assert.Len(t, f.segmentPaths(t, "*.seg"), 1, "what is committed is deleted, but for the current file")
}

func TestDamageIsCutOut(t *testing.T) {
	f := newFixture(t, Options{}, nil)
	f.record(t, 0, 10)
	f.die()
	path := f.segmentPaths(t, "*.seg")[0]
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[len(b)/2] ^= 0x10                  // one of the ten
	b = append(b, b[:frameHeader+20]...) // and a torn tail
	require.NoError(t, os.WriteFile(path, b, 0o600))

	f.start(t, nil)
	f.record(t, 10, 12)
	_, err = f.db.NewRaw("ALTER TABLE metrics_calls RENAME TO gone").Exec(t.Context())
	require.NoError(t, err)
	require.Error(t, f.Flush(t.Context()))
	assert.Zero(t, f.SpoolStats().Damaged, "not before what is sound is committed: until then it is read again")
	_, err = f.db.NewRaw("ALTER TABLE gone RENAME TO metrics_calls").Exec(t.Context())
	require.NoError(t, err)
	require.NoError(t, f.Flush(t.Context()))
	assert.Equal(t, 11, f.committed(t))
	assert.EqualValues(t, 1, f.SpoolStats().Damaged)
	assert.Len(t, f.segmentPaths(t, "*.damaged"), 1, "the evidence is kept")
	assert.Len(t, f.segmentPaths(t, "*.seg"), 1)
	assert.Zero(t, f.SpoolStats().Bytes)
}

// TestRestoredDatabase sets the cursor back, as a restored backup or an undecided commit does: nothing is applied twice.
func TestRestoredDatabase(t *testing.T) {
	f := newFixture(t, Options{}, nil)
	f.record(t, 0, 10)
	require.NoError(t, f.Flush(t.Context()))
	_, err := f.db.NewRaw("UPDATE metrics_spool_cursors SET pos = 0").Exec(t.Context())
	require.NoError(t, err)
	f.record(t, 10, 20)
	require.ErrorIs(t, f.Flush(t.Context()), errCursor)
	require.NoError(t, f.Flush(t.Context()))
	assert.Equal(t, 20, f.committed(t))
}

// TestRejectedRecord: one record that the database will not have does not hold up the others.
func TestRejectedRecord(t *testing.T) {
	f := newFixture(t, Options{}, nil)
	_, err := f.db.NewRaw("CREATE TRIGGER no BEFORE INSERT ON metrics_calls WHEN new.id = 'poison' BEGIN SELECT RAISE(ABORT, 'no'); END").Exec(t.Context())
	require.NoError(t, err)
	f.record(t, 0, 50)
	poison := metricstest.Sample("p", 50)
	poison.ID = "poison"
	require.NoError(t, f.RecordCall(t.Context(), poison))
	f.record(t, 51, 100)
	require.NoError(t, f.Flush(t.Context()))
	assert.Equal(t, 99, f.committed(t))
	assert.EqualValues(t, 1, f.SpoolStats().Damaged)
	require.NoError(t, f.Close(t.Context()))
	assert.Len(t, f.segmentPaths(t, "*.damaged"), 1)
}

// TestWrongSchemaRejectsNothing: a fault of ours must not throw records away.
func TestWrongSchemaRejectsNothing(t *testing.T) {
	f := newFixture(t, Options{}, nil)
	f.record(t, 0, 5)
	_, err := f.db.NewRaw("ALTER TABLE metrics_calls RENAME TO gone").Exec(t.Context())
	require.NoError(t, err)
	require.Error(t, f.Flush(t.Context()))
	_, err = f.db.NewRaw("ALTER TABLE gone RENAME TO metrics_calls").Exec(t.Context())
	require.NoError(t, err)
	require.NoError(t, f.Flush(t.Context()))
	assert.Equal(t, 5, f.committed(t))
}

func TestSpoolHasOneOwner(t *testing.T) {
	f := newFixture(t, Options{}, nil)
	_, err := Open(f.o)
	require.ErrorContains(t, err, "in use")
	require.NoError(t, f.Close(t.Context()))
	require.NoError(t, f.Close(t.Context()), "again")
	assert.Error(t, f.RecordCall(t.Context(), metricstest.Sample("p", 1)), "closed")
	f.start(t, nil)
}

func TestFindsByCompletionBeforeTheFlush(t *testing.T) {
	f := newFixture(t, Options{}, nil)
	f.record(t, 0, 1)
	for range 3 {
		id, err := f.FindByCompletionID(t.Context(), "p", "chatcmpl-0")
		require.NoError(t, err)
		assert.Equal(t, "call_p_000000", id)
		require.NoError(t, f.Flush(t.Context()))
	}
	_, err := f.FindByCompletionID(t.Context(), "q", "chatcmpl-0")
	assert.True(t, fault.Is(err, fault.CallNotFound))
}

// TestCompletionsOfOneHash: calls are looked up by a hash, and told apart by the id itself.
func TestCompletionsOfOneHash(t *testing.T) {
	f := newFixture(t, Options{}, nil)
	f.record(t, 0, 3)
	for range 2 { // the second flush forgets what was recorded recently
		require.NoError(t, f.Flush(t.Context()))
	}
	var block int64
	require.NoError(t, f.db.NewRaw("SELECT block FROM metrics_completions WHERE completion = ?", completionHash("chatcmpl-1")).Scan(t.Context(), &block))
	_, err := f.db.NewRaw("DELETE FROM metrics_completions").Exec(t.Context())
	require.NoError(t, err)
	_, err = f.FindByCompletionID(t.Context(), "p", "chatcmpl-1")
	require.True(t, fault.Is(err, fault.CallNotFound), "looked up there")
	_, err = f.db.NewRaw("INSERT INTO metrics_completions (completion, block) VALUES (?, ?)", completionHash("chatcmpl-1"), block).Exec(t.Context())
	require.NoError(t, err)
	id, err := f.FindByCompletionID(t.Context(), "p", "chatcmpl-1")
	require.NoError(t, err)
	assert.Equal(t, "call_p_000001", id)
	_, err = f.FindByCompletionID(t.Context(), "q", "chatcmpl-1")
	assert.True(t, fault.Is(err, fault.CallNotFound))
}

func TestCommentsAreSealedOnDisk(t *testing.T) {
	const canary = "canary-comment-5b1f"
	f := newFixture(t, Options{}, nil)
	yes := true
	require.NoError(t, f.RecordFeedback(t.Context(), &metrics.Feedback{Project: "p", CallID: "c", Name: "n", Bool: &yes, Comment: canary}))
	look := func() {
		for _, pattern := range []string{filepath.Join(f.o.Dir, "*"), f.db.Path() + "*"} {
			paths, err := filepath.Glob(pattern)
			require.NoError(t, err)
			require.NotEmpty(t, paths)
			for _, path := range paths {
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				assert.False(t, bytes.Contains(b, []byte(canary)), path)
			}
		}
	}
	look()
	require.NoError(t, f.Flush(t.Context()))
	look()
	got, _, err := f.ListFeedback(t.Context(), "p", metrics.FeedbackFilter{}, metrics.Page{})
	require.NoError(t, err)
	require.Len(t, got, 1)
	assert.Equal(t, canary, got[0].Comment)
	assert.Equal(t, "user", got[0].Source)
	assert.Regexp(t, "^fb_", got[0].ID)
}

func TestFeedbackIsObservedOnceWithItsCall(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	f := newFixture(t, Options{OnFeedback: func(fb *metrics.Feedback, c *metrics.Call) {
		mu.Lock()
		defer mu.Unlock()
		if c != nil {
			seen[fmt.Sprint(fb.ID, " ", c.PromptName, " ", c.Version)]++
		} else {
			seen[fb.ID+" alone"]++
		}
	}}, nil)
	f.record(t, 1, 2)
	yes := true
	for _, id := range []string{"a", "a", "b"} {
		call := "call_p_000001"
		if id == "b" {
			call = "call_elsewhere"
		}
		require.NoError(t, f.RecordFeedback(t.Context(), &metrics.Feedback{ID: id, Project: "p", CallID: call, Name: "n", Bool: &yes}))
		require.NoError(t, f.Flush(t.Context()))
	}
	assert.Equal(t, map[string]int{"a support/triage 3": 1, "b alone": 1}, seen)
}

// TestDatabaseDownThenUp records through an outage, with Run running, and through a restart during it.
func TestDatabaseDownThenUp(t *testing.T) {
	server := testenv.OwnPostgres(t)
	db := testenv.Open(t, server.Schema(t), sqldb.Ledger)
	f := newFixture(t, Options{DB: db, FlushEvery: 5 * time.Millisecond, SyncEvery: 5 * time.Millisecond}, nil)
	run := func() (wait func()) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = f.Run(ctx) })
		return func() { cancel(); wg.Wait() }
	}
	empty := func() bool { return f.SpoolStats().Bytes == 0 }
	stop := run()
	n := 0
	next := func(more int) { f.record(t, n, n+more); n += more }
	next(20)
	require.Eventually(t, empty, 20*time.Second, time.Millisecond)
	server.Kill(t)
	require.Eventually(t, func() bool { next(1); return f.SpoolStats().FlushErrors > 0 }, 20*time.Second, time.Millisecond)
	next(100)
	assert.Positive(t, f.SpoolStats().Bytes)
	stop()
	f.die() // and our process dies as well
	f.start(t, nil)
	stop = run()
	next(30)
	server.Restart(t)
	require.Eventually(t, empty, 30*time.Second, time.Millisecond)
	stop()
	assert.Equal(t, n, f.committed(t))
	require.NoError(t, f.Close(t.Context()))
	assert.Empty(t, f.segmentPaths(t, "*.seg"))
}

func TestCloseWithoutDatabaseKeepsTheSpool(t *testing.T) {
	f := newFixture(t, Options{}, nil)
	f.record(t, 0, 7)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, f.Close(ctx), "stay in the spool")
	f.start(t, nil)
	require.NoError(t, f.Close(t.Context()))
	assert.Equal(t, 7, f.committed(t))
}

// TestSlowDatabaseGetsSmallerBatches: what cannot be committed in time all at once is committed in parts.
func TestSlowDatabaseGetsSmallerBatches(t *testing.T) {
	f := newFixture(t, Options{}, nil)
	f.record(t, 0, 100)
	usual := f.flusher.timeout
	f.flusher.timeout = time.Nanosecond
	for _, want := range []int{maxBatch / 4, maxBatch / 16, maxBatch / 64} {
		require.Error(t, f.Flush(t.Context()))
		assert.Equal(t, want, f.flusher.limit)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, f.Flush(gone))
	assert.Equal(t, maxBatch/64, f.flusher.limit, "who leaves says nothing about the database")
	f.flusher.timeout = usual
	require.NoError(t, f.Flush(t.Context()))
	assert.Equal(t, 100, f.committed(t))
}

func BenchmarkRecordCall(b *testing.B) {
	f := newFixture(b, Options{MaxBytes: 1 << 40}, nil)
	c := metricstest.Sample("p", 1)
	c.Attempts = c.Attempts[1:]
	b.ReportAllocs()
	for b.Loop() {
		if err := f.RecordCall(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFlush commits 8,000 calls a second in flushes of 10,000, of one prompt and of a thousand.
func BenchmarkFlush(b *testing.B) {
	const perFlush = 10_000
	for _, prompts := range []int{1, 1000} {
		b.Run(fmt.Sprintf("prompts=%d", prompts), func(b *testing.B) {
			f := newFixture(b, Options{MaxBytes: 1 << 40}, nil)
			b.ReportAllocs()
			b.ResetTimer()
			for n := range b.N {
				if n%perFlush == 0 {
					b.StopTimer()
				}
				c := metricstest.Sample("p", n)
				c.PromptID = fmt.Sprintf("pmpt_%d", n*7919%prompts)
				c.Start = metricstest.Start.Add(time.Duration(n) * 125 * time.Microsecond)
				spread := time.Duration(n*7919%1000) * time.Millisecond
				c.FirstToken, c.Total, c.Overhead = c.FirstToken+spread, c.Total+3*spread, c.Overhead+spread/1000
				c.Attempts = c.Attempts[1:]
				if err := f.RecordCall(b.Context(), c); err != nil {
					b.Fatal(err)
				}
				if n%perFlush == perFlush-1 || n == b.N-1 {
					b.StartTimer()
					if err := f.Flush(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// TestWhatIsLetBeginIsRecorded: on a disk that is full after some segments, calls are refused before they begin, and every call that was let begin is
// recorded, however many begin at once.
func TestWhatIsLetBeginIsRecorded(t *testing.T) {
	var made atomic.Int64
	create := func(path string, size int64) (segmentFile, error) {
		if made.Add(1) > 4 {
			return nil, &os.PathError{Op: "fallocate", Path: path, Err: syscall.ENOSPC}
		}
		return createSegment(path, size)
	}
	f := newFixture(t, Options{SegmentBytes: 32 << 10}, create)
	var recorded, refused atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				if err := f.Reserve(); err != nil {
					assert.True(t, fault.Is(err, fault.StorageFull), "%v", err)
					refused.Add(1)
					continue
				}
				n := int(recorded.Add(1))
				assert.NoError(t, f.RecordCall(t.Context(), metricstest.Sample("p", n)), "a call that was let begin")
				f.Release()
			}
		})
	}
	all.Wait()
	require.Positive(t, refused.Load())
	require.Greater(t, recorded.Load(), int64(50))
	require.Zero(t, f.spool.promised.Load())
	require.NoError(t, f.Flush(t.Context()))
	require.Equal(t, int(recorded.Load()), f.committed(t))

	made.Store(-100) // there is room again
	require.NoError(t, f.Reserve())
	f.Release()
	require.NoError(t, f.Close(t.Context()))
	require.Empty(t, f.segmentPaths(t, "*.seg"), "what was made ahead is taken away")
	require.Error(t, f.Reserve(), "closed")
}

// TestUnreadableFiguresHoldUpNothing: a damaged row of figures is told of and begun anew; the calls of its minute are whole.
func TestUnreadableFiguresHoldUpNothing(t *testing.T) {
	f := newFixture(t, Options{}, nil)
	f.record(t, 0, 3)
	require.NoError(t, f.Flush(t.Context()))
	_, err := f.db.NewRaw("UPDATE metrics_rollups SET figures = x'ff00'").Exec(t.Context())
	require.NoError(t, err)
	f.flusher.forget()
	f.record(t, 3, 6)
	require.NoError(t, f.Flush(t.Context()))
	calls, _, err := f.ListCalls(t.Context(), "p", metrics.CallFilter{}, metrics.Page{})
	require.NoError(t, err)
	require.Len(t, calls, 6)
	require.Positive(t, f.SpoolStats().Damaged)
}

// TestDamageIsToldOnce: a page that cannot be read where calls are committed to loses no call: they wait, and somebody is told.
func TestDamageIsToldOnce(t *testing.T) {
	url := testenv.SQLite(t)
	db := testenv.Open(t, url, sqldb.Ledger)
	var root int64
	require.NoError(t, db.NewRaw("SELECT rootpage FROM sqlite_schema WHERE name = 'metrics_call_blocks'").Scan(t.Context(), &root))
	_, err := db.NewRaw("PRAGMA wal_checkpoint(TRUNCATE)").Exec(t.Context())
	require.NoError(t, err)
	require.NoError(t, db.Close())
	file, err := os.OpenFile(strings.TrimPrefix(url, "sqlite:"), os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = file.WriteAt(bytes.Repeat([]byte{0xff}, 4096), (root-1)*4096)
	require.NoError(t, err)
	require.NoError(t, file.Close())

	db, err = sqldb.Open(t.Context(), sqldb.Options{URL: url})
	require.NoError(t, err)
	defer db.Close()
	told := 0
	f := newFixture(t, Options{DB: db, OnDamage: func(err error) {
		told++
		assert.True(t, sqldb.IsDamaged(err), "%v", err)
	}}, nil)
	f.record(t, 0, 3)
	for range 3 {
		require.Error(t, f.Flush(t.Context()))
	}
	require.Equal(t, 1, told)
	require.Positive(t, f.SpoolStats().Bytes, "they wait")

	f.die()
	f.o.DB = testenv.Open(t, testenv.SQLite(t), sqldb.Ledger)
	f.start(t, nil)
	require.NoError(t, f.Flush(t.Context()))
	require.Equal(t, 3, f.committed(t))
}
