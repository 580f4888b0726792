package limits

import (
	"context"
	"sync"
	"time"
)

// unit is what a token of a bucket is counted in: at n tokens a minute, a bucket refills by n units each millisecond.
const unit = int64(time.Minute / time.Millisecond)

// Refilled is what a bucket has after some time, in units, and Take what is left of it: the arithmetic of every Counters.
func Refilled(perMinute, have int64, since time.Duration) int64 {
	most := perMinute * unit
	if ms := since.Milliseconds(); ms > 0 {
		have += perMinute * min(ms, unit)
	}
	return min(have, most)
}

// Drain takes a Bucket's want out of what it has, in units.
func Drain(b Bucket, have int64) (left, got, room int64) {
	if b.Want < 0 {
		left = min(have-b.Want*unit, b.PerMinute*unit)
		return left, b.Want, max(0, left/unit)
	}
	room = max(0, have/unit)
	if room < b.Need || room == 0 {
		return have, 0, room
	}
	got = min(b.Want, room)
	return have - got*unit, got, room - got
}

// Share is how much of room a holder gets who needs some and wants more, beside others: what it needs, and of the rest no more than leaves as much for each
// of the others, so that the last of a limit is not shut up in one replica.
func Share(room, want, need int64, others int) int64 {
	if room <= 0 || need > room || want <= 0 {
		return 0
	}
	return max(need, min(want, need+(room-need)/int64(2*(others+1))))
}

// localCounters are Counters of one process, and what a replica goes by that reaches no others.
type localCounters struct {
	mu      sync.Mutex
	buckets map[string]*localBucket
	places  map[string]map[string]occupied
}

type localBucket struct {
	have int64
	at   time.Time
}

type occupied struct {
	n     int64
	until time.Time
}

// maxCounters bounds what is remembered; past it, what is full and what has run out goes.
const maxCounters = 100_000

// NewCounters makes counters of this process alone.
func NewCounters() Counters {
	return &localCounters{buckets: map[string]*localBucket{}, places: map[string]map[string]occupied{}}
}

// Take implements Counters.
func (c *localCounters) Take(_ context.Context, key string, b Bucket) (got, room int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	have := c.buckets[key]
	if have == nil {
		if len(c.buckets) >= maxCounters {
			for k, old := range c.buckets {
				if b.Now.Sub(old.at) > time.Minute { // it is full again
					delete(c.buckets, k)
				}
			}
		}
		have = &localBucket{have: b.PerMinute * unit, at: b.Now}
		c.buckets[key] = have
	}
	have.have = Refilled(b.PerMinute, have.have, b.Now.Sub(have.at))
	if b.Now.After(have.at) {
		have.at = b.Now
	}
	have.have, got, room = Drain(b, have.have)
	return got, room, nil
}

// Hold implements Counters.
func (c *localCounters) Hold(_ context.Context, key string, s Stretch) (got int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.places[key]
	if all == nil {
		all = map[string]occupied{}
		c.places[key] = all
	}
	room, others := s.Limit-s.Base, 0
	for holder, h := range all {
		switch {
		case s.Now.After(h.until):
			delete(all, holder)
		case holder != s.Holder:
			room -= h.n
			others++
		}
	}
	got = Share(room, s.Want, s.Need, others)
	if s.Base+got > 0 {
		all[s.Holder] = occupied{s.Base + got, s.Now.Add(s.For)}
	} else if delete(all, s.Holder); len(all) == 0 {
		delete(c.places, key)
	}
	return got, nil
}
