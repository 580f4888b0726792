// Package room shares a bounded amount of memory between those who send bodies, so that nobody's requests keep everybody else's out.
package room

import "sync"

// Room is an amount of memory, in bytes, and who holds how much of it. It is safe for concurrent use.
type Room struct {
	limit int64

	mu   sync.Mutex
	used int64
	by   map[string]int64
}

// New makes room for limit bytes.
func New(limit int64) *Room { return &Room{limit: limit, by: map[string]int64{}} }

// Take notes n more bytes for who and reports whether there is room for them: never more than is left to all others together, so that one
// alone gets half of the limit, two get a third each, and somebody new finds room as long as any is left. What was refused is not noted.
func (r *Room) Take(who string, n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	own := r.by[who] + n
	if own > r.limit-r.used-n {
		return false
	}
	r.used += n
	r.by[who] = own
	return true
}

// Give returns n bytes that who has taken.
func (r *Room) Give(who string, n int64) {
	if n == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= n
	if left := r.by[who] - n; left > 0 {
		r.by[who] = left
	} else {
		delete(r.by, who)
	}
}

// Used is how many bytes are held by all.
func (r *Room) Used() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.used
}
