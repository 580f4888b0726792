package ledger

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// A segment is a sequence of frames: two marker bytes, the payload's length (4, little endian), the CRC-32C of length and payload (4), the
// payload. The marker lets a reader find the next whole frame behind a damaged stretch.
const (
	frameHeader = 10
	marker0     = 0xC5
	marker1     = 0x9E
)

// frameStart is the room for a frame's header; the payload is appended behind it.
type frameStart [frameHeader]byte

// finishFrame fills the header of a frame whose payload stands behind frameHeader bytes.
func finishFrame(b []byte, table *crc32.Table) {
	b[0], b[1] = marker0, marker1
	binary.LittleEndian.PutUint32(b[2:], uint32(len(b)-frameHeader))
	crc := crc32.Update(0, table, b[2:6])
	binary.LittleEndian.PutUint32(b[6:], crc32.Update(crc, table, b[frameHeader:]))
}

// frameAt returns the payload of the whole, sound frame at the beginning of b, or false.
func frameAt(b []byte, table *crc32.Table) ([]byte, bool) {
	if len(b) < frameHeader || b[0] != marker0 || b[1] != marker1 {
		return nil, false
	}
	n := binary.LittleEndian.Uint32(b[2:])
	if n == 0 || n > maxRecord || uint64(n) > uint64(len(b)-frameHeader) {
		return nil, false
	}
	payload := b[frameHeader : frameHeader+int(n)]
	crc := crc32.Update(0, table, b[2:6])
	if crc32.Update(crc, table, payload) != binary.LittleEndian.Uint32(b[6:]) {
		return nil, false
	}
	return payload, true
}

// scanner walks the frames of one segment's remaining bytes.
type scanner struct {
	b     []byte
	pos   int // end, and behind what next skipped
	table *crc32.Table
	acked bool // all of b was acknowledged: what is no frame is damage

	end     int  // of the last frame that next returned
	damaged int  // stretches skipped because they hold no sound frame but one follows
	torn    bool // the end is not a whole frame
}

// next returns the next sound payload, nil at the end or where only zeros follow: room that was never used. After a stretch that is no
// frame it goes on at the next sound one; a rest without any is a torn tail: the process or the machine died while writing it, before it was
// acknowledged.
func (s *scanner) next() []byte {
	if s.pos >= len(s.b) {
		return nil
	}
	if p, ok := frameAt(s.b[s.pos:], s.table); ok {
		s.pos += frameHeader + len(p)
		s.end = s.pos
		return p
	}
	if !s.acked && unused(s.b[s.pos:]) {
		s.pos = len(s.b)
		return nil
	}
	for at := s.pos + 1; ; at++ {
		i := bytes.IndexByte(s.b[at:], marker0)
		if i < 0 {
			if s.acked || s.looksWhole() {
				s.damaged++
			} else {
				s.torn = true
			}
			s.pos = len(s.b)
			return nil
		}
		at += i
		if p, ok := frameAt(s.b[at:], s.table); ok {
			s.damaged++
			s.pos = at + frameHeader + len(p)
			s.end = s.pos
			return p
		}
	}
}

// unused tells room that was never written.
func unused(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// looksWhole tells a frame that was altered from one that was cut: all its bytes are there, the first one, which is written last in a
// mapped segment, included.
func (s *scanner) looksWhole() bool {
	b := s.b[s.pos:]
	return len(b) >= frameHeader && b[0] != 0 && uint64(binary.LittleEndian.Uint32(b[2:])) <= uint64(len(b)-frameHeader)
}
