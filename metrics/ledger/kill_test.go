package ledger_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/seal"
	"github.com/promptgate/promptgate/internal/sqldb"
	"github.com/promptgate/promptgate/internal/testenv"
	"github.com/promptgate/promptgate/metrics"
	"github.com/promptgate/promptgate/metrics/ledger"
	"github.com/promptgate/promptgate/metrics/metricstest"
)

const (
	childURL = "PROMPTGATE_TEST_LEDGER_URL"
	childDir = "PROMPTGATE_TEST_LEDGER_DIR"
	writers  = 4
)

// plainSealer seals nothing: these tests are not about keys.
type plainSealer struct{}

func (plainSealer) Seal(b []byte, _ seal.Bind) ([]byte, error) { return b, nil }
func (plainSealer) Open(b []byte, _ seal.Bind) ([]byte, error) { return b, nil }

// child records calls until it is killed and prints the id of each one after it was acknowledged. It reports whether this process is one.
func child() bool {
	url := os.Getenv(childURL)
	if url == "" {
		return false
	}
	db, err := sqldb.Open(context.Background(), sqldb.Options{URL: url})
	if err != nil {
		panic(err)
	}
	l, err := ledger.Open(killOptions(db, os.Getenv(childDir)))
	if err != nil {
		panic(err)
	}
	go func() { _ = l.Run(context.Background()) }()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := 0; ; n++ {
				c := metricstest.Sample("p", n)
				c.ID = fmt.Sprintf("call_%d_%d_%d", os.Getpid(), w, n)
				if err := l.RecordCall(context.Background(), c); err != nil {
					panic(err)
				}
				if _, err := fmt.Fprintln(os.Stdout, c.ID); err != nil {
					return // the parent has gone
				}
			}
		})
	}
	wg.Wait()
	return true
}

func killOptions(db *sqldb.DB, dir string) ledger.Options {
	return ledger.Options{DB: db, Dir: dir, Sealer: plainSealer{}, Log: slog.New(slog.DiscardHandler),
		SegmentBytes: 16 << 10, FlushEvery: 3 * time.Millisecond, SyncEvery: 5 * time.Millisecond}
}

// TestKilledWhileRecording kills a recording process 20 times (10 on PostgreSQL, which is slower to start on), at random moments of recording, flushing and starting: each acknowledged
// call is one row and counts once.
func TestKilledWhileRecording(t *testing.T) {
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		db := testenv.Open(t, url, sqldb.Ledger)
		dir := filepath.Join(t.TempDir(), "spool")
		acknowledged := map[string]bool{}
		rounds := 20
		if db.Dialect == sqldb.Postgres {
			rounds = 10
		}
		for range rounds {
			killAfter(t, url, dir, 1+rand.IntN(600), acknowledged)
		}
		l, err := ledger.Open(killOptions(db, dir))
		require.NoError(t, err)
		require.NoError(t, l.Close(context.Background()))

		rows := map[string]int{}
		var ids []string
		require.NoError(t, db.NewRaw("SELECT id FROM metrics_calls").Scan(t.Context(), &ids))
		for _, id := range ids {
			rows[id]++
		}
		for id := range acknowledged {
			require.Equal(t, 1, rows[id], "acknowledged call %s", id)
		}
		// A writer can die between its record and its word of it: one call a writer and round.
		assert.LessOrEqual(t, len(rows)-len(acknowledged), rounds*writers)
		assert.Greater(t, len(acknowledged), 500)

		stats, err := l.Stats(t.Context(), "p", metrics.StatsQuery{Group: []metrics.Dimension{metrics.ByPrompt}})
		require.NoError(t, err)
		require.Len(t, stats, 1)
		assert.EqualValues(t, len(ids), stats[0].Calls, "figures and rows agree")
		assert.EqualValues(t, len(ids), stats[0].Latency.Count)
		assert.Zero(t, l.SpoolStats().Damaged)
		assert.Zero(t, l.SpoolStats().Bytes)
		var cursors int
		require.NoError(t, db.NewRaw("SELECT COUNT(*) FROM metrics_spool_cursors").Scan(t.Context(), &cursors))
		// Ours, and that of a run that was killed after its last segment was applied and before its cursor was dropped.
		assert.LessOrEqual(t, cursors, 2, "cursors of finished runs are dropped")
	})
}

// killAfter starts a child, reads some acknowledgements, kills it and notes all that it had acknowledged.
func killAfter(t *testing.T, url, dir string, lines int, acknowledged map[string]bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childURL+"="+url, childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	r := bufio.NewReader(out)
	for n := 0; ; n++ {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			break // what is behind the last line end was not acknowledged
		}
		require.NoError(t, err)
		acknowledged[line[:len(line)-1]] = true
		if n == lines {
			require.NoError(t, cmd.Process.Kill())
		}
	}
	require.Error(t, cmd.Wait())
}
