package sharedcache

import "sync"

// maxInvalidations bounds what a replica remembers of past changes, about 100 bytes each.
const maxInvalidations = 200_000

// invalidations remembers the newest change to each key that this replica has heard of. Past its bound the oldest are forgotten one by
// one, and the floor rises with them: what is older than the floor is not believed, whatever its key.
type invalidations struct {
	mu    sync.RWMutex
	by    map[string]int64
	order []noted // a ring once it is full
	next  int
	floor int64
}

type noted struct {
	name     string
	revision int64
}

func newInvalidations(size int) *invalidations {
	return &invalidations{by: map[string]int64{}, order: make([]noted, 0, size)}
}

func (v *invalidations) add(name string, revision int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.by[name] >= revision {
		return
	}
	v.by[name] = revision
	n := noted{name, revision}
	if len(v.order) < cap(v.order) {
		v.order = append(v.order, n)
		return
	}
	old := v.order[v.next]
	if v.by[old.name] == old.revision {
		delete(v.by, old.name)
		v.floor = max(v.floor, old.revision)
	}
	v.order[v.next] = n
	v.next = (v.next + 1) % len(v.order)
}

// newest is the revision that an entry must have to be believed. What never changes is not too old by the floor alone.
func (v *invalidations) newest(name string, immutable bool) int64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if immutable {
		return v.by[name]
	}
	return max(v.by[name], v.floor)
}

func (v *invalidations) raise(floor int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.floor = max(v.floor, floor)
}
