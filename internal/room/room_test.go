package room

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestNobodyTakesAll(t *testing.T) {
	r := New(1200)
	take := func(who string) (n int64) {
		for r.Take(who, 10) {
			n += 10
		}
		return n
	}
	assert.EqualValues(t, 600, take("a"), "half for one alone")
	assert.EqualValues(t, 300, take("b"), "and half of what is left for the next")
	assert.True(t, r.Take("c", 100), "somebody new finds room")
	assert.False(t, r.Take("a", 1))
	r.Give("a", 600)
	r.Give("b", 300)
	r.Give("c", 100)
	assert.Zero(t, r.Used())
	assert.Empty(t, r.by, "who holds nothing is forgotten")
}
