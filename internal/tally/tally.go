// Package tally counts on paths so hot that the counting must not be noticed.
package tally

import (
	"math/rand/v2"
	"sync/atomic"
)

const stripes = 16 // a power of two

// Counter only grows. Adders rarely meet on one of its stripes, so that they do not wait for each other's cache line. The zero value is ready; it is
// 2 KiB large and must not be copied.
type Counter struct{ stripes [stripes]stripe }

type stripe struct {
	n atomic.Uint64
	_ [120]byte // two cache lines: processors fetch them in pairs
}

// Inc adds one. It does not allocate.
func (c *Counter) Inc() {
	c.stripes[rand.Uint32()%stripes].n.Add(1) //nolint:gosec // it keeps adders apart and no secret
}

// Value is the sum so far.
func (c *Counter) Value() uint64 {
	var sum uint64
	for i := range c.stripes {
		sum += c.stripes[i].n.Load()
	}
	return sum
}
