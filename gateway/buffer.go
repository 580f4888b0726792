package gateway

import (
	"io"
	"math/bits"
	"sync"
)

// Size classes of pooled buffers: 1 KiB to 4 MiB by powers of two. What is larger is left to the garbage collector, so that one
// huge request does not pin its memory.
const (
	minClass = 10
	maxClass = 22

	waitBytes  = 2 << 10  // to read a stream's next event with
	relayBytes = 32 << 10 // and more of what comes without a pause
)

// buffers lends byte slices by size class.
type buffers struct {
	classes [maxClass - minClass + 1]sync.Pool
}

// buffer is a borrowed slice; B may be appended to and replaced, put returns whatever it has become.
type buffer struct{ B []byte }

// get lends an empty buffer with room for at least n bytes.
func (p *buffers) get(n int) *buffer {
	class := classOf(n)
	if class > maxClass {
		return &buffer{B: make([]byte, 0, n)}
	}
	if b, ok := p.classes[class-minClass].Get().(*buffer); ok {
		return b
	}
	return &buffer{B: make([]byte, 0, 1<<class)}
}

func classOf(n int) int { return max(minClass, bits.Len(uint(max(n-1, 0)))) }

// put takes a buffer back; nobody may hold a part of it any more. A nil buffer is fine.
func (p *buffers) put(b *buffer) {
	if b == nil {
		return
	}
	class := bits.Len(uint(cap(b.B))) - 1
	if class < minClass || class > maxClass {
		return
	}
	b.B = b.B[:0]
	p.classes[class-minClass].Put(b)
}

// firstBytes is the room that a reading begins with, at most.
const firstBytes = 16 << 10

// charger takes account of the memory that a reading takes, and ends it by an error.
type charger interface{ charge(n int64) error }

// readAll reads r to its end, or until more than limit bytes came (more is then true). It takes no more memory than firstBytes or four times
// what has really arrived: a declared length, -1 when there is none, says how far to grow at once and no more. by, when there is one, is
// charged for each byte of the buffer before it is taken. The buffer is the caller's in every case; it is nil when not even the first was allowed.
func (p *buffers) readAll(r io.Reader, hint, limit int64, by charger) (b *buffer, more bool, err error) {
	// One byte more than declared, so that the end is seen without growing.
	hint = min(max(hint, 0), limit) + 1
	if b, err = p.grow(nil, int(min(hint, firstBytes)), by); err != nil {
		return nil, false, err
	}
	for {
		if have := len(b.B); have == cap(b.B) {
			room := 2 * have
			if int64(room) < hint {
				room = int(min(hint, 4*int64(have)))
			}
			if b, err = p.grow(b, room, by); err != nil {
				return b, false, err
			}
		}
		n, err := r.Read(b.B[len(b.B):cap(b.B)])
		b.B = b.B[:len(b.B)+n]
		if int64(len(b.B)) > limit {
			return b, true, nil
		}
		if err == io.EOF {
			return b, false, nil
		}
		if err != nil {
			return b, false, err
		}
	}
}

// grow returns a buffer of at least n bytes' room with b's bytes, and takes b back; b itself when by refuses.
func (p *buffers) grow(b *buffer, n int, by charger) (*buffer, error) {
	if by != nil {
		more := int64(roomOf(n))
		if b != nil {
			more -= int64(cap(b.B))
		}
		if err := by.charge(more); err != nil {
			return b, err
		}
	}
	larger := p.get(n)
	if b != nil {
		larger.B = append(larger.B, b.B...)
		p.put(b)
	}
	return larger, nil
}

// roomOf is the capacity of the buffer that get lends for n bytes.
func roomOf(n int) int {
	class := classOf(n)
	if class > maxClass {
		return n
	}
	return 1 << class
}
