//go:build unix

package upstream

import (
	"sync"
	"syscall"
)

const peeks = true

// sending is a request on its way over a line.
type sending struct {
	turn  func(uintptr) bool // sendAt, made once: it stands on the heap
	data  *[]byte            // nil once all of it has left
	back  *sync.Pool         // where data goes then: the answer may take minutes
	kept  bool               // the line was idle before
	stale bool               // it is not as it was left; nothing is sent
	waits bool               // for the answer
	left  int                // bytes that have left
}

// send sends a request and returns how many bytes of it have left; data is the pool's again. A kept line without TLS is asked, written to
// and waited for within one raw.Read: the runtime waits at once, instead of after a read that finds nothing, as there is never an answer
// yet. It notes what becomes readable from before the first turn on, and the question is asked later than that: nothing can be missed.
func (l *line) send(data *[]byte, back *sync.Pool, kept bool) (int, error) {
	s := &l.sending
	if s.turn == nil {
		s.turn = l.sendAt
	}
	s.data, s.back, s.kept, s.stale, s.waits, s.left = data, back, kept, false, false, 0
	err := l.raw.Read(s.turn)
	if s.data == nil {
		return s.left, err
	}
	switch {
	case s.stale:
		err = errStale
	case err == nil: // over TLS, or more than the socket has room for, or an error, which Write meets again
		var n int
		n, err = l.Write((*data)[s.left:])
		s.left += n
	}
	s.data = nil
	back.Put(data)
	return s.left, err
}

// sendAt is one turn of raw.Read: false waits until there is something to read. Nothing here may close the line, which waits for the turn.
func (l *line) sendAt(fd uintptr) bool {
	s := &l.sending
	if s.waits {
		return true
	}
	if s.stale = s.kept && !l.silentAt(fd); s.stale || l.wire != nil {
		return true
	}
	return l.writeAt(fd)
}

func (l *line) writeAt(fd uintptr) bool {
	s := &l.sending
	n, _ := syscall.Write(int(fd), *s.data)
	s.left = max(n, 0)
	if s.left < len(*s.data) {
		return true
	}
	s.back.Put(s.data)
	s.data = nil
	s.waits = s.kept // nobody has asked whether a new line is silent: what was there before the first turn would be waited for in vain
	return !s.waits
}

// silentAt reports whether a connection is open and nothing has come over it that was not read.
func (l *line) silentAt(fd uintptr) bool {
	_, _, err := syscall.Recvfrom(int(fd), l.probe[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err == syscall.EAGAIN //nolint:errorlint // an errno as it comes from the kernel
}
