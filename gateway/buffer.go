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
	class := max(minClass, bits.Len(uint(max(n-1, 0))))
	if class > maxClass {
		return &buffer{B: make([]byte, 0, n)}
	}
	if b, ok := p.classes[class-minClass].Get().(*buffer); ok {
		return b
	}
	return &buffer{B: make([]byte, 0, 1<<class)}
}

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

// grow returns a buffer with b's bytes and at least twice the room, and takes b back.
func (p *buffers) grow(b *buffer) *buffer {
	n := p.get(2 * cap(b.B))
	n.B = append(n.B, b.B...)
	p.put(b)
	return n
}

// readAll reads r to its end, or until more than limit bytes came (more is then true). It takes no more memory than twice what
// has really arrived: a declared length is only a hint, bounded by hintBytes. The buffer is the caller's in every case.
func (p *buffers) readAll(r io.Reader, hint, limit int64) (b *buffer, more bool, err error) {
	const hintBytes = 256 << 10
	if hint < 0 {
		hint = 0
	}
	// One byte more than declared, so that the end is seen without growing.
	b = p.get(int(min(hint, hintBytes, limit)) + 1)
	for {
		if len(b.B) == cap(b.B) {
			b = p.grow(b)
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
