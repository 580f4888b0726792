package limits

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/promptgate/promptgate/internal/fault"
)

// counting is a limiter that counts what comes back, and panics or refuses on demand.
type counting struct {
	settled, released int
	spent             Spent
	refuse            error
	panics            string
}

func (c *counting) Reserve(context.Context, Ask) (Reservation, error) {
	if c.panics == "reserve" {
		panic(c.panics)
	}
	return Grant(c, "k", 7), c.refuse
}

func (c *counting) Settle(key string, amount int64, spent Spent) {
	c.settled++
	c.spent = spent
	if key != "k" || amount != 7 || c.panics == "end" {
		panic("end")
	}
}

func (c *counting) Release(string, int64) {
	c.released++
	if c.panics == "end" {
		panic(c.panics)
	}
}

// TestOnceEach: whichever of three limiters refuses or panics, at whichever point, each reservation that was granted comes back exactly once.
func TestOnceEach(t *testing.T) {
	for at := range 4 { // the last: none
		for _, how := range []string{"refuse", "reserve", "end"} {
			for _, settle := range []bool{true, false} {
				all := []*counting{{}, {}, {}}
				if at < 3 {
					all[at].panics = how
					if how == "refuse" {
						all[at].refuse = errors.New("no")
					}
				}
				var s Set
				func() {
					defer func() { _ = recover() }()
					if s.Reserve(t.Context(), []Limiter{all[0], all[1], all[2]}, Ask{}) != nil {
						return
					}
					if settle {
						s.Settle(Spent{Micros: 3, Priced: true})
					} else {
						s.Release()
					}
				}()
				s.Release() // what comes second does nothing
				s.Settle(Spent{})
				made := at == 3 || how == "end"
				for i, c := range all {
					switch {
					case made && settle:
						assert.Equal(t, []int{1, 0}, []int{c.settled, c.released}, "%d %d %s", at, i, how)
						assert.EqualValues(t, 3, c.spent.Micros)
					case made, i < at:
						assert.Equal(t, []int{0, 1}, []int{c.settled, c.released}, "%d %d %s", at, i, how)
					default:
						assert.Equal(t, []int{0, 0}, []int{c.settled, c.released}, "%d %d %s", at, i, how)
					}
				}
			}
		}
	}
}

func TestPlaces(t *testing.T) {
	p := NewPlaces(1)
	first, err := p.Reserve(t.Context(), Ask{})
	require.NoError(t, err)
	_, err = p.Reserve(t.Context(), Ask{})
	require.True(t, fault.Is(err, fault.Overloaded))
	first.Release()
	first.Settle(Spent{})
	assert.Zero(t, p.Taken())
	_, err = p.Reserve(t.Context(), Ask{})
	require.NoError(t, err)
}

func TestMemory(t *testing.T) {
	m := NewMemory(100)
	var a Reservation
	assert.False(t, m.More(&a, "a", 60), "half for one alone")
	assert.False(t, a.Held())
	assert.True(t, m.More(&a, "a", 30))
	assert.True(t, m.More(&a, "a", 20))
	m.Less(&a, 10)
	assert.EqualValues(t, 40, m.Used())
	a.Release()
	a.Release()
	m.Less(&a, 10)
	assert.Zero(t, m.Used())
}

// TestNothingAllocated: reservations are on the way of every call.
func TestNothingAllocated(t *testing.T) {
	by := []Limiter{NewPlaces(10), NewMemory(100)}
	var s Set
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if s.Reserve(t.Context(), by, Ask{Principal: "p"}) != nil {
			t.Fail()
		}
		s.Settle(Spent{})
	}))
}
