package journal_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/journal"
	"github.com/promptgate/promptgate/internal/testenv"
)

// TestDeadlocksAreRunAgain lets changes lock the same two rows in opposite orders.
func TestDeadlocksAreRunAgain(t *testing.T) {
	r := newReplica(t, testenv.Postgres(t), journal.Options{})
	for _, id := range []string{"a", "b"} {
		_, err := r.Change(t.Context(), event(id), insertThing(id))
		require.NoError(t, err)
	}
	var runs atomic.Int32
	var both sync.WaitGroup // each has its first row before either wants its second, in the first run
	both.Add(2)
	var wg sync.WaitGroup
	for _, order := range [][]string{{"a", "b"}, {"b", "a"}} {
		wg.Go(func() {
			ev := event("x")
			first := true
			_, err := r.Change(t.Context(), ev, func(ctx context.Context, tx bun.Tx) error {
				runs.Add(1)
				assert.Equal(t, "x", ev.Object, "the event is as it was passed")
				ev.Object = "y"
				ev.Touches = append(ev.Touches, journal.Touch{Kind: "added by fn"})
				for _, id := range order {
					if _, err := tx.NewRaw("UPDATE things SET n = n + 1 WHERE id = ?", id).Exec(ctx); err != nil {
						return err
					}
					if first {
						first = false
						both.Done()
						both.Wait()
					}
				}
				return nil
			})
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	require.Greater(t, runs.Load(), int32(2), "one of them ran again")
	var n int
	require.NoError(t, r.db.NewRaw("SELECT sum(n) FROM things").Scan(t.Context(), &n))
	require.Equal(t, 4, n, "each took effect once")
	for _, c := range r.seen[2:] {
		require.Len(t, c.Touches, 2, "fn filled the event in once more, from where it began")
	}
	requireWhole(t, r.Journal, 4)
}

func TestAConflictThatStaysIsTold(t *testing.T) {
	r := newReplica(t, testenv.Postgres(t), journal.Options{})
	runs := 0
	_, err := r.Change(t.Context(), event("x"), func(ctx context.Context, tx bun.Tx) error {
		runs++
		_, err := tx.ExecContext(ctx, "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")
		return err
	})
	require.True(t, fault.Is(err, fault.Conflict), "%v", err)
	require.Equal(t, 5, runs)
	require.Zero(t, r.head(t))
}

// cutter is a proxy to PostgreSQL that, once armed, hands a COMMIT on and breaks the connection instead of answering it.
type cutter struct {
	net.Listener
	to    string
	armed atomic.Bool
	block atomic.Bool // also refuse every connection from then on
	deaf  bool        // break before the COMMIT is handed on
}

func newCutter(t *testing.T, url string) (*cutter, string) {
	t.Helper()
	_, rest, _ := strings.Cut(url, "@")
	addr, _, _ := strings.Cut(rest, "/")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cutter{Listener: l, to: addr}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { c.serve(in) })
		}
	})
	t.Cleanup(func() { _ = l.Close() }) // the pools, closed before, end the connections
	return c, strings.Replace(url, addr, l.Addr().String(), 1)
}

func (c *cutter) serve(in net.Conn) {
	defer func() { _ = in.Close() }()
	if c.block.Load() {
		return
	}
	out, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	go func() {
		_, _ = io.Copy(in, out)
		_ = in.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(bytes.ToLower(buf[:n]), []byte("commit\x00")) && c.armed.Swap(false) {
			_ = in.Close()
			if !c.deaf {
				_, _ = out.Write(buf[:n])
				time.Sleep(50 * time.Millisecond) // the server commits, and has nobody to tell
			}
			return
		}
		if _, err := out.Write(buf[:n]); err != nil {
			return
		}
	}
}

func TestACommitWithoutAnAnswerIsLookedUp(t *testing.T) {
	for name, c := range map[string]struct {
		deaf, block bool
		want        fault.Code
		things      int64
	}{
		"it took place":              {false, false, "", 1},
		"it did not":                 {true, false, fault.RegistryUnavailable, 0},
		"nobody can say, but it did": {false, true, fault.RegistryUnavailable, 1},
	} {
		t.Run(name, func(t *testing.T) {
			direct := newReplica(t, testenv.Postgres(t), journal.Options{})
			var schema string
			require.NoError(t, direct.db.NewRaw("SELECT current_schema()").Scan(t.Context(), &schema))
			var port int
			require.NoError(t, direct.db.NewRaw("SELECT inet_server_port()").Scan(t.Context(), &port))
			proxy, url := newCutter(t, fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable&search_path=%s", port, schema))
			proxy.deaf = c.deaf
			r := newReplica(t, url, journal.Options{})
			_, err := r.Change(t.Context(), event("x"), func(ctx context.Context, tx bun.Tx) error {
				proxy.armed.Store(true)
				proxy.block.Store(c.block)
				return insertThing("x")(ctx, tx)
			})
			require.Equal(t, c.want, fault.CodeOf(err), "%v", err)
			if c.block {
				eventually(t, "the server goes on with it", func() bool { return direct.things(t) == c.things })
			}
			require.Equal(t, c.things, direct.things(t))
			if c.want == "" {
				require.EqualValues(t, 1, r.Revision())
			}
			if c.block {
				require.ErrorContains(t, err, "made or not")
			}
			requireWhole(t, direct.Journal, c.things)
		})
	}
}

// TestAcknowledgedSurvivesAKill runs this binary again as a process that makes changes and says which, kills it in the middle of
// its work, and looks whether anything it said is not there, or anything is there by half.
func TestAcknowledgedSurvivesAKill(t *testing.T) {
	const child = "PROMPTGATE_JOURNAL_CHILD"
	if url := os.Getenv(child); url != "" {
		r := newReplica(t, url, journal.Options{})
		for w := range 4 {
			go func() {
				for i := 0; ; i++ {
					id := fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i)
					revision, err := r.Change(context.Background(), event(id), insertThing(id))
					if err != nil {
						fmt.Println("failed", err)
						return
					}
					fmt.Println("made", revision, id)
				}
			}()
		}
		select {}
	}
	testenv.EachDatabase(t, func(t *testing.T, url string) {
		r := newReplica(t, url, journal.Options{})
		acknowledged := map[string]int64{}
		for round := range 4 {
			cmd := exec.Command(os.Args[0], "-test.run=^TestAcknowledgedSurvivesAKill$")
			cmd.Env = append(os.Environ(), child+"="+url)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			lines := bufio.NewScanner(out)
			for n := 0; lines.Scan(); {
				f := strings.Fields(lines.Text())
				if len(f) != 3 || f[0] != "made" {
					require.NotContains(t, lines.Text(), "failed")
					continue
				}
				acknowledged[f[2]], err = strconv.ParseInt(f[1], 10, 64)
				require.NoError(t, err)
				if n++; n == 10+7*round {
					require.NoError(t, cmd.Process.Kill()) // what it still said is read after it
				}
			}
			_ = cmd.Wait()
		}
		head := r.head(t)
		requireWhole(t, r.Journal, head)
		require.Equal(t, head, r.things(t), "a row for each event and an event for each row")
		require.GreaterOrEqual(t, len(acknowledged), 10+17+24+31)
		for id, revision := range acknowledged {
			var n int
			require.NoError(t, r.db.NewRaw("SELECT count(*) FROM things AS t, journal_events AS e "+
				"WHERE t.id = e.object AND t.id = ? AND e.revision = ?", id, revision).Scan(t.Context(), &n))
			require.Equal(t, 1, n, "%s was acknowledged as revision %d", id, revision)
		}
	})
}
