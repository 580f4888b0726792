package ledger

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// Few calls are seen soon; many are committed in larger batches, and soon again once there are few.
func TestPause(t *testing.T) {
	l := &Ledger{flushEvery: 300 * time.Millisecond}
	long := 4 * l.flushEvery
	for _, c := range []struct {
		waited time.Duration
		n      int64
		want   time.Duration
	}{
		{l.flushEvery, 0, l.flushEvery}, {l.flushEvery, 150, l.flushEvery}, {l.flushEvery, 151, long},
		{long, 601, long}, {long, 600, l.flushEvery}, {maxBackoff, 2500, l.flushEvery}, {maxBackoff, 100_000, long},
	} {
		assert.Equal(t, c.want, l.pause(c.waited, c.n), "%d in %s", c.n, c.waited)
	}
}
