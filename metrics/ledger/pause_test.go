package ledger

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// Few calls are seen soon; many are committed in larger batches, those of many prompts in the largest, and soon again once there are few.
func TestPause(t *testing.T) {
	l := &Ledger{flushEvery: 300 * time.Millisecond}
	soon, long, longest := l.flushEvery, 4*l.flushEvery, 16*l.flushEvery
	for _, c := range []struct {
		waited        time.Duration
		records, rows int64
		want          time.Duration
	}{
		{soon, 0, 0, soon}, {soon, 150, 150, soon}, {soon, 151, 1, long}, // 500 records a second
		{long, 601, 1, long}, {long, 600, 600, soon}, {maxBackoff, 2500, 2500, soon}, {maxBackoff, 100_000, 1, long},
		{soon, 2400, 600, long}, {soon, 2400, 1000, 2 * time.Second}, {2 * time.Second, 16_000, 1000, 2 * time.Second}, // 8,000 a second
		{long, 9600, 9600, longest}, {longest, 38_400, 30_000, longest}, {maxBackoff, 50_000_000, 10_000_000, longest},
	} {
		assert.Equal(t, c.want, l.pause(c.waited, c.records, c.rows), "%d records in %s, %d rows", c.records, c.waited, c.rows)
	}
}
