package ledger

import (
	"encoding/binary"
	"math"
	"slices"
	"time"
)

// sketchGamma is the ratio of two neighbouring bucket bounds: a quantile is at most 2 % off.
const (
	sketchGamma   = 1.04
	sketchBuckets = 1 + 700 // up to gamma^700 µs, more than a week; longer ones count there
)

// Sketch counts durations in logarithmic buckets from one microsecond up. Sketches of parts add up to the sketch of the whole. The zero
// value is empty and ready.
type Sketch struct {
	buckets []sketchBucket // rising index, no empty ones
}

type sketchBucket struct {
	index uint32 // 0: under a microsecond; i: (gamma^(i-1), gamma^i] µs
	count uint64
}

// Add counts d; a negative one counts as zero.
func (s *Sketch) Add(d time.Duration) { s.add(sketchIndex(d), 1) }

func sketchIndex(d time.Duration) uint32 {
	us := float64(d) / float64(time.Microsecond)
	if us < 1 {
		return 0
	}
	return uint32(min(1+math.Floor(math.Log(us)/math.Log(sketchGamma)), sketchBuckets-1))
}

func (s *Sketch) add(index uint32, n uint64) {
	i, found := slices.BinarySearchFunc(s.buckets, index, func(b sketchBucket, want uint32) int { return int(b.index) - int(want) })
	if found {
		s.buckets[i].count += n
		return
	}
	s.buckets = slices.Insert(s.buckets, i, sketchBucket{index, n})
}

// Merge adds all of o's counts.
func (s *Sketch) Merge(o *Sketch) {
	for _, b := range o.buckets {
		s.add(b.index, b.count)
	}
}

// Count is how many durations were counted.
func (s *Sketch) Count() int64 {
	var n uint64
	for _, b := range s.buckets {
		n += b.count
	}
	return int64(n)
}

// Quantile is the duration that a share q (0 to 1) of all stays at or below, within 2 %; 0 when empty.
func (s *Sketch) Quantile(q float64) time.Duration {
	total := s.Count()
	if total == 0 {
		return 0
	}
	rank := max(1, int64(math.Ceil(q*float64(total))))
	var seen int64
	for _, b := range s.buckets {
		seen += int64(b.count)
		if seen >= rank {
			return b.middle()
		}
	}
	return s.buckets[len(s.buckets)-1].middle()
}

func (b sketchBucket) middle() time.Duration {
	if b.index == 0 {
		return 0
	}
	return time.Duration(math.Pow(sketchGamma, float64(b.index)-0.5) * float64(time.Microsecond))
}

// clone leaves room for what is about to be added.
func (s *Sketch) clone() Sketch {
	return Sketch{append(make([]sketchBucket, 0, len(s.buckets)+8), s.buckets...)}
}

// append encodes s behind b.
func (s *Sketch) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(s.buckets)))
	last := uint32(0)
	for _, k := range s.buckets {
		b = binary.AppendUvarint(b, uint64(k.index-last))
		b = binary.AppendUvarint(b, k.count)
		last = k.index
	}
	return b
}

// sketch decodes what append made.
func (d *decoder) sketch() (s Sketch) {
	n := d.uvarint(sketchBuckets)
	s.buckets = make([]sketchBucket, 0, min(n, uint64(len(d.b))))
	last := uint64(0)
	for i := range n {
		step := d.uvarint(sketchBuckets)
		count := d.uvarint(math.MaxInt64)
		last += step
		if d.bad || count == 0 || last >= sketchBuckets || (i > 0 && step == 0) {
			d.fail()
			return Sketch{}
		}
		s.buckets = append(s.buckets, sketchBucket{uint32(last), count})
	}
	return s
}
