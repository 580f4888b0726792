package limits

import (
	"context"
	"sync/atomic"

	"github.com/promptgate/promptgate/internal/fault"
	"github.com/promptgate/promptgate/internal/room"
)

// Places bounds how many calls run at a time in this process.
type Places struct {
	limit int64
	taken atomic.Int64
}

// NewPlaces makes n places.
func NewPlaces(n int) *Places { return &Places{limit: int64(n)} }

var _ Limiter = (*Places)(nil)

// Reserve implements Limiter. It refuses at once: a caller that is told so in a millisecond can go elsewhere, one that queues cannot.
func (p *Places) Reserve(context.Context, Ask) (Reservation, error) {
	if p.taken.Add(1) > p.limit {
		p.taken.Add(-1)
		return Reservation{}, fault.New(fault.Overloaded, "The gateway is at its limit. Try again shortly.")
	}
	return Grant(p, "", 1), nil
}

// Settle implements Limiter.
func (p *Places) Settle(_ string, n int64, _ Spent) { p.taken.Add(-n) }

// Release implements Limiter.
func (p *Places) Release(_ string, n int64) { p.taken.Add(-n) }

// Taken is how many calls run.
func (p *Places) Taken() int64 { return p.taken.Load() }

// Memory bounds the bytes that requests hold in this process, fairly by caller. A request's reservation grows and shrinks with what has come of it.
type Memory struct{ room *room.Room }

// NewMemory makes room for limit bytes.
func NewMemory(limit int64) *Memory { return &Memory{room: room.New(limit)} }

var _ Limiter = (*Memory)(nil)

// Reserve implements Limiter: nothing yet.
func (m *Memory) Reserve(_ context.Context, ask Ask) (Reservation, error) {
	return Grant(m, ask.Principal, 0), nil
}

// More adds n bytes to a reservation of who, the first as well, and reports whether there was room for them; without, nothing changes.
func (m *Memory) More(r *Reservation, who string, n int64) bool {
	if !m.room.Take(who, n) {
		return false
	}
	r.by, r.key, r.amount = m, who, r.amount+n
	return true
}

// Less gives n bytes of a reservation back.
func (m *Memory) Less(r *Reservation, n int64) {
	if r.by == m && n > 0 {
		n = min(n, r.amount)
		r.amount -= n
		m.room.Give(r.key, n)
	}
}

// Settle implements Limiter.
func (m *Memory) Settle(who string, n int64, _ Spent) { m.room.Give(who, n) }

// Release implements Limiter.
func (m *Memory) Release(who string, n int64) { m.room.Give(who, n) }

// Used is how many bytes are held by all.
func (m *Memory) Used() int64 { return m.room.Used() }
